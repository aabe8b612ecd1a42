//! The outer form of a signed token: JWS Compact Serialization (RFC 7515, section 7.1) under the rules of RFC 8725.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::de::{Error as _, MapAccess};

use super::rejected::Reason;
use crate::access::{
    claims::strict::{self, Members},
    keyring::{MAX_TOKEN_BYTES, jwk::is_kid},
};

/// What an 8192-bit key signs.
const MAX_SIGNATURE_BYTES: usize = 1024;

/// Asymmetric algorithms of RFC 7518, section 3.1. No others have a name here: `none` and HMAC cannot be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Ps256,
    Es256,
}

impl Algorithm {
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "PS256" => Some(Self::Ps256),
            "ES256" => Some(Self::Es256),
            _ => None,
        }
    }
}

/// A token taken apart, of which nothing is verified.
pub(super) struct Compact<'a> {
    pub(super) algorithm: Algorithm,
    /// A name for a look-up in a map, never a path or an address.
    pub(super) kid: Option<String>,
    pub(super) payload: Vec<u8>,
    pub(super) signed: &'a [u8],
    pub(super) signature: Vec<u8>,
}

impl<'a> Compact<'a> {
    pub(super) fn parse(token: &'a str) -> Result<Self, Reason> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Reason::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Reason::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Reason::Malformed)?;
        let mut parsed = Header::default();
        strict::read_object(&decode(header)?, &mut parsed).map_err(|_| Reason::Header)?;
        let algorithm = parsed.alg.as_deref().and_then(Algorithm::parse).ok_or(Reason::Algorithm)?;
        if parsed.kid.as_deref().is_some_and(|kid| !is_kid(kid)) {
            return Err(Reason::KeyId);
        }
        let (payload, signature) = (decode(payload)?, decode(signature)?);
        if payload.is_empty() || !(1..=MAX_SIGNATURE_BYTES).contains(&signature.len()) {
            return Err(Reason::Malformed);
        }
        Ok(Self { algorithm, kid: parsed.kid, payload, signed: signed.as_bytes(), signature })
    }
}

/// Without padding, and with zero bits at the end: one token has one spelling (a dot is no letter of it).
fn decode(part: &str) -> Result<Vec<u8>, Reason> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Reason::Malformed)
}

#[derive(Default)]
struct Header {
    alg: Option<String>,
    kid: Option<String>,
}

impl Members for Header {
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "alg" => self.alg = Some(map.next_value()?),
            "kid" => self.kid = Some(map.next_value()?),
            "typ" if is_access_token(&map.next_value::<String>()?) => {}
            "typ" => return Err(A::Error::custom("another type of token")),
            // Extensions that must be understood, keys and places of keys that the sender picks, detached or
            // unencoded payloads (RFC 7797), encryption, compression.
            "crit" | "jku" | "jwk" | "x5u" | "x5c" | "b64" | "enc" | "zip" => {
                return Err(A::Error::custom("a member that is never accepted"));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Media types are compared without regard to case (RFC 7515, section 4.1.9).
fn is_access_token(typ: &str) -> bool {
    ["JWT", "at+jwt"].iter().any(|known| typ.eq_ignore_ascii_case(known))
}
