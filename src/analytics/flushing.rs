//! What was counted in memory goes into the tables, beside requests.

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{Analytics, store};
use crate::{error::Result, isolation::OperatorScope};

/// Rows that one statement adds.
const ROWS: usize = 2000;

impl Analytics {
    /// Flushes again and again until the server stops; who stops it flushes once more, when the last request is answered.
    pub async fn run(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(self.rules.flush);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if let Err(error) = self.flush().await {
                metrics::counter!("tenantry_analytics_flush_failures_total").increment(1);
                tracing::warn!(%error, cause = error.cause().map(tracing::field::display), "statistics of requests are not written down; it is tried again");
            }
        }
    }

    /// Adds everything that was answered before to the tables. What fails waits for the next time; where a commit's answer is lost,
    /// those rows may count twice.
    pub async fn flush(&self) -> Result<()> {
        let mut waiting = self.waiting.lock().await;
        let dropped = waiting.append(self.requests.take());
        if dropped > 0 {
            metrics::counter!("tenantry_analytics_dropped_requests_total").increment(dropped);
        }
        while !waiting.is_empty() {
            let tx = self.isolation.begin_operator(&OperatorScope::system("analytics")).await?;
            let rows: Vec<_> = waiting.rows.iter().take(ROWS).collect();
            let callers: Vec<_> = waiting.callers.iter().take(ROWS).copied().collect();
            store::add(&tx, &rows, &callers).await?;
            let written: Vec<_> = rows.into_iter().map(|(row, _)| row.clone()).collect();
            tx.commit_unrecorded("statistics of what was asked").await?;
            for row in &written {
                waiting.rows.remove(row);
            }
            for caller in &callers {
                waiting.callers.remove(caller);
            }
        }
        Ok(())
    }
}
