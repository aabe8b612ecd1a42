//! Events and their keys are kept for a time; totals stay.

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};

use super::{Usage, store};
use crate::{error::Result, isolation::OperatorScope};

/// Rows that one transaction removes: few enough to hold nobody up.
const ROWS: i64 = 5000;

impl Usage {
    /// Removes keys that came longer ago than `usage.keep_events`, and what lies in no partition of events. Answers whether there may be
    /// more. What is in no total yet is never removed.
    pub async fn remove_old(&self) -> Result<bool> {
        let Some(before) = self.kept_since() else { return Ok(false) };
        let tx = self.isolation.begin_operator(&OperatorScope::system("usage")).await?;
        let events = match before.date_naive().pred_opt() {
            // A day later than partitions go: what goes with one is not removed row by row.
            Some(day) => store::remove_events(&tx, day.and_time(NaiveTime::MIN).and_utc(), ROWS).await?,
            None => 0,
        };
        let keys = store::remove_keys(&tx, before, ROWS).await?;
        tx.commit_unrecorded("what was counted stays in totals").await?;
        metrics::counter!("tenantry_usage_removed_rows_total").increment(events + keys);
        Ok(events.max(keys) == ROWS as u64)
    }

    /// Events and keys of before are not kept.
    pub(super) fn kept_since(&self) -> Option<DateTime<Utc>> {
        let keep = TimeDelta::from_std(self.rules.keep_events).unwrap_or(TimeDelta::MAX);
        self.isolation.clock().now().checked_sub_signed(keep)
    }
}
