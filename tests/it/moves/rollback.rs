//! A move that is rolled back after its switch: the tenant is where it came from, with all that was written since.

use sea_orm::ConnectionTrait as _;
use serde_json::json;

use super::{
    clients::Clients,
    scene::{CANCEL, CONFIRM, ROLL_BACK, Scene, contents, furnish, reached, service},
};
use crate::provisioning::{
    clusters::{stem, texts},
    eventually,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_is_rolled_back_loses_no_acknowledged_write_of_before_or_after_the_switch() {
    let scene = Scene::new("STANDARD", "ENTERPRISE").await;
    let (admin, tenant) = (scene.app.admin().await, scene.tenant);
    furnish(&service(&admin, tenant).await, 200).await;
    let standard = scene.of_tenant(&scene.source).await;
    let clients = Clients::start(4, &admin, tenant);
    scene.start_move(json!({ "isolationTier": "ENTERPRISE" })).await;
    let told = admin.graphql(ROLL_BACK, json!({ "id": tenant })).await;
    assert!(
        told.code() == "invalid_transition" || scene.progress().await["move"]["phase"] == "SWITCHED",
        "{}",
        told.text
    );
    scene.reached("SWITCHED").await;
    let there = service(&admin, tenant).await;
    there.execute_unprepared("insert into kinds values ('since', 'sad')").await.unwrap();
    let at_switch = texts(&there, "select count(*)::text from written").await;
    eventually("services write at the target", async || {
        (texts(&there, "select count(*)::text from written").await != at_switch).then_some(())
    })
    .await;

    for _ in 0..2 {
        admin.ok(ROLL_BACK, json!({ "id": tenant })).await; // at once, or again
    }
    let refused = admin.graphql(CONFIRM, json!({ "id": tenant })).await;
    assert_eq!(
        refused.code(),
        "invalid_transition",
        "neither the first move nor the one back can be confirmed: {}",
        refused.text
    );
    eventually("it is back among others", async || {
        let seen = scene.progress().await;
        (seen["move"]["phase"] == "SWITCHED" && seen["isolationTier"] == "STANDARD").then_some(())
    })
    .await;
    let back = service(&admin, tenant).await;
    assert_eq!(texts(&back, "select current_database()::text").await, ["postgres"]);
    let at_switch = texts(&back, "select count(*)::text from written").await;
    eventually("services go on there", async || {
        (texts(&back, "select count(*)::text from written").await != at_switch).then_some(())
    })
    .await;
    clients.stop(&back).await;
    assert_eq!(texts(&back, "select kind from kinds where kind = 'since'").await, ["since"]);
    let kept = contents(&scene.target, &stem(tenant), tenant).await;
    assert!(!kept.is_empty(), "until it is confirmed");
    admin.ok(CONFIRM, json!({ "id": tenant })).await;
    scene.reached("CONFIRMED").await;
    assert_eq!(scene.of_tenant(&scene.target).await, [""; 0]);
    assert_eq!(scene.of_tenant(&scene.source).await, standard);
    assert_eq!(admin.refused(ROLL_BACK, json!({ "id": tenant })).await, "not_found");

    let registry = scene.app.database.superuser().await;
    let phases = "select phase from tenantry.moves order by started_at";
    assert_eq!(texts(&registry, phases).await, ["ROLLED_BACK", "CONFIRMED"]);
    let events = format!(
        "select event from tenantry.journal where event like 'Move%' and tenant_id = '{tenant}' and event <> 'MoveRestarted' and event <> 'MoveHeldUp' order by sequence"
    );
    let half = ["MoveStarted", "MoveCopied", "MoveSwitched"];
    let expected: Vec<_> = half
        .into_iter()
        .chain(["MoveRollbackRequested", "MoveRolledBack"])
        .chain(half)
        .chain(["MoveConfirmationRequested", "MoveConfirmed"])
        .collect();
    assert_eq!(texts(&registry, &events).await, expected);
    assert_eq!(scene.app.app.provisioning.remove_all(tenant).await.unwrap().residue, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_back_is_refused_where_there_is_none_and_can_be_called_off_and_rolled_back_itself() {
    let scene = Scene::new("STANDARD", "STANDARD").await;
    let (admin, tenant) = (scene.app.admin().await, scene.tenant);
    assert_eq!(admin.refused(ROLL_BACK, json!({ "id": tenant })).await, "not_found");
    let standard = scene.of_tenant(&scene.source).await;
    scene.start_move(json!({})).await;
    scene.reached("SWITCHED").await;

    // The place that it came from takes nobody of its regions any more.
    let registry = scene.app.database.superuser().await;
    let regions = "update tenantry.moves set source_region = 'elsewhere'";
    registry.execute_unprepared(regions).await.unwrap();
    assert_eq!(admin.refused(ROLL_BACK, json!({ "id": tenant })).await, "residency_violation");
    registry.execute_unprepared("update tenantry.moves set source_region = target_region").await.unwrap();

    // There and back, twice: where it was at first, and its place with it.
    admin.ok(ROLL_BACK, json!({ "id": tenant })).await;
    let placed = async |at: &str| {
        eventually("it is there", async || {
            let seen = scene.progress().await;
            let query = format!("select c.name from tenantry.placements p join tenantry.cells c using (cell_id) where tenant_id = '{tenant}'");
            (seen["move"]["phase"] == "SWITCHED" && texts(&registry, &query).await == [at]).then_some(())
        })
        .await;
    };
    placed("source").await;
    admin.ok(ROLL_BACK, json!({ "id": tenant })).await;
    placed("target").await;
    let both = "select string_agg(placed::text, ' ') from tenantry.cells";
    assert_eq!(texts(&registry, both).await, ["1 1"], "one is where it is, one is kept");

    // Called off, it stays, and nothing is left where it came from.
    admin.ok(ROLL_BACK, json!({ "id": tenant })).await;
    eventually("the way back has begun", async || {
        let answer = admin.graphql(CANCEL, json!({ "id": tenant })).await;
        (answer.body["errors"].is_null()).then_some(())
    })
    .await;
    reached(&admin, tenant, "CANCELLED").await;
    assert_eq!(scene.of_tenant(&scene.source).await, [""; 0]);
    assert_eq!(scene.of_tenant(&scene.target).await, standard);
    assert_eq!(texts(&registry, "select placed::text from tenantry.cells order by name").await, ["0", "1"]);
}
