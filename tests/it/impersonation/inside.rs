//! What an operator may do inside a tenant, and what it may not.

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::{Value, json};
use tenantry::access::{Audience, Effect, PERMISSIONS, Permission, Role, Scope, permission};

use super::{AUDIT, OPERATOR, REASON, RENAME, VIEWER, begin, journal, list};
use crate::{
    flags::{define_switch, second_admin, set},
    isolation::operation::{Schema, Verb, anything, phantom_id},
    support::{Client, TestApp},
};

#[tokio::test]
async fn an_operator_does_what_a_service_does_and_the_tenant_reads_who_why_and_what() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    let inside = begin(&app, &admin, &acme).await;
    let viewer = inside.client.ok(VIEWER, json!({})).await["viewer"].clone();
    assert_eq!((&viewer["kind"], &viewer["subject"]), (&json!("IMPERSONATOR"), &json!(inside.id)));
    assert_eq!((&viewer["tenantId"], &viewer["roles"]), (&json!(acme.id), &json!([])));
    // As the product would: without naming the tenant.
    let product =
        "{ tenant { name slug } quotas { key } evaluateFlags { flags { key } } members { edges { node { email } } } }";
    assert_eq!(inside.client.ok(product, json!({})).await["tenant"]["slug"], acme.slug);
    inside.client.ok(RENAME, json!({ "id": acme.id, "name": "renamed inside" })).await;
    let updated = journal(&app, &acme, "TenantUpdated").await;
    let name = format!("{OPERATOR}/{}", inside.id);
    assert_eq!(updated[0]["actor"], json!({ "kind": "OPERATOR", "name": name }));
    let began = journal(&app, &acme, "ImpersonationBegan").await[0].clone();
    assert_eq!(began["actor"], json!({ "kind": "OPERATOR", "name": OPERATOR }));
    assert_eq!((&began["subject"]["id"], &began["after"]["reason"]), (&json!(inside.id), &json!(REASON)));
    let owner = app.service(&acme, "auth:impersonation:read").await;
    let listed = list(&owner, None).await[0].clone();
    assert_eq!((&listed["operator"], &listed["reason"]), (&json!(OPERATOR), &json!(REASON)));
    assert_eq!((&listed["running"], &listed["endedAt"]), (&json!(true), &json!(null)));
    let time = |value: &Value| value.as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    assert_eq!(time(&began["after"]["endsAt"]), time(&listed["endsAt"]));
    assert_eq!(began["after"]["scopes"], listed["scopes"]);
    assert_eq!(app.metric("tenantry_impersonations_total").await.map(|count| count >= 1.0), Some(true));
}

#[tokio::test]
async fn inside_one_tenant_there_is_no_other_and_no_platform() {
    let app = TestApp::start().await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    let inside = begin(&app, &app.admin().await, &acme).await.client;
    assert_eq!(inside.refused(RENAME, json!({ "id": other.id, "name": "x" })).await, "not_found");
    assert_eq!(inside.refused(AUDIT, json!({ "id": other.id })).await, "not_found");
    let tenant = "query($id: ID) { tenant(id: $id) { id } }";
    assert_eq!(inside.ok(tenant, json!({ "id": other.id })).await["tenant"], json!(null));
    assert_eq!(inside.ok("{ tenant(slug: \"other\") { name } }", json!({})).await["tenant"], json!(null));
    let named = inside.post("/graphql").header("x-tenant-id", other.id.to_string());
    let named = inside.send(named.json(&json!({ "query": VIEWER }))).await;
    assert_eq!(named.code(), "tenant_mismatch");
    assert_eq!(inside.refused("{ tenants { edges { cursor } } }", json!({})).await, "forbidden");
    // Neither down to a tenant below, which the operator itself would reach.
    let parent =
        "mutation($id: ID!, $parent: ID) { setParentTenant(input: {id: $id, parentId: $parent}) { tenant { id } } }";
    app.admin().await.ok(parent, json!({ "id": other.id, "parent": acme.id })).await;
    let above = app.full_service(&acme).await;
    assert_eq!(above.ok(tenant, json!({ "id": other.id })).await["tenant"]["id"], json!(other.id));
    assert_eq!(inside.ok(tenant, json!({ "id": other.id })).await["tenant"], json!(null));
}

/// Every field and path of which `asked` is true: refused.
async fn is_refused(client: &Client, asked: impl Fn(&Permission) -> bool) -> usize {
    let (schema, mut tried) = (Schema::published(), 0);
    for route in schema.routes() {
        let end = schema.end(&route);
        let Some(permission) = permission(&end.parent, &end.name).filter(|permission| asked(permission)) else {
            continue;
        };
        // Streams go by sockets, and write nothing.
        if route.verb == Verb::Subscription {
            continue;
        }
        let operation = schema.operation(&route, &anything, None, 0);
        let answer = client.graphql(&operation.query, operation.variables).await;
        // Of fields about one's own account the resolver says that there is none, some of them after their input.
        let own = permission.scope.is_none() && answer.code() == "invalid_input";
        assert!(answer.code() == "forbidden" || own, "{} {}", schema.name(&route), answer.text);
        tried += 1;
    }
    for permission in PERMISSIONS.iter().filter(|permission| permission.field.contains("./") && asked(permission)) {
        let (method, path) = permission.field.split_once('.').unwrap();
        let request = client.request(method.parse().unwrap(), path);
        let request = if method == Method::GET.as_str() { request } else { request.json(&json!({})) };
        assert_eq!(client.send(request).await.status, 403, "{}", permission.field);
        tried += 1;
    }
    tried
}

/// Whoever has no token may do them as well: they lead to one.
fn is_public(permission: &Permission) -> bool {
    permission.audience == Audience::Public
}

#[tokio::test]
async fn support_reads_inside_and_every_write_is_refused() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let inside = begin(&app, &app.operator(Role::Support).await, &acme).await.client;
    inside.ok("{ tenant { name } quotas { key } members { edges { node { email } } } }", json!({})).await;
    let tried = is_refused(&inside, |permission| permission.effect == Effect::Write && !is_public(permission)).await;
    assert!(tried > 100, "{tried} were tried");
    assert_eq!(inside.ok("{ tenant { name } }", json!({})).await["tenant"]["name"], acme.canary);
}

#[tokio::test]
async fn nothing_that_outlives_an_impersonation_or_leads_elsewhere_is_open_to_anybody_inside() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let inside = begin(&app, &app.admin().await, &acme).await;
    let held = |scope: Option<Scope>| scope.is_some_and(|scope| scope.for_tenants() && !scope.for_impersonators());
    let tried = is_refused(&inside.client, |permission| {
        held(permission.scope) || (permission.audience == Audience::Platform && !is_public(permission))
    });
    let tried = tried.await;
    assert!(tried > 100, "{tried} were tried");
    // Nor to its own end, or another's account.
    let end = json!({ "input": { "id": inside.id } });
    assert_eq!(inside.client.refused(super::END, end).await, "forbidden");
    for own in ["mutation { signOut { session { id } } }", "mutation { enrollTotp(input: {}) { secret } }"] {
        assert_eq!(inside.client.refused(own, json!({})).await, "forbidden", "{own}");
    }
    let session = format!("mutation {{ endSession(input: {{id: \"{}\"}}) {{ session {{ id }} }} }}", phantom_id());
    assert_eq!(inside.client.refused(&session, json!({})).await, "forbidden");
}

#[tokio::test]
async fn an_operator_inside_is_no_second_person() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    let inside = begin(&app, &admin, &acme).await.client;
    define_switch(&admin, "risky", json!({ "approval": "REQUIRED", "operatorOnly": false })).await;
    let asked = set(&inside, &acme, "risky", json!(true)).await["changeRequest"].clone();
    let approve = "mutation($id: ID!) { approveFlagChange(input: {id: $id}) { changeRequest { status } } }";
    let id = json!({ "id": asked["id"] });
    assert_eq!(admin.refused(approve, id.clone()).await, "forbidden");
    let second = second_admin(&app).await;
    assert_eq!(second.ok(approve, id).await["approveFlagChange"]["changeRequest"]["status"], "APPROVED");
}

#[tokio::test]
async fn requests_inside_are_checked_from_memory() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let inside = begin(&app, &app.admin().await, &acme).await.client;
    app.answers_without(&["impersonations"], async || assert_eq!(super::status(&inside).await, 200)).await;
}
