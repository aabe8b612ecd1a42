//! The tables of closings and corrections.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    super::{label, total::decimal},
    closing::Closing,
    correction::Correction,
};
use crate::{
    error::Result,
    isolation::{OperatorTx, TenantTx},
};

/// Who closes goes one after the other, each tenant's by itself.
const LOCK: &str = "select pg_advisory_xact_lock(hashtextextended('tenantry.usage_closings ' || $1::text, 0))::text";

const CLOSING: &str = "select closing_until, closed_until, closed_at from tenantry.usage_closings where tenant_id = $1";

const BEGIN: &str = "
    insert into tenantry.usage_closings as known (tenant_id, closing_until) values ($1, $2)
    on conflict (tenant_id) do update set closing_until = greatest(known.closing_until, excluded.closing_until)";

const END: &str = "
    update tenantry.usage_closings set closed_until = $2, closed_at = $3
    where tenant_id = $1 and (closed_until is null or closed_until < $2)";

/// Transactions that write to the inbox.
const WRITERS: &str = "
    select distinct virtualtransaction as writer from pg_locks
    where locktype = 'relation' and relation = 'tenantry.usage_inbox'::regclass and mode = 'RowExclusiveLock'
      and database = (select oid from pg_database where datname = current_database())
      and ($1::text[] is null or virtualtransaction = any ($1))";

const CORRECTIONS: &str = "
    select key, dimension_id, booked_at, occurred_at, received_at, quantity::text as quantity, labels, subject, reason from (
        select key, dimension_id, booked_at, occurred_at, received_at, quantity, labels, subject, reason
        from tenantry.usage_corrections where tenant_id = $1
        union all
        select event.key, event.dimension_id, event.at, coalesce(event.occurred, event.at), stored.received_at, event.quantity,
            event.labels, event.subject, event.reason
        from tenantry.usage_inbox stored,
            unnest(stored.keys, stored.dimensions, stored.times, stored.quantities, stored.groups, stored.subjects, stored.reasons, stored.occurred)
                as event (key, dimension_id, at, quantity, labels, subject, reason, occurred)
        where stored.tenant_id = $1 and (event.reason <> '' or event.occurred <> event.at)
    ) booked
    where ($2::int2 is null or dimension_id = $2) and booked_at >= $3 and booked_at < $4
      and ($5::timestamptz is null or (booked_at, key) < ($5, $6))
    order by booked_at desc, key desc limit $7";

/// What is asked of the list of corrections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) dimension: Option<i16>,
    pub(super) from: DateTime<Utc>,
    pub(super) to: DateTime<Utc>,
    pub(super) after: Option<(DateTime<Utc>, Uuid)>,
}

pub(super) async fn lock(tx: &TenantTx) -> Result<()> {
    tx.row(LOCK, [tx.tenant().into()]).await?;
    Ok(())
}

pub(super) async fn closing(tx: &TenantTx) -> Result<Option<Closing>> {
    let Some(row) = tx.row(CLOSING, [tx.tenant().into()]).await? else { return Ok(None) };
    Ok(Some(Closing {
        closing_until: row.try_get("", "closing_until")?,
        closed_until: row.try_get("", "closed_until")?,
        closed_at: row.try_get("", "closed_at")?,
    }))
}

pub(super) async fn begin(tx: &TenantTx, until: DateTime<Utc>) -> Result<()> {
    tx.execute(BEGIN, [tx.tenant().into(), until.into()]).await?;
    Ok(())
}

pub(super) async fn end(tx: &TenantTx, until: DateTime<Utc>) -> Result<()> {
    tx.execute(END, [tx.tenant().into(), until.into(), tx.stamp().at.into()]).await?;
    Ok(())
}

/// Those of `known` that still write; all, where none are named.
pub(super) async fn writers(tx: &OperatorTx, known: Option<&[String]>) -> Result<Vec<String>> {
    let rows = tx.rows(WRITERS, [known.map(<[String]>::to_vec).into()]).await?;
    rows.iter().map(|row| Ok(row.try_get("", "writer")?)).collect()
}

/// Each with the id of its dimension, whose key is left empty.
pub(super) async fn corrections(tx: &TenantTx, asked: &Asked, limit: usize) -> Result<Vec<(i16, Correction)>> {
    let (after_at, after_key) = asked.after.unzip();
    let values = [
        tx.tenant().into(),
        asked.dimension.into(),
        asked.from.into(),
        asked.to.into(),
        after_at.into(),
        after_key.into(),
        (limit as i64).into(),
    ];
    let rows = tx.rows(CORRECTIONS, values).await?;
    let correction = |row: &sea_orm::QueryResult| {
        let correction = Correction {
            key: row.try_get("", "key")?,
            dimension: String::new(),
            booked_at: row.try_get("", "booked_at")?,
            occurred_at: row.try_get("", "occurred_at")?,
            received_at: row.try_get("", "received_at")?,
            quantity: decimal(&row.try_get::<String>("", "quantity")?)?.normalize(),
            labels: label::labels(&row.try_get::<String>("", "labels")?)?,
            subject: row.try_get("", "subject")?,
            reason: row.try_get("", "reason")?,
        };
        Ok((row.try_get("", "dimension_id")?, correction))
    };
    rows.iter().map(correction).collect()
}
