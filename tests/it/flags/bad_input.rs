//! Definitions and values that break a rule: each is refused with its place, and nothing is changed.

use serde_json::{Value, json};

use super::{DEFINE, SEGMENT, SET, UPDATE, define, define_switch};
use crate::support::{Client, TestApp};

/// Sends, and answers code and field.
async fn refusal(client: &Client, query: &str, input: Value) -> (String, String) {
    let answer = client.graphql(query, json!({ "input": input })).await;
    assert!(answer.body["errors"].is_array(), "{query} {input:.300} was taken: {}", answer.text);
    let field = answer.body["errors"][0]["extensions"]["field"].as_str().unwrap_or_default();
    (answer.code().to_owned(), field.to_owned())
}

async fn everything(client: &Client) -> Value {
    let all = "{ flags(includeArchived: true) { key version } flagSegments { key version } flagChangeRequests { id } audit(first: 1) { edges { cursor } } }";
    client.ok(all, json!({})).await
}

fn switch(more: Value) -> Value {
    let mut input = json!({ "key": "new", "type": "BOOLEAN", "defaultValue": false });
    input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    input
}

fn with_rule(more: Value) -> Value {
    let mut rule = json!({ "key": "r", "value": true });
    rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    switch(json!({ "rules": [rule] }))
}

fn with_condition(attribute: &str, operator: &str, values: Value) -> Value {
    with_rule(json!({ "conditions": [{ "attribute": attribute, "operator": operator, "values": values }] }))
}

fn definitions() -> Vec<(Value, &'static str)> {
    let many =
        |count: usize| (0..count).map(|index| json!({ "key": format!("r{index}"), "value": true })).collect::<Vec<_>>();
    let percentage = |percentage: &str| with_rule(json!({ "rollout": { "percentage": percentage } }));
    let long = "x".repeat(16 * 1024);
    vec![
        (switch(json!({ "key": "" })), "key"),
        (switch(json!({ "key": "a b" })), "key"),
        (switch(json!({ "key": "-a" })), "key"),
        (switch(json!({ "key": "a/b" })), "key"),
        (switch(json!({ "key": "x".repeat(129) })), "key"),
        (switch(json!({ "defaultValue": "true" })), "defaultValue"),
        (switch(json!({ "defaultValue": 1 })), "defaultValue"),
        (switch(json!({ "type": "JSON", "defaultValue": 1 })), "defaultValue"),
        (switch(json!({ "type": "STRING", "defaultValue": long })), "defaultValue"),
        (switch(json!({ "type": "STRING", "defaultValue": "a\u{0}b" })), "defaultValue"),
        (switch(json!({ "type": "JSON", "defaultValue": { "a": [{ "\u{0}": 1 }] } })), "defaultValue"),
        (switch(json!({ "offValue": "off" })), "offValue"),
        (switch(json!({ "description": "a\u{0}" })), "description"),
        (switch(json!({ "lifecycle": "TEMPORARY" })), "staleAfter"),
        (switch(json!({ "staleAfter": "2030-01-01T00:00:00Z" })), "staleAfter"),
        (switch(json!({ "feature": "no feature" })), "feature"),
        (switch(json!({ "variants": [{ "name": "a", "value": 1 }] })), "variants[0].value"),
        (
            switch(json!({ "variants": [{ "name": "a", "value": true }, { "name": "a", "value": false }] })),
            "variants[1].name",
        ),
        (switch(json!({ "planValues": [{ "plan": "gold", "value": true }] })), "planValues.gold"),
        (switch(json!({ "planValues": [{ "plan": "pro", "value": 1 }] })), "planValues.pro.value"),
        (switch(json!({ "rules": many(101) })), "rules"),
        (switch(json!({ "rules": [many(1)[0], many(1)[0]] })), "rules[1].key"),
        (with_rule(json!({ "value": "yes" })), "rules[0].value"),
        (with_rule(json!({ "segments": ["nowhere"] })), "rules[0].segments[0]"),
        (percentage("100.001"), "rules[0].rollout.percentage"),
        (percentage("101"), "rules[0].rollout.percentage"),
        (percentage("-0.001"), "rules[0].rollout.percentage"),
        (percentage("-79228162514264337593543950335"), "rules[0].rollout.percentage"),
        (percentage("0.0001"), "rules[0].rollout.percentage"),
        (with_rule(json!({ "rollout": { "percentage": "5", "bucketBy": "" } })), "rules[0].rollout.bucketBy"),
        (with_condition("tenant.colour", "EQ", json!(["x"])), "rules[0].conditions[0].attribute"),
        (with_condition("", "EQ", json!(["x"])), "rules[0].conditions[0].attribute"),
        (with_condition("a", "EQ", json!([])), "rules[0].conditions[0].values"),
        (with_condition("a", "EQ", json!(["x", "y"])), "rules[0].conditions[0].values"),
        (with_condition("a", "EXISTS", json!(["x"])), "rules[0].conditions[0].values"),
        (with_condition("a", "IN", json!(["x", {}])), "rules[0].conditions[0].values[1]"),
        (with_condition("a", "GT", json!(["5"])), "rules[0].conditions[0].values[0]"),
        (with_condition("a", "STARTS_WITH", json!([5])), "rules[0].conditions[0].values[0]"),
        (with_condition("a", "SEMVER_GT", json!(["1.0"])), "rules[0].conditions[0].values[0]"),
        (switch(json!({ "prerequisites": [{ "flag": "nowhere", "value": true }] })), "prerequisites[0].flag"),
        (switch(json!({ "prerequisites": [{ "flag": "new", "value": true }] })), "prerequisites[0].flag"),
        (switch(json!({ "prerequisites": [{ "flag": "there", "value": "on" }] })), "prerequisites[0].value"),
    ]
}

#[tokio::test]
async fn a_definition_that_cannot_be_evaluated_is_refused_with_its_place() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    define_switch(&admin, "there", json!({})).await;
    let before = everything(&admin).await;
    for (input, field) in definitions() {
        let told = refusal(&admin, DEFINE, input.clone()).await;
        assert_eq!(told, ("invalid_input".to_owned(), field.to_owned()), "{input:.300}");
    }
    let segments = [
        (json!({ "key": "s", "conditions": [] }), "conditions"),
        (json!({ "key": "s s", "conditions": [{ "attribute": "a", "operator": "EXISTS" }] }), "key"),
        (
            json!({ "key": "s", "conditions": [{ "attribute": "a", "operator": "LT", "values": [true] }] }),
            "conditions[0].values[0]",
        ),
    ];
    for (input, field) in segments {
        assert_eq!(refusal(&admin, SEGMENT, input).await, ("invalid_input".to_owned(), field.to_owned()));
    }
    assert_eq!(everything(&admin).await, before);
}

#[tokio::test]
async fn prerequisites_never_go_round() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    define_switch(&admin, "f0", json!({})).await;
    for index in 1..=16 {
        let needs = json!([{ "flag": format!("f{}", index - 1), "value": true }]);
        define_switch(&admin, &format!("f{index}"), json!({ "prerequisites": needs })).await;
    }
    let needs = |flag: &str| json!([{ "flag": flag, "value": true }]);
    let circle = refusal(&admin, UPDATE, json!({ "key": "f0", "prerequisites": needs("f5") })).await;
    assert_eq!(circle, ("invalid_input".to_owned(), "prerequisites".to_owned()));
    let deep = refusal(&admin, DEFINE, switch(json!({ "prerequisites": needs("f16") }))).await;
    assert_eq!(deep, ("invalid_input".to_owned(), "prerequisites".to_owned()));
    // Deeper by what is put under it, too.
    define_switch(&admin, "below", json!({})).await;
    let under = refusal(&admin, UPDATE, json!({ "key": "f0", "prerequisites": needs("below") })).await;
    assert_eq!(under, ("invalid_input".to_owned(), "prerequisites".to_owned()));
    let archive = "mutation($input: ArchiveFlagInput!) { archiveFlag(input: $input) { flag { key } } }";
    assert_eq!(refusal(&admin, archive, json!({ "key": "f3" })).await.0, "conflict");
}

#[tokio::test]
async fn a_value_that_is_not_the_flags_is_refused_with_its_place() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    define_switch(&admin, "switch", json!({})).await;
    define(&admin, json!({ "key": "text", "type": "STRING", "defaultValue": "" })).await;
    define_switch(&admin, "gone", json!({})).await;
    admin.ok("mutation { archiveFlag(input: {key: \"gone\"}) { flag { key } } }", json!({})).await;
    let of = |key: &str, more: Value| {
        let mut input = json!({ "key": key, "tenantId": acme.id });
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        input
    };
    let before = everything(&admin).await;
    let (early, late) = ("2030-01-01T00:00:00Z", "2031-01-01T00:00:00Z");
    let cases = [
        (of("switch", json!({ "value": "true" })), "value"),
        (of("switch", json!({})), "value"),
        (of("text", json!({ "value": 5 })), "value"),
        (of("text", json!({ "value": "x".repeat(16 * 1024) })), "value"),
        (of("text", json!({ "value": "\u{0}" })), "value"),
        (of("nowhere", json!({ "value": true })), "key"),
        (of("gone", json!({ "value": true })), "key"),
        (of("switch", json!({ "value": true, "startsAt": late, "endsAt": early })), "endsAt"),
        (of("switch", json!({ "value": true, "startsAt": early, "endsAt": early })), "endsAt"),
        (of("switch", json!({ "value": true, "endsAt": "2020-01-01T00:00:00Z" })), "endsAt"),
        (of("switch", json!({ "value": null, "startsAt": early })), "startsAt"),
        (of("switch", json!({ "value": true, "reason": "x".repeat(2_001) })), "reason"),
        (json!({ "key": "switch", "value": true }), "tenantId"),
    ];
    for (input, field) in cases {
        let told = refusal(&admin, SET, input.clone()).await;
        assert_eq!(told, ("invalid_input".to_owned(), field.to_owned()), "{input:.300}");
    }
    let nobody = json!({ "key": "switch", "tenantId": "7b2c1a9e-1111-4222-8333-444455556666", "value": true });
    assert_eq!(refusal(&admin, SET, nobody).await.0, "not_found");
    assert_eq!(everything(&admin).await, before);
    let evaluate =
        "query($context: JSON, $tenant: ID) { evaluateFlags(tenantId: $tenant, context: $context) { version } }";
    for context in [json!([1]), json!("x"), json!({ "a": "x".repeat(65_536) })] {
        assert_eq!(admin.refused(evaluate, json!({ "context": context, "tenant": acme.id })).await, "invalid_input");
    }
}
