//! What may change of a dimension, and what not.

use serde_json::{Value, json};

use super::{Asked, app_at_noon, record, service};
use crate::support::TestApp;

const UPDATE: &str = "mutation($input: UpdateUsageDimensionInput!) { updateUsageDimension(input: $input) {
    dimension { key unit description aggregation unitSize rounding groupBy valuePath version } } }";

async fn define(app: &TestApp) {
    let define = "mutation { defineUsageDimension(input: {key: \"renders\", unit: \"frames\", aggregation: SUM, unitSize: 10, rounding: UP,
        groupBy: [\"model\"], valuePath: \"$.frames\"}) { dimension { key } } }";
    app.admin().await.ok(define, json!({})).await;
}

#[tokio::test]
async fn a_dimension_is_changed_for_what_comes_from_then_on() {
    let app = app_at_noon().await;
    let tenant = app.tenant("changed").await;
    let (client, admin) = (service(&app, &tenant).await, app.admin().await);
    define(&app).await;
    let event = |key: &str| json!([{ "key": key, "dimension": "renders", "quantity": 5, "labels": { "model": "a", "zone": "x" } }]);
    record(&client, event("before")).await;
    let change = json!({ "key": "renders", "expectedVersion": 1, "unit": "pictures", "description": "Rendered.", "groupBy": ["zone"], "valuePath": null });
    let changed = admin.ok(UPDATE, json!({ "input": change })).await["updateUsageDimension"]["dimension"].clone();
    let expected = json!({ "key": "renders", "unit": "pictures", "description": "Rendered.", "aggregation": "SUM", "unitSize": 10,
        "rounding": "UP", "groupBy": ["zone"], "valuePath": null, "version": 2 });
    assert_eq!(changed, expected);
    // What was not named stays.
    let named = json!({ "key": "renders", "description": "Again." });
    let again = admin.ok(UPDATE, json!({ "input": named })).await["updateUsageDimension"]["dimension"].clone();
    assert_eq!(
        (&again["groupBy"], &again["unit"], &again["version"]),
        (&json!(["zone"]), &json!("pictures"), &json!(3))
    );
    record(&client, event("after")).await;
    let day = Asked {
        dimension: "renders",
        window: "DAY",
        from: "2026-11-26T00:00:00Z",
        to: "2026-11-27T00:00:00Z",
        zone: "UTC",
    };
    let groups: Vec<_> = day.of(&client).await.iter().map(|total| total["labels"].clone()).collect();
    assert_eq!(groups, [json!({ "model": "a" }), json!({ "zone": "x" })]);
}

#[tokio::test]
async fn a_change_that_was_made_unseen_is_refused_and_a_bad_one_names_its_field() {
    let app = app_at_noon().await;
    let admin = app.admin().await;
    define(&app).await;
    let refused = async |input: Value| admin.refused(UPDATE, json!({ "input": input })).await;
    assert_eq!(refused(json!({ "key": "renders", "expectedVersion": 7, "unit": "x" })).await, "conflict");
    assert_eq!(refused(json!({ "key": "nothing", "unit": "x" })).await, "not_found");
    for (field, value) in [
        ("unit", json!(" ")),
        ("groupBy", json!(["a", "a"])),
        ("groupBy", json!(["a", "b", "c", "d", "e"])),
        ("valuePath", json!("$..frames")),
    ] {
        let mut input = json!({ "key": "renders" });
        input[field] = value;
        let answer = admin.graphql(UPDATE, json!({ "input": input })).await.body;
        assert_eq!(answer["errors"][0]["extensions"]["field"], field, "{answer}");
    }
    // By these past usage was told and billed: they are no part of the input.
    for field in ["aggregation", "unitSize", "rounding"] {
        let document = format!(
            "mutation {{ updateUsageDimension(input: {{key: \"renders\", {field}: 1}}) {{ dimension {{ key }} }} }}"
        );
        assert!(admin.graphql(&document, json!({})).await.body["errors"].to_string().contains(field));
    }
}
