//! The check of a chain against the database: page by page, so that neither memory nor a transaction grows with it.

use sea_orm::{FromQueryResult as _, QueryResult};

use super::{
    Audit, Chain, Checkpoint, Filter, Order, Report, Row,
    checkpoint::SignedCheckpoint,
    list::{self, Wanted},
    record::Cursor,
    walk::{End, Walk},
};
use crate::{
    access::Detached,
    error::{Context as _, Result},
    isolation::{OperatorScope, TenantScope},
    platform::{db::Tx, ids::TenantId},
};

const PAGE: usize = 1000;

const CHECKPOINTS: &str = "
    select tenant_id, sequence, hash, at, kid, signature from tenantry.journal_checkpoints
    where tenant_id = $1 and sequence > $2 and sequence <= $3 order by sequence";
/// One statement, so one moment: a writer can come between two.
const END: &str = "
    select head.sequence as head, head.hash as head_hash, head.checkpoint as head_checkpoint,
      (select max(sequence) from tenantry.journal where tenant_id = $1) as last,
      (select max(sequence) from tenantry.journal_checkpoints where tenant_id = $1) as last_checkpoint
    from (select 1) once left join tenantry.journal_heads head on head.tenant_id = $1";

impl Audit {
    /// Checks every entry, link and checkpoint of the tenant's chain. Finds any edit, removal and reordering, and whatever was
    /// cut off behind a checkpoint. What was not signed yet (see `journal.checkpoint_interval`) somebody who owns the
    /// database could have made anew.
    pub async fn verify(&self, scope: &TenantScope) -> Result<Report> {
        self.verify_chain(&Chain::Tenant(scope.clone())).await
    }

    /// The same of the platform's own chain.
    pub async fn verify_platform(&self, scope: &OperatorScope) -> Result<Report> {
        self.verify_chain(&Chain::Platform(scope.clone())).await
    }

    pub async fn verify_chain(&self, chain: &Chain) -> Result<Report> {
        let _permit = self.long.acquire().await.context("wait for other verifications")?;
        let mut walk = Walk::new();
        let mut after = i64::MIN;
        loop {
            let page = self.walk_page(chain, after, &mut walk).await?;
            after = page.last().map_or(after, |row| row.record.sequence);
            if page.len() == PAGE {
                continue;
            }
            let end = self.end(chain).await?;
            if end.head.is_none() && end.last.is_none() {
                chain.nothing_there()?;
            }
            // What was written meanwhile is checked, too.
            if end.last.is_none_or(|last| last <= after) {
                return Ok(walk.finish(&end));
            }
        }
    }

    async fn walk_page(&self, chain: &Chain, after: i64, walk: &mut Walk) -> Result<Vec<Row>> {
        let tx = self.read_chain(chain).await?;
        let rows = entries(&tx, chain.tenant(), after).await?;
        let last = rows.last().map_or(after, |row| row.record.sequence);
        let checkpoints = checkpoints(&tx, chain.tenant(), after, last).await?;
        tx.end().await?;
        rows.iter().for_each(|row| walk.step(&row.record));
        for signed in &checkpoints {
            let named = rows.binary_search_by_key(&signed.checkpoint.sequence, |row| row.record.sequence).ok();
            walk.checkpoint(signed, named.map(|index| &rows[index].record), &self.keyring);
        }
        Ok(rows)
    }

    async fn end(&self, chain: &Chain) -> Result<End> {
        let tx = self.read_chain(chain).await?;
        let row = tx.row(END, [chain.tenant().into()]).await?.context("read the end of the chain")?;
        tx.end().await?;
        Ok(End::from_query_result(&row, "")?)
    }
}

async fn entries(tx: &Tx, tenant: TenantId, after: i64) -> Result<Vec<Row>> {
    let (filter, after) = (Filter::default(), Some(Cursor::Sequence(after)));
    let wanted =
        Wanted { tenant: Some(tenant), filter: &filter, order: Order::OldestFirst, after, unseen: None, limit: PAGE };
    list::rows(tx, wanted).await
}

async fn checkpoints(tx: &Tx, tenant: TenantId, after: i64, last: i64) -> Result<Vec<SignedCheckpoint>> {
    let rows = tx.rows(CHECKPOINTS, [tenant.into(), after.into(), last.into()]).await?;
    rows.iter().map(signed).collect()
}

fn signed(row: &QueryResult) -> Result<SignedCheckpoint> {
    let signature = Detached { kid: row.try_get("", "kid")?, signature: row.try_get("", "signature")? };
    Ok(SignedCheckpoint { checkpoint: Checkpoint::from_query_result(row, "")?, signature })
}
