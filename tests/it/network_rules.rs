//! From where a tenant is reached. That the rules hold for each field and each path, `permissions` shows.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Client, Received, Tenant, TestApp};

const SET: &str = "mutation($input: SetNetworkRulesInput!) { setNetworkRules(input: $input) {
    networkRules { allowed { name network } trustedProxies version } } }";
const RULES: &str =
    "query($id: ID) { networkRules(tenantId: $id) { allowed { name network } trustedProxies version } }";
const VIEWER: &str = "{ viewer { subject } }";

/// Clients come through a proxy that the server trusts, and say where from.
const BEHIND_A_PROXY: &str = "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]";

async fn from(client: &Client, address: &str, query: &str, variables: Value) -> Answer {
    let request = client.post("/graphql").header("x-forwarded-for", address);
    client.send(request.json(&json!({ "query": query, "variables": variables }))).await
}

fn only(tenant: &Tenant, network: &str) -> Value {
    json!({ "input": { "tenantId": tenant.id, "allowed": [{ "name": "office", "network": network }] } })
}

#[tokio::test]
async fn a_tenant_is_reached_from_where_its_rules_say_on_every_server() {
    let app = TestApp::with(BEHIND_A_PROXY).await;
    let replica = app.replica(BEHIND_A_PROXY).await;
    let (tenant, other) = (app.tenant("fenced").await, app.tenant("open").await);
    let (admin, client) = (app.admin().await, app.full_service(&tenant).await);
    let there = Client::new(replica.url(""), client.token().map(str::to_owned), Some(tenant.id), app.canaries.clone());
    assert_eq!(from(&there, "198.51.100.1", VIEWER, json!({})).await.code(), "none");
    let set = admin.ok(SET, only(&tenant, "203.0.113.0/24")).await["setNetworkRules"]["networkRules"].clone();
    assert_eq!(set["allowed"], json!([{ "name": "office", "network": "203.0.113.0/24" }]));
    for server in [&client, &there] {
        assert_eq!(from(server, "203.0.113.9", VIEWER, json!({})).await.code(), "none");
        let refused = from(server, "198.51.100.1", VIEWER, json!({})).await;
        assert_eq!(refused.code(), "forbidden", "{}", refused.text);
        assert_eq!(refused.body["errors"][0]["extensions"]["details"]["address"], "198.51.100.1");
        // What a client says of itself, the proxy in front of it has put behind the client's address.
        assert_eq!(from(server, "203.0.113.9, 198.51.100.1", VIEWER, json!({})).await.code(), "forbidden");
    }
    // Nobody else is held to them, and operators by none.
    let neighbour = app.full_service(&other).await;
    assert_eq!(from(&neighbour, "198.51.100.1", VIEWER, json!({})).await.code(), "none");
    let read = from(&admin, "198.51.100.1", RULES, json!({ "id": tenant.id })).await;
    assert_eq!(read.body["data"]["networkRules"], set);
    let everywhere = json!({ "input": { "tenantId": tenant.id, "allowed": [] } });
    admin.ok(SET, everywhere).await;
    assert_eq!(from(&there, "198.51.100.1", VIEWER, json!({})).await.code(), "none");
    let journal = "query($id: ID!) { audit(tenantId: $id, first: 10) { edges { node { event } } } }";
    let told = admin.ok(journal, json!({ "id": tenant.id })).await.to_string();
    assert_eq!(told.matches("TenantNetworkRulesSet").count(), 2, "{told}");
}

#[tokio::test]
async fn streams_that_are_open_end_when_the_rules_come() {
    let app = TestApp::start().await;
    let tenant = app.tenant("streaming").await;
    let client = app.full_service(&tenant).await;
    let mut socket = app.socket(&client).await;
    socket.subscribe("1", "subscription { tenantEvents { event } }", json!({})).await;
    app.admin().await.ok(SET, only(&tenant, "203.0.113.0/24")).await;
    loop {
        match socket.next().await {
            Received::Closed { code, .. } => {
                assert_eq!(code, 4403);
                break;
            }
            // What the tenant may still have been told before it.
            Received::Message(message) => assert!(!message.to_string().contains("TenantNetworkRulesSet"), "{message}"),
        }
    }
    assert_eq!(client.refused(VIEWER, json!({})).await, "forbidden");
}

#[tokio::test]
async fn tokens_are_given_out_where_they_can_be_used() {
    let app = TestApp::with(BEHIND_A_PROXY).await;
    let tenant = app.tenant("tokens").await;
    let create = "mutation { createOAuthClient(input: {name: \"worker\", scopes: [\"auth:tenant:read\"]}) { secret client { id } } }";
    let made = app.full_service(&tenant).await.ok(create, json!({})).await["createOAuthClient"].clone();
    let ask = async |address: &str| {
        let client = app.anonymous();
        let (id, secret) = (made["client"]["id"].as_str().unwrap(), made["secret"].as_str());
        let request = client.request(Method::POST, "/oauth/token").basic_auth(id, secret);
        let form =
            request.header("content-type", "application/x-www-form-urlencoded").header("x-forwarded-for", address);
        client.send(form.body("grant_type=client_credentials")).await
    };
    app.admin().await.ok(SET, only(&tenant, "2001:db8::/32")).await;
    assert_eq!(ask("2001:db8:1::1").await.status, 200);
    let refused = ask("203.0.113.9").await;
    assert_eq!(
        (refused.status, &refused.body["error"], &refused.body["code"]),
        (400, &json!("unauthorized_client"), &json!("forbidden"))
    );
}

#[tokio::test]
async fn who_would_lock_themselves_out_is_told_unless_they_mean_it() {
    let app = TestApp::with(BEHIND_A_PROXY).await;
    let tenant = app.tenant("careful").await;
    let client = app.full_service(&tenant).await;
    let rules = |force: bool| json!({ "input": { "allowed": [{ "name": "office", "network": "203.0.113.7" }], "force": force } });
    let refused = from(&client, "198.51.100.1", SET, rules(false)).await;
    assert_eq!(refused.code(), "conflict");
    assert!(
        refused.text.contains("198.51.100.1") && refused.body["errors"][0]["extensions"]["field"] == "allowed",
        "{}",
        refused.text
    );
    assert_eq!(from(&client, "198.51.100.1", VIEWER, json!({})).await.code(), "none", "nothing was set");
    assert_eq!(from(&client, "203.0.113.7", SET, rules(false)).await.code(), "none");
    assert_eq!(from(&client, "198.51.100.1", VIEWER, json!({})).await.code(), "forbidden");
    assert_eq!(from(&client, "203.0.113.7", SET, json!({ "input": { "allowed": [] } })).await.code(), "none");
    assert_eq!(from(&client, "198.51.100.1", SET, rules(true)).await.code(), "none");
    assert_eq!(from(&client, "198.51.100.1", VIEWER, json!({})).await.code(), "forbidden");
}

#[tokio::test]
async fn the_tenants_own_proxies_are_believed_for_its_rules_alone() {
    let app = TestApp::with(BEHIND_A_PROXY).await;
    let (tenant, other) = (app.tenant("proxied").await, app.tenant("plain").await);
    let admin = app.admin().await;
    let mut rules = only(&tenant, "203.0.113.7");
    rules["input"]["trustedProxies"] = json!(["198.51.100.0/24"]);
    admin.ok(SET, rules).await;
    admin.ok(SET, only(&other, "203.0.113.7")).await;
    let (client, neighbour) = (app.full_service(&tenant).await, app.full_service(&other).await);
    assert_eq!(from(&client, "203.0.113.7, 198.51.100.1", VIEWER, json!({})).await.code(), "none");
    assert_eq!(from(&client, "203.0.113.7, 192.0.2.1, 198.51.100.1", VIEWER, json!({})).await.code(), "forbidden");
    assert_eq!(from(&neighbour, "203.0.113.7, 198.51.100.1", VIEWER, json!({})).await.code(), "forbidden");
}

#[tokio::test]
async fn who_acts_on_a_tenant_for_another_is_held_to_the_rules_of_both() {
    let app = TestApp::with(BEHIND_A_PROXY).await;
    let (partner, tenant) = (app.tenant("helper").await, app.tenant("helped").await);
    let admin = app.admin().await;
    let grant =
        "mutation($input: GrantPartnerAccessInput!) { grantPartnerAccess(input: $input) { access { version } } }";
    let expires = (app.app.clock.now() + chrono::TimeDelta::days(1)).to_rfc3339();
    let input = json!({ "partnerId": partner.id, "tenantId": tenant.id, "scopes": ["auth:tenant:read"], "expiresAt": expires, "reason": "support" });
    admin.ok(grant, json!({ "input": input })).await;
    let token = app.service_token(&partner, "auth:tenant:read auth:partner:read").await;
    let client = Client::operator(app.url(""), token, app.canaries.clone());
    let look = async |address: &str| {
        let answer =
            from(&client, address, "query($id: ID!) { tenant(id: $id) { slug } }", json!({ "id": tenant.id })).await;
        answer.code().to_owned()
    };
    assert_eq!(look("198.51.100.1").await, "none");
    admin.ok(SET, only(&tenant, "203.0.113.0/24")).await;
    assert_eq!((look("198.51.100.1").await, look("203.0.113.1").await), ("forbidden".to_owned(), "none".to_owned()));
    admin.ok(SET, only(&partner, "198.51.100.1")).await;
    assert_eq!(
        (look("198.51.100.1").await, look("203.0.113.1").await),
        ("forbidden".to_owned(), "forbidden".to_owned())
    );
}

#[tokio::test]
async fn a_bad_range_is_refused_by_its_place_and_nothing_is_set() {
    let app = TestApp::start().await;
    let tenant = app.tenant("exact").await;
    let admin = app.admin().await;
    let set = async |allowed: Value, proxies: Value| {
        let input = json!({ "tenantId": tenant.id, "allowed": allowed, "trustedProxies": proxies });
        admin.graphql(SET, json!({ "input": input })).await
    };
    let range = |name: &str, network: &str| json!({ "name": name, "network": network });
    let many: Vec<_> = (0..201).map(|last| range("n", &format!("10.0.{}.0/24", last))).collect();
    for (field, allowed, proxies) in [
        ("allowed.1.network", json!([range("a", "10.0.0.0/8"), range("b", "10.0.0.1/8")]), json!([])),
        ("allowed.0.network", json!([range("a", "nowhere")]), json!([])),
        ("allowed.1.network", json!([range("a", "10.0.0.0/8"), range("b", "10.0.0.0/8")]), json!([])),
        ("allowed.0.name", json!([range(" ", "10.0.0.0/8")]), json!([])),
        ("allowed", json!(many), json!([])),
        ("trustedProxies.0", json!([range("a", "10.0.0.0/8")]), json!(["10.0.0.0/99"])),
    ] {
        let answer = set(allowed, proxies).await;
        assert_eq!(
            (answer.code(), &answer.body["errors"][0]["extensions"]["field"]),
            ("invalid_input", &json!(field)),
            "{}",
            answer.text
        );
    }
    let kept = admin.ok(RULES, json!({ "id": tenant.id })).await["networkRules"].clone();
    assert_eq!((&kept["allowed"], &kept["version"]), (&json!([]), &json!(2)));
}
