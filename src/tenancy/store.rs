//! The rows of `tenants`, inside a session that says whose.

use sea_orm::{
    ActiveModelTrait as _,
    ActiveValue::NotSet,
    EntityTrait as _, IntoActiveModel as _, QueryFilter as _, QuerySelect as _,
    sea_query::{Expr, ExprTrait as _, extension::postgres::PgFunc},
};

use super::tenant::{Column, Entity, Tenant};
use crate::{
    error::{Error, Result},
    platform::{
        db::{Tx, violated_constraint},
        ids::TenantId,
    },
};

pub(super) async fn find(tx: &Tx, tenant: TenantId) -> Result<Option<Tenant>> {
    Ok(Entity::find_by_id(tenant).one(tx).await?)
}

/// Ids as a statement's `any($1)` takes them.
pub(super) fn ids(tenants: &[TenantId]) -> sea_orm::Value {
    tenants.iter().map(|tenant| tenant.uuid()).collect::<Vec<_>>().into()
}

pub(super) async fn find_several(tx: &Tx, tenants: &[TenantId]) -> Result<Vec<Tenant>> {
    let ids: Vec<_> = tenants.iter().map(|tenant| tenant.uuid()).collect();
    Ok(Entity::find().filter(Expr::col(Column::Id).eq(PgFunc::any(ids))).all(tx).await?)
}

/// The tenant's row, held until the transaction ends: changes of one tenant go one after the other.
pub(super) async fn lock(tx: &Tx, tenant: TenantId) -> Result<Tenant> {
    Entity::find_by_id(tenant).lock_exclusive().one(tx).await?.ok_or_else(Error::not_found)
}

pub(super) async fn insert(tx: &Tx, tenant: &Tenant) -> Result<()> {
    let inserted = Entity::insert(tenant.clone().into_active_model()).exec_without_returning(tx).await;
    inserted.map(|_| ()).map_err(taken)
}

pub(super) async fn update(tx: &Tx, tenant: &Tenant) -> Result<()> {
    let mut row = tenant.clone().into_active_model().reset_all();
    row.created_at = NotSet;
    Entity::update(row).exec(tx).await.map(|_| ()).map_err(taken)
}

/// All that a session of the platform may change.
pub(super) async fn set_tier(tx: &Tx, tenant: &Tenant) -> Result<()> {
    const SET: &str = "
        update tenantry.tenants set isolation_tier = $2, version = $3, updated_at = $4 where tenant_id = $1";
    let values = [tenant.id.into(), tenant.isolation_tier.into(), tenant.version.into(), tenant.updated_at.into()];
    tx.execute(SET, values).await?;
    Ok(())
}

/// Names are one space over all tenants, so PostgreSQL tells that one is taken; only operators choose them.
fn taken(error: sea_orm::DbErr) -> Error {
    match violated_constraint(&error) {
        Some("tenants_slug_key") => Error::conflict("another tenant has this slug").at("slug").because(error),
        Some("tenants_external_id_key") => {
            Error::conflict("another tenant has this external id").at("externalId").because(error)
        }
        _ => error.into(),
    }
}
