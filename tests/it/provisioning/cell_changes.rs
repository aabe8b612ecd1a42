//! A cell that is there gets another capacity, another way to it, or takes tenants again; who waits for a place gets it at once.

use std::time::Duration;

use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    ON, active,
    clusters::{Cluster, connect, register, texts},
    create, eventually, look,
};
use crate::{
    moves::scene::{credential, service},
    support::{Client, TestApp, folder},
};

const UPDATE: &str =
    "mutation($input: UpdateCellInput!) { updateCell(input: $input) { cell { capacity placed state version host } } }";
const DRAIN: &str = "mutation($id: ID!) { drainCell(input: {id: $id}) { cell { state version } } }";
const REACTIVATE: &str = "mutation($id: ID!, $version: Int) { reactivateCell(input: {id: $id, expectedVersion: $version}) { cell { state placed } } }";
const CELLS: &str = "{ cells { id name capacity placed state } }";

/// Without a cell of its own, and with pauses that nobody waits for.
fn patient() -> String {
    ON.replace("[cells]", "[cells]\nown = false").replace("\"50ms\"", "\"1h\"").replace("\"200ms\"", "\"1h\"")
}

async fn waits_for_a_place(admin: &Client, tenant: tenantry::platform::ids::TenantId) {
    eventually("it is told that there is no place", async || {
        let seen = look(admin, tenant).await;
        seen["layers"][0]["lastError"].as_str().unwrap_or_default().starts_with("no cell in").then_some(())
    })
    .await;
}

async fn told(app: &TestApp, cell: &Value) -> Vec<String> {
    let registry = app.database.superuser().await;
    let query = format!("select event from tenantry.journal where subject_id = {} order by sequence", quoted(cell));
    texts(&registry, &query).await
}

fn quoted(id: &Value) -> String {
    format!("'{}'", id.as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cell_that_drains_or_is_retired_takes_tenants_again() {
    let app = TestApp::with(&patient()).await;
    let replica = app.replica(&patient()).await;
    let (admin, other) = (app.admin().await, replica.admin().await);
    let cluster = Cluster::start();
    let id = register(&admin, "shared", "STANDARD", &cluster.url("postgres", "postgres")).await["id"].clone();
    let retired = admin.ok(DRAIN, json!({ "id": id })).await["drainCell"]["cell"].clone();
    assert_eq!(retired["state"], "RETIRED");
    let first = create(&admin, "first", "STANDARD").await;
    waits_for_a_place(&admin, first).await;
    let stale = json!({ "id": id, "version": retired["version"].as_i64().unwrap() - 1 });
    assert_eq!(other.refused(REACTIVATE, stale).await, "conflict");
    let back = other.ok(REACTIVATE, json!({ "id": id, "version": retired["version"] })).await;
    assert_eq!(back["reactivateCell"]["cell"]["state"], "ACTIVE");
    active(&admin, first).await;

    let draining = admin.ok(DRAIN, json!({ "id": id })).await["drainCell"]["cell"].clone();
    assert_eq!(draining["state"], "DRAINING");
    let second = create(&other, "second", "STANDARD").await;
    waits_for_a_place(&other, second).await;
    let back = admin.ok(REACTIVATE, json!({ "id": id })).await;
    assert_eq!(back["reactivateCell"]["cell"], json!({ "state": "ACTIVE", "placed": 1 }));
    active(&other, second).await;
    // Nothing changes, and nothing is told.
    admin.ok(REACTIVATE, json!({ "id": id })).await;
    let expected = ["CellRegistered", "CellRetired", "CellReactivated", "CellDraining", "CellReactivated"];
    assert_eq!(told(&app, &id).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_tenants_come_to_a_cell_than_its_capacity_whenever_it_is_changed() {
    let app = TestApp::with(&patient()).await;
    let admin = app.admin().await;
    let cluster = Cluster::start();
    let id = register(&admin, "shared", "STANDARD", &cluster.url("postgres", "postgres")).await["id"].clone();
    let mut made = JoinSet::new();
    for number in 0..16 {
        let admin = app.admin().await;
        made.spawn(async move { create(&admin, &format!("one-{number}"), "STANDARD").await });
    }
    // Some have come by then, others are about to.
    let three = "select count(*)::text from tenantry.placements";
    let registry = app.database.superuser().await;
    eventually("some have a place", async || {
        (texts(&registry, three).await[0].parse::<i64>().unwrap() >= 3).then_some(())
    })
    .await;
    let lowered = admin.ok(UPDATE, json!({ "input": { "id": id, "capacity": 5 } })).await["updateCell"]["cell"].clone();
    let at_change = lowered["placed"].as_i64().unwrap();
    let tenants = made.join_all().await;
    eventually("all others wait", async || {
        let waiting = "select count(*)::text from tenantry.provisioning_layers where layer = 'placement' and last_error like 'no cell in%'";
        let (placed, waiting) = (texts(&registry, three).await, texts(&registry, waiting).await);
        let [placed, waiting] = [placed, waiting].map(|found| found[0].parse::<i64>().unwrap());
        (placed + waiting == 16).then_some(())
    })
    .await;
    let now = async || admin.ok(CELLS, json!({})).await["cells"][0].clone();
    assert_eq!(now().await["placed"], json!(at_change.max(5)), "{lowered}");
    // Nobody is sent away, and as many come as there is room for.
    let full = admin.ok(UPDATE, json!({ "input": { "id": id, "capacity": 1 } })).await;
    assert_eq!(full["updateCell"]["cell"]["placed"], json!(at_change.max(5)));
    let most = (at_change.max(5) + 1).min(16);
    admin.ok(UPDATE, json!({ "input": { "id": id, "capacity": most } })).await;
    eventually("one more comes", async || (now().await["placed"] == most).then_some(())).await;
    admin.ok(UPDATE, json!({ "input": { "id": id, "capacity": 16 } })).await;
    for tenant in tenants {
        active(&admin, tenant).await;
    }
    assert_eq!(now().await["placed"], json!(16));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_gets_the_place_that_another_leaves_and_one_on_a_cell_that_is_well_again() {
    let app = TestApp::with(&patient()).await;
    let admin = app.admin().await;
    let mut cluster = Cluster::start();
    let id = register(&admin, "shared", "STANDARD", &cluster.url("postgres", "postgres")).await["id"].clone();
    admin.ok(UPDATE, json!({ "input": { "id": id, "capacity": 1 } })).await;
    let first = create(&admin, "first", "STANDARD").await;
    active(&admin, first).await;
    let second = create(&admin, "second", "STANDARD").await;
    waits_for_a_place(&admin, second).await;
    let leave = format!(
        "update tenantry.provisioning set wanted = 'ABSENT', settled_at = null, due_at = now(), requests = requests + 1 where tenant_id = '{first}'"
    );
    app.database.superuser().await.execute_unprepared(&leave).await.unwrap();
    active(&admin, second).await;

    admin.ok(UPDATE, json!({ "input": { "id": id, "capacity": 2 } })).await;
    cluster.stop();
    app.app.cells.check_all().await.unwrap();
    let third = create(&admin, "third", "STANDARD").await;
    waits_for_a_place(&admin, third).await;
    cluster.start_again();
    app.app.cells.check_all().await.unwrap();
    active(&admin, third).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cell_gets_another_way_to_its_database_and_its_tenants_are_told_of_it() {
    let app = TestApp::with(&patient()).await;
    let admin = app.admin().await;
    let cluster = Cluster::start().asking_for_passwords();
    let superuser = cluster.connect("postgres", "postgres").await;
    superuser.execute_unprepared("create role keeper login createrole password 'first'").await.unwrap();
    superuser.execute_unprepared("create database kept owner keeper").await.unwrap();
    let way = |folder: &str, password: &str| {
        let host = folder.replace('/', "%2F");
        let port = cluster.url("kept", "keeper").split_once("port=").map(|(_, rest)| format!("&port={rest}"));
        format!("postgres:///kept?host={host}&user=keeper&password={password}{}", port.unwrap_or_default())
    };
    let id = register(&admin, "kept", "STANDARD", &way(&cluster.socket(), "first")).await["id"].clone();
    let tenant = create(&admin, "tenant", "STANDARD").await;
    active(&admin, tenant).await;
    superuser.execute_unprepared("alter role keeper password 'second'").await.unwrap();
    let link = folder().join("way");
    std::os::unix::fs::symlink(cluster.socket(), &link).unwrap();
    let link = link.to_str().unwrap();
    let refused = admin.graphql(UPDATE, json!({ "input": { "id": id, "url": way(link, "first") } })).await;
    assert!(refused.code() != "ok" && !refused.text.contains("first"), "{}", refused.text);
    let updated = admin.ok(UPDATE, json!({ "input": { "id": id, "url": way(link, "second"), "capacity": 3 } })).await;
    assert_eq!(
        (&updated["updateCell"]["cell"]["host"], &updated["updateCell"]["cell"]["capacity"]),
        (&json!(link), &json!(3))
    );
    assert_eq!(credential(&admin, tenant, "role").await.unwrap()["host"], link);
    texts(&service(&admin, tenant).await, "select 1::text").await;
    // The way by which Tenantry itself comes is the new one: nothing is left of the old.
    let next = create(&admin, "next", "STANDARD").await;
    active(&admin, next).await;
    assert_eq!(told(&app, &id).await, ["CellRegistered", "CellUpdated", "CellRelocated"]);
    let registry = app.database.superuser().await;
    let kept = texts(&registry, "select concat(before, after) from tenantry.journal where subject_kind = 'cell'").await;
    assert!(!kept.iter().any(|text| text.contains("second") || text.contains(link)), "{kept:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_cell_cannot_become_is_refused_with_field_and_rule() {
    let app = TestApp::with(ON).await;
    let admin = app.admin().await;
    let cluster = Cluster::start();
    let superuser = cluster.connect("postgres", "postgres").await;
    superuser.execute_unprepared("create database other").await.unwrap();
    let own = admin.ok(CELLS, json!({})).await["cells"][0]["id"].clone();
    let premium = register(&admin, "premium", "PREMIUM", &cluster.url("postgres", "postgres")).await["id"].clone();
    let nobody = json!("0192d5a0-0000-7000-8000-000000000000");
    let (other, nowhere) = (cluster.url("other", "postgres"), "postgres://u:secret@127.0.0.1:1/x".to_owned());
    for (id, change, code, field, rule) in [
        (&own, json!({ "capacity": 0 }), "invalid_input", "capacity", "between 1 and 100000"),
        (&own, json!({ "capacity": 100_001 }), "invalid_input", "capacity", "between 1 and 100000"),
        (&own, json!({ "url": other }), "invalid_input", "url", "Tenantry's own"),
        (&own, json!({ "capacity": 5, "expectedVersion": 7 }), "conflict", "expectedVersion", "version 1, not 7"),
        (&premium, json!({ "capacity": 2 }), "invalid_input", "capacity", "for one tenant"),
        (&premium, json!({ "url": other }), "invalid_input", "url", "another database"),
        (&premium, json!({ "url": nowhere }), "unavailable", "url", "does not answer"),
        (&premium, json!({ "url": "mysql://x" }), "invalid_input", "url", "no PostgreSQL address"),
        (&nobody, json!({ "capacity": 5 }), "not_found", "", ""),
    ] {
        let mut input = change;
        input["id"] = id.clone();
        let answer = admin.graphql(UPDATE, json!({ "input": input })).await;
        let error = &answer.body["errors"][0];
        assert_eq!(answer.code(), code, "{}", answer.text);
        assert_eq!(error["extensions"]["field"].as_str().unwrap_or_default(), field, "{error}");
        assert!(error["message"].as_str().unwrap().contains(rule) && !answer.text.contains("secret"), "{error}");
    }
    assert_eq!(admin.refused(REACTIVATE, json!({ "id": nobody })).await, "not_found");
    assert_eq!(told(&app, &own).await, ["CellRegistered"]);
    assert_eq!(told(&app, &premium).await, ["CellRegistered"]);
    // A database that could not become a cell now does not come back as one.
    admin.ok(DRAIN, json!({ "id": premium })).await;
    drop(superuser);
    let mut cluster = cluster;
    cluster.stop();
    assert_eq!(admin.refused(REACTIVATE, json!({ "id": premium })).await, "unavailable");
    tokio::time::timeout(Duration::from_secs(20), connect(&app.database.superuser_url())).await.unwrap().unwrap();
}
