//! Links that work once.

use chrono::TimeDelta;
use serde_json::json;

use super::{ACCEPT, Invited, PASSWORD, invite, join, refused, seats};
use crate::support::TestApp;

const RESEND: &str = "mutation($input: MemberActionInput!) { resendInvitation(input: $input) { token } }";
const REVOKE: &str = "mutation($input: MemberActionInput!) { revokeInvitation(input: $input) { id } }";

fn accepting(token: &str) -> serde_json::Value {
    json!({ "token": token, "password": PASSWORD, "name": "Anna" })
}

#[tokio::test]
async fn an_invitation_is_followed_once_however_many_try_at_once() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let service = app.full_service(&acme).await;
    let Invited { token, .. } = invite(&service, "anna@example.com", &["owner"]).await;
    let nobody = app.anonymous();
    let tries = (0..8).map(|_| nobody.graphql(ACCEPT, json!({ "input": accepting(&token) })));
    let answers = futures::future::join_all(tries).await;
    let followed: Vec<_> = answers.iter().filter(|answer| answer.body["errors"].is_null()).collect();
    assert_eq!(followed.len(), 1);
    assert_eq!(followed[0].data()["acceptInvitation"]["member"]["name"], "Anna");
    assert!(answers.iter().filter(|answer| answer.code() == "not_found").count() == 7);
    assert_eq!(refused(&nobody, ACCEPT, accepting(&token)).await, ("not_found".to_owned(), json!("token")));
}

#[tokio::test]
async fn a_link_that_was_resent_revoked_or_kept_too_long_is_worth_nothing() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let (service, nobody) = (app.full_service(&acme).await, app.anonymous());
    let not_found = ("not_found".to_owned(), json!("token"));

    let Invited { id, token } = invite(&service, "anna@example.com", &["viewer"]).await;
    let again = service.ok(RESEND, json!({ "input": { "id": id } })).await["resendInvitation"]["token"].clone();
    assert_eq!(refused(&nobody, ACCEPT, accepting(&token)).await, not_found);
    nobody.ok(ACCEPT, json!({ "input": accepting(again.as_str().unwrap()) })).await;
    assert_eq!(refused(&service, RESEND, json!({ "id": id })).await.0, "conflict", "who has accepted");

    let Invited { id, token } = invite(&service, "ben@example.com", &["viewer"]).await;
    assert_eq!(seats(&app, &acme).await.1, 2);
    service.ok(REVOKE, json!({ "input": { "id": id } })).await;
    assert_eq!(refused(&nobody, ACCEPT, accepting(&token)).await, not_found);
    assert_eq!(seats(&app, &acme).await.1, 1, "the seat is free");
    assert_eq!(refused(&service, REVOKE, json!({ "id": id })).await.0, "not_found");

    let Invited { token, .. } = invite(&service, "carl@example.com", &["viewer"]).await;
    app.advance(TimeDelta::days(7));
    assert_eq!(refused(&nobody, ACCEPT, accepting(&token)).await, not_found);
    let forged = [&token[..21], &"A".repeat(43)].concat();
    for token in ["", "x", &forged] {
        assert_eq!(refused(&nobody, ACCEPT, accepting(token)).await, not_found, "{token}");
    }
}

#[tokio::test]
async fn a_link_is_in_no_table_and_no_record() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let service = app.full_service(&acme).await;
    let Invited { token, .. } = invite(&service, "anna@example.com", &["viewer"]).await;
    join(&app, &service, "ben@example.com", &["viewer"]).await;
    let superuser = app.database.superuser().await;
    for table in ["members", "member_links", "member_passwords", "journal", "idempotency_keys"] {
        let sql = format!("select coalesce(string_agg(t::text, ' '), '') as rows from tenantry.{table} t");
        let statement = sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, sql);
        let row = sea_orm::ConnectionTrait::query_one_raw(&superuser, statement).await.unwrap().unwrap();
        let rows: String = row.try_get("", "rows").unwrap();
        assert!(!rows.contains(&token) && !rows.contains(PASSWORD), "{table}");
    }
}

#[tokio::test]
async fn nobody_comes_into_a_tenant_that_is_suspended() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let service = app.full_service(&acme).await;
    let Invited { token, .. } = invite(&service, "anna@example.com", &["viewer"]).await;
    let suspend =
        "mutation($id: ID!) { suspendTenant(input: {id: $id, mode: HARD, reason: SECURITY}) { tenant { status } } }";
    app.admin().await.ok(suspend, json!({ "id": acme.id })).await;
    assert_eq!(refused(&app.anonymous(), ACCEPT, accepting(&token)).await.0, "not_found");
}

#[tokio::test]
async fn without_a_token_nothing_else_can_be_asked() {
    let app = TestApp::start().await;
    let nobody = app.anonymous();
    for query in [
        "{ viewer { subject } }",
        "{ __typename }",
        "{ __schema { queryType { name } } }",
        "mutation { __typename }",
        "mutation { acceptInvitation(input: {token: \"\", password: \"\"}) { member { id } } createPlan(input: {}) { plan { key } } }",
        "mutation { nothing }",
        "{ members { edges { cursor } } }",
        "{",
    ] {
        let answer = nobody.graphql(query, json!({})).await;
        assert_eq!((answer.status, answer.code()), (401, "unauthenticated"), "{query}: {}", answer.text);
    }
    // A token that is sent must be good, whatever is asked.
    let bad = nobody.with_token("nonsense").graphql(ACCEPT, json!({ "input": accepting("x") })).await;
    assert_eq!(bad.status, 401);
}
