//! Events and their keys are kept for a time; totals stay.

use chrono::TimeDelta;

use super::{Usage, store};
use crate::{error::Result, isolation::OperatorScope};

/// Rows that one transaction removes: few enough to hold nobody up.
const ROWS: i64 = 5000;

impl Usage {
    /// Removes events that are older than `usage.keep_events`, and their keys, by when they arrived. Answers whether there may be more.
    /// What is in no total yet is never removed.
    pub async fn remove_old(&self) -> Result<bool> {
        let keep = TimeDelta::from_std(self.rules.keep_events).unwrap_or(TimeDelta::MAX);
        let Some(before) = self.isolation.clock().now().checked_sub_signed(keep) else { return Ok(false) };
        let tx = self.isolation.begin_operator(&OperatorScope::system("usage")).await?;
        let removed = store::remove_before(&tx, before, ROWS).await?;
        tx.commit_unrecorded("what was counted stays in totals").await?;
        metrics::counter!("tenantry_usage_removed_rows_total").increment(removed.iter().sum());
        Ok(removed.contains(&(ROWS as u64)))
    }
}
