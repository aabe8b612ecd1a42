//! Asking for a decision: `checkRate`, and the path for gateways.

use chrono::TimeDelta;
use reqwest::Method;
use serde_json::{Value, json};
use tenantry::access::Role;

use super::{item, limit, parameters};
use crate::support::TestApp;

const CHECK: &str = "mutation($input: CheckRateInput!) { checkRate(input: $input) {
    allowed limit remaining resetAfterSeconds retryAfterSeconds } }";

#[tokio::test]
async fn check_rate_takes_what_it_allows_and_nothing_when_it_refuses() {
    let app = TestApp::start().await;
    let tenant = app.tenant("checked").await;
    let admin = app.admin().await;
    let check = async |cost: i64| {
        let input = json!({ "tenantId": tenant.id, "key": "requests_per_second", "cost": cost });
        admin.ok(CHECK, json!({ "input": input })).await["checkRate"].clone()
    };
    let unlimited = json!({ "allowed": true, "limit": null, "remaining": null, "resetAfterSeconds": 0.0, "retryAfterSeconds": null });
    assert_eq!(check(1_000_000).await, unlimited);
    limit(&app, &tenant, "requests_per_second", 4).await;
    let taken = check(3).await;
    assert_eq!(
        (&taken["allowed"], &taken["limit"], &taken["remaining"], &taken["retryAfterSeconds"]),
        (&json!(true), &json!(4), &json!(1), &Value::Null)
    );
    assert_eq!(taken["resetAfterSeconds"], json!(0.75));
    let refused = check(4).await;
    assert_eq!(refused["allowed"], json!(false));
    let wait = refused["retryAfterSeconds"].as_f64().unwrap();
    assert!(wait > 0.0 && wait <= 0.75, "{refused}");
    app.advance(TimeDelta::seconds(1));
    assert_eq!(check(4).await["allowed"], json!(true));
    limit(&app, &tenant, "requests_per_second", 0).await;
    assert_eq!(check(1).await["allowed"], json!(false));
}

#[tokio::test]
async fn check_rate_says_what_is_wrong_with_its_input() {
    let app = TestApp::start().await;
    let tenant = app.tenant("careless").await;
    let (service, admin) = (app.full_service(&tenant).await, app.admin().await);
    limit(&app, &tenant, "requests_per_second", 1000).await;
    for (key, cost, field) in [
        ("requests_per_second", "0", "cost"),
        ("requests_per_second", "-1", "cost"),
        ("requests_per_second", "-9223372036854775808", "cost"),
        ("requests_per_second", "1001", "cost"),
        ("requests_per_second", "9223372036854775807", "cost"),
        ("no_such_key", "1", "key"),
        ("max_users", "1", "key"),
        ("requests_per_day", "1", "key"),
        ("concurrent_requests", "1", "key"),
        ("Requests_per_second", "1", "key"),
    ] {
        let input = json!({ "key": key, "cost": cost.parse::<i64>().unwrap() });
        let answer = service.graphql(CHECK, json!({ "input": input })).await;
        let found = &answer.body["errors"][0]["extensions"];
        assert_eq!((answer.code(), &found["field"]), ("invalid_input", &json!(field)), "{key} {cost}: {}", answer.text);
        let answer = service.get(&format!("/v1/rate/check?key={key}&cost={cost}")).await;
        let found = &answer.body["errors"][0]["extensions"];
        assert_eq!(
            (answer.status, answer.code(), &found["field"]),
            (400, "invalid_input", &json!(field)),
            "{key} {cost}: {}",
            answer.text
        );
    }
    for (query, field) in [
        ("", "key"),
        ("?key=", "key"),
        ("?key=requests_per_second&key=requests_per_second", "key"),
        ("?key=requests_per_second&cost=1&cost=2", "cost"),
        ("?key=requests_per_second&cost=1.5", "cost"),
        ("?key=requests_per_second&cost=", "cost"),
    ] {
        let answer = service.get(&format!("/v1/rate/check{query}")).await;
        let found = &answer.body["errors"][0]["extensions"];
        assert_eq!((answer.status, answer.code(), &found["field"]), (400, "invalid_input", &json!(field)), "{query}");
    }
    let input = json!({ "key": "requests_per_second" });
    assert_eq!(admin.refused(CHECK, json!({ "input": input })).await, "invalid_input");
    let answer = admin.get("/v1/rate/check?key=requests_per_second").await;
    assert_eq!((answer.status, &answer.body["errors"][0]["extensions"]["field"]), (400, &json!("tenant")));
}

#[tokio::test]
async fn a_gateway_learns_from_the_status_and_the_headers() {
    let app = TestApp::start().await;
    let (tenant, other) = (app.tenant("behind-gateway").await, app.tenant("other").await);
    let gateway = app.service(&tenant, "auth:rate:check").await;
    let path = "/v1/rate/check?key=requests_per_second&cost=2";
    let free = gateway.get(path).await;
    assert_eq!((free.status, free.headers.contains_key("ratelimit")), (204, false));

    limit(&app, &tenant, "requests_per_second", 3).await;
    let allowed = gateway.get(path).await;
    assert_eq!(allowed.status, 204);
    // What it asks for is all that it takes.
    assert_eq!(
        item(&allowed.headers, "ratelimit"),
        ("requests_per_second".to_owned(), parameters(&[("r", 1), ("t", 1)]))
    );
    let refused = gateway.get(path).await;
    assert_eq!((refused.status, refused.code()), (429, "rate_limited"));
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(item(&refused.headers, "ratelimit-policy").1, parameters(&[("q", 3), ("w", 1)]));
    app.advance(TimeDelta::seconds(1));
    let by_operator = app.admin().await.get(&format!("{path}&tenant={}", tenant.id)).await;
    assert_eq!(by_operator.status, 204);

    app.advance(TimeDelta::seconds(1));
    for stranger in [&format!("{path}&tenant={}", other.id), &format!("{path}&tenant=nonsense")] {
        let answer = gateway.get(stranger).await;
        assert_eq!((answer.status, answer.code()), (404, "not_found"), "{stranger}");
    }
    assert_eq!(app.service(&tenant, "auth:tenant:read").await.get(path).await.status, 403);
    assert_eq!(app.operator(Role::Support).await.get(&format!("{path}&tenant={}", tenant.id)).await.status, 403);
    assert_eq!(app.anonymous().get(path).await.status, 401);
    assert_eq!(gateway.send(gateway.request(Method::POST, path)).await.status, 405);
}
