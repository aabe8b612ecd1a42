//! The buckets of this replica, in memory. One that is full again is no different from none and is dropped: what is kept is
//! what was used within the last burst.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    bucket::{Bucket, Rate, TOKEN},
    standing::Standing,
};
use crate::platform::ids::TenantId;

const SHARDS: usize = 64;

#[derive(Debug)]
struct Entry {
    key: Box<str>,
    rate: Rate,
    bucket: Bucket,
    /// Tokens taken here since the last exchange.
    spent: i64,
    /// What all replicas had taken together at the last exchange; none before the first.
    seen: Option<i64>,
}

type Shard = HashMap<TenantId, Vec<Entry>>;

/// What was taken here of one bucket and is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spent {
    pub(super) tenant: TenantId,
    pub(super) key: String,
    pub(super) tokens: i64,
    pub(super) per_second: i64,
}

/// What all replicas have taken of one bucket together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Total {
    pub(super) tenant: TenantId,
    pub(super) key: String,
    /// Since the beginning, in tokens.
    pub(super) consumed: i64,
    /// What is owed of it, in parts of a token.
    pub(super) debt: i64,
}

#[derive(Debug)]
pub(super) struct Buckets {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
}

impl Buckets {
    pub(super) fn new() -> Self {
        Self { shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(), hasher: RandomState::new() }
    }

    /// Takes `cost` tokens, all or none. Allocates only for a bucket that is new.
    pub(super) fn take(&self, tenant: TenantId, key: &str, rate: Rate, cost: i64, now: i64) -> Standing {
        let mut shard = self.shard(tenant);
        let entries = shard.entry(tenant).or_default();
        let index = entries.iter().position(|entry| *entry.key == *key).unwrap_or_else(|| {
            entries.push(Entry { key: key.into(), rate, bucket: Bucket::new(now), spent: 0, seen: None });
            entries.len() - 1
        });
        let entry = &mut entries[index];
        entry.rate = rate;
        let standing = entry.bucket.take(rate, cost, now);
        if standing.allowed {
            entry.spent = entry.spent.saturating_add(cost);
        }
        standing
    }

    /// Takes out what was spent since the last exchange, of at most `most` buckets.
    pub(super) fn collect(&self, most: usize) -> Vec<Spent> {
        let mut collected = Vec::new();
        for shard in &self.shards {
            let mut shard = lock(shard);
            let used = shard.iter_mut().flat_map(|(tenant, entries)| entries.iter_mut().map(|entry| (*tenant, entry)));
            for (tenant, entry) in used.filter(|(_, entry)| entry.spent > 0).take(most - collected.len()) {
                let tokens = std::mem::take(&mut entry.spent);
                let key = entry.key.to_string();
                collected.push(Spent { tenant, key, tokens, per_second: entry.rate.per_second });
            }
        }
        collected
    }

    /// Takes back what could not be told. Who went on alone need not pay for all that time: at most a burst is told later.
    pub(super) fn restore(&self, spent: Vec<Spent>) {
        for spent in spent {
            self.change(spent.tenant, &spent.key, |entry| {
                entry.spent = entry.spent.saturating_add(spent.tokens).min(entry.rate.burst());
            });
        }
    }

    /// Adds what the others have taken, where `spent` was told and `total` is what came back.
    pub(super) fn learn(&self, spent: &Spent, total: &Total, now: i64) {
        self.change(spent.tenant, &spent.key, |entry| {
            let others = entry.seen.map(|seen| total.consumed - seen - spent.tokens).filter(|others| *others >= 0);
            match others {
                Some(others) => entry.bucket.owe(entry.rate, others, now),
                // The first time, or the table was emptied: what the others owe now is all that is known.
                None => {
                    let owed = total.debt.saturating_sub(spent.tokens.saturating_mul(TOKEN)).max(0);
                    entry.bucket.owe_besides(entry.rate, owed, now);
                }
            }
            entry.seen = Some(total.consumed);
        });
    }

    /// Drops what is full again. `told` says that everything spent is told before: then what was not is kept.
    pub(super) fn sweep(&self, told: Told, now: i64) {
        for shard in &self.shards {
            lock(shard).retain(|_, entries| {
                entries.retain_mut(|entry| {
                    (told == Told::Everything && entry.spent > 0) || !entry.bucket.is_full(entry.rate, now)
                });
                !entries.is_empty()
            });
        }
    }

    pub(super) fn count(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).values().map(Vec::len).sum::<usize>()).sum()
    }

    fn change(&self, tenant: TenantId, key: &str, change: impl FnOnce(&mut Entry)) {
        let mut shard = self.shard(tenant);
        let found = shard.get_mut(&tenant).and_then(|entries| entries.iter_mut().find(|entry| *entry.key == *key));
        found.map(change);
    }

    fn shard(&self, tenant: TenantId) -> MutexGuard<'_, Shard> {
        lock(&self.shards[self.hasher.hash_one(tenant) as usize % SHARDS])
    }
}

/// Whether other replicas are told of what is spent here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Everything,
    Nothing,
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "requests_per_second";
    const SECOND: i64 = 1_000_000;

    fn rate(per_second: i64) -> Rate {
        Rate { per_second, burst_seconds: 1 }
    }

    /// What the table does with what is told.
    #[derive(Default)]
    struct Table(BTreeMap<String, (i64, i64, i64)>);

    impl Table {
        fn tell(&mut self, replica: &Buckets, now: i64) {
            for spent in replica.collect(usize::MAX) {
                let row = self.0.entry(spent.key.clone()).or_insert((0, 0, now));
                let drained = (row.1 - spent.per_second * (now - row.2).max(0)).max(0);
                *row = (row.0 + spent.tokens, drained + spent.tokens * TOKEN, row.2.max(now));
                let total = Total { tenant: spent.tenant, key: spent.key.clone(), consumed: row.0, debt: row.1 };
                replica.learn(&spent, &total, now);
            }
            replica.sweep(Told::Everything, now);
        }
    }

    #[test]
    fn what_is_full_again_is_dropped_unless_it_is_still_to_be_told() {
        let (buckets, tenant) = (Buckets::new(), TenantId::generate());
        assert!(buckets.take(tenant, KEY, rate(10), 10, 0).allowed);
        buckets.sweep(Told::Nothing, SECOND / 2);
        assert_eq!(buckets.count(), 1);
        buckets.sweep(Told::Everything, SECOND);
        assert_eq!(buckets.count(), 1);
        let told = buckets.collect(10);
        assert_eq!(told, [Spent { tenant, key: KEY.to_owned(), tokens: 10, per_second: 10 }]);
        buckets.sweep(Told::Everything, SECOND);
        assert_eq!(buckets.count(), 0);
    }

    #[test]
    fn who_went_on_alone_tells_at_most_a_burst() {
        let (buckets, tenant) = (Buckets::new(), TenantId::generate());
        for second in 0..100 {
            assert!(buckets.take(tenant, KEY, rate(10), 10, second * SECOND).allowed);
            buckets.restore(buckets.collect(10));
        }
        assert_eq!(buckets.collect(10)[0].tokens, 10);
    }

    #[test]
    fn a_steady_client_of_one_replica_is_never_refused_for_being_told() {
        let (buckets, tenant, mut table) = (Buckets::new(), TenantId::generate(), Table::default());
        for step in 0..1000 {
            let now = step * SECOND / 100;
            assert!(buckets.take(tenant, KEY, rate(100), 1, now).allowed, "{step}");
            if step % 20 == 0 {
                table.tell(&buckets, now);
            }
        }
    }

    proptest! {
        /// The bound of docs/decisions/0009: over N replicas that tell each other every x, in any stretch of length T at most
        /// burst + rate·T + (N−1)·(burst + 2·rate·x).
        #[test]
        fn replicas_together_stay_within_the_stated_bound(
            per_second in 1_i64..200,
            replicas in 2_usize..4,
            steps in prop::collection::vec((0_i64..60_000, 0_usize..4, 1_i64..20), 1..400),
        ) {
            let every = 200_000;
            let (tenant, rate, mut table) = (TenantId::generate(), rate(per_second), Table::default());
            let houses: Vec<_> = (0..replicas).map(|_| Buckets::new()).collect();
            // Replicas tell at different times.
            let mut next: Vec<_> = (0..replicas as i64).map(|index| every + index * every / 3).collect();
            let (mut now, mut taken) = (0, Vec::new());
            for (wait, at, cost) in steps {
                now += wait;
                for (house, due) in houses.iter().zip(&mut next) {
                    while *due <= now {
                        table.tell(house, *due);
                        *due += every;
                    }
                }
                if houses[at % replicas].take(tenant, KEY, rate, cost, now).allowed {
                    taken.push((now, cost));
                }
            }
            let beyond = (replicas as i64 - 1) * (rate.burst() * TOKEN + 2 * per_second * every);
            for (first, (from, _)) in taken.iter().enumerate() {
                let mut sum = 0;
                for (until, cost) in &taken[first..] {
                    sum += cost * TOKEN;
                    prop_assert!(sum <= rate.burst() * TOKEN + per_second * (until - from) + beyond);
                }
            }
        }
    }
}
