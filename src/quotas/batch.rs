//! One batch: lock, decide, write, commit.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    allowance::Allowances,
    desk::Desk,
    key::{QuotaKey, QuotaKeys},
    ledger::{CounterKey, Hold, Ledger, Reservation, State, Terms},
    limit::{Limit, limit},
    settling,
    store::{self, Id, Journals, Keep, Once},
    usage::{LedTo, led_to},
    window::Window,
};
use crate::{
    error::{Context as _, Error, Result},
    isolation::{IdempotencyKey, OperatorScope, OperatorTx},
    journal::Entry,
    platform::ids::{ReservationId, TenantId},
    tenancy::{Catalogue, Parent, Snapshot},
};

/// What a tenant asks for.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) tenant: TenantId,
    pub(super) subject: String,
    pub(super) ask: Ask,
}

#[derive(Clone, Debug)]
pub(super) enum Ask {
    Reserve { lines: Vec<(String, i64)>, lasts: TimeDelta, once: Option<IdempotencyKey> },
    Commit { id: ReservationId, actual: BTreeMap<String, i64> },
    Release { id: ReservationId },
    SetUsed { key: String, used: i64 },
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
}

const EXPIRED_AT_ONCE: u64 = 500;
const ATTEMPTS: usize = 5;

/// Decides all jobs in one transaction. The outer error is the transaction's: then nothing was done.
pub(super) async fn decide(desk: &Desk, jobs: &[Job]) -> Result<Vec<Result<Answer>>> {
    // Before rows are locked: it needs them, too.
    settling::settle(desk, &jobs.iter().map(|job| job.tenant).collect::<Vec<_>>()).await?;
    let mut refusals = Refusals::MayBeOutdated;
    for _ in 0..ATTEMPTS {
        if let Some(answers) = attempt(desk, jobs, refusals).await? {
            return Ok(answers);
        }
        // Something that was refused may fit when expired reservations have given back what they held.
        expire(desk, Some(&jobs.iter().map(|job| job.tenant).collect())).await?;
        refusals = Refusals::Stand;
    }
    Err(Error::unavailable("tenants move faster than their quotas can be decided"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusals {
    /// Expired reservations may still hold what is asked for.
    MayBeOutdated,
    Stand,
}

async fn attempt(desk: &Desk, jobs: &[Job], refusals: Refusals) -> Result<Option<Vec<Result<Answer>>>> {
    let now = desk.isolation.clock().now();
    let mut known = Known::read(desk, jobs.iter().map(|job| job.tenant)).await?;
    let mut wanted: Vec<Result<Vec<Hold>>> = jobs.iter().map(|job| holds_of(job, &known, now)).collect();
    let tx = desk.isolation.begin_operator(&OperatorScope::system("quotas")).await?;
    let kept = store::find_answers(&tx, &jobs.iter().filter_map(once).map(|(once, _)| once).collect()).await?;
    let mut ledger =
        Ledger { reservations: store::lock_reservations(&tx, &ended_by(jobs)).await?, ..Ledger::default() };
    let held = ledger.reservations.values().flat_map(|found| found.holds.iter().map(|hold| hold.counter.clone()));
    let asked = wanted.iter().flatten().flatten().map(|hold| hold.counter.clone());
    let counters: BTreeSet<CounterKey> = held.chain(asked).collect();
    if !counters.is_empty() {
        let (locked, journals) = store::lock_counters(&tx, &counters).await?;
        ledger.counters = locked;
        if known.renew(desk, &journals).await? {
            known = Known::read(desk, jobs.iter().map(|job| job.tenant)).await?;
            wanted = jobs.iter().map(|job| holds_of(job, &known, now)).collect();
            // A tenant has moved to another parent or time zone: other counters must be held.
            if wanted.iter().flatten().flatten().any(|hold| !counters.contains(&hold.counter)) {
                tx.rollback().await?;
                return Ok(None);
            }
        }
    }
    ledger.terms = known.terms(&counters, now);
    let mut keep = BTreeMap::new();
    let mut answers = Vec::with_capacity(jobs.len());
    for (job, wanted) in jobs.iter().zip(wanted) {
        if let Some(repeated) = repeated(job, &kept, &keep) {
            answers.push(repeated);
            continue;
        }
        let answer = wanted.and_then(|wanted| apply(&mut ledger, job, wanted, now));
        let answer = answer.map(|answer| known.with_standings(answer, job.tenant, &ledger, now));
        if let (Ok(answer), Some((once, key))) = (&answer, once(job)) {
            let reservation = answer.reservation.as_ref().context("keep what was reserved")?;
            let answer = serde_json::to_value(answer).context("keep an answer")?;
            keep.insert((reservation.tenant, reservation.id), Keep { once, request_hash: key.request_hash, answer });
        }
        answers.push(answer);
    }
    if refusals == Refusals::MayBeOutdated && !due_of_refused(&tx, jobs, &answers, now).await?.is_empty() {
        tx.rollback().await?;
        return Ok(None);
    }
    finish(tx, &ledger, &keep, now).await?;
    Ok(Some(answers))
}

/// Reservations of refused tenants whose time is over.
async fn due_of_refused(
    tx: &OperatorTx,
    jobs: &[Job],
    answers: &[Result<Answer>],
    now: DateTime<Utc>,
) -> Result<BTreeMap<Id, Reservation>> {
    let exceeded =
        |answer: &Result<Answer>| answer.as_ref().is_err_and(|error| error.kind() == crate::error::Kind::QuotaExceeded);
    let refused: BTreeSet<_> =
        jobs.iter().zip(answers).filter(|(_, answer)| exceeded(answer)).map(|(job, _)| job.tenant).collect();
    if refused.is_empty() {
        return Ok(BTreeMap::new());
    }
    store::lock_due(tx, Some(&refused), now, 1).await
}

/// Ends reservations whose time is over, of these tenants or of all; answers how many.
pub(super) async fn expire(desk: &Desk, tenants: Option<&BTreeSet<TenantId>>) -> Result<usize> {
    let now = desk.isolation.clock().now();
    let tx = desk.isolation.begin_operator(&OperatorScope::system("quotas")).await?;
    let reservations = store::lock_due(&tx, tenants, now, EXPIRED_AT_ONCE).await?;
    let counters: BTreeSet<_> =
        reservations.values().flat_map(|found| found.holds.iter().map(|hold| hold.counter.clone())).collect();
    let ids: Vec<_> = reservations.keys().copied().collect();
    let mut ledger = Ledger { reservations, ..Ledger::default() };
    if !counters.is_empty() {
        ledger.counters = store::lock_counters(&tx, &counters).await?.0;
    }
    for id in &ids {
        ledger.expire(*id, now);
    }
    finish(tx, &ledger, &BTreeMap::new(), now).await?;
    Ok(ids.len())
}

async fn finish(tx: OperatorTx, ledger: &Ledger, keep: &BTreeMap<Id, Keep>, now: DateTime<Utc>) -> Result<()> {
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
    tx.commit_bookkeeping("what is held and used is no management action", entries).await
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
            };
            ledger.reserve(reservation.clone())?;
            return Ok(Answer { reservation: Some(reservation), standings: standings(&counters) });
        }
        Ask::Commit { id, actual } => {
            ledger.commit((job.tenant, *id), actual, now)?;
            ledger.reservations.get(&(job.tenant, *id)).cloned()
        }
        Ask::Release { id } => {
            ledger.release((job.tenant, *id), now)?;
            ledger.reservations.get(&(job.tenant, *id)).cloned()
        }
        Ask::SetUsed { used, .. } => {
            ledger.set_used(&counters, *used);
            return Ok(Answer { reservation: None, standings: standings(&counters) });
        }
    };
    let held: Vec<_> = reservation.iter().flat_map(|found| found.lines().map(|line| line.counter.clone())).collect();
    Ok(Answer { reservation, standings: standings(&held) })
}

/// Filled in by [`Known::with_standings`], from the counters as they are then.
fn standing_of(counter: &CounterKey) -> Standing {
    Standing { key: counter.key.clone(), limit: None, used: 0, reserved: 0, resets_at: None }
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

fn ended_by(jobs: &[Job]) -> BTreeSet<Id> {
    let ended = |job: &Job| match job.ask {
        Ask::Commit { id, .. } | Ask::Release { id } => Some((job.tenant, id)),
        _ => None,
    };
    jobs.iter().filter_map(ended).collect()
}

/// What a job takes from which counters: its own lines first, then the same of each tenant that it rolls up to.
fn holds_of(job: &Job, known: &Known, now: DateTime<Utc>) -> Result<Vec<Hold>> {
    let single;
    let lines = match &job.ask {
        Ask::Reserve { lines, .. } => lines,
        Ask::SetUsed { key, .. } => {
            single = vec![(key.clone(), 0)];
            &single
        }
        Ask::Commit { .. } | Ask::Release { .. } => return Ok(Vec::new()),
    };
    let field = |index: usize| match job.ask {
        Ask::SetUsed { .. } => "key".to_owned(),
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

/// The parent, if what the tenant uses counts for it, too.
fn above(snapshot: &Snapshot) -> Result<Option<TenantId>> {
    Ok(snapshot.part::<Parent>()?.0.as_ref().filter(|link| link.rolls_up).map(|link| link.parent_id))
}

/// What memory knows of the tenants of a batch.
pub(super) struct Known {
    catalogue: std::sync::Arc<Catalogue>,
    tenants: BTreeMap<TenantId, std::sync::Arc<Snapshot>>,
}

impl Known {
    /// The tenants, and those above them to which what they use rolls up.
    pub(super) async fn read(desk: &Desk, tenants: impl Iterator<Item = TenantId>) -> Result<Self> {
        let snapshots = desk.tenancy.snapshots();
        let mut known = Self { catalogue: snapshots.catalogue().await?, tenants: BTreeMap::new() };
        for tenant in tenants {
            let mut next = Some(tenant);
            while let Some(tenant) = next.filter(|tenant| !known.tenants.contains_key(tenant)) {
                let Some(snapshot) = snapshots.get(tenant).await? else { break };
                next = above(&snapshot)?;
                known.tenants.insert(tenant, snapshot);
            }
        }
        Ok(known)
    }

    /// Reads again what has changed since memory heard of it: the rows are locked now, so a limit that somebody has lowered
    /// is the limit that counts. Answers whether there was something.
    async fn renew(&mut self, desk: &Desk, journals: &Journals) -> Result<bool> {
        let (snapshots, mut renewed) = (desk.tenancy.snapshots(), false);
        if self.catalogue.version < journals.platform {
            self.catalogue = snapshots.reread_catalogue().await?;
            renewed = true;
        }
        for (tenant, version) in &journals.tenants {
            if self.tenants.get(tenant).is_some_and(|known| known.version < *version)
                && let Some(snapshot) = snapshots.reread(*tenant).await?
            {
                self.tenants.insert(*tenant, snapshot);
                renewed = true;
            }
        }
        Ok(renewed)
    }

    /// The tenants above, the nearest first, as far as everything rolls up.
    fn rolls_up_to(&self, tenant: TenantId) -> Result<Vec<TenantId>> {
        let (mut found, mut next) = (Vec::new(), above(self.snapshot(tenant)?)?);
        while let Some(parent) = next.filter(|next| !found.contains(next) && *next != tenant) {
            // One that is gone has no quotas.
            let Some(known) = self.tenants.get(&parent) else { break };
            found.push(parent);
            next = above(known)?;
        }
        Ok(found)
    }

    fn snapshot(&self, tenant: TenantId) -> Result<&Snapshot> {
        self.tenants.get(&tenant).map(|snapshot| &**snapshot).ok_or_else(Error::not_found)
    }

    pub(super) fn keys(&self) -> Result<&QuotaKeys> {
        self.catalogue.part()
    }

    fn key(&self, key: &str, field: &str) -> Result<&QuotaKey> {
        let found = self.keys()?.find(key);
        found.ok_or_else(|| Error::invalid(field, "names no quota of the catalogue"))
    }

    pub(super) fn window(&self, tenant: TenantId, key: &QuotaKey, now: DateTime<Utc>) -> Result<Window> {
        let Some(period) = key.period else { return Ok(Window::forever()) };
        let zone = self.snapshot(tenant)?.tenant.profile.time_zone.as_deref();
        let zone: Tz = zone.and_then(|name| name.parse().ok()).unwrap_or(Tz::UTC);
        Ok(Window::at(period, now, zone))
    }

    pub(super) fn counter(&self, tenant: TenantId, key: &str, field: &str, now: DateTime<Utc>) -> Result<CounterKey> {
        let key = self.key(key, field)?;
        if !key.is_counted() {
            return Err(Error::invalid(field, "names a quota that is not counted: ask `checkRate`"));
        }
        Ok(CounterKey { tenant, key: key.key.clone(), window: self.window(tenant, key, now)?.name })
    }

    pub(super) fn limit(&self, tenant: TenantId, key: &QuotaKey, now: DateTime<Utc>) -> Result<Limit> {
        let snapshot = self.snapshot(tenant)?;
        let plan = self.catalogue.plan(&snapshot.tenant.plan).context("find the tenant's plan")?;
        Ok(limit(key, plan, snapshot.part::<Allowances>()?, now))
    }

    pub(super) fn led_to(&self, tenant: TenantId, key: &QuotaKey, now: DateTime<Utc>) -> Result<LedTo> {
        let snapshot = self.snapshot(tenant)?;
        let plan = self.catalogue.plan(&snapshot.tenant.plan).context("find the tenant's plan")?;
        Ok(led_to(key, plan, snapshot.part::<Allowances>()?, now))
    }

    /// The versions of tenant and platform that answers are decided on.
    pub(super) fn version(&self, tenant: TenantId) -> Result<String> {
        Ok(format!("{}.{}", self.snapshot(tenant)?.version, self.catalogue.version))
    }

    /// Counters of which nothing is known have no terms: nothing is let in there.
    fn terms(&self, counters: &BTreeSet<CounterKey>, now: DateTime<Utc>) -> BTreeMap<CounterKey, Terms> {
        let terms = |counter: &CounterKey| -> Result<Terms> {
            let key = self.key(&counter.key, "key")?;
            let resets_at = self.window(counter.tenant, key, now)?.resets_at;
            Ok(Terms { limit: self.limit(counter.tenant, key, now)?, resets_at })
        };
        counters.iter().filter_map(|counter| Some((counter.clone(), terms(counter).ok()?))).collect()
    }

    fn with_standings(&self, mut answer: Answer, tenant: TenantId, ledger: &Ledger, now: DateTime<Utc>) -> Answer {
        for standing in &mut answer.standings {
            let Ok(key) = self.key(&standing.key, "key") else { continue };
            let Ok(window) = self.window(tenant, key, now) else { continue };
            let counter = CounterKey { tenant, key: standing.key.clone(), window: window.name };
            if let Some(found) = ledger.counters.get(&counter) {
                (standing.used, standing.reserved) = (found.used, found.reserved);
            }
            standing.limit = self.limit(tenant, key, now).ok().and_then(|limit| limit.limit);
            standing.resets_at = window.resets_at;
        }
        answer
    }
}
