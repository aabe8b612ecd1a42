//! The same figures as CSV.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{OWN, REQUESTS, app_at_noon};
use crate::support::{Answer, Client};

const SPAN: &str = "from=2026-11-26T00:00:00%2B01:00&to=2026-11-27T00:00:00%2B01:00&window=DAY&time_zone=Europe/Vienna";

/// Lines by name of their columns.
fn lines(answer: &Answer) -> Vec<BTreeMap<String, String>> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.headers["content-type"], "text/csv; charset=utf-8; header=present");
    let mut reader = csv::Reader::from_reader(answer.text.as_bytes());
    reader.deserialize().map(|line| line.unwrap()).collect()
}

async fn file(client: &Client, name: &str) -> Answer {
    client.get(&format!("/api/v1/analytics/{name}.csv?{SPAN}")).await
}

#[tokio::test]
async fn requests_as_csv_are_the_figures_of_the_query() {
    let app = app_at_noon().await;
    let tenant = app.tenant("filed").await;
    let client = app.service(&tenant, "auth:usage:read auth:tenant:read").await;
    for _ in 0..4 {
        client.ok(OWN, json!({})).await;
    }
    client.refused("{ plans { key } }", json!({})).await;
    app.app.analytics.flush().await.unwrap();
    let answer = file(&client, "requests").await;
    assert_eq!(answer.headers["content-disposition"], "attachment; filename=\"requests.csv\"");
    let lines = lines(&answer);
    let input = json!({ "window": "DAY", "from": "2026-11-25T23:00:00Z", "to": "2026-11-26T23:00:00Z", "timeZone": "Europe/Vienna" });
    let told = client.ok(REQUESTS, json!({ "input": input, "each": true })).await["analytics"]["requests"].clone();
    let told = told.as_array().unwrap();
    assert_eq!((lines.len(), told.len()), (2, 2), "{}", answer.text);
    for (line, told) in lines.iter().zip(told) {
        let number = |name: &str| line[name].parse::<f64>().unwrap();
        assert_eq!(line["operation"], told["operation"].as_str().unwrap());
        assert_eq!(line["begin"], "2026-11-25T23:00:00Z");
        for (name, field) in [
            ("count", "count"),
            ("errors", "errors"),
            ("error_rate", "errorRate"),
            ("p50_ms", "p50"),
            ("p99_ms", "p99"),
        ] {
            assert_eq!(number(name), told[field].as_f64().unwrap(), "{name} {told}");
        }
    }
    assert_eq!(lines[0]["errors_by_code"], "forbidden=1");
    let (viewer, named) = (app.operator(tenantry::access::Role::Auditor).await, format!("&tenant_id={}", tenant.id));
    let of_operator = viewer.get(&format!("/api/v1/analytics/requests.csv?{SPAN}{named}")).await;
    assert_eq!(of_operator.text, answer.text);
    assert_eq!(file(&viewer, "requests").await.status, 400);
    let without = app.service(&tenant, "auth:tenant:read").await;
    assert_eq!((file(&without, "requests").await.status, file(&app.anonymous(), "requests").await.status), (403, 401));
    let stranger = app.service(&app.tenant("stranger").await, "auth:usage:read").await;
    let foreign = stranger.get(&format!("/api/v1/analytics/requests.csv?{SPAN}{named}")).await;
    assert!(foreign.status == 403 || foreign.status == 404, "{}", foreign.text);
}

#[tokio::test]
async fn usage_as_csv_is_in_the_totals_and_nothing_of_it_is_a_formula() {
    let app = app_at_noon().await;
    let tenant = app.tenant("formulas").await;
    let client = app.service(&tenant, "auth:usage:read auth:usage:write").await;
    let define = "mutation { defineUsageDimension(input: {key: \"pages\", unit: \"=1+cmd|' /C calc'!A0\", aggregation: SUM, groupBy: [\"name\"]}) { dimension { key } } }";
    app.admin().await.ok(define, json!({})).await;
    let event = |key: &str, dimension: &str, name: &str, quantity: &str| json!({ "key": key, "dimension": dimension, "quantity": quantity, "labels": { "name": name }, "adjustmentReason": "test" });
    let events = json!([
        event("1", "pages", "@SUM(A1)", "1.5"),
        event("2", "pages", "a, \"quoted\"\r\nname", "2"),
        event("3", "api_calls", "x", "1700"),
        event("4", "graph_queries", "x", "-3"),
    ]);
    let record = "mutation($events: [UsageEventInput!]!) { recordUsage(input: {events: $events}) { accepted } }";
    assert_eq!(client.ok(record, json!({ "events": events })).await["recordUsage"]["accepted"], 4);
    let answer = file(&client, "usage").await;
    let lines = lines(&answer);
    assert_eq!(lines.len(), 4, "{}", answer.text);
    for line in &lines {
        let query = "query($dimension: String!) { usage(input: {dimension: $dimension, window: DAY, timeZone: \"Europe/Vienna\",
            from: \"2026-11-25T23:00:00Z\", to: \"2026-11-26T23:00:00Z\"}) { labels events quantity units } }";
        let told = client.ok(query, json!({ "dimension": line["dimension"] })).await["usage"].clone();
        let labels: Value = serde_json::from_str(&line["labels"]).unwrap();
        let total = told.as_array().unwrap().iter().find(|total| total["labels"] == labels).unwrap();
        assert_eq!(line["events"], total["events"].to_string());
        for (name, field) in [("quantity", "quantity"), ("units", "units")] {
            assert_eq!(line[name], total[field].as_str().unwrap());
        }
    }
    assert!(answer.text.contains("\"'=1+cmd|' /C calc'!A0\""), "{}", answer.text);
    // Numbers stay numbers.
    let cells = lines.iter().flat_map(BTreeMap::values);
    let is_formula =
        |cell: &&String| cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && cell.parse::<f64>().is_err();
    assert_eq!(cells.filter(is_formula).count(), 0, "{}", answer.text);
    assert!(lines.iter().any(|line| line["quantity"] == "-3"), "{}", answer.text);
}
