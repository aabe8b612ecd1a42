//! What the server takes when nothing happens. The bound of the release build is the benchmark's.

use serde_json::json;

use crate::{
    binary::Binary,
    support::{TestApp, database},
};

#[tokio::test]
async fn an_idle_server_is_small() {
    let server = Binary::on(&database().await).serve().await;
    let resident = server.resident();
    println!("a server that has just started takes {} KiB (debug build)", resident >> 10);
    assert!(resident < 200 << 20, "{resident} bytes");
}

/// What one part of the house holds of another that holds it is never let go of: its connections would stay, here and wherever an `App` is
/// made more than once.
#[tokio::test]
async fn a_house_that_is_left_closes_its_connections() {
    for layers in ["", "\"keys\", \"placement\", \"role\", \"database\", \"schema\", \"vectors\", \"graph\""] {
        let app = TestApp::with(&format!("[provisioning]\nlayers = [{layers}]\n")).await;
        let tenant = app.tenant("left").await;
        app.full_service(&tenant).await.ok("{ tenant { id } }", json!({})).await;
        let database = app.database.clone();
        drop(app);
        assert_eq!(database.connections_left().await, 0, "connections of a server with the layers [{layers}]");
    }
}
