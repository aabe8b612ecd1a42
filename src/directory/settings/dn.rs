//! Distinguished names as text (RFC 4514).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const LONGEST: usize = 2000;
const MOST_PARTS: usize = 60;

/// A name that was read. It is sent as it was written, and compared by its parts: types and values without regard to capitals, as the
/// attributes in names of directories are compared.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Dn {
    text: String,
    key: DnKey,
}

/// What is the same for all ways to write a name.
pub(in crate::directory) type DnKey = Vec<Vec<(String, Vec<u8>)>>;

impl Dn {
    /// `field` is where it was sent.
    pub(super) fn parse(text: &str, field: &str) -> Result<Self> {
        let refused = |rule: String| Error::invalid(field, rule);
        if text.is_empty() || text.len() > LONGEST {
            return Err(refused(format!("has 1 to {LONGEST} bytes")));
        }
        let key = key_of(text).ok_or_else(|| refused("must be a distinguished name (RFC 4514)".to_owned()))?;
        Ok(Self { text: text.to_owned(), key })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub(in crate::directory) fn key(&self) -> &DnKey {
        &self.key
    }
}

impl PartialEq for Dn {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Dn {}

impl TryFrom<String> for Dn {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text, "dn")
    }
}

impl From<Dn> for String {
    fn from(dn: Dn) -> Self {
        dn.text
    }
}

impl fmt::Display for Dn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The parts of a name, or `None` where it breaks the grammar of RFC 4514, section 3. An empty name has no parts.
pub(in crate::directory) fn key_of(text: &str) -> Option<DnKey> {
    if text.contains(['\0', '\n', '\r']) {
        return None;
    }
    let mut names = Vec::new();
    let mut rest = text;
    while !rest.is_empty() || !names.is_empty() {
        let mut part = Vec::new();
        let end = loop {
            let (attribute, behind) = attribute(rest)?;
            part.push(attribute);
            let next = behind.chars().next();
            rest = behind.get(1..).unwrap_or_default(); // past a comma or a plus
            if next != Some('+') {
                break next;
            }
        };
        part.sort();
        names.push(part);
        if names.len() > MOST_PARTS {
            return None;
        }
        if end.is_none() {
            break;
        }
    }
    Some(names)
}

/// `type=value`, and what stands behind it: nothing, or from a comma or plus on.
fn attribute(text: &str) -> Option<((String, Vec<u8>), &str)> {
    let (name, value) = text.split_once('=')?;
    let name = name.trim_matches(' ');
    let is_descriptor = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-')
    };
    let is_number =
        |name: &str| name.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    if !is_descriptor(name) && !is_number(name) {
        return None;
    }
    let value_start = value.trim_start_matches(' ');
    let (value, rest) =
        if let Some(hex) = value_start.strip_prefix('#') { hexadecimal(hex)? } else { plain(value_start)? };
    Some(((name.to_ascii_lowercase(), value), rest))
}

fn hexadecimal(text: &str) -> Option<(Vec<u8>, &str)> {
    let end = text.find([',', '+']).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let digits = digits.trim_end_matches(' ');
    let is_whole = !digits.is_empty() && digits.len() % 2 == 0 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_whole.then(|| (format!("#{}", digits.to_ascii_lowercase()).into_bytes(), rest))
}

fn plain(text: &str) -> Option<(Vec<u8>, &str)> {
    let (bytes, mut value, mut at, mut kept) = (text.as_bytes(), Vec::new(), 0, 0);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b',' | b'+' => break,
            b'"' | b';' | b'<' | b'>' => return None,
            b'\\' => {
                let (escaped, length) = escape(bytes.get(at + 1..)?)?;
                value.push(escaped);
                kept = value.len();
                at += 1 + length;
            }
            other => {
                value.push(other);
                if other != b' ' {
                    kept = value.len();
                }
                at += 1;
            }
        }
    }
    value.truncate(kept);
    // Of texts, capitals and runs of blanks make no difference (RFC 4518).
    let folded = match String::from_utf8(value) {
        Ok(text) => {
            text.to_lowercase().split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ").into_bytes()
        }
        Err(bytes) => bytes.into_bytes(),
    };
    Some((folded, &text[at..]))
}

/// The byte behind a backslash, and how many bytes say it.
fn escape(bytes: &[u8]) -> Option<(u8, usize)> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    match bytes {
        [b' ' | b'"' | b'#' | b'+' | b',' | b';' | b'<' | b'=' | b'>' | b'\\', ..] => Some((bytes[0], 1)),
        [high, low, ..] => Some((digit(*high)? << 4 | digit(*low)?, 2)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_the_standard_are_read() {
        for text in [
            "UID=jsmith,DC=example,DC=net",
            "OU=Sales+CN=J.  Smith,DC=example,DC=net",
            "CN=James \\\"Jim\\\" Smith\\, III,DC=example,DC=net",
            "CN=Before\\0dAfter,DC=example,DC=net",
            "1.3.6.1.4.1.1466.0=#04024869",
            "CN=Lu\\C4\\8Di\\C4\\87",
            "cn=Lučić, dc=example",
            "cn=",
            "cn=a=b",
        ] {
            assert!(Dn::parse(text, "dn").is_ok(), "{text}");
        }
        for text in [
            "",
            "cn",
            "=a",
            "cn=a,",
            "cn=a,,dc=b",
            "cn=a+",
            "cn=a;dc=b",
            "cn=\"a\"",
            "cn=a<b",
            "cn=a\\",
            "cn=a\\g1",
            "cn=#0",
            "cn=#zz",
            "c n=a",
            "cn=a\0",
            "1..2=a",
            "-a=b",
            "cn=a\ndc=b",
        ] {
            assert!(Dn::parse(text, "dn").is_err(), "{text:?}");
        }
    }

    #[test]
    fn one_name_has_many_ways_to_be_written() {
        let same = |a: &str, b: &str| key_of(a).unwrap() == key_of(b).unwrap();
        assert!(same("cn=Admins, ou=Groups,dc=example", "CN=admins,OU=groups,DC=Example"));
        assert!(same("cn=a\\2cb", "cn=a\\,b") && same("cn=Lu\\C4\\8Di\\C4\\87", "cn=Lučić"));
        assert!(same("ou=x+cn=y", "cn=y+ou=x") && same("cn=a  b ", "cn=a b"));
        assert!(!same("cn=a,dc=b", "dc=b,cn=a") && !same("cn=a\\,dc=b", "cn=a,dc=b"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}") {
            let _ = Dn::parse(&text, "dn");
        }

        #[test]
        fn an_escaped_value_stays_one_value(value in "[^\0\n\r]{1,30}") {
            let name = format!("cn={},dc=example", ldap3::dn_escape(value.as_str()));
            prop_assert_eq!(key_of(&name).map(|parts| parts.len()), Some(2));
        }
    }
}
