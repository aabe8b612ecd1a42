//! Totals are made of what was accepted, beside requests, and alerts fire on them.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{Usage, store};
use crate::{error::Result, isolation::OperatorScope};

/// Events that one transaction takes: some seconds' worth at most, so that no statement runs into its time limit.
const EVENTS: i64 = 50_000;

impl Usage {
    /// Makes totals of what waits, again and again until the server stops. Every replica does: what one has taken, the others pass by.
    pub async fn run(self, interval: Duration, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            while !stop.is_cancelled() {
                let folded = self.fold().await;
                if let Err(error) = &folded {
                    metrics::counter!("tenantry_usage_fold_failures_total").increment(1);
                    tracing::warn!(%error, cause = error.cause().map(tracing::field::display), "no totals of usage are made; it is tried again");
                }
                // Also of what another server has marked, and did not come to.
                if let Err(error) = self.fire_alerts().await {
                    tracing::warn!(%error, cause = error.cause().map(tracing::field::display), "nothing is looked at for alerts of usage; it is tried again");
                }
                if !matches!(folded, Ok(true)) {
                    break;
                }
            }
        }
    }

    /// Moves accepted events into totals, in one transaction. Answers whether there may be more. Nothing that is read changes by it.
    pub async fn fold(&self) -> Result<bool> {
        let tx = self.isolation.begin_operator(&OperatorScope::system("usage")).await?;
        let rows = store::fold(&tx, EVENTS).await?;
        tx.commit_unrecorded("the same events, elsewhere").await?;
        Ok(rows > 0)
    }
}
