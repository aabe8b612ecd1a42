//! What the process tells of itself: logs, traces, metrics, and what browsers of other origins may ask.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, routing::post};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    binary::Binary,
    support::{TestApp, database},
};

#[tokio::test]
async fn logs_name_request_and_tenant_and_keep_tokens_to_themselves_and_traces_are_exported() {
    let exported: Arc<Mutex<Vec<u8>>> = Arc::default();
    let kept = exported.clone();
    let collect = move |body: Bytes| async move { kept.lock().unwrap().extend_from_slice(&body) };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let collector =
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/v1/traces", post(collect))).await });
    let settings = Binary::on(&database().await)
        .set("TELEMETRY__OTLP_ENDPOINT", endpoint)
        .set("TELEMETRY__LOG_FORMAT", "json")
        .set("TELEMETRY__LOG_FILTER", "info,tenantry=debug");
    let server = settings.serve().await;
    let admin = server.admin().await;
    let made = admin
        .ok("mutation { createTenant(input: {slug: \"acme\", name: \"Acme\"}) { tenant { id } } }", json!({}))
        .await;
    let id = made["createTenant"]["tenant"]["id"].as_str().unwrap().to_owned();
    let token = settings.run(&["token", "--tenant", "acme", "--scope", "auth:plan:read"]).await.ok();
    let service = server.with_token(token.trim());
    let asked = service
        .post("/graphql")
        .header("x-request-id", "request-of-the-test")
        .json(&json!({ "query": "{ tenant { id } }" }));
    assert_eq!(service.send(asked).await.code(), "forbidden");
    let log = server.log();
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let refused =
        lines.iter().find(|line| line["span"]["id"] == "request-of-the-test").unwrap_or_else(|| panic!("{log}"));
    assert_eq!((&refused["span"]["tenant"], &refused["kind"]), (&json!(id), &json!("forbidden")), "{refused}");
    assert!(!log.contains(token.trim()) && !log.contains(admin.token().unwrap()), "a token is in the log");
    assert!(server.stop().await.success());
    let begun = Instant::now();
    while !contains(&exported.lock().unwrap(), b"request-of-the-test") {
        assert!(begun.elapsed() < Duration::from_secs(60), "no trace of the request arrived");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    collector.abort();
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

#[tokio::test]
async fn only_listed_origins_may_call_from_a_page() {
    let app = TestApp::with("[server]\nallowed_origins = [\"https://admin.example\"]\n").await;
    let anonymous = app.anonymous();
    for (origin, allowed) in [("https://admin.example", true), ("https://evil.example", false), ("null", false)] {
        let preflight = anonymous.request(Method::OPTIONS, "/graphql");
        let preflight = preflight.header("origin", origin).header("access-control-request-method", "POST");
        let answer =
            anonymous.send(preflight.header("access-control-request-headers", "authorization,content-type")).await;
        assert_eq!(
            answer.headers.contains_key("access-control-allow-origin"),
            allowed,
            "{origin}: {:?}",
            answer.headers
        );
        assert!(!answer.headers.contains_key("access-control-allow-credentials"));
    }
}

#[tokio::test]
async fn metrics_count_operations_and_errors() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    admin.ok("{ viewer { subject } }", json!({})).await;
    let text = app.anonymous().get("/metrics").await.text;
    for series in [
        "tenantry_graphql_operations_total{",
        "tenantry_graphql_operation_seconds_bucket{",
        "tenantry_http_connections",
        "tenantry_database_connections",
    ] {
        assert!(text.contains(series), "{series} is missing in:\n{text}");
    }
}

#[tokio::test]
async fn a_database_that_becomes_unsafe_is_noticed_by_a_running_server() {
    let app = TestApp::with("[isolation]\nverify_interval = \"50ms\"\n").await;
    let admin = app.admin().await;
    let report = "{ isolationReport { safe findings { rule object remedy } } }";
    assert_eq!(admin.ok(report, json!({})).await["isolationReport"], json!({ "safe": true, "findings": [] }));
    let db = app.database.superuser().await;
    let weaken = "alter table tenantry.tenants no force row level security";
    sea_orm::ConnectionTrait::execute_unprepared(&db, weaken).await.unwrap();
    let begun = Instant::now();
    while app.metric("tenantry_isolation_findings ").await != Some(1.0) {
        assert!(begun.elapsed() < Duration::from_secs(60), "the schedule found nothing");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let found = admin.ok(report, json!({})).await["isolationReport"]["findings"][0].clone();
    assert_eq!((&found["rule"], &found["object"]), (&json!("rls-forced"), &json!("tenantry.tenants")), "{found}");
}
