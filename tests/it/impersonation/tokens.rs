//! An impersonator's token, as it is written and as others see it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use super::{END, OPERATOR, begin, begin_with, status};
use crate::support::{Client, Tenant, TestApp};

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// The token with other claims, under the signature that it had.
fn changed(token: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut claims = part(token, 1);
    change(&mut claims);
    let parts: Vec<_> = token.split('.').collect();
    format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims.to_string()), parts[2])
}

/// Who asks introspection: a client of the tenant.
struct Asker {
    client: Client,
    id: Value,
    secret: Value,
}

impl Asker {
    async fn new(app: &TestApp, tenant: &Tenant) -> Self {
        let create = "mutation { createOAuthClient(input: {name: \"x\", scopes: [\"auth:tenant:read\"]}) { client { id } secret } }";
        let made = app.full_service(tenant).await.ok(create, json!({})).await["createOAuthClient"].clone();
        let client = Client::new(app.url(""), None, Some(tenant.id), app.canaries.clone());
        Self { client, id: made["client"]["id"].clone(), secret: made["secret"].clone() }
    }

    async fn told(&self, token: &str) -> Value {
        let form = [
            ("client_id", self.id.as_str().unwrap()),
            ("client_secret", self.secret.as_str().unwrap()),
            ("token", token),
        ];
        self.client.send(self.client.post("/oauth/introspect").form(&form)).await.body
    }
}

#[tokio::test]
async fn the_token_says_who_acts_and_introspection_tells_until_it_has_ended() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    let asker = Asker::new(&app, &acme).await;
    let more = json!({ "seconds": 120, "scopes": ["auth:tenant:read", "auth:quota:read"] });
    let inside = begin_with(&app, &admin, &acme, more).await;
    let token = inside.client.token().unwrap();
    let claims = part(token, 1);
    // RFC 8693, section 4.1: the subject is not who acts, and who acts is named by `act` and its `sub`.
    assert_eq!(claims["act"], json!({ "sub": OPERATOR }));
    assert_eq!((&claims["sub"], &claims["sid"]), (&json!(inside.id), &json!(inside.id)));
    assert_eq!((&claims["tenant_id"], &claims["epoch"]), (&json!(acme.id), &json!(1)));
    assert_eq!((&claims["roles"], &claims["scope"]), (&json!([]), &json!("auth:tenant:read auth:quota:read")));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 120);
    assert_eq!(part(token, 0)["alg"], "RS256");
    let told = asker.told(token).await;
    assert_eq!((&told["active"], &told["act"], &told["scope"]), (&json!(true), &claims["act"], &claims["scope"]));
    let other = Asker::new(&app, &app.tenant("other").await).await;
    assert_eq!(other.told(token).await, json!({ "active": false }));
    let replica = app.replica("").await;
    let there = Asker { client: super::at(&asker.client, &replica, &acme), ..Asker::new(&app, &acme).await };
    assert_eq!(there.told(token).await["active"], true);
    admin.ok(END, json!({ "input": { "tenantId": acme.id, "id": inside.id } })).await;
    assert_eq!(asker.told(token).await, json!({ "active": false }));
    assert_eq!(there.told(token).await, json!({ "active": false }));
}

#[tokio::test]
async fn a_token_that_was_changed_is_none() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let inside = begin(&app, &app.admin().await, &acme).await.client;
    let (token, service) = (inside.token().unwrap(), app.service_token(&acme, "auth:tenant:read").await);
    assert_eq!(status(&inside).await, 200);
    let without = |name: &'static str| move |claims: &mut Value| drop(claims.as_object_mut().unwrap().remove(name));
    for forged in [
        changed(token, without("act")),
        changed(token, without("sid")),
        changed(token, without("tenant_id")),
        changed(token, |claims| claims["act"]["sub"] = json!("somebody else")),
        changed(token, |claims| claims["exp"] = json!(claims["exp"].as_i64().unwrap() + 60)),
        changed(&service, |claims| claims["act"] = json!({ "sub": OPERATOR })),
    ] {
        assert_eq!(status(&inside.with_token(forged)).await, 401);
    }
}

#[tokio::test]
async fn a_token_of_what_is_not_there_is_worth_nothing() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    let inside = begin(&app, &admin, &acme).await;
    let asker = Asker::new(&app, &acme).await;
    let superuser = app.database.superuser().await;
    superuser.execute_unprepared("delete from tenantry.impersonations").await.unwrap();
    assert_eq!(status(&inside.client).await, 401);
    assert_eq!(asker.told(inside.client.token().unwrap()).await, json!({ "active": false }));
    // One that was in use is forgotten with the next change.
    let used = begin(&app, &admin, &acme).await;
    assert_eq!(status(&used.client).await, 200);
    superuser.execute_unprepared("delete from tenantry.impersonations").await.unwrap();
    let replica = app.replica("").await;
    assert_eq!(status(&super::at(&used.client, &replica, &acme)).await, 401);
}
