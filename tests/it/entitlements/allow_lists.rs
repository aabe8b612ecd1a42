//! Models and other resources: who may use them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{DEFINE, OF_PLAN, OF_TENANT, entitlement, grant, later};
use crate::support::{Client, Tenant, TestApp};

async fn define(admin: &Client, key: &str, retired: bool) {
    let input = json!({ "resourceKind": "models", "key": key, "name": key, "retired": retired });
    admin.ok(DEFINE, json!({ "input": input })).await;
}

async fn of_plan(admin: &Client, resources: Value) {
    let input = json!({ "plan": "starter", "resourceKind": "models", "resources": resources });
    admin.ok(OF_PLAN, json!({ "input": input })).await;
}

async fn of_tenant(admin: &Client, tenant: &Tenant, add: Value, remove: Value) {
    let input =
        json!({ "tenantId": tenant.id, "resourceKind": "models", "add": add, "remove": remove, "reason": "contract" });
    admin.ok(OF_TENANT, json!({ "input": input })).await;
}

/// Whether the client's tenant may use the model, and what that follows from.
async fn may(client: &Client, model: &str) -> Value {
    let found = entitlement(client, "RESOURCE", &format!("models/{model}")).await;
    json!([found["allowed"], found["source"]])
}

#[tokio::test]
async fn a_model_is_allowed_by_plan_by_addition_and_by_grant_and_what_is_removed_nothing_gives() {
    let app = TestApp::start().await;
    let (acme, other, admin) = (app.tenant("acme").await, app.tenant("other").await, app.admin().await);
    let (service, stranger) = (app.full_service(&acme).await, app.full_service(&other).await);
    for model in ["gpt-5", "claude/opus", "llama"] {
        define(&admin, model, false).await;
    }
    assert_eq!(may(&service, "gpt-5").await, json!([false, "CATALOGUE"]), "nothing is allowed that nobody has allowed");
    of_plan(&admin, json!(["gpt-5"])).await;
    assert_eq!(may(&service, "gpt-5").await, json!([true, "PLAN"]));
    assert_eq!(may(&service, "claude/opus").await, json!([false, "PLAN"]));
    of_tenant(&admin, &acme, json!(["claude/opus"]), json!(["gpt-5"])).await;
    assert_eq!(may(&service, "claude/opus").await, json!([true, "ALLOW_LIST"]));
    assert_eq!(may(&service, "gpt-5").await, json!([false, "ALLOW_LIST"]));
    assert_eq!(may(&stranger, "gpt-5").await, json!([true, "PLAN"]), "the list is one tenant's");
    grant(&admin, &acme, "RESOURCE", "models/gpt-5", json!({})).await;
    assert_eq!(may(&service, "gpt-5").await, json!([false, "ALLOW_LIST"]));
    let hour = chrono::TimeDelta::hours(1);
    grant(&admin, &acme, "RESOURCE", "models/llama", json!({ "expiresAt": later(&app, hour) })).await;
    assert_eq!(may(&service, "llama").await, json!([true, "GRANT"]));
    define(&admin, "claude/opus", true).await;
    assert_eq!(may(&service, "claude/opus").await, json!([false, "CATALOGUE"]));
    app.advance(hour);
    let service = app.full_service(&acme).await;
    assert_eq!(may(&service, "llama").await, json!([false, "PLAN"]), "the grant has expired by itself");
    app.run_due().await;
    assert_eq!(may(&service, "llama").await, json!([false, "PLAN"]));
    let all = service
        .ok("{ entitlements(kind: RESOURCE) { key allowed } resourceKinds { key resources { key } } }", json!({}))
        .await;
    assert_eq!(all["entitlements"].as_array().unwrap().len(), 3);
    assert_eq!(all["resourceKinds"][0]["resources"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn allow_lists_are_answered_from_memory() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    define(&admin, "gpt-5", false).await;
    of_plan(&admin, json!(["gpt-5"])).await;
    grant(&admin, &acme, "FEATURE", "webhooks", json!({})).await;
    let service = app.service(&acme, "auth:entitlement:read").await;
    let tables = ["resources", "plan_allow_lists", "tenant_allow_lists", "entitlement_grants", "tenants", "plans"];
    app.answers_without(&[&tables[..], &["journal_heads", "journal"]].concat(), async || {
        for _ in 0..50 {
            assert_eq!(may(&service, "gpt-5").await, json!([true, "PLAN"]));
            assert_eq!(entitlement(&service, "FEATURE", "webhooks").await["source"], "GRANT");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_one_replica_changes_is_what_the_other_answers_within_a_second() {
    let first = TestApp::start().await;
    let second = first.replica("").await;
    let (acme, admin) = (first.tenant("acme").await, first.admin().await);
    define(&admin, "gpt-5", false).await;
    let there = second.service(&acme, "auth:entitlement:read").await;
    let mut slowest = Duration::ZERO;
    for round in 0..12 {
        may(&there, "gpt-5").await; // in memory
        let allowed = round % 2 == 0;
        // By turns the plan's list and the tenant's own.
        let named = if allowed { json!(["gpt-5"]) } else { json!([]) };
        match round % 4 {
            0 | 1 => of_plan(&admin, named).await,
            _ => of_tenant(&admin, &acme, named, json!([])).await,
        }
        let acknowledged = Instant::now();
        while may(&there, "gpt-5").await[0] != json!(allowed) {
            assert!(
                acknowledged.elapsed() < Duration::from_secs(1),
                "round {round}: the other replica answers the old list"
            );
        }
        slowest = slowest.max(acknowledged.elapsed());
    }
    println!("a changed list was answered by the other replica after at most {} ms (12 changes)", slowest.as_millis());
}

#[tokio::test]
async fn a_granted_feature_lifts_the_ceiling_of_flags_while_it_lasts() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    let flag = json!({ "key": "hooks", "type": "BOOLEAN", "defaultValue": false, "feature": "webhooks", "rules": [{ "key": "all", "value": true }] });
    admin
        .ok(
            "mutation($input: DefineFlagInput!) { defineFlag(input: $input) { flag { key } } }",
            json!({ "input": flag }),
        )
        .await;
    let on = async |client: &Client| {
        let found = client.ok("{ evaluateFlags(keys: [\"hooks\"]) { flags { value } } }", json!({})).await;
        found["evaluateFlags"]["flags"][0]["value"].clone()
    };
    let service = app.full_service(&acme).await;
    let bulk = async |client: &Client, tag: &str| {
        client.send(client.post("/ofrep/v1/evaluate/flags").header("if-none-match", tag).json(&json!({}))).await
    };
    assert_eq!(on(&service).await, json!(false));
    let hour = chrono::TimeDelta::hours(1);
    grant(&admin, &acme, "FEATURE", "webhooks", json!({ "expiresAt": later(&app, hour) })).await;
    assert_eq!(on(&service).await, json!(true));
    let tag = bulk(&service, "none").await.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(bulk(&service, &tag).await.status, 304);
    app.advance(hour);
    let service = app.full_service(&acme).await;
    assert_eq!(on(&service).await, json!(false));
    assert_eq!(bulk(&service, &tag).await.status, 200, "what a grant's end changes has another tag");
}
