//! Signing in, and what a session is worth.

mod certificate;
mod directory;
mod ending;
pub mod factors;
mod policy;
mod refresh;
mod requests;
mod throttle;

use serde_json::{Value, json};

use crate::{
    members::{PASSWORD, join},
    support::{Answer, Client, Tenant, TestApp},
};

pub const SIGN_IN: &str = "mutation($input: SignInInput!) { signIn(input: $input) {
    tokens { accessToken accessExpiresAt refreshToken session { id memberId method amr idleAt expiresAt } } challenge { challenge factor } } }";
pub const REFRESH: &str = "mutation($input: RefreshSessionInput!) { refreshSession(input: $input) {
    tokens { accessToken accessExpiresAt refreshToken session { id idleAt expiresAt } } } }";
const SIGN_OUT: &str = "mutation { signOut { session { id endReason } } }";
const END: &str = "mutation($input: EndSessionInput!) { endSession(input: $input) { session { id endReason } } }";
const SESSIONS: &str =
    "query($id: ID, $member: ID) { sessions(tenantId: $id, memberId: $member) { edges { node { id memberId } } } }";
const POLICY: &str =
    "mutation($input: SetSessionPolicyInput!) { setSessionPolicy(input: $input) { policy { version multiFactor } } }";
const VIEWER: &str = "{ viewer { subject kind scopes tenantId } }";

/// Somebody with a session.
pub struct Signed {
    pub client: Client,
    pub refresh_token: String,
    pub session: String,
    pub member: String,
}

/// What signing in answers.
pub async fn try_sign_in(client: &Client, tenant: &str, email: &str, password: &str) -> Answer {
    let input = json!({ "tenant": tenant, "email": email, "password": password });
    client.graphql(SIGN_IN, json!({ "input": input })).await
}

pub fn signed(app: &TestApp, tenant: &Tenant, payload: &Value) -> Signed {
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("no session: {payload}")).to_owned();
    let tokens = &payload["tokens"];
    let token = text(&tokens["accessToken"]);
    Signed {
        client: Client::new(app.url(""), Some(token), Some(tenant.id), app.canaries.clone()),
        refresh_token: text(&tokens["refreshToken"]),
        session: text(&tokens["session"]["id"]),
        member: tokens["session"]["memberId"].as_str().unwrap_or_default().to_owned(),
    }
}

pub async fn sign_in(app: &TestApp, tenant: &Tenant, email: &str) -> Signed {
    let answer = try_sign_in(&app.anonymous(), &tenant.slug, email, PASSWORD).await;
    assert_eq!(answer.code(), "none", "{}", answer.text);
    signed(app, tenant, &answer.data()["signIn"])
}

/// A member that has joined and signed in.
pub async fn member(app: &TestApp, tenant: &Tenant, email: &str, roles: &[&str]) -> Signed {
    let service = app.full_service(tenant).await;
    join(app, &service, email, roles).await;
    sign_in(app, tenant, email).await
}

async fn try_refresh(app: &TestApp, token: &str) -> Answer {
    app.anonymous().graphql(REFRESH, json!({ "input": { "refreshToken": token } })).await
}

async fn refresh(app: &TestApp, tenant: &Tenant, token: &str) -> Signed {
    let answer = try_refresh(app, token).await;
    assert_eq!(answer.code(), "none", "{}", answer.text);
    signed(app, tenant, &answer.data()["refreshSession"])
}

/// The same session at another server.
fn at(signed: &Signed, other: &TestApp, tenant: &Tenant) -> Client {
    Client::new(other.url(""), signed.client.token().map(str::to_owned), Some(tenant.id), other.canaries.clone())
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

#[tokio::test]
async fn a_member_signs_in_and_is_asked_like_a_service() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let anna = member(&app, &acme, "anna@example.com", &["viewer"]).await;
    let viewer = anna.client.ok(VIEWER, json!({})).await["viewer"].clone();
    assert_eq!((&viewer["kind"], &viewer["subject"]), (&json!("MEMBER"), &json!(anna.member)));
    assert_eq!(viewer["tenantId"], json!(acme.id));
    anna.client.ok("{ members { edges { node { email } } } tenant { name } }", json!({})).await;
    let rename = "mutation($id: ID!) { updateTenant(input: {id: $id, name: \"x\"}) { tenant { name } } }";
    assert_eq!(anna.client.refused(rename, json!({ "id": acme.id })).await, "forbidden");
    let other = app.tenant("other").await;
    let tenant = "query($id: ID) { tenant(id: $id) { name } }";
    assert_eq!(anna.client.ok(tenant, json!({ "id": other.id })).await["tenant"], json!(null));
    // By its id as well as by its slug, and whatever the case of the address.
    let by_id = try_sign_in(&app.anonymous(), &acme.id.to_string(), "ANNA@example.com", PASSWORD).await;
    assert!(by_id.data()["signIn"]["tokens"]["session"]["amr"] == json!(["pwd"]), "{}", by_id.text);
    // Its own doing is in the journal under its name.
    let audit = "{ audit(first: 20) { edges { node { event actor { kind name } } } } }";
    let entries = app.full_service(&acme).await.ok(audit, json!({})).await["audit"]["edges"].clone();
    let began =
        entries.as_array().unwrap().iter().find(|edge| edge["node"]["event"] == "SessionBegan").unwrap().clone();
    assert_eq!(began["node"]["actor"], json!({ "kind": "MEMBER", "name": anna.member }));
}

#[tokio::test]
async fn whatever_is_wrong_the_answer_is_the_same() {
    let app = TestApp::start().await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    let service = app.full_service(&acme).await;
    join(&app, &service, "anna@example.com", &["viewer"]).await;
    let invited = crate::members::invite(&service, "invited@example.com", &["viewer"]).await;
    let gone = join(&app, &service, "gone@example.com", &["viewer"]).await;
    service.ok(crate::members::DEACTIVATE, json!({ "input": { "id": gone } })).await;
    let told = async |tenant: &str, email: &str, password: &str| {
        let answer = try_sign_in(&app.anonymous(), tenant, email, password).await;
        let mut error = answer.body["errors"][0].clone();
        error["extensions"].as_object_mut().unwrap().remove("requestId");
        (answer.status, error)
    };
    let wrong = told("acme", "anna@example.com", "another sentence").await;
    assert_eq!(wrong.1["extensions"]["code"], "unauthenticated");
    for (tenant, email, password) in [
        ("acme", "nobody@example.com", PASSWORD),
        ("acme", "gone@example.com", PASSWORD),
        ("acme", "invited@example.com", PASSWORD),
        ("acme", "anna@example.com", ""),
        ("acme", "anna@example.com", "\0"),
        (&other.slug, "anna@example.com", PASSWORD),
        ("nowhere", "anna@example.com", PASSWORD),
        (&invited.id, "anna@example.com", PASSWORD),
        ("00000000-0000-0000-0000-000000000000", "anna@example.com", PASSWORD),
    ] {
        assert_eq!(told(tenant, email, password).await, wrong, "{tenant} {email} {password}");
    }
    assert_eq!(told("acme", "no address", PASSWORD).await.1["extensions"]["field"], "email");
}

/// Median times of a wrong password, an account that there is not, and a tenant that there is not, at the cost of a real server.
#[tokio::test]
async fn an_account_that_there_is_not_takes_as_long_as_a_wrong_password() {
    let app = TestApp::with("members.hashing_memory_kib = 19456\nmembers.hashing_iterations = 2").await;
    let acme = app.tenant("acme").await;
    join(&app, &app.full_service(&acme).await, "anna@example.com", &["viewer"]).await;
    let median = async |tenant: &str, email: &str| {
        let mut times = Vec::new();
        for _ in 0..5 {
            let began = std::time::Instant::now();
            assert_eq!(
                try_sign_in(&app.anonymous(), tenant, email, "another sentence").await.code(),
                "unauthenticated"
            );
            times.push(began.elapsed().as_micros());
        }
        times.sort_unstable();
        times[2]
    };
    let wrong = median("acme", "anna@example.com").await;
    for (tenant, email) in [("acme", "nobody@example.com"), ("nowhere", "anna@example.com")] {
        let other = median(tenant, email).await;
        println!("a wrong password takes {wrong} us, {tenant} {email} {other} us");
        assert!(other * 3 > wrong && other < wrong * 3, "{wrong} {other}");
    }
}
