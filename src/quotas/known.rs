//! What memory knows of the tenants of a batch: limits, windows, and to whom what they use rolls up.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::{
    allowance::Allowances,
    batch::{Answer, Standing},
    desk::Desk,
    key::{QuotaKey, QuotaKeys},
    leases::Basis,
    ledger::{CounterKey, Ledger, Terms},
    limit::{Limit, limit},
    store::Journals,
    usage::{LedTo, led_to},
    window::Window,
};
use crate::{
    error::{Context as _, Error, Result},
    platform::ids::TenantId,
    tenancy::{Catalogue, Parent, Snapshot},
};

/// The parent, if what the tenant uses counts for it, too.
fn above(snapshot: &Snapshot) -> Result<Option<TenantId>> {
    Ok(snapshot.part::<Parent>()?.0.as_ref().filter(|link| link.rolls_up).map(|link| link.parent_id))
}

/// What memory knows of the tenants of a batch.
pub(super) struct Known {
    catalogue: std::sync::Arc<Catalogue>,
    tenants: BTreeMap<TenantId, std::sync::Arc<Snapshot>>,
}

impl Known {
    /// The tenants, and those above them to which what they use rolls up.
    pub(super) async fn read(desk: &Desk, tenants: impl Iterator<Item = TenantId>) -> Result<Self> {
        let snapshots = desk.tenancy.snapshots();
        let mut known = Self { catalogue: snapshots.catalogue().await?, tenants: BTreeMap::new() };
        for tenant in tenants {
            let mut next = Some(tenant);
            while let Some(tenant) = next.filter(|tenant| !known.tenants.contains_key(tenant)) {
                let Some(snapshot) = snapshots.get(tenant).await? else { break };
                next = above(&snapshot)?;
                known.tenants.insert(tenant, snapshot);
            }
        }
        Ok(known)
    }

    /// Reads again what has changed since memory heard of it: the rows are locked now, so a limit that somebody has lowered
    /// is the limit that counts. Answers whether there was something.
    pub(super) async fn renew(&mut self, desk: &Desk, journals: &Journals) -> Result<bool> {
        let (snapshots, mut renewed) = (desk.tenancy.snapshots(), false);
        if self.catalogue.version < journals.platform {
            self.catalogue = snapshots.reread_catalogue().await?;
            renewed = true;
        }
        for (tenant, version) in &journals.tenants {
            if self.tenants.get(tenant).is_some_and(|known| known.version < *version)
                && let Some(snapshot) = snapshots.reread(*tenant).await?
            {
                self.tenants.insert(*tenant, snapshot);
                renewed = true;
            }
        }
        Ok(renewed)
    }

    /// The tenants above, the nearest first, as far as everything rolls up.
    pub(super) fn rolls_up_to(&self, tenant: TenantId) -> Result<Vec<TenantId>> {
        let (mut found, mut next) = (Vec::new(), above(self.snapshot(tenant)?)?);
        while let Some(parent) = next.filter(|next| !found.contains(next) && *next != tenant) {
            // One that is gone has no quotas.
            let Some(known) = self.tenants.get(&parent) else { break };
            found.push(parent);
            next = above(known)?;
        }
        Ok(found)
    }

    fn snapshot(&self, tenant: TenantId) -> Result<&Snapshot> {
        self.tenants.get(&tenant).map(|snapshot| &**snapshot).ok_or_else(Error::not_found)
    }

    pub(super) fn keys(&self) -> Result<&QuotaKeys> {
        self.catalogue.part()
    }

    fn key(&self, key: &str, field: &str) -> Result<&QuotaKey> {
        let found = self.keys()?.find(key);
        found.ok_or_else(|| Error::invalid(field, "names no quota of the catalogue"))
    }

    pub(super) fn window(&self, tenant: TenantId, key: &QuotaKey, now: DateTime<Utc>) -> Result<Window> {
        let Some(period) = key.period else { return Ok(Window::forever()) };
        let zone = self.snapshot(tenant)?.tenant.profile.time_zone.as_deref();
        let zone: Tz = zone.and_then(|name| name.parse().ok()).unwrap_or(Tz::UTC);
        Ok(Window::at(period, now, zone))
    }

    pub(super) fn counter(&self, tenant: TenantId, key: &str, field: &str, now: DateTime<Utc>) -> Result<CounterKey> {
        let key = self.key(key, field)?;
        if !key.is_counted() {
            return Err(Error::invalid(field, "names a quota that is not counted: ask `checkRate`"));
        }
        Ok(CounterKey { tenant, key: key.key.clone(), window: self.window(tenant, key, now)?.name })
    }

    pub(super) fn limit(&self, tenant: TenantId, key: &QuotaKey, now: DateTime<Utc>) -> Result<Limit> {
        let snapshot = self.snapshot(tenant)?;
        let plan = self.catalogue.plan(&snapshot.tenant.plan).context("find the tenant's plan")?;
        Ok(limit(key, plan, snapshot.part::<Allowances>()?, now))
    }

    pub(super) fn led_to(&self, tenant: TenantId, key: &QuotaKey, now: DateTime<Utc>) -> Result<LedTo> {
        let snapshot = self.snapshot(tenant)?;
        let plan = self.catalogue.plan(&snapshot.tenant.plan).context("find the tenant's plan")?;
        Ok(led_to(key, plan, snapshot.part::<Allowances>()?, now))
    }

    /// Whether the limit stays what it is from `now` to `until`, as far as nobody changes it: expiries and turns are known.
    pub(super) fn is_steady(&self, counter: &CounterKey, now: DateTime<Utc>, until: DateTime<Utc>) -> bool {
        let limit = |at| self.key(&counter.key, "key").and_then(|key| self.limit(counter.tenant, key, at)).ok();
        limit(now) == limit(until)
    }

    /// The versions of tenant and platform that answers are decided on.
    pub(super) fn version(&self, tenant: TenantId) -> Result<String> {
        Ok(format!("{}.{}", self.snapshot(tenant)?.version, self.catalogue.version))
    }

    /// What a lease of the tenant is decided on.
    pub(super) fn basis(&self, tenant: TenantId) -> Option<Basis> {
        Some(Basis { tenant: self.tenants.get(&tenant)?.version, platform: self.catalogue.version })
    }

    /// Counters of which nothing is known have no terms: nothing is let in there.
    pub(super) fn terms(&self, counters: &BTreeSet<CounterKey>, now: DateTime<Utc>) -> BTreeMap<CounterKey, Terms> {
        let terms = |counter: &CounterKey| -> Result<Terms> {
            let key = self.key(&counter.key, "key")?;
            let resets_at = self.window(counter.tenant, key, now)?.resets_at;
            Ok(Terms { limit: self.limit(counter.tenant, key, now)?, resets_at })
        };
        counters.iter().filter_map(|counter| Some((counter.clone(), terms(counter).ok()?))).collect()
    }

    pub(super) fn with_standings(
        &self,
        mut answer: Answer,
        tenant: TenantId,
        ledger: &Ledger,
        now: DateTime<Utc>,
    ) -> Answer {
        for standing in &mut answer.standings {
            let Ok(key) = self.key(&standing.key, "key") else { continue };
            let Ok(window) = self.window(tenant, key, now) else { continue };
            let counter = CounterKey { tenant, key: standing.key.clone(), window: window.name };
            *standing = self.standing(tenant, &counter, ledger, now);
        }
        answer
    }

    pub(super) fn standing(
        &self,
        tenant: TenantId,
        counter: &CounterKey,
        ledger: &Ledger,
        now: DateTime<Utc>,
    ) -> Standing {
        let found = ledger.counters.get(counter).copied().unwrap_or_default();
        let key = self.key(&counter.key, "key").ok();
        Standing {
            key: counter.key.clone(),
            limit: key.and_then(|key| self.limit(tenant, key, now).ok()).and_then(|limit| limit.limit),
            used: found.used,
            reserved: found.reserved,
            resets_at: key.and_then(|key| self.window(tenant, key, now).ok()).and_then(|window| window.resets_at),
            version: self.version(tenant).unwrap_or_default(),
        }
    }
}
