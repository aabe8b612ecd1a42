//! An entry that was found.

use std::collections::HashMap;

use ldap3::SearchEntry;
use uuid::Uuid;

/// Names of attributes are the same in capitals and small letters (RFC 4512, section 2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::directory) struct Entry {
    pub(in crate::directory) dn: String,
    attributes: HashMap<String, Vec<Vec<u8>>>,
}

impl Entry {
    /// Values that are text, in the server's order.
    pub(in crate::directory) fn texts(&self, attribute: &str) -> impl Iterator<Item = &str> {
        let values = self.attributes.get(&attribute.to_ascii_lowercase());
        values.into_iter().flatten().filter_map(|value| std::str::from_utf8(value).ok())
    }

    /// Whether some values were kept back: they come in parts, as `member;range=0-1499` (Active Directory).
    pub(in crate::directory) fn has_part_of(&self, attribute: &str) -> bool {
        let prefix = format!("{};range=", attribute.to_ascii_lowercase());
        self.attributes.keys().any(|name| name.starts_with(&prefix))
    }

    /// The first value that is text.
    pub(in crate::directory) fn text(&self, attribute: &str) -> Option<&str> {
        self.texts(attribute).find(|text| !text.is_empty())
    }

    /// What identifies an entry, however it is renamed: text as it is, Active Directory's `objectGUID` as the UUID that its tools show,
    /// other bytes in hexadecimal digits.
    pub(in crate::directory) fn identifier(&self, attribute: &str) -> Option<String> {
        let value = self.attributes.get(&attribute.to_ascii_lowercase())?.first()?;
        if attribute.eq_ignore_ascii_case("objectGUID") {
            let bytes = <[u8; 16]>::try_from(value.as_slice()).ok()?;
            return Some(Uuid::from_bytes_le(bytes).to_string());
        }
        match std::str::from_utf8(value) {
            Ok("") => None,
            Ok(text) if !text.contains(char::is_control) => Some(text.to_owned()),
            _ => Some(value.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }
}

impl From<SearchEntry> for Entry {
    fn from(found: SearchEntry) -> Self {
        let texts = found.attrs.into_iter().map(|(name, values)| {
            (name.to_ascii_lowercase(), values.into_iter().map(String::into_bytes).collect::<Vec<_>>())
        });
        let bytes = found.bin_attrs.into_iter().map(|(name, values)| (name.to_ascii_lowercase(), values));
        Self { dn: found.dn, attributes: texts.chain(bytes).collect() }
    }
}

#[cfg(test)]
impl Entry {
    pub(in crate::directory) fn made(dn: &str, attributes: &[(&str, &[&[u8]])]) -> Self {
        let attributes = attributes
            .iter()
            .map(|(name, values)| (name.to_ascii_lowercase(), values.iter().map(|value| value.to_vec()).collect()));
        Self { dn: dn.to_owned(), attributes: attributes.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_identified_by_text_or_bytes() {
        let guid = [0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
        // A GUID may be valid UTF-8 by chance.
        let entry = Entry::made(
            "cn=a",
            &[("objectGUID", &[&guid]), ("entryUUID", &[b"4b6e"]), ("raw", &[&[0xff, 1]]), ("none", &[b""])],
        );
        assert_eq!(entry.identifier("OBJECTGUID").unwrap(), "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(entry.identifier("entryuuid").unwrap(), "4b6e");
        assert_eq!(entry.identifier("raw").unwrap(), "ff01");
        assert_eq!((entry.identifier("none"), entry.identifier("other")), (None, None));
        let text = Entry::made("cn=a", &[("objectGUID", &[b"0123456789abcdef"])]);
        assert_eq!(text.identifier("objectGUID").unwrap(), "33323130-3534-3736-3839-616263646566");
    }
}
