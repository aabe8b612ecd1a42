//! The rows of `schema_templates`, `schema_migrations` and `tenant_templates`.

use chrono::{DateTime, Utc};
use sea_orm::FromQueryResult;
use serde_json::json;

use super::{
    migration::Migration,
    template::{Plans, SchemaState, Sentences, Template},
};
use crate::{
    error::{Error, Result},
    platform::{
        db::{Tx, violated_constraint},
        ids::TenantId,
    },
};

const ALL: &str = "select * from tenantry.schema_templates order by name";
const LOCK: &str = "select * from tenantry.schema_templates where name = $1 for update";
/// Rollouts that end wait for who is being given the version of before.
const SHARE: &str = "select * from tenantry.schema_templates where name = $1 for share";
const SAVE: &str = "
    insert into tenantry.schema_templates (name, version, released, plans, is_default, created_at, updated_at)
    values ($1, $2, $3, $4, $5, $6, $7)
    on conflict (name) do update set version = $2, released = $3, plans = $4, is_default = $5, updated_at = $7";
const NO_OTHER_DEFAULT: &str =
    "update tenantry.schema_templates set is_default = false, updated_at = $2 where is_default and name <> $1";
const MIGRATIONS: &str =
    "select * from tenantry.schema_migrations where template = $1 and version between $2 and $3 order by version";
const ADD_MIGRATIONS: &str = "
    insert into tenantry.schema_migrations (template, version, name, sql, checksum)
    select $1, version, name, sql, checksum
    from jsonb_to_recordset($2::jsonb) as r (version integer, name text, sql text, checksum text)";
const UNKNOWN_PLANS: &str = "
    select named.key from unnest($1::text[]) as named (key) where not exists (select from tenantry.plans p where p.key = named.key)";
const OTHERS_PLANS: &str = "
    select name from tenantry.schema_templates where name <> $1 and exists (
      select from jsonb_array_elements_text(plans) plan where plan = any($2::text[]))";

const STATE: &str = "select * from tenantry.tenant_templates where tenant_id = $1";
const ENLIST: &str = "
    insert into tenantry.tenant_templates (tenant_id, template, version, migrated_at) values ($1, $2, 0, $3)
    on conflict (tenant_id) do nothing";
const SEEN: &str = "
    insert into tenantry.tenant_templates (tenant_id, template, version, schema_hash, drift, migrated_at, verified_at)
    values ($1, $2, $3, $4, $5, $6, $7)
    on conflict (tenant_id) do update set template = $2, version = $3, schema_hash = $4, drift = $5, verified_at = $7,
      migrated_at = case when (tenant_templates.template, tenant_templates.version) = ($2, $3) then tenant_templates.migrated_at else $6 end
    returning *";
const FORGET: &str = "delete from tenantry.tenant_templates where tenant_id = $1";
const FORGET_ROLLOUTS: &str = "delete from tenantry.rollout_tenants where tenant_id = $1";
const VERSIONS: &str = "
    select version, count(*) as tenants from tenantry.tenant_templates where template = $1 group by version order by version";
const DRIFTED: &str = "
    select * from tenantry.tenant_templates where template = $1 and drift <> '[]' order by tenant_id limit $2";

pub(super) async fn all(tx: &Tx) -> Result<Vec<Template>> {
    let rows = tx.rows(ALL, []).await?;
    Ok(rows.iter().map(|row| Template::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

pub(super) async fn lock(tx: &Tx, name: &str) -> Result<Option<Template>> {
    let row = tx.row(LOCK, [name.into()]).await?;
    Ok(row.map(|row| Template::from_query_result(&row, "")).transpose()?)
}

pub(super) async fn share(tx: &Tx, name: &str) -> Result<Option<Template>> {
    let row = tx.row(SHARE, [name.into()]).await?;
    Ok(row.map(|row| Template::from_query_result(&row, "")).transpose()?)
}

/// Makes the template, or changes it; if it is the default, no other is any more.
pub(super) async fn save(tx: &Tx, template: &Template) -> Result<()> {
    if template.is_default {
        tx.execute(NO_OTHER_DEFAULT, [template.name.as_str().into(), template.updated_at.into()]).await?;
    }
    let values = [
        template.name.as_str().into(),
        template.version.into(),
        template.released.into(),
        template.plans.clone().into(),
        template.is_default.into(),
        template.created_at.into(),
        template.updated_at.into(),
    ];
    tx.execute(SAVE, values).await.map(drop).map_err(|error| match violated_constraint(&error) {
        Some("schema_templates_default_idx") => {
            Error::conflict("another template has become the default; try again").at("isDefault").because(error)
        }
        _ => error.into(),
    })
}

/// Those with numbers from `from` to `to`.
pub(super) async fn migrations(tx: &Tx, template: &str, from: i32, to: i32) -> Result<Vec<Migration>> {
    let rows = tx.rows(MIGRATIONS, [template.into(), from.into(), to.into()]).await?;
    Ok(rows.iter().map(|row| Migration::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

pub(super) async fn add_migrations(tx: &Tx, template: &str, migrations: &[Migration]) -> Result<()> {
    let rows: Vec<_> = migrations
        .iter()
        .map(|one| json!({ "version": one.version, "name": one.name, "sql": one.sql, "checksum": one.checksum }))
        .collect();
    tx.execute(ADD_MIGRATIONS, [template.into(), json!(rows).into()]).await?;
    Ok(())
}

/// One of `plans` that there is not.
pub(super) async fn unknown_plan(tx: &Tx, plans: &Plans) -> Result<Option<String>> {
    let row = tx.row(UNKNOWN_PLANS, [plans.0.clone().into()]).await?;
    Ok(row.map(|row| row.try_get("", "key")).transpose()?)
}

/// Another template that has one of `plans`.
pub(super) async fn other_of(tx: &Tx, name: &str, plans: &Plans) -> Result<Option<String>> {
    let row = tx.row(OTHERS_PLANS, [name.into(), plans.0.clone().into()]).await?;
    Ok(row.map(|row| row.try_get("", "name")).transpose()?)
}

pub(super) async fn state(tx: &Tx, tenant: TenantId) -> Result<Option<SchemaState>> {
    let row = tx.row(STATE, [tenant.into()]).await?;
    Ok(row.map(|row| SchemaState::from_query_result(&row, "")).transpose()?)
}

/// The tenant is to get the template: a rollout that ends later does not leave it out.
pub(super) async fn enlist(tx: &Tx, tenant: TenantId, template: &str, now: DateTime<Utc>) -> Result<()> {
    tx.execute(ENLIST, [tenant.into(), template.into(), now.into()]).await?;
    Ok(())
}

pub(super) async fn save_state(tx: &Tx, state: &SchemaState) -> Result<()> {
    let values = [
        state.tenant_id.into(),
        state.template.as_str().into(),
        state.version.into(),
        state.schema_hash.clone().into(),
        state.drift.clone().into(),
        state.migrated_at.into(),
        state.verified_at.into(),
    ];
    tx.execute(SEEN, values).await?;
    Ok(())
}

/// Nothing is known of the tenant's schema any more, as there is none.
pub(super) async fn forget(tx: &Tx, tenant: TenantId) -> Result<bool> {
    tx.execute(FORGET_ROLLOUTS, [tenant.into()]).await?;
    Ok(tx.execute(FORGET, [tenant.into()]).await? == 1)
}

/// How many tenants are at which version.
pub(super) async fn versions(tx: &Tx, template: &str) -> Result<Vec<(i32, i64)>> {
    let rows = tx.rows(VERSIONS, [template.into()]).await?;
    let read = |row: &sea_orm::QueryResult| {
        Ok::<_, sea_orm::DbErr>((row.try_get("", "version")?, row.try_get("", "tenants")?))
    };
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// Up to `limit` tenants whose schemas are not as the template has them.
pub(super) async fn drifted(tx: &Tx, template: &str, limit: i64) -> Result<Vec<SchemaState>> {
    let rows = tx.rows(DRIFTED, [template.into(), limit.into()]).await?;
    Ok(rows.iter().map(|row| SchemaState::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

pub(super) fn nothing_seen(tenant: TenantId, template: &str, now: DateTime<Utc>) -> SchemaState {
    SchemaState {
        tenant_id: tenant,
        template: template.to_owned(),
        version: 0,
        schema_hash: None,
        drift: Sentences::default(),
        migrated_at: now,
        verified_at: None,
    }
}
