//! People who belong to a tenant: how they come in, what they may do, and how many there can be.

mod directory;
mod invitations;
mod passwords;
mod roles;
mod seats;

use serde_json::{Value, json};

use crate::support::{Client, Tenant, TestApp};

pub const INVITE: &str = "mutation($input: InviteMemberInput!) { inviteMember(input: $input) {
    token member { id email name status source roles version } } }";
pub const ACCEPT: &str = "mutation($input: AcceptInvitationInput!) { acceptInvitation(input: $input) { member { id name status version } } }";
pub const SET_ROLES: &str =
    "mutation($input: SetMemberRolesInput!) { setMemberRoles(input: $input) { member { id roles version } } }";
pub const DEACTIVATE: &str =
    "mutation($input: MemberActionInput!) { deactivateMember(input: $input) { member { status version } } }";
pub const REACTIVATE: &str =
    "mutation($input: MemberActionInput!) { reactivateMember(input: $input) { member { status version } } }";
pub const SET_ROLE: &str =
    "mutation($input: SetRoleInput!) { setRole(input: $input) { role { key scopes shipped version } } }";
const DELETE_ROLE: &str = "mutation($input: DeleteRoleInput!) { deleteRole(input: $input) { role { key } } }";
const MEMBERS: &str = "query($status: MemberStatus, $role: String, $text: String, $first: Int = 25, $after: String) {
    members(status: $status, role: $role, text: $text, first: $first, after: $after) {
      edges { cursor node { id email status roles } } pageInfo { hasNextPage endCursor } } }";

pub const PASSWORD: &str = "an unusual sentence";

/// An invited member, and the secret of its link.
pub struct Invited {
    pub id: String,
    pub token: String,
}

pub async fn invite(client: &Client, email: &str, roles: &[&str]) -> Invited {
    let made = client.ok(INVITE, json!({ "input": { "email": email, "name": "Somebody", "roles": roles } })).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    Invited { id: text(&made["inviteMember"]["member"]["id"]), token: text(&made["inviteMember"]["token"]) }
}

/// An active member, whose password is [`PASSWORD`]; answers its id.
pub async fn join(app: &TestApp, client: &Client, email: &str, roles: &[&str]) -> String {
    let Invited { id, token } = invite(client, email, roles).await;
    let accepted = app.anonymous().ok(ACCEPT, json!({ "input": { "token": token, "password": PASSWORD } })).await;
    assert_eq!(accepted["acceptInvitation"]["member"]["status"], "ACTIVE");
    id
}

async fn refused(client: &Client, query: &str, input: Value) -> (String, Value) {
    let answer = client.graphql(query, json!({ "input": input })).await;
    (answer.code().to_owned(), answer.body["errors"][0]["extensions"]["field"].clone())
}

/// Limit, used and held of the seats, once everything is counted.
pub async fn seats(app: &TestApp, tenant: &Tenant) -> (i64, i64, i64) {
    let query = "query($id: ID) { quotas(keys: [\"max_users\"], tenantId: $id) { limit used reserved } }";
    let found = app.admin().await.ok(query, json!({ "id": tenant.id })).await["quotas"][0].clone();
    let number = |key: &str| found[key].as_i64().unwrap();
    (number("limit"), number("used"), number("reserved"))
}

pub async fn limit_seats(app: &TestApp, tenant: &Tenant, limit: i64) {
    let set = "mutation($id: ID!, $limit: Int) {
        setQuota(input: {tenantId: $id, key: \"max_users\", limit: $limit, reason: \"test\"}) { quota { limit } } }";
    app.admin().await.ok(set, json!({ "id": tenant.id, "limit": limit })).await;
}

#[tokio::test]
async fn members_are_listed_in_pages_and_found() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let service = app.full_service(&acme).await;
    for (name, role) in [("anna", "owner"), ("ben", "viewer"), ("carl", "viewer")] {
        invite(&service, &format!("{name}@Example.com"), &[role]).await;
    }
    let list = async |variables: Value| {
        let found = service.ok(MEMBERS, variables).await["members"].clone();
        let emails: Vec<_> =
            found["edges"].as_array().unwrap().iter().map(|edge| edge["node"]["email"].clone()).collect();
        (emails, found["pageInfo"].clone())
    };
    let (first, page) = list(json!({ "first": 2 })).await;
    assert_eq!(
        (first, &page["hasNextPage"]),
        (vec![json!("anna@Example.com"), json!("ben@Example.com")], &json!(true))
    );
    let (rest, page) = list(json!({ "first": 2, "after": page["endCursor"] })).await;
    assert_eq!((rest, &page["hasNextPage"]), (vec![json!("carl@Example.com")], &json!(false)));
    assert_eq!(list(json!({ "role": "viewer", "text": "BEN" })).await.0, [json!("ben@Example.com")]);
    assert_eq!(list(json!({ "status": "ACTIVE" })).await.0.len(), 0);
    let bad = service.refused(MEMBERS, json!({ "after": "x" })).await;
    assert_eq!(bad, "invalid_input");
}

#[tokio::test]
async fn the_same_address_in_two_tenants_is_two_members() {
    let app = TestApp::start().await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    let (here, there) = (app.full_service(&acme).await, app.full_service(&other).await);
    let (first, second) = (
        join(&app, &here, "anna@example.com", &["owner"]).await,
        join(&app, &there, "ANNA@example.com", &["viewer"]).await,
    );
    assert_ne!(first, second);
    let member = "query($id: ID!) { member(id: $id) { roles } }";
    assert_eq!(here.ok(member, json!({ "id": first })).await["member"]["roles"], json!(["owner"]));
    assert_eq!(there.ok(member, json!({ "id": second })).await["member"]["roles"], json!(["viewer"]));
    assert_eq!(here.refused(member, json!({ "id": second })).await, "not_found");
    assert_eq!(refused(&here, DEACTIVATE, json!({ "id": second })).await.0, "not_found");
    let again = json!({ "email": "anna@EXAMPLE.com", "roles": ["viewer"] });
    assert_eq!(refused(&here, INVITE, again).await, ("conflict".to_owned(), json!("email")));
}

#[tokio::test]
async fn what_is_sent_wrong_is_named_and_changes_nothing() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let service = app.full_service(&acme).await;
    let long = "x".repeat(201);
    for (input, field) in [
        (json!({ "email": "nobody", "roles": ["viewer"] }), "email"),
        (json!({ "email": "a@b\u{0}.c", "roles": ["viewer"] }), "email"),
        (json!({ "email": "a@b.c", "roles": [] }), "roles"),
        (json!({ "email": "a@b.c", "roles": ["viewer", "nothing"] }), "roles[1]"),
        (json!({ "email": "a@b.c", "roles": ["viewer"], "name": long }), "name"),
    ] {
        assert_eq!(refused(&service, INVITE, input).await, ("invalid_input".to_owned(), json!(field)));
    }
    for (input, field) in [
        (json!({ "key": "owner", "scopes": ["auth:tenant:read"] }), "key"),
        (json!({ "key": "Own", "scopes": ["auth:tenant:read"] }), "key"),
        (json!({ "key": "own", "scopes": [] }), "scopes"),
        (json!({ "key": "own", "scopes": ["auth:tenant:read", "auth:cell:write"] }), "scopes[1]"),
    ] {
        assert_eq!(refused(&service, SET_ROLE, input).await, ("invalid_input".to_owned(), json!(field)));
    }
    assert_eq!(service.ok(MEMBERS, json!({})).await["members"]["edges"], json!([]));
    assert_eq!(seats(&app, &acme).await, (10, 0, 0));
}

#[tokio::test]
async fn a_change_is_made_once_for_an_idempotency_key() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let service = app.full_service(&acme).await;
    let input = json!({ "input": { "email": "anna@example.com", "roles": ["viewer"] } });
    let first = service.graphql_once("one", INVITE, input.clone()).await;
    let again = service.graphql_once("one", INVITE, input).await;
    let member = |answer: &crate::support::Answer| answer.data()["inviteMember"]["member"].clone();
    assert_eq!(member(&first), member(&again));
    assert!(first.data()["inviteMember"]["token"].is_string() && again.data()["inviteMember"]["token"].is_null());
    assert_eq!(seats(&app, &acme).await.1, 1);
}
