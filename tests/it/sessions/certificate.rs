//! Signing in with a certificate.

use chrono::TimeDelta;
use rcgen::{CertificateParams, SanType, date_time_ymd};
use serde_json::{Value, json};
use tenantry::{
    isolation::TenantScope,
    members::{Change, Known, Source},
};

use super::{
    POLICY as SESSION_POLICY, Signed,
    ending::{RESUME, SUSPEND},
    factors::{CONFIRM, Device, ENROLL, complete},
    signed, status,
};
use crate::{
    members::{DEACTIVATE, invite, join},
    pki::{
        ADD, POLICY,
        made::{Made, authority, email, place, usual},
        presented::{header, secure, settings, speaker, write_server},
        revocation::{add_list, list},
        trust,
    },
    support::{Answer, Client, Tenant, TestApp},
};

const BY_CERTIFICATE: &str = "mutation($input: SignInByCertificateInput!) { signInByCertificate(input: $input) {
    tokens { accessToken accessExpiresAt refreshToken session { id memberId method amr } } challenge { challenge factor } } }";
const PROXIED: &str = "[tls]\nclient_certificate_proxies = [\"127.0.0.1/32\"]";

/// As a trusted proxy passes a client on, which has shown these certificates.
async fn attempt(app: &TestApp, tenant: &str, chain: &[&Made]) -> Answer {
    let nobody = app.anonymous();
    let body = json!({ "query": BY_CERTIFICATE, "variables": { "input": { "tenant": tenant } } });
    let mut request = nobody.post("/graphql").json(&body);
    if let [own, above @ ..] = chain {
        request = request.header("client-cert", header(own));
        let above: Vec<_> = above.iter().map(|made| header(made)).collect();
        if !above.is_empty() {
            request = request.header("client-cert-chain", above.join(", "));
        }
    }
    nobody.send(request).await
}

async fn by_certificate(app: &TestApp, tenant: &Tenant, chain: &[&Made]) -> Signed {
    let answer = attempt(app, &tenant.slug, chain).await;
    assert_eq!(answer.code(), "none", "{}", answer.text);
    signed(app, tenant, &answer.data()["signInByCertificate"])
}

/// The whole error but for the request's id.
fn told(answer: &Answer) -> Value {
    assert_eq!(answer.code(), "unauthenticated", "{}", answer.text);
    let mut error = answer.body["errors"][0].clone();
    error["extensions"].as_object_mut().unwrap().remove("requestId");
    error
}

fn reason(answer: &Answer) -> String {
    told(answer)["extensions"]["details"]["reason"].as_str().unwrap_or_default().to_owned()
}

/// A tenant that trusts an authority, with a service that may do everything.
async fn trusting(app: &TestApp, slug: &str) -> (Tenant, Client, Made) {
    let (tenant, root) = (app.tenant(slug).await, authority("root", usual));
    let service = app.full_service(&tenant).await;
    trust(&service, &[&root]).await;
    (tenant, service, root)
}

#[tokio::test]
async fn a_member_signs_in_with_the_certificate_of_its_handshake() {
    let (place, issuer) = (place(), authority("server", usual));
    write_server(&place, &issuer, "localhost");
    let app = TestApp::with(&settings(&place, "")).await;
    let (acme, service, root) = trusting(&app, "acme").await;
    let sub = root.authority("sub", usual);
    let alice = join(&app, &service, "Alice@acme.example", &["viewer"]).await;
    let secure = secure(&app).await;
    let ask = async |own: Option<&[&Made]>| -> Value {
        let body = json!({ "query": BY_CERTIFICATE, "variables": { "input": { "tenant": "acme" } } });
        let url = format!("https://localhost:{}/graphql", secure.address.port());
        speaker(&issuer, own).post(url).json(&body).send().await.unwrap().json().await.unwrap()
    };
    let certificate = sub.leaf("alice", usual);
    let answer = ask(Some(&[&certificate, &sub])).await;
    let payload = &answer["data"]["signInByCertificate"];
    let session = &payload["tokens"]["session"];
    assert_eq!((&session["method"], &session["amr"]), (&json!("CERTIFICATE"), &json!(["swk"])), "{answer}");
    let signed = signed(&app, &acme, payload);
    assert_eq!((signed.member.clone(), status(&signed.client).await), (alice, 200));
    super::refresh(&app, &acme, &signed.refresh_token).await;
    for (own, told) in [
        (None, "MISSING"),
        (Some(&[&certificate][..]), "UNTRUSTED"), // nothing leads from it to the authority
        (Some(&[&sub.leaf("bob", usual), &sub][..]), "UNTRUSTED"),
        (Some(&[&authority("root", usual).leaf("alice", usual)][..]), "UNTRUSTED"),
    ] {
        let answer = ask(own).await;
        let error = &answer["errors"][0]["extensions"];
        assert_eq!(
            (&error["code"], &error["details"]["reason"]),
            (&json!("unauthenticated"), &json!(told)),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_trusted_proxys_header_signs_in_and_nobody_elses() {
    let app = TestApp::with(PROXIED).await;
    let (acme, service, root) = trusting(&app, "acme").await;
    let alice = join(&app, &service, "alice@acme.example", &["viewer"]).await;
    let sub = root.authority("sub", usual);
    let (certificate, by_root) = (sub.leaf("alice", usual), root.leaf("alice", usual));
    let signed = by_certificate(&app, &acme, &[&certificate, &sub]).await;
    assert_eq!((signed.member.clone(), status(&signed.client).await), (alice, 200));
    by_certificate(&app, &acme, &[&by_root]).await;
    assert_eq!(reason(&attempt(&app, "acme", &[]).await), "MISSING");
    for rules in ["", "[tls]\nclient_certificate_proxies = [\"10.0.0.0/8\"]"] {
        let other = app.replica(rules).await;
        assert_eq!(reason(&attempt(&other, "acme", &[&by_root]).await), "MISSING", "{rules}");
    }
}

#[tokio::test]
async fn who_is_refused_learns_of_its_own_certificate_and_nothing_of_the_tenant() {
    let app = TestApp::with(PROXIED).await;
    let (acme, service, root) = trusting(&app, "acme").await;
    let (other, there, _) = trusting(&app, "other").await;
    join(&app, &service, "alice@acme.example", &["viewer"]).await;
    let gone = join(&app, &service, "gone@acme.example", &["viewer"]).await;
    service.ok(DEACTIVATE, json!({ "input": { "id": gone } })).await;
    invite(&service, "invited@acme.example", &["viewer"]).await;
    join(&app, &there, "theirs@acme.example", &["viewer"]).await;
    let over = |made: &mut CertificateParams| made.not_after = date_time_ymd(2025, 6, 1);
    let to_come = |made: &mut CertificateParams| made.not_before = date_time_ymd(2090, 1, 1);
    // A stranger, whose authority has the name of the one that is trusted, or another.
    let (forger, stranger) = (authority("root", usual), authority("stranger", usual));
    let revoked = root.leaf("alice", usual);
    add_list(&service, list(&root, &[&revoked], (2025, 2094))).await;
    for (made, expected) in [
        (root.leaf("alice", over), "EXPIRED"),
        (stranger.leaf("alice", over), "EXPIRED"),
        (root.leaf("alice", to_come), "NOT_YET_VALID"),
        (revoked, "REVOKED"),
    ] {
        let answer = attempt(&app, "acme", &[&made]).await;
        assert_eq!(reason(&answer), expected, "{}", answer.text);
    }
    let unknown = told(&attempt(&app, "acme", &[&stranger.leaf("alice", usual)]).await);
    assert_eq!(unknown["extensions"]["details"]["reason"], "UNTRUSTED");
    let without = |made: &mut CertificateParams| made.subject_alt_names.clear();
    let no_client = |made: &mut CertificateParams| made.extended_key_usages.clear();
    let two = |made: &mut CertificateParams| {
        made.subject_alt_names = vec![email("alice@acme.example"), email("bob@acme.example")];
    };
    // Without the mark of its authority's key the signature is looked at.
    let unmarked = |made: &mut CertificateParams| made.use_authority_key_identifier_extension = false;
    for (what, tenant, made) in [
        ("an authority of the same name", "acme", forger.leaf("alice", usual)),
        ("a signature of somebody else", "acme", forger.leaf("alice", unmarked)),
        ("nobody's", "acme", root.leaf("nobody", usual)),
        ("who is deactivated", "acme", root.leaf("gone", usual)),
        ("who has not come", "acme", root.leaf("invited", usual)),
        ("a member of another tenant", "acme", root.leaf("theirs", usual)),
        ("the authority of another tenant", &*other.slug, root.leaf("theirs", usual)),
        ("a tenant that there is not", "nowhere", root.leaf("alice", usual)),
        ("a name that none is", "no\0where", root.leaf("alice", usual)),
        ("without a name", "acme", root.leaf("alice", without)),
        ("with two", "acme", root.leaf("alice", two)),
        ("an authority's own", "acme", root.authority("sub", usual)),
    ] {
        assert_eq!(told(&attempt(&app, tenant, &[&made]).await), unknown, "{what}");
    }
    // Without restriction to servers or clients it is good for both.
    by_certificate(&app, &acme, &[&root.leaf("alice", no_client)]).await;
    // Operators see each, with its reason.
    for outcome in [
        "ok",
        "expired",
        "not_yet_valid",
        "revoked",
        "untrusted",
        "bad_signature",
        "unknown_member",
        "inactive_member",
        "not_mapped",
    ] {
        let line = format!("tenantry_certificate_sign_ins_total{{outcome=\"{outcome}\"}}");
        assert!(app.metric(&line).await.is_some_and(|count| count >= 1.0), "{outcome}");
    }
    // What is no certificate at all.
    let nobody = app.anonymous();
    let body = json!({ "query": BY_CERTIFICATE, "variables": { "input": { "tenant": "acme" } } });
    let rubbish = nobody.post("/graphql").json(&body).header("client-cert", ":AQID:");
    assert_eq!(reason(&nobody.send(rubbish).await), "MALFORMED");
    // What is revoked while somebody has a session keeps out of the next one; the authority that is taken away, too.
    let ids =
        service.ok("{ trustAnchors { edges { node { id } } } }", json!({})).await["trustAnchors"]["edges"].clone();
    let remove = "mutation($id: ID!) { removeTrustAnchor(input: {id: $id}) { __typename } }";
    service.ok(remove, json!({ "id": ids[0]["node"]["id"] })).await;
    assert_eq!(told(&attempt(&app, "acme", &[&root.leaf("alice", usual)]).await), unknown);
}

#[tokio::test]
async fn an_id_of_a_source_names_the_one_member_who_has_it() {
    let app = TestApp::with(PROXIED).await;
    let (acme, service, root) = trusting(&app, "acme").await;
    let rule = json!({ "source": "SAN_URI", "target": "EXTERNAL_ID", "prefix": "spiffe://acme.example/" });
    let policy = json!({ "revocation": "SOFT_FAIL", "mapping": [rule] });
    service.ok(POLICY, json!({ "input": policy })).await;
    let make = async |source: Source, id: &str, address: &str| {
        let known = Known {
            external_id: id.to_owned(),
            email: address.to_owned(),
            name: String::new(),
            roles: vec!["viewer".to_owned()],
        };
        let scope = TenantScope::system("test", acme.id);
        let seats = app.app.members.take_seats(&scope, 1).await.unwrap();
        let tx = app.app.isolation.begin(&scope).await.unwrap();
        let applied = app.app.members.apply(&tx, source, &[Change::Create(known)], &seats).await.unwrap();
        assert_eq!(applied.created, 1);
        tx.commit(applied.entries).await.unwrap();
        app.app.members.applied(acme.id).await;
    };
    let named = |id: &str| {
        let uri = SanType::URI(format!("spiffe://acme.example/{id}").try_into().unwrap());
        root.leaf("service", |made| made.subject_alt_names = vec![uri])
    };
    make(Source::Scim, "one", "one@example.com").await;
    make(Source::Scim, "both", "both@example.com").await;
    make(Source::Directory, "both", "other@example.com").await;
    by_certificate(&app, &acme, &[&named("one")]).await;
    for id in ["both", "ONE", "none"] {
        assert_eq!(reason(&attempt(&app, "acme", &[&named(id)]).await), "UNTRUSTED", "{id}");
    }
    let line = "tenantry_certificate_sign_ins_total{outcome=\"ambiguous_member\"}";
    assert!(app.metric(line).await.is_some_and(|count| count >= 1.0));
}

#[tokio::test]
async fn network_suspension_and_second_factors_hold_as_for_anybody_else() {
    let app = TestApp::with(PROXIED).await;
    let (acme, service, root) = trusting(&app, "acme").await;
    join(&app, &service, "alice@acme.example", &["viewer"]).await;
    let (alice, admin) = (root.leaf("alice", usual), app.admin().await);
    let fence = async |allowed: Value| {
        let set =
            "mutation($input: SetNetworkRulesInput!) { setNetworkRules(input: $input) { networkRules { version } } }";
        admin.ok(set, json!({ "input": { "tenantId": acme.id, "allowed": allowed } })).await;
    };
    fence(json!([{ "name": "office", "network": "203.0.113.0/24" }])).await;
    assert_eq!(attempt(&app, "acme", &[&alice]).await.code(), "forbidden");
    fence(json!([])).await;
    admin.ok(SUSPEND, json!({ "id": acme.id })).await;
    assert_eq!(attempt(&app, "acme", &[&alice]).await.code(), "tenant_suspended");
    assert_eq!(reason(&attempt(&app, "acme", &[&root.leaf("nobody", usual)]).await), "UNTRUSTED");
    admin.ok(RESUME, json!({ "id": acme.id })).await;
    by_certificate(&app, &acme, &[&alice]).await;

    let service = app.full_service(&acme).await; // the suspension has ended the one before
    service.ok(SESSION_POLICY, json!({ "input": { "multiFactor": "REQUIRED" } })).await;
    let challenge = async || {
        let answer = attempt(&app, "acme", &[&alice]).await.data()["signInByCertificate"].clone();
        assert!(answer["tokens"].is_null(), "{answer}");
        answer["challenge"].clone()
    };
    let asked = challenge().await;
    assert_eq!(asked["factor"], "TOTP_ENROLLMENT");
    let nobody = app.anonymous();
    let made = nobody.ok(ENROLL, json!({ "input": { "challenge": asked["challenge"] } })).await["enrollTotp"].clone();
    let device = Device::of(&made["secret"]);
    let confirm = json!({ "challenge": asked["challenge"], "code": device.code(&app, 0) });
    let confirmed = nobody.ok(CONFIRM, json!({ "input": confirm })).await["confirmTotp"].clone();
    assert_eq!(confirmed["tokens"]["session"]["amr"], json!(["otp", "swk", "mfa"]));
    app.advance(TimeDelta::seconds(60));
    let asked = challenge().await;
    assert_eq!(asked["factor"], "TOTP");
    let done = complete(&app, &asked, &device.code(&app, 0)).await;
    assert_eq!(status(&signed(&app, &acme, &done.data()["completeSignIn"]).client).await, 200);
}

#[tokio::test]
async fn whose_certificates_sign_in_is_not_for_who_may_do_less_than_a_member_to_say() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let service = app.full_service(&acme).await;
    let few = crate::pki::service(&app, &acme).await;
    let (root, next) = (authority("root", usual), authority("next", usual));
    trust(&few, &[&root]).await; // there is nobody yet to be
    join(&app, &service, "anna@example.com", &["owner"]).await;
    let admin = tenantry::members::Shipped::find("admin").unwrap().scopes().to_string();
    for client in [&few, &app.service(&acme, &admin).await] {
        let add = json!({ "input": { "pem": next.pem() } });
        assert_eq!(client.refused(ADD, add).await, "forbidden");
        assert_eq!(client.refused(POLICY, json!({ "input": { "revocation": "OFF" } })).await, "forbidden");
    }
    trust(&service, &[&next]).await;
    service.ok(POLICY, json!({ "input": { "revocation": "OFF" } })).await;
}
