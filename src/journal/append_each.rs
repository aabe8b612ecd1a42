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
    platform::{db::Tx, ids::TenantId},
};

/// Takes the chains of several tenants, always in the same order.
const LOCK_HEADS: &str = "
    insert into tenantry.journal_heads (tenant_id, sequence, hash)
    select tenant, 0, $2 from unnest($1::uuid[]) tenant order by tenant
    on conflict (tenant_id) do update set tenant_id = excluded.tenant_id
    returning tenant_id, sequence, hash";

const INSERT_EACH: &str = "
    insert into tenantry.journal
      (tenant_id, sequence, entry_id, at, event, actor_kind, actor, subject_kind, subject_id, before, after,
       request_id, address, previous_hash, hash)
    select tenant, sequence, entry, $1, event, $2, $3, subject_kind, subject_id, before::json, after::json,
      $4, $5, decode(previous, 'hex'), decode(hash, 'hex')
    from jsonb_to_recordset($6::jsonb) as r (tenant uuid, sequence bigint, entry uuid, event text, subject_kind text,
      subject_id text, before text, after text, previous text, hash text)";

const MOVE_HEADS: &str = "
    update tenantry.journal_heads h set sequence = r.sequence, hash = decode(r.hash, 'hex'),
      unsigned_since = coalesce(unsigned_since, $1)
    from jsonb_to_recordset($2::jsonb) as r (tenant uuid, sequence bigint, hash text)
    where h.tenant_id = r.tenant returning pg_notify('tenantry', h.tenant_id::text)::text";

/// Appends one entry to the chain of each of these tenants, in three statements for all of them.
pub async fn append_each(tx: &Tx, stamp: &Stamp, entries: &BTreeMap<TenantId, Entry>) -> Result<()> {
    if entries.is_empty() {
        return Err(Error::internal("a change would be committed without a record"));
    }
    let tenants: Vec<_> = entries.keys().map(|tenant| tenant.uuid()).collect();
    let heads = tx.rows(LOCK_HEADS, [tenants.into(), GENESIS.to_vec().into()]).await?;
    let mut rows = Vec::with_capacity(heads.len());
    for row in &heads {
        let tenant: TenantId = row.try_get("", "tenant_id")?;
        let head = Head::from_query_result(row, "")?;
        let (previous, sequence) = (head.hash()?, head.sequence + 1);
        let entry = entries.get(&tenant).context("find a locked chain's entry")?;
        let row = Row::of(tenant, sequence, &previous, stamp, entry);
        rows.push(serde_json::json!({
            "tenant": tenant, "sequence": sequence, "entry": row.id, "event": entry.event,
            "subject_kind": entry.subject_kind, "subject_id": entry.subject_id, "before": row.before, "after": row.after,
            "previous": hex(&previous), "hash": hex(&row.hash),
        }));
    }
    let rows = serde_json::Value::Array(rows);
    let address = stamp.address.map(|address| address.to_string());
    let values: [Value; 6] = [
        stamp.at.into(),
        stamp.actor.kind.name().into(),
        stamp.actor.name.as_str().into(),
        stamp.request_id.clone().into(),
        address.into(),
        rows.clone().into(),
    ];
    tx.execute(INSERT_EACH, values).await?;
    tx.rows(MOVE_HEADS, [stamp.at.into(), rows.into()]).await?;
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
