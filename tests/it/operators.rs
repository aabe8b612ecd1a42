//! The people who run the platform: how they come in, what they may do, and how that ends.

use std::sync::Arc;

use chrono::TimeDelta;
use serde_json::{Value, json};
use tenantry::{
    access::{Caller, Role, Scope},
    error::Kind,
    isolation::Conditions,
    members::NewMember,
    operators::enter,
};

use crate::{
    binary::Binary,
    members::PASSWORD,
    sessions::{
        REFRESH, SIGN_IN,
        factors::{COMPLETE, CONFIRM, Device, ENROLL},
    },
    support::{Answer, Client, Received, TestApp},
};

const INVITE: &str = "mutation($input: InviteOperatorInput!) { inviteOperator(input: $input) { operator { id email roles status } token } }";
const ACCEPT: &str =
    "mutation($input: AcceptInvitationInput!) { acceptInvitation(input: $input) { member { id status } } }";
const SIGN_IN_OPERATOR: &str = "mutation($input: SignInOperatorInput!) { signInOperator(input: $input) {
    tokens { accessToken } challenge { challenge factor } } }";
const OPERATORS: &str = "{ operators { edges { node { id email roles status version } } } }";
const SET_ROLES: &str =
    "mutation($input: SetOperatorRolesInput!) { setOperatorRoles(input: $input) { operator { roles version } } }";
const DEACTIVATE: &str =
    "mutation($input: OperatorActionInput!) { deactivateOperator(input: $input) { operator { status } } }";
const REACTIVATE: &str =
    "mutation($input: OperatorActionInput!) { reactivateOperator(input: $input) { operator { status } } }";
const REVOKE: &str = "mutation($input: OperatorActionInput!) { revokeOperatorInvitation(input: $input) { id } }";
const RESEND: &str = "mutation($input: OperatorActionInput!) { resendOperatorInvitation(input: $input) { token } }";
const RESET_TOTP: &str = "mutation($input: OperatorActionInput!) { resetOperatorTotp(input: $input) { id } }";
const PASSWORD_LINK: &str =
    "mutation($input: OperatorActionInput!) { makeOperatorPasswordLink(input: $input) { token } }";
const VIEWER: &str = "{ viewer { subject kind roles scopes tenantId } }";
const TENANTS: &str = "{ tenants { edges { node { id } } } }";

/// An operator with a session, and the device of its second factor.
struct Signed {
    id: String,
    client: Client,
    refresh_token: String,
    device: Device,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

async fn invite(admin: &Client, email: &str, roles: &[&str]) -> (String, String) {
    let invited = admin.ok(INVITE, json!({ "input": { "email": email, "roles": roles } })).await;
    let invited = &invited["inviteOperator"];
    (text(&invited["operator"]["id"]), text(&invited["token"]))
}

async fn try_sign_in(app: &TestApp, email: &str, password: &str) -> Answer {
    let input = json!({ "email": email, "password": password });
    app.anonymous().graphql(SIGN_IN_OPERATOR, json!({ "input": input })).await
}

/// What is asked for besides the password.
async fn challenged(app: &TestApp, email: &str, factor: &str) -> Value {
    let answer = try_sign_in(app, email, PASSWORD).await;
    let payload = &answer.data()["signInOperator"];
    assert!(payload["tokens"].is_null(), "{}", answer.text);
    assert_eq!(payload["challenge"]["factor"], factor);
    payload["challenge"]["challenge"].clone()
}

fn client(app: &TestApp, token: String) -> Client {
    Client::operator(app.url(""), token, app.canaries.clone())
}

/// Invited, accepted, signed in for the first time.
async fn operator(app: &TestApp, email: &str, roles: &[&str]) -> Signed {
    let (id, token) = invite(&app.admin().await, email, roles).await;
    app.anonymous().ok(ACCEPT, json!({ "input": { "token": token, "password": PASSWORD } })).await;
    first(app, &id, email).await
}

/// Sets a second factor up while signing in.
async fn first(app: &TestApp, id: &str, email: &str) -> Signed {
    let challenge = challenged(app, email, "TOTP_ENROLLMENT").await;
    let made = app.anonymous().ok(ENROLL, json!({ "input": { "challenge": challenge } })).await;
    assert!(text(&made["enrollTotp"]["uri"]).starts_with("otpauth://totp/Tenantry:"));
    let device = Device::of(&made["enrollTotp"]["secret"]);
    let input = json!({ "challenge": challenge, "code": device.code(app, 0) });
    let confirmed = app.anonymous().ok(CONFIRM, json!({ "input": input })).await["confirmTotp"].clone();
    assert_eq!(confirmed["recoveryCodes"].as_array().unwrap().len(), 10);
    assert_eq!(confirmed["tokens"]["session"]["amr"], json!(["pwd", "otp", "mfa"]));
    assert_eq!(confirmed["tokens"]["session"]["memberId"], id);
    Signed {
        id: id.to_owned(),
        client: client(app, text(&confirmed["tokens"]["accessToken"])),
        refresh_token: text(&confirmed["tokens"]["refreshToken"]),
        device,
    }
}

#[tokio::test]
async fn an_operator_comes_in_with_a_second_factor_and_never_without() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let (id, before) = invite(&admin, "Anna@example.com", &["SUPPORT"]).await;
    let token = admin.ok(RESEND, json!({ "input": { "id": id } })).await["resendOperatorInvitation"]["token"].clone();
    let old = json!({ "input": { "token": before, "password": PASSWORD } });
    assert_eq!(app.anonymous().refused(ACCEPT, old).await, "not_found", "there is a newer one");
    let (bob, link) = invite(&admin, "bob@example.com", &["SUPPORT"]).await;
    admin.ok(REVOKE, json!({ "input": { "id": bob } })).await;
    let revoked = json!({ "input": { "token": link, "password": PASSWORD } });
    assert_eq!(app.anonymous().refused(ACCEPT, revoked).await, "not_found");
    assert_eq!(try_sign_in(&app, "anna@example.com", PASSWORD).await.code(), "unauthenticated", "not accepted yet");
    let accept = json!({ "input": { "token": token, "password": PASSWORD } });
    app.anonymous().ok(ACCEPT, accept.clone()).await;
    assert_eq!(app.anonymous().refused(ACCEPT, accept).await, "not_found", "it works once");
    for (email, password) in [("anna@example.com", "another password"), ("nobody@example.com", PASSWORD)] {
        assert_eq!(try_sign_in(&app, email, password).await.code(), "unauthenticated", "{email}");
    }
    let anna = first(&app, &id, "anna@example.com").await;
    let viewer = anna.client.ok(VIEWER, json!({})).await["viewer"].clone();
    assert_eq!(viewer["subject"], anna.id);
    assert_eq!(
        (&viewer["kind"], &viewer["roles"], &viewer["tenantId"]),
        (&json!("OPERATOR"), &json!(["support"]), &Value::Null)
    );
    anna.client.ok(TENANTS, json!({})).await;
    // The second time a code is asked for, and each works once.
    let challenge = challenged(&app, "anna@example.com", "TOTP").await;
    let complete = async |code: String| {
        let input = json!({ "challenge": challenge, "code": code });
        app.anonymous().graphql(COMPLETE, json!({ "input": input })).await
    };
    assert_eq!(complete(anna.device.code(&app, 0)).await.code(), "unauthenticated", "it was used");
    app.advance(TimeDelta::seconds(30));
    let answer = complete(anna.device.code(&app, 0)).await;
    let again = client(&app, text(&answer.data()["completeSignIn"]["tokens"]["accessToken"]));
    again.ok(TENANTS, json!({})).await;
    // It cannot be switched off for good.
    app.advance(TimeDelta::seconds(30));
    let disable = "mutation($input: DisableTotpInput!) { disableTotp(input: $input) { memberId } }";
    again.ok(disable, json!({ "input": { "code": anna.device.code(&app, 0) } })).await;
    challenged(&app, "anna@example.com", "TOTP_ENROLLMENT").await;
    // No tenant is a way in.
    let tenant = app.tenant("acme").await;
    for named in [tenant.slug.as_str(), "00000000-0000-0000-0000-000000000000", "platform", ""] {
        let input = json!({ "tenant": named, "email": "anna@example.com", "password": PASSWORD });
        assert_eq!(
            app.anonymous().graphql(SIGN_IN, json!({ "input": input })).await.code(),
            "unauthenticated",
            "{named}"
        );
    }
}

#[tokio::test]
async fn what_an_operator_may_do_follows_its_roles_at_once_on_every_server() {
    let app = TestApp::start().await;
    let replica = app.replica("").await;
    let tenant = app.tenant("acme").await;
    let suspend =
        "mutation($id: ID!) { suspendTenant(input: {id: $id, reason: POLICY, note: \"test\"}) { tenant { status } } }";
    let anna = operator(&app, "anna@example.com", &["SUPPORT"]).await;
    let there = client(&replica, anna.client.token().unwrap().to_owned());
    assert_eq!(there.refused(suspend, json!({ "id": tenant.id })).await, "forbidden");
    assert_eq!(there.refused(OPERATORS, json!({})).await, "forbidden");
    let set = async |roles: Value| {
        app.admin().await.ok(SET_ROLES, json!({ "input": { "id": anna.id, "roles": roles } })).await
    };
    set(json!(["ADMIN"])).await;
    there.ok(OPERATORS, json!({})).await;
    there.ok(suspend, json!({ "id": tenant.id })).await;
    set(json!(["AUDITOR", "BILLING"])).await;
    let viewer = there.ok(VIEWER, json!({})).await["viewer"].clone();
    assert_eq!(viewer["roles"], json!(["auditor", "billing"]));
    assert_eq!(
        there.refused(INVITE, json!({ "input": { "email": "x@example.com", "roles": ["BILLING"] } })).await,
        "forbidden"
    );
    // The tenant's journal names who did it.
    let journal =
        "query($id: ID!) { audit(tenantId: $id, first: 100) { edges { node { event actor { kind name } } } } }";
    let read = app.admin().await.ok(journal, json!({ "id": tenant.id })).await;
    let edges = read["audit"]["edges"].as_array().unwrap();
    let suspended = edges.iter().find(|edge| edge["node"]["event"] == "TenantSuspended").unwrap();
    assert_eq!(suspended["node"]["actor"], json!({ "kind": "OPERATOR", "name": anna.id }));
}

#[tokio::test]
async fn nobody_makes_an_operator_who_may_do_more() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    for role in [Role::Support, Role::Billing, Role::Auditor] {
        let other = app.operator(role).await;
        let input = json!({ "input": { "email": "x@example.com", "roles": ["SUPPORT"] } });
        assert_eq!(other.refused(INVITE, input).await, "forbidden", "{}", role.name());
    }
    // An administrator whose token is made for less.
    let scopes = [Scope::OperatorRead, Scope::OperatorWrite, Scope::TenantRead].into_iter().collect();
    let narrow = Arc::new(Caller { scopes, ..Caller::command_line("narrow") });
    let (id, _) = invite(&admin, "anna@example.com", &["ADMIN"]).await;
    let (members, conditions) = (&app.app.members, Conditions::default());
    let new = NewMember { email: "x@example.com".to_owned(), name: String::new(), roles: vec!["support".to_owned()] };
    let scope = enter(&narrow, "Mutation", "inviteOperator").unwrap();
    assert_eq!(members.invite(&scope, new, &conditions).await.unwrap_err().kind(), Kind::Forbidden);
    let refused = members.revoke_invitation(&scope, id.parse().unwrap(), &conditions).await;
    assert_eq!(refused.unwrap_err().kind(), Kind::Forbidden);
    // Tenants neither see nor make any.
    let tenant = app.tenant("acme").await;
    let service = app.full_service(&tenant).await;
    for (query, input) in
        [(OPERATORS, json!({})), (INVITE, json!({ "input": { "email": "x@example.com", "roles": ["SUPPORT"] } }))]
    {
        assert_eq!(service.refused(query, input).await, "forbidden");
    }
    let nil = "00000000-0000-0000-0000-000000000000";
    let member = "mutation($input: InviteMemberInput!) { inviteMember(input: $input) { member { id } } }";
    for client in [&service, &admin] {
        let input = json!({ "tenantId": nil, "email": "x@example.com", "roles": ["owner"] });
        assert_eq!(client.refused(member, json!({ "input": input })).await, "not_found", "the platform is no tenant");
    }
    for roles in [json!([]), json!(["PLANE"]), json!(["owner"])] {
        let answer = admin.graphql(INVITE, json!({ "input": { "email": "x@example.com", "roles": roles } })).await;
        assert_eq!(answer.code(), "invalid_input", "{roles}");
    }
    assert_eq!(
        admin.refused(INVITE, json!({ "input": { "email": "ANNA@example.com", "roles": ["SUPPORT"] } })).await,
        "conflict"
    );
}

#[tokio::test]
async fn an_operators_access_ends_at_once_on_every_server() {
    let app = TestApp::start().await;
    let replica = app.replica("").await;
    let admin = app.admin().await;
    let anna = operator(&app, "anna@example.com", &["ADMIN"]).await;
    let there = client(&replica, anna.client.token().unwrap().to_owned());
    there.ok(TENANTS, json!({})).await;
    let mut stream = replica.socket(&there).await;
    stream.subscribe("1", "subscription { tenantEvents { entry { event } } }", json!({})).await;
    admin.ok(DEACTIVATE, json!({ "input": { "id": anna.id } })).await;
    assert_eq!(there.refused(TENANTS, json!({})).await, "unauthenticated");
    loop {
        if let Received::Closed { code, .. } = stream.next().await {
            assert_eq!(code, 4403);
            break;
        }
    }
    let refresh = json!({ "input": { "refreshToken": anna.refresh_token } });
    assert_eq!(app.anonymous().refused(REFRESH, refresh.clone()).await, "unauthenticated");
    assert_eq!(try_sign_in(&app, "anna@example.com", PASSWORD).await.code(), "unauthenticated");
    admin.ok(REACTIVATE, json!({ "input": { "id": anna.id } })).await;
    assert_eq!(app.anonymous().refused(REFRESH, refresh).await, "unauthenticated", "what had ended stays so");
    challenged(&app, "anna@example.com", "TOTP").await;
    // A new password ends sessions, too; the second factor stays.
    app.advance(TimeDelta::seconds(60));
    let challenge = challenged(&app, "anna@example.com", "TOTP").await;
    let input = json!({ "challenge": challenge, "code": anna.device.code(&app, 0) });
    let signed = app.anonymous().ok(COMPLETE, json!({ "input": input })).await;
    let again = client(&replica, text(&signed["completeSignIn"]["tokens"]["accessToken"]));
    again.ok(TENANTS, json!({})).await;
    let link = admin.ok(PASSWORD_LINK, json!({ "input": { "id": anna.id } })).await;
    let reset = "mutation($input: ResetPasswordInput!) { resetPassword(input: $input) { member { id } } }";
    let input = json!({ "token": link["makeOperatorPasswordLink"]["token"], "password": PASSWORD });
    app.anonymous().ok(reset, json!({ "input": input })).await;
    assert_eq!(again.refused(TENANTS, json!({})).await, "unauthenticated");
    // Who has lost the device sets up another one.
    challenged(&app, "anna@example.com", "TOTP").await;
    admin.ok(RESET_TOTP, json!({ "input": { "id": anna.id } })).await;
    let anna = first(&app, &anna.id, "anna@example.com").await;
    // Signing out, and the sessions of others.
    let bob = operator(&app, "bob@example.com", &["SUPPORT"]).await;
    let sessions = "{ sessions { edges { node { id memberId } } } }";
    let of = |answer: &Value| {
        let edges = answer["sessions"]["edges"].as_array().unwrap().clone();
        edges.iter().map(|edge| text(&edge["node"]["memberId"])).collect::<Vec<_>>()
    };
    assert_eq!(of(&bob.client.ok(sessions, json!({})).await), std::slice::from_ref(&bob.id), "its own alone");
    let all = anna.client.ok(sessions, json!({})).await;
    assert!(of(&all).contains(&bob.id) && of(&all).contains(&anna.id));
    let ids = all["sessions"]["edges"].as_array().unwrap();
    let id_of =
        |member: &str| ids.iter().find(|edge| edge["node"]["memberId"] == member).unwrap()["node"]["id"].clone();
    let end = "mutation($input: EndSessionInput!) { endSession(input: $input) { session { endReason } } }";
    assert_eq!(bob.client.refused(end, json!({ "input": { "id": id_of(&anna.id) } })).await, "forbidden");
    anna.client.ok(end, json!({ "input": { "id": id_of(&bob.id) } })).await;
    assert_eq!(bob.client.refused(TENANTS, json!({})).await, "unauthenticated");
    anna.client.ok("mutation { signOut { session { endReason } } }", json!({})).await;
    assert_eq!(anna.client.refused(TENANTS, json!({})).await, "unauthenticated");
}

#[tokio::test]
async fn a_session_lasts_as_long_as_the_settings_say_and_no_longer() {
    let app = TestApp::with("[operators]\nsession_length = \"2h\"\nsession_idle = \"20m\"\nmost_sessions = 1").await;
    let anna = operator(&app, "anna@example.com", &["SUPPORT"]).await;
    let refresh =
        async |token: &str| app.anonymous().graphql(REFRESH, json!({ "input": { "refreshToken": token } })).await;
    app.advance(TimeDelta::minutes(19));
    let answer = refresh(&anna.refresh_token).await;
    let next = answer.data()["refreshSession"]["tokens"].clone();
    client(&app, text(&next["accessToken"])).ok(TENANTS, json!({})).await;
    // Shown again much later: two have it.
    app.advance(TimeDelta::minutes(5));
    assert_eq!(refresh(&anna.refresh_token).await.code(), "unauthenticated");
    assert_eq!(refresh(&text(&next["refreshToken"])).await.code(), "unauthenticated", "the session has ended");
    let challenge = challenged(&app, "anna@example.com", "TOTP").await;
    let input = json!({ "challenge": challenge, "code": anna.device.code(&app, 0) });
    let signed = app.anonymous().ok(COMPLETE, json!({ "input": input })).await;
    app.advance(TimeDelta::minutes(21));
    let idle = text(&signed["completeSignIn"]["tokens"]["refreshToken"]);
    assert_eq!(refresh(&idle).await.code(), "unauthenticated", "it was idle");
}

#[tokio::test]
async fn sessions_come_from_where_the_settings_say() {
    let app = TestApp::with(
        "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]\n[operators]\nallowed_networks = [\"203.0.113.0/24\", \"2001:db8::/32\"]",
    )
    .await;
    let (id, token) = invite(&app.admin().await, "anna@example.com", &["SUPPORT"]).await;
    app.anonymous().ok(ACCEPT, json!({ "input": { "token": token, "password": PASSWORD } })).await;
    let from = async |client: &Client, address: &str, query: &str, variables: Value| {
        let request = client.post("/graphql").header("x-forwarded-for", address);
        client.send(request.json(&json!({ "query": query, "variables": variables }))).await
    };
    let anonymous = app.anonymous();
    let password = json!({ "input": { "email": "anna@example.com", "password": PASSWORD } });
    let wrong = json!({ "input": { "email": "anna@example.com", "password": "another password" } });
    assert_eq!(from(&anonymous, "198.51.100.1", SIGN_IN_OPERATOR, wrong).await.code(), "unauthenticated");
    assert_eq!(from(&anonymous, "198.51.100.1", SIGN_IN_OPERATOR, password.clone()).await.code(), "forbidden");
    let answer = from(&anonymous, "203.0.113.9", SIGN_IN_OPERATOR, password).await;
    let challenge = answer.data()["signInOperator"]["challenge"]["challenge"].clone();
    let made = from(&anonymous, "203.0.113.9", ENROLL, json!({ "input": { "challenge": challenge } })).await;
    let device = Device::of(&made.data()["enrollTotp"]["secret"]);
    let input = json!({ "input": { "challenge": challenge, "code": device.code(&app, 0) } });
    let answer = from(&anonymous, "203.0.113.9", CONFIRM, input).await;
    let tokens = answer.data()["confirmTotp"]["tokens"].clone();
    assert_eq!(tokens["session"]["memberId"], id);
    let anna = client(&app, text(&tokens["accessToken"]));
    for (address, code) in [("203.0.113.1", "none"), ("2001:db8::7", "none"), ("198.51.100.1", "forbidden")] {
        assert_eq!(from(&anna, address, TENANTS, json!({})).await.code(), code, "{address}");
    }
    let refresh = json!({ "input": { "refreshToken": tokens["refreshToken"] } });
    assert_eq!(from(&anonymous, "198.51.100.1", REFRESH, refresh.clone()).await.code(), "forbidden");
    assert_eq!(from(&anonymous, "203.0.113.9", REFRESH, refresh).await.code(), "none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_operator_is_invited_from_the_machine() {
    let binary = Binary::private();
    let token = binary.run(&["operator", "invite", "anna@example.com", "--role", "admin"]).await.ok().trim().to_owned();
    let running = binary.serve().await;
    let accept = json!({ "input": { "token": token, "password": PASSWORD } });
    let accepted = running.stranger().ok(ACCEPT, accept).await;
    assert_eq!(accepted["acceptInvitation"]["member"]["status"], "ACTIVE");
    let listed = binary.run(&["operator", "list", "--json"]).await.ok();
    assert!(listed.contains("anna@example.com") && listed.contains("ACTIVE"), "{listed}");
    let bad = binary.run(&["operator", "invite", "bob@example.com", "--role", "owner"]).await;
    assert!(bad.failed().contains("roles[0]"));
    binary.run(&["operator", "deactivate", "Anna@example.com"]).await.ok();
    let listed = binary.run(&["operator", "list"]).await.ok();
    assert!(listed.contains("DEACTIVATED"), "{listed}");
}

#[tokio::test]
async fn what_an_operator_began_inside_a_tenant_goes_on_no_longer_than_its_session() {
    let app = TestApp::start().await;
    let replica = app.replica("").await;
    let (admin, tenant) = (app.admin().await, app.tenant("acme").await);
    let impersonate =
        "mutation($input: ImpersonateInput!) { impersonate(input: $input) { accessToken impersonation { operator } } }";
    let read = "{ tenant { slug } }";
    let write = format!(
        "mutation {{ updateTenant(input: {{id: \"{}\", name: \"other\"}}) {{ tenant {{ name }} }} }}",
        tenant.id
    );
    let running = "query($id: ID!) { impersonations(tenantId: $id) { edges { node { operator running } } } }";
    let input = json!({ "input": { "tenantId": tenant.id, "reason": "T-1: the invoice is wrong" } });
    let inside = async |anna: &Signed| {
        let begun = anna.client.ok(impersonate, input.clone()).await["impersonate"].clone();
        assert_eq!(begun["impersonation"]["operator"], anna.id);
        let token = text(&begun["accessToken"]);
        Client::new(replica.url(""), Some(token), Some(tenant.id), replica.canaries.clone())
    };
    let anna = operator(&app, "anna@example.com", &["ADMIN"]).await;
    let there = inside(&anna).await;
    there.ok(read, json!({})).await;
    there.ok(&write, json!({})).await;
    // Other roles hold inside as well, at once.
    admin.ok(SET_ROLES, json!({ "input": { "id": anna.id, "roles": ["SUPPORT"] } })).await;
    assert_eq!(there.refused(&write, json!({})).await, "forbidden");
    there.ok(read, json!({})).await;
    anna.client.ok("mutation { signOut { session { endReason } } }", json!({})).await;
    assert_eq!(there.refused(read, json!({})).await, "unauthenticated");
    let listed = admin.ok(running, json!({ "id": tenant.id })).await;
    assert_eq!(listed["impersonations"]["edges"][0]["node"], json!({ "operator": anna.id, "running": false }));
    let bob = operator(&app, "bob@example.com", &["SUPPORT"]).await;
    let there = inside(&bob).await;
    let mut stream = replica.socket(&there).await;
    stream.subscribe("1", "subscription { usageAlerts { alert { id } } }", json!({})).await;
    there.ok(read, json!({})).await;
    admin.ok(DEACTIVATE, json!({ "input": { "id": bob.id } })).await;
    assert_eq!(there.refused(read, json!({})).await, "unauthenticated");
    loop {
        if let Received::Closed { code, .. } = stream.next().await {
            assert_eq!(code, 4403);
            break;
        }
    }
}
