//! Unwrapped data keys in memory: bounded, for a time, and wiped when they go.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    keys::{DataKey, KeyVersion},
    platform::ids::TenantId,
};

type Name = (TenantId, KeyVersion);

#[derive(Debug)]
pub(super) struct Cache {
    capacity: usize,
    ttl: TimeDelta,
    kept: Mutex<Kept>,
    turns: Mutex<HashMap<Name, Arc<tokio::sync::Mutex<()>>>>,
}

#[derive(Debug, Default)]
struct Kept {
    keys: HashMap<Name, Entry>,
    /// Counts what was dropped: a key that was asked for before is not kept afterwards.
    drops: u64,
}

#[derive(Debug)]
struct Entry {
    key: DataKey,
    since: DateTime<Utc>,
    /// The version that sealed when this was unwrapped: with another, all of the tenant go.
    active: KeyVersion,
}

/// Taken before a key is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket(u64);

impl Cache {
    pub(super) fn new(capacity: usize, ttl: Duration) -> Self {
        let ttl = TimeDelta::from_std(ttl).unwrap_or(TimeDelta::MAX);
        Self { capacity, ttl, kept: Mutex::default(), turns: Mutex::default() }
    }

    pub(super) fn get(&self, name: Name, now: DateTime<Utc>) -> Option<DataKey> {
        let kept = self.lock();
        kept.keys.get(&name).filter(|entry| self.lasts(entry, now)).map(|entry| entry.key.clone())
    }

    /// One request at a time asks for a key; those behind it find it here.
    pub(super) fn turn(&self, name: Name) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(name).or_default().clone()
    }

    pub(super) fn ticket(&self) -> Ticket {
        Ticket(self.lock().drops)
    }

    /// Keeps a key, unless something was dropped since `ticket`. Where there is no room, the one kept longest goes.
    pub(super) fn put(&self, ticket: Ticket, name: Name, active: KeyVersion, key: DataKey, now: DateTime<Utc>) {
        let mut kept = self.lock();
        if kept.drops != ticket.0 || self.ttl.is_zero() {
            return;
        }
        if kept.keys.len() >= self.capacity && !kept.keys.contains_key(&name) {
            let oldest = kept.keys.iter().min_by_key(|(_, entry)| entry.since).map(|(name, _)| *name);
            oldest.and_then(|oldest| kept.keys.remove(&oldest));
        }
        kept.keys.insert(name, Entry { key, since: now, active });
    }

    /// Whether anything is kept of this tenant.
    pub(super) fn knows(&self, tenant: TenantId) -> bool {
        self.lock().keys.keys().any(|(owner, _)| *owner == tenant)
    }

    /// Drops what was kept of this tenant while another version sealed; `None`: all of it.
    pub(super) fn keep_only(&self, tenant: TenantId, active: Option<KeyVersion>) {
        let mut kept = self.lock();
        let before = kept.keys.len();
        kept.keys.retain(|(owner, _), entry| *owner != tenant || Some(entry.active) == active);
        if kept.keys.len() != before || active.is_none() {
            kept.drops += 1;
        }
    }

    pub(super) fn clear(&self) {
        let mut kept = self.lock();
        kept.keys.clear();
        kept.drops += 1;
    }

    /// Drops what has been kept long enough.
    pub(super) fn expire(&self, now: DateTime<Utc>) {
        let mut kept = self.lock();
        kept.keys.retain(|_, entry| self.lasts(entry, now));
        metrics::gauge!("tenantry_data_keys_in_memory").set(kept.keys.len() as f64);
    }

    fn lasts(&self, entry: &Entry, now: DateTime<Utc>) -> bool {
        now >= entry.since && now - entry.since < self.ttl
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(second)
    }

    #[test]
    fn a_key_is_kept_for_its_time_and_no_more_keys_than_there_is_room_for() {
        let (cache, tenant) = (Cache::new(2, TTL), TenantId::generate());
        for version in 1..=3 {
            cache.put(cache.ticket(), (tenant, version), 3, DataKey::generate(), at(version));
        }
        assert!(cache.get((tenant, 1), at(3)).is_none(), "the oldest made room");
        assert!(cache.get((tenant, 2), at(61)).is_some() && cache.get((tenant, 2), at(62)).is_none());
        assert!(cache.get((tenant, 2), at(1)).is_none(), "a clock that was set back prolongs nothing");
        cache.expire(at(62));
        assert!(cache.get((tenant, 2), at(3)).is_none() && cache.get((tenant, 3), at(3)).is_some());
    }

    #[test]
    fn a_key_goes_when_another_version_seals_and_only_its_tenant_s() {
        let (cache, tenant, other) = (Cache::new(9, TTL), TenantId::generate(), TenantId::generate());
        for owner in [tenant, other] {
            cache.put(cache.ticket(), (owner, 1), 1, DataKey::generate(), at(0));
        }
        cache.keep_only(tenant, Some(1));
        assert!(cache.knows(tenant));
        cache.keep_only(tenant, Some(2));
        assert!(!cache.knows(tenant) && cache.knows(other));
        cache.clear();
        assert!(!cache.knows(other));
    }

    #[test]
    fn what_was_asked_for_before_a_drop_is_not_kept_after_it() {
        let (cache, tenant) = (Cache::new(9, TTL), TenantId::generate());
        let ticket = cache.ticket();
        cache.keep_only(tenant, None);
        cache.put(ticket, (tenant, 1), 1, DataKey::generate(), at(0));
        assert!(!cache.knows(tenant));
    }
}
