//! What a tenant asks of sessions.

use chrono::TimeDelta;
use serde_json::json;

use super::{POLICY, member, refresh, sign_in, status, try_refresh};
use crate::support::TestApp;

#[tokio::test]
async fn a_tenants_own_rules_hold_for_its_sessions() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let service = app.full_service(&acme).await;
    let anna = member(&app, &acme, "anna@example.com", &["viewer"]).await;
    let input = json!({ "sessionSeconds": 3600, "idleSeconds": 300, "mostSessions": 2, "expectedVersion": 0 });
    service.ok(POLICY, json!({ "input": input.clone() })).await;
    assert_eq!(service.refused(POLICY, json!({ "input": input })).await, "conflict");
    for (input, field) in [
        (json!({ "idleSeconds": 3601 }), "idleSeconds"),
        (json!({ "sessionSeconds": 1 }), "sessionSeconds"),
        (json!({ "mostSessions": 0 }), "mostSessions"),
    ] {
        let answer = service.graphql(POLICY, json!({ "input": input })).await;
        assert_eq!(answer.body["errors"][0]["extensions"]["field"], field);
    }
    // One that runs is held to them from its next refresh on.
    let anna = refresh(&app, &acme, &anna.refresh_token).await;
    app.advance(TimeDelta::seconds(299));
    assert_eq!(status(&anna.client).await, 200);
    app.advance(TimeDelta::seconds(1 + 30)); // clocks may differ by as much
    assert_eq!(status(&anna.client).await, 401, "the access token ends with the session");
    assert_eq!(try_refresh(&app, &anna.refresh_token).await.code(), "unauthenticated");
}

#[tokio::test]
async fn one_session_more_than_there_may_be_ends_the_oldest() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let service = app.full_service(&acme).await;
    service.ok(POLICY, json!({ "input": { "mostSessions": 2 } })).await;
    let first = member(&app, &acme, "anna@example.com", &["viewer"]).await;
    let second = sign_in(&app, &acme, "anna@example.com").await;
    assert_eq!((status(&first.client).await, status(&second.client).await), (200, 200));
    let third = sign_in(&app, &acme, "anna@example.com").await;
    let statuses = [status(&first.client).await, status(&second.client).await, status(&third.client).await];
    assert_eq!(statuses, [401, 200, 200]);
    let many = (0..6).map(|_| sign_in(&app, &acme, "anna@example.com"));
    let many = futures::future::join_all(many).await;
    let mut running = 0;
    for signed in &many {
        running += usize::from(status(&signed.client).await == 200);
    }
    assert_eq!(running, 2, "also where they begin at once");
}

#[tokio::test]
async fn a_network_rule_holds_where_sessions_begin_go_on_and_are_used() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let admin = app.admin().await;
    let set = async |allowed: serde_json::Value| {
        let set =
            "mutation($input: SetNetworkRulesInput!) { setNetworkRules(input: $input) { networkRules { version } } }";
        admin.ok(set, json!({ "input": { "tenantId": acme.id, "allowed": allowed } })).await;
    };
    let viewer = "{ viewer { subject } }";
    let anna = member(&app, &acme, "anna@example.com", &["viewer"]).await;
    assert_eq!(status(&anna.client).await, 200);
    set(json!([{ "name": "office", "network": "203.0.113.0/24" }])).await;
    assert_eq!(anna.client.refused(viewer, json!({})).await, "forbidden");
    assert_eq!(try_refresh(&app, &anna.refresh_token).await.code(), "forbidden");
    let tried = super::try_sign_in(&app.anonymous(), "acme", "anna@example.com", crate::members::PASSWORD).await;
    assert_eq!(tried.code(), "forbidden");
    set(json!([])).await;
    assert_eq!(status(&anna.client).await, 200);
}
