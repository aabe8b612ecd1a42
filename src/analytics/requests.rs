//! What was asked, in memory until it is written down. Nobody waits for it: threads count in places of their own.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, Utc};
use uuid::{Builder, Uuid};

use super::latencies::Latencies;
use crate::platform::ids::TenantId;

/// What came of a request that was answered as it was meant; of others it is the code of their error.
pub const OK: &str = "ok";
/// Operations beyond those that are told apart.
pub const OTHER: &str = "other";

/// Of one tenant in one place: operations that are told apart, and callers.
const OPERATIONS: usize = 256;
const CALLERS: usize = 1024;
/// Rows of one place: what is more until the next flush is added up in `other`, and of further tenants it is dropped.
const ROWS: usize = 8192;
const TENANTS: usize = 4096;
/// Rows that wait for a database that cannot be reached.
pub(super) const WAITING: usize = 65_536;
/// Seconds of a quarter of an hour.
pub(super) const QUARTER: i64 = 900;

/// One request that has been answered.
#[derive(Clone, Copy, Debug)]
pub struct Finished<'a> {
    pub tenant: TenantId,
    pub operation: &'a str,
    /// [`OK`], or a code of [`Kind`](crate::error::Kind).
    pub outcome: &'static str,
    pub took: Duration,
    /// `sub` of its token.
    pub subject: &'a str,
    pub at: DateTime<Utc>,
}

/// What is counted of all tenants. Bounded, whatever is asked.
#[derive(Debug)]
pub struct Requests {
    places: Box<[Mutex<Place>]>,
}

#[derive(Debug, Default)]
struct Place {
    tenants: HashMap<(TenantId, i64), OfTenant>,
    rows: usize,
}

#[derive(Debug, Default)]
struct OfTenant {
    operations: HashMap<Box<str>, Vec<(&'static str, Latencies)>>,
    callers: HashSet<Box<str>>,
}

impl Default for Requests {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(4, usize::from);
        Self { places: std::iter::repeat_with(Mutex::default).take(threads.next_power_of_two()).collect() }
    }
}

impl Requests {
    pub fn count(&self, finished: &Finished<'_>) {
        let mut place = self.place().lock().unwrap_or_else(PoisonError::into_inner);
        match place.count(finished) {
            Counted::Told => {}
            Counted::Other => metrics::counter!("tenantry_analytics_other_requests_total").increment(1),
            Counted::Dropped => metrics::counter!("tenantry_analytics_dropped_requests_total").increment(1),
        }
    }

    /// Of the present thread: nobody else is in it, but who flushes.
    fn place(&self) -> &Mutex<Place> {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static THREAD: usize = THREADS.fetch_add(1, Ordering::Relaxed);
        }
        &self.places[THREAD.with(|thread| *thread) % self.places.len()]
    }

    /// Takes everything that was counted.
    pub(crate) fn take(&self) -> Batch {
        let mut batch = Batch::default();
        for place in &self.places {
            let taken = std::mem::take::<Place>(&mut place.lock().unwrap_or_else(PoisonError::into_inner));
            batch.add(taken);
        }
        batch
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counted {
    Told,
    Other,
    Dropped,
}

impl Place {
    fn count(&mut self, finished: &Finished<'_>) -> Counted {
        let key = (finished.tenant, finished.at.timestamp().div_euclid(QUARTER));
        if self.tenants.len() >= TENANTS && !self.tenants.contains_key(&key) {
            return Counted::Dropped;
        }
        let is_full = self.rows >= ROWS;
        let known = self.tenants.entry(key).or_default();
        known.note_caller(finished.subject);
        let is_told = match known.operations.get(finished.operation) {
            Some(outcomes) => !is_full || outcomes.iter().any(|(outcome, _)| *outcome == finished.outcome),
            None => !is_full && known.operations.len() < OPERATIONS,
        };
        let operation = if is_told { finished.operation } else { OTHER };
        self.rows += usize::from(known.add(operation, finished));
        if is_told { Counted::Told } else { Counted::Other }
    }
}

impl OfTenant {
    fn note_caller(&mut self, subject: &str) {
        if self.callers.len() < CALLERS && !self.callers.contains(subject) {
            self.callers.insert(subject.into());
        }
    }

    /// Answers whether it is a row that there was not.
    fn add(&mut self, operation: &str, finished: &Finished<'_>) -> bool {
        if !self.operations.contains_key(operation) {
            self.operations.insert(operation.into(), Vec::new());
        }
        let Some(outcomes) = self.operations.get_mut(operation) else { return false };
        if let Some((_, latencies)) = outcomes.iter_mut().find(|(outcome, _)| *outcome == finished.outcome) {
            latencies.add(finished.took);
            return false;
        }
        let mut latencies = Latencies::default();
        latencies.add(finished.took);
        outcomes.push((finished.outcome, latencies));
        true
    }
}

/// Of which tenant, from which quarter of an hour on, which operation with which outcome.
pub(crate) type Row = (TenantId, i64, Box<str>, &'static str);

/// What is to be written down.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) rows: BTreeMap<Row, Latencies>,
    pub(super) callers: BTreeSet<(TenantId, i64, Uuid)>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.callers.is_empty()
    }

    fn add(&mut self, place: Place) {
        for ((tenant, quarter), of_tenant) in place.tenants {
            self.callers.extend(of_tenant.callers.iter().map(|subject| (tenant, quarter, hash(tenant, subject))));
            for (operation, outcomes) in of_tenant.operations {
                for (outcome, latencies) in outcomes {
                    self.rows.entry((tenant, quarter, operation.clone(), outcome)).or_default().merge(&latencies);
                }
            }
        }
    }

    /// Adds what was counted later; what is more than may wait is dropped, and its requests are answered.
    pub(super) fn append(&mut self, later: Self) -> u64 {
        let mut dropped = 0;
        for (row, latencies) in later.rows {
            if self.rows.len() < WAITING || self.rows.contains_key(&row) {
                self.rows.entry(row).or_default().merge(&latencies);
            } else {
                dropped += latencies.count();
            }
        }
        let room = WAITING.saturating_sub(self.callers.len());
        self.callers.extend(later.callers.into_iter().take(room));
        dropped
    }
}

/// Nobody learns a subject from it that is not known, and no two tenants' are alike.
fn hash(tenant: TenantId, subject: &str) -> Uuid {
    let hash = digest(&SHA256, &[tenant.uuid().as_bytes(), subject.as_bytes()].concat());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_ref()[..16]);
    Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished<'a>(tenant: TenantId, operation: &'a str, subject: &'a str) -> Finished<'a> {
        Finished { tenant, operation, outcome: OK, took: Duration::from_millis(3), subject, at: DateTime::UNIX_EPOCH }
    }

    #[test]
    fn operations_beyond_those_that_are_told_apart_are_others_and_memory_does_not_grow() {
        let (mut place, tenant) = (Place::default(), TenantId::generate());
        for number in 0..10_000 {
            let (operation, subject) = (format!("query q{number}"), format!("subject {number}"));
            let counted = place.count(&finished(tenant, &operation, &subject));
            assert_eq!(counted == Counted::Told, number < OPERATIONS, "{number}");
        }
        let known = &place.tenants[&(tenant, 0)];
        assert_eq!(
            (known.operations.len(), known.callers.len(), place.rows),
            (OPERATIONS + 1, CALLERS, OPERATIONS + 1)
        );
        assert_eq!(known.operations[OTHER][0].1.count(), 10_000 - OPERATIONS as u64);
        // What is known is told apart all the same.
        assert_eq!(place.count(&finished(tenant, "query q7", "subject 1")), Counted::Told);
    }

    #[test]
    fn rows_and_tenants_are_bounded() {
        let mut place = Place::default();
        for number in 0..TENANTS {
            let tenant = TenantId::from_uuid(Uuid::from_u128(number as u128));
            for operation in ["a", "b", "c"] {
                assert_ne!(place.count(&finished(tenant, operation, "one")), Counted::Dropped);
            }
        }
        assert_eq!(place.count(&finished(TenantId::generate(), "a", "one")), Counted::Dropped);
        let rows: usize = place.tenants.values().map(|known| known.operations.len()).sum();
        assert!(place.rows == rows && rows <= ROWS + TENANTS, "{rows}");
    }

    #[test]
    fn what_waits_is_bounded_and_adds_up() {
        let (requests, tenant) = (Requests::default(), TenantId::generate());
        let mut waiting = Batch::default();
        for _ in 0..3 {
            requests.count(&finished(tenant, "query tenant", "one"));
            assert_eq!(waiting.append(requests.take()), 0);
        }
        assert!(requests.take().is_empty());
        let counts: Vec<_> = waiting.rows.values().map(Latencies::count).collect();
        assert_eq!((counts, waiting.callers.len()), (vec![3], 1));
    }
}
