//! Keys as JSON (RFC 7517, RFC 7518 section 6): reading what others publish, and the thumbprint that names our own.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;

use crate::access::keyring::VerificationKey;

/// Keys that are taken from one set.
const MAX_KEYS: usize = 64;
const MAX_KID_BYTES: usize = 64;

/// Why a key is not used. For the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub(in crate::access) &'static str);

/// The members of a JSON Web Key that matter here. Private ones are only looked for, to refuse the key.
#[derive(Deserialize)]
pub(in crate::access) struct Jwk {
    kty: String,
    pub(in crate::access) kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    pub(in crate::access) alg: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<Value>,
    k: Option<Value>,
}

impl Jwk {
    pub(in crate::access) fn read(value: &Value) -> Result<Self, Unusable> {
        let jwk = Self::deserialize(value).map_err(|_| Unusable("it is no JSON Web Key"))?;
        if jwk.d.is_some() || jwk.k.is_some() {
            return Err(Unusable("it has a private or symmetric part"));
        }
        if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return Err(Unusable("`use` is not `sig`"));
        }
        if jwk.key_ops.as_ref().is_some_and(|operations| operations.iter().all(|operation| operation != "verify")) {
            return Err(Unusable("`key_ops` does not allow `verify`"));
        }
        if jwk.kid.as_deref().is_some_and(|kid| !is_kid(kid)) {
            return Err(Unusable("`kid` is not 1 to 64 of A-Z a-z 0-9 _ -"));
        }
        Ok(jwk)
    }

    pub(in crate::access) fn is_rsa(&self) -> bool {
        self.kty == "RSA"
    }

    /// Modulus and exponent, without leading zeros (some issuers write one, against RFC 7518, section 6.3.1.1).
    pub(in crate::access) fn rsa(&self) -> Result<(Vec<u8>, Vec<u8>), Unusable> {
        if !self.is_rsa() {
            return Err(Unusable("`kty` is not `RSA`"));
        }
        Ok((unsigned(self.n.as_deref())?, unsigned(self.e.as_deref())?))
    }

    /// The point of a P-256 key, uncompressed (SEC 1, section 2.3.3).
    pub(in crate::access) fn p256(&self) -> Result<Vec<u8>, Unusable> {
        if self.kty != "EC" || self.crv.as_deref() != Some("P-256") {
            return Err(Unusable("it is not of the curve P-256"));
        }
        let (x, y) = (octets(self.x.as_deref())?, octets(self.y.as_deref())?);
        if x.len() != 32 || y.len() != 32 {
            return Err(Unusable("`x` and `y` must have 32 bytes each"));
        }
        Ok([&[4], x.as_slice(), &y].concat())
    }
}

/// The text of a JSON Web Key Set as its members, at most [`MAX_KEYS`] of them. The caller bounds the length of `json`.
pub(in crate::access) fn read_set(json: &[u8]) -> Result<Vec<Value>, Unusable> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    let mut set: Set = serde_json::from_slice(json).map_err(|_| Unusable("this is no JSON Web Key Set"))?;
    if set.keys.len() > MAX_KEYS {
        tracing::warn!(keys = set.keys.len(), used = MAX_KEYS, "a key set is larger than what is read of it");
        set.keys.truncate(MAX_KEYS);
    }
    Ok(set.keys)
}

/// The keys of a set that can verify tokens. Others are skipped, since issuers publish keys for other purposes too.
pub(in crate::access) fn verification_keys(json: &[u8]) -> Result<Vec<VerificationKey>, Unusable> {
    let mut keys: Vec<VerificationKey> = Vec::new();
    for value in read_set(json)? {
        let name = value.get("kid").and_then(Value::as_str);
        match VerificationKey::from_jwk(&value) {
            Ok(key) if keys.iter().any(|known| known.kid() == key.kid()) => {
                tracing::debug!(kid = key.kid(), "a key is skipped: its `kid` is taken")
            }
            Ok(key) => keys.push(key),
            Err(unusable) => tracing::debug!(kid = name, %unusable, "a key is skipped"),
        }
    }
    Ok(keys)
}

/// `[A-Za-z0-9_-]{1,64}`: a name that can do no harm as map key, in a log, or in a file name.
pub(in crate::access) fn is_kid(text: &str) -> bool {
    (1..=MAX_KID_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// The SHA-256 thumbprint of an RSA key (RFC 7638, section 3), 43 characters.
pub(super) fn thumbprint(modulus: &[u8], exponent: &[u8]) -> String {
    let (n, e) = (URL_SAFE_NO_PAD.encode(modulus), URL_SAFE_NO_PAD.encode(exponent));
    let canonical = format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#);
    URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()))
}

fn octets(text: Option<&str>) -> Result<Vec<u8>, Unusable> {
    let text = text.ok_or(Unusable("a member is missing"))?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Unusable("a member is no base64url"))
}

fn unsigned(text: Option<&str>) -> Result<Vec<u8>, Unusable> {
    let octets = octets(text)?;
    let zeros = octets.iter().take_while(|octet| **octet == 0).count();
    Ok(octets[zeros..].to_vec())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::access::keyring::fixture;

    fn with(member: &str, value: Value) -> Result<VerificationKey, Unusable> {
        let mut jwk = fixture::own_key().public().jwk();
        jwk[member] = value;
        VerificationKey::from_jwk(&jwk)
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_7638() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W\
                 -5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyr\
                 dkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let jwk = Jwk::read(&json!({ "kty": "RSA", "n": n, "e": "AQAB" })).expect("the key of section 3.1");
        let (modulus, exponent) = jwk.rsa().expect("an RSA key");
        assert_eq!(thumbprint(&modulus, &exponent), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn only_rsa_keys_for_rs256_signatures_are_taken() {
        assert!(with("use", json!("sig")).is_ok());
        assert!(with("alg", json!("RS256")).is_ok());
        assert!(with("key_ops", json!(["verify"])).is_ok());
        assert!(with("x5t", json!("anything")).is_ok());
        for (member, value) in [
            ("kty", json!("EC")),
            ("kty", json!("oct")),
            ("kty", json!(1)),
            ("use", json!("enc")),
            ("alg", json!("HS256")),
            ("alg", json!("RS512")),
            ("key_ops", json!(["encrypt"])),
            ("kid", json!("")),
            ("kid", json!("../../etc/passwd")),
            ("kid", json!("https://evil.example/key")),
            ("kid", json!("k".repeat(65))),
            ("kid", json!(7)),
            ("kid", json!(null)),
            ("d", json!("AQAB")),
            ("k", json!("c2VjcmV0")),
            ("n", json!(null)),
            ("n", json!("")),
            ("n", json!("!!")),
            ("n", json!(fixture::SMALL_MODULUS)),
            ("e", json!("AQAB=")),
            ("e", json!("AQ")),
            ("e", json!("BA")),
            ("e", json!("")),
            ("e", json!("AQAAAAAB")),
        ] {
            assert!(with(member, value.clone()).is_err(), "{member} = {value}");
        }
    }

    #[test]
    fn a_leading_zero_does_not_count() {
        let jwk = fixture::own_key().public().jwk();
        let octets = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().expect("a modulus")).expect("base64url");
        let padded = URL_SAFE_NO_PAD.encode([&[0], octets.as_slice()].concat());
        assert_eq!(with("n", json!(padded)).expect("the same key").jwk(), jwk);
        let small = URL_SAFE_NO_PAD.decode(fixture::SMALL_MODULUS).expect("base64url");
        let padded = URL_SAFE_NO_PAD.encode([vec![0; 128], small].concat());
        assert!(with("n", json!(padded)).is_err());
    }

    #[test]
    fn a_set_keeps_what_is_usable_and_the_first_of_each_name() {
        let jwk = fixture::own_key().public().jwk();
        let set = json!({ "keys": [jwk, { "kty": "EC" }, 7, jwk, fixture::other_key().public().jwk()] });
        let keys = verification_keys(set.to_string().as_bytes()).expect("a key set");
        assert_eq!(
            keys.iter().map(VerificationKey::kid).collect::<Vec<_>>(),
            [fixture::own_key().kid(), fixture::other_key().kid()]
        );
        for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
            assert!(verification_keys(text.as_bytes()).is_err(), "{text}");
        }
    }
}
