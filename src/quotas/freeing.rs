//! What gives back what is held: reservations whose time is over, and leases that are no longer drawn from.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::{
    batch::{Kept, counters_of, finish},
    desk::Desk,
    leases::{Closing, Leases},
    ledger::{CounterKey, Ledger, Reservation},
    store::{self, Id},
};
use crate::{
    error::Result,
    isolation::{OperatorScope, OperatorTx},
    platform::ids::TenantId,
};

const AT_ONCE: u64 = 500;
/// Of so many of the oldest, each tenant has its turn.
const SEEN: u64 = 10_000;

/// What leases give back; put back where the transaction that was to take it has failed. To take it twice changes nothing.
#[derive(Debug)]
pub(super) struct ComingBack<'a> {
    leases: &'a Leases,
    pub(super) closing: Vec<Closing>,
}

impl<'a> ComingBack<'a> {
    pub(super) fn of(leases: &'a Leases, tenants: BTreeSet<TenantId>) -> Self {
        Self { leases, closing: leases.closing_of(tenants.into_iter()) }
    }

    pub(super) fn done(mut self) {
        self.closing.clear();
    }

    fn ids(&self) -> BTreeSet<Id> {
        self.closing.iter().map(|closing| (closing.tenant, closing.lease)).collect()
    }
}

impl Drop for ComingBack<'_> {
    fn drop(&mut self) {
        self.leases.put_back(self.closing.drain(..));
    }
}

/// Whether what was refused may fit: its tenants have reservations whose time is over, or this replica has leases of it, which
/// stop here.
pub(super) async fn may_fit(
    desk: &Desk,
    tx: &OperatorTx,
    refused: &BTreeSet<(TenantId, String)>,
    now: DateTime<Utc>,
) -> Result<bool> {
    if refused.is_empty() {
        return Ok(false);
    }
    let stopped = refused.iter().filter(|(tenant, key)| desk.leases.stop(*tenant, key)).count();
    let tenants = refused.iter().map(|(tenant, _)| *tenant).collect();
    Ok(stopped > 0 || !store::lock_due_of(tx, &tenants, now, 1).await?.is_empty())
}

/// What other replicas may still hold of what was refused without having promised it.
pub(super) async fn leased_elsewhere(
    tx: &OperatorTx,
    refused: &BTreeSet<(TenantId, String)>,
    now: DateTime<Utc>,
) -> Result<BTreeMap<CounterKey, i64>> {
    let mut leased = BTreeMap::new();
    if refused.is_empty() {
        return Ok(leased);
    }
    let tenants = refused.iter().map(|(tenant, _)| *tenant).collect();
    for hold in store::find_leases(tx, &tenants, now).await?.into_values().flat_map(|lease| lease.holds) {
        *leased.entry(hold.counter).or_default() += hold.amount;
    }
    Ok(leased)
}

/// Begin of the notification by which replicas ask each other for what they have leased: tenant and key follow.
const RECALL: &str = "quota";

/// Asks other replicas, at commit, to give back what they have leased of these counters and nobody took.
pub(super) async fn recall(tx: &OperatorTx, counters: impl Iterator<Item = &CounterKey>) -> Result<()> {
    for counter in counters {
        let told = format!("{RECALL} {} {}", counter.tenant, counter.key);
        tx.row("select pg_notify('tenantry', $1)::text", [told.into()]).await?;
    }
    Ok(())
}

/// What a notification asks for.
pub(super) fn recalled(told: &str) -> Option<(TenantId, &str)> {
    let mut words = told.split(' ');
    let (recall, tenant, key) = (words.next()?, words.next()?, words.next()?);
    Some((tenant.parse().ok()?, key)).filter(|_| recall == RECALL)
}

/// Gives back what is over of these tenants.
pub(super) async fn free(desk: &Desk, tenants: &BTreeSet<TenantId>) -> Result<()> {
    let now = desk.isolation.clock().now();
    let coming_back = ComingBack::of(&desk.leases, tenants.clone());
    let tx = desk.isolation.begin_operator(&OperatorScope::system("quotas")).await?;
    // What waits for a lock comes before what takes only rows that nobody holds: so nobody waits in a circle.
    let leases = store::lock_reservations(&tx, &coming_back.ids()).await?;
    let due = store::lock_due_of(&tx, tenants, now, AT_ONCE).await?;
    settle(desk, tx, leases, due, &coming_back.closing, now).await?;
    coming_back.done();
    Ok(())
}

/// Ends reservations whose time is over, of all tenants in turns; answers how many.
pub(super) async fn expire(desk: &Desk) -> Result<usize> {
    let now = desk.isolation.clock().now();
    let tx = desk.isolation.begin_operator(&OperatorScope::system("quotas")).await?;
    let due = store::lock_due(&tx, now, AT_ONCE, SEEN).await?;
    let ended = due.len();
    settle(desk, tx, BTreeMap::new(), due, &[], now).await?;
    Ok(ended)
}

/// Closes this replica's leases whose time is over; all of them where `now` is none.
pub(super) async fn close(desk: &Desk, now: Option<DateTime<Utc>>) -> Result<()> {
    let mut closing = desk.leases.closing(now);
    while !closing.is_empty() {
        let rest = closing.split_off(closing.len().min(AT_ONCE as usize));
        desk.leases.put_back(rest.iter().copied());
        let coming_back = ComingBack { leases: &desk.leases, closing };
        let tx = desk.isolation.begin_operator(&OperatorScope::system("quotas")).await?;
        let leases = store::lock_reservations(&tx, &coming_back.ids()).await?;
        settle(desk, tx, leases, BTreeMap::new(), &coming_back.closing, desk.isolation.clock().now()).await?;
        coming_back.done();
        closing = if rest.is_empty() { rest } else { desk.leases.closing(now) };
    }
    Ok(())
}

async fn settle(
    desk: &Desk,
    tx: OperatorTx,
    leases: BTreeMap<Id, Reservation>,
    due: BTreeMap<Id, Reservation>,
    closing: &[Closing],
    now: DateTime<Utc>,
) -> Result<()> {
    let over: Vec<Id> = due.keys().copied().collect();
    let mut ledger = Ledger { reservations: leases, ..Ledger::default() };
    ledger.reservations.extend(due);
    let counters = counters_of(&ledger, std::iter::empty());
    if !counters.is_empty() {
        ledger.counters = store::lock_counters(&tx, &counters).await?.0;
    }
    for closing in closing {
        ledger.close((closing.tenant, closing.lease), closing.idle);
    }
    for id in over {
        ledger.expire(id, now);
    }
    finish(desk, tx, &ledger, &Kept::new(), now).await
}
