//! `kill -9` of the server at each of its steps of a rollout, in the cell and in the registry: the next one ends it, and each
//! migration is applied once.

use sea_orm::ConnectionTrait as _;
use serde_json::json;

use super::{Fleet, ITEMS, template};
use crate::{
    binary::{Binary, Server},
    provisioning::{
        clusters::{Cluster, register as register_cell, texts},
        eventually,
        proxy::{Fault, Proxy},
    },
    support::{self, Database},
};

/// What the statements of a rollout have in them; not what looks again and again whether there is one.
const STEPS: &[&str] = &[
    "rollout_tenants",
    "rollout_lanes",
    "template_rollouts where rollout_id",
    "update tenantry.template_rollouts",
    "update tenantry.tenant_templates",
    "journal_heads",
    "$tenantry$",
    "pg_logical_emit_message",
];

struct Scene {
    /// Before the cell, and before the registry.
    proxies: [Proxy; 2],
    database: Database,
    binary: Binary,
    _cluster: Cluster,
    fleet: Fleet,
}

impl Scene {
    async fn new() -> Self {
        let cluster = Cluster::start();
        let database = support::database().await;
        let proxies = [Proxy::before(&cluster.socket()), Proxy::before(&Database::socket_folder())];
        let settings = [
            ("TEMPLATES__LEASE", "300ms"),
            ("CELLS__OWN", "false"),
            ("CELLS__CHECK_INTERVAL", "1h"),
            ("WORKER__INTERVAL", "100ms"),
        ];
        let binary = Binary::as_login(&proxies[1].url_as(&database.name, support::LOGIN));
        let binary = settings.into_iter().fold(binary, |binary, (key, value)| binary.set(key, value));
        let server = binary.serve().await;
        let admin = server.admin().await;
        register_cell(&admin, "behind-a-proxy", "STANDARD", &proxies[0].url("postgres")).await;
        admin.ok(super::REGISTER, template("shop", &[ITEMS])).await;
        server.kill().await;
        let cell = cluster.connect("postgres", "postgres").await;
        let fleet = Fleet::seed("kills", database.superuser().await, cell, 2).await;
        Self { proxies, database, binary, _cluster: cluster, fleet }
    }

    /// A rollout of one more migration that nobody has begun to work on.
    async fn order(&self, version: usize) {
        let name = format!("V{version:04}__n.sql");
        let sql = format!("alter table items add column n{version} int; insert into applied values ({version})");
        let order = format!(
            "begin; insert into tenantry.schema_migrations values ('shop', {version}, '{name}', '{sql}', '');
             update tenantry.schema_templates set version = {version};
             insert into tenantry.template_rollouts (rollout_id, template, target, state, rules, started_at)
               values (gen_random_uuid(), 'shop', {version}, 'RUNNING', '{}', now());
             insert into tenantry.rollout_lanes (rollout_id, lane) select rollout_id, 1 from tenantry.template_rollouts where state = 'RUNNING';
             insert into tenantry.rollout_tenants (rollout_id, tenant_id, wave, state, due_at)
               select rollout_id, tenant_id, 0, 'PENDING', now() from tenantry.template_rollouts, tenantry.tenant_templates where state = 'RUNNING';
             commit",
            json!({ "waves": [100.0], "concurrency": 1, "perCell": 1, "lockTimeoutMs": 1000, "statementTimeoutMs": 200,
                "attempts": 50, "failureRate": 0.0 })
        );
        self.fleet.registry.execute_unprepared(&order).await.unwrap();
    }

    async fn is_completed(&self, version: usize) -> bool {
        let state = format!("select state from tenantry.template_rollouts where target = {version}");
        texts(&self.fleet.registry, &state).await == ["COMPLETED"]
    }

    async fn serve(&self) -> Server {
        self.binary.serve().await
    }
}

/// Kills the server while the n-th statement that it sends by this proxy for a rollout is on the way, for every n; answers how
/// many there were.
async fn kill_at_each_step(scene: &Scene, proxy: usize, first: usize) -> usize {
    let proxy = &scene.proxies[proxy];
    for n in 1.. {
        let version = first + n;
        scene.order(version).await;
        proxy.arm_for(n, Fault::Hold, STEPS);
        let server = scene.serve().await;
        let was_hit = eventually("a statement is held, or all is done", async || {
            if proxy.is_hit() {
                return Some(true);
            }
            scene.is_completed(version).await.then_some(false)
        })
        .await;
        server.kill().await;
        let hit = proxy.disarm();
        if was_hit {
            let server = scene.serve().await;
            eventually(&format!("the rollout is ended, killed at statement {n}: {hit:?}"), async || {
                scene.is_completed(version).await.then_some(())
            })
            .await;
            server.kill().await;
        }
        let applied: Vec<_> = (2..=version).map(|version| format!("{version}: 2 once, 0 more often")).collect();
        assert_eq!(scene.fleet.applied().await, applied, "killed at statement {n}: {hit:?}");
        assert_eq!(scene.fleet.versions().await, [format!("{version}: 2")]);
        let told = format!(
            "select count(*)::text from tenantry.journal where event = 'SchemaMigrated' and after ->> 'version' = '{version}'"
        );
        assert_eq!(
            texts(&scene.fleet.registry, &told).await,
            ["2"],
            "each is told once, killed at statement {n}: {hit:?}"
        );
        if !was_hit {
            return n;
        }
    }
    unreachable!()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_at_any_step_of_a_rollout_leaves_what_the_next_one_ends_and_nothing_is_applied_twice() {
    let scene = Scene::new().await;
    let in_the_cell = kill_at_each_step(&scene, 0, 1).await;
    let in_the_registry = kill_at_each_step(&scene, 1, 1 + in_the_cell).await;
    println!("killed at each of {} statements in the cell, {} in the registry", in_the_cell - 1, in_the_registry - 1);
    assert!(in_the_cell > 3 && in_the_registry > 10, "{in_the_cell} {in_the_registry}");
    assert!(!scene.database.name.is_empty());
}
