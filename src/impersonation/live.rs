//! What each request of an impersonation is checked against, in memory.
//!
//! One that was read is kept until something changes that sessions or impersonations of its tenant hang on: `members` counts those changes,
//! tells all replicas at commit, and acknowledges once they have heard (decision 0016).

use std::sync::Arc;

use moka::sync::Cache;

use super::{Impersonation, Impersonations, store};
use crate::{
    access::{Binding, Caller, Claims, Origin, ScopeSet},
    error::{Error, Kind, Result},
    isolation::Isolation,
    members::Members,
    platform::{
        db::Heard,
        ids::{ImpersonationId, TenantId},
    },
    sessions::OperatorSessions,
    tenancy::{Snapshot, Tenancy},
};

/// Operators are few.
const CAPACITY: u64 = 10_000;

/// An impersonation as it was read; none where there is none.
#[derive(Debug)]
struct Known {
    /// How often the tenant had changed before.
    count: u64,
    found: Option<Arc<Impersonation>>,
}

/// Knows no more of the house than it needs, for introspection keeps it, too: with `OAuth` in it, neither would ever be dropped.
#[derive(Debug)]
pub(super) struct Live {
    isolation: Isolation,
    tenancy: Tenancy,
    members: Members,
    operators: OperatorSessions,
    cache: Cache<(TenantId, ImpersonationId), Arc<Known>>,
}

/// Of what a token's claims speak.
struct Claimed {
    tenant: TenantId,
    impersonation: ImpersonationId,
    operator: String,
}

fn claimed(claims: &Claims) -> Result<Claimed> {
    let id = claims.sid.as_deref().filter(|sid| *sid == claims.sub).and_then(|sid| sid.parse().ok());
    match (claims.tenant_id, id, &claims.act) {
        (Some(tenant), Some(impersonation), Some(act)) => {
            Ok(Claimed { tenant, impersonation, operator: act.sub.clone() })
        }
        _ => Err(Error::unauthenticated()),
    }
}

impl Impersonations {
    /// The operator behind a verified token of an impersonation, with what it took along.
    pub async fn caller(&self, claims: &Claims, origin: Origin) -> Result<Caller> {
        let claimed = claimed(claims)?;
        let scopes = self.live.scopes(&claimed).await?;
        let binding = Binding::Impersonation {
            id: claimed.tenant,
            impersonation: claimed.impersonation,
            operator: claimed.operator,
            epoch: claims.epoch.unwrap_or_default(),
        };
        Ok(Caller { subject: claims.sub.clone(), binding, scopes, origin })
    }

    /// Whether the impersonation goes on, with no less than `caller` was let in with; from memory alone: `None` where that has no answer.
    pub fn check_from_memory(&self, claims: &Claims, caller: &Caller) -> Option<Result<()>> {
        let claimed = match claimed(claims) {
            Ok(claimed) => claimed,
            Err(error) => return Some(Err(error)),
        };
        let known = self.tenancy.snapshots().cached(claimed.tenant)?;
        let found = self.live.known(&claimed)?;
        let found = match self.live.held(&claimed, found.as_deref(), &known) {
            Ok(found) => found,
            Err(error) => return Some(Err(error)),
        };
        let own = match found.account() {
            Some(account) => match self.live.operators.scopes_from_memory(account)? {
                Ok(scopes) => scopes,
                Err(error) => return Some(Err(error)),
            },
            None => ScopeSet::ALL,
        };
        Some(caller.still_has(found.scopes().intersection(own)))
    }

    /// The same, asking the database where memory has no answer.
    pub async fn check(&self, claims: &Claims, caller: &Caller) -> Result<()> {
        caller.still_has(self.live.scopes_of(claims).await?)
    }

    /// Follows the listener: what may have been missed is read again.
    pub fn hear(&self, heard: &Heard) {
        if matches!(heard, Heard::Connected | Heard::Lost) {
            self.live.cache.invalidate_all();
        }
    }
}

impl Live {
    pub(super) fn new(isolation: Isolation, tenancy: Tenancy, members: Members, operators: OperatorSessions) -> Self {
        Self { isolation, tenancy, members, operators, cache: Cache::new(CAPACITY) }
    }

    /// What the token is good for now, wherever it is sent from.
    pub(super) async fn scopes_of(&self, claims: &Claims) -> Result<ScopeSet> {
        self.scopes(&claimed(claims)?).await
    }

    async fn scopes(&self, claimed: &Claimed) -> Result<ScopeSet> {
        let known = self.tenancy.snapshots().get(claimed.tenant).await?.ok_or_else(Error::unauthenticated)?;
        let found = match self.known(claimed) {
            Some(found) => found,
            None => self.read(claimed).await?,
        };
        let found = self.held(claimed, found.as_deref(), &known)?;
        Ok(found.scopes().intersection(self.operators_own(found).await?))
    }

    /// What the operator may do now; `unauthenticated` once its session has ended.
    async fn operators_own(&self, found: &Impersonation) -> Result<ScopeSet> {
        match found.account() {
            Some(account) => self.operators.scopes(account).await,
            None => Ok(ScopeSet::ALL),
        }
    }

    pub(super) async fn operator_goes_on(&self, found: &Impersonation) -> Result<bool> {
        match self.operators_own(found).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == Kind::Unauthenticated => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn held<'a>(
        &self,
        claimed: &Claimed,
        found: Option<&'a Impersonation>,
        known: &Snapshot,
    ) -> Result<&'a Impersonation> {
        let (epoch, now) = (known.tenant.access_epoch, self.isolation.clock().now());
        let goes_on = |found: &&Impersonation| found.operator == claimed.operator && found.is_running(epoch, now);
        found.filter(goes_on).ok_or_else(Error::unauthenticated)
    }

    fn known(&self, claimed: &Claimed) -> Option<Option<Arc<Impersonation>>> {
        if !self.isolation.hearing().is_sure() {
            return None;
        }
        let known = self.cache.get(&(claimed.tenant, claimed.impersonation))?;
        (known.count == self.members.changes(claimed.tenant)).then(|| known.found.clone())
    }

    async fn read(&self, claimed: &Claimed) -> Result<Option<Arc<Impersonation>>> {
        let (tenant, count) = (claimed.tenant, self.members.changes(claimed.tenant));
        let tx = self.isolation.observe(tenant).await?;
        let found = store::find(&tx, tenant, claimed.impersonation).await?.map(Arc::new);
        tx.end().await?;
        if self.isolation.hearing().is_sure() {
            let known = Known { count, found: found.clone() };
            self.cache.insert((tenant, claimed.impersonation), Arc::new(known));
        }
        Ok(found)
    }
}
