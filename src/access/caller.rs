use std::{net::IpAddr, sync::Arc};

use crate::{
    access::permission::{Audience, Permission, Role, ScopeSet},
    access::presented::PresentedCertificate,
    error::{Error, Kind, Result},
    platform::ids::{ImpersonationId, MemberId, SessionId, TenantId},
};

/// Where a request came from, for logs and the journal.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    pub request_id: Option<String>,
    /// The client's, past the proxies that this server trusts.
    pub address: Option<IpAddr>,
    /// What the address itself says of those before it, the nearest first: to be believed by who trusts it.
    pub forwarded: Vec<IpAddr>,
    /// The certificate that the client has proved to have, to this server or to a proxy that is trusted with it.
    pub certificate: Option<Arc<PresentedCertificate>>,
}

/// Whose name stands in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    pub kind: ActorKind,
    pub name: String,
}

impl Actor {
    /// An operator inside a tenant, under the impersonation whose reason is in the same journal.
    fn inside(operator: &str, impersonation: ImpersonationId) -> Self {
        Self { kind: ActorKind::Operator, name: format!("{operator}/{impersonation}") }
    }

    /// Whether the operator whose name is `own` is who acted under `name`, by itself or inside a tenant: nobody is a second person that way.
    pub fn is_same_operator(own: &str, name: &str) -> bool {
        let inside = name.strip_prefix(own).and_then(|rest| rest.strip_prefix('/'));
        own == name || inside.is_some_and(|id| id.parse::<ImpersonationId>().is_ok())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorKind {
    Operator,
    Service,
    /// A person who belongs to the tenant.
    Member,
    /// A service of another tenant, with access that was granted to that one.
    Partner,
    /// Tenantry itself: a schedule, a reaction.
    System,
}

impl ActorKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Operator => "OPERATOR",
            Self::Service => "SERVICE",
            Self::Member => "MEMBER",
            Self::Partner => "PARTNER",
            Self::System => "SYSTEM",
        }
    }
}

/// A person's own account, and the session that it is used in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    pub member: MemberId,
    pub session: SessionId,
}

/// What a caller is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// A service of this tenant. `epoch` is the tenant's access epoch that the token was made under; tokens of other
    /// issuers have none, and are judged by `issued_at` (Unix seconds).
    Tenant { id: TenantId, epoch: Option<i64>, issued_at: i64 },
    /// A member of this tenant, in a session that began under this access epoch of the tenant.
    Member { id: TenantId, account: Account, epoch: i64 },
    /// A service of this tenant, let into another one as its partner: made on the way in, for that one entry.
    Partner { id: TenantId },
    /// An operator inside this tenant: held to all that its services are held to. The impersonation began under this access epoch of the tenant.
    Impersonation { id: TenantId, impersonation: ImpersonationId, operator: String, epoch: i64 },
    /// An operator: a person in a session or, without an account, who holds a token of the platform.
    Platform { roles: Vec<Role>, account: Option<Account> },
    /// Tenantry itself.
    System,
    /// Nobody: a request without a token, which may do what is for everyone.
    Anonymous,
}

/// Who calls: made from a verified token, by the command line, or by a schedule.
#[derive(Clone, Debug)]
pub struct Caller {
    pub subject: String,
    pub binding: Binding,
    pub scopes: ScopeSet,
    pub origin: Origin,
}

impl Caller {
    /// Tenantry acting by itself; `task` stands in the journal as the actor.
    pub fn system(task: &str) -> Self {
        Self { subject: task.to_owned(), binding: Binding::System, scopes: ScopeSet::ALL, origin: Origin::default() }
    }

    /// The person at the machine: whoever can read the data folder is an administrator.
    pub fn command_line(user: &str) -> Self {
        Self {
            subject: format!("cli:{user}"),
            binding: Binding::Platform { roles: vec![Role::Admin], account: None },
            scopes: ScopeSet::ALL,
            origin: Origin::default(),
        }
    }

    /// Who sent no token.
    pub fn anonymous(origin: Origin) -> Self {
        Self { subject: "anonymous".to_owned(), binding: Binding::Anonymous, scopes: ScopeSet::default(), origin }
    }

    pub fn actor(&self) -> Actor {
        let kind = match &self.binding {
            Binding::Impersonation { impersonation, operator, .. } => return Actor::inside(operator, *impersonation),
            Binding::Tenant { .. } => ActorKind::Service,
            // Whose service it is: subjects of two tenants may be the same text.
            Binding::Partner { id } => {
                return Actor { kind: ActorKind::Partner, name: format!("{id}/{}", self.subject) };
            }
            Binding::Platform { .. } => ActorKind::Operator,
            Binding::Member { .. } => ActorKind::Member,
            // Whatever is done on behalf of nobody, Tenantry does.
            Binding::System | Binding::Anonymous => ActorKind::System,
        };
        Actor { kind, name: self.subject.clone() }
    }

    /// The tenant that this caller is bound to.
    pub fn tenant(&self) -> Option<TenantId> {
        match self.binding {
            Binding::Tenant { id, .. }
            | Binding::Member { id, .. }
            | Binding::Impersonation { id, .. }
            | Binding::Partner { id } => Some(id),
            Binding::Platform { .. } | Binding::System | Binding::Anonymous => None,
        }
    }

    /// Whether this is an operator, or Tenantry itself.
    pub fn is_platform(&self) -> bool {
        matches!(self.binding, Binding::Platform { .. } | Binding::System)
    }

    /// The person who calls, where it does with an account of its own.
    pub fn account(&self) -> Option<Account> {
        match self.binding {
            Binding::Member { account, .. } => Some(account),
            Binding::Platform { account, .. } => account,
            _ => None,
        }
    }

    /// The operator that acts here inside a tenant, and its impersonation.
    pub fn impersonator(&self) -> Option<(&str, ImpersonationId)> {
        match &self.binding {
            Binding::Impersonation { impersonation, operator, .. } => Some((operator.as_str(), *impersonation)),
            _ => None,
        }
    }

    /// Refuses whoever was let in with more than it may do now: it has to ask anew.
    pub fn still_has(&self, now: ScopeSet) -> Result<()> {
        if self.scopes.without(now).is_empty() { Ok(()) } else { Err(Error::unauthenticated()) }
    }

    pub fn is_anonymous(&self) -> bool {
        self.binding == Binding::Anonymous
    }

    /// Refuses with `forbidden` and the missing scope, or because only operators may.
    pub fn require(&self, permission: &Permission) -> Result<()> {
        if permission.audience == Audience::Public {
            return Ok(());
        }
        if self.is_anonymous() {
            return Err(Error::unauthenticated());
        }
        if permission.audience == Audience::Platform && !self.is_platform() {
            return Err(Error::forbidden(format!("`{}` is for operators of the platform", permission.name)));
        }
        match permission.scope {
            Some(scope) if !self.scopes.contains(scope) => {
                Err(Error::new(Kind::Forbidden, format!("this needs the scope `{scope}`"))
                    .with(serde_json::json!({ "scope": scope.name() })))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_inside_a_tenant_is_the_same_person() {
        let id = ImpersonationId::generate();
        let inside = Actor::inside("olga", id).name;
        assert_eq!(inside, format!("olga/{id}"));
        assert!(Actor::is_same_operator("olga", "olga") && Actor::is_same_operator("olga", &inside));
        for other in
            ["olga/otto", "olga2", &format!("olga2/{id}"), &format!("{id}/olga"), &format!("olga/{id}/{id}"), ""]
        {
            assert!(!Actor::is_same_operator("olga", other), "{other}");
        }
    }
}
