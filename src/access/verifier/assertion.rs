//! `private_key_jwt`: how an OAuth client proves itself with its own key (RFC 7523, sections 2.2 and 3).

use std::time::Duration;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
};
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{
    compact::{Algorithm, Compact},
    rejected::{Reason, Rejected},
    seconds,
};
use crate::access::{
    claims::{ParsedClaims, is_identifier, is_time, required, within},
    keyring::{
        Unusable,
        jwk::{Jwk, read_set},
        public::parse_rsa,
    },
};

/// How far ahead `exp` may lie: for as long the caller must remember `jti`.
const MAX_ASSERTION_LIFETIME: Duration = Duration::from_secs(600);
const MAX_CLIENT_KEYS: usize = 16;

/// The public keys that a client has registered: RSA of 2048 to 8192 bits, or P-256.
#[derive(Debug)]
pub struct ClientKeys(Vec<ClientKey>);

struct ClientKey {
    kid: Option<String>,
    algorithm: Algorithm,
    parsed: ParsedPublicKey,
}

/// What an assertion is held against.
#[derive(Clone, Copy, Debug)]
pub struct AssertionRules<'a> {
    pub keys: &'a ClientKeys,
    /// What both `iss` and `sub` must be.
    pub client_id: &'a str,
    /// Addresses of the token endpoint, and our issuer: `aud` must hold at least one, and nothing else.
    pub audiences: &'a [&'a str],
    pub leeway: Duration,
}

/// A good assertion. The caller refuses one whose `jti` this client has used before `exp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    pub jti: String,
    /// Until when the assertion would be accepted again, leeway included.
    pub exp: DateTime<Utc>,
}

impl ClientKeys {
    /// Reads a JSON Web Key Set as a client registers it. Unlike a published set it must hold 1 to 16 keys, all usable.
    pub fn parse(jwks: &[u8]) -> Result<Self, Unusable> {
        let set = read_set(jwks)?;
        if !(1..=MAX_CLIENT_KEYS).contains(&set.len()) {
            return Err(Unusable("a client has 1 to 16 keys"));
        }
        let keys: Vec<Vec<ClientKey>> = set.iter().map(ClientKey::from_jwk).collect::<Result<_, _>>()?;
        Ok(Self(keys.into_iter().flatten().collect()))
    }

    /// The one key that can have made the signature. Without `kid` there must not be a choice.
    fn find(&self, algorithm: Algorithm, kid: Option<&str>) -> Option<&ClientKey> {
        let mut fitting =
            self.0.iter().filter(|key| key.algorithm == algorithm && (kid.is_none() || key.kid.as_deref() == kid));
        fitting.next().filter(|_| fitting.next().is_none())
    }
}

impl ClientKey {
    /// One entry for each algorithm that the key may be used with.
    fn from_jwk(value: &Value) -> Result<Vec<Self>, Unusable> {
        let jwk = Jwk::read(value)?;
        let mut keys = Vec::new();
        let meant = |algorithm| jwk.alg.as_deref().is_none_or(|alg| Algorithm::parse(alg) == Some(algorithm));
        let mut add = |algorithm, parsed| keys.push(Self { kid: jwk.kid.clone(), algorithm, parsed });
        if jwk.is_rsa() {
            let (modulus, exponent) = jwk.rsa()?;
            if meant(Algorithm::Rs256) {
                add(Algorithm::Rs256, parse_rsa(&RSA_PKCS1_2048_8192_SHA256, &modulus, &exponent)?);
            }
            if meant(Algorithm::Ps256) {
                add(Algorithm::Ps256, parse_rsa(&RSA_PSS_2048_8192_SHA256, &modulus, &exponent)?);
            }
        } else if meant(Algorithm::Es256) {
            let parsed = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, jwk.p256()?);
            add(Algorithm::Es256, parsed.map_err(|_| Unusable("it is no point of the curve P-256"))?);
        }
        if keys.is_empty() { Err(Unusable("`alg` must be RS256, PS256 or ES256, and fit the key")) } else { Ok(keys) }
    }
}

impl std::fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientKey").field("kid", &self.kid).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// Verifies a client assertion at `now`. `iss sub aud exp jti` are required, `nbf` and `iat` checked if present.
pub fn verify_assertion(
    assertion: &str,
    rules: &AssertionRules<'_>,
    now: DateTime<Utc>,
) -> Result<Assertion, Rejected> {
    let compact = Compact::parse(assertion)?;
    let key = rules.keys.find(compact.algorithm, compact.kid.as_deref()).ok_or(Reason::UnknownKey)?;
    key.parsed.verify_sig(compact.signed, &compact.signature).map_err(|_| Reason::Signature)?;
    let claims = ParsedClaims::read(&compact.payload)?;
    if required("iss", claims.iss.as_deref())? != rules.client_id
        || required("sub", claims.sub.as_deref())? != rules.client_id
    {
        return Err(Reason::Subject.into());
    }
    // An assertion that is also for somebody else could be played on by them (RFC 7523, section 3, rule 3).
    let audiences = required("aud", claims.aud.as_deref())?;
    if audiences.is_empty() || !audiences.iter().all(|audience| rules.audiences.contains(&audience.as_str())) {
        return Err(Reason::Audience.into());
    }
    let jti = required("jti", claims.jti.clone())?;
    within("jti", is_identifier(&jti))?;
    let exp = check_assertion_times(&claims, now.timestamp(), seconds(rules.leeway.min(super::MAX_LEEWAY)))?;
    Ok(Assertion { jti, exp: DateTime::from_timestamp(exp, 0).ok_or(Reason::Lifetime)? })
}

/// Until when the assertion is good, leeway included.
fn check_assertion_times(claims: &ParsedClaims, now: i64, leeway: i64) -> Result<i64, Rejected> {
    let exp = required("exp", claims.exp)?;
    for (claim, time) in [("exp", Some(exp)), ("iat", claims.iat), ("nbf", claims.nbf)] {
        within(claim, time.is_none_or(is_time))?;
    }
    if claims.iat.is_some_and(|iat| iat > now + leeway || iat >= exp) {
        return Err(Reason::IssuedAt.into());
    }
    if exp > now + seconds(MAX_ASSERTION_LIFETIME) + leeway {
        return Err(Reason::Lifetime.into());
    }
    super::check_window(now, claims.nbf.unwrap_or(0) - leeway, exp + leeway)?;
    Ok(exp + leeway)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        rand::SystemRandom,
        rsa::KeyPair as RsaKeyPair,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PSS_SHA256},
    };
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::json;

    use super::*;
    use crate::{access::keyring::fixture, error::Error, platform::clock::Clock};

    const ENDPOINT: &str = "https://tenantry.example/oauth/token";

    fn set(keys: Vec<Value>) -> ClientKeys {
        ClientKeys::parse(json!({ "keys": keys }).to_string().as_bytes()).expect("usable keys")
    }

    /// The client's key, for whatever algorithm it fits.
    fn jwk() -> Value {
        let mut jwk = fixture::own_key().public().jwk();
        jwk.as_object_mut().expect("an object").remove("alg");
        jwk
    }

    fn keys() -> ClientKeys {
        set(vec![jwk()])
    }

    fn claims(now: i64) -> Value {
        json!({ "iss": "client", "sub": "client", "aud": ENDPOINT, "jti": "once", "exp": now + 60, "iat": now })
    }

    fn verify(keys: &ClientKeys, token: &str, now: DateTime<Utc>) -> Result<Assertion, Rejected> {
        let audiences = [ENDPOINT, fixture::ISSUER];
        let rules =
            AssertionRules { keys, client_id: "client", audiences: &audiences, leeway: Duration::from_secs(10) };
        verify_assertion(token, &rules, now)
    }

    fn reason(header: &Value, claims: &Value, now: DateTime<Utc>) -> Reason {
        let token = fixture::forge(&fixture::own_key(), &header.to_string(), &claims.to_string());
        let rejected = verify(&keys(), &token, now).expect_err("the assertion is bad");
        let error = Error::from(rejected.clone());
        assert_eq!(
            (error.kind(), error.message()),
            (Error::unauthenticated().kind(), Error::unauthenticated().message())
        );
        rejected.reason()
    }

    #[test]
    fn a_client_proves_itself_for_endpoint_or_issuer() {
        let now = Clock::default().now();
        for aud in [json!(ENDPOINT), json!(fixture::ISSUER), json!([ENDPOINT]), json!([ENDPOINT, fixture::ISSUER])] {
            let mut claims = claims(now.timestamp());
            claims["aud"] = aud;
            let header = json!({ "alg": "RS256", "typ": "JWT", "kid": fixture::own_key().kid() });
            let token = fixture::forge(&fixture::own_key(), &header.to_string(), &claims.to_string());
            let assertion = verify(&keys(), &token, now).expect("a good assertion");
            assert_eq!((assertion.jti.as_str(), assertion.exp.timestamp()), ("once", now.timestamp() + 70));
        }
    }

    #[test]
    fn a_key_needs_no_name_unless_there_is_a_choice() {
        let now = Clock::default().now();
        let token = fixture::forge(&fixture::own_key(), r#"{"alg":"RS256"}"#, &claims(now.timestamp()).to_string());
        assert!(verify(&keys(), &token, now).is_ok());
        let two = set(vec![fixture::own_key().public().jwk(), fixture::other_key().public().jwk()]);
        assert_eq!(verify(&two, &token, now).expect_err("a choice").reason(), Reason::UnknownKey);
    }

    #[test]
    fn what_is_not_this_clients_for_us_and_now_is_refused() {
        let now = Clock::default().now();
        let header = json!({ "alg": "RS256" });
        let with = |claim: &str, value: Value| {
            let mut claims = claims(now.timestamp());
            claims[claim] = value;
            reason(&header, &claims, now)
        };
        let at = |seconds: i64| json!(now.timestamp() + seconds);
        assert_eq!(with("iss", json!("other")), Reason::Subject);
        assert_eq!(with("sub", json!("other")), Reason::Subject);
        assert_eq!(with("aud", json!("https://other.example")), Reason::Audience);
        assert_eq!(with("aud", json!([ENDPOINT, "https://other.example"])), Reason::Audience);
        assert_eq!(with("aud", json!([])), Reason::Audience);
        assert_eq!(with("exp", at(-10)), Reason::IssuedAt);
        assert_eq!(with("exp", at(620)), Reason::Lifetime);
        assert_eq!(with("exp", json!(i64::MAX)).name(), "claims");
        assert_eq!(with("nbf", at(20)), Reason::NotYetValid);
        assert_eq!(with("nbf", json!(i64::MIN)).name(), "claims");
        assert_eq!(with("iat", at(20)), Reason::IssuedAt);
        assert_eq!(with("jti", json!("")).name(), "claims");
        for claim in ["iss", "sub", "aud", "exp", "jti"] {
            let mut claims = claims(now.timestamp());
            claims.as_object_mut().expect("an object").remove(claim);
            assert_eq!(reason(&header, &claims, now).name(), "claims", "{claim}");
        }
        assert_eq!(reason(&header, &claims(now.timestamp() - 80), now), Reason::Expired);
        assert_eq!(
            reason(&json!({ "alg": "RS256", "kid": "other" }), &claims(now.timestamp()), now),
            Reason::UnknownKey
        );
        assert_eq!(reason(&json!({ "alg": "PS256" }), &claims(now.timestamp()), now), Reason::Signature);
        assert_eq!(reason(&json!({ "alg": "HS256" }), &claims(now.timestamp()), now), Reason::Algorithm);
        assert_eq!(
            reason(&json!({ "alg": "RS256", "jwk": fixture::own_key().public().jwk() }), &claims(now.timestamp()), now),
            Reason::Header
        );
    }

    #[test]
    fn ps256_and_es256_work_and_are_not_mixed_up() {
        let now = Clock::default().now();
        let input = |alg: &str| {
            let header = json!({ "alg": alg }).to_string();
            format!(
                "{}.{}",
                URL_SAFE_NO_PAD.encode(header),
                URL_SAFE_NO_PAD.encode(claims(now.timestamp()).to_string())
            )
        };
        let rsa = RsaKeyPair::from_pkcs8(&fixture::own_key().pkcs8().expect("a key")).expect("a key");
        let mut signature = vec![0; rsa.public_modulus_len()];
        rsa.sign(&RSA_PSS_SHA256, &SystemRandom::new(), input("PS256").as_bytes(), &mut signature)
            .expect("a signature");
        let ps256 = format!("{}.{}", input("PS256"), URL_SAFE_NO_PAD.encode(&signature));
        assert!(verify(&keys(), &ps256, now).is_ok());
        assert!(verify(&set(vec![fixture::own_key().public().jwk()]), &ps256, now).is_err(), "its `alg` says RS256");

        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        let point = ec.public_key().as_ref();
        let jwk = json!({ "kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]) });
        let signature = ec.sign(&SystemRandom::new(), input("ES256").as_bytes()).expect("a signature");
        let es256 = format!("{}.{}", input("ES256"), URL_SAFE_NO_PAD.encode(signature.as_ref()));
        assert!(verify(&set(vec![jwk.clone()]), &es256, now).is_ok());
        assert!(verify(&set(vec![jwk]), &ps256, now).is_err());
    }

    #[test]
    fn a_client_registers_only_usable_public_keys() {
        let good = fixture::own_key().public().jwk();
        let with = |member: &str, value: Value| {
            let mut jwk = good.clone();
            jwk[member] = value;
            ClientKeys::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).is_err()
        };
        assert!(with("n", json!(fixture::SMALL_MODULUS)));
        assert!(with("d", json!("AQAB")));
        assert!(with("alg", json!("ES256")));
        assert!(with("alg", json!("HS256")));
        assert!(with("kty", json!("oct")));
        assert!(ClientKeys::parse(b"{\"keys\":[]}").is_err());
        assert!(ClientKeys::parse(json!({ "keys": vec![good; 17] }).to_string().as_bytes()).is_err());
        let off_curve = json!({ "kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode([1; 32]), "y": URL_SAFE_NO_PAD.encode([1; 32]) });
        assert!(ClientKeys::parse(json!({ "keys": [off_curve] }).to_string().as_bytes()).is_err());
    }
}
