use serde::Deserialize;

use super::{
    Finding,
    facts::{Facts, Query},
    rule,
};
use crate::error::Result;

const OLDEST: i32 = 150_000;

const SERVER: Query = Query("server.server", "
    select current_setting('server_version_num')::int as version, current_setting('row_security') as row_security,
        current_setting('session_replication_role') as replication_role, current_setting('tenantry.tenant_id', true) as tenant");

/// Presets of the database (no role), of the login role everywhere, and of the login role in this database.
const PRESETS: Query = Query("server.presets", "
    select coalesce(r.rolname, 'the database') as of, r.rolname as role, quote_ident(current_database()) as database, setting
    from pg_db_role_setting s
    left join pg_roles r on r.oid = s.setrole
    cross join unnest(s.setconfig) setting
    where s.setdatabase in (0, (select oid from pg_database where datname = current_database()))
    and (s.setrole = 0 or r.rolname = $1)
    and (split_part(setting, '=', 1) in ('role', 'row_security', 'session_replication_role') or setting like 'tenantry.%')");

const CREATORS: Query = Query("server.creators", "
    select quote_ident(p.rolname) as role, quote_ident(current_database()) as database,
        exists (
            select from pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
            where d.datname = current_database() and a.grantee = 0 and a.privilege_type = 'CREATE'
        ) as public
    from principal p
    where p.rolname <> 'tenantry_owner' and not p.rolsuper and has_database_privilege(p.oid, current_database(), 'CREATE')");

const EVENT_TRIGGERS: Query = Query(
    "server.event_triggers",
    "
    select quote_ident(e.evtname) as name, r.rolname as owner
    from pg_event_trigger e join pg_roles r on r.oid = e.evtowner where not r.rolsuper",
);

/// Grants to PUBLIC on PostgreSQL's own relations and functions that were not there when the cluster was made, and on
/// settings that only superusers change.
const CATALOGUE: Query = Query("server.catalogue", "
    select pg_describe_object(i.classoid, i.objoid, 0) as object, g.privilege_type as privilege,
        case when c.oid is not null then format('table pg_catalog.%I', c.relname) else 'function ' || p.oid::regprocedure::text end as target
    from pg_init_privs i
    left join pg_class c on i.classoid = 'pg_class'::regclass and c.oid = i.objoid
    left join pg_proc p on i.classoid = 'pg_proc'::regclass and p.oid = i.objoid
    cross join aclexplode(coalesce(c.relacl, p.proacl)) g
    where i.privtype = 'i' and i.objsubid = 0 and g.grantee = 0
    and not exists (select from aclexplode(i.initprivs) was where was.grantee = 0 and was.privilege_type = g.privilege_type)
    union all
    select 'setting ' || s.parname, g.privilege_type, 'parameter ' || s.parname
    from pg_parameter_acl s cross join aclexplode(s.paracl) g where g.grantee = 0");

pub(super) const QUERIES: &[Query] = &[SERVER, PRESETS, CREATORS, EVENT_TRIGGERS, CATALOGUE];

#[derive(Deserialize)]
struct Server {
    version: i32,
    row_security: String,
    replication_role: String,
    tenant: Option<String>,
}

#[derive(Deserialize)]
struct Preset {
    of: String,
    role: Option<String>,
    database: String,
    setting: String,
}

#[derive(Deserialize)]
struct Creator {
    role: String,
    database: String,
    public: bool,
}

#[derive(Deserialize)]
struct EventTrigger {
    name: String,
    owner: String,
}

#[derive(Deserialize)]
struct PublicGrant {
    object: String,
    privilege: String,
    target: String,
}

pub(super) fn check(facts: &Facts) -> Result<Vec<Finding>> {
    let mut findings: Vec<Finding> = facts.rows::<Server>(&SERVER)?.iter().flat_map(judge_server).collect();
    findings.extend(facts.rows::<Preset>(&PRESETS)?.iter().map(judge_preset));
    findings.extend(facts.rows::<Creator>(&CREATORS)?.iter().map(judge_creator));
    findings.extend(facts.rows::<EventTrigger>(&EVENT_TRIGGERS)?.iter().map(judge_event_trigger));
    findings.extend(facts.rows::<PublicGrant>(&CATALOGUE)?.iter().map(judge_public_grant));
    Ok(findings)
}

fn judge_server(server: &Server) -> Vec<Finding> {
    let mut findings = Vec::new();
    if server.version < OLDEST {
        findings.push(rule::SERVER_VERSION.broken(
            "server_version",
            format!("the server is PostgreSQL {}", server.version / 10_000),
            "upgrade to PostgreSQL 15 or newer; views need security_invoker, which older ones lack",
        ));
    }
    if server.row_security != "on" {
        findings.push(rule::SESSION_SETTINGS.broken(
            "row_security",
            format!("it is {}", server.row_security),
            "set row_security = on",
        ));
    }
    if server.replication_role != "origin" {
        findings.push(rule::SESSION_SETTINGS.broken(
            "session_replication_role",
            format!("it is {}: triggers and foreign keys do not fire", server.replication_role),
            "set session_replication_role = origin",
        ));
    }
    if server.tenant.as_deref().is_some_and(|tenant| !tenant.is_empty()) {
        findings.push(rule::SESSION_SETTINGS.broken(
            "tenantry.tenant_id",
            "an operator's session has a tenant: it is set outside a transaction, in postgresql.conf or in the connection's options",
            "remove tenantry.tenant_id from postgresql.conf and from the options of database.url",
        ));
    }
    findings
}

fn judge_preset(preset: &Preset) -> Finding {
    let name = preset.setting.split('=').next().unwrap_or_default();
    let database = &preset.database;
    let remedy = match &preset.role {
        Some(role) => {
            let role = super::facts::identifier(role);
            format!("alter role {role} in database {database} reset {name}; alter role {role} reset {name};")
        }
        None => format!("alter database {database} reset {name};"),
    };
    rule::SESSION_DEFAULTS.broken(name, format!("{} presets {}", preset.of, preset.setting), remedy)
}

fn judge_creator(creator: &Creator) -> Finding {
    let Creator { role, database, public } = creator;
    let from = if *public { "public" } else { role };
    rule::DATABASE_CREATE.broken(
        role,
        "may create schemas in the database",
        format!("revoke create on database {database} from {from};"),
    )
}

fn judge_event_trigger(trigger: &EventTrigger) -> Finding {
    let EventTrigger { name, owner } = trigger;
    rule::EVENT_TRIGGER.broken(
        name,
        format!("belongs to {owner}, which is no superuser"),
        format!("drop event trigger {name};"),
    )
}

fn judge_public_grant(grant: &PublicGrant) -> Finding {
    let PublicGrant { object, privilege, target } = grant;
    let remedy = format!("revoke {} on {target} from public;", privilege.to_lowercase());
    rule::CATALOGUE_PUBLIC.broken(object, format!("everybody has {privilege} on it"), remedy)
}

#[cfg(test)]
mod tests {
    use super::{Server, judge_server};

    #[test]
    fn an_old_server_is_refused() {
        let server =
            |version| Server { version, row_security: "on".into(), replication_role: "origin".into(), tenant: None };
        assert_eq!(judge_server(&server(140_015))[0].rule, "server-version");
        assert_eq!(judge_server(&server(150_000)), []);
    }
}
