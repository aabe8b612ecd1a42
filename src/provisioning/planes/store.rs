//! The rows of `application_planes` and `plane_jobs`.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ActiveEnum as _, FromQueryResult};

use super::{ApplicationPlane, Interest, Job};
use crate::{
    error::{Context as _, Error, Result},
    platform::{
        db::{Tx, violated_constraint},
        ids::{ClientId, PlaneJobId, TenantId},
    },
    tenancy::IsolationTier,
};

const PLANES: &str = "select * from tenantry.application_planes order by position, name";
/// Not the key: who asks for it holds that, and waits for nobody who changes the rest.
const LOCK_PLANE: &str = "select * from tenantry.application_planes where name = $1 for no key update";
const FIND_PLANE: &str = "select * from tenantry.application_planes where name = $1";
const INSERT_PLANE: &str = "
    insert into tenantry.application_planes (name, client_id, essential, deadline_seconds, longest_seconds, position, tiers, plans,
      version, created_at, updated_at, retired_at, follows)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
const UPDATE_PLANE: &str = "
    update tenantry.application_planes set client_id = $2, essential = $3, deadline_seconds = $4, longest_seconds = $5, position = $6,
      tiers = $7, plans = $8, version = $9, updated_at = $11, retired_at = $12, follows = $13
    where name = $1 and created_at = $10";
/// Whoever is at work now looks again afterwards.
const LOOK_AT_ALL: &str = "
    with those as (select tenant_id from tenantry.provisioning where wanted = 'PRESENT' order by tenant_id for update)
    update tenantry.provisioning p set due_at = $1, requests = p.requests + 1 from those where p.tenant_id = those.tenant_id";
const LOOK_AT: &str = "
    update tenantry.provisioning set due_at = $2, requests = requests + 1 where tenant_id = $1 returning tenant_id";

/// The last job of each plane. Ids grow with time.
const LATEST_JOBS: &str = "
    select distinct on (plane) * from tenantry.plane_jobs where tenant_id = $1 order by plane, job_id desc";
const LOCK_JOB: &str = "
    select * from tenantry.plane_jobs where tenant_id = $1 and job_id = $2 and plane = $3 for update";
const OPEN_JOBS: &str = "
    select * from tenantry.plane_jobs where plane = $1 and state = 'OPEN' and ($2::uuid is null or job_id > $2)
    order by job_id limit $3";
const OPEN_JOBS_BUT: &str = "
    select * from tenantry.plane_jobs where plane = $1 and state = 'OPEN' and job_id <> all($2) order by job_id limit $3";
const STILL_OPEN: &str = "
    select job_id from tenantry.plane_jobs where plane = $1 and state = 'OPEN' and job_id = any($2)";
/// Nothing where one is open already.
const INSERT_JOB: &str = "
    insert into tenantry.plane_jobs (tenant_id, job_id, plane, kind, state, attempt, issued_at, deadline, latest, patience_seconds, told)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) on conflict do nothing";
const SAVE_JOB: &str = "
    update tenantry.plane_jobs set state = $3, deadline = $4, percent = $5, message = $6, outputs = $7, closed_at = $8
    where tenant_id = $1 and job_id = $2";
/// Of a plane that never answers there would be more and more.
const DROP_OLD_JOBS: &str = "
    delete from tenantry.plane_jobs where tenant_id = $1 and plane = $2 and state <> 'OPEN' and job_id not in (
      select job_id from tenantry.plane_jobs where tenant_id = $1 and plane = $2 order by job_id desc limit $3)";
/// Closed jobs of a tenant and a plane that are kept, to say to who answers them that they are closed.
const KEPT_JOBS: i64 = 20;

#[derive(FromQueryResult)]
struct Row {
    name: String,
    client_id: ClientId,
    essential: bool,
    deadline_seconds: i64,
    longest_seconds: i64,
    position: i16,
    tiers: Vec<String>,
    plans: Vec<String>,
    follows: Vec<String>,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    retired_at: Option<DateTime<Utc>>,
}

impl TryFrom<Row> for ApplicationPlane {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let tiers = row.tiers.iter().map(IsolationTier::try_from_value).collect::<Result<_, _>>();
        let follows = row.follows.iter().map(Interest::try_from_value).collect::<Result<_, _>>();
        Ok(Self {
            name: row.name,
            client_id: row.client_id,
            is_essential: row.essential,
            deadline: TimeDelta::seconds(row.deadline_seconds),
            longest: TimeDelta::seconds(row.longest_seconds),
            position: row.position,
            tiers: tiers.context("read the tiers of an application plane")?,
            plans: row.plans,
            follows: follows.context("read what an application plane follows")?,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
            retired_at: row.retired_at,
        })
    }
}

fn plane(row: &sea_orm::QueryResult) -> Result<ApplicationPlane> {
    Row::from_query_result(row, "")?.try_into()
}

fn values(plane: &ApplicationPlane) -> [sea_orm::Value; 13] {
    let tiers: Vec<String> = plane.tiers.iter().map(|tier| tier.to_value()).collect();
    let follows: Vec<String> = plane.follows.iter().map(|interest| interest.to_value()).collect();
    [
        plane.name.as_str().into(),
        plane.client_id.into(),
        plane.is_essential.into(),
        plane.deadline.num_seconds().into(),
        plane.longest.num_seconds().into(),
        plane.position.into(),
        tiers.into(),
        plane.plans.clone().into(),
        plane.version.into(),
        plane.created_at.into(),
        plane.updated_at.into(),
        plane.retired_at.into(),
        follows.into(),
    ]
}

/// In the order in which they are asked, retired ones among them.
pub(super) async fn planes(tx: &Tx) -> Result<Vec<ApplicationPlane>> {
    tx.rows(PLANES, []).await?.iter().map(plane).collect()
}

pub(super) async fn lock_plane(tx: &Tx, name: &str) -> Result<Option<ApplicationPlane>> {
    tx.row(LOCK_PLANE, [name.into()]).await?.as_ref().map(plane).transpose()
}

pub(super) async fn find_plane(tx: &Tx, name: &str) -> Result<Option<ApplicationPlane>> {
    tx.row(FIND_PLANE, [name.into()]).await?.as_ref().map(plane).transpose()
}

pub(super) async fn insert_plane(tx: &Tx, plane: &ApplicationPlane) -> Result<()> {
    tx.execute(INSERT_PLANE, values(plane)).await.map(drop).map_err(taken)
}

pub(super) async fn update_plane(tx: &Tx, plane: &ApplicationPlane) -> Result<()> {
    tx.execute(UPDATE_PLANE, values(plane)).await.map(drop).map_err(taken)
}

fn taken(error: sea_orm::DbErr) -> Error {
    match violated_constraint(&error) {
        Some("application_planes_pkey") => {
            let rule = "an application plane has or had this name; names are not given again";
            Error::conflict(rule).at("name").because(error)
        }
        Some("application_planes_client_idx") => {
            Error::conflict("this client answers for another application plane").at("clientId").because(error)
        }
        _ => error.into(),
    }
}

/// Every tenant with an environment is looked at.
pub(super) async fn look_at_all(tx: &Tx, now: DateTime<Utc>) -> Result<()> {
    tx.execute(LOOK_AT_ALL, [now.into()]).await?;
    Ok(())
}

/// The tenant is looked at; false where it has no environment. Whoever works on it waits for this transaction before it writes.
pub(super) async fn look_at(tx: &Tx, tenant: TenantId, now: DateTime<Utc>) -> Result<bool> {
    Ok(tx.row(LOOK_AT, [tenant.into(), now.into()]).await?.is_some())
}

/// The last job of each plane that the tenant has or had.
pub(in super::super) async fn latest_jobs(tx: &Tx, tenant: TenantId) -> Result<Vec<Job>> {
    let rows = tx.rows(LATEST_JOBS, [tenant.into()]).await?;
    Ok(rows.iter().map(|row| Job::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

/// A job, held until the transaction ends.
pub(super) async fn lock_job(tx: &Tx, tenant: TenantId, job: PlaneJobId, plane: &str) -> Result<Option<Job>> {
    let row = tx.row(LOCK_JOB, [tenant.into(), job.into(), plane.into()]).await?;
    Ok(row.map(|row| Job::from_query_result(&row, "")).transpose()?)
}

/// Jobs of the plane that wait for an answer, the oldest first.
pub(super) async fn open_jobs(tx: &Tx, plane: &str, after: Option<PlaneJobId>, limit: usize) -> Result<Vec<Job>> {
    let rows = tx.rows(OPEN_JOBS, [plane.into(), after.into(), (limit as i64).into()]).await?;
    Ok(rows.iter().map(|row| Job::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

/// The same but for these.
pub(super) async fn open_jobs_but(tx: &Tx, plane: &str, known: &[PlaneJobId], limit: usize) -> Result<Vec<Job>> {
    let rows = tx.rows(OPEN_JOBS_BUT, [plane.into(), uuids(known).into(), (limit as i64).into()]).await?;
    Ok(rows.iter().map(|row| Job::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

/// Those of `known` that wait for an answer.
pub(super) async fn still_open(tx: &Tx, plane: &str, known: &[PlaneJobId]) -> Result<Vec<PlaneJobId>> {
    let rows = tx.rows(STILL_OPEN, [plane.into(), uuids(known).into()]).await?;
    Ok(rows.iter().map(|row| row.try_get("", "job_id")).collect::<Result<_, _>>()?)
}

fn uuids(ids: &[PlaneJobId]) -> Vec<uuid::Uuid> {
    ids.iter().map(|id| id.uuid()).collect()
}

/// Whether it was added: not where one of the tenant and the plane is open.
pub(super) async fn insert_job(tx: &Tx, job: &Job) -> Result<bool> {
    tx.execute(DROP_OLD_JOBS, [job.tenant_id.into(), job.plane.as_str().into(), KEPT_JOBS.into()]).await?;
    let values = [
        job.tenant_id.into(),
        job.job_id.into(),
        job.plane.as_str().into(),
        job.kind.into(),
        job.state.into(),
        job.attempt.into(),
        job.issued_at.into(),
        job.deadline.into(),
        job.latest.into(),
        job.patience_seconds.into(),
        job.told.clone().into(),
    ];
    Ok(tx.execute(INSERT_JOB, values).await? == 1)
}

pub(super) async fn save_job(tx: &Tx, job: &Job) -> Result<()> {
    let values = [
        job.tenant_id.into(),
        job.job_id.into(),
        job.state.into(),
        job.deadline.into(),
        job.percent.into(),
        job.message.as_str().into(),
        job.outputs.clone().into(),
        job.closed_at.into(),
    ];
    tx.execute(SAVE_JOB, values).await?;
    Ok(())
}
