//! The rows. Statements on tables of tenants name the tenant beside what PostgreSQL holds them to.

use std::collections::HashMap;

use sea_orm::{
    ActiveModelTrait as _, ActiveValue::NotSet, EntityTrait as _, FromQueryResult as _, IntoActiveModel as _,
};

use super::{
    change_request::ChangeRequest,
    flag::{self, Approval, Flag, Kind},
    segment::{self, Segment},
    setting::Setting,
};
use crate::{
    error::{Error, Result},
    platform::{
        db::{Tx, violated_constraint},
        ids::{FlagChangeId, TenantId},
    },
};

/// Writers of definitions go one after the other: what one checks of another flag still holds when it commits.
const LOCK: &str = "select pg_advisory_xact_lock(hashtextextended('tenantry.flags', 0))::text";
const SETTINGS: &str = "
    select flag_key, value, starts_at, ends_at, reason, set_by, set_at, version from tenantry.flag_values
    where tenant_id = $1 and value is not null";
const SETTINGS_OF_SEVERAL: &str = "
    select tenant_id, flag_key, value, starts_at, ends_at, reason, set_by, set_at, version from tenantry.flag_values
    where tenant_id = any($1) and value is not null";
const SETTING: &str = "
    select flag_key, value, starts_at, ends_at, reason, set_by, set_at, version from tenantry.flag_values
    where tenant_id = $1 and flag_key = $2 for update";
/// Nobody writes in between: a first value is refused where another was faster.
const SET: &str = "
    insert into tenantry.flag_values (tenant_id, flag_key, value, starts_at, ends_at, reason, set_by, set_at, version)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    on conflict (tenant_id, flag_key) do update set value = excluded.value, starts_at = excluded.starts_at,
      ends_at = excluded.ends_at, reason = excluded.reason, set_by = excluded.set_by, set_at = excluded.set_at,
      version = excluded.version
    where flag_values.version = excluded.version - 1";
/// The definition as far as a tenant's value is held to it: these columns are all that a tenant's session may read.
const TERMS: &str = "
    select kind, feature, operator_only, approval from tenantry.flags where key = $1 and archived_at is null";
const REQUEST: &str = "
    insert into tenantry.flag_change_requests
      (tenant_id, request_id, flag_key, value, starts_at, ends_at, reason, value_version, status, requested_by, requested_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, 'PENDING', $9, $10)";
const LOCK_REQUEST: &str = "select * from tenantry.flag_change_requests where request_id = $1 for update";
const FIND_REQUEST: &str = "select * from tenantry.flag_change_requests where request_id = $1";
const DECIDE: &str = "
    update tenantry.flag_change_requests set status = $3, decided_by = $4, decided_at = $5, note = $6, version = version + 1
    where tenant_id = $1 and request_id = $2";
const REQUESTS: &str = "
    select * from tenantry.flag_change_requests
    where ($1::uuid is null or tenant_id = $1) and ($2::text is null or status = $2)
    order by request_id desc limit $3";

pub(super) async fn lock_definitions(tx: &Tx) -> Result<()> {
    tx.row(LOCK, []).await?;
    Ok(())
}

pub(super) async fn all_flags(tx: &Tx) -> Result<Vec<Flag>> {
    Ok(flag::Entity::find().all(tx).await?)
}

pub(super) async fn all_segments(tx: &Tx) -> Result<Vec<Segment>> {
    Ok(segment::Entity::find().all(tx).await?)
}

pub(super) async fn insert_flag(tx: &Tx, flag: Flag) -> Result<()> {
    flag::Entity::insert(flag.into_active_model()).exec_without_returning(tx).await?;
    Ok(())
}

pub(super) async fn update_flag(tx: &Tx, flag: &Flag) -> Result<()> {
    let mut row = flag.clone().into_active_model().reset_all();
    row.created_at = NotSet;
    flag::Entity::update(row).exec(tx).await?;
    Ok(())
}

pub(super) async fn insert_segment(tx: &Tx, segment: Segment) -> Result<()> {
    segment::Entity::insert(segment.into_active_model()).exec_without_returning(tx).await?;
    Ok(())
}

pub(super) async fn update_segment(tx: &Tx, segment: &Segment) -> Result<()> {
    let mut row = segment.clone().into_active_model().reset_all();
    row.created_at = NotSet;
    segment::Entity::update(row).exec(tx).await?;
    Ok(())
}

pub(super) async fn delete_segment(tx: &Tx, key: &str) -> Result<()> {
    segment::Entity::delete_by_id(key).exec(tx).await?;
    Ok(())
}

/// A tenant's values that were not taken back.
pub(super) async fn settings(tx: &Tx, tenant: TenantId) -> Result<Vec<Setting>> {
    let rows = tx.rows(SETTINGS, [tenant.into()]).await?;
    Ok(rows.iter().map(|row| Setting::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

/// The same of several tenants; those without a value are missing.
pub(super) async fn settings_of_several(tx: &Tx, tenants: &[TenantId]) -> Result<HashMap<TenantId, Vec<Setting>>> {
    let tenants: Vec<_> = tenants.iter().map(|tenant| tenant.uuid()).collect();
    let mut several: HashMap<TenantId, Vec<Setting>> = HashMap::new();
    for row in tx.rows(SETTINGS_OF_SEVERAL, [tenants.into()]).await? {
        several.entry(row.try_get("", "tenant_id")?).or_default().push(Setting::from_query_result(&row, "")?);
    }
    Ok(several)
}

/// A tenant's value, or what was left of it, held until the transaction ends.
pub(super) async fn lock_setting(tx: &Tx, tenant: TenantId, flag: &str) -> Result<Option<Setting>> {
    let row = tx.row(SETTING, [tenant.into(), flag.into()]).await?;
    Ok(row.map(|row| Setting::from_query_result(&row, "")).transpose()?)
}

/// Puts `setting` in the place of the version before it.
pub(super) async fn set(tx: &Tx, tenant: TenantId, setting: &Setting) -> Result<()> {
    let values = [
        tenant.into(),
        setting.flag_key.as_str().into(),
        setting.value.clone().into(),
        setting.starts_at.into(),
        setting.ends_at.into(),
        setting.reason.as_str().into(),
        setting.set_by.as_str().into(),
        setting.set_at.into(),
        setting.version.into(),
    ];
    match tx.execute(SET, values).await? {
        1 => Ok(()),
        _ => Err(Error::conflict("the flag was set by another request at the same time; read it again and repeat")),
    }
}

/// What a tenant's value of a flag is held to.
#[derive(Debug, sea_orm::FromQueryResult)]
pub(super) struct Terms {
    pub(super) kind: Kind,
    pub(super) feature: Option<String>,
    pub(super) operator_only: bool,
    pub(super) approval: Approval,
}

/// `None` where there is no such flag.
pub(super) async fn terms(tx: &Tx, flag: &str) -> Result<Option<Terms>> {
    let row = tx.row(TERMS, [flag.into()]).await?;
    Ok(row.map(|row| Terms::from_query_result(&row, "")).transpose()?)
}

pub(super) async fn request(tx: &Tx, request: &ChangeRequest) -> Result<()> {
    let values = [
        request.tenant_id.into(),
        request.request_id.into(),
        request.flag_key.as_str().into(),
        request.value.clone().into(),
        request.starts_at.into(),
        request.ends_at.into(),
        request.reason.as_str().into(),
        request.value_version.into(),
        request.requested_by.as_str().into(),
        request.requested_at.into(),
    ];
    match tx.execute(REQUEST, values).await {
        Err(error) if violated_constraint(&error) == Some("flag_change_requests_pending_idx") => {
            Err(Error::conflict("a change of this flag waits for an answer already").at("key"))
        }
        done => Ok(done.map(drop)?),
    }
}

pub(super) async fn lock_request(tx: &Tx, id: FlagChangeId) -> Result<Option<ChangeRequest>> {
    let row = tx.row(LOCK_REQUEST, [id.into()]).await?;
    Ok(row.map(|row| ChangeRequest::from_query_result(&row, "")).transpose()?)
}

pub(super) async fn find_request(tx: &Tx, id: FlagChangeId) -> Result<Option<ChangeRequest>> {
    let row = tx.row(FIND_REQUEST, [id.into()]).await?;
    Ok(row.map(|row| ChangeRequest::from_query_result(&row, "")).transpose()?)
}

pub(super) async fn decide(tx: &Tx, request: &ChangeRequest) -> Result<()> {
    let values = [
        request.tenant_id.into(),
        request.request_id.into(),
        request.status.name().into(),
        request.decided_by.clone().into(),
        request.decided_at.into(),
        request.note.as_str().into(),
    ];
    tx.execute(DECIDE, values).await?;
    Ok(())
}

/// The newest first.
pub(super) async fn requests(
    tx: &Tx,
    tenant: Option<TenantId>,
    status: Option<&str>,
    limit: i64,
) -> Result<Vec<ChangeRequest>> {
    let tenant = tenant.map(TenantId::uuid);
    let rows = tx.rows(REQUESTS, [tenant.into(), status.into(), limit.into()]).await?;
    Ok(rows.iter().map(|row| ChangeRequest::from_query_result(row, "")).collect::<Result<_, _>>()?)
}
