//! Grants of quotas: they raise what is let in, burn in a fixed order, and are burnt once.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::{AUDIT, RELEASE, RESERVE, REVOKE, SET_QUOTA, burnt, entitlement, fits, grant, later, take};
use crate::support::{Client, Tenant, TestApp};

/// A limit of 100 tokens in each month.
async fn hundred_tokens(admin: &Client, tenant: &Tenant) {
    let input = json!({ "tenantId": tenant.id, "key": "llm_tokens", "limit": 100, "reason": "contract" });
    admin.ok(SET_QUOTA, json!({ "input": input })).await;
}

/// Moves the clock to just behind the end of the month.
fn next_month(app: &TestApp, entitlement: &Value) {
    let resets: DateTime<Utc> = entitlement["resetsAt"].as_str().unwrap().parse().unwrap();
    app.advance(resets - app.app.clock.now() + TimeDelta::seconds(1));
}

const RESETS: &str = "{ entitlement(input: {kind: QUOTA, key: \"llm_tokens\"}) { resetsAt } }";

#[tokio::test]
async fn a_grant_of_a_level_raises_the_limit_while_it_lasts() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    let service = app.full_service(&acme).await;
    assert_eq!(fits(&service, "max_users").await, 10);
    let day = TimeDelta::days(1);
    let made = grant(&admin, &acme, "QUOTA", "max_users", json!({ "amount": 5, "expiresAt": later(&app, day) })).await;
    grant(&admin, &acme, "QUOTA", "max_users", json!({ "amount": 7, "effectiveAt": later(&app, day * 2) })).await;
    assert_eq!(fits(&service, "max_users").await, 15);
    let found = entitlement(&service, "QUOTA", "max_users").await;
    assert_eq!(
        (&found["source"], &found["planValue"]["limit"], &found["effectiveValue"]["limit"]),
        (&json!("GRANT"), &json!(10), &json!(15))
    );
    assert_eq!(
        found["grants"],
        json!([{ "id": made["id"], "amount": 5, "burnt": 0, "remaining": 5, "grantedBy": null }])
    );
    app.advance(day);
    assert_eq!(fits(&app.full_service(&acme).await, "max_users").await, 10, "it has expired");
    app.run_due().await;
    let events =
        app.admin().await.ok(AUDIT, json!({ "id": acme.id, "filter": { "events": ["EntitlementExpired"] } })).await;
    assert_eq!(events["audit"]["edges"].as_array().unwrap().len(), 1);
    app.advance(day);
    assert_eq!(fits(&app.full_service(&acme).await, "max_users").await, 17, "another has begun");
}

#[tokio::test]
async fn what_is_used_above_the_limit_burns_grants_in_their_order() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    hundred_tokens(&admin, &acme).await;
    let of = |amount: i64, more: Value| {
        let mut input = json!({ "amount": amount });
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        input
    };
    // Given in another order than they burn.
    grant(&admin, &acme, "QUOTA", "llm_tokens", of(40, json!({}))).await;
    grant(&admin, &acme, "QUOTA", "llm_tokens", of(30, json!({ "expiresAt": later(&app, TimeDelta::days(200)) })))
        .await;
    grant(&admin, &acme, "QUOTA", "llm_tokens", of(20, json!({ "expiresAt": later(&app, TimeDelta::days(100)) })))
        .await;
    grant(&admin, &acme, "QUOTA", "llm_tokens", of(10, json!({ "priority": 0 }))).await;
    let service = app.full_service(&acme).await;
    let now = async || burnt(&entitlement(&service, "QUOTA", "llm_tokens").await);
    take(&service, "llm_tokens", 100).await.unwrap();
    assert_eq!(now().await, [(10, 0), (20, 0), (30, 0), (40, 0)], "the plan's own first");
    take(&service, "llm_tokens", 25).await.unwrap();
    assert_eq!(now().await, [(10, 10), (20, 15), (30, 0), (40, 0)]);
    take(&service, "llm_tokens", 40).await.unwrap();
    assert_eq!(now().await, [(10, 10), (20, 20), (30, 30), (40, 5)]);
    assert_eq!(fits(&service, "llm_tokens").await, 35);
    assert_eq!(take(&service, "llm_tokens", 36).await, Err("quota_exceeded".to_owned()));
    take(&service, "llm_tokens", 35).await.unwrap();
    let found = entitlement(&service, "QUOTA", "llm_tokens").await;
    assert_eq!((&found["allowed"], &found["used"], &found["remaining"]), (&json!(false), &json!(200), &json!(0)));
}

#[tokio::test]
async fn a_grant_is_burnt_once_and_not_anew_each_month() {
    for schedule_runs in [true, false] {
        // Without the schedule, whoever asks first finds out what the month that is over has burnt.
        let app = TestApp::with("worker.interval = \"1h\"").await;
        let (acme, admin) = (app.tenant("acme").await, app.admin().await);
        hundred_tokens(&admin, &acme).await;
        grant(&admin, &acme, "QUOTA", "llm_tokens", json!({ "amount": 50 })).await;
        let service = app.full_service(&acme).await;
        take(&service, "llm_tokens", 130).await.unwrap();
        next_month(&app, &service.ok(RESETS, json!({})).await["entitlement"]);
        if schedule_runs {
            app.run_due().await;
            app.run_due().await;
        }
        let service = app.full_service(&acme).await;
        assert_eq!(fits(&service, "llm_tokens").await, 120);
        assert_eq!(burnt(&entitlement(&service, "QUOTA", "llm_tokens").await), [(50, 30)]);
        take(&service, "llm_tokens", 120).await.unwrap();
        next_month(&app, &service.ok(RESETS, json!({})).await["entitlement"]);
        let service = app.full_service(&acme).await;
        assert_eq!(fits(&service, "llm_tokens").await, 100, "all of it is used up");
        app.run_due().await;
        let events =
            app.admin().await.ok(AUDIT, json!({ "id": acme.id, "filter": { "events": ["GrantBurnt"] } })).await;
        assert_eq!(events["audit"]["edges"].as_array().unwrap().len(), 2, "once for each month: {events}");
    }
}

#[tokio::test]
async fn a_grant_that_expires_within_the_month_leaves_what_it_gave_and_others_whole() {
    let app = TestApp::with("worker.interval = \"1h\"").await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    hundred_tokens(&admin, &acme).await;
    let minute = TimeDelta::minutes(1);
    grant(&admin, &acme, "QUOTA", "llm_tokens", json!({ "amount": 50, "expiresAt": later(&app, minute) })).await;
    grant(&admin, &acme, "QUOTA", "llm_tokens", json!({ "amount": 40 })).await;
    let service = app.full_service(&acme).await;
    take(&service, "llm_tokens", 130).await.unwrap();
    app.advance(minute);
    assert_eq!(fits(&service, "llm_tokens").await, 40, "30 were the expired one's, 20 are lost with it");
    take(&service, "llm_tokens", 15).await.unwrap();
    let found = entitlement(&service, "QUOTA", "llm_tokens").await;
    assert_eq!((&found["used"], &found["remaining"]), (&json!(145), &json!(25)), "{found}");
    next_month(&app, &service.ok(RESETS, json!({})).await["entitlement"]);
    assert_eq!(fits(&app.full_service(&acme).await, "llm_tokens").await, 125);
}

#[tokio::test]
async fn what_was_used_of_a_revoked_grant_stays_used_and_the_rest_is_gone() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    hundred_tokens(&admin, &acme).await;
    let made = grant(&admin, &acme, "QUOTA", "llm_tokens", json!({ "amount": 50 })).await;
    let service = app.full_service(&acme).await;
    take(&service, "llm_tokens", 130).await.unwrap();
    let input = json!({ "tenantId": acme.id, "grantId": made["id"] });
    assert_eq!(
        admin
            .refused(REVOKE, json!({ "input": { "tenantId": acme.id, "grantId": made["id"], "expectedVersion": 7 } }))
            .await,
        "conflict"
    );
    admin.ok(REVOKE, json!({ "input": input })).await;
    assert_eq!(admin.refused(REVOKE, json!({ "input": input })).await, "not_found");
    let found = entitlement(&service, "QUOTA", "llm_tokens").await;
    assert_eq!((&found["effectiveValue"]["limit"], &found["remaining"]), (&json!(130), &json!(0)));
    assert_eq!(take(&service, "llm_tokens", 1).await, Err("quota_exceeded".to_owned()));
}

#[tokio::test]
async fn a_reservation_of_the_last_month_that_is_released_gives_its_grant_back() {
    let app = TestApp::with("worker.interval = \"1h\"\nquotas.longest_reservation = \"1000h\"").await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    hundred_tokens(&admin, &acme).await;
    grant(&admin, &acme, "QUOTA", "llm_tokens", json!({ "amount": 50 })).await;
    let service = app.full_service(&acme).await;
    take(&service, "llm_tokens", 110).await.unwrap();
    let input = json!({ "input": { "lines": [{ "key": "llm_tokens", "amount": 40 }], "expiresInSeconds": 3_600_000 } });
    let held = service.ok(RESERVE, input).await["reserveQuota"]["reservation"]["id"].clone();
    next_month(&app, &service.ok(RESETS, json!({})).await["entitlement"]);
    let service = app.full_service(&acme).await;
    assert_eq!(fits(&service, "llm_tokens").await, 100, "what is promised is promised");
    service.ok(RELEASE, json!({ "input": { "reservationId": held } })).await;
    app.advance(TimeDelta::minutes(2));
    assert_eq!(fits(&service, "llm_tokens").await, 140, "10 were used in the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_given_on_one_replica_counts_on_the_other_at_once_and_together_they_never_let_in_more() {
    let first = TestApp::start().await;
    let second = first.replica("").await;
    let (acme, admin) = (first.tenant("acme").await, first.admin().await);
    hundred_tokens(&admin, &acme).await;
    let (here, there) = (first.full_service(&acme).await, second.full_service(&acme).await);
    take(&here, "llm_tokens", 100).await.unwrap();
    for _ in 0..5 {
        assert_eq!(take(&there, "llm_tokens", 1).await, Err("quota_exceeded".to_owned()));
        grant(&admin, &acme, "QUOTA", "llm_tokens", json!({ "amount": 1 })).await;
        take(&there, "llm_tokens", 1).await.unwrap();
    }
    grant(&admin, &acme, "QUOTA", "llm_tokens", json!({ "amount": 40 })).await;
    let tries = (0..60).map(|number| take(if number % 2 == 0 { &here } else { &there }, "llm_tokens", 1));
    let let_in = futures::future::join_all(tries).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(let_in, 40);
}

#[tokio::test]
async fn an_idempotency_key_grants_once() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    let input = json!({ "input": { "tenantId": acme.id, "kind": "QUOTA", "key": "max_users", "amount": 3, "reason": "trial" } });
    let first = admin.graphql_once("once", super::GRANT, input.clone()).await;
    let again = admin.graphql_once("once", super::GRANT, input).await;
    assert_eq!(first.data(), again.data(), "{} {}", first.text, again.text);
    assert_eq!(entitlement(&app.full_service(&acme).await, "QUOTA", "max_users").await["effectiveValue"]["limit"], 13);
}
