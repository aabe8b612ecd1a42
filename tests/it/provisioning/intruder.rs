//! A tenant's own role, let loose on another tenant's things.

use sea_orm::{ConnectionTrait as _, DatabaseConnection};
use serde_json::json;

use super::{
    ON, active,
    clusters::{Cluster, connect, register, stem, texts},
    create, events, eventually,
};
use crate::support::TestApp;

/// What A's role tries: A is `"A"`, B `"B"`. All is refused, and says nothing of what is there.
const ATTEMPTS: &[&str] = &[
    "select * from \"B\".secrets",
    "table \"B\".secrets",
    "insert into \"B\".secrets values ('forged')",
    "update \"B\".secrets set text = 'forged'",
    "delete from \"B\".secrets",
    "truncate \"B\".secrets",
    "merge into \"B\".secrets s using (select 1) o on true when matched then delete",
    "lock table \"B\".secrets",
    "drop table \"B\".secrets",
    "drop schema \"B\" cascade",
    "alter schema \"B\" rename to taken",
    "alter table \"B\".secrets owner to \"A\"",
    "alter table \"B\".secrets set schema \"A\"",
    "create table \"B\".planted (id int)",
    "create view \"A\".window_to_b as select * from \"B\".secrets",
    "create table \"A\".child () inherits (\"B\".secrets)",
    "create table \"A\".reference (id text references \"B\".secrets (text))",
    "create function \"B\".planted() returns int language sql as 'select 1'",
    "create trigger planted after insert on \"B\".secrets execute function pg_catalog.suppress_redundant_updates_trigger()",
    "comment on schema \"B\" is 'mine'",
    "grant usage on schema \"B\" to \"A\"",
    "grant all on \"B\".secrets to \"A\"",
    "grant \"B\" to \"A\"",
    "grant \"A\" to \"B\"",
    "grant \"B_a\" to \"A_a\"",
    "set role \"B\"",
    "set role \"B_a\"",
    "set session authorization \"B_a\"",
    "alter role \"B_a\" password 'mine'",
    "alter role \"B_a\" set search_path = 'A'",
    "alter role \"A_a\" connection limit -1",
    "alter role \"A_a\" valid until 'infinity'",
    "alter role \"A\" createrole",
    "alter role \"A_a\" superuser",
    "drop role \"B_b\"",
    "drop owned by \"B\"",
    "reassign owned by \"B\" to \"A\"",
    "alter default privileges for role \"B\" grant all on tables to \"A\"",
    "select \"B\".told()",
    "select nextval('\"B\".counter')",
    "select pg_catalog.pg_relation_size('\"B\".secrets') from \"B\".secrets",
    "analyze \"B\".secrets; select * from \"B\".secrets limit 1",
    "copy \"B\".secrets to '/tmp/stolen'",
    "copy (select 1) to program 'id'",
    "select pg_read_file('PG_VERSION')",
    "select rolpassword from pg_authid",
    "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'B_a' union all select pg_ls_dir('.')::bool",
    "create schema planted",
    "create table public.planted (id int)",
    "create role planted",
    "create database planted",
    "create extension pg_trgm",
    "create event trigger planted on ddl_command_start execute function pg_catalog.suppress_redundant_updates_trigger()",
    "create server planted foreign data wrapper postgres_fdw",
    "alter system set work_mem = '1GB'",
    "set session_replication_role = replica",
    "grant usage on schema \"A\" to public with grant option; select 1/0",
    "drop schema \"A\" cascade",
    "alter schema \"A\" owner to \"A\"",
];

/// Reads that PostgreSQL answers with what the reader may see: of B's, nothing.
const LISTS: &[&str] = &[
    "select table_name::text from information_schema.tables where table_schema = 'B'",
    "select column_name::text from information_schema.columns where table_schema = 'B'",
    "select schema_name::text from information_schema.schemata where schema_name = 'B'",
    "select most_common_vals::text from pg_stats where schemaname = 'B'",
    "select query from pg_stat_activity where usename like 'B%' and query <> '<insufficient privilege>'",
];

fn named(statement: &str, a: &str, b: &str) -> String {
    let quoted = statement.replace("\"A", &format!("\"{a}")).replace("\"B", &format!("\"{b}"));
    quoted.replace("'B", &format!("'{b}"))
}

async fn prepare(owner: &DatabaseConnection, stem: &str) {
    let make = format!(
        "create table secrets (text text primary key); insert into secrets values ('of {stem}');
         create sequence counter; create function told() returns text language sql as 'select text from secrets'"
    );
    owner.execute_unprepared(&make).await.unwrap();
}

async fn try_everything(intruder: &DatabaseConnection, a: &str, b: &str) {
    for attempt in ATTEMPTS {
        let statement = named(attempt, a, b);
        let refused = intruder.execute_unprepared(&statement).await;
        let Err(error) = refused else { panic!("A may: {attempt}") };
        let text = error.to_string();
        assert!(!text.contains("of t_"), "a refusal shows a secret: {attempt}: {text}");
    }
}

async fn list_everything(intruder: &DatabaseConnection, a: &str, b: &str) {
    for list in LISTS {
        assert_eq!(texts(intruder, &named(list, a, b)).await, [""; 0], "{list}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_own_role_reaches_nothing_of_another_tenants() {
    let app = TestApp::with(ON).await;
    let admin = app.admin().await;
    let (a, b, large) = tokio::join!(
        create(&admin, "intruder", "STANDARD"),
        create(&admin, "victim", "STANDARD"),
        create(&admin, "large", "ENTERPRISE")
    );
    for tenant in [a, b, large] {
        active(&admin, tenant).await;
    }
    let (a, b, large) = (stem(a), stem(b), stem(large));
    let intruder = connect(&app.database.cell_url_of(&format!("{a}_a"))).await.unwrap();
    let victim = connect(&app.database.cell_url_of(&format!("{b}_a"))).await.unwrap();
    prepare(&intruder, &a).await;
    prepare(&victim, &b).await;
    assert_eq!(texts(&intruder, "select told()").await, [format!("of {a}")], "its own it has");
    list_everything(&intruder, &a, &b).await;
    try_everything(&intruder, &a, &b).await;
    // Even what B itself grants leads nowhere: the schema stays shut.
    victim.execute_unprepared(&format!("grant select on secrets to \"{a}\", public")).await.unwrap();
    try_everything(&intruder, &a, &b).await;

    let own = |database: &str, user: &str| {
        app.database
            .superuser_url()
            .replace(&app.database.name, database)
            .replace("user=postgres", &format!("user={user}"))
    };
    let roomy = connect(&own(&large, &format!("{large}_a"))).await.unwrap();
    prepare(&roomy, &large).await;
    let refused = [
        ("a dedicated database", own(&large, &format!("{a}_a"))),
        ("the registry", app.database.url_of(&format!("{a}_a"))),
        ("its role, which has no login", app.database.cell_url_of(&a)),
    ];
    for (what, url) in refused {
        assert!(connect(&url).await.is_err(), "A connects to {what}");
    }
    // A dedicated tenant may come to the shared database, and finds it as shut as everybody.
    let visitor = connect(&app.database.cell_url_of(&format!("{large}_a"))).await.unwrap();
    assert!(visitor.execute_unprepared(&format!("select * from \"{b}\".secrets")).await.is_err());
    visitor.execute_unprepared("create table stray (id int)").await.unwrap_err();

    // Without its role, a login is nobody.
    intruder.execute_unprepared("set role none").await.unwrap();
    assert!(intruder.execute_unprepared(&format!("select * from \"{a}\".secrets")).await.is_err());
    assert!(intruder.execute_unprepared(&format!("select * from \"{b}\".secrets")).await.is_err());
    assert_eq!(texts(&victim, "select text from secrets").await, [format!("of {b}")], "B's is untouched");
    assert_eq!(texts(&roomy, "select text from secrets").await, [format!("of {large}")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_intruders_role_tries_is_in_its_journal_once_and_without_a_word_of_it() {
    let settings = ON.replace("[cells]", "[cells]\nown = false");
    let app = TestApp::with(&settings).await;
    let admin = app.admin().await;
    let cluster = Cluster::with_log();
    let cell = register(&admin, "told", "STANDARD", &cluster.url("postgres", "postgres")).await;
    let other = app.replica(&settings).await;
    let (a, b) = (create(&admin, "intruder", "STANDARD").await, create(&admin, "victim", "STANDARD").await);
    for tenant in [a, b] {
        active(&admin, tenant).await;
    }
    let visible = "{ cells { id denialsVisible denialsHiddenReason } }";
    let seen = admin.ok(visible, json!({})).await["cells"][0].clone();
    assert_eq!(seen, json!({ "id": cell["id"], "denialsVisible": true, "denialsHiddenReason": null }));
    // The first look finds out where the log ends.
    app.app.provisioning.collect_denials().await.unwrap();

    let intruder = cluster.connect("postgres", &format!("{}_a", stem(a))).await;
    for _ in 0..3 {
        let attempt = format!("select 'of-no-concern' from \"{}\".secrets", stem(b));
        intruder.execute_unprepared(&attempt).await.unwrap_err();
    }
    intruder.execute_unprepared("create role planted").await.unwrap_err();
    let wrong = format!("{}_a", stem(b));
    connect(&cluster.url("nowhere", &wrong)).await.unwrap_err();
    // PostgreSQL writes its log a little later than it answers. Two servers look, and one of them tells.
    let told = "select coalesce(sum((after ->> 'times')::int), 0)::text from tenantry.journal where event = 'DataplaneAccessDenied'";
    let journal = app.database.superuser().await;
    eventually("all five are told", async || {
        let (one, two) = tokio::join!(app.app.provisioning.collect_denials(), other.app.provisioning.collect_denials());
        assert!(one.is_ok() && two.is_ok());
        (texts(&journal, told).await == ["5"]).then_some(())
    })
    .await;
    app.app.provisioning.collect_denials().await.unwrap();
    let query = "query($id: ID!) { audit(tenantId: $id, first: 100) { edges { node { event after } } } }";
    let entries = async |tenant| {
        let found = admin.ok(query, json!({ "id": tenant })).await;
        let edges = found["audit"]["edges"].as_array().unwrap().clone();
        let mut all: Vec<_> = edges
            .into_iter()
            .filter(|edge| edge["node"]["event"] == "DataplaneAccessDenied")
            .map(|edge| edge["node"]["after"].clone())
            .collect();
        all.sort_by_key(|after| after["otherTenant"] == false);
        all
    };
    let of_intruder = entries(a).await;
    let (times, crossing): (Vec<_>, Vec<_>) =
        of_intruder.iter().map(|after| (after["times"].as_u64().unwrap(), &after["otherTenant"])).unzip();
    assert_eq!(
        (times.iter().sum::<u64>(), crossing.first(), crossing.last()),
        (4, Some(&&json!(true)), Some(&&json!(false)))
    );
    assert!(of_intruder.iter().all(|after| after["user"] == format!("{}_a", stem(a)) && after["layer"] == "role"));
    let of_victim = entries(b).await;
    assert_eq!((of_victim.len(), &of_victim[0]["what"]), (1, &json!("a database that there is not")));
    let all = json!([of_intruder, of_victim]).to_string();
    assert!(!all.contains("of-no-concern") && !all.contains("planted") && !all.contains("nowhere"), "{all}");
    assert!(events(&app, a).await.contains(&"DataplaneAccessDenied".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cell_whose_log_cannot_be_read_says_so() {
    let app = TestApp::with(ON).await;
    let admin = app.admin().await;
    let seen = admin.ok("{ cells { denialsVisible denialsHiddenReason } }", json!({})).await["cells"][0].clone();
    assert_eq!(seen["denialsVisible"], false);
    assert!(seen["denialsHiddenReason"].as_str().unwrap().contains("logging_collector"), "{seen}");
}
