//! A session's token, as others see it.

use serde_json::{Value, json};

use super::{END, member, status};
use crate::support::{Client, TestApp};

async fn introspect(client: &Client, credentials: &Value, token: &str) -> Value {
    let form = [
        ("client_id", credentials["client"]["id"].as_str().unwrap()),
        ("client_secret", credentials["secret"].as_str().unwrap()),
        ("token", token),
    ];
    client.send(client.post("/oauth/introspect").form(&form)).await.body
}

#[tokio::test]
async fn introspection_tells_of_a_session_what_holds_now() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let anna = member(&app, &acme, "anna@example.com", &["viewer"]).await;
    let service = app.full_service(&acme).await;
    let create =
        "mutation { createOAuthClient(input: {name: \"x\", scopes: [\"auth:tenant:read\"]}) { client { id } secret } }";
    let credentials = service.ok(create, json!({})).await["createOAuthClient"].clone();
    let nobody = Client::new(app.url(""), None, Some(acme.id), app.canaries.clone());
    let token = anna.client.token().unwrap();
    let told = introspect(&nobody, &credentials, token).await;
    assert_eq!(
        (&told["active"], &told["sub"], &told["sid"]),
        (&json!(true), &json!(anna.member), &json!(anna.session))
    );
    assert_eq!((&told["amr"], &told["roles"]), (&json!(["pwd"]), &json!(["viewer"])));
    let roles = json!({ "id": anna.member, "roles": ["billing"] });
    service.ok(crate::members::SET_ROLES, json!({ "input": roles })).await;
    let told = introspect(&nobody, &credentials, token).await;
    assert!(!told["scope"].as_str().unwrap().contains("auth:member:read"), "{told}");
    service.ok(END, json!({ "input": { "id": anna.session } })).await;
    assert_eq!(introspect(&nobody, &credentials, token).await, json!({ "active": false }));
}

/// No request of a session asks the database for it: requests go on while nobody can read its tables.
#[tokio::test]
async fn requests_of_a_session_are_checked_from_memory() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let anna = member(&app, &acme, "anna@example.com", &["viewer"]).await;
    let tables = ["member_sessions", "members", "member_roles"];
    app.answers_without(&tables, async || assert_eq!(status(&anna.client).await, 200)).await;
}

#[tokio::test]
async fn what_a_member_does_stands_under_its_name_and_it_gives_no_more_than_it_has() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let admin = member(&app, &acme, "admin@example.com", &["admin"]).await;
    let owner = member(&app, &acme, "owner@example.com", &["owner"]).await;
    let input = |role: &str| json!({ "input": { "email": format!("{role}@example.org"), "roles": [role] } });
    assert_eq!(admin.client.refused(crate::members::INVITE, input("owner")).await, "forbidden");
    admin.client.ok(crate::members::INVITE, input("admin")).await;
    owner.client.ok(crate::members::INVITE, input("owner")).await;
    let demote = |roles: &str| json!({ "input": { "id": owner.member, "roles": [roles] } });
    assert_eq!(admin.client.refused(crate::members::SET_ROLES, demote("viewer")).await, "forbidden");
    assert_eq!(owner.client.refused(crate::members::SET_ROLES, demote("viewer")).await, "conflict", "the last owner");
    let audit = "{ audit(first: 20) { edges { node { event actor { kind name } } } } }";
    let entries = owner.client.ok(audit, json!({})).await["audit"]["edges"].to_string();
    assert!(entries.contains(&admin.member) && entries.contains("\"MEMBER\""), "{entries}");
}
