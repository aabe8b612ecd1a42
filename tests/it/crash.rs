//! The server killed in the middle of its work: what was acknowledged is there, nothing is half there, and who asks again
//! with the same Idempotency-Key gets the first answer.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend, Statement};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet, time::sleep};

use crate::{
    binary::{Binary, Server},
    support::{Client, database},
};

const CREATE: &str = "mutation($slug: String!) { createTenant(input: {slug: $slug, name: $slug}) { tenant { id } } }";
const RENAME: &str =
    "mutation($id: ID!, $name: String!) { updateTenant(input: {id: $id, name: $name}) { tenant { version } } }";

const WRITERS: usize = 8;
const WRITES: usize = 25;

/// What was acknowledged: slugs of tenants made, and names given.
#[derive(Debug, Default)]
struct Acknowledged {
    slugs: Vec<String>,
    names: Vec<String>,
}

/// Sends an operation to a server that may be gone: no answer is an unknown outcome.
async fn send(client: &Client, key: Option<&str>, query: &str, variables: Value) -> Option<Value> {
    let request = client.post("/graphql").json(&json!({ "query": query, "variables": variables }));
    let request = key.into_iter().fold(request, |request, key| request.header("idempotency-key", key));
    let answer: Value = request.send().await.ok()?.json().await.ok()?;
    assert!(answer["errors"].is_null(), "{answer}");
    Some(answer["data"].clone())
}

/// Makes a tenant, then changes it, and so on, until the server is gone.
async fn write(client: Client, name: String, acknowledged: Arc<watch::Sender<usize>>) -> Acknowledged {
    let mut done = Acknowledged::default();
    let mut id = Value::Null;
    for number in 0..WRITES {
        let text = format!("{name}-{number}");
        if number % 5 == 0 {
            let Some(made) = send(&client, None, CREATE, json!({ "slug": text })).await else { return done };
            id = made["createTenant"]["tenant"]["id"].clone();
            done.slugs.push(text);
        } else {
            let Some(_) = send(&client, None, RENAME, json!({ "id": id, "name": text })).await else { return done };
            done.names.push(text);
        }
        acknowledged.send_modify(|count| *count += 1);
    }
    done
}

async fn count(database: &DatabaseConnection, sql: &str) -> i64 {
    let row = database.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap().unwrap();
    row.try_get_by_index(0).unwrap()
}

/// Sessions of a killed server finish the statement that they are in.
async fn until_gone(database: &DatabaseConnection) {
    let sessions =
        "select count(*) from pg_stat_activity where datname = current_database() and usename = 'tenantry_login'";
    for _ in 0..500 {
        if count(database, sessions).await == 0 {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("sessions of the killed server stay");
}

fn quoted(texts: &[String]) -> String {
    texts.iter().map(|text| format!("'{text}'")).chain(["''".to_owned()]).collect::<Vec<_>>().join(",")
}

/// All of it, each with its entry, and nothing by halves.
async fn check(database: &DatabaseConnection, acknowledged: &[Acknowledged]) {
    for Acknowledged { slugs, names } in acknowledged {
        let sql = format!(
            "select count(*) from tenantry.tenants t join tenantry.journal j using (tenant_id)
             where t.slug in ({}) and j.event = 'TenantCreated' and j.after ->> 'slug' = t.slug",
            quoted(slugs)
        );
        assert_eq!(count(database, &sql).await, i64::try_from(slugs.len()).unwrap(), "of {slugs:?}");
        let sql = format!(
            "select count(*) from tenantry.journal where event = 'TenantUpdated' and after ->> 'name' in ({})",
            quoted(names)
        );
        assert_eq!(count(database, &sql).await, i64::try_from(names.len()).unwrap(), "of {names:?}");
    }
    for (halves, sql) in [
        (
            "tenants with another version than they have entries",
            "select count(*) from tenantry.tenants t where version <> (select count(*) from tenantry.journal j where j.tenant_id = t.tenant_id)",
        ),
        (
            "entries without a tenant",
            "select count(*) from tenantry.journal j where tenant_id <> '00000000-0000-0000-0000-000000000000' and not exists (select from tenantry.tenants t where t.tenant_id = j.tenant_id)",
        ),
        (
            "chains that end elsewhere than their head says",
            "select count(*) from tenantry.journal_heads h where sequence <> (select count(*) from tenantry.journal j where j.tenant_id = h.tenant_id)",
        ),
        (
            "tenants whose name is not that of their last change",
            "select count(*) from tenantry.tenants t where name <> (select after ->> 'name' from tenantry.journal j where j.tenant_id = t.tenant_id order by sequence desc limit 1)",
        ),
    ] {
        assert_eq!(count(database, sql).await, 0, "{halves}");
    }
}

/// Every chain, as the server itself checks it.
async fn verify(client: &Client) {
    let mut after = Value::Null;
    loop {
        let page = "query($after: String) { tenants(first: 100, after: $after) { edges { node { id } } pageInfo { hasNextPage endCursor } } }";
        let page = client.ok(page, json!({ "after": after })).await["tenants"].clone();
        for edge in page["edges"].as_array().unwrap() {
            let report = client
                .ok(
                    "query($id: ID!) { verifyAudit(tenantId: $id) { valid problems { detail } } }",
                    json!({ "id": edge["node"]["id"] }),
                )
                .await;
            assert_eq!(report["verifyAudit"]["valid"], json!(true), "{report}");
        }
        if page["pageInfo"]["hasNextPage"] != json!(true) {
            return;
        }
        after = page["pageInfo"]["endCursor"].clone();
    }
}

/// Kills the server when about `after` writes were acknowledged, and others are under way.
async fn killed_while_writing(server: Server, token: &str, round: usize, after: usize) -> Vec<Acknowledged> {
    let client = server.with_token(token);
    let (acknowledged, mut watched) = watch::channel(0);
    let acknowledged = Arc::new(acknowledged);
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(client.clone(), format!("r{round}-w{writer}"), acknowledged.clone()));
    }
    watched.wait_for(|count| *count >= after).await.unwrap();
    server.kill().await;
    let done = writers.join_all().await;
    let total: usize = done.iter().map(|done| done.slugs.len() + done.names.len()).sum();
    println!("round {round}: killed with {total} of {} writes acknowledged", WRITERS * WRITES);
    assert!(total < WRITERS * WRITES, "the server was killed too late");
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_loses_nothing_that_it_acknowledged() {
    let database = database().await;
    let (binary, owner) = (Binary::on(&database), database.superuser().await);
    let token = binary.run(&["token", "--role", "admin"]).await.ok().trim().to_owned();
    for round in 0..3 {
        let random = usize::try_from(RandomState::new().hash_one(round) % 130).unwrap();
        let done = killed_while_writing(binary.serve().await, &token, round, 20 + random).await;
        until_gone(&owner).await;
        check(&owner, &done).await;
    }
    let server = binary.serve().await;
    verify(&server.with_token(&token)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_with_its_private_database_comes_back_with_its_data() {
    let binary = Binary::private();
    let server = binary.serve().await;
    let printed = server.printed();
    let token = printed
        .lines()
        .find_map(|line| line.trim().strip_prefix("Operator token"))
        .expect("a token is printed")
        .trim()
        .to_owned();
    let done = killed_while_writing(server, &token, 0, 30).await;
    let server = binary.serve().await;
    let client = server.with_token(&token);
    for slug in done.iter().flat_map(|done| &done.slugs) {
        let found = client.ok("query($slug: String!) { tenant(slug: $slug) { slug } }", json!({ "slug": slug })).await;
        assert_eq!(found["tenant"]["slug"], json!(slug));
    }
    for name in done.iter().flat_map(|done| &done.names) {
        let owner = name.rsplit_once('-').unwrap().0;
        let number: usize = name.rsplit_once('-').unwrap().1.parse().unwrap();
        let slug = format!("{owner}-{}", number - number % 5);
        let found =
            client.ok("query($slug: String!) { tenant(slug: $slug) { version } }", json!({ "slug": slug })).await;
        assert!(found["tenant"]["version"].as_u64().unwrap() > (number % 5) as u64, "{name} is lost: {found}");
    }
    verify(&client).await;
    assert!(server.stop().await.success());
}

/// The process that the log names last.
fn postmaster(server: &Server) -> Pid {
    let log = server.log();
    let line = log.lines().rfind(|line| line.contains("private PostgreSQL is ready")).expect("it is logged");
    let line: Value = serde_json::from_str(line).unwrap();
    Pid::from_raw(line["pid"].as_i64().unwrap().try_into().unwrap())
}

async fn until(server: &Server, what: &str, holds: impl AsyncFn() -> bool) {
    for _ in 0..1_000 {
        if holds().await {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("{what}: it does not come to that\n{}", server.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_database_that_dies_under_its_server_comes_back_with_its_data() {
    let binary = Binary::private().set("WORKER__INTERVAL", "1h");
    let server = binary.serve().await;
    let stranger = server.stranger();
    let client = server.with_token(binary.run(&["token", "--role", "admin"]).await.ok().trim());
    let made = client.ok(CREATE, json!({ "slug": "kept" })).await["createTenant"]["tenant"]["id"].clone();

    // While its data is elsewhere it cannot be started again: long enough to see what the server answers meanwhile.
    let data = binary.path("data/postgres/data");
    let elsewhere = data.with_extension("elsewhere");
    std::fs::rename(&data, &elsewhere).unwrap();
    let first = postmaster(&server);
    kill(first, Signal::SIGKILL).unwrap();
    until(&server, "unready", async || stranger.get("/readyz").await.status == 503).await;
    let refused = client.graphql(CREATE, json!({ "slug": "refused" })).await;
    assert_eq!(refused.code(), "unavailable", "{}", refused.text);
    let refused = client.graphql("{ tenant(slug: \"kept\") { slug } }", json!({})).await;
    assert_eq!(refused.code(), "unavailable", "{}", refused.text);
    assert_eq!(stranger.get("/livez").await.status, 200);

    std::fs::rename(&elsewhere, &data).unwrap();
    until(&server, "ready", async || stranger.get("/readyz").await.status == 200).await;
    let found = client.ok("{ tenant(slug: \"kept\") { id } none: tenant(slug: \"refused\") { id } }", json!({})).await;
    assert_eq!(found, json!({ "tenant": { "id": made }, "none": null }));
    client.ok(RENAME, json!({ "id": made, "name": "Renamed" })).await;
    verify(&client).await;
    let second = postmaster(&server);
    assert_ne!(first, second);
    assert_eq!(server.log().matches("ended by itself").count(), 1, "{}", server.log());

    // A pool of connections that died meanwhile costs nobody an answer.
    let ask = || client.ok("{ tenant(slug: \"kept\") { id } }", json!({}));
    join_all((0..8).map(|_| ask())).await;
    kill(second, Signal::SIGKILL).unwrap();
    until(&server, "PostgreSQL is back", async || postmaster(&server) != second).await;
    join_all((0..8).map(|_| ask())).await;
    let third = postmaster(&server);
    assert!(server.stop().await.success());
    assert_eq!(kill(third, None), Err(Errno::ESRCH), "PostgreSQL outlives its server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asking_again_after_an_unknown_outcome_makes_one_tenant() {
    let database = database().await;
    let binary = Binary::on(&database);
    let server = binary.serve().await;
    let admin = server.admin().await;
    let token = admin.token().unwrap().to_owned();
    let mut first = JoinSet::new();
    for number in 0..20 {
        let admin = admin.clone();
        first.spawn(async move {
            let made =
                send(&admin, Some(&format!("key-{number}")), CREATE, json!({ "slug": format!("once-{number}") })).await;
            (number, made)
        });
    }
    // Killed as soon as the first answer is there: some are done, some half done, some have not begun.
    let mut answered = vec![first.join_next().await.unwrap().unwrap()];
    server.kill().await;
    answered.extend(first.join_all().await);
    let unknown = answered.iter().filter(|(_, made)| made.is_none()).count();
    println!("{unknown} of 20 outcomes are unknown");
    assert!(unknown > 0, "the server was killed too late");

    let server = binary.serve().await;
    let admin = server.with_token(token);
    let owner = database.superuser().await;
    for (number, made) in answered {
        let (key, slug) = (format!("key-{number}"), format!("once-{number}"));
        let ask = || send(&admin, Some(&key), CREATE, json!({ "slug": slug }));
        let (again, twice) = tokio::join!(ask(), ask());
        let again = again.unwrap();
        assert_eq!(Some(&again), twice.as_ref());
        if let Some(made) = made {
            assert_eq!(made, again);
        }
        let id = again["createTenant"]["tenant"]["id"].as_str().unwrap().to_owned();
        let rows = format!(
            "select count(*) from tenantry.tenants where slug = '{slug}' and tenant_id = '{id}' and version = 1"
        );
        assert_eq!(count(&owner, &rows).await, 1);
        let entries = format!(
            "select count(*) from tenantry.journal where event = 'TenantCreated' and after ->> 'slug' = '{slug}'"
        );
        assert_eq!(count(&owner, &entries).await, 1);
    }
    let other = admin.graphql_once("key-0", CREATE, json!({ "slug": "another" })).await;
    assert_eq!(
        (other.code(), &other.body["errors"][0]["extensions"]["field"]),
        ("conflict", &json!("Idempotency-Key")),
        "{}",
        other.text
    );
    verify(&admin).await;
}
