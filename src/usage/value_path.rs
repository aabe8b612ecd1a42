//! Where an event's body says its quantity: a singular query of JSONPath (RFC 9535, section 2.3.5.1), such as `$.usage['total tokens'][0]`.

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::http::quantity_text;
use crate::error::{Error, Result};

/// Of a path, and of what it goes through.
const LONGEST: usize = 500;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Member(String),
    /// From the begin, or from the end where it is negative.
    Element(i64),
}

/// A path that finds one value or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ValuePath(Vec<Step>);

impl ValuePath {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let rule = "must be a JSONPath that finds one value (a singular query of RFC 9535), such as $.usage.total or $['a b'][0], of at most 500 characters";
        let refused = || Error::invalid("valuePath", rule);
        if text.chars().count() > LONGEST || text.contains('\0') {
            return Err(refused());
        }
        let mut rest = text.strip_prefix('$').ok_or_else(refused)?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, left) = shorthand(rest).or_else(|| bracketed(rest)).ok_or_else(refused)?;
            steps.push(step);
            rest = left;
        }
        if steps.is_empty() {
            return Err(refused());
        }
        Ok(Self(steps))
    }

    /// The number that a body has there, as it was written; none where it has nothing there.
    pub(super) fn find(&self, body: &RawValue) -> Result<Option<String>> {
        let mut at = body;
        for step in &self.0 {
            let next = match step {
                Step::Member(name) => {
                    // What is no object has no members, RFC 9535, section 2.3.1.2.
                    let members: HashMap<String, &RawValue> = serde_json::from_str(at.get()).unwrap_or_default();
                    members.get(name).copied()
                }
                Step::Element(index) => {
                    let elements: Vec<&RawValue> = serde_json::from_str(at.get()).unwrap_or_default();
                    let from_end = || elements.len().checked_sub(usize::try_from(index.unsigned_abs()).ok()?);
                    let place = if *index < 0 { from_end() } else { usize::try_from(*index).ok() };
                    place.and_then(|place| elements.get(place).copied())
                }
            };
            match next {
                Some(next) => at = next,
                None => return Ok(None),
            }
        }
        quantity_text(at).map(Some)
    }
}

/// `.name`, of letters, digits, `_` and what is not ASCII, no digit first.
fn shorthand(text: &str) -> Option<(Step, &str)> {
    let name = text.strip_prefix('.')?;
    let first = name.chars().next()?;
    let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || !letter.is_ascii();
    if !is_of_name(first) || first.is_ascii_digit() {
        return None;
    }
    let (name, rest) = name.split_at(name.find(|letter| !is_of_name(letter)).unwrap_or(name.len()));
    Some((Step::Member(name.to_owned()), rest))
}

/// `['name']`, `["name"]` or `[0]`.
fn bracketed(text: &str) -> Option<(Step, &str)> {
    let inner = text.strip_prefix('[')?;
    let (step, rest) = match inner.chars().next()? {
        quote @ ('\'' | '"') => quoted(&inner[1..], quote)?,
        _ => {
            let (digits, rest) = inner.split_at(inner.find(']')?);
            let unsigned = digits.strip_prefix('-').unwrap_or(digits);
            let is_index = !unsigned.is_empty()
                && unsigned.bytes().all(|byte| byte.is_ascii_digit())
                && (digits == "0" || !unsigned.starts_with('0'));
            (Step::Element(is_index.then(|| digits.parse().ok())??), rest)
        }
    };
    Some((step, rest.strip_prefix(']')?))
}

/// A name up to its closing quotation mark. Escapes are those of JSON, and of the mark itself.
fn quoted(text: &str, quote: char) -> Option<(Step, &str)> {
    let mut is_escaped = false;
    let end = text.find(|letter| {
        let is_end = letter == quote && !is_escaped;
        is_escaped = letter == '\\' && !is_escaped;
        is_end
    })?;
    let (inside, rest) = (&text[..end], &text[end + 1..]);
    // Between double quotation marks it is a text of JSON.
    let json = if quote == '"' { inside.to_owned() } else { inside.replace("\\'", "'").replace('"', "\\\"") };
    Some((Step::Member(serde_json::from_str(&format!("\"{json}\"")).ok()?), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, body: &str) -> Result<Option<String>> {
        ValuePath::parse(path)?.find(serde_json::from_str(body).unwrap())
    }

    #[test]
    fn a_path_finds_what_is_there_digit_by_digit() {
        let body = r#"{ "usage": { "total tokens": [7, "0.100000000000000001", { "ä": 123456789012345.123456789 }], "it's": 1, "a\"b": 2 } }"#;
        for (path, expected) in [
            ("$.usage['total tokens'][0]", Some("7")),
            ("$.usage[\"total tokens\"][1]", Some("0.100000000000000001")),
            ("$['usage']['total tokens'][-1].ä", Some("123456789012345.123456789")),
            ("$.usage['it\\'s']", Some("1")),
            ("$.usage['a\"b']", Some("2")),
            ("$.usage[\"a\\\"b\"]", Some("2")),
            ("$.usage['\\u0069t\\'s']", Some("1")),
            ("$.usage['total tokens'][-4]", None),
            ("$.usage['total tokens'][3]", None),
            ("$.usage[0]", None),
            ("$.usage['total tokens'].length", None),
            ("$.nothing.at.all", None),
        ] {
            assert_eq!(found(path, body).unwrap().as_deref(), expected, "{path}");
        }
        assert_eq!(found("$.usage", body).unwrap_err().field(), Some("quantity"));
        assert_eq!(found("$.a", r#"{ "a": true }"#).unwrap_err().field(), Some("quantity"));
    }

    #[test]
    fn what_may_find_several_values_is_refused() {
        let paths = [
            "",
            "$",
            "usage",
            "$usage",
            "$.",
            "$..usage",
            "$.*",
            "$[*]",
            "$[0:2]",
            "$[0,1]",
            "$['a','b']",
            "$[?@.a]",
            "$[01]",
            "$[-0]",
            "$[-01]",
            "$[ 0]",
            "$['a]",
            "$['a'",
            "$.0",
            "$.a b",
            "$[99999999999999999999]",
            "$['\\x']",
            "$.a\0",
        ];
        for path in paths {
            assert_eq!(ValuePath::parse(path).unwrap_err().field(), Some("valuePath"), "{path}");
        }
        assert!(ValuePath::parse(&format!("$.{}", "a".repeat(LONGEST))).is_err());
    }
}
