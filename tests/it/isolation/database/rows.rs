//! A cannot see B, table by table.

use super::Session;
use crate::isolation::neighbours::Neighbours;

/// No privilege, and row-level security's own refusal.
const DENIED: &str = "42501";

/// Two tenants with rows in every table that has a `tenant_id`.
async fn furnished() -> (Neighbours, Vec<String>) {
    let neighbours = Neighbours::start().await;
    let mut superuser = Session::superuser(&neighbours.app).await;
    let tables = superuser.tenant_tables().await;
    assert!(tables.len() >= 8, "{tables:?}");
    for table in &tables {
        for tenant in [neighbours.a.id.to_string(), neighbours.b.id.to_string()] {
            furnish(&mut superuser, table, &tenant).await;
        }
    }
    superuser.run("analyze").await.unwrap();
    (neighbours, tables)
}

/// Rows of a table whose rows a job carries off: made up anew until they stay, locked, for as long as the session lives.
async fn held(neighbours: &Neighbours, table: &str) -> Session {
    let (mut maker, mut holder) =
        (Session::superuser(&neighbours.app).await, Session::superuser(&neighbours.app).await);
    loop {
        for tenant in [&neighbours.a, &neighbours.b] {
            furnish(&mut maker, table, &tenant.id.to_string()).await;
        }
        holder.run("begin").await.unwrap();
        let locked = format!(
            "select count(distinct tenant_id)::text from (select tenant_id from tenantry.{table} for share) held"
        );
        if holder.text(&locked).await.unwrap() == "2" {
            return holder;
        }
        holder.run("rollback").await.unwrap();
    }
}

/// Where nothing was done that would leave a row, one is made up from the types of the columns.
async fn furnish(superuser: &mut Session, table: &str, tenant: &str) {
    let count = format!("select count(*)::text from tenantry.{table} where tenant_id = '{tenant}'");
    let is_partition = format!("select relispartition::text from pg_class where oid = 'tenantry.{table}'::regclass");
    // Rows of a partition are its table's.
    if superuser.text(&is_partition).await.unwrap() == "true" || superuser.text(&count).await.unwrap() != "0" {
        return;
    }
    let columns = format!(
        "select quote_ident(attname) || '=' || case
             when attname = 'tenant_id' then quote_literal('{tenant}') || '::uuid'
             when atttypid = 'uuid'::regtype then 'gen_random_uuid()'
             when atttypid = 'bytea'::regtype then 'sha256(gen_random_uuid()::text::bytea)'
             when atttypid in ('timestamptz'::regtype, 'date'::regtype) then 'now() + interval ''1 day'''
             when atttypid in ('json'::regtype, 'jsonb'::regtype) then quote_literal('{{}}')
             when typcategory = 'A' then quote_literal('{{}}')
             when typcategory = 'N' then '1'
             when typcategory = 'B' then 'true'
             else quote_literal('example') end
         from pg_attribute join pg_type on pg_type.oid = atttypid
         where attrelid = 'tenantry.{table}'::regclass and attnum > 0 and not attisdropped and attnotnull and not atthasdef
           and attidentity = '' and attgenerated = ''"
    );
    let columns = superuser.rows(&columns).await.unwrap();
    let (names, values): (Vec<_>, Vec<_>) = columns.iter().map(|column| column.split_once('=').unwrap()).unzip();
    let insert = format!("insert into tenantry.{table} ({}) values ({})", names.join(", "), values.join(", "));
    let done = superuser.run(&format!("begin; set local session_replication_role = replica; {insert}; commit")).await;
    done.unwrap_or_else(|code| {
        panic!("no row of {table} could be made up ({code}): let tests/it/isolation/neighbours.rs leave one. {insert}")
    });
}

#[tokio::test]
async fn a_session_of_one_tenant_sees_its_own_rows_and_no_others_in_every_table() {
    let (neighbours, tables) = furnished().await;
    let (a, b) = (neighbours.a.id.to_string(), neighbours.b.id.to_string());
    let _held = [held(&neighbours, "usage_inbox").await, held(&neighbours, "usage_alert_looks").await];
    let mut login = Session::login(&neighbours.app).await;
    let (mut seen, mut closed) = (0, Vec::new());
    for table in &tables {
        let select = |what: &str| format!("select {what} from tenantry.{table}");
        match login.attempt(Some(&b), &select("count(*)::text")).await {
            Err(code) => {
                assert_eq!(code, DENIED, "{table}");
                closed.push(table);
                continue;
            }
            Ok(count) => assert_ne!(count, ["0"], "B does not see its own rows of {table}"),
        }
        seen += 1;
        assert_eq!(
            login.attempt(Some(&b), &select("distinct tenant_id::text")).await.unwrap(),
            std::slice::from_ref(&b),
            "{table}"
        );
        for sql in [
            format!("{} where tenant_id = '{a}'", select("1::text")),
            format!("{} where tenant_id <> '{b}' or true and tenant_id = '{a}'", select("1::text")),
            format!("{} tablesample system (100) where tenant_id = '{a}'", select("1::text")),
            format!("select 1::text from (table tenantry.{table}) t where t.tenant_id = '{a}'"),
            format!("with t as materialized (table tenantry.{table}) select 1::text from t where tenant_id = '{a}'"),
            format!("select 1::text where exists (select from tenantry.{table} where tenant_id = '{a}')"),
            format!(
                "select 1::text from tenantry.{table} t right join (values ('{a}'::uuid)) v(id) on t.tenant_id = v.id where t.tenant_id is not null"
            ),
        ] {
            assert_eq!(login.attempt(Some(&b), &sql).await.unwrap(), Vec::<String>::new(), "{sql}");
        }
    }
    println!("tables: {seen} with rows of B alone, closed to tenants: {closed:?}");
    assert!(seen >= 7, "only {seen} tables were seen");
}

#[tokio::test]
async fn no_session_of_one_tenant_writes_rows_of_another_in_any_table() {
    let (neighbours, tables) = furnished().await;
    let (a, b) = (neighbours.a.id.to_string(), neighbours.b.id.to_string());
    let _held = held(&neighbours, "usage_alert_looks").await;
    let mut login = Session::login(&neighbours.app).await;
    let mut superuser = Session::superuser(&neighbours.app).await;
    for table in &tables {
        let columns = format!(
            "select string_agg(quote_ident(attname), ', ') from pg_attribute where attrelid = 'tenantry.{table}'::regclass
               and attnum > 0 and not attisdropped and attgenerated = '' and attname <> 'tenant_id'"
        );
        let columns = superuser.text(&columns).await.unwrap();
        let rows = format!(
            "select md5(string_agg(t::text, '|' order by t::text)) from tenantry.{table} t where tenant_id = '{a}'"
        );
        let before = superuser.text(&rows).await.unwrap();

        // A row in A's name. Row-level security speaks before unique constraints do, so a key that A has shows nothing.
        let source = login.attempt(Some(&b), &format!("select 1::text from tenantry.{table} limit 1")).await.is_ok();
        let copy = format!(
            "insert into tenantry.{table} (tenant_id, {columns}) overriding system value select '{a}', {columns} from tenantry.{table} limit 1"
        );
        if source {
            assert_eq!(login.attempt(Some(&b), &copy).await, Err(DENIED.to_owned()), "{copy}");
        }
        let default = format!("insert into tenantry.{table} (tenant_id) values ('{a}')");
        let refused = login.attempt(Some(&b), &default).await.unwrap_err();
        // Triggers come first, and then what must not be null.
        assert!([DENIED, "TY001", "23502"].contains(&refused.as_str()), "{default}: {refused}");

        // B's own row given away; triggers come before the policy.
        let given =
            login.attempt(Some(&b), &format!("update tenantry.{table} set tenant_id = '{a}'")).await.unwrap_err();
        assert!([DENIED, "TY001", "TY002"].contains(&given.as_str()), "{table}: {given}");

        // A's row, by its id: nothing there, or no right at all.
        for sql in [
            format!("update tenantry.{table} set tenant_id = '{b}' where tenant_id = '{a}' returning 1::text"),
            format!("update tenantry.{table} set tenant_id = tenant_id where tenant_id <> '{b}' returning 1::text"),
            format!("delete from tenantry.{table} where tenant_id = '{a}' returning 1::text"),
            format!("select 1::text from tenantry.{table} where tenant_id = '{a}' for update"),
            format!(
                "merge into tenantry.{table} t using (values ('{a}'::uuid)) v(id) on t.tenant_id = v.id when matched then delete"
            ),
        ] {
            match login.attempt(Some(&b), &sql).await {
                Ok(rows) => assert!(rows.is_empty(), "{sql}"),
                Err(code) => assert_eq!(code, DENIED, "{sql}"),
            }
        }
        assert_eq!(
            login.attempt(Some(&b), &format!("truncate tenantry.{table}")).await,
            Err(DENIED.to_owned()),
            "{table}"
        );
        assert_eq!(superuser.text(&rows).await.unwrap(), before, "{table}");
    }
}

#[tokio::test]
async fn the_login_role_has_no_right_outside_a_session() {
    let (neighbours, _) = furnished().await;
    let mut login = Session::login(&neighbours.app).await;
    let relations = Session::superuser(&neighbours.app).await.relations().await;
    assert!(relations.len() >= 11, "{relations:?}");
    for relation in &relations {
        for sql in [
            format!("select 1::text from tenantry.{relation}"),
            format!("select count(*)::text from tenantry.{relation} where false"),
            format!("insert into tenantry.{relation} default values"),
            format!("delete from tenantry.{relation}"),
            format!("truncate tenantry.{relation}"),
            format!("copy tenantry.{relation} to stdout"),
        ] {
            assert_eq!(login.rows(&sql).await, Err(DENIED.to_owned()), "{sql}");
        }
    }
    let owned = "select count(*)::text from pg_class where relowner = current_user::regrole";
    assert_eq!(login.text(owned).await.unwrap(), "0");
}

#[tokio::test]
async fn a_session_that_names_no_tenant_gets_an_error_and_no_rows() {
    let (neighbours, tables) = furnished().await;
    let b = neighbours.b.id.to_string();
    for table in &tables {
        let mut login = Session::login(&neighbours.app).await;
        let sql = format!("select count(*)::text from tenantry.{table}");
        let mut refused = async |tenant: Option<&str>, expected: &str| {
            let code = login.attempt(tenant, &sql).await.expect_err("rows without a tenant");
            assert!([expected, DENIED].contains(&code.as_str()), "{table} for {tenant:?}: {code}");
        };
        refused(None, "42704").await;
        for nonsense in ["", "*", "null", "'' or true --"] {
            refused(Some(nonsense), "22P02").await;
        }
        // Set in a transaction that ended, it is the empty text.
        login.enter(Some(&b)).await;
        login.run("commit").await.unwrap();
        assert!(["22P02", DENIED].contains(&login.attempt(None, &sql).await.unwrap_err().as_str()), "{table}");
    }
}

#[tokio::test]
async fn rolling_back_to_a_savepoint_reverts_the_tenant() {
    let (neighbours, _) = furnished().await;
    let (a, b) = (neighbours.a.id.to_string(), neighbours.b.id.to_string());
    let mut login = Session::login(&neighbours.app).await;
    let own = "select string_agg(tenant_id::text, ' ') from tenantry.tenants";
    login.enter(Some(&b)).await;
    login.run(&format!("savepoint one; set local tenantry.tenant_id = '{a}'")).await.unwrap();
    assert_eq!(login.text(own).await.unwrap(), a);
    login.run("rollback to savepoint one").await.unwrap();
    assert_eq!(login.text(own).await.unwrap(), b);
    // The role reverts with it, to one that has no right.
    login.run("rollback; begin; savepoint two").await.unwrap();
    login.run(&format!("set local role tenantry_tenant; set local tenantry.tenant_id = '{b}'")).await.unwrap();
    assert_eq!(login.text(own).await.unwrap(), b);
    login.run("rollback to savepoint two").await.unwrap();
    assert_eq!(login.text(own).await, Err(DENIED.to_owned()));
}
