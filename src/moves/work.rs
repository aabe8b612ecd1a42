//! Who works on a move, and what becomes of what a step came to. Every replica does this; leases keep them apart.

use std::time::Duration;

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use super::{
    Moves, journal,
    order::{Move, Phase, Task, Wanted},
    steps::Next,
    store::{self, Holder},
    switch::lost,
};
use crate::{
    error::{Error, Kind, Result},
    journal::Entry,
    platform::{ids::CellId, random},
    provisioning::pause,
};

/// What was done, before the lease was given back.
enum Ended {
    /// To be looked at again at once.
    Soon,
    /// When the source is to be given up.
    Resting,
    Failed(Error),
}

impl Moves {
    /// Works on what is due until `stop`; looks at least every `interval`.
    pub async fn run(self, interval: Duration, stop: CancellationToken) {
        if !self.0.provisioning.is_on() {
            return;
        }
        while !stop.is_cancelled() {
            let taken = self.start_due(&stop).await.unwrap_or_else(|error| {
                tracing::warn!(%error, cause = error.cause().map(tracing::field::display), "no move can be taken to work on; it is tried again");
                0
            });
            if taken > 0 {
                continue;
            }
            tokio::select! {
                () = self.0.nudge.notified() => {}
                () = tokio::time::sleep(interval) => {}
                () = stop.cancelled() => {}
            }
        }
        // What is under way is broken off, and its leases are given back: another server goes on at once.
        let all = u32::try_from(self.0.rules.workers).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(Duration::from_secs(10), self.0.places.acquire_many(all)).await;
    }

    async fn start_due(&self, stop: &CancellationToken) -> Result<usize> {
        let places: Vec<_> = std::iter::from_fn(|| self.0.places.clone().try_acquire_owned().ok()).collect();
        if places.is_empty() {
            return Ok(0); // whoever ends nudges
        }
        let tx = self.begin().await?;
        let now = tx.stamp().at;
        let holder = Holder { name: &self.0.holder, now, until: now + self.lease() };
        let orders = store::take(&tx, holder, places.len(), self.0.region.as_deref()).await?;
        tx.commit_unrecorded("leases").await?;
        let taken = orders.len();
        for (order, place) in orders.into_iter().zip(places) {
            let (worker, stop) = (self.clone(), stop.clone());
            tokio::spawn(async move {
                worker.work_and_tell(order, &stop).await;
                drop(place);
                worker.0.nudge.notify_one();
            });
        }
        Ok(taken)
    }

    pub(super) fn lease(&self) -> TimeDelta {
        TimeDelta::from_std(self.0.rules.lease).unwrap_or(TimeDelta::MAX)
    }

    async fn work_and_tell(&self, order: Move, stop: &CancellationToken) {
        let ended = tokio::select! {
            ended = self.work(&order) => ended,
            wish = self.keep_lease(&order) => match wish {
                Ok(()) => Ended::Soon,
                Err(error) => Ended::Failed(error),
            },
            () = stop.cancelled() => Ended::Soon,
        };
        if let Err(error) = self.give_back(&order, ended).await {
            tracing::warn!(tenant = %order.tenant, %error, "the lease of a move cannot be given back; it ends by itself");
        }
    }

    /// Keeps the lease for as long as a step takes; ends where something else is wanted, or another has it.
    async fn keep_lease(&self, order: &Move) -> Result<()> {
        loop {
            tokio::time::sleep(self.0.rules.lease / 4).await;
            let tx = self.begin().await?;
            let known = store::hold(&tx, order, tx.stamp().at + self.lease()).await?;
            tx.commit_unrecorded("a lease").await?;
            if known.ok_or_else(lost)?.wanted != order.wanted {
                return Ok(());
            }
        }
    }

    /// From step to step until there is nothing to do.
    async fn work(&self, order: &Move) -> Ended {
        let mut order = order.clone();
        loop {
            let next = match order.task(self.0.isolation.clock().now()) {
                Task::Nothing => return Ended::Resting,
                Task::Prepare => self.prepare(&order).await,
                Task::Copy => self.copy(&order).await,
                Task::CatchUp => self.catch_up(&order).await,
                Task::LetIn => self.open_source(&order).await,
                Task::Tidy => self.tidy(&order).await,
                Task::GiveUpSource => self.give_up_source(&order).await,
                Task::GoBack => self.go_back(&order).await,
                Task::Undo => self.undo(&order).await,
            };
            let next = match next {
                Ok(Next::Restart) => self.restart(&order).await,
                next => next,
            };
            match next {
                Ok(Next::Go(on)) => order = *on,
                Ok(Next::Rest | Next::Restart) => return Ended::Resting,
                Err(error) => return Ended::Failed(error),
            }
        }
    }

    /// From the beginning, because the tenant's schema was changed. Services are let in by the step that begins.
    async fn restart(&self, order: &Move) -> Result<Next> {
        let problem = "the tenant's schema was changed while it was copied; it is copied anew".to_owned();
        let order = Move { phase: Phase::Preparing, problem, rows_copied: 0, changes_applied: 0, ..order.clone() };
        let ends = self.ends(&order).await?;
        super::source::let_in(&mut ends.source_session().await?, &ends).await?;
        self.write(&order, [journal::restarted(&order)]).await?;
        Ok(Next::Go(Box::new(order)))
    }

    /// Writes what is known of the move by now, while the lease stands.
    pub(super) async fn write(&self, order: &Move, entries: impl IntoIterator<Item = Entry>) -> Result<()> {
        let tx = self.begin().await?;
        store::hold(&tx, order, tx.stamp().at + self.lease()).await?.ok_or_else(lost)?;
        store::save(&tx, order).await?;
        if order.phase.is_before_switch() {
            store::set_hold(&tx, order.tenant, order.phase).await?;
        }
        let entries: Vec<_> = entries.into_iter().collect();
        if entries.is_empty() {
            return tx.commit_unrecorded("a step of a move; what it comes to is recorded").await;
        }
        tx.commit_for(order.tenant, entries).await
    }

    /// The environment is the reconciler's again; it is not to be removed while something is at the source.
    pub(super) async fn released(&self, order: &Move) -> Result<()> {
        let tx = self.begin().await?;
        store::hold(&tx, order, tx.stamp().at + self.lease()).await?.ok_or_else(lost)?;
        store::set_hold(&tx, order.tenant, Phase::Switched).await?;
        tx.commit_unrecorded("a step of a move; what it comes to is recorded").await?;
        self.0.provisioning.look_again(order.tenant).await
    }

    /// The end of a move: the place at `cell` is given back.
    pub(super) async fn finish(&self, order: &Move, cell: CellId, entry: Entry) -> Result<()> {
        let tx = self.begin().await?;
        let now = tx.stamp().at;
        let known = store::hold(&tx, order, now + self.lease()).await?.ok_or_else(lost)?;
        if known.finished_at.is_some() {
            return tx.commit_unrecorded("nothing to do").await;
        }
        store::save(&tx, &Move { finished_at: Some(now), ..order.clone() }).await?;
        self.0.cells.release(&tx, cell).await?;
        store::set_hold(&tx, order.tenant, order.phase).await?;
        tx.commit_for(order.tenant, [entry]).await?;
        self.0.tenancy.snapshots().refresh(crate::platform::ids::TenantId::PLATFORM).await;
        Ok(())
    }

    /// The end of a move that is rolled back, and the beginning of the one that does it: the place at the source goes from the one to the
    /// other.
    pub(super) async fn turn_back(&self, order: &Move) -> Result<()> {
        let tx = self.begin().await?;
        let now = tx.stamp().at;
        let known = store::hold(&tx, order, now + self.lease()).await?.ok_or_else(lost)?;
        if known.finished_at.is_some() {
            return tx.commit_unrecorded("nothing to do").await;
        }
        let ended = Move { phase: Phase::RolledBack, problem: String::new(), finished_at: Some(now), ..order.clone() };
        let back = order.back(now);
        store::save(&tx, &ended).await?;
        store::insert(&tx, &back).await?;
        store::set_hold(&tx, order.tenant, back.phase).await?;
        tx.commit_for(order.tenant, [journal::rolled_back(&ended, &back), journal::started(&back)]).await?;
        self.0.nudge.notify_one();
        Ok(())
    }

    async fn give_back(&self, order: &Move, ended: Ended) -> Result<()> {
        let tx = self.begin().await?;
        let now = tx.stamp().at;
        let Some(known) = store::hold(&tx, order, now + self.lease()).await? else {
            return tx.commit_unrecorded("somebody else has it").await;
        };
        let known = Move { wanted: order.wanted, ..known };
        match ended {
            Ended::Soon => store::release(&tx, &known, now, now).await?,
            Ended::Resting => {
                let rested = Move { attempts: 0, problem: kept_problem(&known), ..known.clone() };
                store::save(&tx, &rested).await?;
                store::release(&tx, &known, known.keep_until.unwrap_or(now), now).await?;
            }
            Ended::Failed(error) => return self.note_failure(tx, known, &error).await,
        }
        tx.commit_unrecorded("a lease").await
    }

    async fn note_failure(&self, tx: crate::isolation::OperatorTx, known: Move, error: &Error) -> Result<()> {
        let now = tx.stamp().at;
        let problem: String = error.message().chars().take(500).collect();
        tracing::warn!(tenant = %known.tenant, %error, cause = error.cause().map(tracing::field::display), attempts = known.attempts, phase = ?known.phase, "a step of a move failed");
        let is_news = known.problem != problem;
        let order = Move { problem, attempts: known.attempts.saturating_add(1), ..known };
        store::save(&tx, &order).await?;
        let rules = &self.0.retries;
        let rest = pause(order.attempts, rules.first_retry, rules.longest_retry, u64::from_le_bytes(random::bytes()));
        store::release(&tx, &order, now + rest, now).await?;
        if order.wanted == Wanted::Switch && order.phase.is_before_switch() && is_final(error) {
            store::want(&tx, &order, Wanted::GiveUp, now).await?;
        }
        if is_news {
            return tx.commit_for(order.tenant, [journal::held_up(&order)]).await;
        }
        tx.commit_unrecorded("it failed as before").await
    }
}

/// Of a move that failed, why; of all others nothing.
fn kept_problem(order: &Move) -> String {
    if order.phase == Phase::Failed { order.problem.clone() } else { String::new() }
}

/// What another attempt would not change.
fn is_final(error: &Error) -> bool {
    matches!(error.kind(), Kind::InvalidInput | Kind::Conflict | Kind::ResidencyViolation | Kind::NotFound)
}
