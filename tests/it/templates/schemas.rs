//! A tenant's schema is what its template makes, with the tenant's rights, and what differs is told.

use std::time::Duration;

use chrono::TimeDelta;
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use tenantry::platform::{
    db::{CellDb, CellLimits},
    ids::TenantId,
    secret::Secret,
};

use super::{ITEMS, ON, REGISTER, look, register, roll_out, template, until_state};
use crate::{
    provisioning::{
        active,
        clusters::{connect, stem, texts},
        create, events, eventually,
    },
    support::{Client, TestApp, database},
};

async fn state(admin: &Client, tenant: TenantId) -> Value {
    let query = "query($id: ID!) { tenant(id: $id) { schemaState { template version schemaHash drift } } }";
    admin.ok(query, json!({ "id": tenant })).await["tenant"]["schemaState"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_tenant_gets_the_tables_of_its_plan_as_its_own() {
    let app = TestApp::with(ON).await;
    let admin = app.admin().await;
    let before = create(&admin, "before", "STANDARD").await;
    active(&admin, before).await;
    assert_eq!(state(&admin, before).await, json!(null));
    register(&admin, &[ITEMS]).await;
    let mut vault = template("vault", &[("0001_vault.sql", "create table vault (id int)")]);
    vault["input"]["plans"] = json!(["pro"]);
    admin.ok(REGISTER, vault).await;
    let (one, other) = (create(&admin, "one", "STANDARD").await, create(&admin, "other", "ENTERPRISE").await);
    active(&admin, one).await;
    active(&admin, other).await;
    let make = "mutation { createTenant(input: {slug: \"rich\", name: \"Rich\", plan: \"pro\"}) { tenant { id } } }";
    let rich = admin.ok(make, json!({})).await["createTenant"]["tenant"]["id"].as_str().unwrap().parse().unwrap();
    active(&admin, rich).await;
    let (seen, same) = (state(&admin, one).await, state(&admin, other).await);
    assert_eq!((&seen["template"], &seen["version"], &seen["drift"]), (&json!("shop"), &json!(1), &json!([])));
    assert!(seen["schemaHash"].is_string() && seen == same, "two schemas of one template say the same: {seen} {same}");
    assert_eq!(state(&admin, rich).await["template"], "vault");
    let cell = connect(&app.database.cell_url_of("postgres")).await.unwrap();
    let owners = format!("select distinct tableowner::text from pg_tables where schemaname = '{}'", stem(one));
    assert_eq!(texts(&cell, &owners).await, [stem(one)]);
    // Whoever was there before gets it when it is looked at again.
    app.advance(TimeDelta::hours(2));
    let admin = app.admin().await;
    eventually("the older tenant has it, too", async || (state(&admin, before).await["version"] == 1).then_some(()))
        .await;
    let removal = app.app.provisioning.remove_all(one).await.unwrap();
    assert_eq!(removal.residue, [""; 0]);
    assert_eq!(state(&admin, one).await, json!(null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_as_the_template_has_it_is_told_and_left() {
    let app = TestApp::with(ON).await;
    let admin = app.admin().await;
    let made = "create table items (id bigint primary key, note text default 'x' check (note <> ''));
        create index items_note on items (note); create type mood as enum ('good', 'bad');
        create function touch() returns trigger language plpgsql as $$ begin return new; end $$;
        create trigger touched before update on items for each row execute function touch()";
    register(&admin, &[("V0001__items.sql", made)]).await;
    let tenant = create(&admin, "drifted", "STANDARD").await;
    active(&admin, tenant).await;
    let intended = state(&admin, tenant).await["schemaHash"].clone();
    let cell = connect(&app.database.cell_url_of("postgres")).await.unwrap();
    cell.execute_unprepared(&format!("set search_path = {}", stem(tenant))).await.unwrap();
    let tampering = [
        (
            "alter table items alter note drop default",
            "alter table items alter note set default 'x'",
            "column items.note is not as in the template",
        ),
        (
            "alter table items add column more int",
            "alter table items drop column more",
            "column items.more is not of the template",
        ),
        ("drop index items_note", "create index items_note on items (note)", "index items_note is missing"),
        ("create table own (id int)", "drop table own", "table own is not of the template"),
        (
            "alter table items disable trigger touched",
            "alter table items enable trigger touched",
            "trigger items.touched is not as in the template",
        ),
        (
            "alter table items enable row level security",
            "alter table items disable row level security",
            "table items is not as in the template",
        ),
        ("alter type mood add value 'odd'", "", "type mood is not as in the template"),
    ];
    for (told, (tampering, back, sentence)) in (1..).zip(tampering) {
        cell.execute_unprepared(tampering).await.unwrap();
        app.advance(TimeDelta::hours(2));
        let admin = app.admin().await;
        let seen = eventually(sentence, async || {
            let seen = state(&admin, tenant).await;
            (seen["drift"] == json!([sentence])).then_some(seen)
        })
        .await;
        assert_ne!(seen["schemaHash"], intended);
        eventually("it is journaled", async || {
            let drifts = events(&app, tenant).await.iter().filter(|event| *event == "LayerDrifted").count();
            (drifts == told).then_some(())
        })
        .await;
        assert_eq!(look(&admin).await.0["drift"], json!([{ "tenantId": tenant, "drift": [sentence] }]));
        let layers = "query($id: ID!) { tenant(id: $id) { layers { name observed lastError } } }";
        let layers = admin.ok(layers, json!({ "id": tenant })).await["tenant"]["layers"].clone();
        assert_eq!(layers[3], json!({ "name": "template", "observed": "PRESENT", "lastError": sentence }));
        if !back.is_empty() {
            cell.execute_unprepared(back).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_of_the_tenants_own_that_a_migration_meets_has_the_tenants_rights_alone() {
    let app = TestApp::with(ON).await;
    let admin = app.admin().await;
    let insert = ("V0002__first.sql", "insert into items values (1, 'first')");
    register(&admin, &[ITEMS, insert]).await;
    // Version 2 is new to nobody: both are released together, so that a third is rolled out.
    let tenant = create(&admin, "hostile", "STANDARD").await;
    active(&admin, tenant).await;
    let cell = connect(&app.database.cell_url_of("postgres")).await.unwrap();
    let hostile = stem(tenant);
    let plant = |body: &str, how: &str| {
        format!(
            "begin; set local role {hostile}; set local search_path = {hostile};
             create or replace function climb() returns trigger language plpgsql as $f$ begin {body} return new; end $f$;
             drop trigger if exists climbing on items; create {how} for each row execute function climb(); commit"
        )
    };
    let note = "perform set_config('search_path', 'pg_catalog', false);";
    for (number, body) in (3..).zip([
        "execute 'reset role';",
        "execute 'set role none';",
        "perform set_config('role', 'none', false);",
        "execute 'set session authorization default';",
        "perform set_config('session_authorization', 'postgres', false);",
    ]) {
        let attack = format!("{body} execute 'create role climbed_{number}_{hostile} superuser'; {note}");
        cell.execute_unprepared(&plant(&attack, "trigger climbing before insert or update on items")).await.unwrap();
        let mut files = vec![ITEMS, insert];
        let update = format!("V{number:04}__touch.sql");
        let earlier: Vec<_> = (3..=number).map(|number| format!("V{number:04}__touch.sql")).collect();
        files.extend(earlier.iter().map(|name| (name.as_str(), "update items set note = note || '.'")));
        assert_eq!(register(&admin, &files).await["version"], number, "{update}");
        let id = roll_out(&admin, json!({ "waves": [100.0] })).await;
        let stopped = until_state(&admin, "STOPPED").await;
        let problem = stopped["troubles"][0]["problem"].as_str().unwrap().to_owned();
        assert!(
            stopped["troubles"][0]["hasFailed"] == true && problem.starts_with("V0003__touch.sql"),
            "{body}: {problem}"
        );
        assert_eq!(super::steer(&admin, "cancel", &id).await, "CANCELLED");
    }
    // What waits for the commit would run as who commits.
    let attack = format!("execute 'create role climbed_later_{hostile} superuser';");
    let deferred = "constraint trigger climbing after insert or update on items deferrable initially deferred";
    cell.execute_unprepared(&plant(&attack, deferred)).await.unwrap();
    roll_out(&admin, json!({ "waves": [100.0], "to": 3 })).await;
    until_state(&admin, "STOPPED").await;
    let again = format!(
        "execute 'set constraints all deferred'; if new.note not like '%x' then update items set note = note || 'x'; else {attack} end if;"
    );
    cell.execute_unprepared(&plant(&again, deferred)).await.unwrap();
    let (_, rollout) = look(&admin).await;
    super::steer(&admin, "resume", rollout["id"].as_str().unwrap()).await;
    let stopped = until_state(&admin, "STOPPED").await;
    let problem = stopped["troubles"][0]["problem"].as_str().unwrap();
    assert!(problem.contains("deferred triggers of its own"), "{problem}");
    // The function that runs a migration is the tenant's, as is what is found first from now on.
    super::steer(&admin, "cancel", rollout["id"].as_str().unwrap()).await;
    let takeover = format!(
        "execute (select string_agg(format('alter function %s security invoker', oid::regprocedure), ';') from pg_proc
           where proname like 'tenantry\\_%' and pronamespace = '{hostile}'::regnamespace);
         perform set_config('search_path', '{hostile}, pg_catalog', false);
         begin {attack} exception when insufficient_privilege then null; end;"
    );
    cell.execute_unprepared(&format!("drop trigger climbing on {hostile}.items")).await.unwrap();
    cell.execute_unprepared(&plant(&takeover, "trigger climbing before insert or update on items")).await.unwrap();
    let lure = format!(
        "begin; set local role {hostile}; create function {hostile}.to_regrole(text) returns regrole language plpgsql as
           $f$ begin {attack} return null; end $f$; commit"
    );
    cell.execute_unprepared(&lure).await.unwrap();
    roll_out(&admin, json!({ "waves": [100.0] })).await;
    until_state(&admin, "COMPLETED").await;
    let climbed = "select rolname::text from pg_roles where rolname like 'climbed%'";
    assert_eq!(texts(&cell, climbed).await, [""; 0]);
    assert_eq!(state(&admin, tenant).await["version"], 7);
}

#[tokio::test]
async fn what_a_script_has_prepared_is_never_run_for_what_comes_after_it() {
    let database = database().await;
    let url = Secret::new(database.superuser_url());
    let second = Duration::from_secs(1);
    let (acquire_timeout, idle_timeout, statement_timeout) = (second * 10, second * 60, second * 10);
    let db =
        CellDb::connect(&url, CellLimits { connections: 1, acquire_timeout, idle_timeout, statement_timeout }).unwrap();
    // Code of a tenant's own may do this in a migration: names are no secret.
    let plant = "do $$ begin deallocate all; for place in 0..20 loop
        execute format('prepare sqlx_s_%s(text) as select %L::text', place, '\"theirs\"'); end loop; end $$";
    const ASK: &str = "select to_jsonb($1::text)::text";
    let mut session = db.session(&db.address().database).await.unwrap();
    for _ in 0..3 {
        assert_eq!(session.json::<String>(ASK, &["ours"]).await.unwrap(), "ours");
        session.script(plant).await.unwrap();
    }
    for _ in 0..3 {
        let mut tx = db.begin().await.unwrap();
        assert_eq!(tx.json::<String>(ASK, &["ours"]).await.unwrap(), "ours", "on a connection that others had");
        tx.script(plant).await.unwrap();
        assert_eq!(tx.json::<String>(ASK, &["ours"]).await.unwrap(), "ours", "in the same transaction");
        tx.commit().await.unwrap();
    }
}
