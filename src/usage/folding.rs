//! Totals are made of what was accepted, beside requests.

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
                match self.fold().await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        metrics::counter!("tenantry_usage_fold_failures_total").increment(1);
                        tracing::warn!(%error, cause = error.cause().map(tracing::field::display), "no totals of usage are made; it is tried again");
                        break;
                    }
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
