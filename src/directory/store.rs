//! The rows of `directories` and `directory_permits`.

use chrono::{DateTime, Utc};
use sea_orm::QueryResult;

use super::{Permit, View};
use crate::{
    error::{Context as _, Result},
    isolation::{OperatorTx, TenantTx},
    platform::{
        db::{Tx, violated_constraint},
        ids::TenantId,
    },
    tenant_keys::Sealed,
};

const FIND: &str = "select * from tenantry.directories where tenant_id = $1";
const LOCK: &str = "select * from tenantry.directories where tenant_id = $1 for update";
const PUT: &str = "
    insert into tenantry.directories
      (tenant_id, settings, key_version, sealed_secret, secret_set_at, next_sync_at, version, created_at, updated_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    on conflict (tenant_id) do update set
      settings = excluded.settings, key_version = excluded.key_version, sealed_secret = excluded.sealed_secret,
      secret_set_at = excluded.secret_set_at, next_sync_at = excluded.next_sync_at, version = excluded.version,
      updated_at = excluded.updated_at";
/// The secret stays as it is.
const CHANGE: &str = "
    update tenantry.directories set settings = $2, next_sync_at = $3, version = $4, updated_at = $5 where tenant_id = $1";
const DELETE: &str = "delete from tenantry.directories where tenant_id = $1";
const FIND_PERMIT: &str = "select * from tenantry.directory_permits where tenant_id = $1";
const LOCK_PERMIT: &str = "select * from tenantry.directory_permits where tenant_id = $1 for update";
const PUT_PERMIT: &str = "
    insert into tenantry.directory_permits (tenant_id, plain_text, unverified, reason, version, created_at, updated_at)
    values ($1, $2, $3, $4, $5, $6, $6)
    on conflict (tenant_id) do update set
      plain_text = excluded.plain_text, unverified = excluded.unverified, reason = excluded.reason,
      version = excluded.version, updated_at = excluded.updated_at";

/// What is kept of a tenant's directory.
#[derive(Clone, Debug)]
pub(super) struct Configured {
    pub(super) view: View,
    pub(super) sealed: Vec<u8>,
}

pub(super) async fn find(tx: &TenantTx) -> Result<Option<Configured>> {
    tx.row(FIND, [tx.tenant().into()]).await?.as_ref().map(configured).transpose()
}

/// The row, held until the transaction ends.
pub(super) async fn lock(tx: &TenantTx) -> Result<Option<Configured>> {
    tx.row(LOCK, [tx.tenant().into()]).await?.as_ref().map(configured).transpose()
}

/// False where the data key that sealed it is gone.
pub(super) async fn put(tx: &TenantTx, view: &View, sealed: Option<&Sealed>) -> Result<bool> {
    let settings = serde_json::to_value(&view.settings).context("write the settings of a directory")?;
    let Some(Sealed { version, bytes }) = sealed else {
        let values = [
            tx.tenant().into(),
            settings.into(),
            view.next_sync_at.into(),
            view.version.into(),
            view.updated_at.into(),
        ];
        tx.execute(CHANGE, values).await?;
        return Ok(true);
    };
    let values = [
        tx.tenant().into(),
        settings.into(),
        (*version).into(),
        bytes.clone().into(),
        view.secret_set_at.into(),
        view.next_sync_at.into(),
        view.version.into(),
        view.created_at.into(),
        view.updated_at.into(),
    ];
    match tx.execute(PUT, values).await {
        Ok(_) => Ok(true),
        Err(error) if violated_constraint(&error) == Some("directories_tenant_id_key_version_fkey") => Ok(false),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn delete(tx: &TenantTx) -> Result<()> {
    tx.execute(DELETE, [tx.tenant().into()]).await?;
    Ok(())
}

pub(super) async fn find_permit(tx: &Tx, tenant: TenantId) -> Result<Option<Permit>> {
    tx.row(FIND_PERMIT, [tenant.into()]).await?.as_ref().map(permit).transpose()
}

pub(super) async fn lock_permit(tx: &OperatorTx, tenant: TenantId) -> Result<Option<Permit>> {
    tx.row(LOCK_PERMIT, [tenant.into()]).await?.as_ref().map(permit).transpose()
}

pub(super) async fn put_permit(tx: &OperatorTx, tenant: TenantId, permit: &Permit) -> Result<()> {
    let values = [
        tenant.into(),
        permit.plain_text.into(),
        permit.unverified.into(),
        permit.reason.as_str().into(),
        permit.version.into(),
        tx.stamp().at.into(),
    ];
    tx.execute(PUT_PERMIT, values).await?;
    Ok(())
}

fn configured(row: &QueryResult) -> Result<Configured> {
    let settings: serde_json::Value = row.try_get("", "settings")?;
    let at = |column| -> Result<DateTime<Utc>> { Ok(row.try_get("", column)?) };
    let view = View {
        settings: serde_json::from_value(settings).context("read the settings of a directory")?,
        secret_set_at: at("secret_set_at")?,
        next_sync_at: row.try_get("", "next_sync_at")?,
        version: row.try_get("", "version")?,
        created_at: at("created_at")?,
        updated_at: at("updated_at")?,
    };
    Ok(Configured { view, sealed: row.try_get("", "sealed_secret")? })
}

fn permit(row: &QueryResult) -> Result<Permit> {
    Ok(Permit {
        plain_text: row.try_get("", "plain_text")?,
        unverified: row.try_get("", "unverified")?,
        reason: row.try_get("", "reason")?,
        version: row.try_get("", "version")?,
        updated_at: row.try_get("", "updated_at")?,
    })
}
