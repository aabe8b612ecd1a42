//! `kill -9` of a server amid its probes: the next run removes what is left of the two that were made up, and tries everything.

use redis::{aio::MultiplexedConnection, cmd};
use sea_orm::{ConnectionTrait as _, DatabaseConnection};
use serde_json::{Value, json};

use super::{
    clusters::{Cluster, inventory, register, texts},
    eventually,
    probes::{VERIFY, outcomes},
    proxy::{Fault, Proxy},
};
use crate::{
    binary::{Binary, Server},
    moves::soak,
    support::{self, Client, Database, redis::RedisServer},
};

/// What changes something in a cell, and lasts: attempts are rolled back.
const CHANGES: &[&str] =
    &["ALTER ", "CREATE ", "DROP ", "GRANT ", "REVOKE ", "pg_terminate_backend", "create table if not exists"];

struct Scene {
    cluster: Cluster,
    proxy: Proxy,
    database: Database,
    binary: Binary,
}

impl Scene {
    /// With a cell for each of two tiers, behind the proxy.
    async fn new() -> (Self, Server) {
        let cluster = Cluster::start().asking_for_passwords();
        let proxy = Proxy::before(&cluster.socket());
        let database = support::database().await;
        let settings = [
            ("PROVISIONING__LAYERS", "placement,role,database,schema"),
            ("CELLS__OWN", "false"),
            ("CELLS__CHECK_INTERVAL", "1h"),
            ("WORKER__INTERVAL", "1h"),
        ];
        let binary = settings.into_iter().fold(Binary::on(&database), |binary, (key, value)| binary.set(key, value));
        let server = binary.serve().await;
        let admin = server.admin().await;
        let postgres = cluster.connect("postgres", "postgres").await;
        postgres.execute_unprepared("create database roomy").await.unwrap();
        register(&admin, "shared", "STANDARD", &proxy.url("postgres")).await;
        register(&admin, "roomy", "ENTERPRISE", &proxy.url("roomy")).await;
        (Self { cluster, proxy, database, binary }, server)
    }

    /// Kills the server at the n-th change of a run, if there are so many: what was hit.
    async fn kill_at(&self, server: Server, n: usize) -> Result<String, Server> {
        let admin = server.admin().await;
        self.proxy.arm_for(n, Fault::Hold, CHANGES);
        let run = tokio::spawn(ask(admin));
        eventually("a change is held, or the run is over", async || {
            (self.proxy.is_hit() || run.is_finished()).then_some(())
        })
        .await;
        if !self.proxy.is_hit() {
            self.proxy.disarm();
            return Err(server);
        }
        server.kill().await;
        run.abort();
        Ok(self.proxy.disarm().unwrap())
    }
}

/// An answer may never come.
async fn ask(admin: Client) -> Option<Value> {
    let request = admin.post("/graphql").json(&json!({ "query": VERIFY }));
    request.send().await.ok()?.json().await.ok()
}

/// Its time passes.
async fn end_lease(registry: &DatabaseConnection) {
    let end = "update tenantry.isolation_runs set lease_until = now()";
    registry.execute_unprepared(end).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_at_any_step_of_its_probes_leaves_what_the_next_run_removes() {
    let (scene, mut server) = Scene::new().await;
    let registry = scene.database.superuser().await;
    let before = inventory(&scene.cluster).await;
    let expected: Vec<_> = [
        ("registry", ""),
        ("role", "roomy"),
        ("database", "roomy"),
        ("schema", "roomy"),
        ("role", "shared"),
        ("schema", "shared"),
    ]
    .map(|(layer, cell)| (layer.to_owned(), cell.to_owned(), "REFUSED".to_owned()))
    .into();
    // The long form takes each step; the short one some of them, others each time.
    let stride = if soak() { 1 } else { 12 };
    let first = if soak() { 1 } else { 1 + std::process::id() as usize % stride };
    let (mut killed, mut left) = (0, 0);
    for n in (first..).step_by(stride) {
        let hit = match scene.kill_at(server, n).await {
            Ok(hit) => hit,
            Err(living) => {
                server = living;
                break;
            }
        };
        killed += 1;
        left += usize::from(inventory(&scene.cluster).await != before);
        server = scene.binary.serve().await;
        let admin = server.admin().await;
        let what = format!("killed at change {n}: {hit}");
        assert_eq!(admin.refused(VERIFY, json!({})).await, "conflict", "the lease of the dead stands, {what}");
        end_lease(&registry).await;
        let probes = admin.ok(VERIFY, json!({})).await["verifyIsolation"]["probes"].clone();
        let mut seen = outcomes(&probes);
        seen.sort();
        let mut expected = expected.clone();
        expected.sort();
        assert_eq!(seen, expected, "{what}: {probes:#}");
        assert_eq!(inventory(&scene.cluster).await, before, "{what}");
        let ended = "select (lease_until is null and ended_at > began_at)::text from tenantry.isolation_runs";
        assert_eq!(texts(&registry, ended).await, ["true"], "the run is over, {what}");
    }
    println!("killed at {killed} changes of a run, every {stride} from {first} on; {left} left something");
    assert!(killed >= 2 && left >= 1, "{killed} {left}");
    drop(server);
}

/// Users of tenants.
async fn users(owner: &mut MultiplexedConnection) -> usize {
    let all: Vec<String> = cmd("ACL").arg("USERS").query_async(owner).await.unwrap();
    all.iter().filter(|user| user.starts_with("t_")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_amid_its_probes_of_redis_leaves_what_the_next_run_removes() {
    let redis = RedisServer::forgetful();
    let database = support::database().await;
    let settings = [
        ("PROVISIONING__LAYERS", "redis".to_owned()),
        ("REDIS__URL", redis.url()),
        ("CELLS__OWN", "false".to_owned()),
        ("WORKER__INTERVAL", "1h".to_owned()),
    ];
    let binary = settings.into_iter().fold(Binary::on(&database), |binary, (key, value)| binary.set(key, value));
    let mut owner = redis.connect().await;
    // Users can be made, and keys cannot be written: there the run is held.
    cmd("CLIENT").arg("PAUSE").arg(60_000).arg("WRITE").exec_async(&mut owner).await.unwrap();
    let server = binary.serve().await;
    let run = tokio::spawn(ask(server.admin().await));
    eventually("both are made", async || (users(&mut owner).await == 4).then_some(())).await;
    server.kill().await;
    run.abort();
    cmd("CLIENT").arg("UNPAUSE").exec_async(&mut owner).await.unwrap();
    assert_eq!(users(&mut owner).await, 4, "something was left");

    let server = binary.serve().await;
    end_lease(&database.superuser().await).await;
    let probes = server.admin().await.ok(VERIFY, json!({})).await["verifyIsolation"]["probes"].clone();
    assert_eq!(probes["outcome"], "REFUSED", "{probes:#}");
    assert_eq!(users(&mut owner).await, 0);
    assert_eq!(cmd("DBSIZE").query_async::<u64>(&mut owner).await.unwrap(), 0);
}
