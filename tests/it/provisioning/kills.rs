//! `kill -9` of the server at each of its calls to a cell: what the next one makes of it is as if nothing had been.

use sea_orm::ConnectionTrait as _;
use serde_json::json;
use tenantry::platform::ids::TenantId;

use super::{
    active,
    clusters::{Cluster, inventory, of_tenant, register, texts},
    create, eventually,
    proxy::{Fault, Proxy},
};
use crate::{
    binary::{Binary, Server},
    support::{self, Database},
};

struct Scene {
    cluster: Cluster,
    proxy: Proxy,
    database: Database,
    binary: Binary,
}

impl Scene {
    async fn new() -> Self {
        let cluster = Cluster::start();
        let proxy = Proxy::before(&cluster.socket());
        let database = support::database().await;
        let settings = [
            ("PROVISIONING__LAYERS", "placement,role,database,schema"),
            ("PROVISIONING__LEASE", "1500ms"),
            ("PROVISIONING__LAYER_TIMEOUT", "1s"),
            ("PROVISIONING__FIRST_RETRY", "50ms"),
            ("PROVISIONING__LONGEST_RETRY", "200ms"),
            ("TENANCY__ACTIVATION", "automatic"),
            ("CELLS__OWN", "false"),
            ("CELLS__CHECK_INTERVAL", "1h"),
            ("WORKER__INTERVAL", "100ms"),
        ];
        let binary = settings.into_iter().fold(Binary::on(&database), |binary, (key, value)| binary.set(key, value));
        Self { cluster, proxy, database, binary }
    }

    /// A server that has looked at its cells once, and will not for an hour.
    async fn serve(&self) -> Server {
        self.proxy.arm(usize::MAX, Fault::Hold);
        let server = self.binary.serve().await;
        if !self.cells().await.is_empty() {
            eventually("the first look at the cell is over", async || {
                let log = self.proxy.log();
                let looked = log.iter().position(|statement| statement.contains("default_transaction_read_only"))?;
                log[looked..].iter().any(|statement| statement == "COMMIT").then_some(())
            })
            .await;
        }
        self.proxy.disarm();
        server
    }

    async fn cells(&self) -> Vec<String> {
        texts(&self.database.superuser().await, "select name from tenantry.cells").await
    }

    async fn tenants(&self) -> Vec<TenantId> {
        let ids = texts(&self.database.superuser().await, "select tenant_id::text from tenantry.tenants").await;
        ids.iter().map(|id| id.parse().unwrap()).collect()
    }

    /// Nobody works on a tenant, so that the next statement is of what is done next.
    async fn turns_are_over(&self) {
        let registry = self.database.superuser().await;
        let busy = "select count(*)::text from tenantry.provisioning where lease_token is not null";
        eventually("all turns are over", async || (texts(&registry, busy).await == ["0"]).then_some(())).await;
    }

    /// Nothing is in the cluster but what its tenants have.
    async fn has_no_orphans(&self) {
        let (all, tenants) = (inventory(&self.cluster).await, self.tenants().await);
        let known: usize =
            futures::future::join_all(tenants.iter().map(|tenant| async { of_tenant(&all, *tenant).len() }))
                .await
                .iter()
                .sum();
        assert_eq!(known, all.len(), "{all:#?}");
    }
}

/// Kills the server while its n-th statement is on the way, for every n; answers how many there were.
async fn kill_at_each_step(tier: &str) -> usize {
    let scene = Scene::new().await;
    let server = scene.serve().await;
    let admin = server.admin().await;
    register(&admin, "behind-a-proxy", "STANDARD", &scene.proxy.url("postgres")).await;
    let calm = create(&admin, "calm", tier).await;
    active(&admin, calm).await;
    server.stop().await;
    let reference = of_tenant(&inventory(&scene.cluster).await, calm);
    assert!(reference.len() >= 7, "{reference:#?}");
    let mut server = scene.serve().await;
    for n in 1.. {
        let admin = server.admin().await;
        scene.turns_are_over().await;
        scene.proxy.arm(n, Fault::Hold);
        let tenant = create(&admin, &format!("killed-{n}"), tier).await;
        let was_hit = eventually("a statement is held, or all is done", async || {
            let done = || async {
                let status =
                    admin.graphql("query($id: ID!) { tenant(id: $id) { status } }", json!({ "id": tenant })).await;
                status.data()["tenant"]["status"] == "ACTIVE"
            };
            if scene.proxy.is_hit() {
                Some(true)
            } else if done().await {
                Some(false)
            } else {
                None
            }
        })
        .await;
        server.kill().await;
        let hit = scene.proxy.disarm();
        server = scene.serve().await;
        active(&server.admin().await, tenant).await;
        assert_eq!(of_tenant(&inventory(&scene.cluster).await, tenant), reference, "killed at statement {n}: {hit:?}");
        let made =
            "select count(*)::text from tenantry.journal where event = 'ProvisioningSucceeded' and tenant_id = '";
        let told = texts(&scene.database.superuser().await, &format!("{made}{tenant}'")).await;
        assert_eq!(told, ["1"], "it is told once, killed at statement {n}: {hit:?}");
        if !was_hit {
            server.kill().await;
            scene.has_no_orphans().await;
            return n - 1;
        }
    }
    unreachable!()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_at_any_step_of_making_a_schema_leaves_what_the_next_one_completes() {
    let steps = kill_at_each_step("STANDARD").await;
    println!("killed at each of {steps} statements of a standard tenant");
    assert!(steps >= 12, "{steps}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_at_any_step_of_making_a_database_leaves_what_the_next_one_completes() {
    let steps = kill_at_each_step("ENTERPRISE").await;
    println!("killed at each of {steps} statements of an enterprise tenant");
    assert!(steps >= 20, "{steps}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_at_any_step_of_taking_away_leaves_nothing_in_the_end() {
    let scene = Scene::new().await;
    let server = scene.serve().await;
    register(&server.admin().await, "behind-a-proxy", "STANDARD", &scene.proxy.url("postgres")).await;
    server.kill().await;
    let registry = scene.database.superuser().await;
    let mut steps = 0;
    let mut server = scene.serve().await;
    for n in 1.. {
        let admin = server.admin().await;
        let tenant = create(&admin, &format!("gone-{n}"), "ENTERPRISE").await;
        active(&admin, tenant).await;
        scene.turns_are_over().await;
        scene.proxy.arm(n, Fault::Hold);
        let remove = format!(
            "update tenantry.provisioning set wanted = 'ABSENT', settled_at = null, due_at = now(), requests = requests + 1 where tenant_id = '{tenant}'"
        );
        registry.execute_unprepared(&remove).await.unwrap();
        let gone = format!(
            "select count(*)::text from tenantry.journal where event = 'DeprovisioningSucceeded' and tenant_id = '{tenant}'"
        );
        let was_hit = eventually("a statement is held, or all is done", async || {
            if scene.proxy.is_hit() {
                return Some(true);
            }
            (texts(&registry, &gone).await == ["1"]).then_some(false)
        })
        .await;
        server.kill().await;
        let hit = scene.proxy.disarm();
        server = scene.serve().await;
        eventually(&format!("all is gone, killed at statement {n}: {hit:?}"), async || {
            (texts(&registry, &gone).await == ["1"]).then_some(())
        })
        .await;
        assert_eq!(inventory(&scene.cluster).await, [""; 0], "killed at statement {n}: {hit:?}");
        if !was_hit {
            server.kill().await;
            steps = n - 1;
            break;
        }
    }
    println!("killed at each of {steps} statements of taking away");
    assert!(steps >= 15, "{steps}");
}
