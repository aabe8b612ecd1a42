//! What a token says (RFC 7519; access tokens: RFC 9068), read strictly and written for issuing.

mod actor;
mod kept;
pub(in crate::access) mod strict;

use serde::{Deserialize, Serialize, Serializer, de::MapAccess};
use uuid::Uuid;

pub use self::{actor::ActorClaim, kept::Kept};
use self::{actor::ParsedActor, strict::Members};
use crate::platform::ids::TenantId;

/// Last second of the year 9999: what every store and every language can still show.
const MAX_TIME: i64 = 253_402_300_799;
const MAX_URI_BYTES: usize = 512;
const MAX_ID_BYTES: usize = 255;
const MAX_SCOPE_BYTES: usize = 4096;
const MAX_AUDIENCES: usize = 16;
const MAX_ROLES: usize = 64;
const MAX_METHODS: usize = 16;

/// The claims of an access token. Times are seconds since 1970 (`NumericDate`, whole seconds only).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claims {
    pub iss: String,
    pub sub: String,
    /// A text where it is one audience, a list where there are more (RFC 7519, section 4.1.3).
    #[serde(serialize_with = "one_or_many")]
    pub aud: Vec<String>,
    pub exp: i64,
    pub iat: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    pub jti: String,
    /// Names with spaces between (RFC 8693, section 4.2); empty: none.
    pub scope: String,
    pub roles: Vec<String>,
    /// The tenant that the token is bound to, as lower-case UUID with hyphens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<TenantId>,
    /// The tenant's access epoch at the time of issue. Only own tokens have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// The OAuth client that asked for the token (RFC 8693, section 4.3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The member's session that the token belongs to (OpenID Connect Front-Channel Logout 1.0, section 3), or the impersonation. Only own
    /// tokens have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// How the member was proved (RFC 8176, section 2); of members alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    /// Who really acts, where that is not the subject (RFC 8693, section 4.1). Only own tokens have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act: Option<ActorClaim>,
}

/// Which claim breaks which rule. For the log: the sender of a token never learns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("claim `{claim}` {fault}")]
pub struct InvalidClaims {
    pub claim: &'static str,
    pub fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("or what follows it is no valid JSON, repeated, of the wrong type, or too large")]
    Malformed,
    #[error("is missing")]
    Missing,
    #[error("is empty, too long, out of range, or has characters that it must not have")]
    OutOfBounds,
}

impl Claims {
    /// Reads a claims set. Unknown claims are passed over; a claim that is repeated or has another type than it must
    /// have makes the whole set invalid. `iss sub aud exp iat jti` are required. Nothing is compared with the clock.
    pub fn parse(json: &[u8]) -> Result<Self, InvalidClaims> {
        let parsed = ParsedClaims::read(json)?;
        let claims = Self {
            iss: required("iss", parsed.iss)?,
            sub: required("sub", parsed.sub)?,
            aud: required("aud", parsed.aud)?,
            exp: required("exp", parsed.exp)?,
            iat: required("iat", parsed.iat)?,
            nbf: parsed.nbf,
            jti: required("jti", parsed.jti)?,
            scope: parsed.scope.unwrap_or_default(),
            roles: parsed.roles.unwrap_or_default(),
            tenant_id: parsed.tenant_id.as_deref().map(tenant_id).transpose()?,
            epoch: parsed.epoch,
            client_id: parsed.client_id,
            sid: parsed.sid,
            amr: parsed.amr.unwrap_or_default(),
            act: parsed.act.map(ParsedActor::complete).transpose()?,
        };
        claims.check()?;
        Ok(claims)
    }

    /// The bounds of every claim: what `parse` refuses, the own issuer must not write.
    pub fn check(&self) -> Result<(), InvalidClaims> {
        within("iss", is_text(&self.iss, MAX_URI_BYTES))?;
        within("sub", is_text(&self.sub, MAX_ID_BYTES))?;
        within(
            "aud",
            (1..=MAX_AUDIENCES).contains(&self.aud.len()) && self.aud.iter().all(|aud| is_text(aud, MAX_URI_BYTES)),
        )?;
        within("exp", is_time(self.exp))?;
        within("iat", is_time(self.iat))?;
        within("nbf", self.nbf.is_none_or(is_time))?;
        within("jti", is_text(&self.jti, MAX_ID_BYTES))?;
        within("scope", self.scope.is_empty() || is_text(&self.scope, MAX_SCOPE_BYTES))?;
        within("roles", self.roles.len() <= MAX_ROLES && self.roles.iter().all(|role| is_text(role, MAX_ID_BYTES)))?;
        within("tenant_id", self.tenant_id.is_none_or(|id| !id.is_platform()))?;
        within("epoch", self.epoch.is_none_or(|epoch| epoch >= 0))?;
        within("client_id", self.client_id.as_deref().is_none_or(|id| is_text(id, MAX_ID_BYTES)))?;
        within("sid", self.sid.as_deref().is_none_or(|id| is_text(id, MAX_ID_BYTES)))?;
        within("amr", self.amr.len() <= MAX_METHODS && self.amr.iter().all(|amr| is_text(amr, MAX_ID_BYTES)))?;
        within("act", self.act.as_ref().is_none_or(|act| is_text(&act.sub, MAX_ID_BYTES)))
    }
}

/// A claims set with the right types, of which nothing else is known.
#[derive(Default)]
pub(in crate::access) struct ParsedClaims {
    pub(in crate::access) iss: Option<String>,
    pub(in crate::access) sub: Option<String>,
    pub(in crate::access) aud: Option<Vec<String>>,
    pub(in crate::access) exp: Option<i64>,
    pub(in crate::access) iat: Option<i64>,
    pub(in crate::access) nbf: Option<i64>,
    pub(in crate::access) jti: Option<String>,
    scope: Option<String>,
    roles: Option<Vec<String>>,
    tenant_id: Option<String>,
    epoch: Option<i64>,
    client_id: Option<String>,
    sid: Option<String>,
    amr: Option<Vec<String>>,
    act: Option<ParsedActor>,
    /// The last known claim that was begun, for the error.
    reached: Option<&'static str>,
}

impl ParsedClaims {
    pub(in crate::access) fn read(json: &[u8]) -> Result<Self, InvalidClaims> {
        let mut parsed = Self::default();
        match strict::read_object(json, &mut parsed) {
            Ok(()) => Ok(parsed),
            Err(_) => Err(InvalidClaims { claim: parsed.reached.unwrap_or("(first)"), fault: Fault::Malformed }),
        }
    }
}

impl Members for ParsedClaims {
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        const KNOWN: [&str; 15] = [
            "iss",
            "sub",
            "aud",
            "exp",
            "iat",
            "nbf",
            "jti",
            "scope",
            "roles",
            "tenant_id",
            "epoch",
            "client_id",
            "sid",
            "amr",
            "act",
        ];
        let Some(known) = KNOWN.into_iter().find(|known| *known == name) else { return Ok(false) };
        self.reached = Some(known);
        match known {
            "iss" => self.iss = Some(map.next_value()?),
            "sub" => self.sub = Some(map.next_value()?),
            "aud" => self.aud = Some(map.next_value::<OneOrMany>()?.into()),
            "exp" => self.exp = Some(map.next_value()?),
            "iat" => self.iat = Some(map.next_value()?),
            "nbf" => self.nbf = Some(map.next_value()?),
            "jti" => self.jti = Some(map.next_value()?),
            "scope" => self.scope = Some(map.next_value()?),
            "roles" => self.roles = Some(map.next_value()?),
            "tenant_id" => self.tenant_id = Some(map.next_value()?),
            "epoch" => self.epoch = Some(map.next_value()?),
            "client_id" => self.client_id = Some(map.next_value()?),
            "sid" => self.sid = Some(map.next_value()?),
            "amr" => self.amr = Some(map.next_value()?),
            _ => map.next_value_seed(strict::Inner(self.act.insert(ParsedActor::default())))?,
        }
        Ok(true)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl From<OneOrMany> for Vec<String> {
    fn from(value: OneOrMany) -> Self {
        match value {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        }
    }
}

fn one_or_many<S: Serializer>(values: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    match values {
        [one] => serializer.serialize_str(one),
        many => many.serialize(serializer),
    }
}

pub(in crate::access) fn required<T>(claim: &'static str, value: Option<T>) -> Result<T, InvalidClaims> {
    value.ok_or(InvalidClaims { claim, fault: Fault::Missing })
}

pub(in crate::access) fn within(claim: &'static str, holds: bool) -> Result<(), InvalidClaims> {
    if holds { Ok(()) } else { Err(InvalidClaims { claim, fault: Fault::OutOfBounds }) }
}

/// Printable ASCII (OpenID Connect Core, section 2, for `sub`), no space at either end.
fn is_text(text: &str, max_bytes: usize) -> bool {
    (1..=max_bytes).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, 0x20..=0x7e))
        && text.trim_matches(' ').len() == text.len()
}

pub(in crate::access) fn is_identifier(text: &str) -> bool {
    is_text(text, MAX_ID_BYTES)
}

pub(in crate::access) fn is_time(seconds: i64) -> bool {
    (0..=MAX_TIME).contains(&seconds)
}

/// Only the canonical spelling (RFC 9562, section 4), so that one tenant is one text everywhere.
fn tenant_id(text: &str) -> Result<TenantId, InvalidClaims> {
    let mut canonical = Uuid::encode_buffer();
    Uuid::try_parse(text)
        .ok()
        .filter(|uuid| uuid.hyphenated().encode_lower(&mut canonical) == text)
        .map(TenantId::from_uuid)
        .ok_or(InvalidClaims { claim: "tenant_id", fault: Fault::OutOfBounds })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn full() -> Value {
        json!({
            "iss": "https://tenantry.example", "sub": "client", "aud": "tenantry", "exp": 2_000_000_000, "iat": 1_999_999_000,
            "nbf": 1_999_999_000, "jti": "j-1", "scope": "auth:tenant:read", "roles": [], "tenant_id": "6f1c1f4e-8a43-4a0e-9f6b-0d9a4f1f2b3c",
            "epoch": 3, "client_id": "client", "sid": "s-1", "amr": ["pwd"],
            "act": { "sub": "operator" }
        })
    }

    fn parse(value: &Value) -> Result<Claims, InvalidClaims> {
        Claims::parse(value.to_string().as_bytes())
    }

    fn with(claim: &str, value: Value) -> Result<Claims, InvalidClaims> {
        let mut claims = full();
        claims[claim] = value;
        parse(&claims)
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let claims = parse(&full()).expect("the full set is valid");
        assert_eq!(serde_json::to_value(&claims).expect("claims are JSON"), full());
        assert_eq!(with("aud", json!(["a", "tenantry"])).expect("two audiences").aud, ["a", "tenantry"]);
    }

    #[test]
    fn required_claims_are_required_and_the_others_are_not() {
        for claim in ["iss", "sub", "aud", "exp", "iat", "jti"] {
            let mut claims = full();
            claims.as_object_mut().expect("an object").remove(claim);
            assert_eq!(parse(&claims), Err(InvalidClaims { claim, fault: Fault::Missing }));
        }
        for claim in ["nbf", "scope", "roles", "tenant_id", "epoch", "client_id", "sid", "amr", "act"] {
            let mut claims = full();
            claims.as_object_mut().expect("an object").remove(claim);
            assert!(parse(&claims).is_ok(), "{claim}");
        }
    }

    #[test]
    fn every_claim_keeps_to_its_type() {
        for claim in ["iss", "sub", "jti", "scope", "tenant_id", "client_id", "sid"] {
            for value in [json!(1), json!(null), json!(true), json!(["x"]), json!({})] {
                assert_eq!(with(claim, value), Err(InvalidClaims { claim, fault: Fault::Malformed }));
            }
        }
        for claim in ["exp", "iat", "nbf", "epoch"] {
            for value in [
                json!("2000000000"),
                json!(2_000_000_000.0),
                json!(2_000_000_000.5),
                json!(null),
                json!(true),
                json!([1]),
                json!(u64::MAX),
            ] {
                assert_eq!(with(claim, value), Err(InvalidClaims { claim, fault: Fault::Malformed }));
            }
        }
        for value in [json!(1), json!(null), json!([1]), json!([["tenantry"]]), json!({ "a": 1 })] {
            assert!(with("aud", value.clone()).is_err(), "{value}");
            assert!(with("roles", value.clone()).is_err(), "{value}");
        }
        assert!(with("roles", json!("admin")).is_err());
    }

    #[test]
    fn an_actor_is_named_once_and_more_of_it_is_passed_over() {
        let more = json!({ "sub": "operator", "iss": "https://idp.example", "act": { "sub": "before" } });
        assert_eq!(with("act", more).expect("an actor").act, Some(ActorClaim { sub: "operator".to_owned() }));
        for value in [json!("operator"), json!(null), json!(["operator"]), json!({ "sub": 1 }), json!({ "sub": null })]
        {
            assert_eq!(with("act", value), Err(InvalidClaims { claim: "act", fault: Fault::Malformed }));
        }
        assert_eq!(with("act", json!({})), Err(InvalidClaims { claim: "act", fault: Fault::Missing }));
        for sub in [String::new(), " x".to_owned(), "a\nb".to_owned(), "x".repeat(256)] {
            assert_eq!(
                with("act", json!({ "sub": sub })),
                Err(InvalidClaims { claim: "act", fault: Fault::OutOfBounds })
            );
        }
        let twice = full().to_string().replace("{\"sub\":\"operator\"}", "{\"sub\":\"operator\",\"sub\":\"other\"}");
        assert_ne!(twice, full().to_string());
        assert!(Claims::parse(twice.as_bytes()).is_err());
    }

    #[test]
    fn every_known_claim_may_stand_only_once() {
        for claim in full().as_object().expect("an object").keys() {
            let text = full().to_string();
            let doubled = format!("{},\"{claim}\":{}}}", &text[..text.len() - 1], full()[claim]);
            assert!(Claims::parse(doubled.as_bytes()).is_err(), "{claim}");
        }
        let other = full()
            .to_string()
            .replace("\"jti\"", "\"tenant\\u005fid\":\"00000000-0000-4000-8000-000000000000\",\"jti\"");
        assert!(Claims::parse(other.as_bytes()).is_err());
    }

    #[test]
    fn unknown_claims_are_passed_over() {
        assert!(with("acr", json!({ "a": [1, 2, { "b": null }] })).is_ok());
        let nested = full().to_string().replace("\"jti\"", "\"x\":{\"a\":1,\"a\":2},\"jti\"");
        assert!(Claims::parse(nested.as_bytes()).is_err());
    }

    #[test]
    fn a_tenant_has_one_spelling_and_is_never_nil() {
        for text in [
            "00000000-0000-0000-0000-000000000000",
            "6F1C1F4E-8A43-4A0E-9F6B-0D9A4F1F2B3C",
            "6f1c1f4e8a434a0e9f6b0d9a4f1f2b3c",
            "{6f1c1f4e-8a43-4a0e-9f6b-0d9a4f1f2b3c}",
            "urn:uuid:6f1c1f4e-8a43-4a0e-9f6b-0d9a4f1f2b3c",
            "6f1c1f4e-8a43-4a0e-9f6b-0d9a4f1f2b3c ",
            "",
            "acme",
        ] {
            assert_eq!(
                with("tenant_id", json!(text)),
                Err(InvalidClaims { claim: "tenant_id", fault: Fault::OutOfBounds }),
                "{text}"
            );
        }
    }

    #[test]
    fn texts_and_numbers_are_bounded() {
        let out =
            |claim, value| assert_eq!(with(claim, value), Err(InvalidClaims { claim, fault: Fault::OutOfBounds }));
        for claim in ["sub", "jti", "client_id"] {
            assert!(with(claim, json!("x".repeat(255))).is_ok());
            for text in [
                "x".repeat(256),
                String::new(),
                " x".to_owned(),
                "a\nb".to_owned(),
                "a\u{0}".to_owned(),
                "\u{202e}x".to_owned(),
            ] {
                out(claim, json!(text));
            }
        }
        out("iss", json!(""));
        out("aud", json!([]));
        out("aud", json!(""));
        out("aud", json!(vec!["a"; 17]));
        out("roles", json!(vec!["a"; 65]));
        out("scope", json!("x".repeat(4097)));
        out("exp", json!(-1));
        out("exp", json!(i64::MAX));
        out("epoch", json!(-1));
    }
}
