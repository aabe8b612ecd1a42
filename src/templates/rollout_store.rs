//! The rows of `template_rollouts`, `rollout_lanes` and `rollout_tenants`.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sea_orm::FromQueryResult;

use super::rollout::{Count, Rollout};
use crate::{
    error::{Error, Result},
    platform::{
        db::{Tx, column, violated_constraint},
        ids::{CellId, LeaseId, RolloutId, TenantId},
    },
};

const INSERT: &str = "
    insert into tenantry.template_rollouts (rollout_id, template, target, state, rules, started_at)
    values ($1, $2, $3, 'RUNNING', $4, $5)";
const ADD_LANES: &str = "
    insert into tenantry.rollout_lanes (rollout_id, lane) select $1, lane from generate_series(1, $2::integer) lane";
/// Tenants behind the target, in an order that is another one for every rollout: canaries are not always the same.
const BEHIND: &str = "
    select tenant_id from tenantry.tenant_templates s where template = $1 and version < $2
      and not exists (select from tenantry.rollout_tenants t where t.rollout_id = $3 and t.tenant_id = s.tenant_id)
    order by hashtextextended(tenant_id::text || $3::text, 0)";
const ADD_TENANTS: &str = "
    insert into tenantry.rollout_tenants (rollout_id, tenant_id, wave, state, due_at)
    select $1, tenant, wave, 'PENDING', $4 from unnest($2::uuid[], $3::integer[]) as r (tenant, wave)
    on conflict do nothing";
const LOCK: &str = "select * from tenantry.template_rollouts where rollout_id = $1 for update";
const FIND: &str = "select * from tenantry.template_rollouts where rollout_id = $1";
const OF_TEMPLATE: &str =
    "select * from tenantry.template_rollouts where template = $1 order by started_at desc, rollout_id desc limit $2";
const RUNNING: &str = "select * from tenantry.template_rollouts where state = 'RUNNING' order by started_at";
const TURN: &str = "
    update tenantry.template_rollouts set state = $2, reason = $3, wave = $4, finished_at = $5 where rollout_id = $1";
const COUNTS: &str = "
    select wave, count(*) filter (where state = 'PENDING') as pending, count(*) filter (where state = 'APPLIED') as applied,
      count(*) filter (where state = 'FAILED') as failed, count(*) filter (where state = 'SKIPPED') as skipped
    from tenantry.rollout_tenants where rollout_id = $1 group by wave order by wave";
const TRY_AGAIN: &str = "
    update tenantry.rollout_tenants set state = 'PENDING', attempts = 0, problem = '', due_at = $2, done_at = null
    where rollout_id = $1 and state = 'FAILED'";
/// Whoever has no place on a cell has no schema that could be migrated.
const SKIP_UNPLACED: &str = "
    update tenantry.rollout_tenants t set state = 'SKIPPED', problem = 'the tenant has no place on a cell', done_at = $2
    where rollout_id = $1 and state = 'PENDING'
      and not exists (select from tenantry.placements p where p.tenant_id = t.tenant_id)";

/// The cell with the most to do that may take another lane.
const BUSIEST: &str = "
    select p.cell_id from tenantry.rollout_tenants t join tenantry.placements p on p.tenant_id = t.tenant_id
      join tenantry.cells c on c.cell_id = p.cell_id and c.health <> 'UNHEALTHY'
    where t.rollout_id = $1 and t.state = 'PENDING' and t.wave <= $2 and t.due_at <= $3
      and t.tenant_id not in (select unnest(l.taken) from tenantry.rollout_lanes l where l.rollout_id = $1 and l.lease_until > $3)
      and ($5::text is null or p.region = $5)
      and not exists (select from tenantry.provisioning e where e.tenant_id = t.tenant_id and e.move_hold in ('MOVING', 'SWITCHING'))
    group by p.cell_id
    having (select count(*) from tenantry.rollout_lanes l where l.rollout_id = $1 and l.cell_id = p.cell_id and l.lease_until > $3) < $4
    order by count(*) desc, p.cell_id limit 1";
const CLAIM: &str = "
    update tenantry.rollout_lanes set cell_id = $3, lease_token = $4, lease_until = $5, taken = '{}'
    where rollout_id = $1 and lane = (select lane from tenantry.rollout_lanes
      where rollout_id = $1 and (lease_until is null or lease_until <= $2) order by lane limit 1 for update)
    returning lane";
/// What the lane had taken is done.
const HOLD: &str = "
    update tenantry.rollout_lanes set lease_until = $3, taken = '{}' where rollout_id = $1 and lease_token = $2 returning lane";
const RELEASE: &str = "
    update tenantry.rollout_lanes set cell_id = null, lease_token = null, lease_until = null, taken = '{}'
    where rollout_id = $1 and lease_token = $2";
/// Who is being moved is migrated where it comes to be. The order is the index's own: nothing is sorted, and who is done is not met. Who is
/// taken stands in the lane's row, not in as many rows of their own: the rollout is locked, so nobody takes meanwhile.
const TAKE: &str = "
    with due as materialized (
      select t.tenant_id, t.attempts, p.database_name, s.version
      from tenantry.rollout_tenants t join tenantry.placements p on p.tenant_id = t.tenant_id and p.cell_id = $3
        join tenantry.tenant_templates s on s.tenant_id = t.tenant_id
      where t.rollout_id = $1 and t.state = 'PENDING' and t.wave <= $2 and t.due_at <= $4
        and t.tenant_id not in (select unnest(l.taken) from tenantry.rollout_lanes l where l.rollout_id = $1 and l.lease_until > $4)
        and not exists (select from tenantry.provisioning e where e.tenant_id = t.tenant_id and e.move_hold in ('MOVING', 'SWITCHING'))
      order by t.wave, t.due_at limit $5
    ), noted as (
      update tenantry.rollout_lanes set taken = (select coalesce(array_agg(tenant_id), '{}') from due) where rollout_id = $1 and lease_token = $6
    )
    select * from due";
/// Without a join: of tenants that were just added the planner knows nothing, and may take all of them for few.
const SAVE_APPLIED: &str = "
    update tenantry.rollout_tenants set state = 'APPLIED', attempts = attempts + 1, problem = '', due_at = $3, done_at = $3
    where rollout_id = $1 and tenant_id = any($2::uuid[]) and state = 'PENDING' returning tenant_id";
const SAVE: &str = "
    update tenantry.rollout_tenants t set state = r.state, attempts = r.attempts, problem = r.problem, due_at = r.due_at,
      done_at = case when r.state = 'PENDING' then null else $7::timestamptz end
    from unnest($2::uuid[], $3::text[], $4::integer[], $5::text[], $6::timestamptz[])
      as r (tenant, state, attempts, problem, due_at)
    where t.rollout_id = $1 and t.tenant_id = r.tenant and t.state = 'PENDING' returning t.tenant_id";
const NOTE_VERSIONS: &str = "
    update tenantry.tenant_templates s set version = $3, schema_hash = null, verified_at = null, drift = '[]', migrated_at = $4
    where template = $1 and tenant_id = any($2::uuid[]) and version < $3";
/// For a hundred of a hundred thousand rows the planner would go through all of them: it takes look-ups for dearer than they are.
const LOOK_UP: &str = "
    select set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
      set_config('enable_mergejoin', 'off', true)";
const PACE: &str = "
    select count(*) as done from tenantry.rollout_tenants where rollout_id = $1 and done_at > $2 and state in ('APPLIED', 'FAILED')";
const TROUBLES: &str = "
    select tenant_id, state, attempts, problem, due_at from tenantry.rollout_tenants
    where rollout_id = $1 and problem <> '' order by state, done_at desc nulls last, tenant_id limit $2";

/// A tenant that is to be migrated.
#[derive(Clone, Debug, FromQueryResult)]
pub(super) struct Due {
    pub(super) tenant_id: TenantId,
    pub(super) attempts: i32,
    pub(super) database_name: String,
    /// The version that was seen last.
    pub(super) version: i32,
}

/// What became of it.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) tenant: TenantId,
    pub(super) state: TenantState,
    pub(super) attempts: i32,
    pub(super) problem: String,
    pub(super) due_at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TenantState {
    Pending,
    Applied,
    Failed,
}

impl TenantState {
    fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Applied => "APPLIED",
            Self::Failed => "FAILED",
        }
    }
}

/// A tenant that waits, or has failed, and why.
#[derive(Clone, Debug, FromQueryResult)]
pub(super) struct TroubleRow {
    pub(super) tenant_id: TenantId,
    pub(super) state: String,
    pub(super) attempts: i32,
    pub(super) problem: String,
    pub(super) due_at: DateTime<Utc>,
}

pub(super) async fn insert(tx: &Tx, rollout: &Rollout) -> Result<()> {
    let values = [
        rollout.rollout_id.into(),
        rollout.template.as_str().into(),
        rollout.target.into(),
        rollout.rules.clone().into(),
        rollout.started_at.into(),
    ];
    tx.execute(INSERT, values).await.map_err(|error| match violated_constraint(&error) {
        Some("template_rollouts_open_idx") => {
            Error::conflict("another rollout of this template is under way; let it end, or cancel it").because(error)
        }
        _ => error.into(),
    })?;
    tx.execute(ADD_LANES, [rollout.rollout_id.into(), i32::from(rollout.rules.concurrency).into()]).await?;
    Ok(())
}

/// Tenants that are behind the rollout's target and not part of it, in the order in which they are to be tried.
pub(super) async fn behind(tx: &Tx, rollout: &Rollout) -> Result<Vec<TenantId>> {
    let values = [rollout.template.as_str().into(), rollout.target.into(), rollout.rollout_id.into()];
    let rows = tx.rows(BEHIND, values).await?;
    Ok(rows.iter().map(|row| row.try_get("", "tenant_id")).collect::<Result<_, _>>()?)
}

pub(super) async fn add_tenants(
    tx: &Tx,
    rollout: RolloutId,
    tenants: &[(TenantId, i16)],
    now: DateTime<Utc>,
) -> Result<()> {
    let ids: Vec<_> = tenants.iter().map(|(tenant, _)| tenant.uuid()).collect();
    let waves: Vec<_> = tenants.iter().map(|(_, wave)| i32::from(*wave)).collect();
    tx.execute(ADD_TENANTS, [rollout.into(), ids.into(), waves.into(), now.into()]).await?;
    Ok(())
}

pub(super) async fn lock(tx: &Tx, rollout: RolloutId) -> Result<Option<Rollout>> {
    let row = tx.row(LOCK, [rollout.into()]).await?;
    Ok(row.map(|row| Rollout::from_query_result(&row, "")).transpose()?)
}

pub(super) async fn find(tx: &Tx, rollout: RolloutId) -> Result<Option<Rollout>> {
    let row = tx.row(FIND, [rollout.into()]).await?;
    Ok(row.map(|row| Rollout::from_query_result(&row, "")).transpose()?)
}

/// The newest first.
pub(super) async fn of_template(tx: &Tx, template: &str, limit: i64) -> Result<Vec<Rollout>> {
    rollouts(tx.rows(OF_TEMPLATE, [template.into(), limit.into()]).await?)
}

pub(super) async fn running(tx: &Tx) -> Result<Vec<Rollout>> {
    rollouts(tx.rows(RUNNING, []).await?)
}

fn rollouts(rows: Vec<sea_orm::QueryResult>) -> Result<Vec<Rollout>> {
    Ok(rows.iter().map(|row| Rollout::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

pub(super) async fn turn(tx: &Tx, rollout: &Rollout) -> Result<()> {
    let values = [
        rollout.rollout_id.into(),
        rollout.state.into(),
        rollout.reason.as_str().into(),
        rollout.wave.into(),
        rollout.finished_at.into(),
    ];
    tx.execute(TURN, values).await?;
    Ok(())
}

pub(super) async fn counts(tx: &Tx, rollout: RolloutId) -> Result<Vec<Count>> {
    let rows = tx.rows(COUNTS, [rollout.into()]).await?;
    Ok(rows.iter().map(|row| Count::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

pub(super) async fn try_again(tx: &Tx, rollout: RolloutId, now: DateTime<Utc>) -> Result<u64> {
    Ok(tx.execute(TRY_AGAIN, [rollout.into(), now.into()]).await?)
}

pub(super) async fn skip_unplaced(tx: &Tx, rollout: RolloutId, now: DateTime<Utc>) -> Result<u64> {
    Ok(tx.execute(SKIP_UNPLACED, [rollout.into(), now.into()]).await?)
}

/// The cell that a further lane of the rollout should work on.
pub(super) async fn busiest(
    tx: &Tx,
    rollout: &Rollout,
    region: Option<&str>,
    now: DateTime<Utc>,
) -> Result<Option<CellId>> {
    let per_cell = i64::from(rollout.rules.per_cell);
    let values = [rollout.rollout_id.into(), rollout.wave.into(), now.into(), per_cell.into(), region.into()];
    Ok(tx.row(BUSIEST, values).await?.map(|row| row.try_get("", "cell_id")).transpose()?)
}

/// A lane, and until when it is whose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    pub(super) rollout: RolloutId,
    pub(super) cell: CellId,
    pub(super) token: LeaseId,
}

/// Whether there was a free one.
pub(super) async fn claim(tx: &Tx, lane: Lane, now: DateTime<Utc>, until: DateTime<Utc>) -> Result<bool> {
    let values = [lane.rollout.into(), now.into(), lane.cell.into(), lane.token.into(), until.into()];
    Ok(tx.row(CLAIM, values).await?.is_some())
}

/// Whether the lane is still held; it is then until `until`.
pub(super) async fn hold(tx: &Tx, lane: Lane, until: DateTime<Utc>) -> Result<bool> {
    Ok(tx.row(HOLD, [lane.rollout.into(), lane.token.into(), until.into()]).await?.is_some())
}

pub(super) async fn release(tx: &Tx, lane: Lane) -> Result<()> {
    tx.execute(RELEASE, [lane.rollout.into(), lane.token.into()]).await?;
    Ok(())
}

/// The next tenants of the lane, which holds them as long as its lease lasts. The rollout is locked, and the lane held.
pub(super) async fn take(tx: &Tx, rollout: &Rollout, lane: Lane, now: DateTime<Utc>, limit: u32) -> Result<Vec<Due>> {
    let values = [
        rollout.rollout_id.into(),
        rollout.wave.into(),
        lane.cell.into(),
        now.into(),
        i64::from(limit).into(),
        lane.token.into(),
    ];
    let rows = tx.rows(TAKE, values).await?;
    let mut due: Vec<Due> = rows.iter().map(|row| Due::from_query_result(row, "")).collect::<Result<_, _>>()?;
    due.sort_by(|one, other| one.database_name.cmp(&other.database_name)); // those of one database share a connection
    Ok(due)
}

/// Writes results down; answers who was still to be done: nobody is counted, or told of, twice.
pub(super) async fn save(
    tx: &Tx,
    rollout: RolloutId,
    results: &[Report],
    now: DateTime<Utc>,
) -> Result<BTreeSet<TenantId>> {
    let (applied, others): (Vec<&Report>, Vec<&Report>) =
        results.iter().partition(|report| report.state == TenantState::Applied);
    let mut rows = Vec::new();
    if !applied.is_empty() {
        let applied = column(&applied, |report| report.tenant.uuid());
        rows.extend(tx.rows(SAVE_APPLIED, [rollout.into(), applied, now.into()]).await?);
    }
    if !others.is_empty() {
        let values = [
            rollout.into(),
            column(&others, |report| report.tenant.uuid()),
            column(&others, |report| report.state.name().to_owned()),
            column(&others, |report| report.attempts),
            column(&others, |report| report.problem.clone()),
            column(&others, |report| report.due_at),
            now.into(),
        ];
        rows.extend(tx.rows(SAVE, values).await?);
    }
    Ok(rows.iter().map(|row| row.try_get("", "tenant_id")).collect::<Result<_, _>>()?)
}

/// For a transaction of batches: all tables are asked by their keys.
pub(super) async fn look_up(tx: &Tx) -> Result<()> {
    tx.row(LOOK_UP, []).await?;
    Ok(())
}

pub(super) async fn note_versions(tx: &Tx, rollout: &Rollout, tenants: &[TenantId], now: DateTime<Utc>) -> Result<()> {
    let tenants: Vec<_> = tenants.iter().map(|tenant| tenant.uuid()).collect();
    let values = [rollout.template.as_str().into(), tenants.into(), rollout.target.into(), now.into()];
    tx.execute(NOTE_VERSIONS, values).await?;
    Ok(())
}

/// Tenants done since `since`.
pub(super) async fn pace(tx: &Tx, rollout: RolloutId, since: DateTime<Utc>) -> Result<i64> {
    let row = tx.row(PACE, [rollout.into(), since.into()]).await?;
    Ok(row.map_or(Ok(0), |row| row.try_get("", "done"))?)
}

pub(super) async fn troubles(tx: &Tx, rollout: RolloutId, limit: i64) -> Result<Vec<TroubleRow>> {
    let rows = tx.rows(TROUBLES, [rollout.into(), limit.into()]).await?;
    Ok(rows.iter().map(|row| TroubleRow::from_query_result(row, "")).collect::<Result<_, _>>()?)
}
