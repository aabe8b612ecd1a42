//! The quotas of a page of tenants: what they have used is read in one statement for all.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::{
    Allowances, Quota, QuotaKey, QuotaKeys, Quotas, counted::Counters, limit::limit, store, usage::led_to,
    window::Window,
};
use crate::{
    error::{Context as _, Error, Result},
    isolation::OperatorScope,
    platform::ids::TenantId,
    tenancy::{Catalogue, KnownTenants, Snapshot, TenantPage},
};

/// What all quotas of a page's tenants are decided on, of one moment.
#[derive(Debug)]
pub struct PageQuotas {
    catalogue: Arc<Catalogue>,
    tenants: Arc<KnownTenants<Allowances>>,
    counters: HashMap<TenantId, Counters>,
    now: DateTime<Utc>,
}

impl Quotas {
    /// What the quotas of all tenants of the page are, read together by who asks first.
    pub async fn of_page(&self, scope: &OperatorScope, page: &TenantPage) -> Result<Arc<PageQuotas>> {
        page.together(|| self.read_page(scope, page)).await
    }

    async fn read_page(&self, scope: &OperatorScope, page: &TenantPage) -> Result<PageQuotas> {
        let now = self.isolation.clock().now();
        let tenants = page.snapshots::<Allowances>(&self.tenancy, scope).await?;
        let catalogue = self.tenancy.snapshots().catalogue().await?;
        let (mut windows, keys) = (BTreeSet::new(), catalogue.part::<QuotaKeys>()?);
        for zone in tenants.0.values().map(|tenant| zone(tenant)).collect::<BTreeSet<_>>() {
            windows.extend(keys.all().iter().map(|key| window(key, zone, now).name));
        }
        let tx = self.isolation.begin_operator(scope).await?;
        let mut counters = store::read_counters(&tx, page.tenants(), &windows).await?;
        tx.commit_unrecorded("a read").await?;
        for (tenant, counters) in &mut counters {
            for ((key, window), counter) in counters {
                counter.reserved = self.promised_of(counter.reserved, *tenant, key, window);
            }
        }
        Ok(PageQuotas { catalogue, tenants, counters, now })
    }
}

impl PageQuotas {
    /// All quotas of the catalogue, as the tenant has them; `keys` names those that are wanted.
    pub fn list(&self, tenant: TenantId, keys: Option<&[String]>) -> Result<Vec<Quota>> {
        let known = self.tenants.0.get(&tenant).ok_or_else(Error::not_found)?;
        let wanted = |key: &&QuotaKey| keys.is_none_or(|keys| keys.contains(&key.key));
        let all = self.catalogue.part::<QuotaKeys>()?.all();
        all.iter().filter(wanted).map(|key| self.quota(known, key)).collect()
    }

    fn quota(&self, known: &Snapshot, key: &QuotaKey) -> Result<Quota> {
        let plan = self.catalogue.plan(&known.tenant.plan).context("find the tenant's plan")?;
        let allowances = known.part::<Allowances>()?;
        let Window { name, resets_at } = window(key, zone(known), self.now);
        let of_tenant = self.counters.get(&known.tenant.id).filter(|_| key.is_counted());
        let counter = of_tenant.and_then(|counters| counters.get(&(key.key.clone(), name))).copied();
        let (plan_limit, contract, boosts) = led_to(key, plan, allowances, self.now);
        Ok(Quota {
            limit: limit(key, plan, allowances, self.now),
            counter: counter.unwrap_or_default(),
            resets_at,
            plan_limit,
            contract,
            boosts,
            version: format!("{}.{}", known.version, self.catalogue.version),
            key: key.clone(),
        })
    }
}

/// Where the tenant's days and months begin.
fn zone(known: &Snapshot) -> ZoneName<'_> {
    ZoneName(known.tenant.profile.time_zone.as_deref().unwrap_or_default())
}

/// A time zone by its name; UTC where it names none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ZoneName<'a>(&'a str);

fn window(key: &QuotaKey, zone: ZoneName<'_>, now: DateTime<Utc>) -> Window {
    let zone = zone.0.parse().unwrap_or(Tz::UTC);
    key.period.map_or_else(Window::forever, |period| Window::at(period, now, zone))
}
