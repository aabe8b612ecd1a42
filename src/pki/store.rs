//! The tables of authorities and policies; those of lists are in `list_store.rs`.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sea_orm::QueryResult;

use super::{
    anchor::{Anchor, Role},
    certificate::Certificate,
    expiry::DAYS,
    policy::{Policy, Revocation},
};
use crate::{
    error::{Error, Result},
    isolation::{OperatorTx, TenantTx},
    platform::ids::{TenantId, TrustAnchorId},
};

/// Changes of one tenant go one after the other.
const LOCK: &str = "select pg_advisory_xact_lock(hashtextextended('tenantry.trust_anchors ' || $1::text, 0))::text";

const ANCHORS: &str = "
    select tenant_id, anchor_id, role, der, added_at, added_by from tenantry.trust_anchors
    where tenant_id = $1 and ($2::uuid is null or anchor_id > $2) order by anchor_id limit $3";

const EXPIRING: &str = "
    select tenant_id, anchor_id, role, der, added_at, added_by from tenantry.trust_anchors
    where not_after < $1 order by not_after, tenant_id, anchor_id limit $2";

const INSERT_ANCHOR: &str = "
    insert into tenantry.trust_anchors (tenant_id, anchor_id, role, fingerprint, der, not_after, added_at, added_by)
    values ($1, $2, $3, $4, $5, $6, $7, $8)";

const DELETE_ANCHOR: &str = "delete from tenantry.trust_anchors where tenant_id = $1 and anchor_id = $2";

/// Tenants with a certificate whose end is near, of which not all has been told.
const TO_TELL: &str = "
    select distinct anchors.tenant_id from tenantry.trust_anchors anchors
    where anchors.not_after <= $1::timestamptz + $5 * interval '1 day' and anchors.tenant_id > $2
      and exists (
        select from unnest($4::int4[]) threshold (days)
        where anchors.not_after - threshold.days * interval '1 day' <= $1
          and not exists (select from tenantry.trust_anchor_alerts told
            where told.tenant_id = anchors.tenant_id and told.anchor_id = anchors.anchor_id and told.days = threshold.days))
    order by anchors.tenant_id limit $3";

const NOTE_ALERT: &str = "
    insert into tenantry.trust_anchor_alerts (tenant_id, anchor_id, days, at) values ($1, $2, $3, $4) on conflict do nothing";

const POLICY: &str = "
    select revocation, ocsp, fetch_lists, mapping, version, updated_at from tenantry.certificate_policies where tenant_id = $1";

const PUT_POLICY: &str = "
    insert into tenantry.certificate_policies (tenant_id, revocation, ocsp, fetch_lists, mapping, version, updated_at)
    values ($1, $2, $3, $4, $5, $6, $7)
    on conflict (tenant_id) do update set revocation = excluded.revocation, ocsp = excluded.ocsp,
        fetch_lists = excluded.fetch_lists, mapping = excluded.mapping, version = excluded.version, updated_at = excluded.updated_at";

pub(super) async fn lock(tx: &TenantTx) -> Result<()> {
    tx.row(LOCK, [tx.tenant().into()]).await?;
    Ok(())
}

/// All of the tenant.
pub(super) async fn anchors(tx: &TenantTx) -> Result<Vec<Anchor>> {
    anchors_after(tx, None, super::anchor::MOST).await
}

pub(super) async fn anchors_after(tx: &TenantTx, after: Option<TrustAnchorId>, limit: usize) -> Result<Vec<Anchor>> {
    let rows = tx.rows(ANCHORS, [tx.tenant().into(), after.into(), (limit as i64).into()]).await?;
    rows.iter().map(|row| anchor(row).map(|(_, anchor)| anchor)).collect()
}

pub(super) async fn expiring_of_all(
    tx: &OperatorTx,
    until: DateTime<Utc>,
    limit: usize,
) -> Result<Vec<(TenantId, Anchor)>> {
    let rows = tx.rows(EXPIRING, [until.into(), (limit as i64).into()]).await?;
    rows.iter().map(anchor).collect()
}

pub(super) async fn insert_anchor(tx: &TenantTx, anchor: &Anchor) -> Result<()> {
    let values = [
        tx.tenant().into(),
        anchor.anchor_id.into(),
        anchor.role.name().into(),
        anchor.certificate.fingerprint.to_vec().into(),
        anchor.certificate.der.to_vec().into(),
        anchor.certificate.not_after.into(),
        anchor.added_at.into(),
        anchor.added_by.as_str().into(),
    ];
    tx.execute(INSERT_ANCHOR, values).await?;
    Ok(())
}

pub(super) async fn delete_anchor(tx: &TenantTx, id: TrustAnchorId) -> Result<()> {
    tx.execute(DELETE_ANCHOR, [tx.tenant().into(), id.into()]).await?;
    Ok(())
}

pub(super) async fn tenants_to_tell(
    tx: &OperatorTx,
    now: DateTime<Utc>,
    after: TenantId,
    limit: usize,
) -> Result<Vec<TenantId>> {
    let days: Vec<i32> = DAYS.iter().map(|days| i32::from(*days)).collect();
    let widest = days.iter().max().copied().unwrap_or_default();
    let values = [now.into(), after.into(), (limit as i64).into(), days.into(), widest.into()];
    let rows = tx.rows(TO_TELL, values).await?;
    rows.iter().map(|row| Ok(row.try_get("", "tenant_id")?)).collect()
}

/// Whether it was not noted before.
pub(super) async fn note_alert(tx: &TenantTx, id: TrustAnchorId, days: i16) -> Result<bool> {
    let values = [tx.tenant().into(), id.into(), days.into(), tx.stamp().at.into()];
    Ok(tx.execute(NOTE_ALERT, values).await? == 1)
}

pub(super) async fn policy(tx: &TenantTx) -> Result<Policy> {
    let Some(row) = tx.row(POLICY, [tx.tenant().into()]).await? else { return Ok(Policy::default()) };
    let revocation: String = row.try_get("", "revocation")?;
    Ok(Policy {
        revocation: Revocation::parse(&revocation).ok_or_else(|| Error::internal("a mode that there is not"))?,
        ocsp: row.try_get("", "ocsp")?,
        fetch_lists: row.try_get("", "fetch_lists")?,
        mapping: serde_json::from_value(row.try_get("", "mapping")?).map_err(Error::internal)?,
        version: row.try_get("", "version")?,
        updated_at: Some(row.try_get("", "updated_at")?),
    })
}

pub(super) async fn put_policy(tx: &TenantTx, policy: &Policy) -> Result<()> {
    let values = [
        tx.tenant().into(),
        policy.revocation.name().into(),
        policy.ocsp.into(),
        policy.fetch_lists.into(),
        serde_json::to_value(&policy.mapping).map_err(Error::internal)?.into(),
        policy.version.into(),
        policy.updated_at.into(),
    ];
    tx.execute(PUT_POLICY, values).await?;
    Ok(())
}

fn anchor(row: &QueryResult) -> Result<(TenantId, Anchor)> {
    let (der, role): (Vec<u8>, String) = (row.try_get("", "der")?, row.try_get("", "role")?);
    let anchor = Anchor {
        anchor_id: row.try_get("", "anchor_id")?,
        role: Role::parse(&role).ok_or_else(|| Error::internal("a role that there is not"))?,
        certificate: Arc::new(Certificate::read(&der).map_err(Error::internal)?),
        added_at: row.try_get("", "added_at")?,
        added_by: row.try_get("", "added_by")?,
    };
    Ok((row.try_get("", "tenant_id")?, anchor))
}
