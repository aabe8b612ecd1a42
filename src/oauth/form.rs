//! `application/x-www-form-urlencoded` as RFC 6749, appendix B, has it, read in one way only: a broken escape, text that is
//! not UTF-8, and a parameter that is sent twice (section 3.2) make the whole form invalid.

use super::refusal::Refusal;

/// Largest body of every endpoint: an assertion of 8 KiB fits well.
pub(super) const MAX_BYTES: usize = 16 * 1024;
const MAX_PARAMETERS: usize = 32;

/// The parameters of a request.
#[derive(Debug)]
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Refusal> {
        if body.len() > MAX_BYTES {
            return Err(Refusal::invalid_request("the body is larger than 16 KiB"));
        }
        let mut parameters: Vec<(String, String)> = Vec::new();
        for part in body.split(|byte| *byte == b'&').filter(|part| !part.is_empty()) {
            let (name, value) = split(part, b'=').unwrap_or((part, b""));
            let (Some(name), Some(value)) = (decode(name), decode(value)) else {
                return Err(Refusal::invalid_request("the body is not form-encoded UTF-8"));
            };
            if parameters.iter().any(|(known, _)| *known == name) {
                return Err(Refusal::invalid_request("a parameter is sent more than once"));
            }
            if parameters.len() == MAX_PARAMETERS {
                return Err(Refusal::invalid_request("there are more than 32 parameters"));
            }
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    /// A parameter's value. One without a value counts as not sent (RFC 6749, section 3.2).
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The same for one that must be there.
    pub(super) fn require(&self, name: &str, missing: &'static str) -> Result<&str, Refusal> {
        self.get(name).ok_or_else(|| Refusal::invalid_request(missing))
    }
}

/// Takes form encoding off one name or value.
pub(super) fn decode(encoded: &[u8]) -> Option<String> {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => decoded.push(b' '),
            b'%' => {
                let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
                let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
                decoded.push(u8::try_from(high * 16 + low).ok()?);
            }
            byte => decoded.push(*byte),
        }
    }
    String::from_utf8(decoded).ok()
}

/// What stands before and after the first `at`.
pub(super) fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let position = text.iter().position(|byte| *byte == at)?;
    Some((&text[..position], &text[position + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_plus_signs_are_decoded_once() {
        let form = Form::parse(
            b"grant_type=client_credentials&scope=auth%3Atenant%3aread+auth:audit:read&x=%2525&e=%E2%82%AC",
        )
        .unwrap();
        assert_eq!(form.get("grant_type"), Some("client_credentials"));
        assert_eq!(form.get("scope"), Some("auth:tenant:read auth:audit:read"));
        assert_eq!(form.get("x"), Some("%25"));
        assert_eq!(form.get("e"), Some("€"));
        assert_eq!(Form::parse(b"a=b=c").unwrap().get("a"), Some("b=c"));
    }

    #[test]
    fn a_parameter_without_a_value_is_not_there() {
        let form = Form::parse(b"scope=&token&&").unwrap();
        assert_eq!((form.get("scope"), form.get("token"), form.get("other")), (None, None, None));
    }

    #[test]
    fn a_parameter_may_stand_only_once_in_any_spelling() {
        for body in ["scope=a&scope=a", "scope=a&scope=", "scope=a&%73cope=b", "x=1&scope=a&x=1", "x&x"] {
            assert!(Form::parse(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn what_is_broken_or_too_large_is_refused() {
        for body in ["a=%", "a=%4", "a=%zz", "a=%ff", "%=1", "a=%+1"] {
            assert!(Form::parse(body.as_bytes()).is_err(), "{body}");
        }
        let many = |count: usize| (0..count).map(|index| format!("p{index}=1")).collect::<Vec<_>>().join("&");
        assert!(Form::parse(many(32).as_bytes()).is_ok());
        assert!(Form::parse(many(33).as_bytes()).is_err());
        assert!(Form::parse(format!("a={}", "x".repeat(MAX_BYTES)).as_bytes()).is_err());
    }
}
