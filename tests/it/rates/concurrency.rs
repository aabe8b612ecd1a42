//! How much at once: streams, requests, connections.

use std::time::Duration;

use sea_orm::{ConnectionTrait as _, TransactionTrait as _};
use serde_json::json;

use super::{VIEWER, ask, exhaust, limit};
use crate::support::{Client, Received, Socket, Tenant, TestApp};

const EVENTS: &str = "subscription($id: ID) { tenantEvents(tenantId: $id) { event } }";

/// The code of a stream's refusal; none where a query behind it is answered first.
async fn stream(app: &TestApp, service: &Client, tenant: &Tenant) -> (Socket, Option<String>) {
    let mut socket = app.socket(service).await;
    socket.subscribe("stream", EVENTS, json!({ "id": tenant.id })).await;
    for probe in ["first", "second"] {
        socket.subscribe(probe, VIEWER, json!({})).await;
        loop {
            let Received::Message(message) = socket.next().await else { panic!("closed") };
            if (message["id"].as_str(), message["type"].as_str()) == (Some("stream"), Some("error")) {
                let code = message["payload"][0]["extensions"]["code"].as_str().map(str::to_owned);
                return (socket, code);
            }
            if (message["id"].as_str(), message["type"].as_str()) == (Some(probe), Some("complete")) {
                break;
            }
        }
    }
    (socket, None)
}

#[tokio::test]
async fn a_stream_over_the_limit_is_refused_and_one_that_ends_or_is_lost_makes_room() {
    let app = TestApp::start().await;
    let tenant = app.tenant("streaming").await;
    let service = app.full_service(&tenant).await;
    limit(&app, &tenant, "concurrent_streams", 1).await;
    let (mut first, code) = stream(&app, &service, &tenant).await;
    assert_eq!(code, None);
    let (_second, code) = stream(&app, &service, &tenant).await;
    assert_eq!(code.as_deref(), Some("rate_limited"));
    first.send(json!({ "id": "stream", "type": "complete" })).await;
    let lost = until_streaming(&app, &service, &tenant).await;
    drop(lost); // without a farewell
    until_streaming(&app, &service, &tenant).await;
}

async fn until_streaming(app: &TestApp, service: &Client, tenant: &Tenant) -> Socket {
    for _ in 0..100 {
        let (socket, code) = stream(app, service, tenant).await;
        if code.is_none() {
            return socket;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no room is made");
}

#[tokio::test]
async fn a_request_in_progress_takes_room_until_it_has_ended_whoever_waits_for_it() {
    let app = TestApp::start().await;
    let tenant = app.tenant("busy").await;
    let service = app.full_service(&tenant).await;
    limit(&app, &tenant, "concurrent_requests", 1).await;
    let database = app.database.superuser().await;
    #[expect(clippy::disallowed_methods, reason = "holds the row that a request waits for")]
    let lock = database.begin().await.unwrap();
    lock.execute_unprepared(&format!("select from tenantry.tenants where tenant_id = '{}' for update", tenant.id))
        .await
        .unwrap();
    let update = "mutation($id: ID!) { updateTenant(input: {id: $id, name: \"busy\"}) { tenant { version } } }";
    let (waiting, id) = (service.clone(), tenant.id);
    let waiting = tokio::spawn(async move { waiting.graphql(update, json!({ "id": id })).await });
    let refused = exhaust(&service).await;
    assert_eq!((refused.status, refused.code()), (429, "rate_limited"));
    assert_eq!(refused.body["errors"][0]["extensions"]["details"]["key"], json!("concurrent_requests"));
    assert_eq!(refused.headers["retry-after"], "1");
    // The client leaves; its change is still being made.
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    assert_eq!(ask(&service).await.status, 429);
    lock.commit().await.unwrap();
    for _ in 0..200 {
        if ask(&service).await.status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the room was never given back");
}

#[tokio::test]
async fn a_tenant_that_waits_for_its_own_rows_takes_no_connections_from_others() {
    let app = TestApp::with("[database]\nmax_connections = 6\nacquire_timeout = \"20s\"").await;
    let (noisy, quiet) = (app.tenant("noisy").await, app.tenant("quiet").await);
    let (loud, calm) = (app.full_service(&noisy).await, app.full_service(&quiet).await);
    let database = app.database.superuser().await;
    #[expect(clippy::disallowed_methods, reason = "holds the row that requests wait for")]
    let lock = database.begin().await.unwrap();
    lock.execute_unprepared(&format!("select from tenantry.tenants where tenant_id = '{}' for update", noisy.id))
        .await
        .unwrap();
    let update = "mutation($id: ID!) { updateTenant(input: {id: $id, name: \"n\"}) { tenant { version } } }";
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let (loud, id) = (loud.clone(), noisy.id);
        waiting.spawn(async move { loud.graphql(update, json!({ "id": id })).await.status });
    }
    // As many as may wait in the database, and no more, however long one looks.
    let waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    let mut most = 0;
    for _ in 0..20 {
        let row = database.query_one_raw(sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, waits)).await;
        most = most.max(row.unwrap().unwrap().try_get_by_index::<i64>(0).unwrap());
        calm.ok(update, json!({ "id": quiet.id })).await;
    }
    assert_eq!(most, 3);
    lock.commit().await.unwrap();
    assert!(waiting.join_all().await.iter().all(|status| *status == 200));
}

#[tokio::test]
async fn operations_beyond_a_tenants_share_of_the_server_wait_in_its_own_queue() {
    let app = TestApp::with("rates.operations_at_once = 1\nrates.operation_patience = \"300ms\"").await;
    let (busy, quiet) = (app.tenant("busy").await, app.tenant("quiet").await);
    let (service, neighbour) = (app.full_service(&busy).await, app.full_service(&quiet).await);
    let database = app.database.superuser().await;
    #[expect(clippy::disallowed_methods, reason = "holds the row that a request waits for")]
    let lock = database.begin().await.unwrap();
    lock.execute_unprepared(&format!("select from tenantry.tenants where tenant_id = '{}' for update", busy.id))
        .await
        .unwrap();
    let update = "mutation($id: ID!) { updateTenant(input: {id: $id, name: \"busy\"}) { tenant { version } } }";
    let (waiting, id) = (service.clone(), busy.id);
    let waiting = tokio::spawn(async move { waiting.graphql(update, json!({ "id": id })).await });
    let mut refused = service.graphql(VIEWER, json!({})).await;
    for _ in 0..100 {
        if !refused.body["errors"].is_null() {
            break; // the update has the one place now
        }
        refused = service.graphql(VIEWER, json!({})).await;
    }
    assert_eq!(refused.code(), "rate_limited", "{}", refused.text);
    neighbour.ok(VIEWER, json!({})).await;
    let patient = tokio::spawn(async move { service.graphql(VIEWER, json!({})).await });
    lock.rollback().await.unwrap();
    assert!(waiting.await.unwrap().body["errors"].is_null());
    assert!(patient.await.unwrap().body["errors"].is_null(), "who waits gets its turn");
}
