//! `kill -9` of a server at each statement by which a plane is asked, and by which its answer is taken: it is asked once, and answers once.

use serde_json::json;
use tenantry::platform::ids::TenantId;

use super::{
    active,
    clusters::{Cluster, register as register_cell, texts},
    create, eventually,
    planes::Plane,
    proxy::{Fault, Proxy},
};
use crate::{
    binary::{Binary, Server},
    support::{self, Database},
};

/// From here to its commit a plane is asked.
const ASKS: &str = "insert into tenantry.plane_jobs";
/// From here to its commit an answer is taken.
const TAKES: &str = "update tenantry.plane_jobs";

struct Scene {
    cluster: Cluster,
    database: Database,
    proxy: Proxy,
    binary: Binary,
    shop: Plane,
}

impl Scene {
    async fn new() -> (Self, Server) {
        let (cluster, database) = (Cluster::start(), support::database().await);
        let proxy = Proxy::before(&Database::socket_folder());
        let settings = [
            ("DATABASE__URL", proxy.url_as(&database.name, support::LOGIN)),
            ("PROVISIONING__LAYERS", "placement,role,database,schema".to_owned()),
            ("PROVISIONING__LEASE", "1500ms".to_owned()),
            ("PROVISIONING__LAYER_TIMEOUT", "1s".to_owned()),
            ("PROVISIONING__FIRST_RETRY", "50ms".to_owned()),
            ("PROVISIONING__LONGEST_RETRY", "200ms".to_owned()),
            ("TENANCY__ACTIVATION", "automatic".to_owned()),
            ("CELLS__OWN", "false".to_owned()),
            ("WORKER__INTERVAL", "100ms".to_owned()),
        ];
        let binary = settings.into_iter().fold(Binary::on(&database), |binary, (key, value)| binary.set(key, value));
        let server = binary.serve().await;
        let admin = server.admin().await;
        register_cell(&admin, "only", "STANDARD", &cluster.url("postgres", "postgres")).await;
        let shop = Plane::register(&admin, "shop", json!({})).await;
        (Self { cluster, database, proxy, binary, shop }, server)
    }

    /// The plane as a client of this server.
    fn shop(&self, server: &Server) -> Plane {
        Plane { name: self.shop.name.clone(), client: server.with_token(self.shop.client.token().unwrap()) }
    }

    /// Holds the statement with this mark, or the n-th behind it.
    fn arm(&self, mark: &'static str, n: usize) {
        match n {
            0 => self.proxy.arm_for(1, Fault::Hold, if mark == ASKS { &[ASKS] } else { &[TAKES] }),
            _ => self.proxy.arm_after(mark, n, Fault::Hold),
        }
    }

    /// Kills the server at what is held, and starts another.
    async fn kill(&self, server: Server) -> (Server, String) {
        eventually("a statement is held", async || self.proxy.is_hit().then_some(())).await;
        server.kill().await;
        let hit = self.proxy.disarm().unwrap();
        (self.binary.serve().await, hit)
    }

    /// Asked, answered and active, each once.
    async fn is_told_once(&self, tenant: TenantId, hit: &str) {
        let registry = self.database.superuser().await;
        for event in ["PlaneJobIssued", "PlaneJobSucceeded", "ProvisioningSucceeded", "TenantActivated"] {
            let count = format!(
                "select count(*)::text from tenantry.journal where tenant_id = '{tenant}' and event = '{event}'"
            );
            assert_eq!(texts(&registry, &count).await, ["1"], "{event}, killed at {hit}");
        }
        let jobs = format!("select state from tenantry.plane_jobs where tenant_id = '{tenant}'");
        assert_eq!(texts(&registry, &jobs).await, ["SUCCEEDED"], "killed at {hit}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_at_any_step_of_asking_a_plane_or_taking_its_answer_asks_once_and_takes_it_once() {
    let (scene, mut server) = Scene::new().await;
    let success = json!({ "outcome": "SUCCESS", "outputs": { "shelf": 7 } });
    let mut killed = [0, 0];
    for (step, mark) in [ASKS, TAKES].into_iter().enumerate() {
        for n in 0.. {
            let admin = server.admin().await;
            let slug = format!("tenant-{step}-{n}");
            let (tenant, hit) = if mark == ASKS {
                scene.arm(mark, n);
                let tenant = create(&admin, &slug, "STANDARD").await;
                let (next, hit) = scene.kill(server).await;
                server = next;
                (tenant, hit)
            } else {
                let tenant = create(&admin, &slug, "STANDARD").await;
                let (shop, success) = (scene.shop(&server), success.clone());
                let job = shop.asked(tenant, &[]).await;
                scene.arm(mark, n);
                let answering = tokio::spawn(async move { shop.try_report(&job, success).await });
                let (next, hit) = scene.kill(server).await;
                server = next;
                answering.abort();
                (tenant, hit)
            };
            let shop = scene.shop(&server);
            // What was answered before the kill is not asked again.
            let settled = async || {
                let state = format!("select state from tenantry.plane_jobs where tenant_id = '{tenant}'");
                texts(&scene.database.superuser().await, &state).await == ["SUCCEEDED"]
            };
            if !settled().await {
                let job = shop.asked(tenant, &[]).await;
                shop.report(&job, success.clone()).await;
            }
            active(&server.admin().await, tenant).await;
            scene.is_told_once(tenant, &hit).await;
            killed[step] += 1;
            if hit == "COMMIT" {
                break;
            }
            assert!(n < 20, "it is never committed: {hit}");
        }
    }
    println!("killed at {} statements of asking a plane, and at {} of taking its answer", killed[0], killed[1]);
    assert!(killed.iter().all(|steps| *steps >= 4), "{killed:?}");
    drop((server, scene.cluster));
}
