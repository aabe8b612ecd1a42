//! What tenants ask of the server, and what they are told of it.

mod activity;
mod files;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tenantry::{
    access::Role,
    analytics::{Finished, OK},
    platform::ids::TenantId,
};

use crate::{
    binary::Binary,
    support::{Client, Tenant, TestApp, database},
};

const REQUESTS: &str = "query($input: AnalyticsInput!, $each: Boolean = false) { analytics(input: $input) {
    requests(byOperation: $each) { begin end operation count errors errorRate errorsByCode { code count } p50 p90 p95 p99 }
    callers { begin end count } } }";
const OWN: &str = "{ tenant { id } }";

/// What is asked is written down when a test says so.
const QUIET: &str = "analytics.flush = \"1h\"";

async fn app_at_noon() -> TestApp {
    let app = TestApp::with(QUIET).await;
    let noon: DateTime<Utc> = "2026-11-26T12:00:00Z".parse().unwrap();
    app.advance(noon - app.app.clock.now());
    app
}

fn of_the_day() -> Value {
    json!({ "window": "DAY", "from": "2026-11-26T00:00:00Z", "to": "2026-11-27T00:00:00Z" })
}

/// What is written down of the day.
async fn day(client: &Client, each: bool) -> Value {
    client.ok(REQUESTS, json!({ "input": of_the_day(), "each": each })).await["analytics"].clone()
}

/// Count and errors by code, by operation.
type Figures = BTreeMap<String, (i64, BTreeMap<String, i64>)>;

fn figures(told: &Value) -> Figures {
    let code = |error: &Value| (error["code"].as_str().unwrap().to_owned(), error["count"].as_i64().unwrap());
    let figure = |told: &Value| {
        let codes = told["errorsByCode"].as_array().unwrap().iter().map(code).collect();
        (told["operation"].as_str().unwrap().to_owned(), (told["count"].as_i64().unwrap(), codes))
    };
    told["requests"].as_array().unwrap().iter().map(figure).collect()
}

type Line<'a> = (&'a str, i64, &'a [(&'a str, i64)]);

fn expected<const N: usize>(of: [Line<'_>; N]) -> Figures {
    let codes = |codes: &[(&str, i64)]| codes.iter().map(|(code, count)| ((*code).to_owned(), *count)).collect();
    of.into_iter().map(|(operation, count, errors)| (operation.to_owned(), (count, codes(errors)))).collect()
}

#[tokio::test]
async fn every_request_of_a_tenant_is_counted_by_operation_and_by_what_came_of_it() {
    let app = app_at_noon().await;
    let (tenant, other) = (app.tenant("counted").await, app.tenant("other").await);
    let client = app.service(&tenant, "auth:usage:read auth:usage:write auth:tenant:read auth:flag:read").await;
    for _ in 0..7 {
        client.ok(OWN, json!({})).await;
    }
    client.ok("query Any { mine: tenant { id } tenant { slug } }", json!({})).await;
    for _ in 0..3 {
        assert_eq!(client.refused("{ tenant { id } plans { key } }", json!({})).await, "forbidden");
    }
    for name in ["nothing", "of_the_schema"] {
        assert_eq!(client.refused(&format!("{{ {name} }}"), json!({})).await, "invalid_input");
    }
    let usage = "{ usage(input: {dimension: \"none\", window: DAY, from: \"2026-11-26T00:00:00Z\", to: \"2026-11-27T00:00:00Z\"}) { units } }";
    assert_eq!(client.refused(usage, json!({})).await, "invalid_input");
    let meter = client.post("/api/v1/billing/meter");
    let event = json!({ "dimension": "api_calls", "quantity": 1, "idempotency_key": "1" });
    assert_eq!(client.send(meter.json(&event)).await.status, 200);
    let meter = client.post("/api/v1/billing/meter");
    assert_eq!(client.send(meter.json(&json!({ "dimension": "none" }))).await.status, 400);
    let named = json!({ "dimension": "api_calls", "quantity": 1, "tenant_id": other.id });
    assert_eq!(client.send(client.post("/api/v1/billing/meter").json(&named)).await.status, 404);
    assert_eq!(client.send(client.post("/ofrep/v1/evaluate/flags").json(&json!({}))).await.status, 200);
    assert_eq!(client.send(client.post("/ofrep/v1/evaluate/flags/none").json(&json!({}))).await.status, 404);
    assert_eq!(client.get("/v1/rate/check?key=requests_per_second").await.status, 403);
    let broken = client.post("/graphql").header("content-type", "application/json").body("{");
    assert_eq!(client.send(broken).await.code(), "invalid_input");
    let foreign = client.post("/graphql").header("x-tenant-id", other.id.to_string()).json(&json!({ "query": OWN }));
    assert_eq!(client.send(foreign).await.code(), "tenant_mismatch");
    let mut socket = app.socket(&client).await;
    socket.subscribe("1", "{ usageDimensions { key } }", json!({})).await;
    socket.event().await;
    // Of nobody, of the platform, and of another.
    assert_eq!(app.anonymous().graphql(OWN, json!({})).await.status, 401);
    app.admin().await.ok("{ plans { key } }", json!({})).await;
    app.service(&other, "auth:tenant:read").await.ok(OWN, json!({})).await;
    app.app.analytics.flush().await.unwrap();
    let told = day(&client, true).await;
    let counted = expected([
        ("query tenant", 8, &[]),
        ("query plans and others", 3, &[("forbidden", 3)]),
        ("other", 2, &[("invalid_input", 2)]),
        ("query usage", 1, &[("invalid_input", 1)]),
        ("query usageDimensions", 1, &[]),
        ("/api/v1/billing/meter", 3, &[("invalid_input", 1), ("not_found", 1)]),
        ("/ofrep/v1/evaluate/flags", 1, &[]),
        ("/ofrep/v1/evaluate/flags/{key}", 1, &[("not_found", 1)]),
        ("/v1/rate/check", 1, &[("forbidden", 1)]),
        ("/graphql", 2, &[("invalid_input", 1), ("tenant_mismatch", 1)]),
    ]);
    assert_eq!(figures(&told), counted);
    let all = day(&client, false).await;
    let [all_requests] = all["requests"].as_array().unwrap().as_slice() else { panic!("{all}") };
    assert_eq!((&all_requests["count"], &all_requests["errors"]), (&json!(23), &json!(12)));
    assert!((all_requests["errorRate"].as_f64().unwrap() - 12.0 / 23.0).abs() < 1e-9, "{all}");
    assert_eq!(all_requests["operation"], Value::Null);
    assert_eq!(
        (&all_requests["begin"], &all_requests["end"]),
        (&json!("2026-11-26T00:00:00+00:00"), &json!("2026-11-27T00:00:00+00:00"))
    );
    assert_eq!(all["callers"][0]["count"], 1);
}

#[tokio::test]
async fn a_percentile_is_as_long_as_the_request_was_held_up() {
    let app = app_at_noon().await;
    let tenant = app.tenant("slow").await;
    let client = app.service(&tenant, "auth:usage:read").await;
    let usage = "{ usage(input: {dimension: \"api_calls\", window: DAY, from: \"2026-11-26T00:00:00Z\", to: \"2026-11-27T00:00:00Z\"}) { units } }";
    let locked = app.database.lock(&["usage_quarters"]).await;
    let begun = Instant::now();
    let asked = tokio::spawn({
        let client = client.clone();
        async move { client.ok(usage, json!({})).await }
    });
    tokio::time::sleep(Duration::from_millis(400)).await;
    let at_least = begun.elapsed() - Duration::from_millis(100); // that it needs to get to the lock
    locked.close().await.unwrap();
    asked.await.unwrap();
    let at_most = begun.elapsed();
    app.app.analytics.flush().await.unwrap();
    let told = day(&client, true).await;
    let p99 = told["requests"][0]["p99"].as_f64().unwrap();
    assert_eq!(told["requests"][0]["operation"], "query usage");
    assert!(at_least.as_secs_f64() * 1e3 * 0.955 <= p99 && p99 <= at_most.as_secs_f64() * 1e3 * 1.045, "{p99}");
}

#[tokio::test]
async fn a_subscription_is_counted_when_it_begins_and_one_that_is_refused_as_well() {
    let app = app_at_noon().await;
    let tenant = app.tenant("following").await;
    let client = app.service(&tenant, "auth:usage:read").await;
    let mut socket = app.socket(&client).await;
    socket.subscribe("1", "subscription { usageAlerts { cursor } }", json!({})).await;
    socket.subscribe("2", "subscription { tenantEvents { cursor } }", json!({})).await;
    let counted =
        expected([("subscription usageAlerts", 1, &[]), ("subscription tenantEvents", 1, &[("forbidden", 1)])]);
    let begun = Instant::now();
    loop {
        app.app.analytics.flush().await.unwrap();
        let mut told = figures(&day(&client, true).await);
        told.remove("query analytics");
        if told == counted {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{told:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn took(tenant: &Tenant, micros: u64, at: DateTime<Utc>) -> Finished<'static> {
    let took = Duration::from_micros(micros);
    Finished { tenant: tenant.id, operation: "query tenant", outcome: OK, took, subject: "one", at }
}

#[tokio::test]
async fn what_servers_count_at_once_adds_up_and_percentiles_are_those_of_all() {
    let app = app_at_noon().await;
    let replica = app.replica(QUIET).await;
    let tenant = app.tenant("shared").await;
    let mut state = 7_u64;
    let mut times = Vec::new();
    for round in 0..10 {
        for server in [&app, &replica] {
            for _ in 0..50 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let micros = 200 + (state >> 33) % 100_000;
                times.push(micros as f64 / 1e3);
                // In four quarters of an hour.
                let at = app.app.clock.now() + TimeDelta::minutes(15 * (round % 4));
                server.app.analytics.requests().count(&took(&tenant, micros, at));
            }
        }
        let (one, two) = tokio::join!(app.app.analytics.flush(), replica.app.analytics.flush());
        one.and(two).unwrap();
    }
    times.sort_by(f64::total_cmp);
    let client = app.service(&tenant, "auth:usage:read").await;
    let told = day(&client, false).await;
    assert_eq!(told["requests"][0]["count"], 1000);
    assert_eq!(told["callers"][0]["count"], 1);
    for (name, rank) in [("p50", 500), ("p90", 900), ("p95", 950), ("p99", 990)] {
        let (told, exact) = (told["requests"][0][name].as_f64().unwrap(), times[rank - 1]);
        assert!((told / exact - 1.0).abs() <= 0.045, "{name}: {told} for {exact}");
    }
    let input = json!({ "window": "HOUR", "from": "2026-11-26T12:00:00Z", "to": "2026-11-26T14:00:00Z" });
    let hours = client.ok(REQUESTS, json!({ "input": input })).await["analytics"]["requests"].clone();
    let counts: Vec<_> = hours.as_array().unwrap().iter().map(|hour| hour["count"].as_i64().unwrap()).collect();
    assert_eq!(counts.iter().sum::<i64>(), 1000, "{hours}");
}

#[tokio::test]
async fn figures_are_the_tenants_own_and_operators_see_all() {
    let app = app_at_noon().await;
    let (tenant, other) = (app.tenant("asking").await, app.tenant("silent").await);
    let (client, stranger) =
        (app.full_service(&tenant).await, app.service(&other, "auth:usage:read auth:children:read").await);
    client.ok(OWN, json!({})).await;
    app.app.analytics.flush().await.unwrap();
    assert!(day(&stranger, true).await["requests"].as_array().unwrap().is_empty());
    let named = |id: TenantId| {
        let mut input = of_the_day();
        input["tenantId"] = json!(id);
        json!({ "input": input, "each": true })
    };
    let (foreign, unknown) = (named(tenant.id), named(TenantId::generate()));
    let (foreign, unknown) = (stranger.graphql(REQUESTS, foreign).await, stranger.graphql(REQUESTS, unknown).await);
    assert_eq!(foreign.code(), unknown.code());
    assert_ne!(foreign.code(), "none");
    let viewer = app.operator(Role::Auditor).await;
    let told = viewer.ok(REQUESTS, named(tenant.id)).await["analytics"].clone();
    assert_eq!(figures(&told), expected([("query tenant", 1, &[])]));
    assert_eq!(client.refused(REQUESTS, named(other.id)).await, foreign.code());
    let without = app.service(&tenant, "auth:tenant:read").await;
    assert_eq!(without.refused(REQUESTS, named(tenant.id)).await, "forbidden");
}

#[tokio::test]
async fn figures_are_kept_for_their_time() {
    let app = app_at_noon().await;
    let tenant = app.tenant("kept").await;
    app.app.analytics.requests().count(&took(&tenant, 1000, app.app.clock.now()));
    app.app.analytics.flush().await.unwrap();
    let kept = async || {
        let mut input = of_the_day();
        input["tenantId"] = json!(tenant.id);
        let told = app.admin().await.ok(REQUESTS, json!({ "input": input })).await;
        ["requests", "callers"].map(|list| told["analytics"][list].as_array().unwrap().len())
    };
    app.advance(TimeDelta::days(399));
    assert!(!app.app.analytics.remove_old().await.unwrap());
    assert_eq!(kept().await, [1, 1]);
    app.advance(TimeDelta::days(2));
    assert!(!app.app.analytics.remove_old().await.unwrap());
    assert_eq!(kept().await, [0, 0]);
}

#[tokio::test]
async fn a_server_that_is_stopped_writes_down_what_it_was_asked_last() {
    let settings = Binary::on(&database().await).set("ANALYTICS__FLUSH", "1h");
    let server = settings.serve().await;
    let admin = server.admin().await;
    let create = "mutation { createTenant(input: {slug: \"acme\", name: \"Acme\"}) { tenant { id } } }";
    let id = admin.ok(create, json!({})).await["createTenant"]["tenant"]["id"].clone();
    admin.ok("mutation($id: ID!) { activateTenant(input: {id: $id}) { tenant { id } } }", json!({ "id": id })).await;
    let token = settings.run(&["token", "--tenant", "acme", "--scope", "auth:tenant:read auth:usage:read"]).await.ok();
    let client = server.with_token(token.trim());
    for _ in 0..5 {
        client.ok(OWN, json!({})).await;
    }
    assert!(server.stop().await.success());
    let server = settings.serve().await;
    let now = tenantry::platform::clock::Clock::default().now();
    let input = json!({ "window": "HOUR", "from": now - TimeDelta::hours(1), "to": now + TimeDelta::hours(1) });
    let asked = json!({ "input": input, "each": true });
    let told = server.with_token(token.trim()).ok(REQUESTS, asked).await["analytics"].clone();
    let counts = told["requests"].as_array().unwrap().iter().map(|told| told["count"].as_i64().unwrap());
    assert_eq!(counts.sum::<i64>(), 5, "{told}");
    assert_eq!(told["requests"][0]["operation"], "query tenant");
}

#[tokio::test]
async fn bad_input_is_named_by_field() {
    let app = app_at_noon().await;
    let tenant = app.tenant("careless").await;
    let client = app.service(&tenant, "auth:usage:read").await;
    let asked = |changed: &str, value: Value| {
        let mut input = of_the_day();
        input[changed] = value;
        json!({ "input": input })
    };
    let field = |answer: &crate::support::Answer| {
        let extensions = &answer.body["errors"][0]["extensions"];
        (extensions["code"].clone(), extensions["field"].clone())
    };
    for (changed, value, named) in [
        ("timeZone", json!("Vienna"), "timeZone"),
        ("to", json!("2026-11-25T00:00:00Z"), "to"),
        ("from", json!("1990-11-25T00:00:00Z"), "from"),
    ] {
        let answer = client.graphql(REQUESTS, asked(changed, value)).await;
        assert_eq!(field(&answer), (json!("invalid_input"), json!(named)), "{}", answer.text);
    }
    let operator = app.operator(Role::Auditor).await.graphql(REQUESTS, json!({ "input": of_the_day() })).await;
    assert_eq!(field(&operator), (json!("invalid_input"), json!("tenantId")));
    for (asked, named) in [
        ("activeUsers(dimension: \"none\") { count }", "dimension"),
        ("sessions(dimension: \"none\") { count }", "dimension"),
        ("sessions(pauseMinutes: 0) { count }", "pauseMinutes"),
        ("sessions(pauseMinutes: 1441) { count }", "pauseMinutes"),
        ("features(dimension: \"none\", label: \"feature\") { events }", "dimension"),
        ("features(dimension: \"api_calls\", label: \"feature\") { events }", "label"),
    ] {
        let query = format!("query($input: AnalyticsInput!) {{ analytics(input: $input) {{ {asked} }} }}");
        let answer = client.graphql(&query, json!({ "input": of_the_day() })).await;
        assert_eq!(field(&answer), (json!("invalid_input"), json!(named)), "{}", answer.text);
    }
    let span = "from=2026-11-26T00:00:00Z&to=2026-11-27T00:00:00%2B00:00";
    for (query, named) in [
        ("to=2026-11-27T00:00:00Z".to_owned(), "from"),
        ("from=2026-11-27T00:00:00Z".to_owned(), "to"),
        ("from=yesterday&to=2026-11-27T00:00:00Z".to_owned(), "from"),
        (format!("{span}&window=MINUTE"), "window"),
        (format!("{span}&time_zone=Vienna"), "time_zone"),
        (format!("{span}&to=2026-11-27T00:00:00Z"), "to"),
    ] {
        for file in ["requests", "usage"] {
            let answer = client.get(&format!("/api/v1/analytics/{file}.csv?{query}")).await;
            assert_eq!(
                (answer.status, &answer.body["errors"][0]["extensions"]["field"]),
                (400, &json!(named)),
                "{query} {}",
                answer.text
            );
        }
    }
    let weeks = client.get(&format!("/api/v1/analytics/usage.csv?{span}&window=WEEK")).await;
    assert_eq!((weeks.status, field(&weeks).1), (400, json!("window")));
}
