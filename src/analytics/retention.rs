//! Statistics are kept for a time.

use chrono::TimeDelta;

use super::{Analytics, store};
use crate::{error::Result, isolation::OperatorScope};

/// Rows that one transaction removes: few enough to hold nobody up.
const ROWS: i64 = 5000;

impl Analytics {
    /// Removes figures of requests that are older than `analytics.keep`. Answers whether there may be more.
    pub async fn remove_old(&self) -> Result<bool> {
        let keep = TimeDelta::from_std(self.rules.keep).unwrap_or(TimeDelta::MAX);
        let Some(before) = self.isolation.clock().now().checked_sub_signed(keep) else { return Ok(false) };
        let tx = self.isolation.begin_operator(&OperatorScope::system("analytics")).await?;
        let removed = store::remove_before(&tx, before, ROWS).await?;
        tx.commit_unrecorded("statistics are kept for a time").await?;
        metrics::counter!("tenantry_analytics_removed_rows_total").increment(removed.iter().sum());
        Ok(removed.contains(&(ROWS as u64)))
    }
}
