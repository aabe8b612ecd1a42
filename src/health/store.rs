//! The rows of `outages`, inside a session that says whose.

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait as _,
    ActiveValue::NotSet,
    ColumnTrait as _, EntityTrait as _, IntoActiveModel as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
    sea_query::{Expr, ExprTrait as _, Order},
};
use serde::{Deserialize, Serialize};

use super::{
    attainment::{Span, Window},
    outage::{Column, Entity, Outage, OutageKind},
};
use crate::{
    error::{Error, Result},
    platform::{
        db::Tx,
        ids::{OutageId, TenantId},
        page::{self, Page, PageRequest},
    },
};

/// Where an outage stands in its list: beginning in microseconds since 1970, and id.
#[derive(Serialize, Deserialize)]
enum Key {
    #[serde(rename = "b")]
    Began(i64, OutageId),
}

/// The cursor of an outage.
pub(super) fn cursor(outage: &Outage) -> String {
    page::encode(&Key::Began(outage.began_at.timestamp_micros(), outage.id))
}

/// The outage's row, held until the transaction ends.
pub(super) async fn lock(tx: &Tx, tenant: TenantId, outage: OutageId) -> Result<Outage> {
    Entity::find_by_id((tenant, outage)).lock_exclusive().one(tx).await?.ok_or_else(Error::not_found)
}

pub(super) async fn insert(tx: &Tx, outage: &Outage) -> Result<()> {
    Entity::insert(outage.clone().into_active_model()).exec_without_returning(tx).await?;
    Ok(())
}

pub(super) async fn update(tx: &Tx, outage: &Outage) -> Result<()> {
    let mut row = outage.clone().into_active_model().reset_all();
    row.created_at = NotSet;
    Entity::update(row).exec(tx).await?;
    Ok(())
}

/// The tenant's outages, whatever became of them; what began last comes first.
pub(super) async fn list(tx: &Tx, tenant: TenantId, request: &PageRequest) -> Result<Page<Outage>> {
    let mut query = Entity::find()
        .filter(Column::TenantId.eq(tenant))
        .order_by(Column::BeganAt, Order::Desc)
        .order_by(Column::Id, Order::Desc)
        .limit(request.first as u64 + 1);
    if let Some(Key::Began(micros, id)) = request.key()? {
        // No outage began before 1970; PostgreSQL has no such years as a cursor can be made to name.
        let began_at: DateTime<Utc> = DateTime::from_timestamp_micros(micros)
            .filter(|at| *at >= DateTime::UNIX_EPOCH)
            .ok_or_else(|| Error::invalid("after", "is no cursor of this list"))?;
        let key = Expr::tuple([Expr::col(Column::BeganAt), Expr::col(Column::Id)]);
        query = query.filter(key.lt(Expr::tuple([Expr::value(began_at), Expr::value(id)])));
    }
    Ok(request.page(query.all(tx).await?))
}

/// What of the tenant's outages touches `window`, downtime alone.
pub(super) async fn downtimes(tx: &Tx, tenant: TenantId, window: &Window) -> Result<Vec<Span>> {
    let query = Entity::find()
        .select_only()
        .columns([Column::BeganAt, Column::EndedAt])
        .filter(Column::TenantId.eq(tenant))
        .filter(Column::Kind.eq(OutageKind::Outage))
        .filter(Column::WithdrawnAt.is_null())
        .filter(Column::BeganAt.lt(window.until))
        .filter(Column::EndedAt.is_null().or(Column::EndedAt.gt(window.from)));
    Ok(query.into_model::<Span>().all(tx).await?)
}
