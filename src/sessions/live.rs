//! What each request of a session is checked against, in memory.
//!
//! A session that was read is kept until a member of its tenant changes, or a session of it ends: that is told to all replicas at commit,
//! and acknowledged once they have heard (decision 0016). What a session's member may do is not kept: it is what its roles allow now.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use moka::sync::Cache;

use super::{Sessions, refresh::stands, store};
use crate::{
    access::{Account, Binding, Caller, Claims, Origin, ScopeSet},
    error::{Error, Result},
    isolation::Isolation,
    members::{Ground, Member, Members, operator_role},
    platform::{
        db::Heard,
        ids::{MemberId, SessionId, TenantId},
    },
};

const CAPACITY: u64 = 200_000;

/// A session as it was read.
#[derive(Debug)]
struct Known {
    /// How often members of the tenant had changed before.
    count: u64,
    /// None: there is none that is good.
    standing: Option<Standing>,
}

#[derive(Clone, Debug)]
struct Standing {
    member: MemberId,
    tenant_epoch: i64,
    roles: Vec<String>,
    ends_at: DateTime<Utc>,
}

/// Knows no more of the house than it needs, for introspection keeps it, too: with `OAuth` in it, neither would ever be dropped.
#[derive(Debug)]
pub(super) struct Live {
    isolation: Isolation,
    members: Members,
    cache: Cache<(TenantId, SessionId), Arc<Known>>,
}

/// Sessions of operators, for what hangs on them.
#[derive(Clone, Debug)]
pub struct OperatorSessions(Arc<Live>);

impl OperatorSessions {
    /// What the operator may do now; `unauthenticated` once its session has ended.
    pub async fn scopes(&self, account: Account) -> Result<ScopeSet> {
        self.0.roles_and_scopes(&account.into()).await.map(|(_, scopes)| scopes)
    }

    /// The same from memory alone: `None` where that has no answer.
    pub fn scopes_from_memory(&self, account: Account) -> Option<Result<ScopeSet>> {
        let claimed = account.into();
        let (ground, standing) = (self.0.members.cached_ground(TenantId::PLATFORM)?, self.0.known(&claimed)?);
        Some(self.0.held(&claimed, standing.as_ref(), &ground))
    }
}

/// Of whom a token's claims speak.
struct Claimed {
    tenant: TenantId,
    session: SessionId,
    member: MemberId,
}

impl From<Account> for Claimed {
    fn from(Account { member, session }: Account) -> Self {
        Self { tenant: TenantId::PLATFORM, session, member }
    }
}

fn claimed(claims: &Claims) -> Result<Claimed> {
    // Own tokens alone have a session's id; those of operators name no tenant.
    let tenant = claims.tenant_id.unwrap_or(TenantId::PLATFORM);
    let session = claims.sid.as_deref().and_then(|sid| sid.parse().ok());
    match (session, claims.sub.parse()) {
        (Some(session), Ok(member)) => Ok(Claimed { tenant, session, member }),
        _ => Err(Error::unauthenticated()),
    }
}

impl Sessions {
    /// The member behind a verified token of a session, with the scopes of the roles that it has now.
    pub async fn caller(&self, claims: &Claims, origin: Origin) -> Result<Caller> {
        let claimed = claimed(claims)?;
        let (roles, scopes) = self.live.roles_and_scopes(&claimed).await?;
        let account = Account { member: claimed.member, session: claimed.session };
        let binding = if claimed.tenant.is_platform() {
            // What a tenant's rules are for its members, these are for operators.
            self.members.check_operators_network(&origin)?;
            let roles = roles.iter().filter_map(|role| operator_role(role)).collect();
            Binding::Platform { roles, account: Some(account) }
        } else {
            Binding::Member { id: claimed.tenant, account, epoch: claims.epoch.unwrap_or_default() }
        };
        Ok(Caller { subject: claims.sub.clone(), binding, scopes, origin })
    }

    /// Whether the session goes on, with no less than `caller` was let in with; from memory alone: `None` where that has no answer.
    pub fn check_from_memory(&self, claims: &Claims, caller: &Caller) -> Option<Result<()>> {
        let claimed = match claimed(claims) {
            Ok(claimed) => claimed,
            Err(error) => return Some(Err(error)),
        };
        let ground = self.members.cached_ground(claimed.tenant)?;
        let standing = self.live.known(&claimed)?;
        let now = self.live.held(&claimed, standing.as_ref(), &ground);
        Some(now.and_then(|now| caller.still_has(now)))
    }

    /// The same, asking the database where memory has no answer.
    pub async fn check(&self, claims: &Claims, caller: &Caller) -> Result<()> {
        let now = self.caller(claims, caller.origin.clone()).await?;
        caller.still_has(now.scopes)
    }

    pub fn of_operators(&self) -> OperatorSessions {
        OperatorSessions(self.live.clone())
    }

    /// Follows the listener: what may have been missed is read again.
    pub fn hear(&self, heard: &Heard) {
        if matches!(heard, Heard::Connected | Heard::Lost) {
            self.live.cache.invalidate_all();
        }
    }
}

impl Live {
    pub(super) fn new(isolation: Isolation, members: Members) -> Self {
        Self { isolation, members, cache: Cache::new(CAPACITY) }
    }

    /// What the token is good for now, wherever it is sent from.
    pub(super) async fn scopes_of(&self, claims: &Claims) -> Result<ScopeSet> {
        self.roles_and_scopes(&claimed(claims)?).await.map(|(_, scopes)| scopes)
    }

    async fn roles_and_scopes(&self, claimed: &Claimed) -> Result<(Vec<String>, ScopeSet)> {
        let ground = self.members.ground(claimed.tenant).await?.ok_or_else(Error::unauthenticated)?;
        let standing = match self.known(claimed) {
            Some(standing) => standing,
            None => self.read(claimed).await?,
        };
        let scopes = self.held(claimed, standing.as_ref(), &ground)?;
        Ok((standing.map(|standing| standing.roles).unwrap_or_default(), scopes))
    }

    fn held(&self, claimed: &Claimed, standing: Option<&Standing>, ground: &Ground) -> Result<ScopeSet> {
        let standing = standing.ok_or_else(Error::unauthenticated)?;
        let now = self.isolation.clock().now();
        let is_theirs = standing.member == claimed.member && standing.tenant_epoch == ground.access_epoch();
        if !is_theirs || standing.ends_at <= now {
            return Err(Error::unauthenticated());
        }
        ground.scopes_of(&standing.roles)
    }

    fn known(&self, claimed: &Claimed) -> Option<Option<Standing>> {
        if !self.isolation.hearing().is_sure() {
            return None;
        }
        let known = self.cache.get(&(claimed.tenant, claimed.session))?;
        (known.count == self.members.changes(claimed.tenant)).then(|| known.standing.clone())
    }

    async fn read(&self, claimed: &Claimed) -> Result<Option<Standing>> {
        let (tenant, count) = (claimed.tenant, self.members.changes(claimed.tenant));
        let tx = self.isolation.observe(tenant).await?;
        let session = store::find(&tx, tenant, claimed.session).await?;
        let member = self.members.find_in(&tx, tenant, claimed.member).await?;
        tx.end().await?;
        let now = self.isolation.clock().now();
        let standing = session.zip(member).and_then(|(session, member): (super::Session, Member)| {
            (session.member == member.id && stands(&session, &member, now)).then_some(Standing {
                member: member.id,
                tenant_epoch: session.tenant_epoch,
                roles: member.roles,
                ends_at: session.expires_at,
            })
        });
        if self.isolation.hearing().is_sure() {
            let known = Known { count, standing: standing.clone() };
            self.cache.insert((tenant, claimed.session), Arc::new(known));
        }
        Ok(standing)
    }
}
