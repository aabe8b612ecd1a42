//! What a tenant has on a cell is made for its tier.

use chrono::TimeDelta;
use sea_orm::ConnectionTrait as _;
use serde_json::json;

use super::scene::{CONFIRM, Scene, contents, furnish, reached, service};
use crate::{
    provisioning::{
        ON, active,
        clusters::{stem, texts},
        create, look, observed,
    },
    support::TestApp,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tier_of_a_tenant_with_a_place_changes_by_a_move_alone() {
    let app = TestApp::with(ON).await;
    let admin = app.admin().await;
    let update = "mutation($input: UpdateTenantInput!) { updateTenant(input: $input) { tenant { isolationTier } } }";
    let to = |id, tier: &str| json!({ "input": { "id": id, "isolationTier": tier } });
    let placed = create(&admin, "placed", "STANDARD").await;
    active(&admin, placed).await;
    let refused = admin.graphql(update, to(placed, "ENTERPRISE")).await;
    assert_eq!(refused.code(), "conflict");
    assert!(refused.body.to_string().contains("comes with `moveTenant` alone"), "{}", refused.body);
    assert_eq!(look(&admin, placed).await["placement"]["tier"], "STANDARD");
    admin.ok(update, to(placed, "STANDARD")).await;
    // Without a place there is nothing that would be left behind.
    let waiting = create(&admin, "waiting", "PREMIUM").await;
    admin.ok(update, to(waiting, "ENTERPRISE")).await;
    let seen = active(&admin, waiting).await;
    assert_eq!(seen["placement"]["tier"], "ENTERPRISE", "{seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_gets_a_database_of_its_own_and_goes_back_among_others() {
    let scene = Scene::new("STANDARD", "ENTERPRISE").await;
    let admin = scene.app.admin().await;
    furnish(&service(&admin, scene.tenant).await, 200).await;
    let rows = contents(&scene.source, "postgres", scene.tenant).await;
    let standard = scene.of_tenant(&scene.source).await;
    scene.start_move(json!({ "isolationTier": "ENTERPRISE" })).await;
    let moved = scene.reached("SWITCHED").await;
    assert_eq!((&moved["sourceTier"], &moved["targetTier"]), (&json!("STANDARD"), &json!("ENTERPRISE")));
    let seen = scene.progress().await;
    assert_eq!((&seen["isolationTier"], &seen["placement"]["tier"]), (&json!("ENTERPRISE"), &json!("ENTERPRISE")));
    assert_eq!(contents(&scene.target, &stem(scene.tenant), scene.tenant).await, rows);
    // At once: nobody waits until its database is looked at.
    let after = service(&admin, scene.tenant).await;
    assert_eq!(texts(&after, "select current_database()::text").await, [stem(scene.tenant)]);
    after.execute_unprepared("insert into kinds values ('new', 'sad')").await.unwrap();
    after.close().await.unwrap();
    let seen = look(&admin, scene.tenant).await;
    assert!(observed(&seen).contains(&("database", "PRESENT")), "its database is one of its layers: {seen}");
    admin.ok(CONFIRM, json!({ "id": scene.tenant })).await;
    scene.reached("CONFIRMED").await;
    assert_eq!(scene.of_tenant(&scene.source).await, [""; 0]);

    scene.start_move(json!({ "isolationTier": "STANDARD", "cell": "source" })).await;
    scene.reached("SWITCHED").await;
    admin.ok(CONFIRM, json!({ "id": scene.tenant })).await;
    scene.reached("CONFIRMED").await;
    assert_eq!(scene.of_tenant(&scene.target).await, [""; 0], "the database is gone");
    assert_eq!(scene.of_tenant(&scene.source).await, standard);
    let back = service(&admin, scene.tenant).await;
    assert_eq!(texts(&back, "select count(*)::text from kinds").await, ["3"]);
    assert_eq!(scene.progress().await["isolationTier"], "STANDARD");
    let removal = scene.app.app.provisioning.remove_all(scene.tenant).await.unwrap();
    assert_eq!(removal.residue, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_is_moved_is_not_removed_and_what_was_kept_goes_by_itself() {
    let scene = Scene::new("STANDARD", "STANDARD").await;
    scene.start_move(json!({})).await;
    scene.reached("SWITCHED").await;
    let refused = scene.app.app.provisioning.remove_all(scene.tenant).await.unwrap_err();
    assert!(refused.message().starts_with("the tenant is being moved"), "{refused}");
    assert_ne!(scene.of_tenant(&scene.source).await, [""; 0]);
    scene.app.advance(TimeDelta::days(8));
    reached(&scene.app.admin().await, scene.tenant, "CONFIRMED").await;
    assert_eq!(scene.of_tenant(&scene.source).await, [""; 0]);
    scene.app.app.provisioning.remove_all(scene.tenant).await.unwrap();
    assert_eq!(scene.of_tenant(&scene.target).await, [""; 0]);
}
