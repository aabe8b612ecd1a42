//! A key that signs: made here, kept sealed by the caller.

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_SHA256},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use zeroize::Zeroizing;

use super::VerificationKey;
use crate::{
    access::claims::Claims,
    error::{Context as _, Error, Result},
};

/// Longest token that is made or accepted.
pub(in crate::access) const MAX_TOKEN_BYTES: usize = 8192;

/// An own RSA key pair. Its `kid` is the RFC 7638 thumbprint of its public part.
pub struct OwnKey {
    public: VerificationKey,
    pub created_at: DateTime<Utc>,
    pair: KeyPair,
    /// The JOSE header of every token that it signs, encoded.
    header: String,
}

impl OwnKey {
    /// Makes a key of 2048, 3072 or 4096 bits. Takes 0.1 to several seconds of processor time: run it on a blocking thread.
    pub fn generate(bits: usize, created_at: DateTime<Utc>) -> Result<Self> {
        let size = match bits {
            2048 => KeySize::Rsa2048,
            3072 => KeySize::Rsa3072,
            4096 => KeySize::Rsa4096,
            _ => return Err(Error::invalid("bits", "must be 2048, 3072 or 4096")),
        };
        let pair = KeyPair::generate(size).map_err(|_| Error::internal("generate a signing key"))?;
        Self::from_pair(pair, created_at)
    }

    /// Reads an unencrypted PKCS #8 key (RFC 5208) in DER. Anything but RSA of 2048 to 8192 bits is refused.
    pub fn from_pkcs8(pkcs8: &[u8], created_at: DateTime<Utc>) -> Result<Self> {
        let pair = KeyPair::from_pkcs8(pkcs8).map_err(|rejected| rejected.to_string()).context("read a signing key")?;
        Self::from_pair(pair, created_at)
    }

    fn from_pair(pair: KeyPair, created_at: DateTime<Utc>) -> Result<Self> {
        let (modulus, exponent) =
            components(pair.public_key().as_ref()).context("read the public part of a signing key")?;
        let public =
            VerificationKey::from_own_components(modulus, exponent).context("read the public part of a signing key")?;
        let header = format!(r#"{{"alg":"RS256","typ":"at+jwt","kid":"{}"}}"#, public.kid());
        Ok(Self { public, created_at, pair, header: URL_SAFE_NO_PAD.encode(header) })
    }

    pub fn kid(&self) -> &str {
        self.public.kid()
    }

    pub fn public(&self) -> &VerificationKey {
        &self.public
    }

    /// The private key as PKCS #8 in DER, to be sealed at once.
    pub fn pkcs8(&self) -> Result<Zeroizing<Vec<u8>>> {
        let der: Pkcs8V1Der<'_> = self.pair.as_der().map_err(|_| Error::internal("write a signing key"))?;
        Ok(Zeroizing::new(der.as_ref().to_vec()))
    }

    /// A signed token (RFC 7515, section 7.1) of the type that RFC 9068, section 2.1, gives access tokens.
    pub(super) fn token(&self, claims: &Claims) -> Result<String> {
        let payload = serde_json::to_vec(claims).context("write the claims of a token")?;
        let mut token = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(payload));
        let signature = self.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        if token.len() > MAX_TOKEN_BYTES {
            Err(Error::invalid("scope", "the token would be longer than 8 KiB"))
        } else {
            Ok(token)
        }
    }

    /// A signed statement of another type than access tokens have.
    pub(super) fn statement(&self, typ: &str, payload: &serde_json::Value) -> Result<String> {
        let header = serde_json::json!({ "alg": "RS256", "typ": typ, "kid": self.kid() }).to_string();
        let mut statement = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(serde_json::to_vec(payload).context("write a statement")?)
        );
        let signature = self.sign(statement.as_bytes())?;
        statement.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut statement);
        Ok(statement)
    }

    /// RSASSA-PKCS1-v1_5 with SHA-256. Takes about a millisecond.
    pub(in crate::access) fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        // This padding is deterministic: the random source is asked for by the signature only.
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| Error::internal("sign"))?;
        Ok(signature)
    }
}

impl std::fmt::Debug for OwnKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnKey").field("kid", &self.kid()).field("created_at", &self.created_at).finish_non_exhaustive()
    }
}

/// Modulus and exponent of an `RSAPublicKey` in DER (RFC 8017, appendix A.1.1), as aws-lc writes it.
fn components(der: &[u8]) -> Result<(Vec<u8>, Vec<u8>), &'static str> {
    const SEQUENCE: u8 = 0x30;
    let (numbers, rest) = element(der, SEQUENCE)?;
    let (modulus, exponent) = integer(numbers)?;
    let (exponent, end) = integer(exponent)?;
    if rest.is_empty() && end.is_empty() { Ok((modulus, exponent)) } else { Err("something follows the key") }
}

fn integer(der: &[u8]) -> Result<(Vec<u8>, &[u8]), &'static str> {
    const INTEGER: u8 = 0x02;
    let (octets, rest) = element(der, INTEGER)?;
    Ok((octets.strip_prefix(&[0]).unwrap_or(octets).to_vec(), rest))
}

fn element(der: &[u8], tag: u8) -> Result<(&[u8], &[u8]), &'static str> {
    let content = der.strip_prefix(&[tag]).ok_or("another tag than expected")?;
    let (length, content) = match content {
        [0x82, high, low, content @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), content),
        [0x81, length, content @ ..] => (usize::from(*length), content),
        [length @ ..=0x7f, content @ ..] => (usize::from(*length), content),
        _ => return Err("a length that no key here has"),
    };
    content.split_at_checked(length).ok_or("cut short")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::keyring::fixture;

    #[test]
    fn a_key_survives_its_pkcs8_form() {
        let key = fixture::own_key();
        let pkcs8 = key.pkcs8().expect("a PKCS #8 key");
        let again = OwnKey::from_pkcs8(&pkcs8, key.created_at).expect("the same key");
        assert_eq!(again.kid(), key.kid());
        assert_eq!(again.kid().len(), 43);
        let signature = again.sign(b"message").expect("a signature");
        assert!(key.public().verifies(b"message", &signature));
        assert!(!key.public().verifies(b"massage", &signature));
    }

    #[test]
    fn small_and_odd_sizes_are_refused() {
        assert!(OwnKey::generate(1024, DateTime::UNIX_EPOCH).is_err());
        assert!(OwnKey::generate(2047, DateTime::UNIX_EPOCH).is_err());
        assert!(OwnKey::from_pkcs8(b"no key", DateTime::UNIX_EPOCH).is_err());
    }

    #[test]
    fn a_key_prints_without_its_secret() {
        let printed = format!("{:?}", fixture::own_key());
        assert!(printed.len() < 150, "{printed}");
    }

    #[test]
    fn der_that_is_not_a_key_is_an_error() {
        for der in [
            &b""[..],
            b"\x30",
            b"\x30\x03\x02\x01",
            b"\x30\x82\xff",
            b"\x30\x00",
            b"\x30\x06\x02\x01\x05\x02\x01\x03\x00",
            b"\x30\x80",
        ] {
            assert!(components(der).is_err());
        }
        assert_eq!(components(b"\x30\x06\x02\x01\x05\x02\x01\x03"), Ok((vec![5], vec![3])));
    }
}
