//! What this replica has leased of hot counters, and promises from memory.
//!
//! A lease is a reservation that the database holds like any other, so what is promised out of it can never be too much,
//! whatever dies. It is taken where a counter is asked for again and again, is small beside the room that the counter has, is drawn
//! from for `quotas.lease` and while what its limits were decided on stands, and gives back then what nobody took.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};

use super::{batch::Standing, ledger::Reservation};
use crate::platform::ids::{ReservationId, TenantId};

const SHARDS: usize = 64;
/// A counter that was asked for as often as this within a span is worth a lease.
const HOT: u32 = 2;
/// A lease is at most for so many times what was asked for until now: two requests at once are no thousand a second.
const GROWTH: i64 = 20;
/// A lease takes at most this part of what there is room for: others must find enough without it.
const PART_OF_ROOM: i64 = 16;
/// So small a part of it nobody misses: it is leased before there is a pace to go by, for so many requests at most.
const UNMISSED: i64 = 1024;
const AMPLE: i64 = 500;
/// One that serves fewer requests than this is not worth its row.
const WORTH: i64 = 4;

/// What the limits of a lease were decided on: how far the journals of the tenant and of the platform were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Basis {
    pub(super) tenant: i64,
    pub(super) platform: i64,
}

/// A lease that this replica holds.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) row: Reservation,
    pub(super) until: DateTime<Utc>,
    pub(super) basis: Basis,
    /// How its counter stood when it was taken, without it.
    pub(super) standing: Standing,
    pub(super) left: i64,
    pub(super) drawn: i64,
    pub(super) serial: u32,
}

/// What was drawn, before it has its ticket.
#[derive(Debug)]
pub(super) struct Drawn {
    pub(super) row: Reservation,
    pub(super) serial: u32,
    pub(super) standing: Standing,
}

/// What comes of asking memory.
#[derive(Debug)]
pub(super) enum Asked {
    Drawn(Box<Drawn>),
    /// Ask the database. So much would be asked for until a lease of now ends; none where the counter is cold.
    Wanting(Option<i64>),
}

/// A lease that is to be closed, and what comes back of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closing {
    pub(super) tenant: TenantId,
    pub(super) lease: ReservationId,
    pub(super) idle: i64,
}

/// How often one counter of a tenant is asked for, and what is leased of it.
#[derive(Debug)]
struct Demand {
    key: String,
    span_began: DateTime<Utc>,
    requests: u32,
    units: i64,
    /// Units of the span before.
    before: i64,
    held: Option<Held>,
}

#[derive(Debug, Default)]
struct Shard {
    tenants: HashMap<TenantId, Vec<Demand>>,
    closing: Vec<Closing>,
}

#[derive(Debug)]
pub(super) struct Leases {
    shards: Box<[Mutex<Shard>]>,
    /// How long a lease is drawn from; zero: there are none.
    lasts: TimeDelta,
}

impl Leases {
    pub(super) fn new(lasts: TimeDelta) -> Self {
        Self { shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(), lasts }
    }

    pub(super) fn lasts(&self) -> TimeDelta {
        self.lasts
    }

    /// Takes `amount` out of what is leased, where that was decided on what is known now.
    pub(super) fn ask(&self, tenant: TenantId, key: &str, amount: i64, now: DateTime<Utc>, known: Basis) -> Asked {
        if self.lasts.is_zero() {
            return Asked::Wanting(None);
        }
        let shard = &mut *self.shard(tenant);
        let demands = shard.tenants.entry(tenant).or_default();
        let place = demands.iter().position(|demand| demand.key == key).unwrap_or_else(|| {
            demands.push(Demand::new(key, now));
            demands.len() - 1
        });
        let demand = &mut demands[place];
        demand.count(amount, now, self.lasts);
        if let Some(held) = &mut demand.held {
            if now < held.until && amount <= held.left && held.serial < u32::MAX && held.basis == known {
                return Asked::Drawn(Box::new(held.draw(amount)));
            }
            shard.closing.extend(demand.held.take().map(|held| held.closing(tenant)));
        }
        Asked::Wanting(demand.wanted(amount, now, self.lasts))
    }

    /// How much to lease of a counter with this room (none: no limit); none where a lease is not worth it, or is there already.
    pub(super) fn size(&self, tenant: TenantId, key: &str, wanted: i64, amount: i64, room: Option<i64>) -> Option<i64> {
        let ample = amount.saturating_mul(AMPLE);
        let size = match room {
            None => wanted.max(ample),
            Some(room) => wanted.max(ample.min(room / UNMISSED)).min(room / PART_OF_ROOM),
        };
        let is_held = self.shard(tenant).find(tenant, key).is_some_and(|demand| demand.held.is_some());
        (!is_held && size >= amount.saturating_mul(WORTH)).then_some(size)
    }

    /// From now on it is drawn from.
    pub(super) fn hold(&self, held: Held) {
        let (tenant, key) = (held.row.tenant, held.standing.key.clone());
        let shard = &mut *self.shard(tenant);
        let held = match shard.find_mut(tenant, &key) {
            Some(demand) => demand.held.replace(held),
            None => Some(held),
        };
        shard.closing.extend(held.map(|held| held.closing(tenant)));
    }

    /// The lease of this counter is no longer drawn from: somebody would be refused while it holds what nobody took. Answers
    /// whether there was one.
    pub(super) fn stop(&self, tenant: TenantId, key: &str) -> bool {
        let shard = &mut *self.shard(tenant);
        let held = shard.find_mut(tenant, key).and_then(|demand| demand.held.take());
        let was_held = held.is_some();
        shard.closing.extend(held.map(|held| held.closing(tenant)));
        was_held
    }

    /// What is to be closed of these tenants. Who takes it and fails puts it back.
    pub(super) fn closing_of(&self, tenants: impl Iterator<Item = TenantId>) -> Vec<Closing> {
        let mut found = Vec::new();
        for tenant in tenants {
            found.extend(self.shard(tenant).closing.extract_if(.., |closing| closing.tenant == tenant));
        }
        found
    }

    /// Stops leases whose time is over (all of them where `now` is none), forgets what nobody asked for lately, and answers what is to be
    /// closed.
    pub(super) fn closing(&self, now: Option<DateTime<Utc>>) -> Vec<Closing> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = &mut *shard.lock().unwrap_or_else(PoisonError::into_inner);
            for (tenant, demands) in &mut shard.tenants {
                for demand in &mut *demands {
                    let is_over = |held: &mut Held| now.is_none_or(|now| held.until <= now);
                    shard.closing.extend(demand.held.take_if(is_over).map(|held| held.closing(*tenant)));
                }
                let is_cold = |demand: &Demand| now.is_none_or(|now| demand.span_began + self.lasts * 2 <= now);
                demands.retain(|demand| demand.held.is_some() || !is_cold(demand));
            }
            shard.tenants.retain(|_, demands| !demands.is_empty());
            found.append(&mut shard.closing);
        }
        found
    }

    pub(super) fn put_back(&self, closing: impl IntoIterator<Item = Closing>) {
        for closing in closing {
            self.shard(closing.tenant).closing.push(closing);
        }
    }

    /// What this replica holds of a counter and has promised to nobody.
    pub(super) fn idle(&self, tenant: TenantId, key: &str, window: &str) -> i64 {
        let shard = self.shard(tenant);
        let Some(held) = shard.find(tenant, key).and_then(|demand| demand.held.as_ref()) else { return 0 };
        if held.row.holds.first().is_some_and(|hold| hold.counter.window == window) { held.left } else { 0 }
    }

    fn shard(&self, tenant: TenantId) -> MutexGuard<'_, Shard> {
        // A random UUID needs no hashing.
        let index = tenant.uuid().as_bytes()[15] as usize % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn find(&self, tenant: TenantId, key: &str) -> Option<&Demand> {
        self.tenants.get(&tenant)?.iter().find(|demand| demand.key == key)
    }

    fn find_mut(&mut self, tenant: TenantId, key: &str) -> Option<&mut Demand> {
        self.tenants.get_mut(&tenant)?.iter_mut().find(|demand| demand.key == key)
    }
}

impl Demand {
    fn new(key: &str, now: DateTime<Utc>) -> Self {
        Self { key: key.to_owned(), span_began: now, requests: 0, units: 0, before: 0, held: None }
    }

    fn count(&mut self, amount: i64, now: DateTime<Utc>, span: TimeDelta) {
        if now - self.span_began >= span {
            let is_next = now - self.span_began < span * 2;
            self.before = if is_next { self.units } else { 0 };
            // Who was hot stays hot: the next span need not find out again.
            self.requests = if is_next { self.requests.min(HOT) } else { 0 };
            (self.span_began, self.units) = (now, 0);
        }
        self.requests = self.requests.saturating_add(1);
        self.units = self.units.saturating_add(amount);
    }

    /// What will be asked for within a span, if it goes on like this; or what the span before has seen.
    fn wanted(&self, amount: i64, now: DateTime<Utc>, span: TimeDelta) -> Option<i64> {
        let elapsed = (now - self.span_began).num_milliseconds().max(1);
        let factor = (span.num_milliseconds() / elapsed).clamp(2, GROWTH);
        let likely = self.units.saturating_mul(factor).max(self.before).max(amount.saturating_mul(WORTH));
        (self.requests >= HOT).then_some(likely)
    }
}

impl Held {
    fn draw(&mut self, amount: i64) -> Drawn {
        self.left -= amount;
        self.drawn += amount;
        self.serial += 1;
        let mut standing = self.standing.clone();
        standing.reserved = standing.reserved.saturating_add(self.drawn);
        Drawn { row: self.row.clone(), serial: self.serial, standing }
    }

    fn closing(&self, tenant: TenantId) -> Closing {
        Closing { tenant, lease: self.row.id, idle: self.left }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quotas::ledger::{CounterKey, Hold, Lease, State};

    const KNOWN: Basis = Basis { tenant: 7, platform: 3 };

    fn at(millisecond: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(millisecond).unwrap()
    }

    fn tenant() -> TenantId {
        TenantId::from_uuid(uuid::Uuid::from_u128(9))
    }

    fn leases() -> Leases {
        Leases::new(TimeDelta::seconds(2))
    }

    fn held(amount: i64) -> Held {
        let counter = CounterKey { tenant: tenant(), key: "users".into(), window: String::new() };
        let row = Reservation {
            tenant: tenant(),
            id: ReservationId::from_uuid(uuid::Uuid::from_u128(1)),
            subject: "service".into(),
            state: State::Held,
            holds: vec![Hold { counter, amount }],
            created_at: at(0),
            expires_at: at(302_000),
            committed: None,
            lease: Lease::Open { until: at(2000) },
            ticket: None,
        };
        let standing = Standing {
            key: "users".into(),
            limit: Some(1000),
            used: 5,
            reserved: 10,
            resets_at: None,
            version: "7.3".into(),
        };
        Held { row, until: at(2000), basis: KNOWN, standing, left: amount, drawn: 0, serial: 0 }
    }

    fn wanting(leases: &Leases, amount: i64, now: i64) -> Option<i64> {
        match leases.ask(tenant(), "users", amount, at(now), KNOWN) {
            Asked::Wanting(wanted) => wanted,
            Asked::Drawn(drawn) => panic!("{drawn:?}"),
        }
    }

    /// Leases of a counter that is hot, with this one.
    fn holding(amount: i64) -> Leases {
        let leases = leases();
        (0..3).for_each(|now| _ = wanting(&leases, 1, now));
        leases.hold(held(amount));
        leases
    }

    #[test]
    fn a_counter_is_hot_that_is_asked_for_again_within_a_span() {
        let often = leases();
        assert_eq!([0, 500, 1000].map(|now| wanting(&often, 5, now)), [None, Some(40), Some(30)], "at this pace");
        let at_once = leases();
        assert_eq!([0, 1].map(|now| wanting(&at_once, 5, now)), [None, Some(200)], "within reason");
        let seldom = leases();
        assert_eq!([0, 4000, 8000, 12_000].map(|now| wanting(&seldom, 5, now)), [None; 4]);
        let switched_off = Leases::new(TimeDelta::zero());
        assert_eq!([0, 1, 2, 3].map(|now| wanting(&switched_off, 5, now)), [None; 4]);
    }

    #[test]
    fn a_lease_is_as_large_as_the_demand_and_small_beside_the_room() {
        let leases = leases();
        let size = |wanted, amount, room| leases.size(tenant(), "users", wanted, amount, room);
        assert_eq!(size(900, 1, None), Some(900));
        assert_eq!(size(10, 2, None), Some(1000), "nobody misses it");
        assert_eq!(size(100, 1, Some(204_800)), Some(200), "nobody misses a thousandth");
        assert_eq!(size(100, 1, Some(100_000)), Some(100));
        assert_eq!(size(100, 1, Some(160)), Some(10));
        assert_eq!(size(100, 1, Some(63)), None, "three requests are not worth a row");
        assert_eq!(size(100, 3, Some(160)), None);
        assert_eq!(size(100, 1, Some(0)), None);
        assert_eq!(holding(5).size(tenant(), "users", 100, 1, None), None, "there is one");
    }

    #[test]
    fn what_is_drawn_is_never_more_than_what_is_held_and_every_draw_has_a_number() {
        let leases = holding(10);
        let mut serials = Vec::new();
        for _ in 0..3 {
            let Asked::Drawn(drawn) = leases.ask(tenant(), "users", 3, at(10), KNOWN) else { panic!("it has enough") };
            serials.push((drawn.serial, drawn.standing.reserved));
        }
        assert_eq!(serials, [(1, 13), (2, 16), (3, 19)]);
        assert_eq!(leases.idle(tenant(), "users", ""), 1);
        assert!(wanting(&leases, 3, 11).is_some());
        let closing = leases.closing_of([tenant()].into_iter());
        assert_eq!(closing.iter().map(|closing| closing.idle).collect::<Vec<_>>(), [1], "and it comes back");
    }

    #[test]
    fn a_lease_is_not_drawn_from_after_its_time_or_when_something_has_changed() {
        for (now, known) in [(2000, KNOWN), (10, Basis { tenant: 8, ..KNOWN }), (10, Basis { platform: 4, ..KNOWN })] {
            let leases = holding(10);
            assert!(matches!(leases.ask(tenant(), "users", 1, at(now), known), Asked::Wanting(_)));
            assert_eq!(leases.closing(Some(at(now))).len(), 1);
        }
    }

    #[test]
    fn what_is_over_is_closed_and_what_is_cold_forgotten() {
        let leases = holding(10);
        assert_eq!(leases.closing(Some(at(1999))), []);
        let closing = leases.closing(Some(at(2000)));
        assert_eq!(closing.len(), 1);
        leases.put_back(closing.clone());
        assert_eq!(leases.closing(Some(at(2001))), closing, "who fails puts it back");
        leases.closing(Some(at(4001)));
        assert!(leases.shard(tenant()).tenants.is_empty());
        assert_eq!(holding(10).closing(None).len(), 1, "all of them, at the end");
        assert!(holding(10).stop(tenant(), "users"));
    }
}
