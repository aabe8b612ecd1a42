//! The rows of `cells`, `cell_growth` and `placements`, inside a session of the platform.

use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::FromQueryResult;

use super::{
    cell::{Cell, CellHealth, ServerFacts},
    place::Placement,
};
use crate::{
    error::{Error, Result},
    platform::{
        db::{Tx, violated_constraint},
        ids::{CellId, TenantId},
    },
    tenancy::Tenant,
};

const ALL: &str = "select * from tenantry.cells order by name";
const LOCK: &str = "select * from tenantry.cells where cell_id = $1 for update";
const INSERT: &str = "
    insert into tenantry.cells (cell_id, name, region, tier, capacity, reserved_for, state, sealed_url, address, identity, facts,
      health, health_reason, health_since, is_own, created_at, updated_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $16)";
/// The own cell follows its server where that was moved: the address and what the server says of itself, never what operators set.
const RELOCATE: &str = "
    update tenantry.cells set sealed_url = $2, address = $3, identity = $4, facts = $5, version = version + 1, updated_at = $6
    where cell_id = $1";
/// What operators may change of a cell.
const CHANGE: &str = "
    update tenantry.cells set state = $2, capacity = $3, sealed_url = $4, address = $5, facts = $6, version = version + 1, updated_at = $7
    where cell_id = $1 returning *";
const IDENTITY: &str = "select identity from tenantry.cells where cell_id = $1";
/// Nothing where another replica has said the same.
const SET_HEALTH: &str = "
    update tenantry.cells set health = $2, health_reason = $3, updated_at = $4,
      health_since = case when health = $2 then health_since else $4 end
    where cell_id = $1 and (health, health_reason) is distinct from ($2, $3) returning health_since";
/// Nothing where another replica has said the same.
const SET_FACTS: &str = "update tenantry.cells set facts = $2, updated_at = $3 where cell_id = $1 and facts <> $2";
/// A place, if there is one. Who takes the last one is decided by the row's lock.
const TAKE: &str = "
    update tenantry.cells set placed = placed + 1,
      reserved_for = case when tier = 'PREMIUM' then $2 else reserved_for end
    where cell_id = $1 and state = 'ACTIVE' and placed < capacity and (reserved_for is null or reserved_for = $2)";
const GIVE_BACK: &str = "
    update tenantry.cells set placed = placed - 1, reserved_for = case when tier = 'PREMIUM' then null else reserved_for end
    where cell_id = $1 returning state = 'ACTIVE' and (tier = 'PREMIUM' or placed + 1 >= capacity) as makes_room";
const PLACEMENT: &str = "select * from tenantry.placements where tenant_id = $1";
const PLACE: &str = "
    insert into tenantry.placements (tenant_id, cell_id, tier, region, database_name, reason, placed_at)
    values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing";
/// Holds the tier until the place is taken.
const IS_OF_TIER: &str =
    "select tenant_id from tenantry.tenants where tenant_id = $1 and isolation_tier = $2 for share";
const REPLACE: &str = "
    update tenantry.placements set cell_id = $2, tier = $3, region = $4, database_name = $5, reason = $6, placed_at = $7
    where tenant_id = $1";
const UNPLACE: &str = "delete from tenantry.placements where tenant_id = $1 returning *";
const LOG_MARK: &str = "select file, position from tenantry.cell_logs where cell_id = $1";
const SET_LOG_MARK: &str =
    "insert into tenantry.cell_logs (cell_id, file, position) values ($1, $2, $3) on conflict do nothing";
/// Nothing where another server has moved it.
const MOVE_LOG_MARK: &str = "
    update tenantry.cell_logs set file = $4, position = $5 where cell_id = $1 and file = $2 and position = $3";
const NOTE_GROWTH: &str = "
    insert into tenantry.cell_growth (cell_id, day, placed) select cell_id, $1, placed from tenantry.cells
    where state <> 'RETIRED' on conflict (cell_id, day) do update set placed = excluded.placed
    where cell_growth.placed <> excluded.placed";
const GROWTH: &str = "
    select cell_id, day, placed from tenantry.cell_growth where day >= $1 order by cell_id, day";

pub(super) async fn all(tx: &Tx) -> Result<Vec<Cell>> {
    let rows = tx.rows(ALL, []).await?;
    Ok(rows.iter().map(|row| Cell::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

pub(super) async fn lock(tx: &Tx, cell: CellId) -> Result<Option<Cell>> {
    let row = tx.row(LOCK, [cell.into()]).await?;
    Ok(row.map(|row| Cell::from_query_result(&row, "")).transpose()?)
}

/// Adds a cell; `identity` is what no two cells share.
pub(super) async fn insert(tx: &Tx, cell: &Cell, identity: &str) -> Result<()> {
    let values = [
        cell.id.into(),
        cell.name.as_str().into(),
        cell.region.as_str().into(),
        cell.tier.into(),
        cell.capacity.into(),
        cell.reserved_for.into(),
        cell.state.into(),
        cell.sealed_url.clone().into(),
        cell.address.clone().into(),
        identity.into(),
        cell.facts.clone().into(),
        cell.health.into(),
        cell.health_reason.as_str().into(),
        cell.health_since.into(),
        cell.is_own.into(),
        cell.created_at.into(),
    ];
    tx.execute(INSERT, values).await.map(drop).map_err(taken)
}

pub(super) async fn relocate(tx: &Tx, cell: &Cell, identity: &str, now: DateTime<Utc>) -> Result<()> {
    let values = [
        cell.id.into(),
        cell.sealed_url.clone().into(),
        cell.address.clone().into(),
        identity.into(),
        cell.facts.clone().into(),
        now.into(),
    ];
    tx.execute(RELOCATE, values).await.map(drop).map_err(taken)
}

fn taken(error: sea_orm::DbErr) -> Error {
    match violated_constraint(&error) {
        Some("cells_name_key") => Error::conflict("another cell has this name").at("name").because(error),
        Some("cells_identity_key") => Error::conflict("this database is a cell already").at("url").because(error),
        _ => error.into(),
    }
}

pub(super) async fn change(tx: &Tx, cell: &Cell, now: DateTime<Utc>) -> Result<Cell> {
    let values = [
        cell.id.into(),
        cell.state.into(),
        cell.capacity.into(),
        cell.sealed_url.clone().into(),
        cell.address.clone().into(),
        cell.facts.clone().into(),
        now.into(),
    ];
    let row = tx.row(CHANGE, values).await?.ok_or_else(Error::not_found)?;
    Ok(Cell::from_query_result(&row, "")?)
}

/// What no two cells share.
pub(super) async fn identity(tx: &Tx, cell: CellId) -> Result<String> {
    let row = tx.row(IDENTITY, [cell.into()]).await?.ok_or_else(Error::not_found)?;
    Ok(row.try_get("", "identity")?)
}

/// Whether that was news.
pub(super) async fn set_health(
    tx: &Tx,
    cell: CellId,
    health: CellHealth,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<bool> {
    Ok(tx.row(SET_HEALTH, [cell.into(), health.into(), reason.into(), now.into()]).await?.is_some())
}

/// Whether that was news.
pub(super) async fn set_facts(tx: &Tx, cell: CellId, facts: &ServerFacts, now: DateTime<Utc>) -> Result<bool> {
    Ok(tx.execute(SET_FACTS, [cell.into(), facts.clone().into(), now.into()]).await? == 1)
}

pub(super) async fn take_place(tx: &Tx, cell: CellId, tenant: TenantId) -> Result<bool> {
    Ok(tx.execute(TAKE, [cell.into(), tenant.into()]).await? == 1)
}

pub(super) async fn placement(tx: &Tx, tenant: TenantId) -> Result<Option<Placement>> {
    let row = tx.row(PLACEMENT, [tenant.into()]).await?;
    Ok(row.map(|row| Placement::from_query_result(&row, "")).transpose()?)
}

/// Whether the tenant is still of the tier that it was read with; it stays so until the transaction ends.
pub(super) async fn is_of_tier(tx: &Tx, tenant: &Tenant) -> Result<bool> {
    Ok(tx.row(IS_OF_TIER, [tenant.id.into(), tenant.isolation_tier.into()]).await?.is_some())
}

/// Whether it was the only place that the cell has.
pub(super) async fn give_back(tx: &Tx, cell: CellId) -> Result<bool> {
    let row = tx.row(GIVE_BACK, [cell.into()]).await?.ok_or_else(Error::not_found)?;
    Ok(row.try_get("", "makes_room")?)
}

/// The tenant is there now, and no longer where it was.
pub(super) async fn replace(tx: &Tx, placement: &Placement) -> Result<()> {
    let values = [
        placement.tenant_id.into(),
        placement.cell_id.into(),
        placement.tier.into(),
        placement.region.as_str().into(),
        placement.database_name.as_str().into(),
        placement.reason.as_str().into(),
        placement.placed_at.into(),
    ];
    tx.execute(REPLACE, values).await?;
    Ok(())
}

/// Whether it is this one that is kept now.
pub(super) async fn place(tx: &Tx, placement: &Placement) -> Result<bool> {
    let values = [
        placement.tenant_id.into(),
        placement.cell_id.into(),
        placement.tier.into(),
        placement.region.as_str().into(),
        placement.database_name.as_str().into(),
        placement.reason.as_str().into(),
        placement.placed_at.into(),
    ];
    Ok(tx.execute(PLACE, values).await? == 1)
}

pub(super) async fn unplace(tx: &Tx, tenant: TenantId) -> Result<Option<Placement>> {
    let Some(row) = tx.row(UNPLACE, [tenant.into()]).await? else { return Ok(None) };
    Ok(Some(Placement::from_query_result(&row, "")?))
}

pub(super) async fn note_growth(tx: &Tx, day: NaiveDate) -> Result<()> {
    tx.execute(NOTE_GROWTH, [day.into()]).await?;
    Ok(())
}

/// What was noted since `day`: cell, day, tenants; by cell and day.
pub(super) async fn growth(tx: &Tx, day: NaiveDate) -> Result<Vec<(CellId, NaiveDate, i64)>> {
    let rows = tx.rows(GROWTH, [day.into()]).await?;
    let read = |row: &sea_orm::QueryResult| {
        Ok::<_, sea_orm::DbErr>((row.try_get("", "cell_id")?, row.try_get("", "day")?, row.try_get("", "placed")?))
    };
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// How far a server's log has been read.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub(super) struct LogMark {
    pub(super) file: String,
    pub(super) position: i64,
}

pub(super) async fn log_mark(tx: &Tx, cell: CellId) -> Result<Option<LogMark>> {
    let row = tx.row(LOG_MARK, [cell.into()]).await?;
    Ok(row.map(|row| LogMark::from_query_result(&row, "")).transpose()?)
}

/// Whether it was this one who moved it.
pub(super) async fn move_log_mark(tx: &Tx, cell: CellId, was: Option<&LogMark>, is: &LogMark) -> Result<bool> {
    let (file, position) = (is.file.as_str().into(), is.position.into());
    let moved = match was {
        None => tx.execute(SET_LOG_MARK, [cell.into(), file, position]).await?,
        Some(was) => {
            let values = [cell.into(), was.file.as_str().into(), was.position.into(), file, position];
            tx.execute(MOVE_LOG_MARK, values).await?
        }
    };
    Ok(moved == 1)
}
