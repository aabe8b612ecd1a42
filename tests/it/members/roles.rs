//! Nobody gives more than it has, and there is always an owner.

use futures::future::join_all;
use serde_json::{Value, json};

use super::{DEACTIVATE, DELETE_ROLE, INVITE, REACTIVATE, SET_ROLE, SET_ROLES, invite, join, refused};
use crate::support::TestApp;

const ADMIN: &str = "auth:member:read auth:member:write auth:tenant:read";

#[tokio::test]
async fn nobody_gives_changes_or_takes_away_more_than_it_has() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let (all, some) = (app.full_service(&acme).await, app.service(&acme, ADMIN).await);
    let owner = join(&app, &all, "owner@example.com", &["owner"]).await;
    let viewer = join(&app, &all, "viewer@example.com", &["viewer"]).await;
    all.ok(SET_ROLE, json!({ "input": { "key": "auditing", "scopes": ["auth:audit:read"] } })).await;
    let invited = invite(&all, "invited@example.com", &["admin"]).await.id;
    let resend = "mutation($input: MemberActionInput!) { resendInvitation(input: $input) { token } }";
    let link = "mutation($input: MemberActionInput!) { makePasswordLink(input: $input) { token } }";
    for (query, input) in [
        (INVITE, json!({ "email": "x@example.com", "roles": ["owner"] })),
        (INVITE, json!({ "email": "x@example.com", "roles": ["auditing"] })),
        (SET_ROLES, json!({ "id": viewer, "roles": ["admin"] })),
        (SET_ROLES, json!({ "id": owner, "roles": ["viewer"] })),
        (DEACTIVATE, json!({ "id": owner })),
        (SET_ROLE, json!({ "key": "auditing", "scopes": ["auth:tenant:read"] })),
        (SET_ROLE, json!({ "key": "mine", "scopes": ["auth:audit:read"] })),
        (DELETE_ROLE, json!({ "key": "auditing" })),
        // Whoever has the link can be the member.
        (resend, json!({ "id": invited })),
        (link, json!({ "id": owner })),
    ] {
        let (code, _) = refused(&some, query, input.clone()).await;
        assert_eq!(code, "forbidden", "{query} {input}");
    }
    some.ok(SET_ROLE, json!({ "input": { "key": "mine", "scopes": ["auth:tenant:read"] } })).await;
    some.ok(INVITE, json!({ "input": { "email": "x@example.com", "roles": ["mine"] } })).await;
}

#[tokio::test]
async fn the_last_owner_stays_however_many_leave_at_once() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let service = app.full_service(&acme).await;
    let mut owners = Vec::new();
    for index in 0..6 {
        owners.push(join(&app, &service, &format!("owner-{index}@example.com"), &["owner"]).await);
    }
    let leave = owners.iter().enumerate().map(|(index, id)| {
        let service = service.clone();
        async move {
            match index % 2 {
                0 => service.graphql(SET_ROLES, json!({ "input": { "id": id, "roles": ["viewer"] } })).await,
                _ => service.graphql(DEACTIVATE, json!({ "input": { "id": id } })).await,
            }
        }
    });
    let answers = join_all(leave).await;
    let kept: Vec<_> = answers.iter().filter(|answer| answer.code() == "conflict").collect();
    assert_eq!(kept.len(), 1, "{:?}", answers.iter().map(|answer| &answer.text).collect::<Vec<_>>());
    let list = "{ members(role: \"owner\", status: ACTIVE) { edges { node { id } } } }";
    assert_eq!(service.ok(list, json!({})).await["members"]["edges"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_role_that_members_have_is_not_deleted() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let service = app.full_service(&acme).await;
    let set = async |scopes: Value, version: i64| {
        let input = json!({ "key": "support", "scopes": scopes, "expectedVersion": version });
        service.ok(SET_ROLE, json!({ "input": input })).await["setRole"]["role"].clone()
    };
    assert_eq!(set(json!(["auth:tenant:read"]), 0).await["version"], 1);
    assert_eq!(set(json!(["auth:usage:read"]), 1).await["version"], 2);
    let old = json!({ "key": "support", "scopes": ["auth:usage:read"], "expectedVersion": 1 });
    assert_eq!(refused(&service, SET_ROLE, old).await.0, "conflict");
    let id = join(&app, &service, "anna@example.com", &["support", "viewer"]).await;
    assert_eq!(
        refused(&service, DELETE_ROLE, json!({ "key": "support" })).await,
        ("conflict".to_owned(), json!("key"))
    );
    service.ok(SET_ROLES, json!({ "input": { "id": id, "roles": ["viewer"] } })).await;
    service.ok(DELETE_ROLE, json!({ "input": { "key": "support" } })).await;
    assert_eq!(refused(&service, DELETE_ROLE, json!({ "key": "support" })).await.0, "not_found");
    assert_eq!(refused(&service, DELETE_ROLE, json!({ "key": "owner" })).await.0, "not_found");
}

#[tokio::test]
async fn a_member_is_deactivated_and_comes_back() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let service = app.full_service(&acme).await;
    let id = join(&app, &service, "anna@example.com", &["viewer"]).await;
    let invited = invite(&service, "ben@example.com", &["viewer"]).await.id;
    for (query, id, code) in [
        (DEACTIVATE, &invited, "invalid_transition"),
        (REACTIVATE, &id, "invalid_transition"),
        (REACTIVATE, &acme.id.to_string(), "not_found"),
    ] {
        assert_eq!(refused(&service, query, json!({ "id": id })).await.0, code, "{query} {id}");
    }
    let done = service.ok(DEACTIVATE, json!({ "input": { "id": id, "expectedVersion": 2 } })).await;
    assert_eq!(done["deactivateMember"]["member"], json!({ "status": "DEACTIVATED", "version": 3 }));
    let done = service.ok(REACTIVATE, json!({ "input": { "id": id } })).await;
    assert_eq!(done["reactivateMember"]["member"], json!({ "status": "ACTIVE", "version": 4 }));
    let audit = "{ audit(first: 50) { edges { node { event actor { kind } subject { id } } } } }";
    let entries = service.ok(audit, json!({})).await["audit"]["edges"].clone();
    let of_member = |edge: &&Value| edge["node"]["subject"]["id"] == json!(id);
    let mut events: Vec<_> =
        entries.as_array().unwrap().iter().filter(of_member).map(|edge| edge["node"]["event"].clone()).collect();
    events.sort_by_key(ToString::to_string);
    assert_eq!(json!(events), json!(["InvitationAccepted", "MemberDeactivated", "MemberInvited", "MemberReactivated"]));
}
