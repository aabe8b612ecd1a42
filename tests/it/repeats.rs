//! A request that was valid before is not validated again: whoever sends it is still asked what they may.

use serde_json::{Value, json};

use crate::support::{Answer, Client, TestApp};

const TWO: &str =
    "query Name { tenant { name } } query Slug { tenant { slug quotas(keys: [\"max_users\"]) { key limit } } }";
const RESERVE: &str =
    "mutation($lines: [QuotaLineInput!]!) { reserveQuota(input: { lines: $lines }) { reservation { id } } }";

fn body(query: &str, operation: Option<&str>, variables: &Value) -> String {
    json!({ "query": query, "operationName": operation, "variables": variables }).to_string()
}

async fn send(client: &Client, body: &str) -> Answer {
    client.send(client.post("/graphql").header("content-type", "application/json").body(body.to_owned())).await
}

/// What it answers, without what is new in every answer.
async fn told(client: &Client, body: &str) -> (u16, Value) {
    let Answer { status, mut body, .. } = send(client, body).await;
    for error in body["errors"].as_array_mut().into_iter().flatten() {
        error["extensions"].as_object_mut().unwrap().remove("requestId");
    }
    (status, body)
}

#[tokio::test]
async fn the_same_request_is_answered_the_same_until_what_is_answered_changes() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let service = app.full_service(&acme).await;
    let none = json!({});
    let valid = [
        body(TWO, Some("Name"), &none),
        body(TWO, Some("Slug"), &none),
        body(
            "query($keys: [String!]) { tenant { quotas(keys: $keys) { key limit } } }",
            None,
            &json!({ "keys": ["max_users"] }),
        ),
        body(
            "query($keys: [String!]) { tenant { quotas(keys: $keys) { key limit } } }",
            None,
            &json!({ "keys": ["projects"] }),
        ),
        body("query($all: Boolean!) { tenant { slug name @include(if: $all) } }", None, &json!({ "all": true })),
        body("query($all: Boolean!) { tenant { slug name @include(if: $all) } }", None, &json!({ "all": false })),
        body("{ __typename tenant { ...Names } } fragment Names on Tenant { slug }", None, &Value::Null),
    ];
    let mut first = Vec::new();
    for body in &valid {
        first.push(told(&service, body).await);
    }
    assert!(first.iter().all(|(status, body)| *status == 200 && body["errors"].is_null()), "{first:?}");
    for _ in 0..2 {
        for (body, first) in valid.iter().zip(&first) {
            assert_eq!(&told(&service, body).await, first, "{body}");
        }
    }
    let rename = "mutation($input: UpdateTenantInput!) { updateTenant(input: $input) { tenant { name } } }";
    let input = json!({ "input": { "id": acme.id, "name": "Another" } });
    app.admin().await.ok(rename, input).await;
    assert_eq!(told(&service, &valid[0]).await.1["data"]["tenant"]["name"], "Another");
}

#[tokio::test]
async fn a_request_that_is_not_valid_stays_so() {
    let app = TestApp::start().await;
    let service = app.full_service(&app.tenant("acme").await).await;
    let line = |amount: Value| json!({ "lines": [{ "key": "max_users", "amount": amount }] });
    let invalid = [
        body("{ tenant { nothing } }", None, &json!({})),
        body(TWO, None, &json!({})),
        body(TWO, Some("Neither"), &json!({})),
        body(RESERVE, None, &line(json!("many"))),
        body(RESERVE, None, &line(json!(-1))),
        body(RESERVE, None, &json!({})),
    ];
    let good = send(&service, &body(RESERVE, None, &line(json!(1)))).await;
    assert!(good.body["data"]["reserveQuota"]["reservation"]["id"].is_string(), "{}", good.text);
    for body in &invalid {
        let first = told(&service, body).await;
        assert!(first.1["errors"][0]["extensions"]["code"].is_string(), "{first:?}");
        for _ in 0..2 {
            assert_eq!(told(&service, body).await, first, "{body}");
        }
    }
    let quotas = service.ok("{ quotas(keys: [\"max_users\"]) { reserved } }", json!({})).await;
    assert_eq!(quotas["quotas"][0]["reserved"], 1, "what was refused reserves nothing");
}

#[tokio::test]
async fn who_may_not_is_refused_what_others_were_answered() {
    let app = TestApp::start().await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    let (full, narrow) = (app.full_service(&acme).await, app.service(&acme, "auth:flag:read").await);
    let own = body("{ tenant { slug } quotas(keys: [\"max_users\"]) { key } }", None, &json!({}));
    for _ in 0..3 {
        assert_eq!(send(&full, &own).await.body["data"]["tenant"]["slug"], "acme");
    }
    assert_eq!(send(&app.full_service(&other).await, &own).await.body["data"]["tenant"]["slug"], "other");
    assert_eq!(send(&narrow, &own).await.code(), "forbidden");
    assert_eq!(send(&app.anonymous(), &own).await.status, 401);
    let suspend = "mutation($input: SuspendTenantInput!) { suspendTenant(input: $input) { tenant { status } } }";
    app.admin().await.ok(suspend, json!({ "input": { "id": acme.id, "mode": "HARD", "reason": "POLICY" } })).await;
    assert_eq!(send(&full, &own).await.code(), "tenant_suspended");
}
