//! `kill -9` of the server at its calls to both ends that change something: what the next one makes of it is as if nothing had been.

use sea_orm::ConnectionTrait as _;
use serde_json::json;
use tenantry::{platform::ids::TenantId, provisioning::Names};

use super::{
    graph,
    scene::{CONFIRM, MOVE, ROLL_BACK, contents, contents_of, furnish, inventory, progress, reached, service},
    soak, vectors,
};
use crate::{
    binary::{Binary, Server},
    provisioning::{
        active,
        clusters::{Cluster, of_tenant, register, texts},
        create, eventually,
        proxy::{Fault, Proxy},
    },
    support::{self, Client, Database},
};

/// What changes something. To die before it is to die after all that was only read or rolled back since the last of them.
const CHANGES: &[&str] = &[
    "ALTER ",
    "CREATE ",
    "DROP ",
    "GRANT ",
    "COPY ",
    "LOCK TABLE",
    "ANALYZE ",
    "UPDATE ",
    "setval",
    "COMMENT ON",
    "REFRESH ",
    "pg_create_logical",
    "pg_drop_replication",
    "pg_terminate_backend",
    "slot_advance",
    "emit_message",
];

struct Scene {
    ends: [(&'static str, Cluster, Proxy); 2],
    database: Database,
    binary: Binary,
    tenant: TenantId,
    /// Where the tenant is.
    place: usize,
}

impl Scene {
    async fn new() -> (Self, Server) {
        let database = support::database().await;
        let settings = [
            ("PROVISIONING__LAYERS", "placement,role,database,schema,vectors,graph"),
            // A server that was killed at a tenant's environment keeps the next move from it for so long.
            ("PROVISIONING__LEASE", "4s"),
            ("PROVISIONING__LAYER_TIMEOUT", "3s"),
            ("PROVISIONING__FIRST_RETRY", "50ms"),
            ("PROVISIONING__LONGEST_RETRY", "200ms"),
            ("TENANCY__ACTIVATION", "automatic"),
            ("MOVES__LEASE", "1s"),
            ("CELLS__OWN", "false"),
            ("CELLS__CHECK_INTERVAL", "1h"),
            ("WORKER__INTERVAL", "100ms"),
        ];
        let binary = settings.into_iter().fold(Binary::on(&database), |binary, (key, value)| binary.set(key, value));
        let server = binary.serve().await;
        let admin = server.admin().await;
        let end = |name| {
            let cluster = Cluster::with_extensions().unwrap_or_else(Cluster::start);
            let proxy = Proxy::before(&cluster.socket());
            (name, cluster, proxy)
        };
        let ends = [end("first"), end("second")];
        register(&admin, ends[0].0, "STANDARD", &ends[0].2.url("postgres")).await;
        let tenant = create(&admin, "moving", "STANDARD").await;
        active(&admin, tenant).await;
        register(&admin, ends[1].0, "STANDARD", &ends[1].2.url("postgres")).await;
        let db = service(&admin, tenant).await;
        furnish(&db, 20).await;
        if Cluster::has_extensions() {
            db.execute_unprepared(&vectors::tables(tenant)).await.unwrap();
            db.execute_unprepared(&graph::drawing(tenant)).await.unwrap();
        }
        (Self { ends, database, binary, tenant, place: 0 }, server)
    }

    async fn of_tenant(&self, end: usize) -> Vec<String> {
        of_tenant(&inventory(&self.ends[end].1).await, self.tenant)
    }

    /// Of all its schemas.
    async fn contents(&self, end: usize) -> Vec<String> {
        let mut found = contents(&self.ends[end].1, "postgres", self.tenant).await;
        let names = Names::of(self.tenant);
        for beside in [names.vectors(), names.graph()] {
            found.extend(contents_of(&self.ends[end].1, "postgres", &beside).await);
        }
        found
    }

    async fn goes(&self, admin: &Client) {
        let target = self.ends[1 - self.place].0;
        admin.ok(MOVE, json!({ "input": { "tenantId": self.tenant, "cell": target } })).await;
    }

    async fn phase(&self, admin: &Client) -> String {
        progress(admin, self.tenant).await["move"]["phase"].as_str().unwrap().to_owned()
    }

    /// Confirms where that can be; whether it is over.
    async fn is_over(&self, admin: &Client) -> bool {
        admin.graphql(CONFIRM, json!({ "id": self.tenant })).await;
        self.phase(admin).await == "CONFIRMED"
    }

    /// Moves the tenant, and kills the server at the n-th change at one end, if there are so many; the server that goes on.
    async fn kill_at(&self, server: Server, (n, at): (usize, usize)) -> (Server, Option<String>) {
        // The dry run before a move counts in neither case: it changes nothing.
        self.ends[at].2.arm_for(n, Fault::Hold, CHANGES);
        self.goes(&server.admin().await).await;
        self.kill_when_held(server, at).await
    }

    /// The same while a switched move is rolled back.
    async fn kill_on_the_way_back(&self, server: Server, (n, at): (usize, usize)) -> (Server, Option<String>) {
        let admin = server.admin().await;
        self.goes(&admin).await;
        reached(&admin, self.tenant, "SWITCHED").await;
        self.ends[at].2.arm_for(n, Fault::Hold, CHANGES);
        admin.ok(ROLL_BACK, json!({ "id": self.tenant })).await;
        self.kill_when_held(server, at).await
    }

    async fn kill_when_held(&self, server: Server, at: usize) -> (Server, Option<String>) {
        let (admin, proxy) = (server.admin().await, &self.ends[at].2);
        eventually("a change is held, or it is over", async || {
            (proxy.is_hit() || self.is_over(&admin).await).then_some(())
        })
        .await;
        if !proxy.is_hit() {
            proxy.disarm();
            return (server, None);
        }
        server.kill().await;
        let hit = proxy.disarm();
        let server = self.binary.serve().await;
        let admin = server.admin().await;
        eventually("the next server completes it", async || self.is_over(&admin).await.then_some(())).await;
        (server, hit)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_while_it_moves_a_tenant_leaves_what_the_next_one_completes() {
    let (mut scene, mut server) = Scene::new().await;
    let (reference, rows) = (scene.of_tenant(0).await, scene.contents(0).await);
    let registry = scene.database.superuser().await;
    // The long form takes each step; the short one some of them, others each time.
    let stride = if soak() { 1 } else { 16 };
    let first = if soak() { 1 } else { 1 + scene.tenant.uuid().as_u128() as usize % stride };
    let mut killed = 0;
    for at_source in [true, false] {
        for n in (first..).step_by(stride) {
            let at = if at_source { scene.place } else { 1 - scene.place };
            let (next, hit) = scene.kill_at(server, (n, at)).await;
            server = next;
            scene.place = 1 - scene.place;
            let what = format!("killed at change {n} of the {}: {hit:?}", if at_source { "source" } else { "target" });
            assert_eq!(scene.of_tenant(scene.place).await, reference, "{what}");
            assert_eq!(scene.of_tenant(1 - scene.place).await, [""; 0], "{what}");
            assert_eq!(scene.contents(scene.place).await, rows, "{what}");
            let moves = "select (select count(*) from tenantry.moves where phase = 'CONFIRMED') || ' ' || (select count(*) from tenantry.journal where event = 'MoveSwitched')
                || ' ' || (select count(*) from tenantry.journal where event = 'MoveConfirmed')";
            let told = texts(&registry, moves).await.remove(0);
            let counts: std::collections::BTreeSet<_> = told.split(' ').collect();
            assert_eq!(counts.len(), 1, "each move is told once: {told}, {what}");
            if hit.is_none() {
                break;
            }
            killed += 1;
        }
    }
    println!("killed at {killed} changes of a move, every {stride} from {first} on");
    assert!(killed >= 4, "{killed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_while_it_rolls_a_move_back_leaves_what_the_next_one_completes() {
    let (scene, mut server) = Scene::new().await;
    let (reference, rows) = (scene.of_tenant(0).await, scene.contents(0).await);
    let registry = scene.database.superuser().await;
    let stride = if soak() { 1 } else { 40 };
    // What ends the first move comes first, and is tried in each run.
    let first = [1, 1 + scene.tenant.uuid().as_u128() as usize % stride];
    let mut killed = 0;
    for at in [0, 1] {
        for n in first.into_iter().take(stride.min(2)).chain((first[1]..).step_by(stride).skip(1)) {
            let (next, hit) = scene.kill_on_the_way_back(server, (n, at)).await;
            server = next;
            let what = format!("killed at change {n} of {}: {hit:?}", scene.ends[at].0);
            assert_eq!(scene.of_tenant(0).await, reference, "{what}");
            assert_eq!(scene.of_tenant(1).await, [""; 0], "{what}");
            assert_eq!(scene.contents(0).await, rows, "{what}");
            let moves = "select string_agg(distinct count::text, ' ') from (
                select count(*) from tenantry.moves where phase = 'ROLLED_BACK' union all select count(*) from tenantry.moves where phase = 'CONFIRMED'
                union all select count(*) from tenantry.journal where event = 'MoveRolledBack'
                union all select count(*) from tenantry.journal where event = 'MoveConfirmed') as counts";
            assert_eq!(texts(&registry, moves).await[0].split(' ').count(), 1, "each is told once, {what}");
            let placed = "select string_agg(placed::text, ' ' order by name) from tenantry.cells";
            assert_eq!(texts(&registry, placed).await, ["1 0"], "{what}");
            if hit.is_none() {
                break;
            }
            killed += 1;
        }
    }
    println!("killed at {killed} changes of a way back");
    assert!(killed >= 4, "{killed}");
}
