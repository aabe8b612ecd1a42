//! A key that checks signatures.

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rsa::PublicKeyComponents,
    signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::jwk::{Jwk, Unusable, is_kid, thumbprint};

/// Smallest modulus that is accepted (AUTH-1), and the largest that costs a bounded time.
const MODULUS_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// An RSA public key of 2048 to 8192 bits, for RS256 alone, parsed once.
#[derive(Clone)]
pub struct VerificationKey {
    kid: String,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
    parsed: ParsedPublicKey,
}

impl VerificationKey {
    /// From a member of a JSON Web Key Set, which must be named and meant for RS256 signatures, if it says for what.
    pub fn from_jwk(value: &Value) -> Result<Self, Unusable> {
        let jwk = Jwk::read(value)?;
        let (modulus, exponent) = jwk.rsa()?;
        if jwk.alg.as_deref().is_some_and(|alg| alg != "RS256") {
            return Err(Unusable("`alg` is not `RS256`"));
        }
        Self::from_components(jwk.kid.ok_or(Unusable("it has no `kid`"))?, modulus, exponent)
    }

    /// From big-endian numbers without leading zeros.
    pub fn from_components(kid: String, modulus: Vec<u8>, exponent: Vec<u8>) -> Result<Self, Unusable> {
        if !is_kid(&kid) {
            return Err(Unusable("`kid` is not 1 to 64 of A-Z a-z 0-9 _ -"));
        }
        let parsed = parse_rsa(&RSA_PKCS1_2048_8192_SHA256, &modulus, &exponent)?;
        Ok(Self { kid, modulus, exponent, parsed })
    }

    /// Like `from_components`, named by its RFC 7638 thumbprint, as every own key is.
    pub fn from_own_components(modulus: Vec<u8>, exponent: Vec<u8>) -> Result<Self, Unusable> {
        Self::from_components(thumbprint(&modulus, &exponent), modulus, exponent)
    }

    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Big-endian, without leading zeros.
    pub fn modulus(&self) -> &[u8] {
        &self.modulus
    }

    /// Big-endian, without leading zeros.
    pub fn exponent(&self) -> &[u8] {
        &self.exponent
    }

    /// The key as RFC 7517 publishes it.
    pub fn jwk(&self) -> Value {
        json!({
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": self.kid,
            "n": URL_SAFE_NO_PAD.encode(&self.modulus),
            "e": URL_SAFE_NO_PAD.encode(&self.exponent),
        })
    }

    /// Whether `signature` is this key's RSASSA-PKCS1-v1_5 signature with SHA-256 over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.kid == other.kid && self.modulus == other.modulus && self.exponent == other.exponent
    }
}

impl std::fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerificationKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// Parses an RSA key after its size and form are checked, for one algorithm.
pub(in crate::access) fn parse_rsa(
    algorithm: &'static dyn VerificationAlgorithm,
    modulus: &[u8],
    exponent: &[u8],
) -> Result<ParsedPublicKey, Unusable> {
    if !MODULUS_BITS.contains(&bits(modulus)) {
        return Err(Unusable("its modulus must have 2048 to 8192 bits"));
    }
    let odd = |number: &[u8]| number.last().is_some_and(|octet| octet % 2 == 1);
    if !odd(modulus) || !odd(exponent) || exponent == [1] || !(1..=4).contains(&exponent.len()) {
        return Err(Unusable("modulus and exponent must be odd, the exponent from 3 to 2^32"));
    }
    let der: PublicKeyX509Der<'_> = PublicKeyComponents { n: modulus, e: exponent }
        .as_der()
        .map_err(|_| Unusable("its numbers make no RSA key"))?;
    ParsedPublicKey::new(algorithm, der.as_ref()).map_err(|_| Unusable("its numbers make no RSA key"))
}

fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}
