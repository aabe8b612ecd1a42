//! The safety net below notifications: one look at the journal a second for all who wait on this replica, however many.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{Mutex, OwnedMutexGuard};

use super::Audit;
use crate::{
    error::{Context as _, Result},
    isolation::OperatorScope,
};

/// How often those who wait ask for a beat.
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// A beat this young is not repeated.
const FRESH: Duration = Duration::from_millis(900);

#[derive(Debug, Default)]
pub(super) struct Pulse {
    last: Arc<Mutex<Beat>>,
}

#[derive(Debug, Default)]
struct Beat {
    at: Option<Instant>,
    /// Every transaction before this one (an `xid8`) had ended at the last beat.
    horizon: Option<String>,
}

impl Audit {
    /// Wakes those whose tenants have entries since the last beat, unless somebody has just done so. It does not wait for it.
    pub(super) fn beat(&self) {
        let Ok(last) = self.pulse.last.clone().try_lock_owned() else { return };
        if last.at.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        let audit = self.clone();
        tokio::spawn(async move {
            if let Err(error) = audit.look(last).await {
                tracing::debug!(cause = ?error.cause(), "the journal cannot be looked at; the next beat tries again");
            }
        });
    }

    async fn look(&self, mut last: OwnedMutexGuard<Beat>) -> Result<()> {
        const HORIZON: &str = "select pg_snapshot_xmin(pg_current_snapshot())::text as horizon";
        const GROWN: &str = "select distinct tenant_id from tenantry.journal where transaction >= $1::xid8";
        last.at = Some(Instant::now());
        let tx = self.isolation.begin_operator(&OperatorScope::system("pulse")).await?;
        let row = tx.row(HORIZON, []).await?.context("read the oldest transaction")?;
        let horizon: String = row.try_get("", "horizon")?;
        let Some(since) = last.horizon.clone() else {
            // The first look does not know since when.
            tx.commit_unrecorded("a read").await?;
            last.horizon = Some(horizon);
            self.signals.raise_all();
            return Ok(());
        };
        let grown = tx.rows(GROWN, [since.into()]).await?;
        tx.commit_unrecorded("a read").await?;
        last.horizon = Some(horizon);
        for row in grown {
            self.signals.raise(row.try_get("", "tenant_id")?);
        }
        Ok(())
    }
}
