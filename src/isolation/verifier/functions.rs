use serde::Deserialize;

use super::{
    Finding, OPERATOR, OWNER, TENANT,
    facts::{Facts, Query, identifier},
    rule,
};
use crate::error::Result;

/// Functions of schema `tenantry` that no extension brought.
const FUNCTIONS: Query = Query("functions.functions", "
    select f.object, o.rolname as owner, f.prorettype = 'trigger'::regtype as is_trigger,
        exists (select from unnest(f.proconfig) setting where setting like 'search_path=%') as fixed_path, (
            select json_agg(distinct case when g.grantee = 0 then 'PUBLIC' else coalesce(r.rolname, g.grantee::text) end)
            from aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) g left join pg_roles r on r.oid = g.grantee
            where g.grantee <> f.proowner
        ) as executors
    from function f join pg_roles o on o.oid = f.proowner
    where not f.extension
    order by f.object");

/// Functions anywhere, but PostgreSQL's own, that run as their owner and can be called by a role of the application (those in
/// schema `tenantry` always), or that are LEAKPROOF by somebody's word.
const SUSPECTS: Query = Query(
    "functions.suspects",
    "
    select format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as object,
        p.prosecdef and (n.nspname = 'tenantry' or exists (
            select from principal r where r.rolname <> 'tenantry_owner'
            and has_function_privilege(r.oid, p.oid, 'EXECUTE') and has_schema_privilege(r.oid, n.oid, 'USAGE')
        )) as definer,
        p.proleakproof and not exists (
            select from pg_depend e where e.classid = 'pg_proc'::regclass and e.objid = p.oid and e.deptype = 'e'
        ) as leakproof
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where (p.prosecdef or p.proleakproof) and n.nspname not in ('pg_catalog', 'information_schema')
    order by 1",
);

pub(super) const QUERIES: &[Query] = &[FUNCTIONS, SUSPECTS];

#[derive(Deserialize)]
struct Function {
    object: String,
    owner: String,
    is_trigger: bool,
    fixed_path: bool,
    executors: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Suspect {
    object: String,
    definer: bool,
    leakproof: bool,
}

pub(super) fn check(facts: &Facts) -> Result<Vec<Finding>> {
    let mut findings: Vec<Finding> = facts.rows::<Function>(&FUNCTIONS)?.iter().flat_map(judge).collect();
    findings.extend(facts.rows::<Suspect>(&SUSPECTS)?.iter().flat_map(judge_suspect));
    Ok(findings)
}

fn judge(function: &Function) -> Vec<Finding> {
    let Function { object, owner, .. } = function;
    let mut findings = Vec::new();
    if owner != OWNER {
        let remedy = format!("alter routine {object} owner to {OWNER};");
        findings.push(rule::OBJECT_OWNER.broken(object, format!("belongs to {owner}"), remedy));
    }
    if !function.fixed_path {
        let remedy = format!("alter routine {object} set search_path = tenantry, pg_temp;");
        findings.push(rule::FUNCTION_SEARCH_PATH.broken(object, "looks names up where its caller says", remedy));
    }
    for executor in function.executors.iter().flatten() {
        let public = executor == "PUBLIC";
        // A trigger function cannot be called.
        if public && function.is_trigger || [TENANT, OPERATOR, OWNER].contains(&executor.as_str()) {
            continue;
        }
        let from = if public { "public".to_owned() } else { identifier(executor) };
        let remedy = format!("revoke execute on routine {object} from {from};");
        findings.push(rule::FUNCTION_GRANTS.broken(object, format!("{executor} may execute it"), remedy));
    }
    findings
}

fn judge_suspect(suspect: &Suspect) -> Vec<Finding> {
    let object = &suspect.object;
    let mut findings = Vec::new();
    if suspect.definer {
        let remedy = format!("alter routine {object} security invoker;");
        findings.push(rule::FUNCTION_DEFINER.broken(object, "runs with the rights of its owner", remedy));
    }
    if suspect.leakproof {
        let remedy = format!("alter routine {object} not leakproof;");
        findings.push(rule::FUNCTION_LEAKPROOF.broken(
            object,
            "may run on rows before the policy has hidden them",
            remedy,
        ));
    }
    findings
}
