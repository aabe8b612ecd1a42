//! How a client says who it is: one of three ways, and no two at once (RFC 6749, section 2.3).

use axum::http::{HeaderMap, HeaderValue, header};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde::Deserialize;

use super::{
    form::{self, Form},
    refusal::Refusal,
};
use crate::platform::{ids::ClientId, secret::Secret};

/// `client_assertion_type` of a signed assertion (RFC 7523, section 2.2).
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const MAX_BASIC_BYTES: usize = 1024;

/// What a client sent as proof. `client_id` is `None` where it is nobody's: ids have one form, and that is no secret.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) client_id: Option<ClientId>,
    pub(super) proof: Proof,
}

#[derive(Debug)]
pub(super) enum Proof {
    /// `client_secret_basic` or `client_secret_post`.
    Secret(Secret),
    /// `private_key_jwt`.
    Assertion(Secret),
}

impl Credentials {
    pub(super) fn read(headers: &HeaderMap, form: &Form) -> Result<Self, Refusal> {
        let header = authorization(headers)?;
        let (secret, assertion) = (form.get("client_secret"), form.get("client_assertion"));
        let ways = usize::from(header.is_some()) + usize::from(secret.is_some()) + usize::from(assertion.is_some());
        if ways > 1 {
            return Err(Refusal::invalid_request("the client must prove itself in one way only"));
        }
        let named = form.get("client_id");
        let (claimed, proof) = match (header, secret, assertion) {
            (Some(header), ..) => {
                let (id, secret) = basic(header).ok_or_else(Refusal::invalid_client)?;
                (id, Proof::Secret(secret))
            }
            (None, Some(secret), _) => {
                let id = named.ok_or_else(|| Refusal::invalid_request("client_id is missing"))?;
                (id.to_owned(), Proof::Secret(Secret::new(secret)))
            }
            (None, None, Some(assertion)) => {
                if form.get("client_assertion_type") != Some(JWT_BEARER) {
                    return Err(Refusal::invalid_request(
                        "client_assertion_type must be the one of RFC 7523, section 2.2",
                    ));
                }
                (subject(assertion).ok_or_else(Refusal::invalid_client)?, Proof::Assertion(Secret::new(assertion)))
            }
            (None, None, None) => return Err(Refusal::invalid_client()),
        };
        if named.is_some_and(|named| named != claimed) {
            return Err(Refusal::invalid_request("client_id is not the client that proves itself"));
        }
        Ok(Self { client_id: canonical(&claimed), proof })
    }
}

fn authorization(headers: &HeaderMap) -> Result<Option<&HeaderValue>, Refusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let first = values.next();
    match values.next() {
        Some(_) => Err(Refusal::invalid_request("the header Authorization must be sent once")),
        None => Ok(first),
    }
}

/// Id and secret of `Basic …`; each was form-encoded before (RFC 6749, section 2.3.1).
fn basic(header: &HeaderValue) -> Option<(String, Secret)> {
    let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > MAX_BASIC_BYTES {
        return None;
    }
    let pair = STANDARD.decode(encoded.trim()).ok()?;
    let (id, secret) = form::split(&pair, b':')?;
    Some((form::decode(id)?, Secret::new(form::decode(secret)?)))
}

/// Whose assertion it claims to be: only to find the keys that it is then verified with.
fn subject(assertion: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claimed {
        sub: String,
    }
    let payload = URL_SAFE_NO_PAD.decode(assertion.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Claimed>(&payload).ok().map(|claimed| claimed.sub)
}

/// An id in the one spelling that we hand out.
fn canonical(text: &str) -> Option<ClientId> {
    text.parse().ok().filter(|id: &ClientId| id.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::{super::refusal::Code, *};

    const ID: &str = "0190a0a0-0000-7000-8000-000000000001";

    fn read(authorization: Option<&str>, body: &str) -> Result<Credentials, Code> {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        Credentials::read(&headers, &Form::parse(body.as_bytes()).unwrap()).map_err(|refusal| refusal.code)
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    fn secret(credentials: &Credentials) -> &str {
        match &credentials.proof {
            Proof::Secret(secret) | Proof::Assertion(secret) => secret.expose(),
        }
    }

    fn assertion(claims: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode("{}"), URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn id_and_secret_of_basic_are_form_decoded() {
        let read = |pair: &str| read(Some(&basic(pair)), "").unwrap();
        let credentials = read(&format!("{ID}:s%3Ae+cret%25"));
        assert_eq!((credentials.client_id, secret(&credentials)), (ID.parse().ok(), "s:e cret%"));
        let credentials = read(&format!("{}:a:b", ID.replace('-', "%2D")));
        assert_eq!((credentials.client_id, secret(&credentials)), (ID.parse().ok(), "a:b"));
        assert_eq!(read("nobody:x").client_id, None);
    }

    #[test]
    fn the_scheme_may_be_written_in_any_case_and_no_other_is_known() {
        let encoded = STANDARD.encode(format!("{ID}:x"));
        for scheme in ["Basic", "basic", "BASIC"] {
            assert!(read(Some(&format!("{scheme} {encoded}")), "").is_ok());
        }
        let broken = [
            format!("Bearer {encoded}"),
            "Basic".to_owned(),
            "Basic !!!".to_owned(),
            basic("no-colon"),
            basic("a:%"),
            basic(&"x:".repeat(600)),
        ];
        for header in broken {
            assert_eq!(read(Some(&header), "").unwrap_err(), Code::InvalidClient, "{header}");
        }
    }

    #[test]
    fn exactly_one_way_is_accepted() {
        let header = basic(&format!("{ID}:x"));
        let jwt = assertion(&format!("{{\"sub\":\"{ID}\"}}"));
        let with_assertion = format!("client_assertion={jwt}&client_assertion_type={JWT_BEARER}");
        assert!(read(None, &with_assertion).is_ok());
        assert_eq!(read(Some(&header), &format!("client_id={ID}&client_secret=x")).unwrap_err(), Code::InvalidRequest);
        assert_eq!(read(Some(&header), &with_assertion).unwrap_err(), Code::InvalidRequest);
        assert_eq!(
            read(None, &format!("client_id={ID}&client_secret=x&{with_assertion}")).unwrap_err(),
            Code::InvalidRequest
        );
        assert_eq!(read(None, &format!("client_id={ID}")).unwrap_err(), Code::InvalidClient);
        assert_eq!(read(None, "").unwrap_err(), Code::InvalidClient);
        let mut twice = HeaderMap::new();
        twice.append(header::AUTHORIZATION, HeaderValue::from_str(&header).unwrap());
        twice.append(header::AUTHORIZATION, HeaderValue::from_str(&header).unwrap());
        assert_eq!(Credentials::read(&twice, &Form::parse(b"").unwrap()).unwrap_err().code, Code::InvalidRequest);
    }

    #[test]
    fn a_named_client_is_the_one_that_proves_itself() {
        let header = basic(&format!("{ID}:x"));
        assert!(read(Some(&header), &format!("client_id={ID}")).is_ok());
        assert_eq!(read(Some(&header), "client_id=other").unwrap_err(), Code::InvalidRequest);
        assert_eq!(read(None, "client_secret=x").unwrap_err(), Code::InvalidRequest);
    }

    #[test]
    fn an_assertion_says_whose_it_is_and_of_what_type() {
        let read = |claims: &str, kind: &str| {
            read(None, &format!("client_assertion={}&client_assertion_type={kind}", assertion(claims)))
        };
        let credentials = read(&format!("{{\"sub\":\"{ID}\",\"x\":1}}"), JWT_BEARER).unwrap();
        assert_eq!(credentials.client_id, ID.parse().ok());
        assert_eq!(read(&format!("{{\"sub\":\"{ID}\"}}"), "other").unwrap_err(), Code::InvalidRequest);
        for claims in ["{}", "[]", "", "{\"sub\":1}", "{\"sub\":\"a\",\"sub\":\"b\"}"] {
            assert_eq!(read(claims, JWT_BEARER).unwrap_err(), Code::InvalidClient, "{claims}");
        }
    }

    #[test]
    fn an_id_has_one_spelling() {
        assert!(canonical(ID).is_some());
        for text in [ID.to_uppercase(), ID.replace('-', ""), format!("{{{ID}}}"), format!(" {ID}"), String::new()] {
            assert_eq!(canonical(&text), None, "{text}");
        }
    }
}
