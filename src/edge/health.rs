//! Whether the process lives, whether it can serve, and its metrics.

use std::time::Duration;

use axum::{Json, http::StatusCode, response::IntoResponse};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;

use crate::{app::App, isolation::OperatorScope};

/// 200 while the process can answer at all. Asks nothing of the database.
pub(super) async fn livez() -> impl IntoResponse {
    Json(json!({ "status": "ok" }))
}

/// 200 when requests can be served: the database answers a session, and there is a key to sign with.
pub(super) async fn readyz(app: App) -> impl IntoResponse {
    let asked = tokio::time::timeout(Duration::from_secs(2), database_answers(&app)).await;
    let database = matches!(asked, Ok(Ok(())));
    let keys = app.keyring.signing_kid().is_some();
    // Told, and no reason to take the server away: that would keep nobody from what is open.
    let isolation = app.probes.standing();
    let stopping = app.shutdown.is_cancelled();
    let ready = database && keys && !stopping;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (
        status,
        Json(
            json!({ "status": if ready { "ok" } else { "unavailable" }, "checks": { "database": database, "keys": keys, "isolation": isolation.open.is_empty(), "accepting": !stopping }, "isolation": isolation }),
        ),
    )
}

async fn database_answers(app: &App) -> crate::error::Result<()> {
    let tx = app.isolation.begin_operator(&OperatorScope::system("readiness")).await?;
    tx.execute("select 1", []).await?;
    tx.commit_unrecorded("a read").await
}

/// Prometheus text.
pub(super) async fn metrics(app: App, recorder: PrometheusHandle) -> impl IntoResponse {
    let (connections, idle) = app.db.connections();
    metrics::gauge!("tenantry_database_connections").set(f64::from(connections));
    metrics::gauge!("tenantry_database_connections_idle").set(idle as f64);
    metrics::counter!("tenantry_database_statements_total").absolute(app.db.statements());
    recorder.run_upkeep();
    ([(axum::http::header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], recorder.render())
}
