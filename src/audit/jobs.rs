//! What audit does by schedule: checkpoints of the chains that grew.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::FromQueryResult as _;

use super::{Audit, Checkpoint};
use crate::{
    access::Detached,
    error::{Context as _, Result},
    isolation::{OperatorScope, OperatorTx},
};

/// A batch holds back the writers of as many tenants for about 2 ms each (signing takes one), so it is small.
const BATCH: usize = 16;
/// The most that one run signs; the next one goes on.
const MOST_BATCHES: usize = 64;

/// `at` is the checkpoint's own time.
const DUE: &str = "
    select tenant_id, sequence, hash, $3 as at from tenantry.journal_heads
    where unsigned_since is not null and sequence > checkpoint and (sequence - checkpoint >= $1 or unsigned_since <= $2)
    order by unsigned_since limit $4 for update skip locked";
/// A head that was set back by force meets the checkpoint that it had: that one stays, as evidence.
const KEEP: &str = "
    insert into tenantry.journal_checkpoints (tenant_id, sequence, hash, at, kid, signature)
    values ($1, $2, $3, $4, $5, $6) on conflict (tenant_id, sequence) do nothing";
const MARK: &str = "update tenantry.journal_heads set checkpoint = $2, unsigned_since = null where tenant_id = $1";

impl Audit {
    /// Signs the heads that have enough unsigned entries or have waited long enough; answers how many. Safe to run on every
    /// replica at once: each takes heads that no other holds.
    pub async fn sign_checkpoints(&self) -> Result<usize> {
        let mut signed = 0;
        for _ in 0..MOST_BATCHES {
            let batch = self.sign_batch().await?;
            signed += batch;
            if batch < BATCH {
                break;
            }
        }
        metrics::counter!("tenantry_journal_checkpoints_total").increment(signed as u64);
        Ok(signed)
    }

    async fn sign_batch(&self) -> Result<usize> {
        let scope = OperatorScope::system("checkpoints");
        let tx = self.isolation.begin_operator(&scope).await?;
        let due = self.due(&tx).await?;
        for (checkpoint, signature) in self.signed(&due).await? {
            keep(&tx, checkpoint, signature).await?;
        }
        tx.commit_unrecorded("a checkpoint is about the record, not part of it").await?;
        Ok(due.len())
    }

    async fn due(&self, tx: &OperatorTx) -> Result<Vec<Checkpoint>> {
        let now = tx.stamp().at;
        let values = [
            self.settings.checkpoint_entries.into(),
            self.signed_before(now).into(),
            now.into(),
            (BATCH as i64).into(),
        ];
        let rows = tx.rows(DUE, values).await?;
        Ok(rows.iter().map(|row| Checkpoint::from_query_result(row, "")).collect::<Result<_, _>>()?)
    }

    /// What has been unsigned since then, or longer, is due.
    fn signed_before(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let interval = TimeDelta::from_std(self.settings.checkpoint_interval).unwrap_or(TimeDelta::MAX);
        now.checked_sub_signed(interval).unwrap_or(DateTime::<Utc>::MIN_UTC)
    }

    async fn signed(&self, due: &[Checkpoint]) -> Result<Vec<(Checkpoint, Detached)>> {
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let (keyring, due) = (self.keyring.clone(), due.to_vec());
        let signing = move || {
            let sign = |checkpoint: Checkpoint| Ok((keyring.sign_bytes(&checkpoint.canonical())?, checkpoint));
            due.into_iter()
                .map(sign)
                .map(|signed: Result<_>| signed.map(|(signature, checkpoint)| (checkpoint, signature)))
                .collect()
        };
        tokio::task::spawn_blocking(signing).await.context("sign checkpoints")?
    }
}

async fn keep(tx: &OperatorTx, checkpoint: Checkpoint, signature: Detached) -> Result<()> {
    let (tenant, sequence) = (checkpoint.tenant_id, checkpoint.sequence);
    let values = [
        tenant.into(),
        sequence.into(),
        checkpoint.hash.into(),
        checkpoint.at.into(),
        signature.kid.into(),
        signature.signature.into(),
    ];
    tx.execute(KEEP, values).await?;
    tx.execute(MARK, [tenant.into(), sequence.into()]).await?;
    Ok(())
}
