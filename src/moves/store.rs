//! The rows of `moves`.

use chrono::{DateTime, Utc};
use sea_orm::FromQueryResult as _;

use super::order::{Move, Phase, Wanted};
use crate::{
    error::{Error, Result},
    platform::{
        db::{Tx, violated_constraint},
        ids::{MoveId, TenantId},
    },
};

const INSERT: &str = "
    insert into tenantry.moves (move_id, tenant_id, source_cell, source_database, source_tier, source_region, target_cell,
      target_database, target_tier, target_region, reason, phase, wanted, started_at, due_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'PREPARING', 'SWITCH', $12, $12)";
const FIND: &str = "select * from tenantry.moves where move_id = $1";
const LATEST: &str = "
    select * from tenantry.moves where tenant_id = $1 order by finished_at is not null, started_at desc, move_id desc limit 1";
const LOCK_RUNNING: &str = "select * from tenantry.moves where tenant_id = $1 and finished_at is null for update";
const RUNNING: &str = "select * from tenantry.moves where finished_at is null order by started_at, move_id";
/// Not while a cell that it needs is down, unless it is called off: the source at least is to be rid of it. Nor by a server of another
/// region.
const TAKE: &str = "
    with due as (
      select m.move_id from tenantry.moves m
      where m.finished_at is null and m.due_at <= $1 and (m.lease_until is null or m.lease_until <= $1)
        and (m.wanted in ('CANCEL', 'GIVE_UP')
          or not exists (select from tenantry.cells c where c.cell_id in (m.source_cell, m.target_cell) and c.health = 'UNHEALTHY'))
        and ($5::text is null or exists (select from tenantry.tenants t where t.tenant_id = m.tenant_id and t.region = $5))
      order by m.due_at limit $2 for update of m skip locked
    )
    update tenantry.moves m set lease_token = gen_random_uuid(), lease_holder = $3, lease_until = $4
    from due where m.move_id = due.move_id returning m.*";
const HOLD: &str = "update tenantry.moves set lease_until = $3 where move_id = $1 and lease_token = $2 returning *";
const RELEASE: &str = "
    update tenantry.moves set lease_token = null, lease_holder = null, lease_until = null,
      due_at = case when wanted = $3 then $4 else $5 end
    where move_id = $1 and lease_token = $2";
/// What a worker learns and decides. What is wanted is others' to change.
const SAVE: &str = "
    update tenantry.moves set phase = $2, problem = $3, attempts = $4, rows_copied = $5, changes_applied = $6, pause_ms = $7,
      identities = $8, fingerprint = $9, switched_at = $10, keep_until = $11, finished_at = $12
    where move_id = $1";
const WANT: &str = "update tenantry.moves set wanted = $2, due_at = $3 where move_id = $1";
const SET_HOLD: &str = "update tenantry.provisioning set move_hold = $2 where tenant_id = $1 returning tenant_id";
/// Nobody else works on the environment, and nobody begins to.
const SET_HOLD_ALONE: &str = "
    update tenantry.provisioning set move_hold = $2, lease_token = null, lease_holder = null, lease_until = null
    where tenant_id = $1 and (lease_until is null or lease_until <= $3) returning tenant_id";

/// Errors: `conflict` where one is running.
pub(super) async fn insert(tx: &Tx, order: &Move) -> Result<()> {
    let values = [
        order.id.into(),
        order.tenant.into(),
        order.source_cell.into(),
        order.source_database.as_str().into(),
        order.source_tier.into(),
        order.source_region.as_str().into(),
        order.target_cell.into(),
        order.target_database.as_str().into(),
        order.target_tier.into(),
        order.target_region.as_str().into(),
        order.reason.as_str().into(),
        order.started_at.into(),
    ];
    tx.execute(INSERT, values).await.map(drop).map_err(|error| match violated_constraint(&error) {
        Some("moves_running_idx") => running().because(error),
        _ => error.into(),
    })
}

pub(super) fn running() -> Error {
    Error::conflict("the tenant is being moved already; confirm or cancel that move first").at("tenantId")
}

pub(super) async fn find(tx: &Tx, id: MoveId) -> Result<Option<Move>> {
    let row = tx.row(FIND, [id.into()]).await?;
    Ok(row.map(|row| Move::from_query_result(&row, "")).transpose()?)
}

/// The one that runs, or the last one.
pub(super) async fn latest(tx: &Tx, tenant: TenantId) -> Result<Option<Move>> {
    let row = tx.row(LATEST, [tenant.into()]).await?;
    Ok(row.map(|row| Move::from_query_result(&row, "")).transpose()?)
}

pub(super) async fn lock_running(tx: &Tx, tenant: TenantId) -> Result<Option<Move>> {
    let row = tx.row(LOCK_RUNNING, [tenant.into()]).await?;
    Ok(row.map(|row| Move::from_query_result(&row, "")).transpose()?)
}

pub(super) async fn all_running(tx: &Tx) -> Result<Vec<Move>> {
    let rows = tx.rows(RUNNING, []).await?;
    Ok(rows.iter().map(|row| Move::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

/// Who takes leases, and until when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder<'a> {
    pub(super) name: &'a str,
    pub(super) now: DateTime<Utc>,
    pub(super) until: DateTime<Utc>,
}

pub(super) async fn take(tx: &Tx, holder: Holder<'_>, limit: usize, region: Option<&str>) -> Result<Vec<Move>> {
    let values = [holder.now.into(), (limit as i64).into(), holder.name.into(), holder.until.into(), region.into()];
    let rows = tx.rows(TAKE, values).await?;
    Ok(rows.iter().map(|row| Move::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

/// The move as it is, if the lease still stands; nobody takes it before this transaction ends.
pub(super) async fn hold(tx: &Tx, order: &Move, until: DateTime<Utc>) -> Result<Option<Move>> {
    let row = tx.row(HOLD, [order.id.into(), order.lease_token.into(), until.into()]).await?;
    Ok(row.map(|row| Move::from_query_result(&row, "")).transpose()?)
}

/// Gives the move back, to be looked at at `due`; at once where something else is wanted by now.
pub(super) async fn release(tx: &Tx, order: &Move, due: DateTime<Utc>, now: DateTime<Utc>) -> Result<()> {
    let values = [order.id.into(), order.lease_token.into(), order.wanted.into(), due.into(), now.into()];
    tx.execute(RELEASE, values).await?;
    Ok(())
}

pub(super) async fn save(tx: &Tx, order: &Move) -> Result<()> {
    let values = [
        order.id.into(),
        order.phase.into(),
        order.problem.as_str().into(),
        order.attempts.into(),
        order.rows_copied.into(),
        order.changes_applied.into(),
        order.pause_ms.into(),
        order.identities.clone().into(),
        order.fingerprint.as_str().into(),
        order.switched_at.into(),
        order.keep_until.into(),
        order.finished_at.into(),
    ];
    tx.execute(SAVE, values).await?;
    Ok(())
}

pub(super) async fn want(tx: &Tx, order: &Move, wanted: Wanted, now: DateTime<Utc>) -> Result<()> {
    tx.execute(WANT, [order.id.into(), wanted.into(), now.into()]).await?;
    Ok(())
}

/// Whom the environment is kept from while it is in `phase`.
pub(super) async fn set_hold(tx: &Tx, tenant: TenantId, phase: Phase) -> Result<()> {
    let hold = match phase {
        Phase::Preparing | Phase::Copying | Phase::CatchingUp => Some("MOVING"),
        Phase::Switching => Some("SWITCHING"),
        Phase::Switched => Some("KEPT"),
        Phase::Confirmed | Phase::Cancelled | Phase::Failed | Phase::RolledBack => None,
    };
    tx.execute(SET_HOLD, [tenant.into(), hold.into()]).await?;
    Ok(())
}

/// As [`set_hold`] for the switch; false while somebody works on the environment.
pub(super) async fn hold_alone(tx: &Tx, tenant: TenantId, now: DateTime<Utc>) -> Result<bool> {
    Ok(tx.row(SET_HOLD_ALONE, [tenant.into(), "SWITCHING".into(), now.into()]).await?.is_some())
}
