//! Application planes are told what becomes of tenants that they have, and follow what they are asked for.

use serde_json::{Value, json};
use tenantry::platform::ids::TenantId;

use super::{
    ON, active,
    clusters::texts,
    create, eventually, look,
    planes::{Plane, code, layer},
};
use crate::{
    moves::scene::{CONFIRM, Scene, settings},
    support::{Client, Received, TestApp},
};

const SUSPEND: &str =
    "mutation($id: ID!) { suspendTenant(input: {id: $id, mode: HARD, reason: POLICY}) { tenant { status } } }";
const RESUME: &str = "mutation($id: ID!) { resumeTenant(input: {id: $id}) { tenant { status } } }";
const WATCH: &str = "subscription($plane: String!) { provisioningJobs(plane: $plane) { id tenantId kind inUse dataRegion tenant { slug } } }";

/// A tenant that the plane has, with what it told of it.
async fn had(admin: &Client, plane: &Plane, slug: &str) -> TenantId {
    let tenant = create(admin, slug, "STANDARD").await;
    let job = plane.asked(tenant, &[]).await;
    plane.report(&job, json!({ "outcome": "SUCCESS", "outputs": { "shelf": slug } })).await;
    active(admin, tenant).await;
    tenant
}

fn success() -> Value {
    json!({ "outcome": "SUCCESS" })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plane_that_follows_activation_is_told_that_a_tenant_is_in_use_or_not_until_it_knows() {
    let app = TestApp::with(ON).await;
    let admin = app.admin().await;
    let shop = Plane::register(&admin, "shop", json!({ "follows": ["ACTIVATION"] })).await;
    let quiet = Plane::register(&admin, "quiet", json!({ "essential": false })).await;
    let obeying = quiet.obey();
    let tenant = had(&admin, &shop, "first").await;
    admin.ok(SUSPEND, json!({ "id": tenant })).await;
    let out = shop.asked(tenant, &[]).await;
    assert_eq!((&out["kind"], &out["attempt"], &out["inUse"]), (&json!("DEACTIVATE"), &json!(1), &json!(false)));
    shop.report(&out, json!({ "outcome": "FAILURE", "message": "not now" })).await;
    let again = shop.asked(tenant, &[&out]).await;
    assert_eq!((&again["kind"], &again["attempt"]), (&json!("DEACTIVATE"), &json!(2)));
    shop.report(&again, success()).await;
    let there = layer(&admin, tenant, &shop, |layer| layer["observed"] == "PRESENT").await;
    assert_eq!(there["outputs"], json!({ "shelf": "first" }), "what it told of the tenant stays");

    // Back and forth before it has answered: what is no longer so is withdrawn, and what is so is told.
    admin.ok(RESUME, json!({ "id": tenant })).await;
    let back = shop.asked(tenant, &[&out, &again]).await;
    assert_eq!((&back["kind"], &back["inUse"]), (&json!("ACTIVATE"), &json!(true)));
    admin.ok(SUSPEND, json!({ "id": tenant })).await;
    let anew = shop.asked(tenant, &[&out, &again, &back]).await;
    assert_eq!((&anew["kind"], &anew["attempt"]), (&json!("DEACTIVATE"), &json!(1)));
    assert_eq!(shop.refused(&back, success()).await, code("conflict", "job"));
    shop.report(&anew, success()).await;
    admin.ok(RESUME, json!({ "id": tenant })).await;
    let last = shop.asked(tenant, &[&anew]).await;
    assert_eq!(last["kind"], "ACTIVATE");
    shop.report(&last, success()).await;
    layer(&admin, tenant, &shop, |layer| layer["observed"] == "PRESENT").await;
    assert_eq!(look(&admin, tenant).await["status"], "ACTIVE");
    drop(obeying);

    let registry = app.database.superuser().await;
    let told = |plane: &str| {
        format!(
            "select concat_ws(' ', event, after::jsonb ->> 'kind', after::jsonb ->> 'sbt') from tenantry.journal
             where event like 'PlaneJob%' and after::jsonb ->> 'plane' = '{plane}' order by sequence"
        )
    };
    assert_eq!(
        texts(&registry, &told("shop")).await[2..],
        [
            "PlaneJobIssued DEACTIVATE deactivateRequest",
            "PlaneJobFailed DEACTIVATE deactivateFailure",
            "PlaneJobIssued DEACTIVATE deactivateRequest",
            "PlaneJobSucceeded DEACTIVATE deactivateSuccess",
            "PlaneJobIssued ACTIVATE activateRequest",
            "PlaneJobWithdrawn ACTIVATE",
            "PlaneJobIssued DEACTIVATE deactivateRequest",
            "PlaneJobSucceeded DEACTIVATE deactivateSuccess",
            "PlaneJobIssued ACTIVATE activateRequest",
            "PlaneJobSucceeded ACTIVATE activateSuccess",
        ]
    );
    assert_eq!(texts(&registry, &told("quiet")).await.len(), 2, "it was asked for the tenant, and told nothing more");
    let failures = "select count(*)::text from tenantry.journal where event = 'ProvisioningFailed'";
    assert_eq!(texts(&registry, failures).await, ["0"], "the tenant lacks nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plane_that_follows_moves_is_told_where_a_tenant_has_come_to() {
    let scene = Scene::new("STANDARD", "STANDARD").await;
    let admin = scene.app.admin().await;
    let shop = Plane::register(&admin, "shop", json!({ "follows": ["MOVES"] })).await;
    let first = shop.asked(scene.tenant, &[]).await;
    assert_eq!((&first["kind"], &first["dataRegion"]), (&json!("PROVISION"), &json!("eu-central-1")));
    shop.report(&first, success()).await;
    for cell in ["target", "source"] {
        layer(&admin, scene.tenant, &shop, |layer| layer["observed"] == "PRESENT").await;
        scene.start_move(json!({ "cell": cell })).await;
        scene.reached("SWITCHED").await;
        let job = shop.asked(scene.tenant, &[&first]).await;
        assert_eq!((&job["kind"], &job["attempt"]), (&json!("RELOCATE"), &json!(1)));
        layer(&admin, scene.tenant, &shop, |layer| layer["observed"] == "WAITING").await;
        assert_eq!(look(&admin, scene.tenant).await["status"], "ACTIVE", "the tenant waits for nobody");
        shop.report(&job, success()).await;
        layer(&admin, scene.tenant, &shop, |layer| layer["observed"] == "PRESENT").await;
        admin.ok(CONFIRM, json!({ "id": scene.tenant })).await;
        scene.reached("CONFIRMED").await;
    }
    let kinds = "select kind || ' ' || state from tenantry.plane_jobs order by job_id";
    let registry = scene.app.database.superuser().await;
    assert_eq!(texts(&registry, kinds).await, ["PROVISION SUCCEEDED", "RELOCATE SUCCEEDED", "RELOCATE SUCCEEDED"]);
    // One that comes to follow later is told nothing that it knows already.
    let replica = scene.app.replica(&settings()).await;
    let change = "mutation { changeApplicationPlane(input: {name: \"shop\", follows: [ACTIVATION, MOVES]}) { plane { follows } } }";
    let changed = replica.admin().await.ok(change, json!({})).await;
    assert_eq!(changed["changeApplicationPlane"]["plane"]["follows"], json!(["ACTIVATION", "MOVES"]));
    eventually("everybody has been looked at", async || {
        let due = "select count(*)::text from tenantry.provisioning where due_at <= now() or lease_token is not null";
        (texts(&registry, due).await == ["0"]).then_some(())
    })
    .await;
    assert_eq!(shop.jobs().await, [] as [Value; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plane_follows_its_work_at_any_server_and_misses_nothing_while_it_is_away() {
    let app = TestApp::with(ON).await;
    let replica = app.replica(ON).await;
    let admin = app.admin().await;
    let shop = Plane::register(&admin, "shop", json!({})).await;
    let other = Plane::register(&admin, "other", json!({ "essential": false })).await;
    let before = create(&admin, "before", "STANDARD").await;
    shop.asked(before, &[]).await;
    let client = shop.client.clone();
    let mut socket = replica.socket(&client).await;
    socket.subscribe("jobs", WATCH, json!({ "plane": "shop" })).await;
    let mut jobs = Vec::new();
    let mut next = async |socket: &mut crate::support::Socket| {
        let job = socket.event().await["data"]["provisioningJobs"].clone();
        assert_eq!((&job["kind"], &job["inUse"]), (&json!("PROVISION"), &json!(true)), "{job}");
        jobs.push(job.clone());
        job["tenant"]["slug"].as_str().unwrap().to_owned()
    };
    assert_eq!(next(&mut socket).await, "before");
    for slug in ["first", "second"] {
        create(&admin, slug, "STANDARD").await;
        assert_eq!(next(&mut socket).await, slug);
    }
    drop(socket);
    let away = create(&admin, "away", "STANDARD").await;
    shop.asked(away, &[]).await;
    for job in shop.jobs().await.iter().filter(|job| job["tenant"]["slug"] != "away") {
        shop.report(job, success()).await;
    }
    let mut socket = replica.socket(&client).await;
    socket.subscribe("jobs", WATCH, json!({ "plane": "shop" })).await;
    assert_eq!(next(&mut socket).await, "away", "and nothing that is answered");
    let ids: std::collections::BTreeSet<_> = jobs.iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 4);

    // To all others there is no such plane.
    let mut foreign = replica.socket(&other.client).await;
    foreign.subscribe("jobs", WATCH, json!({ "plane": "shop" })).await;
    let refused = foreign.next().await;
    let Received::Message(message) = refused else { panic!("{refused:?}") };
    assert!(message.to_string().contains("not_found"), "{message}");
}
