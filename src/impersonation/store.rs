//! The rows of impersonations.

use chrono::{DateTime, Utc};
use sea_orm::QueryResult;

use super::{Ender, Impersonation};
use crate::{
    error::{Context as _, Result},
    isolation::TenantTx,
    platform::{
        db::Tx,
        ids::{ImpersonationId, TenantId},
        page::{Page, PageRequest},
    },
};

const COLUMNS: &str =
    "impersonation_id, operator, reason, scopes, tenant_epoch, began_at, ends_at, ended_at, ended_by_kind, ended_by";

const INSERT: &str = "
    insert into tenantry.impersonations (tenant_id, impersonation_id, operator, reason, scopes, tenant_epoch, began_at, ends_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8)";
const END: &str = "
    update tenantry.impersonations set ended_at = $3, ended_by_kind = $4, ended_by = $5
    where tenant_id = $1 and impersonation_id = $2 and ended_at is null";
const PURGE: &str = "
    delete from tenantry.impersonations where ctid = any (array(
      select ctid from tenantry.impersonations where ends_at <= $1 order by ends_at limit 1000))";
const RUNNING: &str = "
    select count(*) as running from tenantry.impersonations i join tenantry.tenants t on t.tenant_id = i.tenant_id
    where i.ends_at > $1 and i.ended_at is null and i.tenant_epoch = t.access_epoch";

fn impersonation(row: &QueryResult) -> Result<Impersonation> {
    let kind: Option<String> = row.try_get("", "ended_by_kind")?;
    let name: Option<String> = row.try_get("", "ended_by")?;
    Ok(Impersonation {
        id: row.try_get("", "impersonation_id")?,
        operator: row.try_get("", "operator")?,
        reason: row.try_get("", "reason")?,
        scopes: row.try_get("", "scopes")?,
        tenant_epoch: row.try_get("", "tenant_epoch")?,
        began_at: row.try_get("", "began_at")?,
        ends_at: row.try_get("", "ends_at")?,
        ended_at: row.try_get("", "ended_at")?,
        ended_by: kind.zip(name).map(|(kind, name)| Ender { kind, name }),
    })
}

pub(super) async fn find(tx: &Tx, tenant: TenantId, id: ImpersonationId) -> Result<Option<Impersonation>> {
    let find = format!("select {COLUMNS} from tenantry.impersonations where tenant_id = $1 and impersonation_id = $2");
    tx.row(&find, [tenant.into(), id.into()]).await?.as_ref().map(impersonation).transpose()
}

pub(super) async fn lock(tx: &TenantTx, id: ImpersonationId) -> Result<Option<Impersonation>> {
    let lock = format!(
        "select {COLUMNS} from tenantry.impersonations where tenant_id = $1 and impersonation_id = $2 for update"
    );
    tx.row(&lock, [tx.tenant().into(), id.into()]).await?.as_ref().map(impersonation).transpose()
}

/// All that are kept, the newest first.
pub(super) async fn list(tx: &Tx, tenant: TenantId, page: &PageRequest) -> Result<Page<Impersonation>> {
    let before: Option<ImpersonationId> = page.key()?;
    let list = format!(
        "select {COLUMNS} from tenantry.impersonations
         where tenant_id = $1 and ($2::uuid is null or impersonation_id < $2) order by impersonation_id desc limit $3"
    );
    let most = i64::try_from(page.first).unwrap_or(i64::MAX).saturating_add(1);
    let values = [tenant.into(), before.map(ImpersonationId::uuid).into(), most.into()];
    Ok(page.page(tx.rows(&list, values).await?.iter().map(impersonation).collect::<Result<_>>()?))
}

pub(super) async fn insert(tx: &TenantTx, impersonation: &Impersonation) -> Result<()> {
    let values = [
        tx.tenant().into(),
        impersonation.id.into(),
        impersonation.operator.as_str().into(),
        impersonation.reason.as_str().into(),
        impersonation.scopes.clone().into(),
        impersonation.tenant_epoch.into(),
        impersonation.began_at.into(),
        impersonation.ends_at.into(),
    ];
    tx.execute(INSERT, values).await?;
    Ok(())
}

pub(super) async fn end(tx: &TenantTx, ended: &Impersonation) -> Result<()> {
    let (kind, name) = ended.ended_by.clone().map(|by| (by.kind, by.name)).unzip();
    tx.execute(END, [tx.tenant().into(), ended.id.into(), ended.ended_at.into(), kind.into(), name.into()]).await?;
    Ok(())
}

/// Forgets some of those that ended before; how many.
pub(super) async fn purge(tx: &Tx, before: DateTime<Utc>) -> Result<u64> {
    Ok(tx.execute(PURGE, [before.into()]).await?)
}

/// How many go on, in all tenants.
pub(super) async fn running(tx: &Tx, now: DateTime<Utc>) -> Result<i64> {
    let row = tx.row(RUNNING, [now.into()]).await?.context("count impersonations")?;
    Ok(row.try_get("", "running")?)
}
