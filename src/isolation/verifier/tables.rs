use serde::Deserialize;

use super::{
    Finding, OWNER,
    facts::{Facts, Query},
    rule,
};
use crate::error::Result;

const ERASURES: [&str; 5] = ["none", "delete", "keep", "tombstone", "anonymise"];

/// A partition has the comment of its root. An index counts for `tenant_id` if it covers all rows and is usable now. On
/// PostgreSQL 18 a NOT NULL may be declared and not yet checked.
const RELATIONS: Query = Query("tables.relations", "
    select r.object, r.relkind::text as kind, o.rolname as owner, r.migrations, r.relrowsecurity as enabled, r.relforcerowsecurity as forced,
        format_type(t.atttypid, t.atttypmod) || case when t.attgenerated = '' then '' else ' generated' end as tenant_id_type,
        t.attnotnull and not exists (
            select from pg_constraint k where k.conrelid = r.oid and k.contype = 'n' and k.conkey = array[t.attnum] and not k.convalidated
        ) as tenant_id_not_null,
        exists (
            select from pg_index i where i.indrelid = r.oid and i.indkey[0] = t.attnum and i.indisvalid and i.indisready and i.indpred is null
        ) as tenant_id_indexed,
        substring(obj_description(r.root, 'pg_class') from '^erasure=([a-z]+)') as erasure
    from relation r
    join pg_roles o on o.oid = r.relowner
    left join pg_attribute t on t.attrelid = r.oid and t.attnum = r.tenant_id
    order by r.object");

const CHILDREN: Query = Query(
    "tables.children",
    "
    select format('%I.%I', n.nspname, c.relname) as child, r.object as parent
    from relation r
    join pg_inherits h on h.inhparent = r.oid
    join pg_class c on c.oid = h.inhrelid
    join pg_namespace n on n.oid = c.relnamespace
    where n.nspname <> 'tenantry'",
);

pub(super) const QUERIES: &[Query] = &[RELATIONS, CHILDREN];

#[derive(Deserialize)]
struct Relation {
    object: String,
    /// As in `pg_class.relkind`: `r` table, `p` partitioned table, `v` view, `m` materialised view, `f` foreign, `S` sequence.
    kind: char,
    owner: String,
    migrations: bool,
    enabled: bool,
    forced: bool,
    tenant_id_type: Option<String>,
    tenant_id_not_null: Option<bool>,
    tenant_id_indexed: bool,
    erasure: Option<String>,
}

#[derive(Deserialize)]
struct Child {
    child: String,
    parent: String,
}

pub(super) fn check(facts: &Facts) -> Result<Vec<Finding>> {
    let relations: Vec<Relation> = facts.rows(&RELATIONS)?;
    let mut findings: Vec<_> = relations.iter().filter_map(judge_owner).collect();
    for table in relations.iter().filter(|relation| matches!(relation.kind, 'r' | 'p') && !relation.migrations) {
        findings.extend(judge_row_security(table));
        findings.extend(judge_tenant_id(table));
        findings.extend(judge_erasure(table));
    }
    findings.extend(relations.iter().filter(|relation| relation.kind == 'f').map(judge_foreign));
    findings.extend(facts.rows::<Child>(&CHILDREN)?.iter().map(judge_child));
    Ok(findings)
}

fn judge_owner(relation: &Relation) -> Option<Finding> {
    let Relation { object, owner, .. } = relation;
    // ALTER TABLE changes the owner of every kind of relation.
    let remedy = format!("alter table {object} owner to {OWNER};");
    (owner != OWNER).then(|| rule::OBJECT_OWNER.broken(object, format!("belongs to {owner}"), remedy))
}

fn judge_row_security(table: &Relation) -> Vec<Finding> {
    let object = &table.object;
    let mut findings = Vec::new();
    if !table.enabled {
        let remedy = format!("alter table {object} enable row level security;");
        findings.push(rule::RLS_ENABLED.broken(
            object,
            "has no row-level security: whoever has a grant sees all tenants",
            remedy,
        ));
    }
    if !table.forced {
        let remedy = format!("alter table {object} force row level security;");
        findings.push(rule::RLS_FORCED.broken(
            object,
            "does not force row-level security: its owner passes by the policies",
            remedy,
        ));
    }
    findings
}

fn judge_tenant_id(table: &Relation) -> Vec<Finding> {
    let object = &table.object;
    let Some(data_type) = &table.tenant_id_type else { return Vec::new() };
    let mut findings = Vec::new();
    if data_type != "uuid" {
        let remedy = format!("alter table {object} alter column tenant_id type uuid using tenant_id::uuid;");
        findings.push(rule::TENANT_ID_COLUMN.broken(object, format!("tenant_id is {data_type}"), remedy));
    }
    if table.tenant_id_not_null != Some(true) {
        let remedy = format!("alter table {object} alter column tenant_id set not null;");
        findings.push(rule::TENANT_ID_COLUMN.broken(object, "tenant_id may be null", remedy));
    }
    if !table.tenant_id_indexed {
        let remedy = format!("create index on {object} (tenant_id); -- or reindex one that is invalid");
        findings.push(rule::TENANT_ID_INDEX.broken(
            object,
            "no valid index over all rows begins with tenant_id",
            remedy,
        ));
    }
    findings
}

fn judge_erasure(table: &Relation) -> Option<Finding> {
    let object = &table.object;
    let declared = table.erasure.as_deref().filter(|erasure| ERASURES.contains(erasure));
    let problem = match (declared, &table.tenant_id_type) {
        (None, _) => "does not say what erasing a tenant does to its rows",
        (Some("none"), Some(_)) => "has a tenant_id, but erasing a tenant does nothing to it",
        (Some(erasure), None) if erasure != "none" => "has rows of tenants to erase, but no tenant_id to find them by",
        (Some(_), _) => return None,
    };
    let remedy = match table.tenant_id_type {
        Some(_) => format!("comment on table {object} is 'erasure=delete'; -- or keep, tombstone, anonymise"),
        None => {
            format!("comment on table {object} is 'erasure=none'; -- if no tenant is in it; else give it a tenant_id")
        }
    };
    Some(rule::ERASURE_DECLARED.broken(object, problem, remedy))
}

fn judge_foreign(table: &Relation) -> Finding {
    let object = &table.object;
    rule::FOREIGN_TABLE.broken(
        object,
        "is a foreign table, which has no row-level security",
        format!("drop foreign table {object};"),
    )
}

fn judge_child(child: &Child) -> Finding {
    let Child { child, parent } = child;
    let remedy = format!("alter table {child} set schema tenantry;");
    rule::PARTITION_OUTSIDE.broken(child, format!("holds rows of {parent}, but is outside schema tenantry"), remedy)
}
