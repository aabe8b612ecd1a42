//! One batch: lock, decide, write, commit.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    desk::Desk,
    freeing::{self, ComingBack},
    known::Known,
    leases::Closing,
    leasing,
    ledger::{CounterKey, Hold, Lease, Ledger, Reservation, State},
    settling,
    store::{self, Id, Keep, Once},
    ticket::Ticket,
};
use crate::{
    error::{Context as _, Error, Kind, Result},
    isolation::{IdempotencyKey, OperatorScope, OperatorTx},
    journal::Entry,
    platform::ids::{ReservationId, TenantId},
};

/// What a tenant asks for.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) tenant: TenantId,
    pub(super) subject: String,
    pub(super) ask: Ask,
    /// Whether it is asked again where another replica may still hold what it needs.
    pub(super) is_patient: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Ask {
    Reserve {
        lines: Vec<(String, i64)>,
        lasts: TimeDelta,
        once: Option<IdempotencyKey>,
        /// How much of its one line a lease would be asked for; none where none is wanted.
        lease: Option<i64>,
    },
    Commit {
        of: Named,
        actual: BTreeMap<String, i64>,
    },
    Release {
        of: Named,
    },
    SetUsed {
        key: String,
        used: i64,
    },
    /// Counts so much more, or less, once for the id.
    Count {
        id: ReservationId,
        key: String,
        by: i64,
    },
}

/// What a client calls a reservation.
#[derive(Clone, Debug)]
pub(super) enum Named {
    Id(ReservationId),
    Ticket(Ticket),
}

impl Named {
    fn id(&self) -> ReservationId {
        match self {
            Self::Id(id) => *id,
            Self::Ticket(ticket) => ticket.id(),
        }
    }
}

/// A decision, and how the counters stood right after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    pub reservation: Option<Reservation>,
    pub standings: Vec<Standing>,
}

/// How one quota of a tenant stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    pub key: String,
    /// None is unlimited.
    pub limit: Option<i64>,
    pub used: i64,
    pub reserved: i64,
    pub resets_at: Option<DateTime<Utc>>,
    /// Versions of tenant and platform that the limit was decided on.
    #[serde(default)]
    pub version: String,
}

const ATTEMPTS: usize = 5;
/// How long it is known that something was counted.
const COUNTED_ONCE: TimeDelta = TimeDelta::days(30);

/// What becomes of a job. None: it would be refused, but another replica may still hold what it has promised to nobody; ask
/// again in a moment.
pub(super) type Decision = Option<Result<Answer>>;

/// Decides all jobs in one transaction. The outer error is the transaction's: then nothing was done.
pub(super) async fn decide(desk: &Desk, jobs: &[Job]) -> Result<Vec<Decision>> {
    // Before rows are locked: it needs them, too.
    settling::settle(desk, &jobs.iter().map(|job| job.tenant).collect::<Vec<_>>()).await?;
    let mut refusals = Refusals::MayBeOutdated;
    for _ in 0..ATTEMPTS {
        match attempt(desk, jobs, refusals).await? {
            Attempt::Done(decisions) => return Ok(decisions),
            Attempt::Moved => {}
            Attempt::MayFit(tenants) => {
                freeing::free(desk, &tenants).await?;
                refusals = Refusals::Stand;
            }
        }
    }
    Err(Error::unavailable("tenants move faster than their quotas can be decided"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusals {
    /// Expired reservations, or leases of this replica, may still hold what is asked for.
    MayBeOutdated,
    Stand,
}

#[derive(Debug)]
enum Attempt {
    Done(Vec<Decision>),
    /// A tenant has moved to another parent or time zone: other counters must be held.
    Moved,
    /// Something of these tenants that was refused may fit when what is over has been given back.
    MayFit(BTreeSet<TenantId>),
}

async fn attempt(desk: &Desk, jobs: &[Job], refusals: Refusals) -> Result<Attempt> {
    let now = desk.isolation.clock().now();
    let mut known = Known::read(desk, jobs.iter().map(|job| job.tenant)).await?;
    let mut wanted: Vec<Result<Vec<Hold>>> = jobs.iter().map(|job| holds_of(job, &known, now)).collect();
    let tx = desk.isolation.begin_operator(&OperatorScope::system("quotas")).await?;
    let kept = store::find_answers(&tx, &jobs.iter().filter_map(once).map(|(once, _)| once).collect()).await?;
    let coming_back = ComingBack::of(&desk.leases, jobs.iter().map(|job| job.tenant).collect());
    let mut ledger = lock(&tx, jobs, &coming_back.closing).await?;
    let counters = counters_of(&ledger, wanted.iter().flatten().flatten());
    if !counters.is_empty() {
        let (locked, journals) = store::lock_counters(&tx, &counters).await?;
        ledger.counters = locked;
        if known.renew(desk, &journals).await? {
            known = Known::read(desk, jobs.iter().map(|job| job.tenant)).await?;
            wanted = jobs.iter().map(|job| holds_of(job, &known, now)).collect();
            if wanted.iter().flatten().flatten().any(|hold| !counters.contains(&hold.counter)) {
                tx.rollback().await?;
                return Ok(Attempt::Moved);
            }
        }
    }
    ledger.terms = known.terms(&counters, now);
    for closing in &coming_back.closing {
        ledger.close((closing.tenant, closing.lease), closing.idle);
    }
    let (answers, keep) = answer(&mut ledger, jobs, wanted, &kept, &known, now)?;
    let refused = refused(jobs, &answers, &known)?;
    if refusals == Refusals::MayBeOutdated && freeing::may_fit(desk, &tx, &refused, now).await? {
        tx.rollback().await?;
        return Ok(Attempt::MayFit(refused.into_iter().map(|(tenant, _)| tenant).collect()));
    }
    let elsewhere = freeing::leased_elsewhere(&tx, &refused, now).await?;
    freeing::recall(&tx, elsewhere.keys()).await?;
    let leased = leasing::take(desk, &mut ledger, jobs, &answers, &known, now);
    finish(desk, tx, &ledger, &keep, now).await?;
    coming_back.done();
    for held in leased {
        desk.leases.hold(held);
    }
    let is_early = |job: &Job, answer: &Result<Answer>| {
        is_refusal(answer)
            && job.is_patient
            && !elsewhere.is_empty()
            && holds_of(job, &known, now).is_ok_and(|wanted| ledger.would_fit(&wanted, &elsewhere))
    };
    let decision = |(answer, job): (Result<Answer>, &Job)| (!is_early(job, &answer)).then_some(answer);
    Ok(Attempt::Done(answers.into_iter().zip(jobs).map(decision).collect()))
}

/// The reservations that jobs name and leases that are closed, held until the transaction ends. Of a ticket it is the lease that
/// is held: then its row, which nobody else can make now, is read.
async fn lock(tx: &OperatorTx, jobs: &[Job], closing: &[Closing]) -> Result<Ledger> {
    let (mut held, mut tickets) = (BTreeSet::new(), BTreeSet::new());
    for job in jobs {
        if let Ask::Commit { of, .. } | Ask::Release { of } = &job.ask {
            match of {
                Named::Id(id) => _ = held.insert((job.tenant, *id)),
                Named::Ticket(ticket) => {
                    held.insert((job.tenant, ticket.lease));
                    tickets.insert((job.tenant, ticket.id()));
                }
            }
        }
        if let Ask::Count { id, .. } = &job.ask {
            held.insert((job.tenant, *id));
        }
    }
    held.extend(closing.iter().map(|closing| (closing.tenant, closing.lease)));
    let mut reservations = store::lock_reservations(tx, &held).await?;
    if !tickets.is_empty() {
        reservations.extend(store::find_reservations(tx, &tickets).await?);
    }
    Ok(Ledger { reservations, ..Ledger::default() })
}

pub(super) fn counters_of<'a>(ledger: &'a Ledger, asked: impl Iterator<Item = &'a Hold>) -> BTreeSet<CounterKey> {
    let held = ledger.reservations.values().flat_map(|found| found.holds.iter());
    held.chain(asked).map(|hold| hold.counter.clone()).collect()
}

pub(super) type Kept = BTreeMap<Id, Keep>;

/// Decides one job after the other; also what is kept for idempotency keys.
fn answer(
    ledger: &mut Ledger,
    jobs: &[Job],
    wanted: Vec<Result<Vec<Hold>>>,
    kept: &BTreeMap<Once, store::Kept>,
    known: &Known,
    now: DateTime<Utc>,
) -> Result<(Vec<Result<Answer>>, Kept)> {
    let mut keep = Kept::new();
    let mut answers = Vec::with_capacity(jobs.len());
    for (job, wanted) in jobs.iter().zip(wanted) {
        if let Some(repeated) = repeated(job, kept, &keep) {
            answers.push(repeated);
            continue;
        }
        let answer = wanted.and_then(|wanted| apply(ledger, job, wanted, now));
        let answer = answer.map(|answer| known.with_standings(answer, job.tenant, ledger, now));
        if let (Ok(answer), Some((once, key))) = (&answer, once(job)) {
            let reservation = answer.reservation.as_ref().context("keep what was reserved")?;
            let answer = serde_json::to_value(answer).context("keep an answer")?;
            keep.insert((reservation.tenant, reservation.id), Keep { once, request_hash: key.request_hash, answer });
        }
        answers.push(answer);
    }
    Ok((answers, keep))
}

fn is_refusal(answer: &Result<Answer>) -> bool {
    answer.as_ref().is_err_and(|error| error.kind() == Kind::QuotaExceeded)
}

/// What does not fit: of whom which quota. Also of those above, whose limits may be in the way.
fn refused(jobs: &[Job], answers: &[Result<Answer>], known: &Known) -> Result<BTreeSet<(TenantId, String)>> {
    let mut refused = BTreeSet::new();
    for (job, _) in jobs.iter().zip(answers).filter(|(_, answer)| is_refusal(answer)) {
        let Ask::Reserve { lines, .. } = &job.ask else { continue };
        for tenant in std::iter::once(job.tenant).chain(known.rolls_up_to(job.tenant)?) {
            refused.extend(lines.iter().map(|(key, _)| (tenant, key.clone())));
        }
    }
    Ok(refused)
}

/// Writes what the ledger has changed and, of each tenant, that a soft limit was passed; and commits.
pub(super) async fn finish(
    desk: &Desk,
    tx: OperatorTx,
    ledger: &Ledger,
    keep: &Kept,
    now: DateTime<Utc>,
) -> Result<()> {
    store::write(&tx, ledger, keep, now).await?;
    let mut entries: BTreeMap<TenantId, Vec<Entry>> = BTreeMap::new();
    for counter in &ledger.passed {
        let mut entry = Entry::new("QuotaLimitPassed", "quota", &counter.key);
        let (found, limit) =
            (ledger.counters.get(counter), ledger.terms.get(counter).and_then(|terms| terms.limit.limit));
        entry.after = found.map(
            |found| json!({ "limit": limit, "used": found.used, "reserved": found.reserved, "window": counter.window }),
        );
        entries.entry(counter.tenant).or_default().push(entry);
    }
    if ledger.changed_counters.is_empty() && entries.is_empty() {
        return tx.commit_unrecorded("what ended or was kept counts for nobody").await;
    }
    let committed = tx.commit_bookkeeping("what is held and used is no management action", entries).await;
    // Also where nobody knows whether it was committed.
    ledger.changed_tenants().into_iter().for_each(|tenant| desk.counted.forget(tenant));
    committed
}

fn apply(ledger: &mut Ledger, job: &Job, holds: Vec<Hold>, now: DateTime<Utc>) -> Result<Answer> {
    let counters: Vec<_> = holds.iter().map(|hold| hold.counter.clone()).collect();
    let standings = |keys: &[CounterKey]| keys.iter().filter(|key| key.tenant == job.tenant).map(standing_of).collect();
    let reservation = match &job.ask {
        Ask::Reserve { lasts, .. } => {
            let reservation = Reservation {
                tenant: job.tenant,
                id: ReservationId::generate(),
                subject: job.subject.clone(),
                state: State::Held,
                holds,
                created_at: now,
                expires_at: now + *lasts,
                committed: None,
                lease: Lease::None,
                ticket: None,
            };
            ledger.reserve(reservation.clone())?;
            return Ok(Answer { reservation: Some(reservation), standings: standings(&counters) });
        }
        Ask::Commit { of, actual } => {
            let id = named(ledger, job.tenant, of, now)?;
            ledger.commit(id, actual, now)?;
            ledger.reservations.get(&id).cloned()
        }
        Ask::Release { of } => {
            let id = named(ledger, job.tenant, of, now)?;
            ledger.release(id, now)?;
            ledger.reservations.get(&id).cloned()
        }
        Ask::SetUsed { used, .. } => {
            ledger.set_used(&counters, *used);
            return Ok(Answer { reservation: None, standings: standings(&counters) });
        }
        Ask::Count { id, by, .. } => {
            let record = Reservation {
                tenant: job.tenant,
                id: *id,
                subject: job.subject.clone(),
                state: State::Released,
                holds: Vec::new(),
                created_at: now,
                // So long nobody may count it again.
                expires_at: now + COUNTED_ONCE,
                committed: None,
                lease: Lease::None,
                ticket: None,
            };
            ledger.count(record, &counters, *by);
            return Ok(Answer { reservation: None, standings: standings(&counters) });
        }
    };
    let held: Vec<_> = reservation.iter().flat_map(|found| found.lines().map(|line| line.counter.clone())).collect();
    Ok(Answer { reservation, standings: standings(&held) })
}

/// The reservation that a client names; a ticket's is made, where it has none yet.
fn named(ledger: &mut Ledger, tenant: TenantId, of: &Named, now: DateTime<Utc>) -> Result<Id> {
    if let Named::Ticket(ticket) = of {
        ledger.present(tenant, ticket, now)?;
    }
    Ok((tenant, of.id()))
}

/// Filled in by [`Known::with_standings`], from the counters as they are then.
fn standing_of(counter: &CounterKey) -> Standing {
    Standing { key: counter.key.clone(), limit: None, used: 0, reserved: 0, resets_at: None, version: String::new() }
}

/// The first answer to the job's idempotency key: of an earlier batch, or of an earlier job of this one.
fn repeated(job: &Job, kept: &BTreeMap<Once, store::Kept>, keep: &BTreeMap<Id, Keep>) -> Option<Result<Answer>> {
    let (once, key) = once(job)?;
    let here =
        keep.values().find(|keep| keep.once == once).map(|keep| (keep.request_hash.to_vec(), Some(&keep.answer)));
    let (hash, answer) =
        here.or_else(|| kept.get(&once).map(|kept| (kept.request_hash.clone(), kept.answer.as_ref())))?;
    if hash != key.request_hash {
        return Some(Err(Error::conflict("this idempotency key was used for another request").at("Idempotency-Key")));
    }
    let answer = answer.cloned().context("an idempotency key commits with its answer");
    Some(answer.and_then(|answer| serde_json::from_value(answer).context("read the first answer")))
}

fn once(job: &Job) -> Option<(Once, &IdempotencyKey)> {
    let Ask::Reserve { once: Some(key), .. } = &job.ask else { return None };
    Some((Once { tenant: job.tenant, subject: job.subject.clone(), key: key.key.clone() }, key))
}

/// What a job takes from which counters: its own lines first, then the same of each tenant that it rolls up to.
fn holds_of(job: &Job, known: &Known, now: DateTime<Utc>) -> Result<Vec<Hold>> {
    let single;
    let lines = match &job.ask {
        Ask::Reserve { lines, .. } => lines,
        Ask::SetUsed { key, .. } | Ask::Count { key, .. } => {
            single = vec![(key.clone(), 0)];
            &single
        }
        Ask::Commit { .. } | Ask::Release { .. } => return Ok(Vec::new()),
    };
    let field = |index: usize| match job.ask {
        Ask::SetUsed { .. } | Ask::Count { .. } => "key".to_owned(),
        _ => format!("lines[{index}].key"),
    };
    let mut holds = Vec::with_capacity(lines.len());
    for tenant in std::iter::once(job.tenant).chain(known.rolls_up_to(job.tenant)?) {
        for (index, (key, amount)) in lines.iter().enumerate() {
            let counter = known.counter(tenant, key, &field(index), now)?;
            holds.push(Hold { counter, amount: *amount });
        }
    }
    Ok(holds)
}
