use serde::Deserialize;

use super::{
    Finding, OPERATOR, OWNER, TENANT,
    facts::{Facts, Query, identifier},
    rule,
};
use crate::error::Result;

const ROLES: Query = Query(
    "roles.roles",
    "
    select rolname as name, is_login, rolcanlogin as logs_in, rolsuper as superuser, rolbypassrls as bypassrls,
        concat_ws(', ', case when rolcreaterole then 'CREATEROLE' end, case when rolcreatedb then 'CREATEDB' end,
            case when rolreplication then 'REPLICATION' end) as attributes
    from principal",
);

/// Up: whose rights the roles have, or can take. PostgreSQL 16 keeps `inherit` and `set` per membership, 15 per role.
const MEMBERSHIPS: Query = Query(
    "roles.memberships",
    "
    select up.name, bool_or(up.is_login) as is_login, g.rolname as of, bool_or(up.direct) as direct,
        bool_or(up.inherits) as inherits, bool_or(up.settable) as settable, bool_or(up.admin) as admin,
        current_setting('server_version_num')::int >= 160000 as per_membership
    from (
        with recursive up as (
            select p.rolname as name, p.is_login, m.roleid, true as direct, m.admin_option as admin,
                coalesce((to_jsonb(m) ->> 'inherit_option')::bool, p.rolinherit) as inherits,
                coalesce((to_jsonb(m) ->> 'set_option')::bool, true) as settable
            from principal p join pg_auth_members m on m.member = p.oid
            union
            select up.name, up.is_login, m.roleid, false, m.admin_option, false, false
            from up join pg_auth_members m on m.member = up.roleid
        ) select * from up
    ) up join pg_roles g on g.oid = up.roleid
    group by up.name, g.rolname order by up.name, g.rolname",
);

/// Down: who can become one of the roles. Allowed are superusers, who may anyway; roles with CREATEROLE, who made them; and
/// other login roles of Tenantry, because roles belong to the whole cluster and another database may have its own.
const MEMBERS: Query = Query(
    "roles.members",
    "
    select r.rolname as member, string_agg(distinct quote_ident(down.root), ', ') as of
    from (
        with recursive down as (
            select p.rolname as root, m.member from principal p join pg_auth_members m on m.roleid = p.oid
            union
            select down.root, m.member from down join pg_auth_members m on m.roleid = down.member
        ) select * from down
    ) down join pg_roles r on r.oid = down.member
    where r.oid not in (select oid from principal) and not r.rolsuper and not r.rolcreaterole
    and not (
        down.root in ('tenantry_tenant', 'tenantry_operator') and r.rolcanlogin and 2 = (
            select count(distinct g.rolname) from pg_auth_members m join pg_roles g on g.oid = m.roleid
            where m.member = r.oid and g.rolname in ('tenantry_tenant', 'tenantry_operator')
            and not coalesce((to_jsonb(m) ->> 'inherit_option')::bool, r.rolinherit)))
    group by r.rolname",
);

/// What the roles own here, and what was granted to them where it should not be. `pg_shdepend` has an index by role.
const HOLDINGS: Query = Query("roles.holdings", "
    select p.rolname as role, s.deptype = 'o' as owned, pg_describe_object(s.classid, s.objid, s.objsubid) as object
    from principal p
    join pg_shdepend s on s.refclassid = 'pg_authid'::regclass and s.refobjid = p.oid
    where p.rolname <> 'tenantry_owner'
    and (s.dbid in (0, (select oid from pg_database where datname = current_database())))
    and case s.deptype
        when 'o' then s.dbid <> 0 or s.classid = 'pg_database'::regclass and s.objid = (select oid from pg_database where datname = current_database())
        when 'a' then s.classid <> 'pg_database'::regclass and (p.is_login or not (
            s.classid = 'pg_class'::regclass and s.objid in (select oid from relation)
            or s.classid = 'pg_proc'::regclass and s.objid in (select oid from function)
            or s.classid = 'pg_namespace'::regclass and s.objid = (select oid from pg_namespace where nspname = 'tenantry')
            or s.classid = 'pg_default_acl'::regclass))
        else false end
    order by 1, 3");

pub(super) const QUERIES: &[Query] = &[ROLES, MEMBERSHIPS, MEMBERS, HOLDINGS];

#[derive(Deserialize)]
struct Role {
    name: String,
    is_login: bool,
    logs_in: bool,
    superuser: bool,
    bypassrls: bool,
    attributes: String,
}

#[derive(Deserialize)]
struct Membership {
    name: String,
    is_login: bool,
    of: String,
    direct: bool,
    inherits: bool,
    settable: bool,
    admin: bool,
    /// Whether this PostgreSQL keeps `inherits` with the membership, not with the member.
    per_membership: bool,
}

#[derive(Deserialize)]
struct Member {
    member: String,
    of: String,
}

#[derive(Deserialize)]
struct Holding {
    role: String,
    owned: bool,
    object: String,
}

pub(super) fn check(facts: &Facts) -> Result<Vec<Finding>> {
    let roles: Vec<Role> = facts.rows(&ROLES)?;
    let memberships: Vec<Membership> = facts.rows(&MEMBERSHIPS)?;
    let mut findings = judge_presence(&roles, &facts.login);
    findings.extend(roles.iter().flat_map(judge_attributes));
    findings.extend(judge_login(&memberships, &facts.login));
    findings.extend(memberships.iter().filter(|membership| !membership.is_login).map(judge_membership));
    findings.extend(facts.rows::<Member>(&MEMBERS)?.iter().map(judge_member));
    findings.extend(facts.rows::<Holding>(&HOLDINGS)?.iter().map(judge_holding));
    Ok(findings)
}

fn judge_presence(roles: &[Role], login: &str) -> Vec<Finding> {
    let missing =
        [login, OWNER, TENANT, OPERATOR].into_iter().filter(|name| !roles.iter().any(|role| role.name == *name));
    missing.map(|name| rule::ROLE_MISSING.broken(name, "there is no such role", "tenantry migrate")).collect()
}

fn judge_attributes(role: &Role) -> Vec<Finding> {
    let name = identifier(&role.name);
    let mut findings = Vec::new();
    if role.superuser {
        findings.push(rule::ROLE_SUPERUSER.broken(
            &role.name,
            "is a superuser",
            format!("alter role {name} nosuperuser;"),
        ));
    }
    if role.bypassrls {
        findings.push(rule::ROLE_BYPASSRLS.broken(
            &role.name,
            "has BYPASSRLS",
            format!("alter role {name} nobypassrls;"),
        ));
    }
    if !role.attributes.is_empty() {
        let problem = format!("has {}", role.attributes);
        findings.push(rule::ROLE_ATTRIBUTES.broken(
            &role.name,
            problem,
            format!("alter role {name} nocreaterole nocreatedb noreplication;"),
        ));
    }
    if role.logs_in && !role.is_login {
        findings.push(rule::ROLE_LOGIN.broken(&role.name, "can log in", format!("alter role {name} nologin;")));
    }
    findings
}

fn judge_login(memberships: &[Membership], login: &str) -> Vec<Finding> {
    let name = identifier(login);
    let of_login = || memberships.iter().filter(|membership| membership.is_login);
    let missing =
        [TENANT, OPERATOR].into_iter().filter(|role| !of_login().any(|m| m.of == **role && m.direct && m.settable));
    let mut findings: Vec<_> = missing
        .map(|role| {
            rule::LOGIN_MEMBERSHIPS.broken(login, format!("cannot become {role}"), format!("grant {role} to {name};"))
        })
        .collect();
    for membership in of_login() {
        let of = identifier(&membership.of);
        if ![TENANT, OPERATOR].contains(&membership.of.as_str()) {
            let how = if membership.direct { "is a member of" } else { "is through another role a member of" };
            let remedy = format!("revoke {of} from {name}; -- or from the role in between");
            findings.push(rule::LOGIN_MEMBERSHIPS.broken(login, format!("{how} {}", membership.of), remedy));
        } else if membership.admin {
            let problem = format!("may grant {} to others", membership.of);
            findings.push(rule::LOGIN_MEMBERSHIPS.broken(
                login,
                problem,
                format!("revoke admin option for {of} from {name};"),
            ));
        }
        if membership.inherits {
            let problem = format!("has the rights of {} without a session", membership.of);
            let remedy = match membership.per_membership {
                true => format!("grant {of} to {name} with inherit false;"),
                false => format!("alter role {name} noinherit;"),
            };
            findings.push(rule::LOGIN_INHERITS.broken(login, problem, remedy));
        }
    }
    findings
}

fn judge_membership(membership: &Membership) -> Finding {
    let remedy = format!("revoke {} from {};", identifier(&membership.of), identifier(&membership.name));
    rule::ROLE_MEMBERSHIPS.broken(&membership.name, format!("is a member of {}", membership.of), remedy)
}

fn judge_member(member: &Member) -> Finding {
    let remedy = format!("revoke {} from {}; -- or from the role in between", member.of, identifier(&member.member));
    rule::ROLE_MEMBERS.broken(&member.member, format!("can become {}", member.of), remedy)
}

fn judge_holding(holding: &Holding) -> Finding {
    let Holding { role, owned, object } = holding;
    let name = identifier(role);
    if *owned {
        return rule::ROLE_OWNS.broken(role, format!("owns {object}"), format!("reassign owned by {name} to {OWNER};"));
    }
    rule::ROLE_GRANTS.broken(
        role,
        format!("has grants of its own on {object}"),
        format!("revoke all on {object} from {name};"),
    )
}
