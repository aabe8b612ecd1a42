//! What is cleaned up by schedule.

use chrono::TimeDelta;

use super::{Sessions, throttle};
use crate::{error::Result, isolation::OperatorScope};

/// So long it can be seen that a session was there; what was done in it is in the journal.
const KEPT: TimeDelta = TimeDelta::days(30);
const SESSIONS: &str = "
    delete from tenantry.member_sessions where ctid = any (array(
      select ctid from tenantry.member_sessions where expires_at <= $1 order by expires_at limit 1000))";

impl Sessions {
    /// Forgets sessions of long ago, attempts that nobody goes on with, and addresses that nobody comes from any more.
    pub async fn purge(&self) -> Result<u64> {
        let now = self.isolation.clock().now();
        let known_since = now - TimeDelta::from_std(self.rules.known_address).unwrap_or(TimeDelta::MAX);
        let tx = self.isolation.begin_operator(&OperatorScope::system("purge")).await?;
        let sessions = tx.execute(SESSIONS, [(now - KEPT).into()]).await?;
        let attempts = throttle::purge(&tx, now, known_since).await?;
        tx.commit_unrecorded("what is long over means nothing").await?;
        Ok(sessions + attempts)
    }
}
