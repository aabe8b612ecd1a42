//! A rollout over several cells and tiers, while one of the cells is away.

use chrono::TimeDelta;
use sea_orm::ConnectionTrait as _;
use serde_json::json;
use tenantry::platform::ids::TenantId;

use super::{COLOUR, ITEMS, ON, look, register, roll_out, until_state};
use crate::{
    provisioning::{
        self, active,
        clusters::{self, Cluster, stem, texts},
        create, eventually,
    },
    support::{Client, TestApp},
};

struct Placed {
    tenant: TenantId,
    /// A database of its own, or the cell's.
    database: String,
}

/// Two standard tenants and two with databases of their own, on the cell that has nobody yet.
async fn settle(admin: &Client, cell: &str) -> Vec<Placed> {
    let mut settled = Vec::new();
    for (number, tier) in ["STANDARD", "ENTERPRISE", "STANDARD", "ENTERPRISE"].into_iter().enumerate() {
        let tenant = create(admin, &format!("{cell}-{number}"), tier).await;
        active(admin, tenant).await;
        let seen = provisioning::look(admin, tenant).await;
        assert!(seen["placement"]["reason"].as_str().unwrap().starts_with(cell), "{seen}");
        let database = if tier == "ENTERPRISE" { stem(tenant) } else { "postgres".to_owned() };
        settled.push(Placed { tenant, database });
    }
    settled
}

/// How often version 2 was applied to each.
async fn applied(cluster: &Cluster, placed: &[Placed]) -> Vec<String> {
    let mut found = Vec::new();
    for Placed { tenant, database } in placed {
        let count = format!("select count(*)::text from {}.applied where version = 2", stem(*tenant));
        found.extend(texts(&cluster.connect(database, "postgres").await, &count).await);
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_reaches_every_cell_and_tier_and_goes_on_where_it_can_while_one_is_away() {
    let app = TestApp::with(&ON.replace("[cells]", "[cells]\nown = false")).await;
    let admin = app.admin().await;
    register(&admin, &[ITEMS]).await;
    let (mut first, second) = (Cluster::start(), Cluster::start());
    clusters::register(&admin, "first", "STANDARD", &first.url("postgres", "postgres")).await;
    let on_first = settle(&admin, "first").await;
    clusters::register(&admin, "second", "STANDARD", &second.url("postgres", "postgres")).await;
    let on_second = settle(&admin, "second").await;
    register(&admin, &[ITEMS, COLOUR]).await;

    // Of the first cell's tenants one of each tier is held up, so that the cell goes away in the middle of its work.
    let mut holders = Vec::new();
    for Placed { tenant, database } in &on_first[2..] {
        let holder = first.connect(database, "postgres").await;
        holder.execute_unprepared(&format!("begin; select from {}.items", stem(*tenant))).await.unwrap();
        holders.push(holder);
    }
    roll_out(&admin, json!({ "waves": [100.0], "lockTimeoutMs": 50, "attempts": 1000, "concurrency": 4 })).await;
    eventually("all but those who are held up are done", async || {
        (look(&admin).await.1["tenants"]["applied"] == 6).then_some(())
    })
    .await;
    assert_eq!(applied(&first, &on_first).await, ["1", "1", "0", "0"]);
    first.stop();
    app.advance(TimeDelta::seconds(16));
    app.run_due().await;
    let waiting = eventually("the cell is said to be away", async || {
        let (_, rollout) = look(&admin).await;
        let cells = admin.ok("{ cells { name health } }", json!({})).await;
        cells["cells"].as_array().unwrap().iter().any(|cell| cell["health"] == "UNHEALTHY").then_some(rollout)
    })
    .await;
    assert_eq!(waiting["state"], "RUNNING", "{waiting}");
    assert_eq!(waiting["tenants"], json!({ "all": 8, "pending": 2, "applied": 6, "failed": 0, "skipped": 0 }));

    first.start_again();
    app.advance(TimeDelta::seconds(16));
    app.run_due().await;
    let done = until_state(&admin, "COMPLETED").await;
    assert_eq!(done["tenants"], json!({ "all": 8, "pending": 0, "applied": 8, "failed": 0, "skipped": 0 }), "{done}");
    assert_eq!(applied(&first, &on_first).await, ["1"; 4]);
    assert_eq!(applied(&second, &on_second).await, ["1"; 4]);
}
