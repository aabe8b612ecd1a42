//! The rows, inside a session that says whose.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sea_orm::{
    EntityTrait as _, FromQueryResult as _, IntoActiveModel as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
    entity::prelude::*,
    sea_query::{ExprTrait, extension::postgres::PgFunc},
};

use super::grant::{Column, Entity, Grant, Kind};
use crate::{
    error::Result,
    platform::{
        db::Tx,
        ids::{GrantId, TenantId},
    },
};

const OF_QUOTAS: &str = "
    select * from tenantry.entitlement_grants
    where tenant_id = $1 and kind = 'QUOTA' and (ended_at is null or grant_id = any($2::uuid[]))";
const OF_QUOTAS_OF_SEVERAL: &str = "
    select * from tenantry.entitlement_grants g
    where tenant_id = any($1::uuid[]) and kind = 'QUOTA'
      and (ended_at is null or exists (
        select from tenantry.quota_burns b where b.tenant_id = g.tenant_id and b.grant_id = g.grant_id))";
const BURN: &str = "
    update tenantry.entitlement_grants set burnt = burnt + $3 where tenant_id = $1 and grant_id = $2";
const END: &str = "
    update tenantry.entitlement_grants set ended_at = $3, version = version + 1
    where tenant_id = $1 and grant_id = $2 and ended_at is null";
const DUE: &str = "
    select tenant_id, grant_id from tenantry.entitlement_grants where ended_at is null and expires_at <= $1
    order by expires_at limit 100";

pub async fn insert(tx: &Tx, grant: &Grant) -> Result<()> {
    Entity::insert(grant.clone().into_active_model()).exec_without_returning(tx).await?;
    Ok(())
}

pub async fn find(tx: &Tx, tenant: TenantId, grant: GrantId) -> Result<Option<Grant>> {
    Ok(Entity::find_by_id((tenant, grant)).one(tx).await?)
}

/// The grant, held until the transaction ends.
pub async fn lock(tx: &Tx, tenant: TenantId, grant: GrantId) -> Result<Option<Grant>> {
    Ok(Entity::find_by_id((tenant, grant)).lock_exclusive().one(tx).await?)
}

/// Says when it stopped to count; answers whether it had not ended before.
pub async fn end(tx: &Tx, tenant: TenantId, grant: GrantId, at: DateTime<Utc>) -> Result<bool> {
    Ok(tx.execute(END, [tenant.into(), grant.into(), at.into()]).await? == 1)
}

/// Counts as used up; what is below zero is given back.
pub async fn add_burnt(tx: &Tx, tenant: TenantId, grant: GrantId, by: i64) -> Result<()> {
    tx.execute(BURN, [tenant.into(), grant.into(), by.into()]).await?;
    Ok(())
}

/// Grants of features and resources that have not ended, in burn order.
pub async fn live(tx: &Tx, tenant: TenantId) -> Result<Vec<Grant>> {
    let of_tenant = Entity::find().filter(Column::TenantId.eq(tenant)).filter(Column::EndedAt.is_null());
    let mut found = of_tenant.filter(Column::Kind.ne(Kind::Quota)).all(tx).await?;
    found.sort_by(Grant::burns_before);
    Ok(found)
}

/// The same of several tenants.
pub async fn live_of_several(tx: &Tx, tenants: &[TenantId]) -> Result<HashMap<TenantId, Vec<Grant>>> {
    let tenants: Vec<_> = tenants.iter().map(|tenant| tenant.uuid()).collect();
    let of_tenants = Entity::find().filter(ExprTrait::eq(Expr::col(Column::TenantId), PgFunc::any(tenants)));
    let live = of_tenants.filter(Column::EndedAt.is_null()).filter(Column::Kind.ne(Kind::Quota)).all(tx).await?;
    Ok(by_tenant(live))
}

/// Grants of quotas of several tenants, in burn order: those that have not ended, and those that a period has burnt of.
pub async fn of_quotas_of_several(tx: &Tx, tenants: &[TenantId]) -> Result<HashMap<TenantId, Vec<Grant>>> {
    let tenants: Vec<_> = tenants.iter().map(|tenant| tenant.uuid()).collect();
    let rows = tx.rows(OF_QUOTAS_OF_SEVERAL, [tenants.into()]).await?;
    Ok(by_tenant(rows.iter().map(|row| Grant::from_query_result(row, "")).collect::<Result<_, _>>()?))
}

fn by_tenant(grants: Vec<Grant>) -> HashMap<TenantId, Vec<Grant>> {
    let mut several: HashMap<TenantId, Vec<Grant>> = HashMap::new();
    for grant in grants {
        several.entry(grant.tenant_id).or_default().push(grant);
    }
    several.values_mut().for_each(|grants| grants.sort_by(Grant::burns_before));
    several
}

/// Grants of quotas, in burn order: those that have not ended, and those that are named.
pub async fn of_quotas(tx: &Tx, tenant: TenantId, named: &[GrantId]) -> Result<Vec<Grant>> {
    let named: Vec<_> = named.iter().map(|grant| grant.uuid()).collect();
    let rows = tx.rows(OF_QUOTAS, [tenant.into(), named.into()]).await?;
    let mut found = rows.iter().map(|row| Grant::from_query_result(row, "")).collect::<Result<Vec<_>, _>>()?;
    found.sort_by(Grant::burns_before);
    Ok(found)
}

/// The tenant's grants, the newest first; at most `most`.
pub async fn list(tx: &Tx, tenant: TenantId, most: u64) -> Result<Vec<Grant>> {
    let of_tenant = Entity::find().filter(Column::TenantId.eq(tenant));
    Ok(of_tenant.order_by_desc(Column::GrantId).limit(most).all(tx).await?)
}

/// Of all tenants, what has expired and is not recorded as ended.
pub async fn due(tx: &Tx, now: DateTime<Utc>) -> Result<Vec<(TenantId, GrantId)>> {
    let rows = tx.rows(DUE, [now.into()]).await?;
    rows.iter().map(|row| Ok((row.try_get("", "tenant_id")?, row.try_get("", "grant_id")?))).collect()
}
