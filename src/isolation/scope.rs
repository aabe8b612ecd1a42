use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::NetworkRules;
use crate::{
    access::{Binding, Caller, Effect, Permission, ScopeSet},
    error::{Error, Kind, Result},
    platform::ids::TenantId,
};

/// What a tenant's state lets its own services do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Open,
    /// Reads go on, writes are refused.
    ReadOnly,
    /// All is refused, with this kind.
    Closed(Kind),
}

/// The part of a tenant that every request is checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing<'a> {
    pub access: Access,
    /// Tokens of an earlier epoch are worth nothing.
    pub epoch: i64,
    /// When the epoch began: for tokens of other issuers, which name none.
    pub epoch_began: DateTime<Utc>,
    pub network: &'a NetworkRules,
}

/// Proof that this caller may do this to this tenant, now. Only [`TenantScope::enter`] makes one.
#[derive(Clone, Debug)]
pub struct TenantScope {
    tenant: TenantId,
    caller: Arc<Caller>,
    effect: Effect,
}

impl TenantScope {
    /// Checks binding, permission, epoch and state, in this order, so that a foreign tenant's state never shows.
    pub fn enter(
        caller: &Arc<Caller>,
        tenant: TenantId,
        standing: &Standing<'_>,
        permission: &Permission,
    ) -> Result<Self> {
        if caller.tenant().is_some_and(|bound| bound != tenant) {
            return Err(Error::not_found());
        }
        caller.require(permission)?;
        may_act(caller, standing, permission.effect)?;
        Ok(Self { tenant, caller: caller.clone(), effect: permission.effect })
    }

    /// The same for who administers a tenant below its own: the token is held to the state and epoch of its own tenant, and
    /// to the state of the other. That the other is below is the caller's to know.
    pub fn enter_below(
        caller: &Arc<Caller>,
        own: &Standing<'_>,
        below: TenantId,
        standing: &Standing<'_>,
        permission: &Permission,
    ) -> Result<Self> {
        caller.require(permission)?;
        may_act(caller, own, permission.effect)?;
        may_be_acted_on(standing, permission.effect)?;
        standing.network.check(&caller.origin)?;
        Ok(Self { tenant: below, caller: caller.clone(), effect: permission.effect })
    }

    /// The same for who was granted access to a tenant as its partner: for no more than both the token and the grant are good
    /// for. That there is a grant in force is the caller's to know.
    pub fn enter_as_partner(
        caller: &Arc<Caller>,
        own: &Standing<'_>,
        granted: ScopeSet,
        tenant: TenantId,
        standing: &Standing<'_>,
        permission: &Permission,
    ) -> Result<Self> {
        let id = caller.tenant().ok_or_else(Error::not_found)?;
        let partner = Caller {
            subject: caller.subject.clone(),
            binding: Binding::Partner { id },
            scopes: caller.scopes.intersection(granted),
            origin: caller.origin.clone(),
        };
        partner.require(permission)?;
        may_act(caller, own, permission.effect)?;
        may_be_acted_on(standing, permission.effect)?;
        standing.network.check(&caller.origin)?;
        Ok(Self { tenant, caller: Arc::new(partner), effect: permission.effect })
    }

    /// The same for operators, whom no state of a tenant holds back.
    pub fn enter_as_operator(caller: &Arc<Caller>, tenant: TenantId, permission: &Permission) -> Result<Self> {
        if !caller.is_platform() {
            return Err(Error::not_found());
        }
        caller.require(permission)?;
        Ok(Self { tenant, caller: caller.clone(), effect: permission.effect })
    }

    /// An operator's work on one tenant, found by what the operator gave.
    pub fn for_operator(scope: &OperatorScope, tenant: TenantId) -> Self {
        Self { tenant, caller: scope.caller.clone(), effect: scope.effect }
    }

    /// Tenantry's own work on one tenant: schedules and reactions.
    pub fn system(task: &str, tenant: TenantId) -> Self {
        Self { tenant, caller: Arc::new(Caller::system(task)), effect: Effect::Write }
    }

    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// The request's own: one for each.
    pub(super) fn shared_caller(&self) -> &Arc<Caller> {
        &self.caller
    }
}

/// Whether the tenant's state, access epoch and network rules let this caller act. Operators always may.
pub fn may_act(caller: &Caller, standing: &Standing<'_>, effect: Effect) -> Result<()> {
    let (epoch, issued_at) = match caller.binding {
        Binding::Tenant { epoch, issued_at, .. } => (epoch, issued_at),
        Binding::Member { epoch, .. } | Binding::Impersonation { epoch, .. } => (Some(epoch), 0),
        Binding::Platform { .. } | Binding::System => return Ok(()),
        // Good for the entry that it was made for.
        Binding::Partner { .. } => return Err(Error::not_found()),
        // What is for everyone asks no state of a tenant.
        Binding::Anonymous => return Err(Error::unauthenticated()),
    };
    if let Access::Closed(kind) = standing.access {
        return Err(refusal(kind));
    }
    let current = match epoch {
        Some(epoch) => epoch == standing.epoch,
        None => standing.epoch == 1 || issued_at > standing.epoch_began.timestamp(),
    };
    if !current {
        return Err(Error::unauthenticated());
    }
    may_be_acted_on(standing, effect)?;
    standing.network.check(&caller.origin)
}

fn may_be_acted_on(standing: &Standing<'_>, effect: Effect) -> Result<()> {
    match (standing.access, effect) {
        // Deleted: to who is not of it, it is not there.
        (Access::Closed(Kind::Unauthenticated), _) => Err(Error::not_found()),
        (Access::Closed(kind), _) => Err(refusal(kind)),
        (Access::ReadOnly, Effect::Write) => Err(refusal(Kind::TenantSuspended)),
        _ => Ok(()),
    }
}

fn refusal(kind: Kind) -> Error {
    match kind {
        Kind::TenantSuspended => Error::new(kind, "the tenant is suspended"),
        Kind::TenantArchived => Error::new(kind, "the tenant is archived"),
        Kind::NotFound => Error::not_found(),
        _ => Error::unauthenticated(),
    }
}

/// Proof that the platform itself is asking. Only [`OperatorScope::enter`] makes one.
#[derive(Clone, Debug)]
pub struct OperatorScope {
    caller: Arc<Caller>,
    effect: Effect,
}

impl OperatorScope {
    /// Refuses services of tenants, whatever the permission's audience.
    pub fn enter(caller: &Arc<Caller>, permission: &Permission) -> Result<Self> {
        caller.require(permission)?;
        if !caller.is_platform() {
            return Err(Error::forbidden(format!(
                "`{}` over all tenants is for operators of the platform",
                permission.name
            )));
        }
        Ok(Self { caller: caller.clone(), effect: permission.effect })
    }

    /// Tenantry's own schedules and start-up.
    pub fn system(task: &str) -> Self {
        Self { caller: Arc::new(Caller::system(task)), effect: Effect::Write }
    }

    /// What Tenantry reads by itself, on the way to an answer.
    pub fn reading(task: &str) -> Self {
        Self { caller: Arc::new(Caller::system(task)), effect: Effect::Read }
    }

    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    pub fn effect(&self) -> Effect {
        self.effect
    }
}
