//! Cells are registered while servers run, looked at before they are taken, and chosen by rule.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use super::{
    ON, active,
    clusters::{Cluster, REGISTER, inventory, of_tenant, register, texts},
    create, create_in, eventually, look,
};
use crate::support::{Client, TestApp};

fn without_own() -> String {
    ON.replace("[cells]", "[cells]\nown = false")
}

const CELLS: &str = "{ cells { id name state placed daysToFull health reservedFor version } }";
const DRAIN: &str = "mutation($id: ID!) { drainCell(input: {id: $id}) { cell { state } } }";

async fn cell(admin: &Client, name: &str) -> Value {
    let all = admin.ok(CELLS, json!({})).await;
    all["cells"].as_array().unwrap().iter().find(|cell| cell["name"] == name).cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_cell_takes_the_tenants_that_wait_and_the_next_ones_on_every_server_without_a_restart() {
    let app = TestApp::with(&without_own()).await;
    let replica = app.replica(&without_own()).await;
    let (admin, other) = (app.admin().await, replica.admin().await);
    let waiting = create(&admin, "waiting", "STANDARD").await;
    eventually("it is told that there is no cell", async || {
        let seen = look(&admin, waiting).await;
        seen["layers"][0]["lastError"].as_str().unwrap_or_default().starts_with("no cell in").then_some(())
    })
    .await;
    let (first, second) = (Cluster::start(), Cluster::start());
    let made = register(&admin, "first", "STANDARD", &first.url("postgres", "postgres")).await;
    assert!(made["serverVersion"].as_i64().unwrap() >= 150_000 && made["health"] == "HEALTHY", "{made}");
    active(&admin, waiting).await;
    register(&other, "second", "STANDARD", &second.url("postgres", "postgres")).await;
    let next = create(&admin, "next", "STANDARD").await;
    let seen = active(&other, next).await;
    assert!(seen["placement"]["reason"].as_str().unwrap().starts_with("second in home region"), "{seen}");
    assert_eq!(
        (cell(&other, "first").await["placed"].clone(), cell(&admin, "second").await["placed"].clone()),
        (json!(1), json!(1))
    );
    assert!(!of_tenant(&inventory(&second).await, next).is_empty());
    assert!(of_tenant(&inventory(&first).await, next).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_a_cell_is_refused_with_what_to_change() {
    let app = TestApp::with(&without_own()).await;
    let admin = app.admin().await;
    let cluster = Cluster::start();
    let superuser = cluster.connect("postgres", "postgres").await;
    superuser.execute_unprepared("create role weak login").await.unwrap();
    let url = |user: &str| cluster.url("postgres", user);
    let refusal = async |name: &str, region: &str, tier: &str, capacity: i64, url: String| {
        let input = json!({ "name": name, "region": region, "tier": tier, "capacity": capacity, "url": url });
        let answer = admin.graphql(REGISTER, json!({ "input": input })).await;
        let error = &answer.body["errors"][0];
        assert!(!answer.text.contains("postgres:///"), "an address is never told: {}", answer.text);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (answer.code().to_owned(), text(&error["extensions"]["field"]), text(&error["message"]))
    };
    let expect = |(code, field, message): (String, String, String), wanted: (&str, &str, &str)| {
        assert!(code == wanted.0 && field == wanted.1 && message.contains(wanted.2), "{code} {field} {message}");
    };
    let (eu, standard) = ("eu-central-1", "STANDARD");
    expect(refusal("weak", eu, standard, 5, url("weak")).await, ("invalid_input", "url", "may make no roles"));
    expect(refusal("A b", eu, standard, 5, url("postgres")).await, ("invalid_input", "name", "small letters"));
    expect(refusal("a", "EU", standard, 5, url("postgres")).await, ("invalid_input", "region", "small letters"));
    expect(refusal("a", eu, standard, 0, url("postgres")).await, ("invalid_input", "capacity", "between 1"));
    expect(refusal("a", eu, "PREMIUM", 2, url("postgres")).await, ("invalid_input", "capacity", "for one tenant"));
    expect(
        refusal("a", eu, standard, 5, "http://x".to_owned()).await,
        ("invalid_input", "url", "no PostgreSQL address"),
    );
    let nowhere = "postgres://u:secret@127.0.0.1:1/x".to_owned();
    expect(refusal("a", eu, standard, 5, nowhere).await, ("unavailable", "url", "does not answer"));
    let registry = app.database.superuser_url();
    expect(refusal("a", eu, standard, 5, registry).await, ("invalid_input", "url", "holds the registry"));
    register(&admin, "taken", standard, &url("postgres")).await;
    expect(refusal("other", eu, standard, 5, url("postgres")).await, ("conflict", "url", "is a cell already"));
    superuser.execute_unprepared("create database further").await.unwrap();
    let further = cluster.url("further", "postgres");
    expect(refusal("taken", eu, standard, 5, further.clone()).await, ("conflict", "name", "has this name"));
    // The attempt above left its mark: where the database is.
    expect(refusal("a", "us-east-1", standard, 5, further).await, ("residency_violation", "region", "eu-central-1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_is_no_superuser_can_make_keep_and_remove_environments() {
    let app = TestApp::with(&without_own()).await;
    let admin = app.admin().await;
    let cluster = Cluster::start();
    let superuser = cluster.connect("postgres", "postgres").await;
    superuser.execute_unprepared("create role keeper login createrole createdb").await.unwrap();
    superuser.execute_unprepared("create database kept owner keeper").await.unwrap();
    register(&admin, "kept", "STANDARD", &cluster.url("kept", "keeper")).await;
    for tier in ["STANDARD", "ENTERPRISE"] {
        let admin = app.admin().await;
        let tenant = create(&admin, &format!("kept-{}", tier.to_lowercase()), tier).await;
        active(&admin, tenant).await;
        app.advance(TimeDelta::hours(2));
        let admin = app.admin().await;
        eventually("it was verified again", async || {
            let seen = look(&admin, tenant).await;
            let layers = seen["layers"].as_array().unwrap();
            let now = app.app.clock.now();
            let verified = |layer: &Value| layer["verifiedAt"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
            layers.iter().all(|layer| now - verified(layer) < TimeDelta::hours(1)).then_some(())
        })
        .await;
        let removal = app.app.provisioning.remove_all(tenant).await.unwrap();
        assert_eq!(removal.residue, [""; 0]);
        assert_eq!(of_tenant(&inventory(&cluster).await, tenant), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_premium_cell_is_for_one_tenant_and_a_drained_one_for_nobody_new() {
    let app = TestApp::with(&without_own()).await;
    let admin = app.admin().await;
    let cluster = Cluster::start();
    register(&admin, "premium", "PREMIUM", &cluster.url("postgres", "postgres")).await;
    let superuser = cluster.connect("postgres", "postgres").await;
    superuser.execute_unprepared("create database shared").await.unwrap();
    register(&admin, "shared", "STANDARD", &cluster.url("shared", "postgres")).await;
    let premium = create(&admin, "premium", "PREMIUM").await;
    active(&admin, premium).await;
    assert_eq!(cell(&admin, "premium").await["reservedFor"], json!(premium));
    let standard = create(&admin, "standard", "STANDARD").await;
    active(&admin, standard).await;
    let drained = admin.ok(DRAIN, json!({ "id": cell(&admin, "shared").await["id"] })).await;
    assert_eq!(drained["drainCell"]["cell"]["state"], "DRAINING");
    let mut waiting = Vec::new();
    for (slug, tier) in [("second", "PREMIUM"), ("late", "STANDARD")] {
        let tenant = create(&admin, slug, tier).await;
        waiting.push(tenant);
        eventually("there is no cell for it", async || {
            let seen = look(&admin, tenant).await;
            seen["layers"][0]["lastError"].as_str().unwrap_or_default().starts_with("no cell in").then_some(())
        })
        .await;
    }
    app.app.provisioning.remove_all(standard).await.unwrap();
    let retired = admin.ok(DRAIN, json!({ "id": cell(&admin, "shared").await["id"] })).await;
    assert_eq!(retired["drainCell"]["cell"]["state"], "RETIRED");
    // Else the one that waits for a premium cell takes this one as soon as it is free.
    for tenant in waiting.into_iter().chain([premium]) {
        app.app.provisioning.remove_all(tenant).await.unwrap();
    }
    assert_eq!(cell(&admin, "premium").await["reservedFor"], json!(null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_tenant_is_put_outside_of_its_regions_and_a_server_of_another_region_refuses_it() {
    let app = TestApp::with(ON).await;
    let admin = app.admin().await;
    let sections = json!({ "compliance": { "data_residency": ["eu-west-1"] } });
    let elsewhere = create_in(&admin, "elsewhere", "STANDARD", "eu-central-1", sections).await;
    eventually("it is told that it may be nowhere", async || {
        let seen = look(&admin, elsewhere).await;
        seen["layers"][0]["lastError"].as_str().unwrap_or_default().contains("may be in eu-west-1 only").then_some(())
    })
    .await;
    let home = app.tenant("home").await;
    let foreign = app.replica("[server]\nregion = \"us-east-1\"\n[provisioning]\nlayers = []").await;
    let tenant = "query($id: ID) { tenant(id: $id) { name } }";
    assert_eq!(foreign.admin().await.refused(tenant, json!({ "id": home.id })).await, "residency_violation");
    let service = foreign.full_service(&home).await;
    assert_eq!(service.graphql(tenant, json!({})).await.code(), "residency_violation");
    let create = "mutation { createTenant(input: {slug: \"abroad\", name: \"Abroad\"}) { tenant { id } } }";
    assert_eq!(foreign.admin().await.refused(create, json!({})).await, "residency_violation");
    let near = app.replica("[server]\nregion = \"eu-central-1\"\n[provisioning]\nlayers = []").await;
    near.full_service(&home).await.ok(tenant, json!({})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn days_to_full_are_told_from_how_the_cell_has_grown() {
    let app = TestApp::with(&ON.replace("[cells]", "[cells]\nown_capacity = 20")).await;
    let admin = app.admin().await;
    app.run_due().await;
    assert_eq!(cell(&admin, "own").await["daysToFull"], json!(null));
    // The schedule may note again what is there meanwhile: on another day than the first.
    app.advance(TimeDelta::days(1));
    let admin = app.admin().await;
    for number in 0..4 {
        active(&admin, create(&admin, &format!("grown-{number}"), "STANDARD").await).await;
    }
    app.advance(TimeDelta::days(1));
    app.run_due().await;
    // Four in two days: the other sixteen places last eight.
    assert_eq!(cell(&app.admin().await, "own").await["daysToFull"], json!(8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_a_cell_are_bounded_whatever_comes_at_once_and_idle_ones_are_closed() {
    let few = without_own().replace("own = false", "own = false\nmax_connections = 2\nidle_timeout = \"1s\"");
    let few = few.replace("[cells]", "[cells]\ncheck_interval = \"1h\"").replace("\"2s\"", "\"20s\"");
    let app = TestApp::with(&few).await;
    let admin = app.admin().await;
    let (shared, roomy) = (Cluster::start(), Cluster::start());
    register(&admin, "shared", "STANDARD", &shared.url("postgres", "postgres")).await;
    register(&admin, "roomy", "ENTERPRISE", &roomy.url("postgres", "postgres")).await;
    let open = async |cluster: &Cluster| {
        let db = cluster.connect("postgres", "postgres").await;
        let query = "select count(*)::text from pg_stat_activity where application_name = 'tenantry-cell'";
        let found = texts(&db, query).await[0].parse::<usize>().unwrap();
        db.close().await.unwrap();
        found
    };
    let mut made = tokio::task::JoinSet::new();
    for number in 0..24 {
        let (admin, tier) = (app.admin().await, if number % 2 == 0 { "STANDARD" } else { "ENTERPRISE" });
        made.spawn(async move { create(&admin, &format!("one-{number}"), tier).await });
    }
    let registry = app.database.superuser().await;
    let mut most = [0, 0];
    eventually("all are made", async || {
        // In tenants' own databases as many again, and none of these is kept.
        most = [most[0].max(open(&shared).await), most[1].max(open(&roomy).await)];
        let active = "select count(*)::text from tenantry.tenants where status = 'ACTIVE'";
        (texts(&registry, active).await == ["24"]).then_some(())
    })
    .await;
    made.join_all().await;
    assert!((1..=2).contains(&most[0]) && (1..=4).contains(&most[1]), "{most:?}");
    eventually("idle ones are closed", async || ([open(&shared).await, open(&roomy).await] == [0, 0]).then_some(()))
        .await;
}
