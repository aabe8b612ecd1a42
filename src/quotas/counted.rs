//! How much tenants have used and hold, in memory.
//!
//! Each transaction that changes a counter names its tenants in a notification ([`told`]); the replica that made it forgets them
//! itself, and answers once all others have heard (decision 0016).

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use moka::sync::Cache;

use super::ledger::Counter;
use crate::{
    isolation::Isolation,
    platform::{db::Heard, ids::TenantId, stripes::Stripes},
};

const CAPACITY_BYTES: u64 = 32 * 1024 * 1024;
/// Begin of the notification; the ids of tenants follow.
const USAGE: &str = "usage";
/// A notification has at most 8,000 bytes.
const TENANTS_AT_ONCE: usize = 200;

/// By key and window.
pub(super) type Counters = HashMap<(String, String), Counter>;

/// The counters of one tenant, as they were at one moment.
#[derive(Debug, Default)]
pub(super) struct Usage {
    /// Names of the periods that were asked for: a counter of these that is not there counts nothing yet.
    pub(super) windows: BTreeSet<String>,
    pub(super) counters: Counters,
}

impl Usage {
    pub(super) fn counter(&self, key: &str, window: &str) -> Counter {
        self.counters.get(&(key.to_owned(), window.to_owned())).copied().unwrap_or_default()
    }
}

#[derive(Debug)]
pub(super) struct Counted {
    isolation: Isolation,
    cache: Cache<TenantId, Arc<Usage>>,
    stripes: Stripes,
}

impl Counted {
    pub(super) fn new(isolation: Isolation) -> Self {
        let weigh = |_: &TenantId, usage: &Arc<Usage>| weight(usage);
        let cache = Cache::builder().max_capacity(CAPACITY_BYTES).weigher(weigh).build();
        Self { isolation, cache, stripes: Stripes::default() }
    }

    /// What memory has of these windows.
    pub(super) fn get(&self, tenant: TenantId, windows: &BTreeSet<String>) -> Option<Arc<Usage>> {
        if !self.isolation.hearing().is_sure() {
            return None;
        }
        self.cache.get(&tenant).filter(|usage| usage.windows.is_superset(windows))
    }

    /// How often the tenant has changed: for [`keep`](Self::keep), before anything is read.
    pub(super) fn count(&self, tenant: TenantId) -> u64 {
        self.stripes.count(tenant)
    }

    /// Keeps what was read since `count`, if nothing has changed meanwhile.
    pub(super) fn keep(&self, tenant: TenantId, count: u64, usage: Arc<Usage>) {
        let now = self.stripes.lock(tenant);
        if *now == count && self.isolation.hearing().is_sure() {
            self.cache.insert(tenant, usage);
        }
    }

    pub(super) fn forget(&self, tenant: TenantId) {
        let mut count = self.stripes.lock(tenant);
        *count += 1;
        self.cache.invalidate(&tenant);
    }

    pub(super) fn hear(&self, heard: &Heard) {
        match heard {
            Heard::Connected | Heard::Lost => {
                self.stripes.count_all_up();
                self.cache.invalidate_all();
            }
            Heard::Notified(payload) => match payload.split_once(' ') {
                Some((USAGE, tenants)) => {
                    tenants.split(' ').filter_map(|tenant| tenant.parse().ok()).for_each(|tenant| self.forget(tenant));
                }
                Some(_) => {}
                // Its snapshot has changed, and with it perhaps its periods.
                None => payload.parse().ok().into_iter().for_each(|tenant| self.forget(tenant)),
            },
        }
    }
}

/// The notifications that name these tenants.
pub(super) fn told(tenants: &BTreeSet<TenantId>) -> Vec<String> {
    let ids: Vec<_> = tenants.iter().map(ToString::to_string).collect();
    ids.chunks(TENANTS_AT_ONCE).map(|ids| format!("{USAGE} {}", ids.join(" "))).collect()
}

/// About how many bytes it takes in memory.
fn weight(usage: &Usage) -> u32 {
    let windows: usize = usage.windows.iter().map(|window| window.len() + 48).sum();
    let counters: usize = usage.counters.keys().map(|(key, window)| key.len() + window.len() + 80).sum();
    u32::try_from(256 + windows + counters).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_names_as_many_tenants_as_it_has_room_for() {
        let tenants: BTreeSet<_> = std::iter::repeat_with(TenantId::generate).take(450).collect();
        let told = told(&tenants);
        assert_eq!(told.len(), 3);
        assert!(told.iter().all(|payload| payload.len() < 8000));
        let named: BTreeSet<TenantId> =
            told.iter().flat_map(|payload| payload.split(' ').skip(1)).map(|id| id.parse().unwrap()).collect();
        assert_eq!(named, tenants);
    }
}
