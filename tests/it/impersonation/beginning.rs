//! Getting in.

use serde_json::json;
use tenantry::access::{Role, ScopeSet};

use super::{IMPERSONATE, LIST, OPERATOR, REASON, begin, begin_with, journal, list, try_begin};
use crate::{
    isolation::operation::phantom_id,
    sessions::member,
    support::{Answer, TestApp},
};

/// Code, field and rule of a refusal.
fn refusal(answer: &Answer) -> (&str, String, String) {
    let error = &answer.body["errors"][0];
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    (answer.code(), text(&error["extensions"]["field"]), text(&error["message"]))
}

#[tokio::test]
async fn what_is_wrong_is_told_with_field_and_rule_and_nothing_begins() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    for reason in
        ["", "T-1", "          T-1          ", "a ticket\nand why", "a ticket\u{1b}[2J and why", &"x".repeat(501)]
    {
        let answer = try_begin(&admin, &acme, json!({ "reason": reason })).await;
        let (code, field, rule) = refusal(&answer);
        assert_eq!((code, &*field), ("invalid_input", "reason"), "{reason:?}");
        assert!(rule.contains("10 to 500 characters"), "{rule}");
    }
    for seconds in [-1, 0, 59, 3601, i64::MAX] {
        let answer = try_begin(&admin, &acme, json!({ "seconds": seconds })).await;
        let (code, field, rule) = refusal(&answer);
        assert_eq!((code, &*field), ("invalid_input", "seconds"), "{seconds}");
        assert!(rule.contains("between 60 and 3600"), "{rule}");
    }
    let without_reason = json!({ "input": { "tenantId": acme.id } });
    assert_eq!(admin.refused(IMPERSONATE, without_reason).await, "invalid_input");
    for scopes in [json!([]), json!(["auth:client:write"]), json!(["auth:tenant:read", "auth:plan:write", "nonsense"])]
    {
        let answer = try_begin(&admin, &acme, json!({ "scopes": scopes })).await;
        let (code, field, _) = refusal(&answer);
        assert_eq!((code, &*field), ("invalid_input", "scopes"), "{}", answer.text);
    }
    let answer =
        try_begin(&admin, &acme, json!({ "scopes": ["auth:tenant:read", "auth:plan:write", "nonsense"] })).await;
    let details = &answer.body["errors"][0]["extensions"]["details"];
    assert_eq!(details["scopes"], json!(["auth:plan:write", "nonsense"]), "{}", answer.text);
    assert_eq!(list(&admin, Some(&acme)).await.len(), 0);
    assert_eq!(journal(&app, &acme, "ImpersonationBegan").await.len(), 0);
}

#[tokio::test]
async fn nobody_gets_into_a_tenant_that_is_gone_closed_or_not_there() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    let nowhere = json!({ "input": { "tenantId": phantom_id(), "reason": REASON } });
    assert_eq!(admin.refused(IMPERSONATE, nowhere).await, "not_found");
    let suspend =
        "mutation($id: ID!) { suspendTenant(input: {id: $id, mode: HARD, reason: SECURITY}) { tenant { status } } }";
    admin.ok(suspend, json!({ "id": acme.id })).await;
    assert_eq!(try_begin(&admin, &acme, json!({})).await.code(), "tenant_suspended");
    let delete = "mutation($id: ID!) { deleteTenant(input: {id: $id}) { tenant { status } } }";
    admin.ok(delete, json!({ "id": acme.id })).await;
    assert_eq!(try_begin(&admin, &acme, json!({})).await.code(), "not_found");
}

#[tokio::test]
async fn an_operator_takes_no_more_along_than_it_has() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let (admin, support) = (app.admin().await, app.operator(Role::Support).await);
    begin(&app, &admin, &acme).await;
    begin(&app, &support, &acme).await;
    let [of_support, of_admin] = &list(&admin, Some(&acme)).await[..] else { panic!("two") };
    let names = |set: ScopeSet| json!(set.iter().map(|scope| scope.name()).collect::<Vec<_>>());
    assert_eq!(of_admin["scopes"], names(ScopeSet::for_impersonators()));
    assert_eq!(of_support["scopes"], names(Role::Support.scopes().intersection(ScopeSet::for_impersonators())));
    let more = try_begin(&support, &acme, json!({ "scopes": ["auth:tenant:write"] })).await;
    assert_eq!(refusal(&more).1, "scopes", "{}", more.text);
    // Some of it, and what was not taken along is not there.
    let narrow = begin_with(&app, &admin, &acme, json!({ "scopes": ["auth:quota:read"], "seconds": 60 })).await;
    narrow.client.ok("{ quotas { key } }", json!({})).await;
    assert_eq!(narrow.client.refused("{ tenant { name } }", json!({})).await, "forbidden");
}

#[tokio::test]
async fn only_operators_with_the_scope_get_in_and_who_may_know_is_told() {
    let app = TestApp::start().await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    for role in [Role::Billing, Role::Auditor, Role::Plane] {
        assert_eq!(try_begin(&app.operator(role).await, &acme, json!({})).await.code(), "forbidden", "{role:?}");
    }
    let service = app.full_service(&acme).await;
    assert_eq!(try_begin(&service, &acme, json!({})).await.code(), "forbidden");
    let owner = member(&app, &acme, "owner@example.com", &["owner"]).await.client;
    assert_eq!(try_begin(&owner, &acme, json!({})).await.code(), "forbidden");
    let inside = begin(&app, &app.admin().await, &acme).await;
    assert_eq!(try_begin(&inside.client, &acme, json!({})).await.code(), "forbidden");
    let admin = member(&app, &acme, "admin@example.com", &["admin"]).await.client;
    for who in [&owner, &admin, &service] {
        assert_eq!(list(who, None).await[0]["id"], inside.id);
    }
    for role in [Role::Support, Role::Auditor] {
        assert_eq!(list(&app.operator(role).await, Some(&acme)).await.len(), 1);
    }
    let viewer = member(&app, &acme, "viewer@example.com", &["viewer"]).await.client;
    assert_eq!(viewer.refused(LIST, json!({})).await, "forbidden");
    let foreign = app.full_service(&other).await;
    assert_eq!(foreign.refused(LIST, json!({ "id": acme.id })).await, "not_found");
    assert_eq!(list(&foreign, None).await.len(), 0);
}

#[tokio::test]
async fn a_request_that_is_sent_again_begins_nothing_and_shows_no_token_again() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    let input = json!({ "input": { "tenantId": acme.id, "reason": REASON } });
    let first = admin.graphql_once("once", IMPERSONATE, input.clone()).await.data()["impersonate"].clone();
    let again = admin.graphql_once("once", IMPERSONATE, input).await.data()["impersonate"].clone();
    assert!(first["accessToken"].is_string());
    assert_eq!((&again["accessToken"], &again["impersonation"]), (&json!(null), &first["impersonation"]));
    assert_eq!(list(&admin, Some(&acme)).await.len(), 1);
    let began = journal(&app, &acme, "ImpersonationBegan").await;
    assert_eq!(began.len(), 1);
    assert!(!began[0].to_string().contains(first["accessToken"].as_str().unwrap()));
    assert_eq!((&began[0]["after"]["operator"], &began[0]["after"]["reason"]), (&json!(OPERATOR), &json!(REASON)));
}

#[tokio::test]
async fn the_list_goes_from_the_newest_page_by_page() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    let mut begun = Vec::new();
    for _ in 0..3 {
        begun.push(begin(&app, &admin, &acme).await.id);
    }
    let (mut found, mut after) = (Vec::new(), json!(null));
    loop {
        let variables = json!({ "id": acme.id, "first": 2, "after": after });
        let page = admin.ok(LIST, variables).await["impersonations"].clone();
        let edges = page["edges"].as_array().unwrap().clone();
        found.extend(edges.iter().map(|edge| edge["node"]["id"].as_str().unwrap().to_owned()));
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
        after = edges.last().unwrap()["cursor"].clone();
    }
    begun.reverse();
    assert_eq!(found, begun);
}
