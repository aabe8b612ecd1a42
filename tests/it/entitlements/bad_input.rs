//! What breaks a rule is refused with its field, and nothing is changed.

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::{DEFINE, ENTITLEMENT, EXPLAIN, GRANT, OF_PLAN, OF_TENANT, REVOKE, grant, later};
use crate::support::{Client, TestApp};

/// Sends, and answers code and field.
async fn refusal(client: &Client, query: &str, input: Value) -> (String, String) {
    let answer = client.graphql(query, json!({ "input": input })).await;
    assert!(answer.body["errors"].is_array(), "{input:.300} was taken: {}", answer.text);
    let field = answer.body["errors"][0]["extensions"]["field"].as_str().unwrap_or_default();
    (answer.code().to_owned(), field.to_owned())
}

async fn everything(admin: &Client, tenant: &Value) -> Value {
    let all = "query($id: ID) { entitlementGrants(tenantId: $id) { id version } resourceKinds { key version resources { key version } planAllowLists { version } }
        entitlements(tenantId: $id) { key effectiveValue { access limit } } audit(first: 1) { edges { cursor } } }";
    admin.ok(all, json!({ "id": tenant })).await
}

#[tokio::test]
async fn a_grant_that_cannot_count_is_refused_with_its_field() {
    let app = TestApp::start().await;
    let (acme, other, admin) = (app.tenant("acme").await, app.tenant("other").await, app.admin().await);
    admin
        .ok(DEFINE, json!({ "input": { "resourceKind": "models", "key": "old", "name": "Old", "retired": true } }))
        .await;
    let made = grant(&admin, &acme, "QUOTA", "max_users", json!({ "amount": 1 })).await;
    let of = |more: Value| {
        let mut input =
            json!({ "tenantId": acme.id, "kind": "QUOTA", "key": "max_users", "amount": 1, "reason": "trial" });
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        input
    };
    let service = app.full_service(&acme).await;
    let before = everything(&admin, &json!(acme.id)).await;
    let cases = [
        (of(json!({ "amount": 0 })), "amount"),
        (of(json!({ "amount": -5 })), "amount"),
        (of(json!({ "amount": null })), "amount"),
        (of(json!({ "amount": 1_000_000_000_000_001_i64 })), "amount"),
        (of(json!({ "amount": i64::MAX })), "amount"),
        (of(json!({ "kind": "FEATURE", "key": "webhooks" })), "amount"),
        (of(json!({ "key": "unheard" })), "key"),
        (of(json!({ "kind": "FEATURE", "key": "no feature", "amount": null })), "key"),
        (of(json!({ "kind": "FEATURE", "key": "", "amount": null })), "key"),
        (of(json!({ "kind": "RESOURCE", "key": "models/unheard", "amount": null })), "key"),
        (of(json!({ "kind": "RESOURCE", "key": "old", "amount": null })), "key"),
        (of(json!({ "kind": "RESOURCE", "key": "models/old", "amount": null })), "key"),
        (of(json!({ "priority": -1 })), "priority"),
        (of(json!({ "priority": 256 })), "priority"),
        (of(json!({ "effectiveAt": "2020-01-01T00:00:00Z" })), "effectiveAt"),
        (of(json!({ "expiresAt": "2020-01-01T00:00:00Z" })), "expiresAt"),
        (
            of(json!({ "effectiveAt": later(&app, TimeDelta::days(2)), "expiresAt": later(&app, TimeDelta::days(1)) })),
            "expiresAt",
        ),
        (of(json!({ "reason": " " })), "reason"),
        (of(json!({ "reason": "x".repeat(2_001) })), "reason"),
    ];
    for (input, field) in cases {
        let told = refusal(&admin, GRANT, input.clone()).await;
        assert_eq!(told, ("invalid_input".to_owned(), field.to_owned()), "{input:.300}");
    }
    // More than 64 bits hold is no number of this API.
    let answer = admin.graphql(GRANT, json!({ "input": of(json!({ "amount": 1e30 })) })).await;
    assert_eq!(answer.code(), "invalid_input", "{}", answer.text);
    for (tenant, id) in [
        (&other, made["id"].clone()),
        (&acme, json!("01a1fda2-7079-775d-968f-cdc8372b2275")),
        (&acme, json!("nonsense")),
    ] {
        assert_eq!(refusal(&admin, REVOKE, json!({ "tenantId": tenant.id, "grantId": id })).await.0, "not_found");
    }
    let nobody = of(json!({ "tenantId": "7b2c1a9e-1111-4222-8333-444455556666" }));
    assert_eq!(refusal(&admin, GRANT, nobody).await.0, "not_found");
    assert_eq!(refusal(&service, GRANT, of(json!({}))).await.0, "forbidden", "a tenant gives itself nothing");
    assert_eq!(refusal(&service, REVOKE, json!({ "tenantId": acme.id, "grantId": made["id"] })).await.0, "forbidden");
    assert_eq!(everything(&admin, &json!(acme.id)).await, before);
}

#[tokio::test]
async fn lists_and_questions_that_name_what_is_not_there_are_refused_with_their_field() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    admin.ok(DEFINE, json!({ "input": { "resourceKind": "models", "key": "gpt-5", "name": "GPT" } })).await;
    let before = everything(&admin, &json!(acme.id)).await;
    let list = |add: Value, remove: Value| json!({ "tenantId": acme.id, "resourceKind": "models", "add": add, "remove": remove, "reason": "x" });
    let kind = "mutation($input: DefineResourceKindInput!) { defineResourceKind(input: $input) { key } }";
    let cases = [
        (OF_TENANT, list(json!(["unheard"]), json!([])), "add[0]"),
        (OF_TENANT, list(json!(["gpt-5", "gpt-5"]), json!([])), "add[1]"),
        (OF_TENANT, list(json!(["gpt-5"]), json!(["gpt-5"])), "remove"),
        (OF_TENANT, json!({ "tenantId": acme.id, "resourceKind": "tools", "reason": "x" }), "resourceKind"),
        (OF_TENANT, json!({ "tenantId": acme.id, "resourceKind": "models", "reason": "" }), "reason"),
        (OF_PLAN, json!({ "plan": "gold", "resourceKind": "models" }), "plan"),
        (OF_PLAN, json!({ "plan": "starter", "resourceKind": "tools" }), "resourceKind"),
        (OF_PLAN, json!({ "plan": "starter", "resourceKind": "models", "resources": ["unheard"] }), "resources[0]"),
        (
            OF_PLAN,
            json!({ "plan": "starter", "resourceKind": "models", "everything": true, "resources": ["gpt-5"] }),
            "resources",
        ),
        (DEFINE, json!({ "resourceKind": "tools", "key": "x", "name": "X" }), "resourceKind"),
        (DEFINE, json!({ "resourceKind": "models", "key": "a b", "name": "X" }), "key"),
        (DEFINE, json!({ "resourceKind": "models", "key": "x", "name": "" }), "name"),
        (kind, json!({ "key": "No", "name": "X" }), "key"),
        (ENTITLEMENT, json!({ "tenantId": acme.id, "kind": "QUOTA", "key": "unheard" }), "key"),
        (ENTITLEMENT, json!({ "tenantId": acme.id, "kind": "RESOURCE", "key": "models/unheard" }), "key"),
        (ENTITLEMENT, json!({ "tenantId": acme.id, "kind": "QUOTA", "key": "max_users", "amount": 0 }), "amount"),
        (ENTITLEMENT, json!({ "tenantId": acme.id, "kind": "FEATURE", "key": "x", "amount": 1 }), "amount"),
        (ENTITLEMENT, json!({ "kind": "QUOTA", "key": "max_users" }), "tenantId"),
        (EXPLAIN, json!({ "tenantId": acme.id, "subject": "QUOTA", "key": "unheard" }), "key"),
        (EXPLAIN, json!({ "tenantId": acme.id, "subject": "FLAG", "key": "unheard" }), "key"),
        (EXPLAIN, json!({ "tenantId": acme.id, "subject": "RESOURCE", "key": "unheard" }), "key"),
        (EXPLAIN, json!({ "tenantId": acme.id, "subject": "SIGN_IN", "key": "unheard" }), "key"),
        (EXPLAIN, json!({ "tenantId": acme.id, "subject": "REGION", "key": "" }), "key"),
        (
            EXPLAIN,
            json!({ "tenantId": acme.id, "subject": "QUOTA", "key": "max_users", "context": { "a": 1 } }),
            "context",
        ),
        (EXPLAIN, json!({ "tenantId": acme.id, "subject": "FLAG", "key": "x", "context": [1] }), "context"),
    ];
    for (query, input, field) in cases {
        let told = refusal(&admin, query, input.clone()).await;
        assert_eq!(told, ("invalid_input".to_owned(), field.to_owned()), "{input:.300}");
    }
    let stale = json!({ "resourceKind": "models", "key": "gpt-5", "name": "GPT", "expectedVersion": 7 });
    assert_eq!(refusal(&admin, DEFINE, stale).await.0, "conflict");
    assert_eq!(everything(&admin, &json!(acme.id)).await, before);
}
