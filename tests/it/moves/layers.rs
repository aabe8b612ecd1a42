//! What a tenant has besides roles, database and schemas: it stays where it is.

use ::redis::{aio::MultiplexedConnection, cmd};
use serde_json::json;
use tenantry::platform::ids::TenantId;

use super::scene::{CONFIRM, Scene, credential, furnish, service, settings, url};
use crate::{
    provisioning::clusters::{Cluster, connect, stem, texts},
    support::{Client, redis::RedisServer},
};

async fn redis(admin: &Client, tenant: TenantId, server: &RedisServer) -> MultiplexedConnection {
    let got = credential(admin, tenant, "redis").await.unwrap();
    let url = format!("redis://{}:{}@{}", got["user"], got["secret"], server.address);
    ::redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_sealed_by_the_tenants_key_open_the_target_and_what_is_outside_of_the_cell_stays() {
    let server = RedisServer::forgetful();
    let layers = settings().replace("[\"placement\"", "[\"keys\", \"placement\"");
    let layers = layers.replace("\"schema\"]", "\"schema\", \"redis\"]");
    let settings = format!("{layers}\n[redis]\nurl = \"{}\"\n", server.url());
    let scene = Scene::with(&settings, (Cluster::start(), "STANDARD"), (Cluster::start(), "STANDARD")).await;
    let admin = scene.app.admin().await;
    let before = credential(&admin, scene.tenant, "role").await.unwrap();
    furnish(&service(&admin, scene.tenant).await, 10).await;
    let key = format!("{}:kept", stem(scene.tenant));
    let mut there = redis(&admin, scene.tenant, &server).await;
    cmd("SET").arg(&key).arg("it").exec_async(&mut there).await.unwrap();
    // What opened them first is not what opens them now.
    let rotate = "mutation($id: ID!) { rotateTenantKey(input: {tenantId: $id, level: DATA}) { key { version } } }";
    admin.ok(rotate, json!({ "id": scene.tenant })).await;
    scene.app.app.tenant_keys.reconcile(scene.tenant).await.unwrap();
    let registry = scene.app.database.superuser().await;
    let sealed = "select distinct coalesce(key_version::text, 'platform') from tenantry.dataplane_credentials";
    assert_eq!(texts(&registry, sealed).await, ["2"]);

    scene.start_move(json!({})).await;
    scene.reached("SWITCHED").await;
    let after = credential(&admin, scene.tenant, "role").await.unwrap();
    assert_eq!((&after["user"], &after["secret"]), (&before["user"], &before["secret"]));
    assert_eq!(after["host"], scene.target.socket(), "{:?}", after["user"]);
    let there_now = service(&admin, scene.tenant).await;
    assert_eq!(texts(&there_now, "select count(*)::text from items").await, ["10"]);
    let old = url(&before);
    assert!(connect(&old).await.is_err(), "the source lets nobody in");
    admin.ok(CONFIRM, json!({ "id": scene.tenant })).await;
    scene.reached("CONFIRMED").await;

    assert_eq!(texts(&registry, sealed).await, ["2"]);
    let keys = "select count(*)::text from tenantry.tenant_key_rings where shredded_at is null";
    assert_ne!(texts(&registry, keys).await, ["0"], "its key is not destroyed");
    let value: String = cmd("GET").arg(&key).query_async(&mut there).await.unwrap();
    assert_eq!(value, "it", "the connection of before goes on");
    let mut anew = redis(&admin, scene.tenant, &server).await;
    assert_eq!(cmd("GET").arg(&key).query_async::<String>(&mut anew).await.unwrap(), "it");
    let removal = scene.app.app.provisioning.remove_all(scene.tenant).await.unwrap();
    assert_eq!(removal.residue, [""; 0]);
}
