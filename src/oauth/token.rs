//! Access tokens: for clients that proved themselves, and for the command line.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use serde_json::json;

use super::{OAuth, client::Client, refusal::Refusal, settings::delta};
use crate::{
    access::{ActorClaim, Audience, Caller, Claims, Effect, Origin, Permission, Role, Scope, ScopeSet},
    error::{Error, Kind, Result},
    isolation::{OperatorScope, TenantScope},
    journal::Entry,
    platform::{
        ids::{ClientId, ImpersonationId, MemberId, SessionId, TenantId},
        random,
    },
    tenancy::Tenant,
};

/// To make a token by hand is as much as to make a client.
const ISSUE: Permission = Permission {
    field: "oauth.issue",
    name: "token.issue",
    scope: Some(Scope::ClientWrite),
    audience: Audience::Platform,
    effect: Effect::Write,
};

/// What a token says besides what all own tokens do.
#[derive(Debug)]
struct Grant {
    subject: String,
    /// The tenant and its access epoch.
    tenant: Option<(TenantId, i64)>,
    roles: Vec<String>,
    scopes: ScopeSet,
    client: Option<ClientId>,
    kept: Option<KeptClaims>,
    begin: DateTime<Utc>,
    end: DateTime<Utc>,
}

/// What a token says of the session or the impersonation that it hangs on.
#[derive(Debug)]
struct KeptClaims {
    id: String,
    amr: Vec<String>,
    actor: Option<ActorClaim>,
}

/// A member that was proved, and the session that its token is for.
#[derive(Clone, Debug)]
pub struct MemberGrant {
    /// The tenant, and its access epoch that the session began under. None: an operator's.
    pub tenant: Option<(TenantId, i64)>,
    pub member: MemberId,
    pub session: SessionId,
    /// Keys of its roles.
    pub roles: Vec<String>,
    pub scopes: ScopeSet,
    /// Values of RFC 8176.
    pub amr: Vec<String>,
    /// The token does not outlive this.
    pub ends_at: DateTime<Utc>,
}

/// An operator that may act inside a tenant.
#[derive(Clone, Debug)]
pub struct ImpersonatorGrant {
    pub tenant: TenantId,
    /// The tenant's access epoch that the impersonation began under.
    pub epoch: i64,
    pub impersonation: ImpersonationId,
    pub operator: String,
    pub scopes: ScopeSet,
    pub began_at: DateTime<Utc>,
    pub ends_at: DateTime<Utc>,
}

/// A token that was made for a client.
pub(super) struct Issued {
    pub(super) token: String,
    /// Seconds.
    pub(super) lives: i64,
    pub(super) scopes: ScopeSet,
}

impl OAuth {
    /// A token for a client that proved itself (RFC 6749, section 4.4): for all its scopes, or those that it asked for.
    pub(super) async fn issue_to_client(
        &self,
        client: &Client,
        requested: Option<&str>,
        origin: &Origin,
    ) -> Result<Issued, Refusal> {
        let settings = &self.0.settings;
        let begin = self.0.isolation.clock().now();
        let (tenant, allowed) = match client.tenant_id {
            TenantId::PLATFORM => (None, client.scopes),
            // The definition of what a tenant may hold can have changed since the client was made.
            id => (
                Some((id, self.open_tenant(id, begin, origin).await?.access_epoch)),
                client.scopes.intersection(ScopeSet::for_tenants()),
            ),
        };
        let scopes = granted(allowed, requested)?;
        let end = begin + settings.token_ttl;
        let end = client.expires_at.map_or(end, |expires_at| end.min(expires_at));
        let (subject, roles) = (client.id.to_string(), names(&client.roles));
        let claims =
            self.claims(Grant { subject, tenant, roles, scopes, client: Some(client.id), kept: None, begin, end });
        if claims.exp <= claims.iat {
            return Err(Refusal::invalid_client()); // the client expires within this second
        }
        let token = self.0.keyring.sign(&claims)?;
        Ok(Issued { token, lives: claims.exp - claims.iat, scopes })
    }

    /// A token for an operator, made by hand: `roles` decide what it is good for. Recorded in the platform's journal.
    pub async fn issue_operator_token(&self, caller: &Caller, roles: &[Role], ttl: Duration) -> Result<String> {
        let (begin, end) = self.lifetime(ttl)?;
        let scopes = roles.iter().fold(ScopeSet::default(), |held, role| held.union(role.scopes()));
        if roles.is_empty() || scopes.iter().any(|scope| !caller.scopes.contains(scope)) {
            return Err(Error::invalid("roles", "name one at least, and none that includes more than you have"));
        }
        let scope = OperatorScope::enter(&Arc::new(caller.clone()), &ISSUE)?;
        let (subject, roles) = (caller.subject.clone(), names(roles));
        let claims = self.claims(Grant { subject, tenant: None, roles, scopes, client: None, kept: None, begin, end });
        let token = self.0.keyring.sign(&claims)?;
        let tx = self.0.isolation.begin_operator(&scope).await?;
        tx.commit([issued(&claims)?]).await?;
        Ok(token)
    }

    /// A token for a service of a tenant, made by hand. Recorded in the tenant's journal.
    pub async fn issue_tenant_token(
        &self,
        caller: &Caller,
        tenant: TenantId,
        scopes: ScopeSet,
        ttl: Duration,
    ) -> Result<String> {
        let (begin, end) = self.lifetime(ttl)?;
        let allowed = ScopeSet::for_tenants().intersection(caller.scopes);
        if scopes.is_empty() || scopes.intersection(allowed) != scopes {
            return Err(Error::invalid("scopes", format!("must be some of {allowed}")));
        }
        let scope = TenantScope::enter_as_operator(&Arc::new(caller.clone()), tenant, &ISSUE)?;
        let known = self.0.tenancy.get(&scope).await?;
        if let Some(kind) = known.closed(begin) {
            return Err(Error::new(kind, "the tenant's services may not sign in now"));
        }
        let (subject, tenant) = (caller.subject.clone(), Some((tenant, known.access_epoch)));
        let claims =
            self.claims(Grant { subject, tenant, roles: vec![], scopes, client: None, kept: None, begin, end });
        let token = self.0.keyring.sign(&claims)?;
        let tx = self.0.isolation.begin(&scope).await?;
        tx.commit([issued(&claims)?]).await?;
        Ok(token)
    }

    /// A token for a member's session, and when it ends. What a member may do is decided anew at each request: the scopes are
    /// for other services that read the token.
    pub fn issue_to_member(&self, grant: MemberGrant) -> Result<(String, DateTime<Utc>)> {
        let begin = self.0.isolation.clock().now();
        let end = (begin + self.0.settings.token_ttl).min(grant.ends_at);
        let claims = self.claims(Grant {
            subject: grant.member.to_string(),
            tenant: grant.tenant,
            roles: grant.roles,
            scopes: grant.scopes,
            client: None,
            kept: Some(KeptClaims { id: grant.session.to_string(), amr: grant.amr, actor: None }),
            begin,
            end,
        });
        Ok((self.0.keyring.sign(&claims)?, end))
    }

    /// The one token of an impersonation, for as long as that lasts. Its subject is the impersonation, and the operator is the one who acts
    /// (RFC 8693, section 4.1): whoever knows only subjects takes it neither for one of the tenant's own nor for the operator elsewhere.
    pub fn issue_to_impersonator(&self, grant: ImpersonatorGrant) -> Result<String> {
        let impersonation = grant.impersonation.to_string();
        let claims = self.claims(Grant {
            subject: impersonation.clone(),
            tenant: Some((grant.tenant, grant.epoch)),
            roles: vec![],
            scopes: grant.scopes,
            client: None,
            kept: Some(KeptClaims { id: impersonation, amr: vec![], actor: Some(ActorClaim { sub: grant.operator }) }),
            begin: grant.began_at,
            end: grant.ends_at,
        });
        self.0.keyring.sign(&claims)
    }

    /// The tenant, if its services may sign in from there.
    async fn open_tenant(&self, id: TenantId, now: DateTime<Utc>, origin: &Origin) -> Result<Arc<Tenant>, Refusal> {
        let known = self.0.tenancy.snapshots().get(id).await?;
        let known = known.ok_or_else(|| Refusal::tenant_closed(Kind::Unauthenticated))?;
        match known.tenant.closed(now) {
            Some(kind) => Err(Refusal::tenant_closed(kind)),
            None if known.tenant.network.check(origin).is_err() => Err(Refusal::network()),
            None => Ok(known.tenant.clone()),
        }
    }

    fn lifetime(&self, ttl: Duration) -> Result<(DateTime<Utc>, DateTime<Utc>)> {
        let (begin, longest) = (self.0.isolation.clock().now(), self.0.settings.max_token_ttl);
        if ttl < Duration::from_secs(1) || delta(ttl) > longest {
            let longest = humantime::format_duration(longest.to_std().unwrap_or_default());
            return Err(Error::invalid("ttl", format!("must be between 1s and {longest} (auth.max_token_ttl)")));
        }
        Ok((begin, begin + delta(ttl)))
    }

    fn claims(&self, grant: Grant) -> Claims {
        let settings = &self.0.settings;
        let iat = grant.begin.timestamp();
        let (sid, amr, act) = grant.kept.map(|kept| (Some(kept.id), kept.amr, kept.actor)).unwrap_or_default();
        Claims {
            iss: settings.issuer.clone(),
            sub: grant.subject,
            aud: vec![settings.audience.clone()],
            // Whole seconds from the whole second of issue: half a second's difference must not make it live too long.
            exp: iat + (grant.end - grant.begin).num_seconds(),
            iat,
            nbf: Some(iat),
            jti: random::uuid_v4().to_string(),
            scope: grant.scopes.to_string(),
            roles: grant.roles,
            tenant_id: grant.tenant.map(|(id, _)| id),
            epoch: grant.tenant.map(|(_, epoch)| epoch),
            client_id: grant.client.map(|client| client.to_string()),
            sid,
            amr,
            act,
        }
    }
}

fn names(roles: &[Role]) -> Vec<String> {
    roles.iter().map(|role| role.name().to_owned()).collect()
}

/// What of `allowed` a token is made for (RFC 6749, section 3.3). Without a wish it is all.
fn granted(allowed: ScopeSet, requested: Option<&str>) -> Result<ScopeSet, Refusal> {
    let refused = || Refusal::invalid_scope("the scope is empty, unknown, or more than the client has");
    let wanted = match requested {
        None => Some(allowed),
        Some(names) => names.split(' ').filter(|name| !name.is_empty()).map(Scope::parse).collect(),
    };
    wanted.filter(|wanted: &ScopeSet| !wanted.is_empty() && wanted.intersection(allowed) == *wanted).ok_or_else(refused)
}

/// The record of a token that was made by hand: all but the token.
fn issued(claims: &Claims) -> Result<Entry> {
    let what = json!({
        "subject": claims.sub,
        "scope": claims.scope,
        "roles": claims.roles,
        "expiresAt": DateTime::from_timestamp(claims.exp, 0),
    });
    Entry::new("TokenIssued", "token", &claims.jti).change(None, Some(&what))
}

#[cfg(test)]
mod tests {
    use super::{super::refusal::Code, *};

    fn set(scopes: &[Scope]) -> ScopeSet {
        scopes.iter().copied().collect()
    }

    #[test]
    fn a_token_is_for_all_scopes_of_the_client_or_for_some_of_them() {
        let allowed = set(&[Scope::TenantRead, Scope::AuditRead]);
        assert_eq!(granted(allowed, None).unwrap(), allowed);
        assert_eq!(granted(allowed, Some("auth:audit:read")).unwrap(), set(&[Scope::AuditRead]));
        assert_eq!(granted(allowed, Some("auth:audit:read auth:tenant:read")).unwrap(), allowed);
    }

    #[test]
    fn a_scope_that_the_client_does_not_have_is_refused_and_not_left_out() {
        let allowed = set(&[Scope::TenantRead]);
        for wish in [
            "auth:audit:read",
            "auth:tenant:read auth:audit:read",
            "auth:tenant:read unknown",
            "AUTH:TENANT:READ",
            " ",
            "auth:tenant:read\tauth:tenant:read",
        ] {
            assert_eq!(granted(allowed, Some(wish)).unwrap_err().code, Code::InvalidScope, "{wish}");
        }
        assert_eq!(granted(ScopeSet::default(), None).unwrap_err().code, Code::InvalidScope);
    }
}
