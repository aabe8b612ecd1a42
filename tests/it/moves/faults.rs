//! Calls off and crashes in each phase: the end is the same as without, or as before.

use sea_orm::ConnectionTrait as _;
use serde_json::json;
use tenantry::platform::ids::TenantId;

use super::scene::{CANCEL, CONFIRM, MOVE, contents, furnish, inventory, reached, service, settings};
use crate::{
    provisioning::{
        active,
        clusters::{Cluster, of_tenant, register, stem, texts},
        create, eventually,
        proxy::{Fault, Proxy},
    },
    support::TestApp,
};

/// A statement of each phase, and at which end it is.
const PHASES: [(&str, End, &[&str]); 6] = [
    ("PREPARING", End::Target, &["CREATE ROLE"]),
    ("PREPARING", End::Source, &["CREATE PUBLICATION"]),
    ("COPYING", End::Source, &["COPY"]),
    ("CATCHING_UP", End::Source, &["pg_logical_slot_peek"]),
    ("SWITCHING", End::Source, &["IN SHARE MODE"]),
    ("SWITCHING", End::Target, &["COMMENT ON SCHEMA"]),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Source,
    Target,
}

struct Stage {
    app: TestApp,
    source: Cluster,
    target: Cluster,
    before_source: Proxy,
    before_target: Proxy,
    tenant: TenantId,
}

impl Stage {
    async fn new() -> Self {
        let app = TestApp::with(&format!("{}\n[moves]\nlease = \"2s\"", settings())).await;
        let admin = app.admin().await;
        let (source, target) = (Cluster::start(), Cluster::start());
        let (before_source, before_target) = (Proxy::before(&source.socket()), Proxy::before(&target.socket()));
        register(&admin, "source", "STANDARD", &before_source.url("postgres")).await;
        let tenant = create(&admin, "moving", "STANDARD").await;
        active(&admin, tenant).await;
        register(&admin, "target", "STANDARD", &before_target.url("postgres")).await;
        furnish(&service(&admin, tenant).await, 100).await;
        Self { app, source, target, before_source, before_target, tenant }
    }

    fn proxy(&self, end: End) -> &Proxy {
        if end == End::Source { &self.before_source } else { &self.before_target }
    }

    /// Begins a move, and waits until it is at that statement.
    async fn hold_at(&self, (phase, end, words): (&str, End, &'static [&'static str])) {
        self.proxy(end).arm_for(1, Fault::Hold, words);
        self.app.admin().await.ok(MOVE, json!({ "input": { "tenantId": self.tenant } })).await;
        eventually(&format!("{words:?} is on its way"), async || self.proxy(end).is_hit().then_some(())).await;
        reached(&self.app.admin().await, self.tenant, phase).await;
    }

    async fn of_tenant(&self, cluster: &Cluster) -> Vec<String> {
        of_tenant(&inventory(cluster).await, self.tenant)
    }
}

/// PostgreSQL leaves numbers of sequences out after a crash.
fn without<'a>(lines: &'a [String], kind: &str) -> Vec<&'a String> {
    lines.iter().filter(|line| !line.starts_with(kind)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_is_called_off_in_any_phase_leaves_all_as_it_was() {
    let stage = Stage::new().await;
    let (was, rows) = (stage.of_tenant(&stage.source).await, contents(&stage.source, "postgres", stage.tenant).await);
    for at in PHASES {
        stage.hold_at(at).await;
        let admin = stage.app.admin().await;
        assert_eq!(admin.refused(CONFIRM, json!({ "id": stage.tenant })).await, "invalid_transition");
        admin.ok(CANCEL, json!({ "id": stage.tenant })).await;
        stage.proxy(at.1).disarm();
        reached(&admin, stage.tenant, "CANCELLED").await;
        assert_eq!(stage.of_tenant(&stage.target).await, [""; 0], "called off at {at:?}");
        assert_eq!(stage.of_tenant(&stage.source).await, was, "called off at {at:?}");
        assert_eq!(contents(&stage.source, "postgres", stage.tenant).await, rows, "called off at {at:?}");
        let service = service(&admin, stage.tenant).await;
        service
            .execute_unprepared("insert into kinds values ('new', 'sad'); delete from kinds where kind = 'new'")
            .await
            .unwrap();
    }
    let registry = stage.app.database.superuser().await;
    let places = "select string_agg(name || ' ' || placed, ', ' order by name) from tenantry.cells";
    assert_eq!(texts(&registry, places).await, ["source 1, target 0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_of_either_end_in_any_phase_is_got_over_without_a_person() {
    let mut stage = Stage::new().await;
    let rows = contents(&stage.source, "postgres", stage.tenant).await;
    for at in PHASES {
        for end in [End::Source, End::Target] {
            stage.hold_at(at).await;
            let crashing = if end == End::Source { &mut stage.source } else { &mut stage.target };
            crashing.crash();
            let held = if at.1 == End::Source { &stage.before_source } else { &stage.before_target };
            held.disarm();
            crashing.start_again();
            let admin = stage.app.admin().await;
            reached(&admin, stage.tenant, "SWITCHED").await;
            eventually("nothing of the move is left", async || {
                let both = [stage.of_tenant(&stage.source).await, stage.of_tenant(&stage.target).await].concat();
                let left = ["slot", "publication", "T_move", "T_m "];
                (!both.iter().any(|line| left.iter().any(|word| line.contains(word)))).then_some(())
            })
            .await;
            let there = contents(&stage.target, "postgres", stage.tenant).await;
            assert_eq!(without(&there, "sequence "), without(&rows, "sequence "), "{end:?} crashed at {at:?}");
            admin.ok(CONFIRM, json!({ "id": stage.tenant })).await;
            reached(&admin, stage.tenant, "CONFIRMED").await;
            assert_eq!(stage.of_tenant(&stage.source).await, [""; 0], "{end:?} crashed at {at:?}");
            // What was the target is the next one's source.
            std::mem::swap(&mut stage.source, &mut stage.target);
            std::mem::swap(&mut stage.before_source, &mut stage.before_target);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_defined_while_it_is_copied_is_copied_anew() {
    let stage = Stage::new().await;
    let service = service(&stage.app.admin().await, stage.tenant).await;
    stage.hold_at(("CATCHING_UP", End::Source, &["pg_logical_slot_peek"])).await;
    service
        .execute_unprepared("alter table items add column more text default 'x'; create table later as select 1 as one")
        .await
        .unwrap();
    stage.before_source.disarm();
    reached(&stage.app.admin().await, stage.tenant, "SWITCHED").await;
    let (there, here) = (
        contents(&stage.source, "postgres", stage.tenant).await,
        contents(&stage.target, "postgres", stage.tenant).await,
    );
    // What tells rows of the source apart is no longer set back.
    assert_eq!(without(&there, "relation "), without(&here, "relation "));
    assert!(here.iter().any(|line| line.starts_with("rows of later: 1 ")), "{here:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_move_would_leave_behind_ends_it_whenever_it_comes_to_be() {
    let stage = Stage::new().await;
    let (admin, registry) = (stage.app.admin().await, stage.app.database.superuser().await);
    let cell = stage.source.connect("postgres", "postgres").await;
    let rows = contents(&stage.source, "postgres", stage.tenant).await;
    let schema = format!("{}_vectors", stem(stage.tenant));
    let seen = format!(
        "insert into tenantry.provisioning_layers (tenant_id, layer, position, essential, wanted, observed, since)
         values ('{0}', 'graph', 9, false, 'PRESENT', 'PRESENT', now())",
        stage.tenant
    );
    let forgotten =
        format!("delete from tenantry.provisioning_layers where layer = 'graph' and tenant_id = '{}'", stage.tenant);
    // In the cell, where nobody has written it down yet; as the cell's reconciler has seen it; and by the tenant itself.
    let made = format!("create schema {schema}; create table {schema}.items (id) as select 1");
    let dropped = format!("drop schema {schema} cascade");
    let own = service(&admin, stage.tenant).await;
    let (large, unlinked) = ("select lo_create(4711)".to_owned(), "select lo_unlink(4711)".to_owned());
    let beside = ("conflict", "the tenant has vectors or a graph in its cell");
    for (place, comes, goes, (code, told)) in [
        (&cell, made, dropped, beside),
        (&registry, seen, forgotten, beside),
        (&own, large, unlinked, ("invalid_input", "the tenant has large objects")),
    ] {
        stage.hold_at(("CATCHING_UP", End::Source, &["pg_logical_slot_peek"])).await;
        place.execute_unprepared(&comes).await.unwrap();
        stage.before_source.disarm();
        let failed = reached(&admin, stage.tenant, "FAILED").await;
        assert!(failed["problem"].as_str().unwrap().starts_with(told), "{failed}");
        assert_eq!(stage.of_tenant(&stage.target).await, [""; 0], "{comes}");
        assert_eq!(contents(&stage.source, "postgres", stage.tenant).await, rows, "{comes}");
        let refused = admin.graphql(MOVE, json!({ "input": { "tenantId": stage.tenant } })).await;
        let error = &refused.body["errors"][0];
        assert_eq!((refused.code(), &error["extensions"]["field"]), (code, &json!("tenantId")), "{error}");
        own.execute_unprepared("update kinds set mood = mood").await.unwrap();
        place.execute_unprepared(&goes).await.unwrap();
    }
    admin.ok(MOVE, json!({ "input": { "tenantId": stage.tenant } })).await;
    reached(&admin, stage.tenant, "SWITCHED").await;
}
