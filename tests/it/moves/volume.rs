//! The figure: a tenant with a million rows, of which `make soak` makes as many; the suite makes some.

use std::time::{Duration, Instant};

use sea_orm::ConnectionTrait as _;
use serde_json::json;

use super::{
    clients::Clients,
    scene::{Scene, furnish, progress, service},
    soak,
};
use crate::provisioning::clusters::texts;

const SUMS: &str = "select count(*) || ' ' || sum(hashtextextended(t::text, 0)::numeric) from items t";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_tenant_is_moved_under_load_with_a_short_pause() {
    let rows: usize = if soak() { 1_000_000 } else { 20_000 };
    let scene = Scene::new("STANDARD", "STANDARD").await;
    let admin = scene.app.admin().await;
    let before = service(&admin, scene.tenant).await;
    furnish(&before, 0).await;
    // As many in one statement would be longer than a tenant's statement may take.
    for part in (0..rows).step_by(100_000) {
        let last = rows.min(part + 100_000);
        let fill = format!(
            "insert into items (kind, price, facts) select 'plain', n % 100, jsonb_build_object('n', n) from generate_series({}, {last}) n",
            part + 1
        );
        before.execute_unprepared(&fill).await.unwrap();
    }
    let was = texts(&before, SUMS).await;
    before.close().await.unwrap();
    let clients = Clients::start(8, &admin, scene.tenant);
    let begun = Instant::now();
    scene.start_move(json!({})).await;
    let moved = loop {
        let moved = progress(&admin, scene.tenant).await["move"].clone();
        assert!(moved["phase"] != "FAILED" && begun.elapsed() < Duration::from_mins(5), "{moved}");
        if moved["phase"] == "SWITCHED" {
            break moved;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let took = begun.elapsed();
    let after = service(&admin, scene.tenant).await;
    let seen = clients.stop(&after).await;
    assert_eq!(texts(&after, SUMS).await, was, "counts and checksums are equal");
    println!(
        "{rows} rows in {:.1} s ({:.0} rows/s), {} changes carried over, {} acknowledged writes and {} reads; services were kept out for {} ms, and saw {} ms",
        took.as_secs_f64(),
        rows as f64 / took.as_secs_f64(),
        moved["changesApplied"],
        seen.acknowledged,
        seen.reads,
        moved["pauseMs"],
        seen.pause.as_millis()
    );
    // Beside other tests the machine may be busy.
    assert!(moved["pauseMs"].as_i64().unwrap() < if soak() { 1000 } else { 5000 }, "{moved}");
}
