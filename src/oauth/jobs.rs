//! What is cleaned up by schedule: rows that do not matter any more.

use chrono::{DateTime, Utc};

use super::OAuth;
use crate::{error::Result, isolation::OperatorScope, platform::db::Tx};

/// Rows that one statement deletes, and how often that is repeated in one run: nothing is locked for long, and a backlog is
/// worked off over several runs.
const BATCH: i64 = 1_000;
const BATCHES: usize = 10;

/// `ctid` names a row for the time of the statement; a row that somebody else deletes or renews meanwhile is left alone.
const REVOKED: &str = "
    delete from tenantry.revoked_tokens where ctid = any (array(
      select ctid from tenantry.revoked_tokens where expires_at <= $1 order by expires_at limit $2))";
const ASSERTIONS: &str = "
    delete from tenantry.used_assertions where ctid = any (array(
      select ctid from tenantry.used_assertions where expires_at <= $1 order by expires_at limit $2))";
const IDEMPOTENCY: &str = "
    delete from tenantry.idempotency_keys where ctid = any (array(
      select ctid from tenantry.idempotency_keys where created_at <= $1 order by created_at limit $2))";

/// How many rows went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    pub revoked_tokens: u64,
    pub used_assertions: u64,
    pub idempotency_keys: u64,
    /// Some are left: a run deletes only so many.
    pub is_cut_short: bool,
}

impl OAuth {
    /// Reads revocations again where that failed before; asks nothing of the database where it did not.
    pub async fn complete_revocations(&self) -> Result<()> {
        self.reload_revocations().await
    }

    /// Deletes what has expired, in memory and in the database. Safe to run on every replica at once.
    pub async fn purge_expired(&self) -> Result<Purged> {
        let parts = &self.0;
        let now = parts.isolation.clock().now();
        parts.revocations.forget_expired(now);
        let revoked_tokens = self.purge(REVOKED, now).await?;
        let used_assertions = self.purge(ASSERTIONS, now).await?;
        let idempotency_keys = self.purge(IDEMPOTENCY, now - parts.settings.idempotency_retention).await?;
        let most = BATCH.unsigned_abs() * BATCHES as u64;
        let is_cut_short = [revoked_tokens, used_assertions, idempotency_keys].contains(&most);
        Ok(Purged { revoked_tokens, used_assertions, idempotency_keys, is_cut_short })
    }

    async fn purge(&self, statement: &str, before: DateTime<Utc>) -> Result<u64> {
        let scope = OperatorScope::system("purge");
        let mut purged = 0;
        for _ in 0..BATCHES {
            let tx = self.0.isolation.begin_operator(&scope).await?;
            let gone = delete(&tx, statement, before).await?;
            tx.commit_unrecorded("rows whose time is over mean nothing").await?;
            purged += gone;
            if gone < BATCH.unsigned_abs() {
                break;
            }
        }
        Ok(purged)
    }
}

async fn delete(tx: &Tx, statement: &str, before: DateTime<Utc>) -> Result<u64> {
    Ok(tx.execute(statement, [before.into(), BATCH.into()]).await?)
}
