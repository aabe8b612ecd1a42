//! OAuth 2.0 for services: clients, the token endpoint, introspection, revocation, metadata.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Client, Tenant, TestApp};

const CREATE: &str = "mutation($input: CreateOAuthClientInput!) { createOAuthClient(input: $input) { secret client { id scopes roles tenantId } } }";

struct Credentials {
    id: String,
    secret: String,
}

async fn client_of(app: &TestApp, tenant: &Tenant, scopes: &[&str]) -> Credentials {
    let service = app.full_service(tenant).await;
    let made =
        service.ok(CREATE, json!({ "input": { "name": "worker", "scopes": scopes } })).await["createOAuthClient"]
            .clone();
    Credentials {
        id: made["client"]["id"].as_str().unwrap().to_owned(),
        secret: made["secret"].as_str().unwrap().to_owned(),
    }
}

async fn form(client: &Client, path: &str, credentials: &Credentials, fields: &[(&str, &str)]) -> Answer {
    let body: String = url_encoded(fields);
    let request = client.request(Method::POST, path).basic_auth(&credentials.id, Some(&credentials.secret));
    client.send(request.header("content-type", "application/x-www-form-urlencoded").body(body)).await
}

fn url_encoded(fields: &[(&str, &str)]) -> String {
    let encode = |text: &str| {
        text.bytes()
            .map(|byte| if byte.is_ascii_alphanumeric() { (byte as char).to_string() } else { format!("%{byte:02X}") })
            .collect::<String>()
    };
    fields.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect::<Vec<_>>().join("&")
}

async fn token(app: &TestApp, credentials: &Credentials, fields: &[(&str, &str)]) -> Answer {
    let all: Vec<_> = [("grant_type", "client_credentials")].into_iter().chain(fields.iter().copied()).collect();
    form(&app.anonymous(), "/oauth/token", credentials, &all).await
}

#[tokio::test]
async fn a_client_gets_a_token_for_what_it_may_and_not_for_more() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let credentials = client_of(&app, &tenant, &["auth:tenant:read", "auth:audit:read"]).await;
    let granted = token(&app, &credentials, &[]).await;
    assert_eq!(
        (granted.status, &granted.body["token_type"], &granted.body["expires_in"]),
        (200, &json!("Bearer"), &json!(900)),
        "{}",
        granted.text
    );
    assert_eq!(granted.headers["cache-control"], "no-store");
    let service =
        app.service(&tenant, "auth:tenant:read").await.with_token(granted.body["access_token"].as_str().unwrap());
    assert_eq!(
        service.ok("{ viewer { scopes tenantId } }", json!({})).await["viewer"]["scopes"],
        json!(["auth:tenant:read", "auth:audit:read"])
    );
    let less = token(&app, &credentials, &[("scope", "auth:tenant:read")]).await;
    assert_eq!(less.body["scope"], "auth:tenant:read");
    let more = token(&app, &credentials, &[("scope", "auth:tenant:read auth:tenant:write")]).await;
    assert_eq!((more.status, &more.body["error"]), (400, &json!("invalid_scope")));
}

#[tokio::test]
async fn an_unknown_client_and_a_wrong_secret_get_the_same_answer() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let good = client_of(&app, &tenant, &["auth:tenant:read"]).await;
    let wrong = token(
        &app,
        &Credentials { secret: "x".repeat(43), ..Credentials { id: good.id.clone(), secret: String::new() } },
        &[],
    )
    .await;
    let unknown =
        token(&app, &Credentials { id: uuid::Uuid::nil().to_string(), secret: good.secret.clone() }, &[]).await;
    assert_eq!((wrong.status, &wrong.body["error"]), (401, &json!("invalid_client")));
    assert_eq!((wrong.status, &wrong.body), (unknown.status, &unknown.body));
    assert!(wrong.headers.contains_key("www-authenticate"));
    let grant = form(&app.anonymous(), "/oauth/token", &good, &[("grant_type", "password")]).await;
    assert_eq!((grant.status, &grant.body["error"]), (400, &json!("unsupported_grant_type")));
}

#[tokio::test]
async fn a_revoked_token_is_worth_nothing_on_any_replica() {
    let app = TestApp::start().await;
    let replica = app.replica("").await;
    let tenant = app.tenant("acme").await;
    let credentials = client_of(&app, &tenant, &["auth:tenant:read"]).await;
    let access = token(&app, &credentials, &[]).await.body["access_token"].as_str().unwrap().to_owned();
    let here = app.service(&tenant, "auth:tenant:read").await.with_token(&access);
    let there = Client::new(replica.url(""), Some(access.clone()), Some(tenant.id), app.canaries.clone());
    for client in [&here, &there] {
        client.ok("{ tenant { slug } }", json!({})).await;
    }
    let active = form(&app.anonymous(), "/oauth/introspect", &credentials, &[("token", &access)]).await;
    assert_eq!(
        (&active.body["active"], &active.body["tenant_id"]),
        (&json!(true), &json!(tenant.id)),
        "{}",
        active.text
    );
    assert_eq!(form(&app.anonymous(), "/oauth/revoke", &credentials, &[("token", &access)]).await.status, 200);
    assert_eq!(here.refused("{ tenant { slug } }", json!({})).await, "unauthenticated");
    for attempt in 0.. {
        if there.graphql("{ tenant { slug } }", json!({})).await.status == 401 {
            break;
        }
        assert!(attempt < 50, "the replica still takes a revoked token");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let inactive = form(&app.anonymous(), "/oauth/introspect", &credentials, &[("token", &access)]).await;
    assert_eq!(inactive.body, json!({ "active": false }));
}

#[tokio::test]
async fn a_disabled_clients_tokens_die_with_it() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let credentials = client_of(&app, &tenant, &["auth:tenant:read"]).await;
    let access = token(&app, &credentials, &[]).await.body["access_token"].as_str().unwrap().to_owned();
    let disable = "mutation($id: ID!) { disableOAuthClient(input: {id: $id}) { client { disabledAt } } }";
    app.full_service(&tenant).await.ok(disable, json!({ "id": credentials.id })).await;
    assert_eq!(
        app.service(&tenant, "auth:tenant:read")
            .await
            .with_token(access)
            .refused("{ tenant { slug } }", json!({}))
            .await,
        "unauthenticated"
    );
    assert_eq!(token(&app, &credentials, &[]).await.body["error"], "invalid_client");
}

#[tokio::test]
async fn a_suspended_tenants_clients_get_no_tokens_once_it_has_drained() {
    let app = TestApp::start().await;
    let (tenant, admin) = (app.tenant("acme").await, app.admin().await);
    let credentials = client_of(&app, &tenant, &["auth:tenant:read"]).await;
    let suspend =
        "mutation($id: ID!) { suspendTenant(input: {id: $id, mode: GRACEFUL, reason: BILLING}) { tenant { status } } }";
    admin.ok(suspend, json!({ "id": tenant.id })).await;
    assert_eq!(token(&app, &credentials, &[]).await.status, 200, "still draining");
    app.advance(chrono::TimeDelta::minutes(6));
    let refused = token(&app, &credentials, &[]).await;
    assert!(refused.status >= 400 && refused.text.contains("tenant_suspended"), "{}", refused.text);
}

#[tokio::test]
async fn nobody_gives_a_client_more_than_he_has_and_a_secret_is_shown_once() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let small = app.service(&tenant, "auth:client:write auth:tenant:read").await;
    let input = |scopes: Value| json!({ "input": { "name": "worker", "scopes": scopes } });
    assert!(
        ["forbidden", "invalid_input"]
            .contains(&small.refused(CREATE, input(json!(["auth:tenant:write"]))).await.as_str())
    );
    assert!(
        ["forbidden", "invalid_input"]
            .contains(&small.refused(CREATE, input(json!(["auth:lifecycle:write"]))).await.as_str())
    );
    let first = small.graphql_once("once", CREATE, input(json!(["auth:tenant:read"]))).await;
    let again = small.graphql_once("once", CREATE, input(json!(["auth:tenant:read"]))).await;
    let (first, again) = (&first.body["data"]["createOAuthClient"], &again.body["data"]["createOAuthClient"]);
    assert_eq!((&first["client"], &again["secret"]), (&again["client"], &Value::Null));
    let secret = first["secret"].as_str().unwrap();
    let audited = app
        .admin()
        .await
        .ok(
            "query($id: ID) { audit(tenantId: $id) { edges { node { event before after } } } }",
            json!({ "id": tenant.id }),
        )
        .await;
    assert!(audited.to_string().contains("OAuthClientCreated") && !audited.to_string().contains(secret), "{audited}");
}

#[tokio::test]
async fn the_metadata_says_where_everything_is() {
    let app = TestApp::start().await;
    let metadata = app.anonymous().get("/.well-known/oauth-authorization-server").await;
    assert_eq!(metadata.status, 200);
    assert_eq!(metadata.body["issuer"], "http://tenantry.test");
    for (member, path) in [
        ("token_endpoint", "/oauth/token"),
        ("jwks_uri", "/.well-known/jwks.json"),
        ("introspection_endpoint", "/oauth/introspect"),
        ("revocation_endpoint", "/oauth/revoke"),
    ] {
        assert_eq!(metadata.body[member], json!(format!("http://tenantry.test{path}")));
    }
}
