//! What a thief of a tenant's session tries next.

use super::Session;
use crate::isolation::neighbours::Neighbours;

const DENIED: &str = "42501";

#[tokio::test]
async fn a_tenants_session_cannot_become_more_than_it_is() {
    let neighbours = Neighbours::start().await;
    let b = neighbours.b.id.to_string();
    let mut login = Session::login(&neighbours.app).await;
    let statements = [
        // Other roles.
        "set role tenantry_owner",
        "set role postgres",
        "set local role tenantry_owner",
        "set session authorization tenantry_owner",
        "set session authorization postgres",
        "set session authorization tenantry_tenant",
        "grant tenantry_owner to tenantry_tenant",
        "alter role tenantry_tenant bypassrls",
        "alter role tenantry_login superuser",
        "create role thief login",
        // Policies and owners.
        "alter table tenantry.tenants disable row level security",
        "alter table tenantry.tenants no force row level security",
        "alter table tenantry.tenants owner to tenantry_tenant",
        "drop policy tenant_isolation on tenantry.tenants",
        "create policy thief on tenantry.tenants using (true)",
        "alter policy tenant_isolation on tenantry.tenants using (true)",
        "alter table tenantry.tenants disable trigger all",
        "create trigger thief before update on tenantry.tenants for each row execute function tenantry.refuse_change()",
        "create rule thief as on update to tenantry.tenants do instead nothing",
        "reassign owned by tenantry_owner to tenantry_tenant",
        "drop owned by tenantry_owner",
        "set session_replication_role = replica",
        // Something that lasts, for others to run into.
        "create schema thief",
        "create table tenantry.thief (id int)",
        "create table public.thief (id int)",
        "create function tenantry.thief() returns int language sql return 1",
        "create function public.thief() returns int language sql return 1",
        "create view tenantry.thief as select 1",
        "create extension dblink",
        "alter database postgres set role = 'postgres'",
        "alter role tenantry_login set role = 'tenantry_owner'",
        "alter role tenantry_login set tenantry.tenant_id = 'x'",
        // The machine, and what the catalogue keeps about rows.
        "copy (select 1) to program 'true'",
        "copy (select 1) to '/tmp/thief'",
        "select pg_read_file('/etc/passwd')",
        "select pg_ls_dir('.')::text",
        "select lo_import('/etc/passwd')::text",
        "select 1::text from pg_authid",
        "select 1::text from pg_statistic",
        "select 1::text from pg_user_mapping",
        "select pg_reload_conf()::text",
        "load 'auto_explain'",
    ];
    let mut open = Vec::new();
    for sql in statements {
        let refused = login.attempt(Some(&b), sql).await;
        if refused != Err(DENIED.to_owned()) {
            open.push((sql, refused));
        }
    }
    assert!(open.is_empty(), "not refused for want of a right: {open:#?}");
    // By itself the login is no more.
    for sql in [
        "set role tenantry_owner",
        "set session authorization tenantry_owner",
        "create schema thief",
        "create table public.thief (id int)",
        "alter system set row_security = off",
    ] {
        assert_eq!(login.run(sql).await, Err(DENIED.to_owned()), "{sql}");
    }
}

#[tokio::test]
async fn switching_row_security_off_is_an_error_and_shows_nothing() {
    let neighbours = Neighbours::start().await;
    let b = neighbours.b.id.to_string();
    let mut login = Session::login(&neighbours.app).await;
    for table in login_tables(&neighbours).await {
        login.enter(Some(&b)).await;
        login.run("set local row_security = off").await.unwrap();
        let refused = login.rows(&format!("select 1::text from tenantry.{table}")).await;
        assert_eq!(refused, Err(DENIED.to_owned()), "{table}");
    }
}

#[tokio::test]
async fn the_catalogue_tells_a_tenant_nothing_of_values_and_of_other_sessions() {
    let neighbours = Neighbours::start().await;
    let b = neighbours.b.id.to_string();
    Session::superuser(&neighbours.app).await.run("analyze").await.unwrap();
    let mut login = Session::login(&neighbours.app).await;
    let statistics = "select count(*)::text from pg_stats where schemaname = 'tenantry' and tablename in
        (select relname from pg_class c join pg_attribute a on a.attrelid = c.oid where a.attname = 'tenant_id' and c.relrowsecurity)";
    assert_eq!(login.attempt(Some(&b), statistics).await.unwrap(), ["0"]);
    let queries =
        "select count(*)::text from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
        and query not in ('', '<insufficient privilege>') and backend_type = 'client backend'";
    assert_eq!(login.attempt(Some(&b), queries).await.unwrap(), ["0"]);
}

async fn login_tables(neighbours: &Neighbours) -> Vec<String> {
    let tables = Session::superuser(&neighbours.app).await.tenant_tables().await;
    assert!(tables.len() >= 8, "{tables:?}");
    tables
}

/// Functions of the session's own, made to look cheap so that the planner would ask them first: each notes what it is shown.
const SPIES: &str = "
    create temp table seen (tenant text);
    create function pg_temp.spy(uuid, text) returns boolean language plpgsql cost 0.0000001 as
      $$ begin insert into pg_temp.seen values ($1::text); return true; end $$;
    create function pg_temp.spy(text) returns uuid language plpgsql immutable cost 0.0000001 as
      $$ begin return '{a}'; end $$;
    create function pg_temp.same(uuid, uuid) returns boolean language plpgsql cost 0.0000001 as
      $$ begin insert into pg_temp.seen values ($1::text); return true; end $$;
    create operator pg_temp.= (leftarg = uuid, rightarg = uuid, function = pg_temp.same);
    create function pg_temp.current_setting(text) returns text language sql as $$ select '{a}'::text $$;
    create function pg_temp.current_setting(text, boolean) returns text language sql as $$ select '{a}'::text $$;
    create temp table tenants (like tenantry.tenants);";

#[tokio::test]
async fn functions_and_operators_of_the_sessions_own_see_no_foreign_row() {
    let neighbours = Neighbours::start().await;
    let (a, b) = (neighbours.a.id.to_string(), neighbours.b.id.to_string());
    let mut login = Session::login(&neighbours.app).await;
    for path in ["pg_catalog", "pg_temp, pg_catalog, tenantry", "tenantry, pg_temp, pg_catalog", "pg_temp"] {
        login.enter(Some(&b)).await;
        match login.run(&SPIES.replace("{a}", &a)).await {
            Ok(_) => {}
            Err(code) => {
                // A database that grants nobody TEMP is safer still.
                assert_eq!(code, DENIED);
                continue;
            }
        }
        login.run(&format!("set local search_path = {path}")).await.unwrap();
        for sql in [
            "select count(*)::text from tenantry.tenants where pg_temp.spy(tenant_id, name)",
            "select count(*)::text from tenantry.tenants where pg_temp.spy(tenant_id, name) and tenant_id operator(pg_temp.=) tenant_id",
            "select count(*)::text from tenantry.tenants t join tenantry.journal j on pg_temp.same(t.tenant_id, j.tenant_id)",
            "select count(*)::text from tenantry.journal where pg_temp.spy(tenant_id, event) or tenant_id = pg_temp.spy('x')",
            "select count(*)::text from (select tenant_id, name from tenantry.tenants offset 0) t where pg_temp.spy(tenant_id, name)",
            "select (count(*) filter (where pg_temp.spy(tenant_id, name)))::text from tenantry.tenants",
            "with changed as (update tenantry.tenants set updated_at = updated_at, version = version + 1 where pg_temp.spy(tenant_id, name) returning 1)
               select count(*)::text from changed",
            "select count(*)::text from tenantry.tenants where pg_temp.spy(tenant_id, name) limit all",
        ] {
            let count = login.text(sql).await.unwrap_or_else(|code| panic!("{code}: {sql}"));
            assert_ne!(count, "0", "{sql}");
        }
        let shown = login.rows("select distinct tenant from pg_temp.seen").await.unwrap();
        assert_eq!(shown, std::slice::from_ref(&b), "with search_path {path}");
        // The names of another's tables do not catch what is written with a schema, as all of the server's statements are.
        assert_eq!(login.rows("select tenant_id::text from tenantry.tenants").await.unwrap(), std::slice::from_ref(&b));
        assert_eq!(login.text("select count(*)::text from pg_temp.tenants").await.unwrap(), "0");
    }
}

#[tokio::test]
async fn errors_in_conditions_tell_nothing_of_foreign_rows() {
    let neighbours = Neighbours::start().await;
    let (a, b) = (neighbours.a.id.to_string(), neighbours.b.id.to_string());
    let mut login = Session::login(&neighbours.app).await;
    // Each would fail on A's row, were it looked at.
    for condition in [
        format!("1 / (case when tenant_id = '{a}' then 0 else 1 end) = 1"),
        format!("(case when slug = '{}' then 'x' else '1' end)::int = 1", neighbours.a.slug),
        format!("case when name = '{}' then 1 / (length(name) - length(name)) else 1 end = 1", neighbours.a.canary),
    ] {
        let sql = format!("select tenant_id::text from tenantry.tenants where {condition}");
        assert_eq!(login.attempt(Some(&b), &sql).await, Ok(vec![b.clone()]), "{sql}");
    }
}
