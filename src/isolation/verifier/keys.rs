use serde::Deserialize;

use super::{
    Finding,
    facts::{Facts, Query},
    rule,
};
use crate::error::Result;

/// Unique and exclusion indexes of tenant tables without `tenant_id` among their keys. The comment may be on the index or
/// on its constraint; an index of a partition that belongs to one of its parent is judged there.
const UNIQUE: Query = Query(
    "keys.unique",
    "
    select r.object as table, quote_ident(x.relname) as index, quote_ident(k.conname) as constraint
    from relation r
    join pg_index i on i.indrelid = r.oid
    join pg_class x on x.oid = i.indexrelid
    left join pg_constraint k on k.conindid = i.indexrelid and k.conrelid = r.oid and k.contype in ('p', 'u', 'x')
    where r.tenant_id is not null and (i.indisunique or i.indisexclusion) and not x.relispartition
    and not exists (select from generate_series(0, i.indnkeyatts - 1) position where i.indkey[position] = r.tenant_id)
    and coalesce(obj_description(k.oid, 'pg_constraint'), '') not like 'global=_%'
    and coalesce(obj_description(x.oid, 'pg_class'), '') not like 'global=_%'
    order by 1, 2",
);

/// Foreign keys between tenant tables that do not pair `tenant_id` with `tenant_id`.
const FOREIGN: Query = Query("keys.foreign", "
    select r.object as table, quote_ident(k.conname) as name, t.object as target
    from relation r
    join pg_constraint k on k.conrelid = r.oid and k.contype = 'f' and k.conparentid = 0
    join relation t on t.oid = k.confrelid
    where r.tenant_id is not null and t.tenant_id is not null
    and not exists (
        select from unnest(k.conkey, k.confkey) pair(local, foreign_column) where local = r.tenant_id and foreign_column = t.tenant_id)
    order by 1, 2");

pub(super) const QUERIES: &[Query] = &[UNIQUE, FOREIGN];

#[derive(Deserialize)]
struct Unique {
    table: String,
    index: String,
    constraint: Option<String>,
}

#[derive(Deserialize)]
struct ForeignKey {
    table: String,
    name: String,
    target: String,
}

pub(super) fn check(facts: &Facts) -> Result<Vec<Finding>> {
    let mut findings: Vec<_> = facts.rows::<Unique>(&UNIQUE)?.iter().map(judge_unique).collect();
    findings.extend(facts.rows::<ForeignKey>(&FOREIGN)?.iter().map(judge_foreign));
    Ok(findings)
}

fn judge_unique(unique: &Unique) -> Finding {
    let Unique { table, index, constraint } = unique;
    let drop = match constraint {
        Some(constraint) => format!("alter table {table} drop constraint {constraint};"),
        None => format!("drop index tenantry.{index};"),
    };
    let meant = match constraint {
        Some(constraint) => format!("comment on constraint {constraint} on {table} is 'global=why';"),
        None => format!("comment on index tenantry.{index} is 'global=why';"),
    };
    let remedy =
        format!("{drop} -- and make it again with tenant_id; if one namespace for all tenants is meant: {meant}");
    rule::UNIQUE_TENANT.broken(
        format!("{table} {index}"),
        "is unique over all tenants: a refused value tells that another has it",
        remedy,
    )
}

fn judge_foreign(key: &ForeignKey) -> Finding {
    let ForeignKey { table, name, target } = key;
    let remedy = format!(
        "alter table {table} drop constraint {name}; -- and alter table {table} add constraint {name} foreign key (tenant_id, …) references {target} (tenant_id, …);"
    );
    rule::FOREIGN_KEY_TENANT.broken(
        format!("{table} {name}"),
        format!("accepts another tenant's row of {target}"),
        remedy,
    )
}
