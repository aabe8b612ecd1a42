//! One entry for each of many tenants, in a few statements for all of them: what a fleet's work needs.

use std::collections::BTreeMap;

use sea_orm::{FromQueryResult as _, Value};

use super::{
    append::{Head, Row},
    chain::GENESIS,
    entry::{Entry, Stamp},
};
use crate::{
    error::{Context as _, Error, Result},
    platform::{
        db::{SEPARATOR, Tx, column},
        ids::TenantId,
    },
};

/// Tenants that one notification names: its payload is at most 8,000 bytes.
const TENANTS_AT_ONCE: usize = 200;

/// Begins the chains that there are not yet.
const BEGIN_HEADS: &str = "
    insert into tenantry.journal_heads (tenant_id, sequence, hash)
    select tenant, 0, $2 from unnest($1::uuid[]) tenant
    where not exists (select from tenantry.journal_heads h where h.tenant_id = tenant)
    order by tenant on conflict do nothing";
/// Takes the chains of several tenants, always in the same order; nothing is written for it.
const LOCK_HEADS: &str = "
    select tenant_id, sequence, hash from tenantry.journal_heads where tenant_id = any($1::uuid[]) order by tenant_id for update";

/// Writes the entries, moves the heads, and wakes every replica when this transaction commits. Heads are there: said as an insertion,
/// each is looked up by its key, where an update might go through all of them.
const APPEND_EACH: &str = "
    with link as materialized (
      select * from unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
          $9::bytea[], $10::bytea[])
        as link (tenant_id, sequence, entry_id, event, subject_kind, subject_id, before, after, previous_hash, hash)
    ), moved as (
      insert into tenantry.journal_heads as head (tenant_id, sequence, hash) select tenant_id, sequence, hash from link
      on conflict (tenant_id) do update set sequence = excluded.sequence, hash = excluded.hash,
        unsigned_since = coalesce(head.unsigned_since, $11)
    ), written as (
      insert into tenantry.journal
        (tenant_id, sequence, entry_id, at, event, actor_kind, actor, subject_kind, subject_id, before, after,
         request_id, address, previous_hash, hash)
      select tenant_id, sequence, entry_id, $11, event, $12, $13, subject_kind, subject_id, nullif(before, '')::json,
        nullif(after, '')::json, $14, $15, previous_hash, hash
      from link
    )
    select count(pg_notify('tenantry', told)) from unnest($16::text[]) as told";

/// Appends one entry to the chain of each of these tenants, in two statements for all of them.
pub async fn append_each(tx: &Tx, stamp: &Stamp, entries: &BTreeMap<TenantId, Entry>) -> Result<()> {
    if entries.is_empty() {
        return Err(Error::internal("a change would be committed without a record"));
    }
    let tenants: Vec<_> = entries.keys().map(|tenant| tenant.uuid()).collect();
    let mut heads = tx.rows(LOCK_HEADS, [tenants.clone().into()]).await?;
    if heads.len() < entries.len() {
        tx.execute(BEGIN_HEADS, [tenants.clone().into(), GENESIS.to_vec().into()]).await?;
        heads = tx.rows(LOCK_HEADS, [tenants.into()]).await?;
    }
    let mut links = Vec::with_capacity(heads.len());
    for row in &heads {
        let tenant: TenantId = row.try_get("", "tenant_id")?;
        let head = Head::from_query_result(row, "")?;
        let (previous, sequence) = (head.hash()?, head.sequence + 1);
        let entry = entries.get(&tenant).context("find a locked chain's entry")?;
        links.push((tenant, entry, sequence, previous, Row::of(tenant, sequence, &previous, stamp, entry)));
    }
    let ids: Vec<_> = entries.keys().map(ToString::to_string).collect();
    let told: Vec<_> = ids.chunks(TENANTS_AT_ONCE).map(|ids| ids.join(SEPARATOR)).collect();
    let values: [Value; 16] = [
        column(&links, |(tenant, ..)| tenant.uuid()),
        column(&links, |(_, _, sequence, ..)| *sequence),
        column(&links, |(.., row)| row.id.uuid()),
        column(&links, |(_, entry, ..)| entry.event.to_owned()),
        column(&links, |(_, entry, ..)| entry.subject_kind.to_owned()),
        column(&links, |(_, entry, ..)| entry.subject_id.clone()),
        column(&links, |(.., row)| row.before.clone().unwrap_or_default()),
        column(&links, |(.., row)| row.after.clone().unwrap_or_default()),
        column(&links, |(.., previous, _)| previous.to_vec()),
        column(&links, |(.., row)| row.hash.to_vec()),
        stamp.at.into(),
        stamp.actor.kind.name().into(),
        stamp.actor.name.as_str().into(),
        stamp.request_id.clone().into(),
        stamp.address.map(|address| address.to_string()).into(),
        told.into(),
    ];
    tx.row(APPEND_EACH, values).await?;
    Ok(())
}
