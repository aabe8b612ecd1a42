//! Names in certificates: how they are shown, and how they are compared.

use x509_parser::{
    asn1_rs::Tag,
    extensions::GeneralName,
    objects::{oid_registry, oid2abbrev},
    x509::{AttributeTypeAndValue, X509Name},
};

use std::net::IpAddr;

/// Of the Microsoft user principal name, an otherName ([MS-WCCE], section 2.2.2.7.7.4).
const UPN: &str = "1.3.6.1.4.1.311.20.2.3";

/// One part of a distinguished name: its attributes as they are compared, in order.
pub(super) type Part = Vec<(String, String)>;

/// A name in a certificate, or what a name constraint is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// rfc822Name.
    Email(String),
    /// User principal name, an otherName.
    Upn(String),
    Dns(String),
    Uri(String),
    /// Of a certificate 4 or 16 octets; of a constraint twice as many, the second half being the mask.
    Address(Vec<u8>),
    Directory(DirectoryName),
    /// Another form, by which nobody is recognised here.
    Other(&'static str),
}

/// A distinguished name, as it is shown and as it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryName {
    /// RFC 4514.
    pub text: String,
    pub(super) parts: Vec<Part>,
}

impl Name {
    /// `None` for what cannot be read.
    pub(super) fn read(name: &GeneralName<'_>) -> Option<Self> {
        Some(match name {
            GeneralName::RFC822Name(text) => Self::Email((*text).to_owned()),
            GeneralName::DNSName(text) => Self::Dns((*text).to_owned()),
            GeneralName::URI(text) => Self::Uri((*text).to_owned()),
            GeneralName::IPAddress(octets) => Self::Address(octets.to_vec()),
            GeneralName::DirectoryName(name) => Self::Directory(DirectoryName::read(name)),
            GeneralName::OtherName(oid, value) if oid.to_id_string() == UPN => Self::Upn(upn(value)?),
            GeneralName::OtherName(..) => Self::Other("otherName"),
            GeneralName::X400Address(_) => Self::Other("x400Address"),
            GeneralName::EDIPartyName(_) => Self::Other("ediPartyName"),
            GeneralName::RegisteredID(_) => Self::Other("registeredID"),
            GeneralName::Invalid(..) => return None,
        })
    }

    /// The form, by its name in RFC 5280.
    pub fn form(&self) -> &'static str {
        match self {
            Self::Email(_) => "rfc822Name",
            Self::Upn(_) => "userPrincipalName",
            Self::Dns(_) => "dNSName",
            Self::Uri(_) => "uniformResourceIdentifier",
            Self::Address(_) => "iPAddress",
            Self::Directory(_) => "directoryName",
            Self::Other(form) => form,
        }
    }

    pub fn text(&self) -> String {
        match self {
            Self::Email(text) | Self::Upn(text) | Self::Dns(text) | Self::Uri(text) => text.clone(),
            Self::Address(octets) => address(octets),
            Self::Directory(name) => name.text.clone(),
            Self::Other(_) => String::new(),
        }
    }
}

/// The value of an otherName is `[0] EXPLICIT UTF8String`.
fn upn(value: &[u8]) -> Option<String> {
    use x509_parser::asn1_rs::{Any, FromDer};
    let (_, tagged) = Any::from_der(value).ok()?;
    let (rest, inner) = Any::from_der(tagged.data).ok()?;
    let is_text = tagged.header.tag().0 == 0 && inner.tag() == Tag::Utf8String && rest.is_empty();
    is_text.then(|| std::str::from_utf8(inner.data).ok().map(str::to_owned))?
}

fn address(octets: &[u8]) -> String {
    let one = |octets: &[u8]| match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    };
    if let Some(address) = one(octets) {
        return address.to_string();
    }
    let (base, mask) = octets.split_at(octets.len() / 2);
    match (one(base), one(mask)) {
        (Some(base), Some(mask)) => format!("{base}/{mask}"),
        _ => hex(octets),
    }
}

impl DirectoryName {
    pub(super) fn read(name: &X509Name<'_>) -> Self {
        let parts: Vec<Part> = name
            .iter_rdn()
            .map(|part| {
                let mut attributes: Part = part.iter().map(compared).collect();
                attributes.sort();
                attributes
            })
            .collect();
        let mut shown: Vec<String> =
            name.iter_rdn().map(|part| part.iter().map(shown).collect::<Vec<_>>().join("+")).collect();
        shown.reverse();
        Self { text: shown.join(","), parts }
    }

    /// Whether this name begins with all parts of the other one (RFC 5280, section 4.2.1.10).
    pub(super) fn is_within(&self, base: &Self) -> bool {
        self.parts.len() >= base.parts.len() && self.parts.iter().zip(&base.parts).all(|(own, base)| own == base)
    }
}

/// Letters of any case and any white space are one (RFC 5280, section 7.1, simplified as OpenSSL has it).
fn compared(attribute: &AttributeTypeAndValue<'_>) -> (String, String) {
    let value = match attribute.as_str() {
        Ok(text) => text.split_ascii_whitespace().collect::<Vec<_>>().join(" ").to_ascii_lowercase(),
        Err(_) => format!("#{}:{}", attribute.attr_value().tag().0, hex(attribute.as_slice())),
    };
    (attribute.attr_type().to_id_string(), value)
}

/// RFC 4514, section 2.
fn shown(attribute: &AttributeTypeAndValue<'_>) -> String {
    let kind = oid2abbrev(attribute.attr_type(), oid_registry())
        .map_or_else(|_| attribute.attr_type().to_id_string(), str::to_owned);
    match attribute.as_str() {
        Ok(text) => format!("{kind}={}", escaped(text)),
        Err(_) => format!("{kind}=#{}", hex(attribute.as_slice())),
    }
}

fn escaped(text: &str) -> String {
    let last = text.chars().count().saturating_sub(1);
    let mut escaped = String::with_capacity(text.len());
    for (place, letter) in text.chars().enumerate() {
        match letter {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => escaped.extend(['\\', letter]),
            '#' | ' ' if place == 0 => escaped.extend(['\\', letter]),
            ' ' if place == last => escaped.extend(['\\', letter]),
            control if control.is_control() => {
                let mut buffer = [0; 4];
                for byte in control.encode_utf8(&mut buffer).bytes() {
                    escaped.push_str(&format!("\\{byte:02x}"));
                }
            }
            letter => escaped.push(letter),
        }
    }
    escaped
}

pub(super) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_separates_parts_is_escaped() {
        assert_eq!(escaped("Acme, Inc. + \"Sons\""), "Acme\\, Inc. \\+ \\\"Sons\\\"");
        assert_eq!(escaped(" #\0 "), "\\ #\\00\\ ");
        assert_eq!(escaped("#1"), "\\#1");
    }

    #[test]
    fn addresses_and_their_masks_are_shown() {
        assert_eq!(address(&[10, 0, 0, 1]), "10.0.0.1");
        assert_eq!(address(&[10, 0, 0, 0, 255, 0, 0, 0]), "10.0.0.0/255.0.0.0");
        assert_eq!(address(&[1, 2, 3]), "010203");
    }
}
