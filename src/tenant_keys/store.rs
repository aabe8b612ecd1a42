//! The rows of a tenant's keys, inside a session that says whose.

use chrono::{DateTime, Utc};
use sea_orm::{FromQueryResult, QueryResult};

use crate::{
    config::KeyProvider,
    error::{Context as _, Error, Result},
    keys::{KeyVersion, WrappingKey},
    platform::{db::Tx, ids::TenantId},
};

const RING: &str = "select * from tenantry.tenant_key_rings where tenant_id = $1";
const LOCK_RING: &str = "select * from tenantry.tenant_key_rings where tenant_id = $1 for update";
const INSERT_RING: &str = "
    insert into tenantry.tenant_key_rings (tenant_id, active_generation, created_at, updated_at) values ($1, 1, $2, $2)
    on conflict do nothing";
const UPDATE_RING: &str = "
    update tenantry.tenant_key_rings
    set active_version = $2, active_generation = $3, shredded_at = $4, due_at = $5, attempts = 0, updated_at = $6
    where tenant_id = $1";
const WRAPPING: &str = "select * from tenantry.tenant_wrapping_keys where tenant_id = $1 order by generation";
const INSERT_WRAPPING: &str = "
    insert into tenantry.tenant_wrapping_keys (tenant_id, generation, provider, created_at) values ($1, $2, $3, $4)
    on conflict do nothing";
const NAME_WRAPPING: &str = "
    update tenantry.tenant_wrapping_keys set reference = $3 where tenant_id = $1 and generation = $2 and reference is null";
const END_WRAPPING: &str = "
    update tenantry.tenant_wrapping_keys set destroyed_at = $3
    where tenant_id = $1 and generation = $2 and destroyed_at is null";
const KEYS: &str = "
    select version, generation, wrapped is null as is_destroyed, created_at, replaced_at
    from tenantry.tenant_keys where tenant_id = $1 order by version";
const KEY: &str = "
    select k.version, k.wrapped, w.generation, w.provider, w.reference
    from tenantry.tenant_keys k join tenantry.tenant_wrapping_keys w using (tenant_id, generation)
    where k.tenant_id = $1 and k.version = $2 and k.wrapped is not null";
const INSERT_KEY: &str = "
    insert into tenantry.tenant_keys (tenant_id, version, generation, wrapped, created_at, wrapped_at)
    values ($1, $2, $3, $4, $5, $5)";
const REPLACE_KEYS: &str = "
    update tenantry.tenant_keys set replaced_at = $3 where tenant_id = $1 and version < $2 and replaced_at is null";
const REWRAP_KEY: &str = "
    update tenantry.tenant_keys set generation = $3, wrapped = $4, wrapped_at = $5
    where tenant_id = $1 and version = $2 and generation = $6 and wrapped is not null";
const DESTROY_KEYS: &str =
    "update tenantry.tenant_keys set wrapped = null where tenant_id = $1 and wrapped is not null";
const DELETE_KEY: &str = "delete from tenantry.tenant_keys where tenant_id = $1 and version = $2";

/// One row of `tenant_key_rings`.
#[derive(Clone, Debug, FromQueryResult)]
pub(super) struct Ring {
    pub(super) active_version: KeyVersion,
    pub(super) active_generation: i64,
    pub(super) shredded_at: Option<DateTime<Utc>>,
    pub(super) due_at: Option<DateTime<Utc>>,
    pub(super) created_at: DateTime<Utc>,
}

/// One row of `tenant_wrapping_keys`.
#[derive(Clone, Debug)]
pub(super) struct Wrapping {
    pub(super) generation: i64,
    pub(super) provider: KeyProvider,
    /// `None` until it is made.
    pub(super) reference: Option<String>,
    pub(super) destroyed_at: Option<DateTime<Utc>>,
}

/// One row of `tenant_keys`, without the key.
#[derive(Clone, Debug, FromQueryResult)]
pub(super) struct Version {
    pub(super) version: KeyVersion,
    pub(super) generation: i64,
    pub(super) is_destroyed: bool,
    pub(super) created_at: DateTime<Utc>,
    pub(super) replaced_at: Option<DateTime<Utc>>,
}

/// All of one tenant.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) ring: Ring,
    pub(super) wrapping: Vec<Wrapping>,
    pub(super) versions: Vec<Version>,
}

/// A data key as it is stored.
pub(super) struct Wrapped {
    pub(super) bytes: Vec<u8>,
    pub(super) provider: KeyProvider,
    pub(super) by: WrappingKey,
}

impl Held {
    /// The wrapping key that data keys are to be wrapped with.
    pub(super) fn active(&self) -> Result<&Wrapping> {
        self.wrapping(self.ring.active_generation)
    }

    pub(super) fn wrapping(&self, generation: i64) -> Result<&Wrapping> {
        let found = self.wrapping.iter().find(|key| key.generation == generation);
        found.context("find a tenant's wrapping key")
    }

    /// Data keys that another wrapping key than the present one wraps.
    pub(super) fn behind(&self) -> impl Iterator<Item = &Version> {
        self.versions.iter().filter(|key| !key.is_destroyed && key.generation != self.ring.active_generation)
    }
}

impl Wrapping {
    fn read(row: &QueryResult) -> Result<Self> {
        let provider: String = row.try_get("", "provider")?;
        Ok(Self {
            generation: row.try_get("", "generation")?,
            provider: KeyProvider::parse(&provider).context("read a provider's name")?,
            reference: row.try_get("", "reference")?,
            destroyed_at: row.try_get("", "destroyed_at")?,
        })
    }
}

pub(super) async fn find(tx: &Tx, tenant: TenantId) -> Result<Option<Held>> {
    let Some(row) = tx.row(RING, [tenant.into()]).await? else { return Ok(None) };
    rest(tx, tenant, &row).await.map(Some)
}

/// The same, held until the transaction ends: changes of one tenant's keys go one after the other.
pub(super) async fn lock(tx: &Tx, tenant: TenantId) -> Result<Option<Held>> {
    let Some(row) = tx.row(LOCK_RING, [tenant.into()]).await? else { return Ok(None) };
    rest(tx, tenant, &row).await.map(Some)
}

async fn rest(tx: &Tx, tenant: TenantId, ring: &QueryResult) -> Result<Held> {
    let ring = Ring::from_query_result(ring, "")?;
    let wrapping = tx.rows(WRAPPING, [tenant.into()]).await?;
    let versions = tx.rows(KEYS, [tenant.into()]).await?;
    let versions = versions.iter().map(|row| Version::from_query_result(row, "")).collect::<Result<_, _>>()?;
    Ok(Held { ring, wrapping: wrapping.iter().map(Wrapping::read).collect::<Result<_>>()?, versions })
}

/// A ring without keys, where there is none.
pub(super) async fn begin(tx: &Tx, tenant: TenantId, now: DateTime<Utc>) -> Result<()> {
    tx.execute(INSERT_RING, [tenant.into(), now.into()]).await?;
    Ok(())
}

pub(super) async fn update_ring(tx: &Tx, tenant: TenantId, ring: &Ring, now: DateTime<Utc>) -> Result<()> {
    let values = [
        tenant.into(),
        ring.active_version.into(),
        ring.active_generation.into(),
        ring.shredded_at.into(),
        ring.due_at.into(),
        now.into(),
    ];
    tx.execute(UPDATE_RING, values).await?;
    Ok(())
}

pub(super) async fn insert_wrapping(
    tx: &Tx,
    tenant: TenantId,
    generation: i64,
    provider: KeyProvider,
    now: DateTime<Utc>,
) -> Result<()> {
    tx.execute(INSERT_WRAPPING, [tenant.into(), generation.into(), provider.name().into(), now.into()]).await?;
    Ok(())
}

/// What the provider calls the key, once it is made.
pub(super) async fn name_wrapping(tx: &Tx, key: &WrappingKey) -> Result<()> {
    tx.execute(NAME_WRAPPING, [key.tenant.into(), key.generation.into(), key.reference.as_str().into()]).await?;
    Ok(())
}

pub(super) async fn end_wrapping(tx: &Tx, tenant: TenantId, generation: i64, now: DateTime<Utc>) -> Result<()> {
    tx.execute(END_WRAPPING, [tenant.into(), generation.into(), now.into()]).await?;
    Ok(())
}

/// The stored form of one version; `None` where it is not there or was destroyed.
pub(super) async fn find_key(tx: &Tx, tenant: TenantId, version: KeyVersion) -> Result<Option<Wrapped>> {
    let Some(row) = tx.row(KEY, [tenant.into(), version.into()]).await? else { return Ok(None) };
    let provider: String = row.try_get("", "provider")?;
    let reference: Option<String> = row.try_get("", "reference")?;
    Ok(Some(Wrapped {
        bytes: row.try_get("", "wrapped")?,
        provider: KeyProvider::parse(&provider).context("read a provider's name")?,
        by: WrappingKey {
            tenant,
            generation: row.try_get("", "generation")?,
            reference: reference.context("a wrapping key in use has a name")?,
        },
    }))
}

/// A new version: those before it are replaced.
pub(super) async fn insert_key(
    tx: &Tx,
    by: &WrappingKey,
    version: KeyVersion,
    wrapped: Vec<u8>,
    now: DateTime<Utc>,
) -> Result<()> {
    tx.execute(REPLACE_KEYS, [by.tenant.into(), version.into(), now.into()]).await?;
    let values = [by.tenant.into(), version.into(), by.generation.into(), wrapped.into(), now.into()];
    tx.execute(INSERT_KEY, values).await?;
    Ok(())
}

/// False where another was faster.
pub(super) async fn rewrap_key(
    tx: &Tx,
    before: &Version,
    by: &WrappingKey,
    wrapped: Vec<u8>,
    now: DateTime<Utc>,
) -> Result<bool> {
    let values = [
        by.tenant.into(),
        before.version.into(),
        by.generation.into(),
        wrapped.into(),
        now.into(),
        before.generation.into(),
    ];
    Ok(tx.execute(REWRAP_KEY, values).await? == 1)
}

/// Answers how many there were.
pub(super) async fn destroy_keys(tx: &Tx, tenant: TenantId) -> Result<u64> {
    Ok(tx.execute(DESTROY_KEYS, [tenant.into()]).await?)
}

/// False where something is still sealed with it: what is refers to it.
pub(super) async fn delete_key(tx: &Tx, tenant: TenantId, version: KeyVersion) -> Result<bool> {
    match tx.execute(DELETE_KEY, [tenant.into(), version.into()]).await {
        Ok(deleted) => Ok(deleted == 1),
        Err(error) if crate::platform::db::violated_constraint(&error).is_some() => Ok(false),
        Err(error) => Err(Error::from(error)),
    }
}
