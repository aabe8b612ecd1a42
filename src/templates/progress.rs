//! How far a rollout is.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Templates,
    rollout::{Count, Rollout},
    rollout_store,
};
use crate::{
    error::{Error, Result},
    isolation::OperatorScope,
    platform::ids::{RolloutId, TenantId},
};

/// What the pace is taken from.
const PACE_OVER: TimeDelta = TimeDelta::seconds(20);

/// A rollout, and how far it is.
#[derive(Clone, Debug)]
pub struct Progress {
    pub rollout: Rollout,
    pub waves: Vec<Count>,
    /// Tenants per second, over the last 20 seconds or its whole life.
    pub rate: f64,
    /// When the last tenant is done at this pace; none where nothing moves.
    pub ends_at: Option<DateTime<Utc>>,
}

/// A tenant that waits for another try, or has failed.
#[derive(Clone, Debug)]
pub struct Trouble {
    pub tenant_id: TenantId,
    pub has_failed: bool,
    pub attempts: i32,
    /// What is wrong, as a sentence.
    pub problem: String,
    /// When it is tried again.
    pub next_attempt_at: Option<DateTime<Utc>>,
}

impl Progress {
    pub fn total(&self) -> Count {
        self.waves.iter().fold(Count::default(), |sum, one| Count {
            wave: sum.wave,
            pending: sum.pending + one.pending,
            applied: sum.applied + one.applied,
            failed: sum.failed + one.failed,
            skipped: sum.skipped + one.skipped,
        })
    }
}

impl Templates {
    pub async fn progress(&self, scope: &OperatorScope, id: RolloutId) -> Result<Progress> {
        let tx = self.0.isolation.begin_operator(scope).await?;
        let rollout = rollout_store::find(&tx, id).await?.ok_or_else(Error::not_found)?;
        let waves = rollout_store::counts(&tx, id).await?;
        let now = tx.stamp().at;
        let until = rollout.finished_at.unwrap_or(now);
        let over = if rollout.state.is_open() {
            PACE_OVER.min(until - rollout.started_at)
        } else {
            until - rollout.started_at
        };
        let done = rollout_store::pace(&tx, id, until - over).await?;
        tx.commit_unrecorded("a read").await?;
        let seconds = over.as_seconds_f64();
        let rate = if seconds > 0.0 { done as f64 / seconds } else { 0.0 };
        let progress = Progress { rollout, waves, rate, ends_at: None };
        let left = progress.total().pending as f64;
        let moves = progress.rollout.state.is_open() && rate > 0.0 && left > 0.0;
        let ends_at = moves.then(|| now + TimeDelta::milliseconds((left / rate * 1000.0) as i64));
        Ok(Progress { ends_at, ..progress })
    }

    /// Rollouts of the template, the newest first.
    pub async fn rollouts(&self, scope: &OperatorScope, template: &str, limit: u32) -> Result<Vec<Rollout>> {
        let tx = self.0.isolation.begin_operator(scope).await?;
        let rollouts = rollout_store::of_template(&tx, template, limit.into()).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(rollouts)
    }

    /// Up to `limit` tenants that wait for another try or have failed.
    pub async fn troubles(&self, scope: &OperatorScope, id: RolloutId, limit: u32) -> Result<Vec<Trouble>> {
        let tx = self.0.isolation.begin_operator(scope).await?;
        let rows = rollout_store::troubles(&tx, id, limit.into()).await?;
        tx.commit_unrecorded("a read").await?;
        let trouble = |row: rollout_store::TroubleRow| Trouble {
            tenant_id: row.tenant_id,
            has_failed: row.state == "FAILED",
            attempts: row.attempts,
            problem: row.problem,
            next_attempt_at: (row.state == "PENDING").then_some(row.due_at),
        };
        Ok(rows.into_iter().map(trouble).collect())
    }
}
