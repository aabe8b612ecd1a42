//! The rows of `provisioning`, `provisioning_layers` and `dataplane_credentials`.

use chrono::{DateTime, Utc};
use sea_orm::FromQueryResult;

use super::{
    health::LayerHealth,
    state::{Record, Wanted},
};
use crate::{
    cells::{Cell, Placement},
    error::{Error, Kind, Result},
    keys::KeyVersion,
    platform::{
        db::{Tx, violated_constraint},
        ids::{LeaseId, TenantId},
    },
    tenant_keys::Sealed,
};

/// What was asked for while somebody is at work is seen by who counts.
const ENLIST: &str = "
    insert into tenantry.provisioning (tenant_id, wanted, due_at) values ($1, 'PRESENT', $2)
    on conflict (tenant_id) do update set due_at = $2, requests = provisioning.requests + 1";
/// Tenants from before there were environments, and those that were looked at with other layers.
const ENLIST_MISSING: &str = "
    insert into tenantry.provisioning (tenant_id, wanted, due_at)
    select tenant_id, 'PRESENT', $1 from tenantry.tenants t
    where status <> 'ERASED' and not exists (select from tenantry.provisioning p where p.tenant_id = t.tenant_id)
    limit $2 on conflict do nothing";
const ENLIST_CHANGED: &str = "
    update tenantry.provisioning set due_at = $1, requests = requests + 1, layers = $2
    where wanted = 'PRESENT' and layers not in ('', $2)";
const TURN: &str = "
    insert into tenantry.provisioning (tenant_id, wanted, due_at) values ($1, $2, $3)
    on conflict (tenant_id) do update set wanted = $2, due_at = $3, requests = provisioning.requests + 1,
      settled_at = case when provisioning.wanted = $2 then provisioning.settled_at end
    where provisioning.move_hold is null returning tenant_id";
/// Who was served longest ago comes first, and newcomers before all: one tenant's troubles, or an hour of verification, hold
/// up nobody. Tenants of a cell that is down wait until it is back.
const TAKE: &str = "
    with due as (
      select p.tenant_id from tenantry.provisioning p
      where p.due_at <= $1 and (p.lease_until is null or p.lease_until <= $1) and p.move_hold is distinct from 'SWITCHING'
        and not exists (select from tenantry.placements a join tenantry.cells c on c.cell_id = a.cell_id
          where a.tenant_id = p.tenant_id and c.health = 'UNHEALTHY')
        and ($5::text is null or exists (select from tenantry.tenants t where t.tenant_id = p.tenant_id and t.region = $5))
      order by p.served_at nulls first, p.due_at limit $2 for update of p skip locked
    )
    update tenantry.provisioning p set lease_token = gen_random_uuid(), lease_holder = $3, lease_until = $4, served_at = $1
    from due where p.tenant_id = due.tenant_id returning p.tenant_id, p.lease_token, p.wanted, p.requests, p.settled_at,
      (select coalesce(sum(version), 0)::bigint from tenantry.application_planes) as planes";
const TAKE_ONE: &str = "
    update tenantry.provisioning set lease_token = gen_random_uuid(), lease_holder = $3, lease_until = $4, served_at = $2
    where tenant_id = $1 and (lease_until is null or lease_until <= $2) and move_hold is distinct from 'SWITCHING'
    returning tenant_id, lease_token, wanted, requests, settled_at,
      (select coalesce(sum(version), 0)::bigint from tenantry.application_planes) as planes";
const PLANES: &str = "select coalesce(sum(version), 0)::bigint as planes from tenantry.application_planes";
const HOLD: &str = "
    update tenantry.provisioning set lease_until = $3 where tenant_id = $1 and lease_token = $2 returning tenant_id";
const SETTLE: &str = "
    update tenantry.provisioning set settled_at = $3 where tenant_id = $1 and lease_token = $2 and settled_at is null
    returning tenant_id";
const UNSETTLE: &str =
    "update tenantry.provisioning set settled_at = null where tenant_id = $1 and lease_token = $2 returning tenant_id";
const RELEASE: &str = "
    update tenantry.provisioning set lease_token = null, lease_holder = null, lease_until = null,
      layers = $5, due_at = case when requests = $3 then $4 else due_at end
    where tenant_id = $1 and lease_token = $2";
const IS_PROVIDED: &str = "
    select wanted = 'PRESENT' and settled_at is not null as is_provided from tenantry.provisioning where tenant_id = $1";
const RECORDS: &str = "select * from tenantry.provisioning_layers where tenant_id = $1 order by position, layer";
const SAVE: &str = "
    insert into tenantry.provisioning_layers (tenant_id, layer, position, essential, wanted, observed, since, attempts, last_error,
      next_attempt_at, verified_at, facts)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
    on conflict (tenant_id, layer) do update set position = excluded.position, essential = excluded.essential,
      wanted = excluded.wanted, observed = excluded.observed, since = excluded.since, attempts = excluded.attempts,
      last_error = excluded.last_error, next_attempt_at = excluded.next_attempt_at, verified_at = excluded.verified_at,
      facts = excluded.facts";
const LOOK_AGAIN_ON_CELL: &str = "
    update tenantry.provisioning p set due_at = $2, requests = p.requests + 1 from tenantry.placements a
    where a.tenant_id = p.tenant_id and a.cell_id = $1 and p.due_at is not null";
const FORGET_PAUSES_ON_CELL: &str = "
    update tenantry.provisioning_layers l set next_attempt_at = null from tenantry.placements a
    where a.tenant_id = l.tenant_id and a.cell_id = $1 and l.next_attempt_at is not null";
/// Whoever waits for a place; locked in one order, as several cells may come at once.
const LOOK_AGAIN_FOR_PLACES: &str = "
    with waiting as (
      select p.tenant_id from tenantry.provisioning p where p.wanted = 'PRESENT' and p.due_at is not null
        and not exists (select from tenantry.placements a where a.tenant_id = p.tenant_id)
      order by p.tenant_id for update of p
    )
    update tenantry.provisioning p set due_at = $1, requests = p.requests + 1 from waiting w where w.tenant_id = p.tenant_id
    returning p.tenant_id";
const FORGET_PAUSES_OF: &str = "
    update tenantry.provisioning_layers set next_attempt_at = null where tenant_id = any($1) and next_attempt_at is not null";
/// Their databases and users are the same.
const READDRESS_ON_CELL: &str = "
    update tenantry.dataplane_credentials d set details = d.details || $2 from tenantry.placements a
    where a.tenant_id = d.tenant_id and a.cell_id = $1 and d.layer = 'role'";

const FORGET_WHAT_WAS_SEEN: &str = "
    update tenantry.provisioning_layers set next_attempt_at = null, verified_at = null
    where layer = $1 and wanted = 'PRESENT' and observed <> 'UNAVAILABLE'";
const LOOK_AGAIN_WITH_LAYER: &str = "
    update tenantry.provisioning p set due_at = $2, requests = p.requests + 1 from tenantry.provisioning_layers l
    where l.tenant_id = p.tenant_id and l.layer = $1 and p.due_at is not null";
const LAYER_HEALTH: &str = "select layer, health, reason, since, mark from tenantry.layer_health order by layer";
/// Nothing where another replica has said the same.
const SET_LAYER_HEALTH: &str = "
    insert into tenantry.layer_health (layer, health, reason, since, mark) values ($1, $2, $3, $4, $5)
    on conflict (layer) do update set health = $2, reason = $3, mark = $5,
      since = case when layer_health.health = $2 then layer_health.since else $4 end
    where (layer_health.health, layer_health.reason, layer_health.mark) is distinct from ($2, $3, $5) returning layer";

/// The newest of each layer comes last.
const CREDENTIALS: &str = "
    select layer, slot, key_version, sealed, details, issued_at, valid_until, retired_at from tenantry.dataplane_credentials
    where tenant_id = $1 order by layer, issued_at";
const CREDENTIALS_BEHIND: &str = "
    select layer, slot, key_version, sealed, details, issued_at, valid_until, retired_at from tenantry.dataplane_credentials
    where tenant_id = $1 and (key_version is null or key_version < $2) order by layer, slot limit $3";
const RESEAL_CREDENTIAL: &str = "
    update tenantry.dataplane_credentials set key_version = $4, sealed = $5
    where tenant_id = $1 and layer = $2 and slot = $3 and sealed = $6";
const KEEP_CREDENTIAL: &str = "
    insert into tenantry.dataplane_credentials (tenant_id, layer, slot, sealed, details, issued_at, valid_until, key_version)
    values ($1, $2, $3, $4, $5, $6, $7, $8)
    on conflict (tenant_id, layer, slot) do update set sealed = excluded.sealed, key_version = excluded.key_version, details = excluded.details,
      issued_at = excluded.issued_at, valid_until = excluded.valid_until, retired_at = null";
/// Tenants one of whose layers has none that is less than half used up at $1; not those whose cell or layer is down.
const CREDENTIALS_DUE: &str = "
    select tenant_id from (
      select tenant_id, layer, max(valid_until) as valid_until, max(issued_at + (valid_until - issued_at) / 2) as half
      from tenantry.dataplane_credentials group by tenant_id, layer
    ) newest where half <= $1
      and not exists (select from tenantry.layer_health h where h.layer = newest.layer and h.health = 'UNHEALTHY')
      and not exists (select from tenantry.placements a join tenantry.cells c on c.cell_id = a.cell_id
        where a.tenant_id = newest.tenant_id and c.health = 'UNHEALTHY')
    group by tenant_id order by min(valid_until) limit $2";
const CREDENTIALS_ENDED: &str = "
    select tenant_id from tenantry.dataplane_credentials d where retired_at is null and valid_until <= $1
      and not exists (select from tenantry.layer_health h where h.layer = d.layer and h.health = 'UNHEALTHY')
    group by tenant_id order by min(valid_until) limit $2";
const NOTE_RETIRED: &str = "
    update tenantry.dataplane_credentials set retired_at = $4 where tenant_id = $1 and layer = $2 and slot = $3";
/// Where PostgreSQL is by now; users and secrets are the same.
const READDRESS: &str = "
    update tenantry.dataplane_credentials set details = details || $2 where tenant_id = $1 and layer = 'role'";
const LOOK_ANEW: &str = "
    update tenantry.provisioning_layers set verified_at = null, next_attempt_at = null,
      observed = case when observed = 'UNAVAILABLE' then 'UNKNOWN' else observed end
    where tenant_id = $1";
/// A layer that the tier has anew was made at the target before the tenant came there: nobody has to wait for another look.
const ADD_RECORD: &str = "
    insert into tenantry.provisioning_layers (tenant_id, layer, position, essential, wanted, observed, since)
    values ($1, $2, 0, $3, 'PRESENT', 'PRESENT', $4) on conflict do nothing";
const DROP_RECORDS: &str = "delete from tenantry.provisioning_layers where tenant_id = $1 and layer = any($2)";
const LOOK_NOW: &str = "
    update tenantry.provisioning set due_at = $2, requests = requests + 1 where tenant_id = $1";
const FORGET_CREDENTIALS: &str = "delete from tenantry.dataplane_credentials where tenant_id = $1";

/// A credential as it is kept.
#[derive(Clone, Debug, FromQueryResult)]
pub(super) struct Kept {
    pub(super) layer: String,
    pub(super) slot: i16,
    /// Of the tenant's data key; none where the platform's has sealed it.
    pub(super) key_version: Option<KeyVersion>,
    pub(super) sealed: Vec<u8>,
    pub(super) details: serde_json::Value,
    pub(super) issued_at: DateTime<Utc>,
    pub(super) valid_until: DateTime<Utc>,
    /// When its slot was shut after its end.
    pub(super) retired_at: Option<DateTime<Utc>>,
}

impl Kept {
    /// Whether it is time for the next one.
    pub(super) fn is_half_used(&self, now: DateTime<Utc>) -> bool {
        now >= self.issued_at + (self.valid_until - self.issued_at) / 2
    }
}

/// A tenant that this replica works on, alone, for a while.
#[derive(Clone, Debug, FromQueryResult)]
pub(super) struct Lease {
    pub(super) tenant_id: TenantId,
    pub(super) lease_token: LeaseId,
    pub(super) wanted: Wanted,
    pub(super) requests: i64,
    pub(super) settled_at: Option<DateTime<Utc>>,
    /// The sum of the versions of application planes, before any of them was read.
    pub(super) planes: i64,
}

/// Who takes leases, and until when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder<'a> {
    pub(super) name: &'a str,
    pub(super) now: DateTime<Utc>,
    pub(super) until: DateTime<Utc>,
}

/// The tenant is to be looked at: in the transaction that made or changed it.
pub(super) async fn enlist(tx: &Tx, tenant: TenantId, now: DateTime<Utc>) -> Result<()> {
    tx.execute(ENLIST, [tenant.into(), now.into()]).await?;
    Ok(())
}

/// Enlists up to `limit` of those that nobody enlisted, and those of other `layers`; answers how many.
pub(super) async fn enlist_missing(tx: &Tx, layers: &str, limit: i64, now: DateTime<Utc>) -> Result<u64> {
    let missing = tx.execute(ENLIST_MISSING, [now.into(), limit.into()]).await?;
    Ok(missing + tx.execute(ENLIST_CHANGED, [now.into(), layers.into()]).await?)
}

/// Nothing where the tenant is being moved.
pub(super) async fn turn(tx: &Tx, tenant: TenantId, wanted: Wanted, now: DateTime<Utc>) -> Result<bool> {
    Ok(tx.row(TURN, [tenant.into(), wanted.into(), now.into()]).await?.is_some())
}

/// The sum of the versions of application planes: another one than a tenant was looked at with is a reason to look again.
pub(super) async fn planes(tx: &Tx) -> Result<i64> {
    let row = tx.row(PLANES, []).await?;
    Ok(row.map(|row| row.try_get("", "planes")).transpose()?.unwrap_or_default())
}

pub(super) async fn take(tx: &Tx, holder: Holder<'_>, limit: usize, region: Option<&str>) -> Result<Vec<Lease>> {
    let values = [holder.now.into(), (limit as i64).into(), holder.name.into(), holder.until.into(), region.into()];
    let rows = tx.rows(TAKE, values).await?;
    Ok(rows.iter().map(|row| Lease::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

/// `None` while somebody else works on it.
pub(super) async fn take_one(tx: &Tx, holder: Holder<'_>, tenant: TenantId) -> Result<Option<Lease>> {
    let row = tx.row(TAKE_ONE, [tenant.into(), holder.now.into(), holder.name.into(), holder.until.into()]).await?;
    Ok(row.map(|row| Lease::from_query_result(&row, "")).transpose()?)
}

/// Whether the lease still stands; it is then good until `until`, and nobody takes it before this transaction ends.
pub(super) async fn hold(tx: &Tx, lease: &Lease, until: DateTime<Utc>) -> Result<bool> {
    Ok(tx.row(HOLD, [lease.tenant_id.into(), lease.lease_token.into(), until.into()]).await?.is_some())
}

/// Whether that was news.
pub(super) async fn settle(tx: &Tx, lease: &Lease, now: DateTime<Utc>) -> Result<bool> {
    Ok(tx.row(SETTLE, [lease.tenant_id.into(), lease.lease_token.into(), now.into()]).await?.is_some())
}

pub(super) async fn unsettle(tx: &Tx, lease: &Lease) -> Result<()> {
    tx.row(UNSETTLE, [lease.tenant_id.into(), lease.lease_token.into()]).await?;
    Ok(())
}

/// Gives the tenant back, to be looked at at `due`, or at once where somebody has asked in between.
pub(super) async fn release(tx: &Tx, lease: &Lease, due: Option<DateTime<Utc>>, layers: &str) -> Result<()> {
    let values = [lease.tenant_id.into(), lease.lease_token.into(), lease.requests.into(), due.into(), layers.into()];
    tx.execute(RELEASE, values).await?;
    Ok(())
}

/// Whether every essential layer was made and none was missed since.
pub(super) async fn is_provided(tx: &Tx, tenant: TenantId) -> Result<bool> {
    let row = tx.row(IS_PROVIDED, [tenant.into()]).await?;
    Ok(row.map(|row| row.try_get("", "is_provided")).transpose()?.unwrap_or_default())
}

pub(super) async fn records(tx: &Tx, tenant: TenantId) -> Result<Vec<Record>> {
    let rows = tx.rows(RECORDS, [tenant.into()]).await?;
    Ok(rows.iter().map(|row| Record::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

pub(super) async fn save(tx: &Tx, tenant: TenantId, record: &Record) -> Result<()> {
    let values = [
        tenant.into(),
        record.layer.as_str().into(),
        record.position.into(),
        record.essential.into(),
        record.wanted.into(),
        record.observed.into(),
        record.since.into(),
        record.attempts.into(),
        record.last_error.as_str().into(),
        record.next_attempt_at.into(),
        record.verified_at.into(),
        record.facts.clone().into(),
    ];
    tx.execute(SAVE, values).await?;
    Ok(())
}

/// What failed on this cell need not wait any longer.
pub(super) async fn look_again_on(tx: &Tx, cell: crate::platform::ids::CellId, now: DateTime<Utc>) -> Result<()> {
    tx.execute(FORGET_PAUSES_ON_CELL, [cell.into()]).await?;
    tx.execute(LOOK_AGAIN_ON_CELL, [cell.into(), now.into()]).await?;
    Ok(())
}

/// What waits for a place on a cell need not wait any longer; whether anybody does.
pub(super) async fn look_again_for_places(tx: &Tx, now: DateTime<Utc>) -> Result<bool> {
    let rows = tx.rows(LOOK_AGAIN_FOR_PLACES, [now.into()]).await?;
    let waiting: Vec<uuid::Uuid> = rows.iter().map(|row| row.try_get("", "tenant_id")).collect::<Result<_, _>>()?;
    if waiting.is_empty() {
        return Ok(false);
    }
    tx.execute(FORGET_PAUSES_OF, [waiting.into()]).await?;
    Ok(true)
}

/// Credentials of the tenants of a cell name where it is by now.
pub(super) async fn readdress_on(tx: &Tx, cell: &Cell) -> Result<()> {
    let address = &cell.address.0;
    let details = serde_json::json!({ "host": address.host, "port": address.port.to_string() });
    tx.execute(READDRESS_ON_CELL, [cell.id.into(), details.into()]).await?;
    Ok(())
}

/// Whoever has this layer is to be looked at anew: what failed need not wait, and what was there may be gone.
pub(super) async fn look_again_with(tx: &Tx, layer: &str, now: DateTime<Utc>) -> Result<()> {
    tx.execute(FORGET_WHAT_WAS_SEEN, [layer.into()]).await?;
    tx.execute(LOOK_AGAIN_WITH_LAYER, [layer.into(), now.into()]).await?;
    Ok(())
}

/// What was last said of the servers of layers.
pub(super) async fn layer_health(tx: &Tx) -> Result<Vec<LayerHealth>> {
    let rows = tx.rows(LAYER_HEALTH, []).await?;
    Ok(rows.iter().map(|row| LayerHealth::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

/// Whether that was news.
pub(super) async fn set_layer_health(tx: &Tx, is: &LayerHealth) -> Result<bool> {
    let values = [
        is.layer.as_str().into(),
        is.health.into(),
        is.reason.as_str().into(),
        is.since.into(),
        is.mark.as_str().into(),
    ];
    Ok(tx.row(SET_LAYER_HEALTH, values).await?.is_some())
}

pub(super) async fn credentials(tx: &Tx, tenant: TenantId) -> Result<Vec<Kept>> {
    let rows = tx.rows(CREDENTIALS, [tenant.into()]).await?;
    Ok(rows.iter().map(|row| Kept::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

pub(super) async fn keep_credential(tx: &Tx, tenant: TenantId, kept: &Kept) -> Result<()> {
    let values = [
        tenant.into(),
        kept.layer.as_str().into(),
        kept.slot.into(),
        kept.sealed.clone().into(),
        kept.details.clone().into(),
        kept.issued_at.into(),
        kept.valid_until.into(),
        kept.key_version.into(),
    ];
    match tx.execute(KEEP_CREDENTIAL, values).await {
        Err(error) if violated_constraint(&error) == Some("dataplane_credentials_key_fkey") => {
            let message = "a data key was destroyed before what it sealed was stored; it is tried again";
            Err(Error::new(Kind::Unavailable, message).because(error))
        }
        done => Ok(done.map(drop)?),
    }
}

/// Sealed with an earlier version, or by the platform.
pub(super) async fn credentials_behind(
    tx: &Tx,
    tenant: TenantId,
    version: KeyVersion,
    limit: i64,
) -> Result<Vec<Kept>> {
    let rows = tx.rows(CREDENTIALS_BEHIND, [tenant.into(), version.into(), limit.into()]).await?;
    Ok(rows.iter().map(|row| Kept::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

/// Nothing where the credential is another by now.
pub(super) async fn reseal_credential(tx: &Tx, tenant: TenantId, before: &Kept, sealed: &Sealed) -> Result<()> {
    let values = [
        tenant.into(),
        before.layer.as_str().into(),
        before.slot.into(),
        sealed.version.into(),
        sealed.bytes.clone().into(),
        before.sealed.clone().into(),
    ];
    tx.execute(RESEAL_CREDENTIAL, values).await?;
    Ok(())
}

/// Tenants with credentials that have ended and whose slots are not shut yet.
pub(super) async fn credentials_ended(tx: &Tx, now: DateTime<Utc>, limit: i64) -> Result<Vec<TenantId>> {
    let rows = tx.rows(CREDENTIALS_ENDED, [now.into(), limit.into()]).await?;
    Ok(rows.iter().map(|row| row.try_get("", "tenant_id")).collect::<Result<_, _>>()?)
}

pub(super) async fn note_retired(tx: &Tx, tenant: TenantId, kept: &Kept, now: DateTime<Utc>) -> Result<()> {
    tx.execute(NOTE_RETIRED, [tenant.into(), kept.layer.as_str().into(), kept.slot.into(), now.into()]).await?;
    Ok(())
}

pub(super) async fn credentials_due(tx: &Tx, now: DateTime<Utc>, limit: i64) -> Result<Vec<TenantId>> {
    let rows = tx.rows(CREDENTIALS_DUE, [now.into(), limit.into()]).await?;
    Ok(rows.iter().map(|row| row.try_get("", "tenant_id")).collect::<Result<_, _>>()?)
}

pub(super) async fn forget_credentials(tx: &Tx, tenant: TenantId) -> Result<()> {
    tx.execute(FORGET_CREDENTIALS, [tenant.into()]).await?;
    Ok(())
}

/// Credentials of the tenant's PostgreSQL name the cell where it is.
pub(super) async fn readdress(tx: &Tx, placement: &Placement, cell: &Cell) -> Result<()> {
    let address = &cell.address.0;
    let details = serde_json::json!({
        "host": address.host, "port": address.port.to_string(), "database": placement.database_name,
    });
    tx.execute(READDRESS, [placement.tenant_id.into(), details.into()]).await?;
    Ok(())
}

/// What was seen of the tenant's layers was seen elsewhere; what was known of those that it no longer has is dropped.
pub(super) async fn look_anew(tx: &Tx, tenant: TenantId, lost: &[String], now: DateTime<Utc>) -> Result<()> {
    tx.execute(DROP_RECORDS, [tenant.into(), lost.to_vec().into()]).await?;
    tx.execute(LOOK_ANEW, [tenant.into()]).await?;
    tx.execute(LOOK_NOW, [tenant.into(), now.into()]).await?;
    Ok(())
}

/// The layer is there already, made by a move.
pub(super) async fn add_record(
    tx: &Tx,
    tenant: TenantId,
    (layer, essential): (&str, bool),
    now: DateTime<Utc>,
) -> Result<()> {
    tx.execute(ADD_RECORD, [tenant.into(), layer.into(), essential.into(), now.into()]).await?;
    Ok(())
}
