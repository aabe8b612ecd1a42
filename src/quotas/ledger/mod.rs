//! Who may have how much: decided on plain values, for many requests at once, one after the other. Nothing here waits, reads
//! a clock or knows a database; whoever calls it holds the rows.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{limit::Limit, ticket::Ticket};
use crate::{
    error::{Error, Kind, Result},
    platform::ids::{ReservationId, TenantId},
};

/// One counter: of whom, of what, in which period.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CounterKey {
    pub tenant: TenantId,
    pub key: String,
    pub window: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    pub used: i64,
    pub reserved: i64,
}

/// What a reservation holds of one counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub counter: CounterKey,
    pub amount: i64,
}

/// What may be had of a counter, and until when what is used of it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    pub limit: Limit,
    pub resets_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    Held,
    Committed,
    Released,
    Expired,
}

impl State {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Held => "HELD",
            Self::Committed => "COMMITTED",
            Self::Released => "RELEASED",
            Self::Expired => "EXPIRED",
        }
    }
}

/// Whether a replica may promise out of what a reservation holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lease {
    /// It is a promise itself.
    #[default]
    None,
    /// Tickets are made of it, at its holder, until then.
    Open { until: DateTime<Utc> },
    /// No more tickets: it holds what those hold that have not come back.
    Closed,
}

/// A promise to a client, or a lease: what a replica holds to promise it to clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reservation {
    pub tenant: TenantId,
    pub id: ReservationId,
    pub subject: String,
    pub state: State,
    /// The tenant's own lines first, in the order of the request; what they roll up to comes behind.
    pub holds: Vec<Hold>,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    /// What was committed, by key.
    pub committed: Option<BTreeMap<String, i64>>,
    #[serde(skip)]
    pub lease: Lease,
    /// What the client knows it by, where that is no plain id.
    #[serde(skip)]
    pub ticket: Option<Ticket>,
}

impl Reservation {
    /// What a ticket of this lease promises: as much of every counter.
    fn promise(&self, ticket: &Ticket) -> Self {
        let hold = |hold: &Hold| Hold { counter: hold.counter.clone(), amount: ticket.amount };
        Self {
            id: ticket.id(),
            holds: self.holds.iter().map(hold).collect(),
            lease: Lease::None,
            ticket: Some(ticket.clone()),
            ..self.clone()
        }
    }

    /// What a lease has left; the same of every counter.
    fn left(&self) -> i64 {
        self.holds.iter().map(|hold| hold.amount).min().unwrap_or_default()
    }

    /// The tenant's own lines.
    pub fn lines(&self) -> impl Iterator<Item = &Hold> {
        self.holds.iter().filter(|hold| hold.counter.tenant == self.tenant)
    }
}

/// The rows that a batch holds, and what becomes of them.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub counters: BTreeMap<CounterKey, Counter>,
    /// By counter: what may be had of it. Asked for reserving alone.
    pub terms: BTreeMap<CounterKey, Terms>,
    pub reservations: BTreeMap<(TenantId, ReservationId), Reservation>,
    /// What has to be written.
    pub changed_counters: BTreeSet<CounterKey>,
    pub made: Vec<(TenantId, ReservationId)>,
    pub ended: BTreeSet<(TenantId, ReservationId)>,
    /// Leases that hold less than before, or were closed.
    pub changed_leases: BTreeSet<(TenantId, ReservationId)>,
    /// Soft limits that were passed.
    pub passed: Vec<CounterKey>,
}

impl Ledger {
    /// Whose counters have changed.
    pub fn changed_tenants(&self) -> BTreeSet<TenantId> {
        self.changed_counters.iter().map(|counter| counter.tenant).collect()
    }

    /// Holds every line of the reservation, or none.
    pub fn reserve(&mut self, reservation: Reservation) -> Result<()> {
        for (index, hold) in reservation.holds.iter().enumerate() {
            self.check_room(&reservation, index, hold)?;
        }
        for hold in &reservation.holds {
            let limit = self.terms.get(&hold.counter).and_then(|terms| terms.limit.limit);
            let counter = self.counters.entry(hold.counter.clone()).or_default();
            let before = counter.used + counter.reserved;
            counter.reserved += hold.amount;
            if limit.is_some_and(|limit| before <= limit && limit < before + hold.amount) {
                self.passed.push(hold.counter.clone());
            }
            self.changed_counters.insert(hold.counter.clone());
        }
        let id = (reservation.tenant, reservation.id);
        self.made.push(id);
        self.reservations.insert(id, reservation);
        Ok(())
    }

    /// How much may be held on top without coming near a limit that would be passed; none where nothing is limited.
    pub fn room(&self, holds: &[Hold]) -> Option<i64> {
        let room = |hold: &Hold| {
            let limit = self.terms.get(&hold.counter)?.limit.limit?;
            let counter = self.counters.get(&hold.counter).copied().unwrap_or_default();
            Some(limit.saturating_sub(counter.used).saturating_sub(counter.reserved).max(0))
        };
        holds.iter().filter_map(room).min()
    }

    /// Whether these would fit if so much less were held of the counters.
    pub fn would_fit(&self, holds: &[Hold], less: &BTreeMap<CounterKey, i64>) -> bool {
        holds.iter().all(|hold| {
            let counter = self.counters.get(&hold.counter).copied().unwrap_or_default();
            let held = counter.reserved.saturating_sub(less.get(&hold.counter).copied().unwrap_or_default());
            let after = counter.used.saturating_add(held).saturating_add(hold.amount);
            let ceiling = self.terms.get(&hold.counter).and_then(|terms| terms.limit.ceiling());
            ceiling.is_none_or(|ceiling| after <= ceiling)
        })
    }

    fn check_room(&self, reservation: &Reservation, index: usize, hold: &Hold) -> Result<()> {
        let counter = self.counters.get(&hold.counter).copied().unwrap_or_default();
        let after = counter.used.checked_add(counter.reserved).and_then(|sum| sum.checked_add(hold.amount));
        let Some(after) = after else {
            return Err(Error::invalid(format!("lines[{index}].amount"), "is more than can be counted"));
        };
        let terms = self.terms.get(&hold.counter).ok_or_else(|| Error::internal("a counter has no limit"))?;
        match terms.limit.ceiling() {
            Some(ceiling) if after > ceiling && hold.counter.tenant == reservation.tenant => {
                let key = &hold.counter.key;
                Err(Error::new(Kind::QuotaExceeded, format!("the quota `{key}` has not enough left"))
                    .at(format!("lines[{index}]"))
                    .with(json!({
                        "key": key, "limit": terms.limit.limit, "used": counter.used, "reserved": counter.reserved,
                        "requested": hold.amount, "resetsAt": terms.resets_at,
                    })))
            }
            // The parent's figures are the parent's.
            Some(ceiling) if after > ceiling => {
                let key = &hold.counter.key;
                let sentence = format!("the quota `{key}` that the tenant shares has not enough left");
                Err(Error::new(Kind::QuotaExceeded, sentence).with(json!({ "key": key, "requested": hold.amount })))
            }
            _ => Ok(()),
        }
    }

    /// Turns what is held into what is used: `actual` of each key, at most what was reserved; all of it where none is named.
    pub fn commit(
        &mut self,
        id: (TenantId, ReservationId),
        actual: &BTreeMap<String, i64>,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let reservation = self.promised(id)?;
        let committed = committed(reservation, actual)?;
        match reservation.state {
            State::Held if now < reservation.expires_at => {}
            State::Committed if reservation.committed.as_ref() == Some(&committed) => return Ok(()),
            State::Held => return Err(ended(State::Expired)),
            state => return Err(ended(state)),
        }
        self.end(id, State::Committed, Some(committed));
        Ok(())
    }

    /// Gives back what is held. To do so twice changes nothing.
    pub fn release(&mut self, id: (TenantId, ReservationId), now: DateTime<Utc>) -> Result<()> {
        let reservation = self.promised(id)?;
        match reservation.state {
            State::Held => {
                self.end(id, if now < reservation.expires_at { State::Released } else { State::Expired }, None)
            }
            State::Released | State::Expired => {}
            State::Committed => return Err(ended(State::Committed)),
        }
        Ok(())
    }

    /// A lease is no promise: who knows its id can do nothing with it.
    fn promised(&self, id: (TenantId, ReservationId)) -> Result<&Reservation> {
        let found = self.reservations.get(&id).filter(|found| found.lease == Lease::None);
        found.ok_or_else(Error::not_found)
    }

    /// Takes what the ticket promises out of its lease, as a reservation of its own that is ended next. Where it was ended
    /// before, that stands. A lease whose time is over, or that was forgotten, has no tickets any more.
    pub fn present(&mut self, tenant: TenantId, ticket: &Ticket, now: DateTime<Utc>) -> Result<()> {
        if let Some(known) = self.reservations.get_mut(&(tenant, ticket.id())) {
            known.ticket = Some(ticket.clone());
            return Ok(());
        }
        let id = (tenant, ticket.lease);
        let lease = self.reservations.get_mut(&id).filter(|lease| lease.lease != Lease::None);
        let lease = lease.filter(|lease| lease.state == State::Held && now < lease.expires_at);
        let lease = lease.ok_or_else(|| ended(State::Expired))?;
        if lease.left() < ticket.amount {
            return Err(Error::internal("a lease holds less than its tickets"));
        }
        let promise = lease.promise(ticket);
        self.take(id, ticket.amount);
        self.made.push((tenant, promise.id));
        self.reservations.insert((tenant, promise.id), promise);
        Ok(())
    }

    /// Gives back what a lease has not promised. To do so twice changes nothing.
    pub fn close(&mut self, id: (TenantId, ReservationId), idle: i64) {
        let Some(lease) = self.reservations.get_mut(&id) else { return };
        if lease.state != State::Held || !matches!(lease.lease, Lease::Open { .. }) {
            return;
        }
        lease.lease = Lease::Closed;
        let idle = idle.clamp(0, lease.left());
        for hold in lease.holds.clone() {
            let counter = self.counters.entry(hold.counter.clone()).or_default();
            counter.reserved = counter.reserved.saturating_sub(idle).max(0);
            self.changed_counters.insert(hold.counter);
        }
        self.take(id, idle);
    }

    /// A lease holds so much less; one that is closed and holds nothing has ended.
    fn take(&mut self, id: (TenantId, ReservationId), amount: i64) {
        let Some(lease) = self.reservations.get_mut(&id) else { return };
        for hold in &mut lease.holds {
            hold.amount -= amount;
        }
        if lease.lease == Lease::Closed && lease.left() == 0 {
            lease.state = State::Released;
            self.ended.insert(id);
        }
        self.changed_leases.insert(id);
    }

    /// Gives back what is held too long.
    pub fn expire(&mut self, id: (TenantId, ReservationId), now: DateTime<Utc>) {
        let due = |reservation: &Reservation| reservation.state == State::Held && reservation.expires_at <= now;
        if self.reservations.get(&id).is_some_and(due) {
            self.end(id, State::Expired, None);
        }
    }

    /// Says how much of the first counter is used, whatever was counted; the others, to which it rolls up, change by as much.
    pub fn set_used(&mut self, counters: &[CounterKey], used: i64) {
        let Some(own) = counters.first() else { return };
        let by = used - self.counters.get(own).copied().unwrap_or_default().used;
        for key in counters {
            let limit = self.terms.get(key).and_then(|terms| terms.limit.limit);
            let found = self.counters.entry(key.clone()).or_default();
            let before = found.used.saturating_add(found.reserved);
            found.used = found.used.saturating_add(by).max(0);
            let after = found.used.saturating_add(found.reserved);
            if limit.is_some_and(|limit| before <= limit && limit < after) {
                self.passed.push(key.clone());
            }
            self.changed_counters.insert(key.clone());
        }
    }

    /// Counts so much more, or less, of each counter: once, whatever the limit. `record` says that it was done.
    pub fn count(&mut self, record: Reservation, counters: &[CounterKey], by: i64) {
        let id = (record.tenant, record.id);
        if self.reservations.contains_key(&id) {
            return;
        }
        for key in counters {
            let found = self.counters.entry(key.clone()).or_default();
            found.used = found.used.saturating_add(by).max(0);
            self.changed_counters.insert(key.clone());
        }
        self.made.push(id);
        self.reservations.insert(id, record);
    }

    fn end(&mut self, id: (TenantId, ReservationId), state: State, committed: Option<BTreeMap<String, i64>>) {
        let Some(reservation) = self.reservations.get_mut(&id) else { return };
        for hold in &reservation.holds {
            let counter = self.counters.entry(hold.counter.clone()).or_default();
            // Never below zero: a counter whose row was removed by hand must not stop the rest.
            counter.reserved = counter.reserved.saturating_sub(hold.amount).max(0);
            let used = committed.as_ref().and_then(|committed| committed.get(&hold.counter.key));
            counter.used = counter.used.saturating_add(used.copied().unwrap_or_default());
            self.changed_counters.insert(hold.counter.clone());
        }
        reservation.state = state;
        reservation.committed = committed;
        self.ended.insert(id);
    }
}

/// What is committed of each line; an error where it names what was not reserved, or more of it.
fn committed(reservation: &Reservation, actual: &BTreeMap<String, i64>) -> Result<BTreeMap<String, i64>> {
    let mut committed: BTreeMap<_, _> =
        reservation.lines().map(|line| (line.counter.key.clone(), line.amount)).collect();
    for (key, amount) in actual {
        let reserved =
            committed.get_mut(key).ok_or_else(|| Error::invalid("lines", format!("`{key}` was not reserved")))?;
        if *amount < 0 || *amount > *reserved {
            let rule = format!("`{key}` must be between 0 and {reserved}, what was reserved");
            return Err(Error::invalid("lines", rule));
        }
        *reserved = *amount;
    }
    Ok(committed)
}

fn ended(state: State) -> Error {
    let how = match state {
        State::Expired => "expired",
        State::Released => "was released",
        State::Held | State::Committed => "was committed",
    };
    Error::conflict(format!("the reservation {how}")).with(json!({ "state": state.name() }))
}

#[cfg(test)]
mod tests;
