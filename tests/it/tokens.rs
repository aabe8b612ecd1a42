//! Bearer tokens as others make them: an external issuer whose key the test holds, and every way to get one wrong.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tenantry::{
    access::{KeyRing, OwnKey, OwnKeys, Role},
    platform::clock::Clock,
};

use crate::support::{Client, Tenant, TestApp, folder};

const ISSUER: &str = "https://idp.example";
const READ: &str = "{ tenant { id slug } }";

/// An issuer of its own, and a server that knows its keys from a file.
struct Issuer {
    ring: KeyRing,
    kid: String,
    pem: String,
    file: std::path::PathBuf,
}

impl Issuer {
    fn new(name: &str) -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let key = OwnKey::generate(2048, Clock::default().now()).unwrap();
        let (kid, der) = (key.kid().to_owned(), key.pkcs8().unwrap());
        let ring = KeyRing::new(ISSUER);
        ring.set_own(OwnKeys { signing: Some(key), ..OwnKeys::default() });
        let body: Vec<_> = STANDARD
            .encode(der.as_slice())
            .as_bytes()
            .chunks(64)
            .map(|line| String::from_utf8(line.to_vec()).unwrap())
            .collect();
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", body.join("\n"));
        let file = folder().join(format!("{name}.jwks.json"));
        std::fs::write(&file, ring.jwks().to_string()).unwrap();
        Self { ring, kid, pem, file }
    }

    fn settings(&self) -> String {
        format!("[[auth.external_issuers]]\nissuer = \"{ISSUER}\"\njwks = \"{}\"\n", self.file.display())
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        self.sign_parts(&part(header), &part(claims))
    }

    /// Signs whatever text the two parts are.
    fn sign_parts(&self, header: &str, claims: &str) -> String {
        let message = format!("{header}.{claims}");
        let key = EncodingKey::from_rsa_pem(self.pem.as_bytes()).unwrap();
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::RS256).unwrap();
        format!("{message}.{signature}")
    }

    fn header(&self) -> Value {
        json!({ "alg": "RS256", "typ": "JWT", "kid": self.kid })
    }
}

fn claims(app: &TestApp, tenant: &Tenant) -> Value {
    let now = app.app.clock.now().timestamp();
    json!({ "iss": ISSUER, "sub": "service", "aud": "tenantry", "iat": now, "nbf": now, "exp": now + 300, "jti": "token-1",
        "scope": "auth:tenant:read", "roles": [], "tenant_id": tenant.id })
}

fn with(base: &Value, key: &str, value: Value) -> Value {
    let mut changed = base.clone();
    changed[key] = value;
    changed
}

fn without(base: &Value, key: &str) -> Value {
    let mut changed = base.clone();
    changed.as_object_mut().unwrap().remove(key);
    changed
}

async fn answer(client: &Client, token: &str) -> (u16, String, String) {
    let answer = client.with_token(token).graphql(READ, json!({})).await;
    let message = answer.body["errors"][0]["message"].as_str().unwrap_or_default().to_owned();
    (answer.status, answer.code().to_owned(), message)
}

#[tokio::test]
async fn an_external_issuers_token_is_as_good_as_an_own_one() {
    let issuer = Issuer::new("external");
    let app = TestApp::with(&issuer.settings()).await;
    let tenant = app.tenant("acme").await;
    let service = app.service(&tenant, "auth:tenant:read").await;
    let token = issuer.sign(&issuer.header(), &claims(&app, &tenant));
    assert_eq!(service.with_token(token).ok(READ, json!({})).await["tenant"]["slug"], "acme");
    let operator = with(&without(&claims(&app, &tenant), "tenant_id"), "roles", json!(["support"]));
    let operator = issuer.sign(&issuer.header(), &with(&operator, "scope", json!("")));
    let viewer = app.admin().await.with_token(operator).ok("{ viewer { kind roles } }", json!({})).await;
    assert_eq!(viewer["viewer"], json!({ "kind": "OPERATOR", "roles": ["support"] }));
}

#[tokio::test]
async fn every_bad_token_gets_the_same_answer() {
    let issuer = Issuer::new("hostile");
    let app = TestApp::with(&issuer.settings()).await;
    let tenant = app.tenant("acme").await;
    let service = app.service(&tenant, "auth:tenant:read").await;
    let (header, good) = (issuer.header(), claims(&app, &tenant));
    let now = app.app.clock.now().timestamp();
    let stranger = Issuer::new("stranger");
    let public = serde_json::to_string(&issuer.ring.jwks()).unwrap();
    let hmac = jsonwebtoken::encode(
        &Header { kid: Some(issuer.kid.clone()), ..Header::new(Algorithm::HS256) },
        &good,
        &EncodingKey::from_secret(public.as_bytes()),
    )
    .unwrap();
    let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let twice = format!("{},\"tenant_id\":\"{}\"}}", good.to_string().trim_end_matches('}'), uuid::Uuid::nil());
    let mut cases: Vec<(String, String)> = vec![
        ("nothing".into(), String::new()),
        ("garbage".into(), "a.b.c".into()),
        ("alg none".into(), format!("{}.{}.", encoded(&with(&header, "alg", json!("none"))), encoded(&good))),
        ("HS256 with the public key".into(), hmac),
        ("another key under the same kid".into(), stranger.sign(&header, &good)),
        ("two parts".into(), "a.b".into()),
        ("tenant twice".into(), issuer.sign_parts(&encoded(&header), &URL_SAFE_NO_PAD.encode(twice))),
        ("8 KiB and more".into(), issuer.sign(&header, &with(&good, "sub", json!("x".repeat(9000))))),
    ];
    for kid in ["unknown", "../../etc/passwd", "http://169.254.169.254/", "' or 1=1 --", ""] {
        cases.push((format!("kid {kid}"), issuer.sign(&with(&header, "kid", json!(kid)), &good)));
    }
    cases.push(("no kid".into(), issuer.sign(&without(&header, "kid"), &good)));
    for (member, value) in [
        ("crit", json!(["exp"])),
        ("jku", json!("https://evil.example/jwks")),
        ("x5u", json!("https://evil.example")),
        ("x5c", json!(["x"])),
        ("jwk", json!({})),
        ("b64", json!(false)),
        ("typ", json!("dpop+jwt")),
    ] {
        cases.push((format!("header {member}"), issuer.sign(&with(&header, member, value), &good)));
    }
    for claim in ["iss", "sub", "aud", "exp", "iat", "jti"] {
        cases.push((format!("no {claim}"), issuer.sign(&header, &without(&good, claim))));
    }
    let changes = [
        ("iss", json!("https://other.example")),
        ("aud", json!("other")),
        ("exp", json!(now - 60)),
        ("exp", json!(now as f64 + 60.5)),
        ("nbf", json!(now + 120)),
        ("nbf", json!(now.to_string())),
        ("iat", json!(now + 120)),
        ("tenant_id", json!("acme")),
        ("tenant_id", json!(uuid::Uuid::nil())),
        ("tenant_id", Value::Null),
    ];
    for (claim, value) in changes {
        cases.push((format!("{claim} = {value}"), issuer.sign(&header, &with(&good, claim, value.clone()))));
    }
    cases.push(("neither tenant nor role".into(), issuer.sign(&header, &without(&good, "tenant_id"))));
    cases.push((
        "an unheard role".into(),
        issuer.sign(&header, &with(&without(&good, "tenant_id"), "roles", json!(["root"]))),
    ));
    let (expected, count) = (answer(&service, "a.b.c").await, cases.len());
    assert_eq!((expected.0, expected.1.as_str()), (401, "unauthenticated"));
    for (name, token) in cases {
        assert_eq!(answer(&service, &token).await, expected, "{name}");
    }
    assert!(count >= 39, "{count} cases");
    service.with_token(issuer.sign(&header, &good)).ok(READ, json!({})).await;
}

#[tokio::test]
async fn a_key_of_1024_bits_is_no_key() {
    let small = r#"{"keys":[{"kty":"RSA","kid":"small","use":"sig","alg":"RS256","e":"AQAB","n":"u1SU1LfVLPHCozMxH2Mo4lgOEePzNm0tRgeLezV6ffAt0gunVTLw7onLRnrq0_IzW7yWR7QkrmBL7jTKEn5u-qKhbwKfBstIs-bMY2Zkp18gnTxKLxoS2tFczGkPLPgizskuemMghRniWaoLcyehkd3qqGElvW_VDL5AaWTg0nLVkjRo9z-40RQzuVaE8AkAFmxZzow3x-VJYKdjykkJ0"}]}"#;
    let file = folder().join("small.jwks.json");
    std::fs::write(&file, small).unwrap();
    let app =
        TestApp::with(&format!("[[auth.external_issuers]]\nissuer = \"{ISSUER}\"\njwks = \"{}\"\n", file.display()))
            .await;
    let issuer = Issuer::new("small-signer");
    let tenant = app.tenant("acme").await;
    let service = app.service(&tenant, "auth:tenant:read").await;
    let token = issuer.sign(&with(&issuer.header(), "kid", json!("small")), &claims(&app, &tenant));
    assert_eq!(answer(&service, &token).await.1, "unauthenticated");
}

#[tokio::test]
async fn a_token_expires_by_the_clock_even_when_it_is_remembered() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let service = app.service(&tenant, "auth:tenant:read").await;
    service.ok(READ, json!({})).await;
    app.advance(chrono::TimeDelta::minutes(16));
    assert_eq!(service.refused(READ, json!({})).await, "unauthenticated");
}

#[tokio::test]
async fn a_missing_scope_is_forbidden_and_named() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let service = app.service(&tenant, "auth:plan:read").await;
    let answer = service.graphql(READ, json!({})).await;
    assert_eq!(
        (answer.code(), &answer.body["errors"][0]["extensions"]["details"]["scope"]),
        ("forbidden", &json!("auth:tenant:read")),
        "{}",
        answer.text
    );
    let support = app.operator(Role::Support).await;
    assert_eq!(
        support
            .refused(
                "mutation($id: ID!) { suspendTenant(input: {id: $id, reason: POLICY}) { tenant { id } } }",
                json!({ "id": tenant.id })
            )
            .await,
        "forbidden"
    );
}

#[tokio::test]
async fn a_header_that_names_another_tenant_is_a_mismatch_and_an_argument_finds_nothing() {
    let app = TestApp::start().await;
    let (own, other) = (app.tenant("own").await, app.tenant("other").await);
    let service = app.full_service(&own).await;
    let body = json!({ "query": READ });
    let named = |id: String| service.post("/graphql").header("x-tenant-id", id).json(&body);
    assert_eq!(service.send(named(own.id.to_string())).await.status, 200);
    for id in [other.id.to_string(), uuid::Uuid::nil().to_string(), "other".to_owned()] {
        let answer = service.send(named(id)).await;
        assert_eq!((answer.status, answer.code()), (403, "tenant_mismatch"));
    }
    let update = "mutation($id: ID!) { updateTenant(input: {id: $id, name: \"x\"}) { tenant { id } } }";
    assert_eq!(service.refused(update, json!({ "id": other.id })).await, "not_found");
}

#[tokio::test]
async fn a_rotated_key_signs_and_the_old_one_lives_on_until_it_is_revoked() {
    let app = TestApp::start().await;
    let replica = app.replica("").await;
    let tenant = app.tenant("acme").await;
    let (admin, old) = (app.admin().await, app.service(&tenant, "auth:tenant:read").await);
    let rotate = "mutation($revoke: Boolean!) { rotateSigningKey(input: {revokePrevious: $revoke}) { kid } }";
    let kid = admin.ok(rotate, json!({ "revoke": false })).await["rotateSigningKey"]["kid"].clone();
    let published = app.anonymous().get("/.well-known/jwks.json").await;
    assert!(
        published.body["keys"].as_array().unwrap().iter().any(|key| key["kid"] == kid)
            && published.body["keys"].as_array().unwrap().len() == 2
    );
    assert!(!published.text.contains("\"d\""), "no private part");
    old.ok(READ, json!({})).await;
    let fresh = app.service(&tenant, "auth:tenant:read").await;
    let there = Client::new(replica.url(""), fresh.token().map(str::to_owned), Some(tenant.id), app.canaries.clone());
    for attempt in 0.. {
        if there.graphql(READ, json!({})).await.status == 200 {
            break;
        }
        assert!(attempt < 100, "the replica never learnt of the new key");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    admin.ok(rotate, json!({ "revoke": true })).await;
    assert_eq!(old.refused(READ, json!({})).await, "unauthenticated");
    assert_eq!(fresh.refused(READ, json!({})).await, "unauthenticated");
    app.service(&tenant, "auth:tenant:read").await.ok(READ, json!({})).await;
}
