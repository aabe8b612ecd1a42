//! Operators inside tenants: how they get in, what they may do there, and how it ends.

mod beginning;
mod ending;
mod inside;
mod tokens;

use serde_json::{Value, json};

use crate::support::{Answer, Client, Tenant, TestApp};

pub const IMPERSONATE: &str = "mutation($input: ImpersonateInput!) { impersonate(input: $input) {
    accessToken impersonation { id operator reason scopes beganAt endsAt endedAt running } } }";
const END: &str = "mutation($input: EndImpersonationInput!) { endImpersonation(input: $input) {
    impersonation { id endedAt endedBy { kind name } running } } }";
const LIST: &str = "query($id: ID, $first: Int = 25, $after: String) { impersonations(tenantId: $id, first: $first, after: $after) {
    edges { cursor node { id operator reason scopes beganAt endsAt endedAt endedBy { kind name } running } } pageInfo { hasNextPage } } }";
const AUDIT: &str = "query($id: ID) { audit(tenantId: $id, first: 50) { edges { node { event actor { kind name } subject { id } after } } } }";
const VIEWER: &str = "{ viewer { subject kind scopes roles tenantId } }";
const RENAME: &str =
    "mutation($id: ID!, $name: String) { updateTenant(input: {id: $id, name: $name}) { tenant { name } } }";
const REASON: &str = "T-4711: the invoice is wrong";
/// The operator of the suite.
const OPERATOR: &str = "cli:test";

/// An operator inside a tenant.
pub struct Inside {
    pub client: Client,
    pub id: String,
}

pub async fn begin(app: &TestApp, operator: &Client, tenant: &Tenant) -> Inside {
    begin_with(app, operator, tenant, json!({})).await
}

/// With these members of the input, besides tenant and reason.
async fn begin_with(app: &TestApp, operator: &Client, tenant: &Tenant, more: Value) -> Inside {
    let answer = try_begin(operator, tenant, more).await;
    assert_eq!(answer.code(), "none", "{}", answer.text);
    let begun = &answer.data()["impersonate"];
    let token = begun["accessToken"].as_str().unwrap().to_owned();
    Inside {
        client: Client::new(app.url(""), Some(token), Some(tenant.id), app.canaries.clone()),
        id: begun["impersonation"]["id"].as_str().unwrap().to_owned(),
    }
}

async fn try_begin(operator: &Client, tenant: &Tenant, more: Value) -> Answer {
    let mut input = json!({ "tenantId": tenant.id, "reason": REASON });
    input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    operator.graphql(IMPERSONATE, json!({ "input": input })).await
}

/// The same at another server.
fn at(client: &Client, other: &TestApp, tenant: &Tenant) -> Client {
    Client::new(other.url(""), client.token().map(str::to_owned), Some(tenant.id), other.canaries.clone())
}

/// The nodes of `impersonations`.
async fn list(client: &Client, tenant: Option<&Tenant>) -> Vec<Value> {
    let found = client.ok(LIST, json!({ "id": tenant.map(|tenant| tenant.id) })).await;
    found["impersonations"]["edges"].as_array().unwrap().iter().map(|edge| edge["node"].clone()).collect()
}

/// Entries of the tenant's journal about this event, as its own reader is told.
async fn journal(app: &TestApp, tenant: &Tenant, event: &str) -> Vec<Value> {
    let reader = app.service(tenant, "auth:audit:read").await;
    let found = reader.ok(AUDIT, json!({})).await;
    let nodes = found["audit"]["edges"].as_array().unwrap().iter().map(|edge| edge["node"].clone());
    nodes.filter(|node| node["event"] == event).collect()
}

/// Whether a plain request is let in: 200, 401 where nobody is known, 403 where that one may not.
async fn status(client: &Client) -> u16 {
    let answer = client.graphql(VIEWER, json!({})).await;
    match (answer.status, answer.code()) {
        (200, "none") => 200,
        (_, "unauthenticated") => 401,
        _ => 403,
    }
}
