use aws_lc_rs::{encoding::AsDer, hmac};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD},
};
use chrono::TimeDelta;
use serde_json::{Value, json};

use super::*;
use crate::{
    access::keyring::{
        OwnKeys, Unusable,
        fixture::{self, AUDIENCE, EXTERNAL, ISSUER},
        verification_keys,
    },
    error::Error,
};

struct Setup {
    clock: Clock,
    ring: Arc<KeyRing>,
    verifier: TokenVerifier,
}

fn setup() -> Setup {
    let (clock, ring) = (Clock::default(), Arc::new(KeyRing::new(ISSUER)));
    ring.set_own(OwnKeys { signing: Some(fixture::own_key()), ..OwnKeys::default() });
    ring.set_external(EXTERNAL, vec![fixture::other_key().public().clone()]);
    let accepted = |issuer: &str, hours: Option<u64>| AcceptedIssuer {
        issuer: issuer.to_owned(),
        audience: AUDIENCE.to_owned(),
        max_lifetime: hours.map(|hours| Duration::from_secs(hours * 3600)),
    };
    let issuers = vec![accepted(ISSUER, Some(24)), accepted(EXTERNAL, None)];
    let settings = VerifierSettings { issuers, leeway: Duration::from_secs(10), cache_capacity: 1000 };
    Setup { verifier: TokenVerifier::new(settings, clock.clone(), Arc::clone(&ring)), clock, ring }
}

impl Setup {
    fn now(&self) -> i64 {
        self.clock.now().timestamp()
    }

    fn claims(&self) -> Value {
        serde_json::to_value(fixture::claims(self.now())).expect("claims are JSON")
    }

    fn reason(&self, token: &str) -> Option<Reason> {
        let rejected = self.verifier.verify(token).err()?;
        let (error, expected) = (Error::from(rejected.clone()), Error::unauthenticated());
        assert_eq!(
            (error.kind(), error.message(), error.extensions()),
            (expected.kind(), expected.message(), expected.extensions())
        );
        Some(rejected.reason())
    }

    fn with_header(&self, header: &str) -> Option<Reason> {
        self.reason(&fixture::forge(&fixture::own_key(), header, &self.claims().to_string()))
    }

    fn with_claims(&self, claims: &str) -> Option<Reason> {
        self.reason(&fixture::forge(&fixture::own_key(), &header(), claims))
    }

    fn with_claim(&self, claim: &str, value: Value) -> Option<Reason> {
        let mut claims = self.claims();
        claims[claim] = value;
        self.with_claims(&claims.to_string())
    }
}

fn header() -> String {
    json!({ "alg": "RS256", "typ": "at+jwt", "kid": fixture::own_key().kid() }).to_string()
}

/// The header with one more member, or with a member replaced.
fn header_with(member: &str, value: Value) -> String {
    let mut header = json!({ "alg": "RS256", "kid": fixture::own_key().kid() });
    header[member] = value;
    header.to_string()
}

#[test]
fn an_own_token_is_accepted_with_what_it_says() {
    let setup = setup();
    let claims = fixture::claims(setup.now());
    let token = setup.ring.sign(&claims).expect("a token");
    let first = setup.verifier.verify(&token).expect("a good token");
    assert_eq!((&first.claims, first.kid.as_str(), first.hash), (&claims, fixture::own_key().kid(), sha256(&token)));
    let second = setup.verifier.verify(&token).expect("a good token");
    assert!(Arc::ptr_eq(&first, &second), "the second time it is remembered");
    let header = token.split('.').next().and_then(|header| URL_SAFE_NO_PAD.decode(header).ok()).expect("a header");
    assert_eq!(
        serde_json::from_slice::<Value>(&header).expect("JSON"),
        serde_json::from_str::<Value>(&self::header()).expect("JSON")
    );
}

#[test]
fn only_rs256_is_an_algorithm() {
    let setup = setup();
    for alg in ["none", "None", "", "rs256", "RS384", "RS512", "PS256", "ES256", "EdDSA", "HS256", "HS512", "RSA-OAEP"]
    {
        assert_eq!(setup.with_header(&header_with("alg", json!(alg))), Some(Reason::Algorithm), "{alg}");
    }
    for alg in [json!(null), json!(["RS256"]), json!(256)] {
        assert_eq!(setup.with_header(&header_with("alg", alg)), Some(Reason::Header));
    }
    assert_eq!(setup.with_header(&json!({ "kid": fixture::own_key().kid() }).to_string()), Some(Reason::Algorithm));
    let unsigned = format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode(header_with("alg", json!("none"))),
        URL_SAFE_NO_PAD.encode(setup.claims().to_string())
    );
    assert_eq!(setup.reason(&unsigned), Some(Reason::Algorithm));
    let unsigned =
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(header()), URL_SAFE_NO_PAD.encode(setup.claims().to_string()));
    assert_eq!(setup.reason(&unsigned), Some(Reason::Malformed));
}

#[test]
fn the_public_key_is_no_hmac_secret() {
    let setup = setup();
    let key = fixture::own_key();
    let der = aws_lc_rs::rsa::PublicKeyComponents { n: key.public().modulus(), e: key.public().exponent() }
        .as_der()
        .expect("DER");
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der.as_ref()));
    for secret in [pem.as_bytes(), der.as_ref(), key.public().modulus()] {
        for alg in ["HS256", "RS256"] {
            let input = format!(
                "{}.{}",
                URL_SAFE_NO_PAD.encode(header_with("alg", json!(alg))),
                URL_SAFE_NO_PAD.encode(setup.claims().to_string())
            );
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), input.as_bytes());
            let reason = setup.reason(&format!("{input}.{}", URL_SAFE_NO_PAD.encode(tag)));
            assert_eq!(reason, Some(if alg == "HS256" { Reason::Algorithm } else { Reason::Signature }));
        }
    }
}

#[test]
fn a_key_id_is_a_known_name_and_nothing_else() {
    let setup = setup();
    for kid in [
        "",
        "../../../dev/null",
        "/etc/passwd",
        "https://evil.example/k",
        "a b",
        "a'or'1'='1",
        "k\u{0}",
        "é",
        "a.b",
        &"k".repeat(65),
    ] {
        assert_eq!(setup.with_header(&header_with("kid", json!(kid))), Some(Reason::KeyId), "{kid}");
    }
    assert_eq!(setup.with_header(r#"{"alg":"RS256"}"#), Some(Reason::KeyId));
    assert_eq!(setup.with_header(&header_with("kid", json!(null))), Some(Reason::Header));
    assert_eq!(setup.with_header(&header_with("kid", json!("unknown"))), Some(Reason::UnknownKey));
    let foreign = header_with("kid", json!(fixture::other_key().kid()));
    assert_eq!(setup.with_header(&foreign), Some(Reason::UnknownKey), "the key of another issuer");
    let rejected = setup
        .verifier
        .verify(&fixture::forge(&fixture::other_key(), &foreign, &setup.claims().to_string()))
        .expect_err("refused");
    assert_eq!((rejected.reason(), rejected.issuer_to_refresh()), (Reason::UnknownKey, Some(ISSUER)));
}

#[test]
fn headers_that_steer_the_check_are_refused() {
    let setup = setup();
    for (member, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("jku", json!("https://evil.example/jwks.json")),
        ("x5u", json!("https://evil.example/cert.pem")),
        ("x5c", json!(["MIIB"])),
        ("jwk", fixture::other_key().public().jwk()),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("enc", json!("A128GCM")),
        ("zip", json!("DEF")),
        ("typ", json!("logout+jwt")),
        ("typ", json!("dpop+jwt")),
        ("typ", json!("")),
        ("typ", json!(null)),
        ("typ", json!(["at+jwt"])),
    ] {
        assert_eq!(setup.with_header(&header_with(member, value.clone())), Some(Reason::Header), "{member} = {value}");
    }
    for typ in ["JWT", "jwt", "at+jwt", "AT+JWT"] {
        assert_eq!(setup.with_header(&header_with("typ", json!(typ))), None, "{typ}");
    }
    assert_eq!(setup.with_header(&header_with("x5t", json!("abc"))), None);
}

#[test]
fn a_header_says_everything_once() {
    let setup = setup();
    let kid = fixture::own_key().kid().to_owned();
    for header in [
        format!(r#"{{"alg":"none","alg":"RS256","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"RS256","\u0061lg":"RS256","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"RS256","kid":"{kid}","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"RS256","kid":"{kid}","typ":"JWT","typ":"JWT"}}"#),
        format!(r#"{{"alg":"RS256","kid":"{kid}","x":{{"a":1,"a":1}}}}"#),
        format!(r#"{{"alg":"RS256","kid":"{kid}","x":{}{}}}"#, "[".repeat(500), "]".repeat(500)),
        format!(r#"{{"alg":"RS256","kid":"{kid}"}} "#) + "{}",
        "[]".to_owned(),
        String::new(),
    ] {
        assert_eq!(setup.with_header(&header), Some(Reason::Header), "{header:.80}");
    }
}

#[test]
fn claims_say_everything_once_and_in_the_right_type() {
    let setup = setup();
    let claims = setup.claims().to_string();
    let tenant = r#","tenant_id":"7c9e6679-7425-40de-944b-e07fc1f90ae7"}"#;
    let doubled = format!("{}{tenant}", &claims[..claims.len() - 1]);
    let refused = |reason: Option<Reason>| assert_eq!(reason.map(Reason::name), Some("claims"));
    refused(setup.with_claims(&doubled));
    refused(setup.with_claims(&format!(
        "{}{}",
        &claims[..claims.len() - 1],
        tenant.replace("tenant_id", "tenant\\u005fid")
    )));
    refused(setup.with_claim("exp", json!(setup.now() as f64 + 60.5)));
    refused(setup.with_claim("exp", json!(setup.now() as f64 + 60.0)));
    refused(setup.with_claim("exp", json!((setup.now() + 60).to_string())));
    refused(setup.with_claim("nbf", json!(setup.now().to_string())));
    refused(setup.with_claim("tenant_id", json!("00000000-0000-0000-0000-000000000000")));
    refused(setup.with_claim("tenant_id", json!(null)));
    for claim in ["iss", "sub", "aud", "exp", "iat", "jti"] {
        let mut claims = setup.claims();
        claims.as_object_mut().expect("an object").remove(claim);
        refused(setup.with_claims(&claims.to_string()));
    }
    refused(setup.with_claims("[]"));
    refused(setup.with_claims("{} {}"));
}

#[test]
fn issuer_and_audience_must_be_ours() {
    let setup = setup();
    for iss in
        ["https://evil.example", "https://tenantry.example/", "HTTPS://tenantry.example", "https://tenantry.exampl"]
    {
        assert_eq!(setup.with_claim("iss", json!(iss)), Some(Reason::UnknownIssuer), "{iss}");
    }
    assert_eq!(
        setup.with_claim("iss", json!(EXTERNAL)),
        Some(Reason::UnknownKey),
        "signed with our key in another's name"
    );
    for aud in [json!("other"), json!("tenantry2"), json!(["a", "b"]), json!("Tenantry")] {
        assert_eq!(setup.with_claim("aud", aud), Some(Reason::Audience));
    }
    assert_eq!(setup.with_claim("aud", json!(["other", AUDIENCE])), None);
}

#[test]
fn times_are_held_against_the_clock_with_10_seconds_of_leeway() {
    let setup = setup();
    // Half a minute of distance to each edge but the one looked at; the clock may tick once meanwhile.
    let with = |iat: i64, nbf: i64, exp: i64| {
        let mut claims = setup.claims();
        (claims["iat"], claims["nbf"], claims["exp"]) =
            (json!(setup.now() + iat), json!(setup.now() + nbf), json!(setup.now() + exp));
        setup.with_claims(&claims.to_string())
    };
    assert_eq!(with(-30, -30, 30), None);
    assert_eq!(with(-30, -30, -8), None);
    assert_eq!(with(-30, -30, -10), Some(Reason::Expired));
    assert_eq!(with(-30, 8, 30), None);
    assert_eq!(with(-30, 12, 30), Some(Reason::NotYetValid));
    assert_eq!(with(8, -30, 30), None);
    assert_eq!(with(12, -30, 30), Some(Reason::IssuedAt));
    assert_eq!(with(5, -30, 5), Some(Reason::IssuedAt));
    assert_eq!(with(5, -30, 4), Some(Reason::IssuedAt));
    assert_eq!(with(0, 0, 24 * 3600), None);
    assert_eq!(with(0, 0, 24 * 3600 + 5), Some(Reason::Lifetime));
}

#[test]
fn more_leeway_than_30_seconds_is_not_given() {
    let setup = setup();
    let issuers = vec![AcceptedIssuer { issuer: ISSUER.to_owned(), audience: AUDIENCE.to_owned(), max_lifetime: None }];
    let settings = VerifierSettings { issuers, leeway: Duration::from_secs(3600), cache_capacity: 10 };
    let verifier = TokenVerifier::new(settings, setup.clock.clone(), Arc::clone(&setup.ring));
    let token = setup.ring.sign(&fixture::claims(setup.now() - 900 - 30)).expect("a token");
    assert_eq!(verifier.verify(&token).expect_err("expired").reason(), Reason::Expired);
}

#[test]
fn a_token_is_bound_to_a_tenant_or_has_a_role() {
    let setup = setup();
    let mut claims = setup.claims();
    claims.as_object_mut().expect("an object").remove("tenant_id");
    assert_eq!(setup.with_claims(&claims.to_string()), Some(Reason::Unbound));
    claims["roles"] = json!(["admin"]);
    assert_eq!(setup.with_claims(&claims.to_string()), None);
}

#[test]
fn another_issuers_epoch_session_and_actor_are_not_believed() {
    let setup = setup();
    let mut claims = setup.claims();
    (claims["iss"], claims["epoch"]) = (json!(EXTERNAL), json!(i64::MAX));
    (claims["sid"], claims["act"]) = (json!("s-1"), json!({ "sub": "operator" }));
    let token = fixture::forge(
        &fixture::other_key(),
        &header_with("kid", json!(fixture::other_key().kid())),
        &claims.to_string(),
    );
    let verified = setup.verifier.verify(&token).expect("a good token");
    assert_eq!((verified.claims.epoch, verified.claims.kept()), (None, None));
}

#[test]
fn keys_of_1024_bits_verify_nothing() {
    let setup = setup();
    let jwk = json!({ "kty": "RSA", "kid": "small", "n": fixture::SMALL_MODULUS, "e": "AQAB" });
    assert_eq!(
        VerificationKey::from_jwk(&jwk).expect_err("too small"),
        Unusable("its modulus must have 2048 to 8192 bits")
    );
    let keys = verification_keys(json!({ "keys": [jwk] }).to_string().as_bytes()).expect("a key set");
    setup.ring.set_external(EXTERNAL, keys);
    assert_eq!(setup.reason(fixture::SMALL_TOKEN), Some(Reason::UnknownKey));
}

#[test]
fn a_token_has_one_spelling_of_three_parts() {
    let setup = setup();
    let token = setup.ring.sign(&fixture::claims(setup.now())).expect("a token");
    let parts: Vec<_> = token.split('.').collect();
    let [header, payload, signature] = parts.as_slice() else { panic!("three parts") };
    let padded = |part: &str| URL_SAFE.encode(URL_SAFE_NO_PAD.decode(part).expect("base64url"));
    assert!(padded(signature).ends_with('='));
    for bad in [
        String::new(),
        "..".to_owned(),
        "a".to_owned(),
        format!("{header}.{payload}"),
        format!("{token}."),
        format!("{token}.{signature}"),
        format!(".{token}"),
        format!("{header}..{payload}.{signature}"),
        format!("{header}.{payload}.{}", padded(signature)),
        format!("{header}=.{payload}.{signature}"),
        format!("{token} "),
        format!(" {token}"),
        format!("{token}\n"),
        format!("{header}.{payload}.{}", signature.replace(['-', '_'], "+")),
        format!("{header}.{payload}.{}!", &signature[..signature.len() - 1]),
        "é.é.é".to_owned(),
    ] {
        assert!(matches!(setup.reason(&bad), Some(Reason::Malformed | Reason::Header)), "{bad}");
    }
    // 256 bytes end in a letter of which four bits do not count: fifteen other letters would mean the same bytes.
    let (start, last) = token.split_at(token.len() - 1);
    let others = ('A'..='Z').chain('a'..='z').chain('0'..='9').filter(|letter| !last.starts_with(*letter));
    assert!(others.map(|letter| setup.reason(&format!("{start}{letter}"))).all(|reason| reason.is_some()));
    assert_eq!(setup.reason(&token), None);
}

#[test]
fn a_huge_token_is_refused_unread() {
    let setup = setup();
    assert_eq!(setup.reason(&"a".repeat(8193)), Some(Reason::TooLong));
    assert_eq!(setup.reason(&"a".repeat(8192)), Some(Reason::Malformed));
    assert_eq!(setup.with_claim("x", json!("x".repeat(6000))), Some(Reason::TooLong));
    assert_eq!(setup.with_claim("x", json!("x".repeat(5000))), None);
    let mut claims = fixture::claims(setup.now());
    claims.roles = vec!["r".repeat(255); 30];
    assert!(setup.ring.sign(&claims).is_err());
}

#[test]
fn every_changed_letter_breaks_a_token() {
    let setup = setup();
    let token = setup.ring.sign(&fixture::claims(setup.now())).expect("a token");
    assert_eq!(setup.reason(&token), None);
    for index in 0..token.len() {
        let other = if token.as_bytes()[index] == b'A' { "B" } else { "A" };
        let mut changed = token.clone();
        changed.replace_range(index..=index, other);
        assert!(setup.reason(&changed).is_some(), "{index}");
    }
}

#[test]
fn a_remembered_token_expires_by_the_clock() {
    let setup = setup();
    let token = setup.ring.sign(&fixture::claims(setup.now())).expect("a token");
    assert_eq!(setup.reason(&token), None);
    setup.clock.advance(TimeDelta::seconds(908));
    assert_eq!(setup.reason(&token), None);
    setup.clock.advance(TimeDelta::seconds(2));
    assert_eq!(setup.reason(&token), Some(Reason::Expired));
    setup.clock.advance(TimeDelta::seconds(-2000));
    assert_eq!(setup.reason(&token), Some(Reason::NotYetValid));
}

#[test]
fn a_removed_key_ends_remembered_tokens_at_once() {
    let setup = setup();
    let token = setup.ring.sign(&fixture::claims(setup.now())).expect("a token");
    assert_eq!(setup.reason(&token), None);
    let accepted = vec![fixture::own_key().public().clone()];
    setup.ring.set_own(OwnKeys { signing: Some(fixture::other_key()), accepted, ..OwnKeys::default() });
    let verified = setup.verifier.verify(&token).expect("the former key is still accepted");
    assert!(
        Arc::ptr_eq(&verified, &setup.verifier.verify(&token).expect("a good token")),
        "and the token still remembered"
    );
    let retired = vec![fixture::own_key().public().clone()];
    setup.ring.set_own(OwnKeys { signing: Some(fixture::other_key()), retired, ..OwnKeys::default() });
    assert_eq!(setup.reason(&token), Some(Reason::UnknownKey));
}

#[test]
fn another_key_of_the_same_name_ends_remembered_tokens() {
    let setup = setup();
    let key = |of: &VerificationKey| {
        VerificationKey::from_components("same".to_owned(), of.modulus().to_vec(), of.exponent().to_vec())
    };
    let mut claims = setup.claims();
    claims["iss"] = json!(EXTERNAL);
    let token = fixture::forge(&fixture::other_key(), &header_with("kid", json!("same")), &claims.to_string());
    setup.ring.set_external(EXTERNAL, vec![key(fixture::other_key().public()).expect("a key")]);
    assert_eq!(setup.reason(&token), None);
    setup.ring.set_external(EXTERNAL, vec![key(fixture::own_key().public()).expect("a key")]);
    assert_eq!(setup.reason(&token), Some(Reason::Signature));
}

#[test]
fn settings_come_from_the_configuration() {
    let config = Config::from_toml(&[
        "[server]\npublic_url = \"https://tenantry.example/\"\n[[auth.external_issuers]]\nissuer = \"https://idp.example\"\njwks = \"/jwks\"\n\
         [[auth.external_issuers]]\nissuer = \"https://two.example\"\njwks = \"/jwks\"\naudience = \"ours\"\n",
    ])
    .expect("a good configuration");
    let settings = VerifierSettings::from_config(&config);
    let issuers: Vec<_> = settings
        .issuers
        .iter()
        .map(|accepted| (accepted.issuer.as_str(), accepted.audience.as_str(), accepted.max_lifetime))
        .collect();
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(
        issuers,
        [(ISSUER, "tenantry", Some(day)), (EXTERNAL, "tenantry", None), ("https://two.example", "ours", None)]
    );
}
