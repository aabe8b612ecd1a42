//! What is counted and cleaned up by schedule.

use chrono::TimeDelta;

use super::{Impersonations, store};
use crate::{error::Result, isolation::OperatorScope};

impl Impersonations {
    /// Forgets impersonations of long ago, and counts those that go on; how many were forgotten.
    pub async fn tidy(&self) -> Result<u64> {
        let now = self.isolation.clock().now();
        let keep = TimeDelta::from_std(self.rules.keep).unwrap_or(TimeDelta::MAX);
        let tx = self.isolation.begin_operator(&OperatorScope::system("impersonations")).await?;
        let purged = store::purge(&tx, now - keep).await?;
        let running = store::running(&tx, now).await?;
        tx.commit_unrecorded("what was done is in the journal").await?;
        metrics::gauge!("tenantry_impersonations_running").set(running as f64);
        Ok(purged)
    }
}
