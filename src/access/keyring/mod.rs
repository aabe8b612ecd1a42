//! Every key that signs or verifies, in memory: read at each request without waiting, replaced as a whole.

#[cfg(test)]
pub(in crate::access) mod fixture;
pub(in crate::access) mod jwk;
mod own;
pub(in crate::access) mod public;

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::{Value, json};

pub use self::{jwk::Unusable, own::OwnKey, public::VerificationKey};
pub(in crate::access) use self::{jwk::verification_keys, own::MAX_TOKEN_BYTES};
use crate::{
    access::claims::Claims,
    error::{Error, Result},
};

/// The keys of the own issuer and of those that are configured. An issuer's keys verify that issuer's tokens only.
pub struct KeyRing {
    issuer: String,
    /// The same number as in `keys`, readable without the lock.
    generation: AtomicU64,
    keys: RwLock<Arc<Keys>>,
}

/// The own keys by what they may do.
#[derive(Debug, Default)]
pub struct OwnKeys {
    /// Signs tokens and bytes; its tokens are accepted. Without one nothing can be issued.
    pub signing: Option<OwnKey>,
    /// Accepted and published besides: the next key, before it signs, and former ones whose tokens still live.
    pub accepted: Vec<VerificationKey>,
    /// No longer good for tokens; they verify what was once signed with [`KeyRing::sign_bytes`].
    pub retired: Vec<VerificationKey>,
}

/// A signature apart from what is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detached {
    pub kid: String,
    pub signature: Vec<u8>,
}

type Named = HashMap<String, Arc<VerificationKey>>;

#[derive(Clone, Default)]
struct Keys {
    generation: u64,
    signing: Option<Arc<OwnKey>>,
    own: Named,
    retired: Named,
    external: HashMap<String, Named>,
}

impl KeyRing {
    /// An empty ring; `issuer` is the `iss` of own tokens.
    pub fn new(issuer: impl Into<String>) -> Self {
        Self { issuer: issuer.into(), generation: AtomicU64::new(0), keys: RwLock::default() }
    }

    /// The `iss` of own tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Replaces all own keys. Tokens under a key that is neither signing nor accepted are refused from here on.
    pub fn set_own(&self, own: OwnKeys) {
        self.change(|keys| {
            let signing = own.signing.as_ref().map(|key| key.public().clone());
            keys.own = named(signing.into_iter().chain(own.accepted), Some(&keys.own));
            keys.retired = named(own.retired, Some(&keys.retired));
            keys.signing = own.signing.map(Arc::new);
        });
    }

    /// Replaces all keys of another issuer. The own issuer's name has no effect: its keys come from `set_own` alone.
    pub fn set_external(&self, issuer: &str, external: Vec<VerificationKey>) {
        self.change(|keys| {
            let external = named(external, keys.external.get(issuer));
            keys.external.insert(issuer.to_owned(), external);
        });
    }

    /// The own keys that tokens may be signed with, as a JSON Web Key Set (RFC 7517, section 5), ordered by `kid`.
    pub fn jwks(&self) -> Value {
        let keys = self.snapshot();
        let mut own: Vec<_> = keys.own.values().collect();
        own.sort_by_key(|key| key.kid());
        json!({ "keys": own.into_iter().map(|key| key.jwk()).collect::<Vec<_>>() })
    }

    /// The `kid` that `sign` uses now.
    pub fn signing_kid(&self) -> Option<String> {
        self.snapshot().signing.as_ref().map(|key| key.kid().to_owned())
    }

    /// Makes an own token, about a millisecond of processor time. Claims that the verifier would refuse, or that lack
    /// what every own token has (`iss` ours, `nbf`, a tenant or a role), are `internal`; `unavailable` without a key.
    pub fn sign(&self, claims: &Claims) -> Result<String> {
        claims.check().map_err(Error::internal)?;
        if claims.iss != self.issuer
            || claims.nbf.is_none()
            || claims.exp <= claims.iat
            || (claims.tenant_id.is_none() && claims.roles.is_empty())
        {
            return Err(Error::internal(
                "an own token needs the own issuer, nbf, exp after iat, and a tenant or a role",
            ));
        }
        self.signing_key()?.token(claims)
    }

    /// Signs a statement that opens nothing, as a JWS of type `typ` (RFC 7515, section 7.1; RFC 8725, section 3.11). A type that
    /// access tokens have, and an audience, are refused: what takes tokens must not take it.
    pub fn sign_statement(&self, typ: &'static str, statement: &Value) -> Result<String> {
        let names_an_access =
            ["jwt", "at+jwt", "application/at+jwt"].iter().any(|known| typ.eq_ignore_ascii_case(known));
        if names_an_access || statement.get("aud").is_some() || statement.get("scope").is_some() {
            return Err(Error::internal("a statement must not be like an access token"));
        }
        self.signing_key()?.statement(typ, statement)
    }

    /// Signs bytes that are kept elsewhere (RS256, verifiable with any RSA tool). What could be the signed part of a
    /// token is refused, so that no caller can be led to make one.
    pub fn sign_bytes(&self, bytes: &[u8]) -> Result<Detached> {
        if could_be_token(bytes) {
            return Err(Error::internal("bytes that could be a token must not be signed"));
        }
        let key = self.signing_key()?;
        Ok(Detached { kid: key.kid().to_owned(), signature: key.sign(bytes)? })
    }

    /// Whether an own key, a retired one too, has signed these bytes by `sign_bytes`.
    pub fn verify_bytes(&self, bytes: &[u8], detached: &Detached) -> bool {
        let keys = self.snapshot();
        let key = keys.own.get(&detached.kid).or_else(|| keys.retired.get(&detached.kid));
        !could_be_token(bytes) && key.is_some_and(|key| key.verifies(bytes, &detached.signature))
    }

    /// Grows with every change of keys. Equal numbers mean equal keys.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The key for tokens of `issuer` that is called `kid`, and the generation it was found in.
    pub(super) fn find(&self, issuer: &str, kid: &str) -> (Option<Arc<VerificationKey>>, u64) {
        let keys = self.snapshot();
        let named = if issuer == self.issuer { Some(&keys.own) } else { keys.external.get(issuer) };
        (named.and_then(|named| named.get(kid)).cloned(), keys.generation)
    }

    fn signing_key(&self) -> Result<Arc<OwnKey>> {
        self.snapshot().signing.clone().ok_or_else(|| Error::unavailable("there is no signing key yet"))
    }

    fn snapshot(&self) -> Arc<Keys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Keys)) {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Keys::clone(&keys);
        change(&mut next);
        next.generation += 1;
        let generation = next.generation;
        *keys = Arc::new(next);
        self.generation.store(generation, Ordering::Release);
    }
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRing")
            .field("issuer", &self.issuer)
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}

/// Keys by name, the first of each. A key that was there before stays the same object: by that the cache of verified
/// tokens knows that it is still in force.
fn named(keys: impl IntoIterator<Item = VerificationKey>, before: Option<&Named>) -> Named {
    let mut named = Named::new();
    for key in keys {
        let kept = before.and_then(|before| before.get(key.kid())).filter(|old| old.is_same(&key)).cloned();
        named.entry(key.kid().to_owned()).or_insert_with(|| kept.unwrap_or_else(|| Arc::new(key)));
    }
    named
}

/// Whether bytes have the form of a JWS signing input (RFC 7515, section 5.1): two base64url texts and a dot.
fn could_be_token(bytes: &[u8]) -> bool {
    let dots = bytes.iter().filter(|byte| **byte == b'.').count();
    dots == 1 && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn ring(own: OwnKeys) -> KeyRing {
        let ring = KeyRing::new(fixture::ISSUER);
        ring.set_own(own);
        ring
    }

    #[test]
    fn the_published_set_has_signing_and_accepted_keys_without_secrets() {
        let ring = ring(OwnKeys {
            signing: Some(fixture::own_key()),
            accepted: vec![fixture::other_key().public().clone()],
            retired: vec![],
        });
        let set = ring.jwks();
        let keys = set["keys"].as_array().expect("a list");
        assert_eq!(keys.len(), 2);
        for key in keys {
            let mut members: Vec<_> = key.as_object().expect("an object").keys().map(String::as_str).collect();
            members.sort_unstable();
            assert_eq!(members, ["alg", "e", "kid", "kty", "n", "use"]);
            assert_eq!(key["e"], "AQAB");
        }
        assert!(keys[0]["kid"].as_str() < keys[1]["kid"].as_str());
        assert_eq!(verification_keys(set.to_string().as_bytes()).expect("a key set").len(), 2);
    }

    #[test]
    fn bytes_stay_verifiable_after_their_key_is_retired() {
        let ring = ring(OwnKeys { signing: Some(fixture::own_key()), ..OwnKeys::default() });
        let detached = ring.sign_bytes(b"{\"sequence\":1}").expect("a signature");
        assert!(ring.verify_bytes(b"{\"sequence\":1}", &detached));
        assert!(!ring.verify_bytes(b"{\"sequence\":2}", &detached));
        let retired = vec![fixture::own_key().public().clone()];
        ring.set_own(OwnKeys { signing: Some(fixture::other_key()), retired, ..OwnKeys::default() });
        assert!(ring.verify_bytes(b"{\"sequence\":1}", &detached));
        assert!(ring.find(fixture::ISSUER, &detached.kid).0.is_none(), "a retired key is not for tokens");
        assert_eq!(ring.jwks()["keys"].as_array().map(Vec::len), Some(1));
        ring.set_own(OwnKeys::default());
        assert!(!ring.verify_bytes(b"{\"sequence\":1}", &detached));
    }

    #[test]
    fn bytes_that_could_be_a_token_are_not_signed() {
        let ring = ring(OwnKeys { signing: Some(fixture::own_key()), ..OwnKeys::default() });
        assert!(ring.sign_bytes(b"eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0").is_err());
        assert!(ring.sign_bytes(b"0a1b2c").is_ok());
        let token = fixture::forge(&fixture::own_key(), "{}", "{}");
        let (input, _) = token.rsplit_once('.').expect("three parts");
        let signature = fixture::own_key().sign(input.as_bytes()).expect("a signature");
        assert!(
            !ring.verify_bytes(input.as_bytes(), &Detached { kid: fixture::own_key().kid().to_owned(), signature })
        );
    }

    #[test]
    fn nothing_is_issued_without_a_key_or_with_claims_that_are_not_ours() {
        let empty = KeyRing::new(fixture::ISSUER);
        assert_eq!(empty.sign(&fixture::claims(0)).expect_err("there is no key").kind(), Kind::Unavailable);
        let ring = ring(OwnKeys { signing: Some(fixture::own_key()), ..OwnKeys::default() });
        assert!(ring.sign(&fixture::claims(0)).is_ok());
        let refused = |change: fn(&mut Claims)| {
            let mut claims = fixture::claims(0);
            change(&mut claims);
            assert_eq!(ring.sign(&claims).expect_err("such claims are not ours").kind(), Kind::Internal);
        };
        refused(|claims| claims.iss = "https://other.example".to_owned());
        refused(|claims| claims.nbf = None);
        refused(|claims| claims.exp = claims.iat);
        refused(|claims| claims.tenant_id = None);
        refused(|claims| claims.sub = String::new());
    }

    #[test]
    fn an_issuer_has_only_its_own_keys() {
        let ring = ring(OwnKeys { signing: Some(fixture::own_key()), ..OwnKeys::default() });
        let kid = fixture::other_key().kid().to_owned();
        ring.set_external(fixture::ISSUER, vec![fixture::other_key().public().clone()]);
        assert!(ring.find(fixture::ISSUER, &kid).0.is_none(), "nobody else sets the own issuer's keys");
        ring.set_external("https://idp.example", vec![fixture::other_key().public().clone()]);
        assert!(ring.find("https://idp.example", &kid).0.is_some());
        assert!(ring.find("https://idp.example", fixture::own_key().kid()).0.is_none());
        assert!(ring.find("https://idp.example/", &kid).0.is_none());
    }

    #[test]
    fn an_unchanged_key_stays_the_same_object() {
        let ring = KeyRing::new(fixture::ISSUER);
        let key = || vec![fixture::other_key().public().clone()];
        ring.set_external("https://idp.example", key());
        let (first, before) = ring.find("https://idp.example", fixture::other_key().kid());
        ring.set_external("https://idp.example", key());
        let (second, after) = ring.find("https://idp.example", fixture::other_key().kid());
        assert!(Arc::ptr_eq(&first.expect("a key"), &second.expect("a key")));
        assert!(after > before && after == ring.generation());
    }
}
