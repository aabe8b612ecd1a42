//! Where reservations are decided: many requests of many tenants in one transaction.
//!
//! A lane takes what waits, locks the counters that it concerns, decides in memory, writes in one statement, commits, and
//! then answers: an answer that was given is durable. A tenant belongs to one lane of a replica, so requests for one counter
//! join a batch rather than a queue for the row's lock; other replicas' batches wait for the lock. A batch takes a bounded
//! share from each tenant, so that a noisy one waits behind itself.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::TimeDelta;
use tokio::sync::oneshot;

use super::{
    batch::{self, Answer, Decision, Job},
    counted::Counted,
    freeing,
    leases::Leases,
    ticket::Stamp,
};
use crate::{
    config,
    error::{Error, Kind, Result},
    isolation::Isolation,
    platform::ids::TenantId,
    tenancy::Tenancy,
};

/// A job and who waits for it.
#[derive(Debug)]
struct Waiting {
    job: Job,
    reply: oneshot::Sender<Decision>,
}

const ASK_AGAIN: Duration = Duration::from_millis(50);
/// After a second, what a replica holds that does not give it back counts as held.
const ROUNDS: u32 = 20;

#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Waiting>,
    /// Whether a task is at work on this lane.
    busy: bool,
}

#[derive(Debug)]
pub(super) struct Desk {
    pub(super) isolation: Isolation,
    pub(super) tenancy: Tenancy,
    pub(super) rules: config::Quotas,
    pub(super) leases: Leases,
    pub(super) counted: Counted,
    pub(super) stamp: Stamp,
    lanes: Box<[Mutex<Lane>]>,
    hasher: RandomState,
}

impl Desk {
    pub(super) fn new(isolation: Isolation, tenancy: Tenancy, stamp: Stamp, rules: config::Quotas) -> Self {
        let lanes = std::iter::repeat_with(Mutex::default).take(rules.lanes).collect();
        let leases = Leases::new(TimeDelta::from_std(rules.lease).unwrap_or(TimeDelta::MAX));
        let counted = Counted::new(isolation.clone());
        Self { isolation, tenancy, rules, leases, counted, stamp, lanes, hasher: RandomState::new() }
    }

    /// How long a reservation lasts where nobody says so.
    pub(super) fn reservation(&self) -> TimeDelta {
        TimeDelta::from_std(self.rules.reservation).unwrap_or(TimeDelta::MAX)
    }

    /// Has the job decided and committed, with whatever else waits.
    pub(super) async fn ask(self: &Arc<Self>, mut job: Job) -> Result<Answer> {
        let lane = self.hasher.hash_one(job.tenant) as usize % self.lanes.len();
        for round in 1.. {
            job.is_patient = round < ROUNDS;
            let (reply, answer) = oneshot::channel();
            if self.join(lane, Waiting { job: job.clone(), reply })? {
                let desk = self.clone();
                tokio::spawn(async move { desk.drive(lane).await });
            }
            match answer.await.map_err(|_| Error::internal("a batch of quotas ended without an answer"))? {
                Some(answer) => return answer,
                // What was recalled comes in a moment; from a replica that has died it does not.
                None => tokio::time::sleep(ASK_AGAIN).await,
            }
        }
        unreachable!("a job that is not patient is answered")
    }

    /// Queues behind what waits. Answers whether nobody is at work on the lane.
    fn join(&self, lane: usize, waiting: Waiting) -> Result<bool> {
        let mut lane = self.lanes[lane].lock().unwrap_or_else(PoisonError::into_inner);
        let of_tenant =
            lane.waiting.iter().filter(|other| other.job.tenant == waiting.job.tenant).take(self.rules.waiting).count();
        if of_tenant >= self.rules.waiting {
            return Err(Error::new(
                Kind::RateLimited,
                "too many requests of this tenant wait for a decision on quotas",
            ));
        }
        lane.waiting.push_back(waiting);
        Ok(!std::mem::replace(&mut lane.busy, true))
    }

    async fn drive(self: Arc<Self>, lane: usize) {
        while let Some(batch) = self.take(lane) {
            let desk = self.clone();
            // In a task of its own: a panic ends one batch, not the lane.
            if let Err(panic) = tokio::spawn(async move { desk.run(batch).await }).await {
                tracing::error!(%panic, "a batch of quotas panicked");
            }
        }
    }

    /// The next batch; none where nothing waits, and then nobody is at work any more.
    fn take(&self, lane: usize) -> Option<Vec<Waiting>> {
        let mut lane = self.lanes[lane].lock().unwrap_or_else(PoisonError::into_inner);
        let (mut batch, mut left, mut of_tenant) = (Vec::new(), VecDeque::new(), HashMap::<TenantId, usize>::new());
        while let Some(next) = lane.waiting.pop_front() {
            let taken = of_tenant.entry(next.job.tenant).or_default();
            if batch.len() < self.rules.batch && *taken < self.rules.batch_of_tenant {
                *taken += 1;
                batch.push(next);
            } else {
                left.push_back(next);
            }
        }
        lane.waiting = left;
        lane.busy = !batch.is_empty();
        lane.busy.then_some(batch)
    }

    async fn run(&self, batch: Vec<Waiting>) {
        metrics::histogram!("tenantry_quota_batch_jobs").record(batch.len() as f64);
        let (jobs, replies): (Vec<_>, Vec<_>) = batch.into_iter().map(|waiting| (waiting.job, waiting.reply)).unzip();
        let decisions = match batch::decide(self, &jobs).await {
            Ok(decisions) => decisions,
            Err(error) if error.kind() == Kind::Unavailable || jobs.len() == 1 => shared(&error, jobs.len()),
            // One of them may be what does not go: each by itself.
            Err(_) => {
                let mut decisions = Vec::with_capacity(jobs.len());
                for job in &jobs {
                    let alone = batch::decide(self, std::slice::from_ref(job)).await;
                    let alone = alone.and_then(|mut alone| alone.pop().ok_or_else(|| Error::internal("no answer")));
                    decisions.push(alone.unwrap_or_else(|error| Some(Err(error))));
                }
                decisions
            }
        };
        for (reply, decision) in replies.into_iter().zip(decisions) {
            // Who left needs no answer; what was decided stays.
            let _ = reply.send(decision);
        }
    }

    /// Gives back what reservations held too long; answers how many there were.
    pub(super) async fn expire(&self) -> Result<usize> {
        freeing::expire(self).await
    }
}

/// The same failure for each of `count` jobs; the cause is logged once.
fn shared(error: &Error, count: usize) -> Vec<Decision> {
    tracing::warn!(%error, cause = error.cause().map(tracing::field::display), jobs = count, "a batch of quotas failed");
    let again = || Some(Err(Error::new(error.kind(), error.message().to_owned())));
    std::iter::repeat_with(again).take(count).collect()
}
