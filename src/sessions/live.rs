//! What each request of a session is checked against, in memory.
//!
//! A session that was read is kept until a member of its tenant changes, or a session of it ends: that is told to all replicas at commit,
//! and acknowledged once they have heard (decision 0016). What a session's member may do is not kept: it is what its roles allow now.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use moka::sync::Cache;

use super::{Sessions, refresh::stands, store};
use crate::{
    access::{Binding, Caller, Claims, Origin, ScopeSet},
    error::{Error, Result},
    isolation::Isolation,
    members::{Member, Members, OwnRoles, scopes_of},
    platform::{
        db::Heard,
        ids::{MemberId, SessionId, TenantId},
    },
    tenancy::{Snapshot, Tenancy},
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
    tenancy: Tenancy,
    members: Members,
    cache: Cache<(TenantId, SessionId), Arc<Known>>,
}

/// Of whom a token's claims speak.
struct Claimed {
    tenant: TenantId,
    session: SessionId,
    member: MemberId,
}

fn claimed(claims: &Claims) -> Result<Claimed> {
    let session = claims.sid.as_deref().and_then(|sid| sid.parse().ok());
    match (claims.tenant_id, session, claims.sub.parse()) {
        (Some(tenant), Some(session), Ok(member)) => Ok(Claimed { tenant, session, member }),
        _ => Err(Error::unauthenticated()),
    }
}

impl Sessions {
    /// The member behind a verified token of a session, with the scopes of the roles that it has now.
    pub async fn caller(&self, claims: &Claims, origin: Origin) -> Result<Caller> {
        let claimed = claimed(claims)?;
        let scopes = self.live.scopes(&claimed).await?;
        let binding = Binding::Member {
            id: claimed.tenant,
            member: claimed.member,
            session: claimed.session,
            epoch: claims.epoch.unwrap_or_default(),
        };
        Ok(Caller { subject: claims.sub.clone(), binding, scopes, origin })
    }

    /// Whether the session goes on, with no less than `caller` was let in with; from memory alone: `None` where that has no answer.
    pub fn check_from_memory(&self, claims: &Claims, caller: &Caller) -> Option<Result<()>> {
        let claimed = match claimed(claims) {
            Ok(claimed) => claimed,
            Err(error) => return Some(Err(error)),
        };
        let known = self.tenancy.snapshots().cached(claimed.tenant)?;
        let standing = self.live.known(&claimed)?;
        let now = self.live.held(&claimed, standing.as_ref(), &known);
        Some(now.and_then(|now| still_has(caller, now)))
    }

    /// The same, asking the database where memory has no answer.
    pub async fn check(&self, claims: &Claims, caller: &Caller) -> Result<()> {
        let now = self.caller(claims, caller.origin.clone()).await?;
        still_has(caller, now.scopes)
    }

    /// Follows the listener: what may have been missed is read again.
    pub fn hear(&self, heard: &Heard) {
        if matches!(heard, Heard::Connected | Heard::Lost) {
            self.live.cache.invalidate_all();
        }
    }
}

impl Live {
    pub(super) fn new(isolation: Isolation, tenancy: Tenancy, members: Members) -> Self {
        Self { isolation, tenancy, members, cache: Cache::new(CAPACITY) }
    }

    /// What the token is good for now, wherever it is sent from.
    pub(super) async fn scopes_of(&self, claims: &Claims) -> Result<ScopeSet> {
        self.scopes(&claimed(claims)?).await
    }

    async fn scopes(&self, claimed: &Claimed) -> Result<ScopeSet> {
        let known = self.tenancy.snapshots().get(claimed.tenant).await?.ok_or_else(Error::unauthenticated)?;
        let standing = match self.known(claimed) {
            Some(standing) => standing,
            None => self.read(claimed).await?,
        };
        self.held(claimed, standing.as_ref(), &known)
    }

    fn held(&self, claimed: &Claimed, standing: Option<&Standing>, known: &Snapshot) -> Result<ScopeSet> {
        let standing = standing.ok_or_else(Error::unauthenticated)?;
        let now = self.isolation.clock().now();
        let is_theirs = standing.member == claimed.member && standing.tenant_epoch == known.tenant.access_epoch;
        if !is_theirs || standing.ends_at <= now {
            return Err(Error::unauthenticated());
        }
        Ok(scopes_of(&standing.roles, &known.part::<OwnRoles>()?.0).intersection(ScopeSet::for_tenants()))
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

/// Whoever was let in with more than it may do now has to ask anew.
fn still_has(caller: &Caller, now: ScopeSet) -> Result<()> {
    if caller.scopes.without(now).is_empty() { Ok(()) } else { Err(Error::unauthenticated()) }
}
