//! Who works on which rollout. Every server does this; leases of lanes keep them apart, and bound how many work at once.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use super::{
    Templates,
    rollout::{Next, Rollout, RolloutState, next},
    rollout_store::{self, Lane},
    store,
};
use crate::{
    error::Result,
    isolation::{OperatorScope, OperatorTx},
    journal::Entry,
    platform::ids::{LeaseId, RolloutId},
};

impl Templates {
    /// Works on what is rolled out until `stop`; looks at least every `interval`.
    pub async fn run(self, interval: Duration, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.start_lanes(&stop).await {
                tracing::warn!(%error, cause = error.cause().map(tracing::field::display), "rollouts cannot be looked at; it is tried again");
            }
            tokio::select! {
                () = self.0.nudge.notified() => {}
                () = tokio::time::sleep(interval) => {}
                () = stop.cancelled() => {}
            }
        }
        // Lanes see the stop after the tenant that they are at, and give their leases back.
        let all = u32::try_from(self.0.rules.lanes).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(self.0.rules.lease, self.0.lanes.acquire_many(all)).await;
    }

    /// Moves every running rollout on, and takes as many of its lanes as there is room for.
    async fn start_lanes(&self, stop: &CancellationToken) -> Result<()> {
        let tx = self.0.isolation.begin_operator(&OperatorScope::reading("rollouts")).await?;
        let running = rollout_store::running(&tx).await?;
        tx.commit_unrecorded("a read").await?;
        for rollout in running {
            self.advance(rollout.rollout_id).await?;
            while let Ok(room) = self.0.lanes.clone().try_acquire_owned() {
                let Some(lane) = self.claim(rollout.rollout_id).await? else { break };
                let (worker, stop) = (self.clone(), stop.clone());
                tokio::spawn(async move {
                    worker.work(lane, &stop).await;
                    drop(room);
                    worker.0.nudge.notify_one();
                });
            }
        }
        Ok(())
    }

    /// A lane on the cell that has the most to do; `None` where all are taken, or nothing is due.
    async fn claim(&self, id: RolloutId) -> Result<Option<Lane>> {
        let tx = self.begin().await?;
        let now = tx.stamp().at;
        let Some(rollout) = rollout_store::lock(&tx, id).await?.filter(is_running) else {
            tx.rollback().await?;
            return Ok(None);
        };
        let cell = rollout_store::busiest(&tx, &rollout, self.0.region.as_deref(), now).await?;
        let lane = cell.map(|cell| Lane { rollout: id, cell, token: LeaseId::generate() });
        let taken = match lane {
            Some(lane) => rollout_store::claim(&tx, lane, now, self.until(&rollout, now)).await?,
            None => rollout_store::skip_unplaced(&tx, id, now).await.map(|_| false)?,
        };
        tx.commit_unrecorded("a lease").await?;
        Ok(lane.filter(|_| taken))
    }

    /// Stops a rollout that fails too often, opens its next wave, or ends it.
    pub(super) async fn advance(&self, id: RolloutId) -> Result<()> {
        let tx = self.begin().await?;
        let Some(rollout) = rollout_store::lock(&tx, id).await?.filter(is_running) else { return tx.rollback().await };
        let counts = rollout_store::counts(&tx, id).await?;
        match next(&rollout, &counts) {
            Next::Stay => tx.rollback().await,
            Next::Wave(wave) => {
                rollout_store::turn(&tx, &Rollout { wave, ..rollout }).await?;
                tx.commit_unrecorded("the next wave").await
            }
            Next::Stop(reason) => {
                tracing::error!(template = rollout.template, %reason, "a rollout has stopped");
                let stopped = Rollout { state: RolloutState::Stopped, reason, ..rollout.clone() };
                turn(tx, "RolloutStopped", &rollout, &stopped).await
            }
            Next::End => self.end(tx, rollout).await,
        }
    }

    /// Whoever has come in between with the version of before is tried, too; then new tenants get the new one.
    async fn end(&self, tx: OperatorTx, rollout: Rollout) -> Result<()> {
        let now = tx.stamp().at;
        let template = store::lock(&tx, &rollout.template).await?;
        let late = rollout_store::behind(&tx, &rollout).await?;
        if !late.is_empty() {
            let late: Vec<_> = late.into_iter().map(|tenant| (tenant, rollout.wave)).collect();
            rollout_store::add_tenants(&tx, rollout.rollout_id, &late, now).await?;
            return tx.commit_unrecorded("who has come in between").await;
        }
        if let Some(mut template) = template {
            template.released = template.released.max(rollout.target);
            template.updated_at = now;
            store::save(&tx, &template).await?;
        }
        let ended = Rollout { state: RolloutState::Completed, finished_at: Some(now), ..rollout.clone() };
        turn(tx, "RolloutCompleted", &rollout, &ended).await
    }

    pub(super) async fn begin(&self) -> Result<OperatorTx> {
        self.0.isolation.begin_operator(&OperatorScope::system("rollout")).await
    }

    /// Until when what is taken now is kept from other servers: one tenant that has begun may take its statement timeout.
    pub(super) fn until(&self, rollout: &Rollout, now: DateTime<Utc>) -> DateTime<Utc> {
        let lease = TimeDelta::from_std(self.0.rules.lease).unwrap_or(TimeDelta::MAX);
        now + lease + TimeDelta::milliseconds(rollout.rules.statement_timeout_ms.into())
    }
}

async fn turn(tx: OperatorTx, event: &'static str, before: &Rollout, after: &Rollout) -> Result<()> {
    rollout_store::turn(&tx, after).await?;
    let entry = Entry::new(event, "rollout", after.rollout_id).change(Some(before), Some(after))?;
    tx.commit([entry]).await
}

pub(super) fn is_running(rollout: &Rollout) -> bool {
    rollout.state == RolloutState::Running
}
