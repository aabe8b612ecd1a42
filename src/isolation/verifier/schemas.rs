use serde::Deserialize;

use super::{
    Finding, OPERATOR, OWNER, TENANT,
    facts::{Facts, Query, identifier},
    rule,
};
use crate::error::Result;

const OWNERS: Query = Query(
    "schemas.owners",
    "select r.rolname as owner from pg_namespace n join pg_roles r on r.oid = n.nspowner where n.nspname = 'tenantry'",
);

const GRANTS: Query = Query(
    "schemas.grants",
    "
    select coalesce(r.rolname, 'PUBLIC') as grantee, g.privilege_type as privilege, g.is_grantable as grantable
    from pg_namespace n cross join aclexplode(n.nspacl) g left join pg_roles r on r.oid = g.grantee
    where n.nspname = 'tenantry' and g.grantee <> n.nspowner and r.rolname is distinct from 'tenantry_owner'",
);

/// Schemas other than `tenantry` in which PUBLIC or a role of the application may create. What such a role owns, or gets by
/// owning the database, is found as ownership.
const CREATORS: Query = Query("schemas.creators", "
    select quote_ident(n.nspname) as schema, case when g.grantee = 0 then 'PUBLIC' else quote_ident(p.rolname) end as grantee
    from pg_namespace n
    cross join aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) g
    left join principal p on p.oid = g.grantee
    where n.nspname <> 'tenantry' and g.privilege_type = 'CREATE' and g.grantee <> n.nspowner and (g.grantee = 0 or p.rolname <> 'tenantry_owner')");

/// Default privileges that reach objects of the owner or of schema `tenantry`, beyond what PostgreSQL gives anyway.
const DEFAULTS: Query = Query("schemas.defaults", "
    select quote_ident(o.rolname) as role, coalesce(r.rolname, 'PUBLIC') as grantee, g.privilege_type as privilege,
        case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions' when 'T' then 'types'
            when 'n' then 'schemas' else 'large objects' end as objects,
        case when n.oid is null then '' else ' in schema tenantry' end as place
    from pg_default_acl d
    join pg_roles o on o.oid = d.defaclrole
    left join pg_namespace n on n.oid = d.defaclnamespace
    cross join aclexplode(d.defaclacl) g
    left join pg_roles r on r.oid = g.grantee
    where (n.nspname = 'tenantry' or n.oid is null and o.rolname = 'tenantry_owner') and g.grantee <> d.defaclrole
    and not (n.oid is null and g.grantee = 0 and (d.defaclobjtype, g.privilege_type) in (('f', 'EXECUTE'), ('T', 'USAGE')))");

pub(super) const QUERIES: &[Query] = &[OWNERS, GRANTS, CREATORS, DEFAULTS];

#[derive(Deserialize)]
struct Owned {
    owner: String,
}

#[derive(Deserialize)]
struct Grant {
    grantee: String,
    privilege: String,
    grantable: bool,
}

#[derive(Deserialize)]
struct Creator {
    schema: String,
    grantee: String,
}

#[derive(Deserialize)]
struct DefaultPrivilege {
    role: String,
    grantee: String,
    privilege: String,
    objects: String,
    place: String,
}

pub(super) fn check(facts: &Facts) -> Result<Vec<Finding>> {
    let mut findings = judge_owner(facts.rows(&OWNERS)?.first());
    findings.extend(facts.rows::<Grant>(&GRANTS)?.iter().filter_map(judge_grant));
    findings.extend(facts.rows::<Creator>(&CREATORS)?.iter().map(judge_creator));
    findings.extend(facts.rows::<DefaultPrivilege>(&DEFAULTS)?.iter().map(judge_default));
    Ok(findings)
}

fn judge_owner(schema: Option<&Owned>) -> Vec<Finding> {
    match schema {
        None => vec![rule::SCHEMA_OWNER.broken("tenantry", "there is no such schema", "tenantry migrate")],
        Some(Owned { owner }) if owner != OWNER => {
            vec![rule::SCHEMA_OWNER.broken(
                "tenantry",
                format!("belongs to {owner}"),
                format!("alter schema tenantry owner to {OWNER};"),
            )]
        }
        Some(_) => Vec::new(),
    }
}

fn judge_grant(grant: &Grant) -> Option<Finding> {
    let Grant { grantee, privilege, grantable } = grant;
    let intended = [TENANT, OPERATOR].contains(&grantee.as_str()) && privilege == "USAGE" && !grantable;
    let option = if *grantable { " with grant option" } else { "" };
    let remedy = format!(
        "revoke all on schema tenantry from {}; grant usage on schema tenantry to {TENANT}, {OPERATOR};",
        grantee_name(grantee)
    );
    (!intended).then(|| {
        rule::SCHEMA_GRANTS.broken("tenantry", format!("{grantee} has {privilege}{option} on the schema"), remedy)
    })
}

fn judge_creator(creator: &Creator) -> Finding {
    let Creator { schema, grantee } = creator;
    rule::SCHEMA_CREATE.broken(
        schema,
        format!("{grantee} may create objects in it"),
        format!("revoke create on schema {schema} from {grantee};"),
    )
}

fn judge_default(default: &DefaultPrivilege) -> Finding {
    let DefaultPrivilege { role, grantee, privilege, objects, place } = default;
    rule::DEFAULT_PRIVILEGES.broken(
        role,
        format!("{grantee} gets {privilege} on all future {objects}{place}"),
        format!(
            "alter default privileges for role {role}{place} revoke {privilege} on {objects} from {};",
            grantee_name(grantee)
        ),
    )
}

/// A role as GRANT and REVOKE write it.
fn grantee_name(grantee: &str) -> String {
    if grantee == "PUBLIC" { grantee.to_owned() } else { identifier(grantee) }
}
