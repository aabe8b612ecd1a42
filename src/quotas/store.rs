//! The rows of usage and reservations, many at a time. Rows are locked in one order everywhere (reservations, then counters,
//! each by key), so that batches wait for each other and never in a circle.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sea_orm::{FromQueryResult, QueryResult, Value};
use uuid::Uuid;

use super::ledger::{Counter, CounterKey, Hold, Ledger, Reservation, State};
use crate::{
    error::{Context as _, Error, Result},
    platform::{
        db::Tx,
        ids::{ReservationId, TenantId},
    },
};

/// The key of one reservation.
pub(super) type Id = (TenantId, ReservationId);

/// What was answered to an idempotency key.
#[derive(Debug, FromQueryResult)]
pub(super) struct Kept {
    tenant_id: TenantId,
    subject: String,
    idempotency_key: String,
    pub(super) request_hash: Vec<u8>,
    pub(super) answer: Option<serde_json::Value>,
}

/// Whose key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Once {
    pub(super) tenant: TenantId,
    pub(super) subject: String,
    pub(super) key: String,
}

const RESERVATION: &str = "tenant_id, reservation_id, subject, state, holds, created_at, expires_at, outcome";

pub(super) async fn find_answers(tx: &Tx, keys: &BTreeSet<Once>) -> Result<BTreeMap<Once, Kept>> {
    if keys.is_empty() {
        return Ok(BTreeMap::new());
    }
    let find = "select tenant_id, subject, idempotency_key, request_hash, answer from tenantry.quota_reservations
        where idempotency_key is not null and (tenant_id, subject, idempotency_key) in (select * from unnest($1::uuid[], $2::text[], $3::text[]))";
    let tenants: Vec<_> = keys.iter().map(|once| once.tenant.uuid()).collect();
    let subjects: Vec<_> = keys.iter().map(|once| once.subject.clone()).collect();
    let names: Vec<_> = keys.iter().map(|once| once.key.clone()).collect();
    let rows = tx.rows(find, [tenants.into(), subjects.into(), names.into()]).await?;
    let kept = rows.iter().map(|row| {
        let kept = Kept::from_query_result(row, "")?;
        let (subject, key) = (kept.subject.clone(), kept.idempotency_key.clone());
        Ok((Once { tenant: kept.tenant_id, subject, key }, kept))
    });
    kept.collect()
}

/// The reservations that are there, held until the transaction ends.
pub(super) async fn lock_reservations(tx: &Tx, ids: &BTreeSet<Id>) -> Result<BTreeMap<Id, Reservation>> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let lock = format!(
        "select {RESERVATION} from tenantry.quota_reservations
         where (tenant_id, reservation_id) in (select * from unnest($1::uuid[], $2::uuid[]))
         order by tenant_id, reservation_id for update"
    );
    let (tenants, reservations) = split(ids);
    reservations_of(tx.rows(&lock, [tenants.into(), reservations.into()]).await?)
}

/// Reservations whose time is over, held until the transaction ends; those that somebody else holds are left to them.
pub(super) async fn lock_due(
    tx: &Tx,
    tenants: Option<&BTreeSet<TenantId>>,
    now: DateTime<Utc>,
    most: u64,
) -> Result<BTreeMap<Id, Reservation>> {
    let of_tenants = if tenants.is_some() { "and tenant_id = any($2::uuid[])" } else { "and $2::uuid[] is not null" };
    let lock = format!(
        "select {RESERVATION} from tenantry.quota_reservations
         where state = 'HELD' and expires_at <= $1 {of_tenants} order by expires_at limit {most} for update skip locked"
    );
    let tenants: Vec<Uuid> = tenants.into_iter().flatten().map(|tenant| tenant.uuid()).collect();
    reservations_of(tx.rows(&lock, [now.into(), tenants.into()]).await?)
}

/// How far the journals are on which the limits of the locked counters depend.
#[derive(Clone, Debug, Default)]
pub(super) struct Journals {
    pub(super) tenants: BTreeMap<TenantId, i64>,
    pub(super) platform: i64,
}

/// The counters, held until the transaction ends; those that are not there yet are made.
pub(super) async fn lock_counters(
    tx: &Tx,
    keys: &BTreeSet<CounterKey>,
) -> Result<(BTreeMap<CounterKey, Counter>, Journals)> {
    let (counters, journals) = lock_present(tx, keys).await?;
    if counters.len() == keys.len() {
        return Ok((counters, journals));
    }
    let make = "insert into tenantry.quota_usage (tenant_id, quota_key, quota_window)
        select * from unnest($1::uuid[], $2::text[], $3::text[]) order by 1, 2, 3 on conflict do nothing";
    tx.execute(make, columns(keys)).await?;
    lock_present(tx, keys).await
}

async fn lock_present(tx: &Tx, keys: &BTreeSet<CounterKey>) -> Result<(BTreeMap<CounterKey, Counter>, Journals)> {
    let lock = "
        select u.tenant_id, u.quota_key, u.quota_window, u.used, u.reserved, h.sequence,
               (select sequence from tenantry.journal_heads where tenant_id = '00000000-0000-0000-0000-000000000000') as platform
        from unnest($1::uuid[], $2::text[], $3::text[]) as wanted (tenant, key, name)
        join tenantry.quota_usage u on u.tenant_id = wanted.tenant and u.quota_key = wanted.key and u.quota_window = wanted.name
        left join tenantry.journal_heads h on h.tenant_id = u.tenant_id
        order by u.tenant_id, u.quota_key, u.quota_window for update of u";
    let (mut counters, mut journals) = (BTreeMap::new(), Journals::default());
    for row in tx.rows(lock, columns(keys)).await? {
        let tenant: TenantId = row.try_get("", "tenant_id")?;
        let key = CounterKey { tenant, key: row.try_get("", "quota_key")?, window: row.try_get("", "quota_window")? };
        counters.insert(key, Counter { used: row.try_get("", "used")?, reserved: row.try_get("", "reserved")? });
        journals.tenants.insert(tenant, row.try_get::<Option<i64>>("", "sequence")?.unwrap_or_default());
        journals.platform = row.try_get::<Option<i64>>("", "platform")?.unwrap_or_default();
    }
    Ok((counters, journals))
}

/// The answer that a made reservation keeps for its idempotency key.
#[derive(Clone, Debug)]
pub(super) struct Keep {
    pub(super) once: Once,
    pub(super) request_hash: [u8; 32],
    pub(super) answer: serde_json::Value,
}

const WRITE: &str = "
    with counters as (
      update tenantry.quota_usage u set used = w.used, reserved = w.reserved
      from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::bigint[]) as w (tenant, key, name, used, reserved)
      where u.tenant_id = w.tenant and u.quota_key = w.key and u.quota_window = w.name returning 1
    ), made as (
      insert into tenantry.quota_reservations
        (tenant_id, reservation_id, subject, state, holds, created_at, expires_at, idempotency_key, request_hash, answer)
      select tenant, id, subject, 'HELD', holds::jsonb, $6, expires, nullif(key, ''),
             decode(nullif(hash, ''), 'hex'), nullif(answer, '')::jsonb
      from unnest($7::uuid[], $8::uuid[], $9::text[], $10::text[], $11::timestamptz[], $12::text[], $13::text[], $14::text[])
        as w (tenant, id, subject, holds, expires, key, hash, answer)
      returning 1
    ), ended as (
      update tenantry.quota_reservations r set state = w.state, ended_at = $6, outcome = nullif(w.outcome, '')::jsonb
      from unnest($15::uuid[], $16::uuid[], $17::text[], $18::text[]) as w (tenant, id, state, outcome)
      where r.tenant_id = w.tenant and r.reservation_id = w.id and r.state = 'HELD' returning 1
    )
    select (select count(*) from counters) + (select count(*) from made) + (select count(*) from ended) as written";

/// Writes what the ledger has changed, in one statement.
pub(super) async fn write(tx: &Tx, ledger: &Ledger, keep: &BTreeMap<Id, Keep>, now: DateTime<Utc>) -> Result<()> {
    let expected = ledger.changed_counters.len() + ledger.made.len() + ledger.ended.len();
    if expected == 0 {
        return Ok(());
    }
    let counters: Vec<Counter> =
        ledger.changed_counters.iter().map(|key| ledger.counters.get(key).copied().unwrap_or_default()).collect();
    let mut values: Vec<Value> = columns(&ledger.changed_counters).into();
    values.push(counters.iter().map(|counter| counter.used).collect::<Vec<_>>().into());
    values.push(counters.iter().map(|counter| counter.reserved).collect::<Vec<_>>().into());
    values.push(now.into());
    values.extend(made(ledger, keep)?);
    values.extend(ended(ledger)?);
    let row = tx.row(WRITE, values).await?.context("write a batch of quotas")?;
    let written: i64 = row.try_get("", "written")?;
    if usize::try_from(written) == Ok(expected) {
        Ok(())
    } else {
        Err(Error::internal(format!("{written} rows of quotas were written in place of {expected}")))
    }
}

fn made(ledger: &Ledger, keep: &BTreeMap<Id, Keep>) -> Result<[Value; 8]> {
    let rows: Vec<&Reservation> = ledger.made.iter().filter_map(|id| ledger.reservations.get(id)).collect();
    let kept: Vec<Option<&Keep>> = ledger.made.iter().map(|id| keep.get(id)).collect();
    let text = |of: &dyn Fn(&Keep) -> String| -> Value {
        kept.iter().map(|keep| keep.map(of).unwrap_or_default()).collect::<Vec<_>>().into()
    };
    let holds: Result<Vec<String>> = rows.iter().map(|row| json(&row.holds)).collect();
    Ok([
        rows.iter().map(|row| row.tenant.uuid()).collect::<Vec<_>>().into(),
        rows.iter().map(|row| row.id.uuid()).collect::<Vec<_>>().into(),
        rows.iter().map(|row| row.subject.clone()).collect::<Vec<_>>().into(),
        holds?.into(),
        rows.iter().map(|row| row.expires_at).collect::<Vec<_>>().into(),
        text(&|keep| keep.once.key.clone()),
        text(&|keep| hex(&keep.request_hash)),
        text(&|keep| keep.answer.to_string()),
    ])
}

fn ended(ledger: &Ledger) -> Result<[Value; 4]> {
    let rows: Vec<&Reservation> = ledger.ended.iter().filter_map(|id| ledger.reservations.get(id)).collect();
    let outcomes: Result<Vec<String>> =
        rows.iter().map(|row| row.committed.as_ref().map_or(Ok(String::new()), json)).collect();
    let (tenants, ids) = split(&ledger.ended);
    let states: Vec<String> = rows.iter().map(|row| row.state.name().to_owned()).collect();
    Ok([tenants.into(), ids.into(), states.into(), outcomes?.into()])
}

/// Forgets ended reservations, and with them the answers of their idempotency keys.
pub(super) async fn purge(tx: &Tx, before: DateTime<Utc>, most: u64) -> Result<u64> {
    let purge = format!(
        "delete from tenantry.quota_reservations where (tenant_id, reservation_id) in (
           select tenant_id, reservation_id from tenantry.quota_reservations
           where state <> 'HELD' and ended_at < $1 order by ended_at limit {most} for update skip locked)"
    );
    Ok(tx.execute(&purge, [before.into()]).await?)
}

/// What a tenant has used and holds, in the given windows.
pub(super) async fn read_counters(tx: &Tx, keys: &BTreeSet<CounterKey>) -> Result<BTreeMap<CounterKey, Counter>> {
    counters_of(tx.rows(READ, columns(keys)).await?)
}

/// The same, and nobody changes them until the transaction ends.
pub(super) async fn share_counters(tx: &Tx, keys: &BTreeSet<CounterKey>) -> Result<BTreeMap<CounterKey, Counter>> {
    let share = format!("{READ} order by u.tenant_id, u.quota_key, u.quota_window for share of u");
    counters_of(tx.rows(&share, columns(keys)).await?)
}

const READ: &str = "
    select u.tenant_id, u.quota_key, u.quota_window, u.used, u.reserved
    from unnest($1::uuid[], $2::text[], $3::text[]) as wanted (tenant, key, name)
    join tenantry.quota_usage u on u.tenant_id = wanted.tenant and u.quota_key = wanted.key and u.quota_window = wanted.name";

fn counters_of(rows: Vec<QueryResult>) -> Result<BTreeMap<CounterKey, Counter>> {
    let counters = rows.into_iter().map(|row| {
        let key = CounterKey {
            tenant: row.try_get("", "tenant_id")?,
            key: row.try_get("", "quota_key")?,
            window: row.try_get("", "quota_window")?,
        };
        Ok((key, Counter { used: row.try_get("", "used")?, reserved: row.try_get("", "reserved")? }))
    });
    counters.collect()
}

fn reservations_of(rows: Vec<QueryResult>) -> Result<BTreeMap<Id, Reservation>> {
    let read = |row: QueryResult| -> Result<Reservation> {
        let text: String = row.try_get("", "state")?;
        let state = [State::Held, State::Committed, State::Released, State::Expired].into_iter();
        let holds: serde_json::Value = row.try_get("", "holds")?;
        let outcome: Option<serde_json::Value> = row.try_get("", "outcome")?;
        Ok(Reservation {
            tenant: row.try_get("", "tenant_id")?,
            id: row.try_get("", "reservation_id")?,
            subject: row.try_get("", "subject")?,
            state: state.into_iter().find(|state| state.name() == text).context("read a reservation's state")?,
            holds: serde_json::from_value::<Vec<Hold>>(holds).context("read what a reservation holds")?,
            created_at: row.try_get("", "created_at")?,
            expires_at: row.try_get("", "expires_at")?,
            committed: outcome.map(serde_json::from_value).transpose().context("read what was committed")?,
        })
    };
    rows.into_iter().map(|row| read(row).map(|found| ((found.tenant, found.id), found))).collect()
}

fn split(ids: &BTreeSet<Id>) -> (Vec<Uuid>, Vec<Uuid>) {
    ids.iter().map(|(tenant, reservation)| (tenant.uuid(), reservation.uuid())).unzip()
}

fn columns(keys: &BTreeSet<CounterKey>) -> [Value; 3] {
    [
        keys.iter().map(|key| key.tenant.uuid()).collect::<Vec<_>>().into(),
        keys.iter().map(|key| key.key.clone()).collect::<Vec<_>>().into(),
        keys.iter().map(|key| key.window.clone()).collect::<Vec<_>>().into(),
    ]
}

fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).context("write a reservation")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
