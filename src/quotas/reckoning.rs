//! Quotas of one tenant at one moment, with everything that a capability above needs to say why.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{
    Allowances, Quotas,
    key::QuotaKey,
    ledger::Counter,
    limit::{Limit, Step, agreed, limit, steps},
};
use crate::{
    error::{Context as _, Error, Result},
    grants::{Grant, Share, apportion},
    isolation::TenantScope,
    tenancy::{Catalogue, Plan, Snapshot},
};

/// What was read, and what it was decided on.
#[derive(Clone, Debug)]
pub struct Reckoning {
    pub snapshot: Arc<Snapshot>,
    pub catalogue: Arc<Catalogue>,
    pub now: DateTime<Utc>,
    /// In the order of the catalogue.
    pub quotas: Vec<Reckoned>,
}

#[derive(Clone, Debug)]
pub struct Reckoned {
    pub key: QuotaKey,
    pub limit: Limit,
    pub counter: Counter,
    pub resets_at: Option<DateTime<Utc>>,
}

impl Quotas {
    /// The quotas that `keys` names, or all: from memory, but for the counters, which are read at once.
    pub async fn reckon(&self, scope: &TenantScope, keys: Option<&[String]>) -> Result<Reckoning> {
        let known = self.list(scope, keys).await?;
        let snapshots = self.tenancy.snapshots();
        let snapshot = snapshots.get(scope.tenant()).await?.ok_or_else(Error::not_found)?;
        let (catalogue, now) = (snapshots.catalogue().await?, self.isolation.clock().now());
        let plan = catalogue.plan(&snapshot.tenant.plan).context("find the tenant's plan")?;
        let allowances = snapshot.part::<Allowances>()?;
        let quotas = known.into_iter().map(|quota| {
            let limit = limit(&quota.key, plan, allowances, now);
            Reckoned { key: quota.key, limit, counter: quota.counter, resets_at: quota.resets_at }
        });
        let quotas = quotas.collect();
        Ok(Reckoning { snapshot, catalogue, now, quotas })
    }
}

impl Reckoning {
    pub fn plan(&self) -> Result<&Plan> {
        self.catalogue.plan(&self.snapshot.tenant.plan).context("find the tenant's plan")
    }

    /// `<tenant>.<platform>`: how far the two journals were.
    pub fn version(&self) -> String {
        format!("{}.{}", self.snapshot.version, self.catalogue.version)
    }

    /// The way to a quota's limit.
    pub fn steps<'a>(&'a self, quota: &'a Reckoned) -> Result<Vec<Step<'a>>> {
        Ok(steps(&quota.key, self.plan()?, self.snapshot.part()?, self.now))
    }

    /// The grants that count, in burn order, each with what is burnt of it by now: what was settled, and what the present period
    /// uses above the limit without them.
    pub fn grants<'a>(&'a self, quota: &'a Reckoned) -> Result<Vec<(&'a Grant, i64)>> {
        let allowances = self.snapshot.part::<Allowances>()?;
        let granted = &allowances.granted;
        let Some(window) = granted.window(&quota.key, self.now) else {
            return Ok(granted.of(&quota.key, self.now).map(|(grant, _)| (grant, 0)).collect());
        };
        let used = quota.counter.used.saturating_add(quota.counter.reserved);
        let limit = agreed(&quota.key, self.plan()?, allowances, self.now);
        let share = |grant: &Grant| Share {
            room: if grant.is_active(self.now) { grant.rest() } else { 0 },
            given: granted.given(&quota.key.key, &window.name, grant.grant_id),
        };
        let counting: Vec<_> = granted.of(&quota.key, self.now).map(|(grant, _)| grant).collect();
        let shares: Vec<_> = counting.iter().map(|grant| share(grant)).collect();
        let given = apportion(&shares, limit.map_or(0, |limit| used.saturating_sub(limit)));
        let burnt = |((grant, share), given): ((&'a Grant, Share), i64)| (grant, grant.burnt + given - share.given);
        Ok(counting.into_iter().zip(shares).zip(given).map(burnt).collect())
    }
}
