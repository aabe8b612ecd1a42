//! Taking leases: beside what a batch decides, of counters that are asked for again and again.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::{
    batch::{Answer, Ask, Job},
    desk::Desk,
    known::Known,
    leases::Held,
    ledger::{Hold, Lease, Ledger, Reservation},
};
use crate::{error::Result, platform::ids::ReservationId};

/// Leases for the jobs that want one, reserved like anything else. Not of what rolls up: others than the tenant itself count on
/// that room.
pub(super) fn take(
    desk: &Desk,
    ledger: &mut Ledger,
    jobs: &[Job],
    answers: &[Result<Answer>],
    known: &Known,
    now: DateTime<Utc>,
) -> Vec<Held> {
    let (mut taken, mut leased) = (BTreeSet::new(), Vec::new());
    for (job, answer) in jobs.iter().zip(answers) {
        let Ask::Reserve { lease: Some(wanted), .. } = job.ask else { continue };
        let Ok(Answer { reservation: Some(granted), .. }) = answer else { continue };
        let [hold] = granted.holds.as_slice() else { continue };
        if taken.insert(&hold.counter) {
            leased.extend(take_one(desk, ledger, granted, hold, wanted, known, now));
        }
    }
    leased
}

fn take_one(
    desk: &Desk,
    ledger: &mut Ledger,
    granted: &Reservation,
    hold: &Hold,
    wanted: i64,
    known: &Known,
    now: DateTime<Utc>,
) -> Option<Held> {
    let room = ledger.room(std::slice::from_ref(hold));
    let amount = desk.leases.size(granted.tenant, &hold.counter.key, wanted, hold.amount, room)?;
    let terms = *ledger.terms.get(&hold.counter)?;
    let ends = now + desk.leases.lasts();
    let until = terms.resets_at.map_or(ends, |resets_at| resets_at.min(ends));
    if !known.is_steady(&hold.counter, now, until) {
        return None;
    }
    let standing = known.standing(granted.tenant, &hold.counter, ledger, now);
    let row = Reservation {
        id: ReservationId::generate(),
        holds: vec![Hold { counter: hold.counter.clone(), amount }],
        created_at: now,
        // Who draws last has as long as who draws first.
        expires_at: ends + desk.reservation(),
        lease: Lease::Open { until },
        ..granted.clone()
    };
    ledger.reserve(row.clone()).ok()?;
    Some(Held { row, until, basis: known.basis(granted.tenant)?, standing, left: amount, drawn: 0, serial: 0 })
}
