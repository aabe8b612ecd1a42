use serde::Deserialize;

use super::{
    Finding, OPERATOR, TENANT,
    facts::{Facts, Query},
    rule,
};
use crate::error::Result;

/// As PostgreSQL 15 to 18 write it back with `search_path = pg_catalog`. A missing or empty setting is an error as uuid, and
/// the plain equality is what lets the planner use the index.
const EQUALITY: &str = "(tenant_id = (current_setting('tenantry.tenant_id'::text))::uuid)";

const POLICIES: Query = Query("policies.policies", "
    select r.object as table, r.tenant_id is not null as has_tenant_id, quote_ident(p.polname) as name, p.polpermissive as permissive,
        p.polcmd::text as command, pg_get_expr(p.polqual, p.polrelid) as using_expression,
        pg_get_expr(p.polwithcheck, p.polrelid) as check_expression, (
            select json_agg(coalesce(o.rolname, 'PUBLIC')) from unnest(p.polroles) u(oid) left join pg_roles o on o.oid = u.oid
        ) as roles
    from relation r join pg_policy p on p.polrelid = r.oid
    order by r.object, p.polname");

/// Roles that need a permissive policy and have none. A partition without grants is out of reach and needs none.
const MISSING: Query = Query(
    "policies.missing",
    "
    select r.object as table, p.rolname as role, r.tenant_id is not null as has_tenant_id
    from relation r join principal p on p.rolname in ('tenantry_tenant', 'tenantry_operator')
    where r.relkind in ('r', 'p') and not r.migrations
    and (
        p.rolname = 'tenantry_tenant' and r.tenant_id is not null and not r.relispartition
        or exists (select from aclexplode(r.relacl) g where g.grantee = p.oid)
        or exists (select from pg_attribute a, aclexplode(a.attacl) g where a.attrelid = r.oid and g.grantee = p.oid)
    )
    and not exists (select from pg_policy q where q.polrelid = r.oid and q.polpermissive and p.oid = any (q.polroles))
    order by 1, 2",
);

pub(super) const QUERIES: &[Query] = &[POLICIES, MISSING];

#[derive(Deserialize)]
struct Policy {
    table: String,
    has_tenant_id: bool,
    name: String,
    permissive: bool,
    /// As in `pg_policy.polcmd`: `r` select, `a` insert, `w` update, `d` delete, `*` all.
    command: char,
    using_expression: Option<String>,
    check_expression: Option<String>,
    roles: Vec<String>,
}

#[derive(Deserialize)]
struct Missing {
    table: String,
    role: String,
    has_tenant_id: bool,
}

pub(super) fn check(facts: &Facts) -> Result<Vec<Finding>> {
    let mut findings: Vec<Finding> = facts.rows::<Missing>(&MISSING)?.iter().map(judge_missing).collect();
    findings.extend(facts.rows::<Policy>(&POLICIES)?.iter().flat_map(judge));
    Ok(findings)
}

fn judge_missing(missing: &Missing) -> Finding {
    let Missing { table, role, has_tenant_id } = missing;
    let remedy = match (role == TENANT, has_tenant_id) {
        (true, true) => {
            format!("create policy tenant_isolation on {table} to {role} using {EQUALITY} with check {EQUALITY};")
        }
        (true, false) => format!("create policy tenant_isolation on {table} for select to {role} using (true);"),
        (false, _) => format!("create policy operator_access on {table} to {role} using (true) with check (true);"),
    };
    rule::POLICY_MISSING.broken(table, format!("has no policy for {role}"), remedy)
}

/// Restrictive policies may say anything: they only take away.
fn judge(policy: &Policy) -> Vec<Finding> {
    let Policy { table, name, .. } = policy;
    let object = format!("{table} {name}");
    let strangers = policy.roles.iter().filter(|role| ![TENANT, OPERATOR].contains(&role.as_str()));
    let mut findings: Vec<_> = strangers
        .map(|role| {
            rule::POLICY_ROLES.broken(
                &object,
                format!("is a policy for {role}"),
                format!("drop policy {name} on {table};"),
            )
        })
        .collect();
    let is_for = |role: &str| policy.permissive && policy.roles.iter().any(|name| name == role);
    if is_for(TENANT) && !approved_for_tenant(policy) {
        let remedy = if policy.has_tenant_id {
            format!("alter policy {name} on {table} using {EQUALITY} with check {EQUALITY};")
        } else {
            format!(
                "drop policy {name} on {table}; create policy {name} on {table} for select to {TENANT} using (true);"
            )
        };
        findings.push(rule::POLICY_TENANT.broken(&object, shown(policy), remedy));
    }
    if is_for(OPERATOR) && !expressions(policy).iter().all(|expression| approved_for_operator(expression.as_deref())) {
        let remedy = format!("alter policy {name} on {table} using (true) with check (true);");
        findings.push(rule::POLICY_OPERATOR.broken(&object, shown(policy), remedy));
    }
    findings
}

fn approved_for_tenant(policy: &Policy) -> bool {
    if policy.has_tenant_id {
        expressions(policy).iter().all(|expression| expression.as_deref() == Some(EQUALITY))
    } else {
        policy.command == 'r' && policy.using_expression.as_deref() == Some("true")
    }
}

fn approved_for_operator(expression: Option<&str>) -> bool {
    let constant = |expression: &str| {
        let id = expression.strip_prefix("(tenant_id = '")?.strip_suffix("'::uuid)")?;
        uuid::Uuid::try_parse(id).ok()
    };
    expression
        .is_some_and(|expression| expression == "true" || expression == EQUALITY || constant(expression).is_some())
}

/// The expressions that the command of the policy uses. A left-out WITH CHECK would mean the same as USING; it is demanded
/// nevertheless, because a reader does not see that.
fn expressions(policy: &Policy) -> Vec<&Option<String>> {
    match policy.command {
        'r' | 'd' => vec![&policy.using_expression],
        'a' => vec![&policy.check_expression],
        _ => vec![&policy.using_expression, &policy.check_expression],
    }
}

fn shown(policy: &Policy) -> String {
    let [using, check] = [&policy.using_expression, &policy.check_expression]
        .map(|expression| expression.as_deref().unwrap_or("nothing"));
    format!("lets through by `{using}` and checks `{check}`")
}

#[cfg(test)]
mod tests {
    use super::{EQUALITY, approved_for_operator};

    #[test]
    fn an_operator_policy_is_true_or_one_equality() {
        assert!(approved_for_operator(Some("true")));
        assert!(approved_for_operator(Some(EQUALITY)));
        assert!(approved_for_operator(Some("(tenant_id = '00000000-0000-0000-0000-000000000000'::uuid)")));
        for refused in [
            None,
            Some("(tenant_id = '' OR true)"),
            Some("(tenant_id = '0'::uuid OR (tenant_id = '1'::uuid)"),
            Some("(true OR true)"),
        ] {
            assert!(!approved_for_operator(refused), "{refused:?}");
        }
    }
}
