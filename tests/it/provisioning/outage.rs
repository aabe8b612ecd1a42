//! A cell that is down.

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::{
    ON, active,
    clusters::{Cluster, register},
    create, eventually, look,
};
use crate::support::{Client, TestApp};

async fn health(admin: &Client, name: &str) -> Value {
    let all = admin.ok("{ cells { name health healthReason healthSince } }", json!({})).await;
    all["cells"].as_array().unwrap().iter().find(|cell| cell["name"] == name).cloned().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cell_that_is_down_is_said_to_be_stops_nobody_elses_work_and_recovers_without_a_person() {
    let app =
        TestApp::with(&ON.replace("[cells]", "[cells]\nown = false").replace("50ms", "10m").replace("200ms", "10m"))
            .await;
    let admin = app.admin().await;
    let (mut first, second) = (Cluster::start(), Cluster::start());
    register(&admin, "first", "STANDARD", &first.url("postgres", "postgres")).await;
    let settled = create(&admin, "settled", "STANDARD").await;
    active(&admin, settled).await;

    first.stop();
    let caught = create(&admin, "caught", "STANDARD").await;
    eventually("the failure is told", async || {
        let seen = look(&admin, caught).await;
        seen["layers"][1]["lastError"].as_str().unwrap_or_default().contains("the cell's PostgreSQL").then_some(())
    })
    .await;
    app.advance(TimeDelta::seconds(16));
    let before = app.app.clock.now();
    app.run_due().await;
    let down = eventually("the outage is noticed", async || {
        let health = health(&admin, "first").await;
        (health["health"] == "UNHEALTHY").then_some(health)
    })
    .await;
    assert!(down["healthReason"].as_str().unwrap().contains("cannot be reached"), "{down}");
    let since: chrono::DateTime<chrono::Utc> = down["healthSince"].as_str().unwrap().parse().unwrap();
    assert!(since >= before - TimeDelta::seconds(16) && since <= app.app.clock.now(), "{down}");

    register(&admin, "second", "STANDARD", &second.url("postgres", "postgres")).await;
    for number in 0..10 {
        let seen = active(&admin, create(&admin, &format!("other-{number}"), "STANDARD").await).await;
        assert!(seen["placement"]["reason"].as_str().unwrap().starts_with("second"), "{seen}");
    }
    assert_eq!(look(&admin, settled).await["status"], "ACTIVE");
    app.advance(TimeDelta::seconds(16));
    app.run_due().await;
    assert_eq!(health(&admin, "first").await["healthSince"], down["healthSince"], "it is one outage");

    first.start_again();
    // Ten minutes of pause are not waited for: the cell is back.
    app.advance(TimeDelta::seconds(16));
    app.run_due().await;
    active(&admin, caught).await;
    assert_eq!(health(&admin, "first").await["health"], "HEALTHY");
}
