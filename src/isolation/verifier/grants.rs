use serde::Deserialize;

use super::{
    Finding, OPERATOR, TENANT,
    facts::{Facts, Query, identifier},
    rule,
};
use crate::error::Result;

/// Grants to others than the owner on relations and their columns. What is append-only is so in its partitions as well.
const GRANTS: Query = Query("grants.grants", "
    select r.object, quote_ident(g.attname) as column, r.relkind::text as kind, r.migrations, r.tenant_id is not null as has_tenant_id,
        root.relname in ('journal', 'journal_checkpoints') as append_only,
        case when g.grantee = 0 then 'PUBLIC' else coalesce(o.rolname, g.grantee::text) end as grantee,
        g.privilege_type as privilege, g.is_grantable as grantable
    from relation r
    join pg_class root on root.oid = r.root
    cross join lateral (
        select null::name as attname, a.* from aclexplode(r.relacl) a
        union all
        select c.attname, a.* from pg_attribute c cross join aclexplode(c.attacl) a where c.attrelid = r.oid
    ) g
    left join pg_roles o on o.oid = g.grantee
    where g.grantee <> r.relowner and o.rolname is distinct from 'tenantry_owner'
    order by 1, 2 nulls first, 7, 8");

pub(super) const QUERIES: &[Query] = &[GRANTS];

#[derive(Deserialize)]
struct Grant {
    object: String,
    column: Option<String>,
    /// As in `pg_class.relkind`: `S` is a sequence.
    kind: char,
    migrations: bool,
    has_tenant_id: bool,
    append_only: bool,
    grantee: String,
    privilege: String,
    grantable: bool,
}

pub(super) fn check(facts: &Facts) -> Result<Vec<Finding>> {
    Ok(facts.rows::<Grant>(&GRANTS)?.iter().flat_map(judge).collect())
}

fn judge(grant: &Grant) -> Vec<Finding> {
    let privilege = grant.privilege.as_str();
    let known = [TENANT, OPERATOR].contains(&grant.grantee.as_str());
    let sequence = grant.kind == 'S';
    let ordinary = if sequence { &["USAGE", "SELECT"][..] } else { &["SELECT", "INSERT", "UPDATE", "DELETE"] };
    let to_tenant = grant.grantee == TENANT;
    if grant.migrations {
        return vec![broken(&rule::GRANT_MIGRATIONS, grant)];
    }
    [
        (!known, &rule::GRANT_ROLE),
        (grant.grantable, &rule::GRANT_OPTION),
        (!ordinary.contains(&privilege), &rule::GRANT_PRIVILEGE),
        (grant.append_only && ["UPDATE", "DELETE"].contains(&privilege), &rule::GRANT_APPEND_ONLY),
        (to_tenant && !sequence && !grant.has_tenant_id && privilege != "SELECT", &rule::GRANT_CATALOGUE),
        (to_tenant && sequence, &rule::GRANT_SEQUENCE),
    ]
    .into_iter()
    .filter(|(breaks, _)| *breaks)
    .map(|(_, rule)| broken(rule, grant))
    .collect()
}

fn broken(rule: &rule::Rule, grant: &Grant) -> Finding {
    let Grant { object, column, grantee, privilege, .. } = grant;
    let column_list = column.as_ref().map(|column| format!(" ({column})")).unwrap_or_default();
    let option = if grant.grantable { " with grant option" } else { "" };
    let kind = if grant.kind == 'S' { "sequence " } else { "" };
    let name = if grantee == "PUBLIC" { "public".to_owned() } else { identifier(grantee) };
    rule.broken(
        column.as_ref().map_or_else(|| object.clone(), |column| format!("{object}.{column}")),
        format!("{grantee} has {privilege}{option} on it"),
        format!("revoke {privilege}{column_list} on {kind}{object} from {name};"),
    )
}
