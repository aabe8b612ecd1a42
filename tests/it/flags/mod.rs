//! Feature flags: definitions, tenants' values, four eyes, evaluation by GraphQL and OFREP, on one replica and on two.

mod bad_input;
mod ofrep;
mod replicas;

use serde_json::{Value, json};
use tenantry::access::{Caller, Role};

use crate::support::{Client, Tenant, TestApp};

pub const DEFINE: &str = "mutation($input: DefineFlagInput!) { defineFlag(input: $input) { flag { key version } } }";
pub const UPDATE: &str =
    "mutation($input: UpdateFlagInput!) { updateFlag(input: $input) { flag { key version enabled } } }";
const ARCHIVE: &str = "mutation($input: ArchiveFlagInput!) { archiveFlag(input: $input) { flag { archivedAt } } }";
const SEGMENT: &str = "mutation($input: DefineSegmentInput!) { defineSegment(input: $input) { segment { version } } }";
pub const SET: &str = "mutation($input: SetFlagInput!) { setFlag(input: $input) {
    setting { value version startsAt endsAt setBy } changeRequest { id status requestedBy version } } }";
const ANSWER: &str = "changeRequest { status decidedBy version } setting { value version } } }";
const EVALUATE: &str = "query($tenant: ID, $keys: [String!], $context: JSON) { evaluateFlags(tenantId: $tenant, keys: $keys, context: $context) {
    version flags { key type enabled value variant reason source rule segment prerequisite errorCode version setting { value } } } }";

pub async fn define(admin: &Client, input: Value) {
    admin.ok(DEFINE, json!({ "input": input })).await;
}

/// A BOOLEAN that is false by default.
pub async fn define_switch(admin: &Client, key: &str, more: Value) {
    let mut input = json!({ "key": key, "type": "BOOLEAN", "defaultValue": false });
    input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    define(admin, input).await;
}

pub async fn set(client: &Client, tenant: &Tenant, key: &str, value: Value) -> Value {
    let set = client.ok(SET, json!({ "input": { "key": key, "tenantId": tenant.id, "value": value } })).await;
    set["setFlag"].clone()
}

/// What a flag is for the tenant that the client is bound to.
pub async fn evaluate(client: &Client, key: &str) -> Value {
    evaluate_with(client, key, json!({})).await
}

async fn evaluate_with(client: &Client, key: &str, context: Value) -> Value {
    let answer = client.ok(EVALUATE, json!({ "keys": [key], "context": context })).await;
    answer["evaluateFlags"]["flags"][0].clone()
}

/// Another person than `TestApp::admin`.
pub async fn second_admin(app: &TestApp) -> Client {
    let ttl = app.app.config.auth.token_ttl;
    let caller = Caller::command_line("second");
    let token = app.app.oauth.issue_operator_token(&caller, &[Role::Admin], ttl).await.unwrap();
    app.admin().await.with_token(token)
}

#[tokio::test]
async fn a_flag_is_what_its_definition_its_plan_and_its_tenant_say() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    let service = app.service(&acme, "auth:flag:read auth:tenant:read").await;
    let plans = json!([{ "plan": "starter", "value": "small" }]);
    let variants = json!([{ "name": "little", "value": "small" }]);
    let input =
        json!({ "key": "size", "type": "STRING", "defaultValue": "none", "planValues": plans, "variants": variants });
    define(&admin, input).await;
    let told = evaluate(&service, "size").await;
    assert_eq!(
        json!([told["value"], told["variant"], told["reason"], told["source"], told["enabled"]]),
        json!(["small", "little", "TARGETING_MATCH", "PLAN", true])
    );
    set(&admin, &acme, "size", json!("huge")).await;
    let told = evaluate(&service, "size").await;
    assert_eq!(json!([told["value"], told["source"], told["setting"]["value"]]), json!(["huge", "TENANT", "huge"]));
    // The hub says the same, and a version made of two.
    let hub = service.ok("{ tenant { flags { key enabled value variant version } } }", json!({})).await;
    assert_eq!(hub["tenant"]["flags"][0]["value"], json!("huge"));
    let version = hub["tenant"]["flags"][0]["version"].as_str().unwrap();
    assert!(version.split('.').count() == 2 && version.split('.').all(|part| part.parse::<i64>().is_ok()), "{version}");
    // Taken back, and its version goes on.
    let cleared = set(&admin, &acme, "size", Value::Null).await;
    assert_eq!(json!([cleared["setting"]["value"], cleared["setting"]["version"]]), json!([null, 2]));
    assert_eq!(evaluate(&service, "size").await["source"], json!("PLAN"));
    // The kill switch, and the end.
    admin.ok(UPDATE, json!({ "input": { "key": "size", "enabled": false, "offValue": "gone" } })).await;
    let told = evaluate(&service, "size").await;
    assert_eq!(json!([told["value"], told["reason"], told["enabled"]]), json!(["gone", "DISABLED", false]));
    admin.ok(ARCHIVE, json!({ "input": { "key": "size" } })).await;
    assert_eq!(evaluate(&service, "size").await["errorCode"], json!("FLAG_NOT_FOUND"));
}

#[tokio::test]
async fn every_change_of_a_flag_is_in_the_journal() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    define_switch(&admin, "beta", json!({})).await;
    admin.ok(UPDATE, json!({ "input": { "key": "beta", "description": "x" } })).await;
    let conditions = json!([{ "attribute": "tenant.plan", "operator": "EQ", "values": ["pro"] }]);
    admin.ok(SEGMENT, json!({ "input": { "key": "pros", "conditions": conditions } })).await;
    admin.ok("mutation { removeSegment(input: {key: \"pros\"}) { key } }", json!({})).await;
    set(&admin, &acme, "beta", json!(true)).await;
    set(&admin, &acme, "beta", Value::Null).await;
    admin.ok(ARCHIVE, json!({ "input": { "key": "beta" } })).await;
    admin.ok(ARCHIVE, json!({ "input": { "key": "beta", "archived": false } })).await;
    let audit = "query($id: ID) { audit(tenantId: $id, first: 50) { edges { node { event } } } }";
    let all = admin.ok(audit, json!({})).await.to_string();
    for event in ["Defined", "Updated", "Set", "Cleared", "SegmentDefined", "SegmentRemoved", "Archived", "Restored"] {
        assert!(all.contains(&format!("\"Flag{event}\"")), "Flag{event} is not in {all}");
    }
    let own = admin.ok(audit, json!({ "id": acme.id })).await.to_string();
    assert!(own.contains("FlagSet") && own.contains("FlagCleared") && !own.contains("FlagDefined"), "{own}");
}

#[tokio::test]
async fn a_rule_reaches_whom_it_names_and_says_which_it_was() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    let service = app.service(&acme, "auth:flag:read").await;
    let conditions = json!([{ "attribute": "country", "operator": "IN", "values": ["AT", "DE"] }]);
    admin.ok(SEGMENT, json!({ "input": { "key": "dach", "conditions": conditions } })).await;
    let rules = json!([
        { "key": "by-name", "value": true, "conditions": [{ "attribute": "user.name", "operator": "ENDS_WITH", "values": ["@acme"] }] },
        { "key": "by-country", "value": true, "segments": ["dach"] },
        { "key": "by-chance", "value": true, "rollout": { "percentage": "50", "bucketBy": "targetingKey" } },
    ]);
    define_switch(&admin, "beta", json!({ "rules": rules })).await;
    let told = async |context: Value| {
        let told = evaluate_with(&service, "beta", context).await;
        json!([told["value"], told["reason"], told["rule"], told["segment"]])
    };
    assert_eq!(told(json!({})).await, json!([false, "DEFAULT", null, null]));
    assert_eq!(told(json!({ "user": { "name": "a@acme" } })).await, json!([true, "TARGETING_MATCH", "by-name", null]));
    assert_eq!(told(json!({ "country": "AT" })).await, json!([true, "TARGETING_MATCH", "by-country", "dach"]));
    let mut inside = 0;
    for user in 0..40 {
        inside += usize::from(told(json!({ "targetingKey": format!("u{user}") })).await[1] == "SPLIT");
    }
    assert!((8..=32).contains(&inside), "{inside} of 40 are in 50 %");
    // A segment that a rule names stays.
    let remove = "mutation { removeSegment(input: {key: \"dach\"}) { key } }";
    assert_eq!(admin.refused(remove, json!({})).await, "conflict");
}

#[tokio::test]
async fn what_the_plan_does_not_include_cannot_be_set_and_is_the_default() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    let service = app.service(&acme, "auth:flag:read").await;
    define_switch(&admin, "sso", json!({ "feature": "single_sign_on", "rules": [{ "key": "all", "value": true }] }))
        .await;
    let input = json!({ "input": { "key": "sso", "tenantId": acme.id, "value": true } });
    assert_eq!(admin.refused(SET, input.clone()).await, "feature_not_in_plan");
    let told = evaluate(&service, "sso").await;
    assert_eq!(json!([told["value"], told["source"]]), json!([false, "PLAN_CEILING"]));
    let change = "mutation($id: ID!) { changePlan(input: {id: $id, plan: \"pro\"}) { tenant { plan { key } } } }";
    admin.ok(change, json!({ "id": acme.id })).await;
    assert_eq!(evaluate(&service, "sso").await["rule"], json!("all"));
    admin.ok(SET, input).await;
    assert_eq!(evaluate(&service, "sso").await["source"], json!("TENANT"));
}

#[tokio::test]
async fn a_value_counts_while_its_schedule_lasts() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    define_switch(&admin, "sale", json!({})).await;
    let now = app.app.clock.now();
    let (start, end) = (now + chrono::TimeDelta::hours(1), now + chrono::TimeDelta::hours(3));
    let input = json!({ "key": "sale", "tenantId": acme.id, "value": true, "startsAt": start, "endsAt": end, "reason": "sale" });
    admin.ok(SET, json!({ "input": input })).await;
    for (hours, expected) in [(0, false), (2, true), (2, false)] {
        app.advance(chrono::TimeDelta::hours(hours));
        let service = app.service(&acme, "auth:flag:read").await;
        assert_eq!(evaluate(&service, "sale").await["value"], json!(expected), "{hours} hours later");
    }
}

#[tokio::test]
async fn a_stale_temporary_flag_says_so() {
    let app = TestApp::start().await;
    let date = app.app.clock.now() + chrono::TimeDelta::days(1);
    let admin = app.admin().await;
    define_switch(&admin, "rollout", json!({ "lifecycle": "TEMPORARY", "staleAfter": date })).await;
    define_switch(&admin, "forever", json!({})).await;
    let list = "query($stale: Boolean) { flags(onlyStale: $stale) { key stale warnings } }";
    assert_eq!(admin.ok(list, json!({ "stale": true })).await["flags"], json!([]));
    app.advance(chrono::TimeDelta::days(2));
    let stale = app.admin().await.ok(list, json!({ "stale": true })).await["flags"].clone();
    assert_eq!(json!([stale[0]["key"], stale[0]["stale"], stale[1]]), json!(["rollout", true, null]));
    assert!(stale[0]["warnings"][0].as_str().unwrap().contains("archive"), "{stale}");
}

#[tokio::test]
async fn a_flag_that_needs_four_eyes_is_set_by_a_second_person() {
    let app = TestApp::start().await;
    let (acme, first) = (app.tenant("acme").await, app.admin().await);
    let (second, service) = (second_admin(&app).await, app.service(&acme, "auth:flag:read").await);
    define_switch(&first, "risky", json!({ "approval": "REQUIRED" })).await;
    let asked = set(&first, &acme, "risky", json!(true)).await;
    assert_eq!(json!([asked["setting"], asked["changeRequest"]["status"]]), json!([null, "PENDING"]));
    assert_eq!(evaluate(&service, "risky").await["value"], json!(false));
    // One question at a time.
    let again = json!({ "input": { "key": "risky", "tenantId": acme.id, "value": true } });
    assert_eq!(first.refused(SET, again).await, "conflict");
    let id = asked["changeRequest"]["id"].clone();
    let approve = format!("mutation($id: ID!) {{ approveFlagChange(input: {{id: $id}}) {{ {ANSWER}");
    let reject = format!("mutation($id: ID!) {{ rejectFlagChange(input: {{id: $id}}) {{ {ANSWER}");
    assert_eq!(first.refused(&approve, json!({ "id": id })).await, "forbidden");
    let approved = second.ok(&approve, json!({ "id": id })).await["approveFlagChange"].clone();
    assert_eq!(json!([approved["changeRequest"]["status"], approved["setting"]["value"]]), json!(["APPROVED", true]));
    assert_eq!(evaluate(&service, "risky").await["value"], json!(true));
    assert_eq!(second.refused(&approve, json!({ "id": id })).await, "conflict");
    // Rejected, nothing changes; who asked may withdraw.
    let id = set(&first, &acme, "risky", json!(false)).await["changeRequest"]["id"].clone();
    first.ok(&reject, json!({ "id": id })).await;
    assert_eq!(evaluate(&service, "risky").await["value"], json!(true));
    let list = "{ flagChangeRequests { status key requestedBy } }";
    let listed = service.ok(list, json!({})).await["flagChangeRequests"].clone();
    assert_eq!(json!([listed[0]["status"], listed[1]["status"], listed[2]]), json!(["REJECTED", "APPROVED", null]));
}

#[tokio::test]
async fn an_approval_holds_what_was_asked_to_what_is_there_now() {
    let app = TestApp::start().await;
    let (acme, first, second) = (app.tenant("acme").await, app.admin().await, second_admin(&app).await);
    define_switch(&first, "risky", json!({})).await;
    let approval = |approval: &str| json!({ "input": { "key": "risky", "approval": approval } });
    first.ok(UPDATE, approval("REQUIRED")).await;
    let id = set(&first, &acme, "risky", json!(true)).await["changeRequest"]["id"].clone();
    // Set by another way meanwhile.
    first.ok(UPDATE, approval("NONE")).await;
    set(&first, &acme, "risky", json!(false)).await;
    let approve = format!("mutation($id: ID!) {{ approveFlagChange(input: {{id: $id}}) {{ {ANSWER}");
    assert_eq!(second.refused(&approve, json!({ "id": id })).await, "conflict");
    let status = "{ flagChangeRequests(status: PENDING) { id } }";
    assert_eq!(second.ok(status, json!({})).await["flagChangeRequests"][0]["id"], id);
}

#[tokio::test]
async fn a_tenants_service_sets_only_what_it_is_let_to() {
    let app = TestApp::start().await;
    let (acme, other, admin) = (app.tenant("acme").await, app.tenant("other").await, app.admin().await);
    let service = app.service(&acme, "auth:flag:read auth:flag:write").await;
    define_switch(&admin, "theirs", json!({})).await;
    define_switch(&admin, "own", json!({ "operatorOnly": false, "owner": "team", "rules": [
        { "key": "vip", "value": true, "conditions": [{ "attribute": "tenant.id", "operator": "EQ", "values": [other.id] }] },
    ] })).await;
    let set = |key: &str, tenant: &Tenant| json!({ "input": { "key": key, "tenantId": tenant.id, "value": true } });
    assert_eq!(service.refused(SET, set("theirs", &acme)).await, "forbidden");
    assert_eq!(service.refused(SET, set("own", &other)).await, "not_found");
    let done = service.ok(SET, set("own", &acme)).await;
    assert_eq!(done["setFlag"]["setting"]["value"], json!(true));
    let reader = app.service(&acme, "auth:flag:read").await;
    assert_eq!(reader.refused(SET, set("own", &acme)).await, "forbidden");
    // It reads definitions, but not whom else they are for.
    let list = service.ok("{ flags { key type description } }", json!({})).await;
    assert_eq!(list["flags"][0]["key"], json!("own"));
    for inner in ["targeting { salt }", "owner"] {
        assert_eq!(service.refused(&format!("{{ flags {{ {inner} }} }}"), json!({})).await, "forbidden");
    }
}

#[tokio::test]
async fn changes_are_made_once_and_only_on_what_was_seen() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    define_switch(&admin, "beta", json!({})).await;
    let set = |value: bool, version: i64| json!({ "input": { "key": "beta", "tenantId": acme.id, "value": value, "expectedVersion": version } });
    assert_eq!(admin.refused(SET, set(true, 3)).await, "conflict");
    let first = admin.graphql_once("k1", SET, set(true, 0)).await;
    assert_eq!(first.data()["setFlag"]["setting"]["version"], json!(1), "{}", first.text);
    assert_eq!(admin.graphql_once("k1", SET, set(true, 0)).await.data(), first.data());
    assert_eq!(admin.refused(SET, set(false, 0)).await, "conflict");
    let update = |version: i64| json!({ "input": { "key": "beta", "enabled": false, "expectedVersion": version } });
    assert_eq!(admin.refused(UPDATE, update(7)).await, "conflict");
    admin.ok(UPDATE, update(1)).await;
    let twice = json!({ "input": { "key": "beta", "type": "BOOLEAN", "defaultValue": false } });
    assert_eq!(admin.refused(DEFINE, twice).await, "conflict");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_write_at_once_make_no_circle_and_no_second_value() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    for round in 0..5 {
        let (a, b) = (format!("a{round}"), format!("b{round}"));
        define_switch(&admin, &a, json!({})).await;
        define_switch(&admin, &b, json!({})).await;
        let needs = |key: &str, other: &str| json!({ "input": { "key": key, "prerequisites": [{ "flag": other, "value": true }] } });
        let (one, two) = tokio::join!(admin.graphql(UPDATE, needs(&a, &b)), admin.graphql(UPDATE, needs(&b, &a)));
        let mut codes = [one.code().to_owned(), two.code().to_owned()];
        codes.sort();
        assert_eq!(codes, ["invalid_input", "none"], "{} {}", one.text, two.text);
        let first = json!({ "input": { "key": a, "tenantId": acme.id, "value": true, "expectedVersion": 0 } });
        let (one, two) = tokio::join!(admin.graphql(SET, first.clone()), admin.graphql(SET, first));
        let mut codes = [one.code().to_owned(), two.code().to_owned()];
        codes.sort();
        assert_eq!(codes, ["conflict", "none"], "{} {}", one.text, two.text);
    }
}

#[tokio::test]
async fn answers_come_from_memory() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    for index in 0..20 {
        define_switch(&admin, &format!("f{index:02}"), json!({ "planValues": [{ "plan": "starter", "value": true }] }))
            .await;
    }
    let service = app.service(&acme, "auth:flag:read auth:tenant:read").await;
    let hub = "{ tenant { flags { key enabled value variant } } }";
    let warm = service.ok(hub, json!({})).await;
    let tables = ["flags", "flag_values", "flag_segments", "tenants", "plans", "journal_heads", "journal"];
    app.answers_without(&tables, async || {
        for _ in 0..25 {
            assert_eq!(service.ok(hub, json!({})).await, warm);
            evaluate(&service, "f07").await;
            let bulk = service.send(service.post("/ofrep/v1/evaluate/flags").json(&json!({}))).await;
            assert_eq!(bulk.body["flags"].as_array().map(Vec::len), Some(20), "{}", bulk.text);
        }
    })
    .await;
    assert_eq!(warm["tenant"]["flags"].as_array().map(Vec::len), Some(20));
}
