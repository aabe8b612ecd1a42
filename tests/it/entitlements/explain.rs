//! Why: chains and the entries behind their links.

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::{AUDIT, DEFINE, EXPLAIN, OF_PLAN, OF_TENANT, SET_QUOTA, grant, later};
use crate::support::{Client, Tenant, TestApp};

const BOOST: &str = "mutation($input: BoostQuotaInput!) { boostQuota(input: $input) { boost { id } } }";

async fn explain(client: &Client, tenant: Option<&Tenant>, subject: &str, key: &str) -> Value {
    let input = json!({ "subject": subject, "key": key, "tenantId": tenant.map(|tenant| tenant.id) });
    client.ok(EXPLAIN, json!({ "input": input })).await["explainAccess"].clone()
}

fn steps(explained: &Value) -> Vec<&str> {
    explained["links"].as_array().unwrap().iter().map(|link| link["step"].as_str().unwrap()).collect()
}

fn link<'a>(explained: &'a Value, step: &str) -> &'a Value {
    let found = explained["links"].as_array().unwrap().iter().find(|link| link["step"] == step);
    found.unwrap_or_else(|| panic!("no {step} in {explained}"))
}

/// The newest entry of an event, as `audit` shows it; of the platform without a tenant.
async fn entry(admin: &Client, tenant: Option<&Tenant>, event: &str) -> Value {
    let filter = json!({ "events": [event], "platform": tenant.is_none() });
    let found = admin.ok(AUDIT, json!({ "id": tenant.map(|tenant| tenant.id), "filter": filter })).await;
    found["audit"]["edges"][0]["node"].clone()
}

fn decides(explained: &Value) -> Vec<&str> {
    let links = explained["links"].as_array().unwrap().iter().filter(|link| link["decides"] == json!(true));
    links.map(|link| link["step"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_quota_is_explained_from_the_catalogue_to_its_grants_each_with_its_entry() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    let plain = explain(&admin, Some(&acme), "QUOTA", "max_users").await;
    assert_eq!(steps(&plain), ["LIFECYCLE", "CATALOGUE", "PLAN", "PLAN_VALUE", "USAGE"]);
    assert_eq!(decides(&plain), ["PLAN_VALUE"]);
    let shipped = link(&plain, "PLAN_VALUE");
    assert_eq!(
        (&shipped["origin"], &shipped["entry"], &shipped["value"]),
        (&json!("SHIPPED"), &Value::Null, &json!(10))
    );
    assert_eq!(link(&plain, "USAGE")["origin"], "COMPUTED");

    let plan = "mutation { updatePlan(input: {key: \"starter\", quotas: [{key: \"max_users\", limit: 12}]}) { plan { key } } }";
    admin.ok(plan, json!({})).await;
    let contract = json!({ "tenantId": acme.id, "key": "max_users", "limit": 20, "reason": "contract" });
    admin.ok(SET_QUOTA, json!({ "input": contract })).await;
    let boost = |amount: i64| json!({ "input": { "tenantId": acme.id, "key": "max_users", "amount": amount, "reason": "x", "expiresAt": later(&app, TimeDelta::days(1)) } });
    admin.ok(BOOST, boost(3)).await;
    let first_boost = entry(&admin, Some(&acme), "QuotaBoosted").await;
    admin.ok(BOOST, boost(4)).await;
    grant(&admin, &acme, "QUOTA", "max_users", json!({ "amount": 5 })).await;

    let full = explain(&admin, Some(&acme), "QUOTA", "max_users").await;
    assert_eq!(
        steps(&full),
        ["LIFECYCLE", "CATALOGUE", "PLAN", "PLAN_VALUE", "OVERRIDE", "BOOST", "BOOST", "GRANT", "USAGE"]
    );
    assert_eq!(decides(&full), ["GRANT"]);
    let values: Vec<_> = full["links"].as_array().unwrap()[1..8].iter().map(|link| link["value"].clone()).collect();
    assert_eq!(json!(values), json!(["UNLIMITED", "starter", 12, 20, 23, 27, 32]));
    for (step, of, event) in [
        ("LIFECYCLE", Some(&acme), "TenantActivated"),
        ("PLAN", Some(&acme), "TenantCreated"),
        ("PLAN_VALUE", None, "PlanUpdated"),
        ("OVERRIDE", Some(&acme), "QuotaSet"),
        ("GRANT", Some(&acme), "EntitlementGranted"),
    ] {
        let found = link(&full, step);
        assert_eq!(found["entry"], entry(&admin, of, event).await, "{step}");
        assert_eq!(found["actor"], json!({ "kind": "OPERATOR", "name": "cli:test" }), "{step}");
        assert!(found["at"].is_string(), "{step}");
    }
    assert_eq!(link(&full, "BOOST")["entry"], first_boost, "each boost has its own");
    assert_eq!(full["links"][6]["entry"], entry(&admin, Some(&acme), "QuotaBoosted").await);
}

#[tokio::test]
async fn a_service_sees_its_own_chain_without_operators_names_and_without_the_platforms_entries() {
    let app = TestApp::start().await;
    let (acme, other, admin) = (app.tenant("acme").await, app.tenant("other-name").await, app.admin().await);
    let plan = "mutation { updatePlan(input: {key: \"starter\", quotas: [{key: \"max_users\", limit: 12}]}) { plan { key } } }";
    admin.ok(plan, json!({})).await;
    grant(&admin, &acme, "QUOTA", "max_users", json!({ "amount": 5 })).await;
    let rules = json!([
        { "key": "first", "value": true, "conditions": [{ "attribute": "tenant.slug", "operator": "EQ", "values": [other.slug] }] },
        { "key": "half", "value": true, "rollout": { "percentage": "100" } },
    ]);
    let flag =
        json!({ "key": "beta", "type": "BOOLEAN", "defaultValue": false, "operatorOnly": false, "rules": rules });
    admin
        .ok(
            "mutation($input: DefineFlagInput!) { defineFlag(input: $input) { flag { key } } }",
            json!({ "input": flag }),
        )
        .await;
    let service = app.full_service(&acme).await;
    for (subject, key) in [
        ("QUOTA", "max_users"),
        ("FLAG", "beta"),
        ("FEATURE", "api_access"),
        ("REGION", "eu"),
        ("SIGN_IN", "auth:tenant:read"),
    ] {
        let told = explain(&service, None, subject, key).await;
        assert!(!told.to_string().contains("cli:test"), "{subject}: {told}");
        assert!(!told.to_string().contains(&other.slug), "{subject}: {told}");
        for link in told["links"].as_array().unwrap() {
            if link["origin"] == "PLATFORM_JOURNAL" {
                assert_eq!((&link["entry"], &link["actor"]["name"]), (&Value::Null, &Value::Null), "{link}");
                assert!(link["at"].is_string(), "{link}");
            }
        }
    }
    let own = explain(&service, None, "QUOTA", "max_users").await;
    assert_eq!(link(&own, "GRANT")["entry"], entry(&admin, Some(&acme), "EntitlementGranted").await);
    assert_eq!(link(&own, "GRANT")["actor"], json!({ "kind": "OPERATOR", "name": null }));
    assert_eq!(steps(&explain(&service, None, "FLAG", "beta").await), ["LIFECYCLE", "KILL_SWITCH", "RULE", "ROLLOUT"]);
    // What it set itself, it is told by name.
    let set = "mutation { setFlag(input: {key: \"beta\", value: false}) { setting { version } } }";
    service.ok(set, json!({})).await;
    let set = explain(&service, None, "FLAG", "beta").await;
    assert_eq!(link(&set, "TENANT_VALUE")["actor"]["kind"], "SERVICE");
    assert!(link(&set, "TENANT_VALUE")["actor"]["name"].is_string(), "{set}");
    let foreign = json!({ "input": { "subject": "QUOTA", "key": "max_users", "tenantId": other.id } });
    assert_eq!(service.refused(EXPLAIN, foreign).await, "not_found");
}

#[tokio::test]
async fn a_flag_is_explained_with_the_bucket_of_its_rollout_and_the_entries_behind_it() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    let rules = json!([
        { "key": "none", "value": true, "rollout": { "percentage": "0" } },
        { "key": "all", "value": true, "rollout": { "percentage": "100", "bucketBy": "targetingKey" } },
    ]);
    let flag = json!({ "key": "beta", "type": "BOOLEAN", "defaultValue": false, "rules": rules });
    admin
        .ok(
            "mutation($input: DefineFlagInput!) { defineFlag(input: $input) { flag { key } } }",
            json!({ "input": flag }),
        )
        .await;
    let input =
        json!({ "subject": "FLAG", "key": "beta", "tenantId": acme.id, "context": { "targetingKey": "user-1" } });
    let told = admin.ok(EXPLAIN, json!({ "input": input })).await["explainAccess"].clone();
    assert_eq!(steps(&told), ["LIFECYCLE", "KILL_SWITCH", "RULE", "RULE", "ROLLOUT"]);
    assert_eq!(told["allowed"], json!(true));
    let bucket = link(&told, "ROLLOUT")["value"]["bucket"].as_u64().unwrap();
    assert!(bucket < 100_000);
    assert_eq!(told["links"][2]["value"]["matches"], json!(false));
    assert_eq!(told["links"][3]["entry"], entry(&admin, None, "FlagDefined").await);
    let again = admin.ok(EXPLAIN, json!({ "input": input })).await["explainAccess"].clone();
    assert_eq!(link(&again, "ROLLOUT")["value"]["bucket"], json!(bucket), "the same every time");
    // Without a user nobody is dealt anything: the default holds.
    assert_eq!(decides(&explain(&admin, Some(&acme), "FLAG", "beta").await), ["DEFAULT"]);
    admin.ok("mutation { updateFlag(input: {key: \"beta\", enabled: false}) { flag { version } } }", json!({})).await;
    let off = explain(&admin, Some(&acme), "FLAG", "beta").await;
    assert_eq!((decides(&off), &off["allowed"]), (vec!["KILL_SWITCH"], &json!(false)));
    assert_eq!(link(&off, "KILL_SWITCH")["entry"], entry(&admin, None, "FlagUpdated").await);
}

#[tokio::test]
async fn resources_features_regions_and_sign_in_are_explained_too() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    admin.ok(DEFINE, json!({ "input": { "resourceKind": "models", "key": "gpt-5", "name": "GPT" } })).await;
    admin.ok(OF_PLAN, json!({ "input": { "plan": "starter", "resourceKind": "models", "everything": true } })).await;
    admin.ok(OF_TENANT, json!({ "input": { "tenantId": acme.id, "resourceKind": "models", "remove": ["gpt-5"], "reason": "asked for" } })).await;
    let model = explain(&admin, Some(&acme), "RESOURCE", "models/gpt-5").await;
    assert_eq!(steps(&model), ["LIFECYCLE", "CATALOGUE", "PLAN", "PLAN_VALUE", "ALLOW_LIST"]);
    assert_eq!((decides(&model), &model["allowed"]), (vec!["ALLOW_LIST"], &json!(false)));
    assert_eq!(link(&model, "PLAN_VALUE")["entry"], entry(&admin, None, "PlanAllowListSet").await);
    assert_eq!(link(&model, "ALLOW_LIST")["entry"], entry(&admin, Some(&acme), "AllowListSet").await);
    assert_eq!(link(&model, "CATALOGUE")["origin"], "SHIPPED");

    grant(&admin, &acme, "FEATURE", "webhooks", json!({})).await;
    let feature = explain(&admin, Some(&acme), "FEATURE", "webhooks").await;
    assert_eq!((decides(&feature), &feature["allowed"]), (vec!["GRANT"], &json!(true)));

    let region = explain(&admin, Some(&acme), "REGION", "nowhere").await;
    assert_eq!((steps(&region), &region["allowed"]), (vec!["LIFECYCLE", "HOME_REGION"], &json!(false)));
    let home = link(&region, "HOME_REGION")["value"].as_str().unwrap().to_owned();
    assert_eq!(explain(&admin, Some(&acme), "REGION", &home).await["allowed"], json!(true));

    let sign_in = explain(&admin, Some(&acme), "SIGN_IN", "auth:quota:write").await;
    assert_eq!((steps(&sign_in), &sign_in["allowed"]), (vec!["LIFECYCLE", "ACCESS_EPOCH", "SCOPE"], &json!(true)));
    assert_eq!(explain(&admin, Some(&acme), "SIGN_IN", "auth:plan:write").await["allowed"], json!(false));
    let suspend =
        "mutation($id: ID!) { suspendTenant(input: {id: $id, mode: HARD, reason: BILLING}) { tenant { status } } }";
    admin.ok(suspend, json!({ "id": acme.id })).await;
    for (subject, key) in
        [("SIGN_IN", "auth:quota:write"), ("QUOTA", "max_users"), ("FEATURE", "webhooks"), ("REGION", &home)]
    {
        let closed = explain(&admin, Some(&acme), subject, key).await;
        assert_eq!((decides(&closed), &closed["allowed"]), (vec!["LIFECYCLE"], &json!(false)), "{subject}");
        assert_eq!(link(&closed, "LIFECYCLE")["entry"], entry(&admin, Some(&acme), "TenantSuspended").await);
    }
    let epoch = explain(&admin, Some(&acme), "SIGN_IN", "auth:quota:write").await;
    assert_eq!(link(&epoch, "ACCESS_EPOCH")["entry"]["event"], "TenantSuspended");
}
