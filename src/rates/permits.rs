//! How much a tenant does at once. A permit is given back when it is dropped: by the end of the work, by a panic, by whoever
//! cancels it.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::platform::ids::TenantId;

const SHARDS: usize = 64;

/// What is counted, as the catalogue of quotas calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Concurrent {
    Requests,
    Streams,
}

impl Concurrent {
    pub const fn key(self) -> &'static str {
        match self {
            Self::Requests => "concurrent_requests",
            Self::Streams => "concurrent_streams",
        }
    }
}

type Shard = HashMap<(TenantId, Concurrent), i64>;

#[derive(Debug)]
struct Held {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
}

/// What is held on this replica, of tenants that have a limit. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Permits(Arc<Held>);

/// Room for one request or stream.
#[derive(Debug)]
pub struct Permit {
    held: Arc<Held>,
    place: (TenantId, Concurrent),
}

impl Permits {
    pub(super) fn new() -> Self {
        let shards = std::iter::repeat_with(Mutex::default).take(SHARDS).collect();
        Self(Arc::new(Held { shards, hasher: RandomState::new() }))
    }

    /// Room for one more where `most` are allowed at once; `None` where there is none.
    pub(super) fn take(&self, tenant: TenantId, what: Concurrent, most: i64) -> Option<Permit> {
        let place = (tenant, what);
        let mut shard = self.0.shard(tenant);
        let count = shard.get(&place).copied().unwrap_or_default();
        if count >= most {
            return None;
        }
        shard.insert(place, count + 1);
        Some(Permit { held: self.0.clone(), place })
    }

    #[cfg(test)]
    fn count(&self, tenant: TenantId, what: Concurrent) -> Option<i64> {
        self.0.shard(tenant).get(&(tenant, what)).copied()
    }
}

impl Held {
    fn shard(&self, tenant: TenantId) -> MutexGuard<'_, Shard> {
        let shard = &self.shards[self.hasher.hash_one(tenant) as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut shard = self.held.shard(self.place.0);
        if let Some(count) = shard.get_mut(&self.place) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&self.place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_of_one_tenant_and_kind_and_come_back_when_dropped() {
        let (permits, a, b) = (Permits::new(), TenantId::generate(), TenantId::generate());
        let first = permits.take(a, Concurrent::Requests, 2);
        let second = permits.take(a, Concurrent::Requests, 2);
        assert!(first.is_some() && second.is_some());
        assert!(permits.take(a, Concurrent::Requests, 2).is_none());
        assert!(
            permits.take(a, Concurrent::Streams, 1).is_some() && permits.take(b, Concurrent::Requests, 1).is_some()
        );
        drop(first);
        assert!(permits.take(a, Concurrent::Requests, 2).is_some());
        drop(second);
        assert_eq!(permits.count(a, Concurrent::Requests), None);
        assert!(permits.take(a, Concurrent::Requests, 0).is_none());
    }

    #[test]
    fn a_panic_gives_its_permit_back() {
        let (permits, tenant) = (Permits::new(), TenantId::generate());
        let held = permits.clone();
        let panicked = std::thread::spawn(move || {
            let _permit = held.take(tenant, Concurrent::Requests, 1);
            panic!("on purpose");
        });
        assert!(panicked.join().is_err());
        assert!(permits.take(tenant, Concurrent::Requests, 1).is_some());
    }
}
