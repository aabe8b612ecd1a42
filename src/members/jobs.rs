//! What is cleaned up by schedule.

use super::Members;
use crate::{error::Result, isolation::OperatorScope};

const LINKS: &str = "
    delete from tenantry.member_links where (tenant_id, member_id, purpose) in (
      select tenant_id, member_id, purpose from tenantry.member_links where expires_at <= $1 order by expires_at limit 1000)";

impl Members {
    /// Forgets links whose time is over.
    pub async fn purge_links(&self) -> Result<u64> {
        let now = self.isolation.clock().now();
        let tx = self.isolation.begin_operator(&OperatorScope::system("purge")).await?;
        let purged = tx.execute(LINKS, [now.into()]).await?;
        tx.commit_unrecorded("links whose time is over are worth nothing").await?;
        Ok(purged)
    }
}
