//! The rows of usage and reservations, many at a time. Rows are locked in one order everywhere (reservations, then counters,
//! each by key), so that batches wait for each other and never in a circle.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use sea_orm::{FromQueryResult, QueryResult, Value};
use uuid::Uuid;

use super::{
    counted::{Counters, told},
    ledger::{Counter, CounterKey, Hold, Lease, Ledger, Reservation, State},
};
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

const RESERVATION: &str =
    "tenant_id, reservation_id, subject, state, holds, created_at, expires_at, outcome, lease_until, lease_closed";

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

/// Those of the reservations that are there. Rows of tickets change only while their lease is held: they need no lock.
pub(super) async fn find_reservations(tx: &Tx, ids: &BTreeSet<Id>) -> Result<BTreeMap<Id, Reservation>> {
    let find = format!(
        "select {RESERVATION} from tenantry.quota_reservations
         where (tenant_id, reservation_id) in (select * from unnest($1::uuid[], $2::uuid[]))"
    );
    let (tenants, reservations) = split(ids);
    reservations_of(tx.rows(&find, [tenants.into(), reservations.into()]).await?)
}

/// Reservations of these tenants whose time is over, held until the transaction ends; those that somebody else holds are left to
/// them.
pub(super) async fn lock_due_of(
    tx: &Tx,
    tenants: &BTreeSet<TenantId>,
    now: DateTime<Utc>,
    most: u64,
) -> Result<BTreeMap<Id, Reservation>> {
    let lock = format!(
        "select {RESERVATION} from tenantry.quota_reservations
         where state = 'HELD' and expires_at <= $1 and tenant_id = any($2::uuid[])
         order by expires_at limit {most} for update skip locked"
    );
    reservations_of(tx.rows(&lock, [now.into(), uuids(tenants).into()]).await?)
}

/// The same of all tenants, one after the other in turns: who has many waits behind itself. Looks at the oldest `seen`.
pub(super) async fn lock_due(tx: &Tx, now: DateTime<Utc>, most: u64, seen: u64) -> Result<BTreeMap<Id, Reservation>> {
    let columns = RESERVATION.replace(", ", ", r.");
    let lock = format!(
        "select r.{columns}
         from (select tenant_id, reservation_id, row_number() over (partition by tenant_id order by expires_at) as turn
               from (select tenant_id, reservation_id, expires_at from tenantry.quota_reservations
                     where state = 'HELD' and expires_at <= $1 order by expires_at limit {seen}) oldest) due
         join tenantry.quota_reservations r using (tenant_id, reservation_id)
         where r.ended_at is null order by due.turn limit {most} for update of r skip locked"
    );
    reservations_of(tx.rows(&lock, [now.into()]).await?)
}

/// Leases of these tenants that are drawn from.
pub(super) async fn find_leases(
    tx: &Tx,
    tenants: &BTreeSet<TenantId>,
    now: DateTime<Utc>,
) -> Result<BTreeMap<Id, Reservation>> {
    let find = format!(
        "select {RESERVATION} from tenantry.quota_reservations
         where state = 'HELD' and lease_until > $1 and not lease_closed and tenant_id = any($2::uuid[])"
    );
    reservations_of(tx.rows(&find, [now.into(), uuids(tenants).into()]).await?)
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

/// Held is said by `ended_at`, on which no index stands: statistics that are a moment old know of few that are held, and by the index of
/// those PostgreSQL would read all of them for each one.
const WRITE: &str = "
    with counters as (
      update tenantry.quota_usage u set used = w.used, reserved = w.reserved
      from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::bigint[]) as w (tenant, key, name, used, reserved)
      where u.tenant_id = w.tenant and u.quota_key = w.key and u.quota_window = w.name returning 1
    ), made as (
      insert into tenantry.quota_reservations
        (tenant_id, reservation_id, subject, state, holds, created_at, expires_at, idempotency_key, request_hash, answer,
         outcome, ended_at, lease_until)
      select tenant, id, subject, state, holds::jsonb, created, expires, nullif(key, ''),
             decode(nullif(hash, ''), 'hex'), nullif(answer, '')::jsonb,
             nullif(outcome, '')::jsonb, case when state <> 'HELD' then $6 end, nullif(until, '')::timestamptz
      from unnest($7::uuid[], $8::uuid[], $9::text[], $10::text[], $11::text[], $12::timestamptz[], $13::timestamptz[],
                  $14::text[], $15::text[], $16::text[], $17::text[], $18::text[])
        as w (tenant, id, subject, state, holds, created, expires, key, hash, answer, outcome, until)
      returning 1
    ), changed as (
      update tenantry.quota_reservations r
      set state = w.state, ended_at = case when w.state <> 'HELD' then $6 end, outcome = nullif(w.outcome, '')::jsonb,
          holds = coalesce(nullif(w.holds, '')::jsonb, r.holds), lease_closed = w.closed
      from unnest($19::uuid[], $20::uuid[], $21::text[], $22::text[], $23::text[], $24::boolean[])
        as w (tenant, id, state, outcome, holds, closed)
      where r.tenant_id = w.tenant and r.reservation_id = w.id and r.ended_at is null returning 1
    )
    select (select count(*) from counters) + (select count(*) from made) + (select count(*) from changed) as written,
           (select count(pg_notify('tenantry', payload)) from unnest($25::text[]) as payload) as told";

/// Writes what the ledger has changed, in one statement.
pub(super) async fn write(tx: &Tx, ledger: &Ledger, keep: &BTreeMap<Id, Keep>, now: DateTime<Utc>) -> Result<()> {
    let made: BTreeSet<Id> = ledger.made.iter().copied().collect();
    let changed: BTreeSet<Id> =
        ledger.ended.union(&ledger.changed_leases).filter(|id| !made.contains(id)).copied().collect();
    let expected = ledger.changed_counters.len() + made.len() + changed.len();
    if expected == 0 {
        return Ok(());
    }
    let counters: Vec<Counter> =
        ledger.changed_counters.iter().map(|key| ledger.counters.get(key).copied().unwrap_or_default()).collect();
    let mut values: Vec<Value> = columns(&ledger.changed_counters).into();
    values.push(counters.iter().map(|counter| counter.used).collect::<Vec<_>>().into());
    values.push(counters.iter().map(|counter| counter.reserved).collect::<Vec<_>>().into());
    values.push(now.into());
    values.extend(made_columns(ledger, keep)?);
    values.extend(changed_columns(ledger, &changed)?);
    values.push(told(&ledger.changed_tenants()).into());
    let row = tx.row(WRITE, values).await?.context("write a batch of quotas")?;
    let written: i64 = row.try_get("", "written")?;
    if usize::try_from(written) == Ok(expected) {
        Ok(())
    } else {
        Err(Error::internal(format!("{written} rows of quotas were written in place of {expected}")))
    }
}

fn made_columns(ledger: &Ledger, keep: &BTreeMap<Id, Keep>) -> Result<[Value; 12]> {
    let rows: Vec<&Reservation> = ledger.made.iter().filter_map(|id| ledger.reservations.get(id)).collect();
    let kept: Vec<Option<&Keep>> = ledger.made.iter().map(|id| keep.get(id)).collect();
    let text = |of: &dyn Fn(&Keep) -> String| -> Value {
        kept.iter().map(|keep| keep.map(of).unwrap_or_default()).collect::<Vec<_>>().into()
    };
    let holds: Result<Vec<String>> = rows.iter().map(|row| json(&row.holds)).collect();
    let until = |row: &&Reservation| match row.lease {
        Lease::Open { until } => until.to_rfc3339(),
        Lease::None | Lease::Closed => String::new(),
    };
    Ok([
        rows.iter().map(|row| row.tenant.uuid()).collect::<Vec<_>>().into(),
        rows.iter().map(|row| row.id.uuid()).collect::<Vec<_>>().into(),
        rows.iter().map(|row| row.subject.clone()).collect::<Vec<_>>().into(),
        rows.iter().map(|row| row.state.name().to_owned()).collect::<Vec<_>>().into(),
        holds?.into(),
        rows.iter().map(|row| row.created_at).collect::<Vec<_>>().into(),
        rows.iter().map(|row| row.expires_at).collect::<Vec<_>>().into(),
        text(&|keep| keep.once.key.clone()),
        text(&|keep| hex(&keep.request_hash)),
        text(&|keep| keep.answer.to_string()),
        outcomes(&rows)?.into(),
        rows.iter().map(until).collect::<Vec<_>>().into(),
    ])
}

fn changed_columns(ledger: &Ledger, changed: &BTreeSet<Id>) -> Result<[Value; 6]> {
    let rows: Vec<&Reservation> = changed.iter().filter_map(|id| ledger.reservations.get(id)).collect();
    let holds = |row: &&Reservation| if row.lease == Lease::None { Ok(String::new()) } else { json(&row.holds) };
    let holds: Result<Vec<String>> = rows.iter().map(holds).collect();
    let (tenants, ids) = split(changed);
    Ok([
        tenants.into(),
        ids.into(),
        rows.iter().map(|row| row.state.name().to_owned()).collect::<Vec<_>>().into(),
        outcomes(&rows)?.into(),
        holds?.into(),
        rows.iter().map(|row| row.lease == Lease::Closed).collect::<Vec<_>>().into(),
    ])
}

fn outcomes(rows: &[&Reservation]) -> Result<Vec<String>> {
    rows.iter().map(|row| row.committed.as_ref().map_or(Ok(String::new()), json)).collect()
}

/// Forgets ended reservations, and with them the answers of their idempotency keys; none before its time is over, so that no
/// ticket is taken twice.
pub(super) async fn purge(tx: &Tx, before: DateTime<Utc>, most: u64) -> Result<u64> {
    let purge = format!(
        "delete from tenantry.quota_reservations where (tenant_id, reservation_id) in (
           select tenant_id, reservation_id from tenantry.quota_reservations
           where state <> 'HELD' and ended_at < $1 and expires_at < $1 order by ended_at limit {most} for update skip locked)"
    );
    Ok(tx.execute(&purge, [before.into()]).await?)
}

/// What a tenant has used and holds, in the given windows.
/// The counters of these tenants and windows.
pub(super) async fn read_counters(
    tx: &Tx,
    tenants: &[TenantId],
    windows: &BTreeSet<String>,
) -> Result<HashMap<TenantId, Counters>> {
    let tenants: Vec<_> = tenants.iter().map(|tenant| tenant.uuid()).collect();
    let windows: Vec<_> = windows.iter().cloned().collect();
    let mut counters: HashMap<TenantId, Counters> = HashMap::new();
    for row in tx.rows(COUNTERS, [tenants.into(), windows.into()]).await? {
        let of_tenant = counters.entry(row.try_get("", "tenant_id")?).or_default();
        let counter = Counter { used: row.try_get("", "used")?, reserved: row.try_get("", "reserved")? };
        of_tenant.insert((row.try_get("", "quota_key")?, row.try_get("", "quota_window")?), counter);
    }
    Ok(counters)
}

/// These counters, and nobody changes them until the transaction ends.
pub(super) async fn share_counters(tx: &Tx, keys: &BTreeSet<CounterKey>) -> Result<BTreeMap<CounterKey, Counter>> {
    let share = format!("{READ} order by u.tenant_id, u.quota_key, u.quota_window for share of u");
    counters_of(tx.rows(&share, columns(keys)).await?)
}

const COUNTERS: &str = "
    select tenant_id, quota_key, quota_window, used, reserved from tenantry.quota_usage
    where tenant_id = any($1) and quota_window = any($2)";
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
        let lease = match row.try_get("", "lease_until")? {
            None => Lease::None,
            Some(_) if row.try_get("", "lease_closed")? => Lease::Closed,
            Some(until) => Lease::Open { until },
        };
        Ok(Reservation {
            tenant: row.try_get("", "tenant_id")?,
            id: row.try_get("", "reservation_id")?,
            subject: row.try_get("", "subject")?,
            state: state.into_iter().find(|state| state.name() == text).context("read a reservation's state")?,
            holds: serde_json::from_value::<Vec<Hold>>(holds).context("read what a reservation holds")?,
            created_at: row.try_get("", "created_at")?,
            expires_at: row.try_get("", "expires_at")?,
            committed: outcome.map(serde_json::from_value).transpose().context("read what was committed")?,
            lease,
            ticket: None,
        })
    };
    rows.into_iter().map(|row| read(row).map(|found| ((found.tenant, found.id), found))).collect()
}

fn split(ids: &BTreeSet<Id>) -> (Vec<Uuid>, Vec<Uuid>) {
    ids.iter().map(|(tenant, reservation)| (tenant.uuid(), reservation.uuid())).unzip()
}

fn uuids(tenants: &BTreeSet<TenantId>) -> Vec<Uuid> {
    tenants.iter().map(|tenant| tenant.uuid()).collect()
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
