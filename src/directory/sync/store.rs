//! The rows of `directory_syncs`.

use chrono::{DateTime, Utc};
use sea_orm::QueryResult;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Mode, Outcome, Phase, SILENCE, State, Sync, Trigger, name_of};
use crate::{
    error::{Context as _, Error, Result},
    isolation::{OperatorTx, TenantTx},
    platform::{
        db::violated_constraint,
        ids::{DirectorySyncId, TenantId},
        page::{self, Page, PageRequest},
    },
};

const COLUMNS: &str = "sync_id, is_dry_run, state, phase, trigger, started_by, people_read, written, result, reason, started_at, seen_at, ended_at";
const INSERT: &str = "
    insert into tenantry.directory_syncs
      (tenant_id, sync_id, is_dry_run, state, phase, trigger, started_by, started_at, seen_at)
    values ($1, $2, $3, 'RUNNING', 'CONNECTING', $4, $5, $6, $6)";
const GIVE_UP_SILENT: &str = "
    update tenantry.directory_syncs set state = 'FAILED', phase = 'ENDED', ended_at = $2, reason = $3
    where tenant_id = $1 and state = 'RUNNING' and seen_at < $4";
const BREATHE: &str = "
    update tenantry.directory_syncs set seen_at = $3 where tenant_id = $1 and sync_id = $2 and state = 'RUNNING'";
const PROGRESS: &str = "
    update tenantry.directory_syncs set phase = $3, people_read = $4, written = $5, seen_at = $6
    where tenant_id = $1 and sync_id = $2 and state = 'RUNNING'";
const END: &str = "
    update tenantry.directory_syncs set state = $3, phase = 'ENDED', result = $4, reason = $5, ended_at = $6, seen_at = $6
    where tenant_id = $1 and sync_id = $2 and state = 'RUNNING'";
const DUE: &str = "
    select tenant_id from tenantry.directories where next_sync_at <= $1 order by next_sync_at limit $2";
const TAKE_DUE: &str = "
    update tenantry.directories set next_sync_at = $2 where tenant_id = $1 and next_sync_at <= $3";

/// Of each tenant, the latest stay.
const FORGET: &str = "
    delete from tenantry.directory_syncs where tenant_id = $1 and state <> 'RUNNING' and sync_id <= (
      select sync_id from tenantry.directory_syncs where tenant_id = $1 order by sync_id desc offset $2 limit 1)";
const KEPT: i64 = 500;
const STOPPED: &str = "the server that ran it stopped";

/// Where a synchronisation stands in its list: ids are in the order of time.
#[derive(Serialize, Deserialize)]
enum Key {
    #[serde(rename = "y")]
    Sync(DirectorySyncId),
}

pub(super) fn cursor(sync: &Sync) -> String {
    page::encode(&Key::Sync(sync.id))
}

/// The latest first.
pub(super) async fn list(tx: &TenantTx, request: &PageRequest) -> Result<Page<Sync>> {
    let after = request.key()?.map(|Key::Sync(id)| id);
    let list = format!(
        "select {COLUMNS} from tenantry.directory_syncs
         where tenant_id = $1 and ($2::uuid is null or sync_id < $2) order by sync_id desc limit $3"
    );
    let most = i64::try_from(request.first).unwrap_or(i64::MAX).saturating_add(1);
    let values = [tx.tenant().into(), after.map(DirectorySyncId::uuid).into(), most.into()];
    let rows = tx.rows(&list, values).await?;
    let now = tx.stamp().at;
    Ok(request.page(rows.iter().map(|row| sync(row, now)).collect::<Result<_>>()?))
}

/// Writes that one runs; `conflict` where another does. One whose server has stopped is given up first.
pub(super) async fn begin(tx: &TenantTx, mode: Mode, trigger: Trigger) -> Result<Sync> {
    let stamp = tx.stamp();
    let reason = STOPPED;
    tx.execute(GIVE_UP_SILENT, [tx.tenant().into(), stamp.at.into(), reason.into(), (stamp.at - SILENCE).into()])
        .await?;
    tx.execute(FORGET, [tx.tenant().into(), KEPT.into()]).await?;
    let sync = Sync {
        id: DirectorySyncId::generate(),
        is_dry_run: mode == Mode::DryRun,
        state: State::Running,
        phase: Phase::Connecting,
        trigger,
        started_by: stamp.actor.name.clone(),
        people_read: 0,
        written: 0,
        result: None,
        reason: None,
        started_at: stamp.at,
        ended_at: None,
    };
    let values = [
        tx.tenant().into(),
        sync.id.into(),
        sync.is_dry_run.into(),
        name_of(trigger).into(),
        sync.started_by.as_str().into(),
        stamp.at.into(),
    ];
    match tx.execute(INSERT, values).await {
        Ok(_) => Ok(sync),
        Err(error) if violated_constraint(&error) == Some("directory_syncs_running") => {
            Err(Error::conflict("a synchronisation of this directory is running; wait for its end"))
        }
        Err(error) => Err(error.into()),
    }
}

/// False where it was given up.
pub(super) async fn breathe(tx: &TenantTx, id: DirectorySyncId) -> Result<bool> {
    Ok(tx.execute(BREATHE, [tx.tenant().into(), id.into(), tx.stamp().at.into()]).await? == 1)
}

/// False where it was given up.
pub(super) async fn progress(
    tx: &TenantTx,
    id: DirectorySyncId,
    phase: Phase,
    (people_read, written): (usize, usize),
) -> Result<bool> {
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let values = [
        tx.tenant().into(),
        id.into(),
        name_of(phase).into(),
        count(people_read).into(),
        count(written).into(),
        tx.stamp().at.into(),
    ];
    Ok(tx.execute(PROGRESS, values).await? == 1)
}

/// False where it was given up.
pub(super) async fn end(
    tx: &TenantTx,
    id: DirectorySyncId,
    state: State,
    outcome: Option<&Outcome>,
    reason: Option<&str>,
) -> Result<bool> {
    let result = outcome.map(serde_json::to_value).transpose().context("write what a synchronisation did")?;
    let values =
        [tx.tenant().into(), id.into(), name_of(state).into(), result.into(), reason.into(), tx.stamp().at.into()];
    Ok(tx.execute(END, values).await? == 1)
}

/// Tenants whose directory is due.
pub(super) async fn due(tx: &OperatorTx, most: i64) -> Result<Vec<TenantId>> {
    let rows = tx.rows(DUE, [tx.stamp().at.into(), most.into()]).await?;
    rows.iter().map(|row| Ok(row.try_get("", "tenant_id")?)).collect()
}

/// False where another server has taken it.
pub(super) async fn take_due(tx: &TenantTx, next: Option<DateTime<Utc>>) -> Result<bool> {
    Ok(tx.execute(TAKE_DUE, [tx.tenant().into(), next.into(), tx.stamp().at.into()]).await? == 1)
}

/// One that says nothing for long has stopped, whether somebody has written that or not.
fn sync(row: &QueryResult, now: DateTime<Utc>) -> Result<Sync> {
    let result: Option<serde_json::Value> = row.try_get("", "result")?;
    let seen_at: DateTime<Utc> = row.try_get("", "seen_at")?;
    let sync = Sync {
        id: row.try_get("", "sync_id")?,
        is_dry_run: row.try_get("", "is_dry_run")?,
        state: named(row, "state")?,
        phase: named(row, "phase")?,
        trigger: named(row, "trigger")?,
        started_by: row.try_get("", "started_by")?,
        people_read: row.try_get("", "people_read")?,
        written: row.try_get("", "written")?,
        result: result.map(serde_json::from_value).transpose().context("read what a synchronisation did")?,
        reason: row.try_get("", "reason")?,
        started_at: row.try_get("", "started_at")?,
        ended_at: row.try_get("", "ended_at")?,
    };
    if sync.state == State::Running && seen_at < now - SILENCE {
        let (state, phase, reason) = (State::Failed, Phase::Ended, Some(STOPPED.to_owned()));
        return Ok(Sync { state, phase, reason, ended_at: Some(seen_at), ..sync });
    }
    Ok(sync)
}

fn named<T: DeserializeOwned>(row: &QueryResult, column: &str) -> Result<T> {
    let name: String = row.try_get("", column)?;
    serde_json::from_value(name.into()).context("read the name of a state")
}
