//! Where events are taken: those of many requests in one transaction. An answer that was given is durable.
//!
//! A lane takes what waits, up to a bound, claims the keys and keeps the events in one statement, commits, and then answers. While one
//! commits, the next gathers what arrives.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use super::{event::Event, store};
use crate::{
    config,
    error::{Error, Kind, Result},
    isolation::{Isolation, OperatorScope},
    platform::{ids::TenantId, random},
};

#[derive(Debug)]
pub(super) struct Intake {
    isolation: Isolation,
    rules: config::Usage,
    line: Mutex<Line>,
    /// Raised when what waits has become less.
    room: Notify,
}

/// What is done where too much waits already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// It is refused: the sender comes again.
    None,
    /// It is waited: the sender sends no more meanwhile.
    UntilThereIsRoom,
}

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    /// Events that wait.
    events: usize,
    /// Lanes at work.
    lanes: usize,
}

#[derive(Debug)]
struct Waiting {
    events: Vec<Event>,
    reply: oneshot::Sender<Result<Vec<bool>>>,
}

impl Intake {
    pub(super) fn new(isolation: Isolation, rules: config::Usage) -> Self {
        Self { isolation, rules, line: Mutex::default(), room: Notify::new() }
    }

    /// Has the events counted, with whatever else waits: answers for each whether it is new.
    pub(super) async fn submit(self: &Arc<Self>, events: Vec<Event>, patience: Patience) -> Result<Vec<bool>> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, answer) = oneshot::channel();
        if self.join(Waiting { events, reply }, patience).await? {
            let intake = self.clone();
            tokio::spawn(async move { intake.drive().await });
        }
        answer.await.map_err(|_| Error::internal("a batch of usage ended without an answer"))?
    }

    /// Queues behind what waits. Answers whether one more lane has to be driven.
    async fn join(&self, mut waiting: Waiting, patience: Patience) -> Result<bool> {
        loop {
            // Before the look: what makes room in between is heard.
            let room = self.room.notified();
            match self.try_join(waiting) {
                Ok(is_wanted) => return Ok(is_wanted),
                Err(_) if patience == Patience::None => {
                    let refusal = "more usage arrives than can be taken; send the same again in a second";
                    let told = serde_json::json!({ "retryAfterSeconds": 1 });
                    return Err(Error::new(Kind::Unavailable, refusal).with(told));
                }
                Err(back) => waiting = back,
            }
            room.await;
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back what there is no room for. Whoever comes first is let in, however much it is.
    fn try_join(&self, waiting: Waiting) -> Result<bool, Waiting> {
        let mut line = self.line();
        if line.events > 0 && line.events + waiting.events.len() > self.rules.waiting_events {
            return Err(waiting);
        }
        line.events += waiting.events.len();
        line.waiting.push_back(waiting);
        let is_wanted = line.lanes < self.rules.lanes;
        line.lanes += usize::from(is_wanted);
        Ok(is_wanted)
    }

    async fn drive(self: Arc<Self>) {
        while let Some(batch) = self.take() {
            let intake = self.clone();
            // In a task of its own: a panic ends one batch, not the lane.
            if let Err(panic) = tokio::spawn(async move { intake.run(batch).await }).await {
                tracing::error!(%panic, "a batch of usage panicked");
            }
        }
    }

    /// The next batch; none where nothing waits, and then the lane is at its end.
    fn take(&self) -> Option<Vec<Waiting>> {
        let mut line = self.line();
        let (mut batch, mut events) = (Vec::new(), 0);
        while let Some(next) = line.waiting.front() {
            if !batch.is_empty() && events + next.events.len() > self.rules.batch_events {
                break;
            }
            events += next.events.len();
            batch.extend(line.waiting.pop_front());
        }
        line.events -= events;
        self.room.notify_waiters();
        if batch.is_empty() {
            line.lanes -= 1;
            return None;
        }
        Some(batch)
    }

    async fn run(&self, batch: Vec<Waiting>) {
        let (jobs, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.events, waiting.reply)).unzip();
        let answers = match self.record(&jobs).await {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            Err(error) if error.kind() == Kind::Unavailable || jobs.len() == 1 => shared(&error, jobs.len()),
            // One of them may be what does not go: each by itself.
            Err(_) => {
                let mut answers = Vec::with_capacity(jobs.len());
                for job in &jobs {
                    let alone = self.record(std::slice::from_ref(job)).await;
                    answers.push(alone.and_then(|mut alone| alone.pop().ok_or_else(|| Error::internal("no answer"))));
                }
                answers
            }
        };
        for (reply, answer) in replies.into_iter().zip(answers) {
            // Who left needs no answer; what was counted stays.
            let _ = reply.send(answer);
        }
    }

    /// All in one transaction. Of events with one key the first is sent on, and the rest are its duplicates.
    async fn record(&self, jobs: &[Vec<Event>]) -> Result<Vec<Vec<bool>>> {
        let sent = jobs.iter().map(Vec::len).sum();
        let mut places: HashMap<(TenantId, Uuid), usize> = HashMap::with_capacity(sent);
        let mut events = Vec::with_capacity(sent);
        let mut asked: Vec<Vec<Option<usize>>> = Vec::with_capacity(jobs.len());
        for job in jobs {
            let mut of_job = Vec::with_capacity(job.len());
            for event in job {
                let place = events.len();
                let is_first = *places.entry((event.tenant, event.key)).or_insert(place) == place;
                of_job.push(is_first.then_some(place));
                if is_first {
                    events.push(event);
                }
            }
            asked.push(of_job);
        }
        metrics::histogram!("tenantry_usage_batch_events").record(events.len() as f64);
        let tx = self.isolation.begin_operator(&OperatorScope::system("usage")).await?;
        let is_new = store::record(&tx, random::uuid_v7(), &events).await?;
        tx.commit_unrecorded("each event is its own record").await?;
        let answer = |of_job: Vec<Option<usize>>| {
            of_job.into_iter().map(|place| place.is_some_and(|place| is_new[place])).collect()
        };
        Ok(asked.into_iter().map(answer).collect())
    }
}

/// The same failure for each of `count` requests; the cause is logged once.
fn shared(error: &Error, count: usize) -> Vec<Result<Vec<bool>>> {
    tracing::warn!(%error, cause = error.cause().map(tracing::field::display), requests = count, "a batch of usage failed");
    std::iter::repeat_with(|| Err(Error::new(error.kind(), error.message().to_owned()))).take(count).collect()
}
