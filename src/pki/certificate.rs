//! A certificate, read once: everything that is shown of it and everything that paths are judged by (RFC 5280, section 4).

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, Utc};
use x509_parser::{
    certificate::X509Certificate,
    extensions::{DistributionPointName, GeneralName, ParsedExtension},
    oid_registry::Oid,
    prelude::FromDer as _,
    public_key::PublicKey,
    time::ASN1Time,
    x509::{SubjectPublicKeyInfo, X509Version},
};

use super::name::{DirectoryName, Name};

/// More than any certificate in use has.
pub const MOST_BYTES: usize = 16 * 1024;
const CLIENT_AUTH: &str = "1.3.6.1.5.5.7.3.2";
pub(super) const OCSP_SIGNING: &str = "1.3.6.1.5.5.7.3.9";

/// SHA-256 of the DER encoding.
pub type Fingerprint = [u8; 32];

#[derive(Clone, Debug)]
pub struct Certificate {
    pub der: Arc<[u8]>,
    pub fingerprint: Fingerprint,
    pub is_version_3: bool,
    pub subject: DirectoryName,
    pub issuer: DirectoryName,
    pub(super) raw_subject: Vec<u8>,
    pub(super) raw_issuer: Vec<u8>,
    pub serial: Vec<u8>,
    pub not_before: DateTime<Utc>,
    pub not_after: DateTime<Utc>,
    pub key: Key,
    /// The algorithm by which it is signed: its name where it has one here, else its object identifier.
    pub signature_algorithm: String,
    pub basic_constraints: Option<BasicConstraints>,
    /// The bits of RFC 5280, section 4.2.1.3, the first being the lowest.
    pub key_usage: Option<u16>,
    /// Object identifiers.
    pub extended_key_usage: Option<Vec<String>>,
    pub name_constraints: Option<NameConstraints>,
    /// Subject alternative names.
    pub names: Vec<Name>,
    pub common_names: Vec<String>,
    /// emailAddress attributes of the subject.
    pub subject_emails: Vec<String>,
    pub subject_key_id: Option<Vec<u8>>,
    pub authority_key_id: Option<Vec<u8>>,
    pub policies: Vec<String>,
    pub crl_urls: Vec<String>,
    pub ocsp_urls: Vec<String>,
    pub(super) has_policy_constraints: bool,
    pub(super) unknown_critical: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// `RSA`, `EC P-256` and the like; an object identifier where it has no name here.
    pub algorithm: String,
    pub bits: usize,
    pub is_strong: bool,
    pub(super) info: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BasicConstraints {
    pub is_ca: bool,
    pub path_length: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameConstraints {
    pub permitted: Vec<Name>,
    pub excluded: Vec<Name>,
}

/// Bits of the key usage.
pub(super) mod usage {
    pub(in crate::pki) const DIGITAL_SIGNATURE: u16 = 1;
    pub(in crate::pki) const CERTIFICATE_SIGN: u16 = 1 << 5;
    pub(in crate::pki) const LIST_SIGN: u16 = 1 << 6;
    pub(in crate::pki) const NAMES: [&str; 9] = [
        "digitalSignature",
        "nonRepudiation",
        "keyEncipherment",
        "dataEncipherment",
        "keyAgreement",
        "keyCertSign",
        "cRLSign",
        "encipherOnly",
        "decipherOnly",
    ];
}

impl Certificate {
    /// Reads one, or says in a few words why it is none.
    pub fn read(der: &[u8]) -> Result<Self, &'static str> {
        if der.len() > MOST_BYTES {
            return Err("is larger than 16 KiB");
        }
        let (rest, parsed) =
            X509Certificate::from_der(der).map_err(|_| "is no X.509 certificate in DER (RFC 5280, section 4.1)")?;
        if !rest.is_empty() {
            return Err("has something behind its end");
        }
        // Also where nobody asks for one: an extension that is there twice means two things.
        parsed.extensions_map().map_err(|_| "has an extension twice")?;
        let tbs = &parsed.tbs_certificate;
        let mut read = Self {
            der: der.into(),
            fingerprint: sha256(der),
            is_version_3: tbs.version == X509Version::V3,
            subject: DirectoryName::read(&tbs.subject),
            issuer: DirectoryName::read(&tbs.issuer),
            raw_subject: tbs.subject.as_raw().to_vec(),
            raw_issuer: tbs.issuer.as_raw().to_vec(),
            serial: tbs.raw_serial().to_vec(),
            not_before: time(tbs.validity.not_before)?,
            not_after: time(tbs.validity.not_after)?,
            key: Key::read(&tbs.subject_pki)?,
            signature_algorithm: signature_name(&parsed.signature_algorithm.algorithm.to_id_string()),
            basic_constraints: None,
            key_usage: None,
            extended_key_usage: None,
            name_constraints: None,
            names: Vec::new(),
            common_names: texts(tbs.subject.iter_common_name())?,
            subject_emails: texts(tbs.subject.iter_email())?,
            subject_key_id: None,
            authority_key_id: None,
            policies: Vec::new(),
            crl_urls: Vec::new(),
            ocsp_urls: Vec::new(),
            has_policy_constraints: false,
            unknown_critical: Vec::new(),
        };
        for extension in tbs.extensions() {
            read.remember(&extension.oid, extension.critical, extension.parsed_extension())?;
        }
        Ok(read)
    }

    fn remember(&mut self, oid: &Oid<'_>, critical: bool, value: &ParsedExtension<'_>) -> Result<(), &'static str> {
        match value {
            ParsedExtension::BasicConstraints(constraints) => {
                self.basic_constraints =
                    Some(BasicConstraints { is_ca: constraints.ca, path_length: constraints.path_len_constraint });
            }
            ParsedExtension::KeyUsage(usage) => self.key_usage = Some(usage.flags),
            ParsedExtension::ExtendedKeyUsage(usage) => self.extended_key_usage = Some(purposes(usage)),
            ParsedExtension::SubjectAlternativeName(names) => self.names = all_names(&names.general_names)?,
            ParsedExtension::NameConstraints(constraints) => {
                let subtrees = |subtrees: &Option<Vec<x509_parser::extensions::GeneralSubtree<'_>>>| {
                    let bases = subtrees.iter().flatten().map(|subtree| Name::read(&subtree.base));
                    bases.collect::<Option<Vec<_>>>().ok_or("has a name constraint that cannot be read")
                };
                self.name_constraints = Some(NameConstraints {
                    permitted: subtrees(&constraints.permitted_subtrees)?,
                    excluded: subtrees(&constraints.excluded_subtrees)?,
                });
            }
            ParsedExtension::SubjectKeyIdentifier(id) => self.subject_key_id = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                self.authority_key_id = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            ParsedExtension::CertificatePolicies(policies) => {
                self.policies = policies.iter().map(|policy| policy.policy_id.to_id_string()).collect();
            }
            ParsedExtension::CRLDistributionPoints(points) => self.crl_urls = list_urls(points),
            ParsedExtension::AuthorityInfoAccess(access) => {
                let ocsp = |access: &&x509_parser::extensions::AccessDescription<'_>| {
                    access.access_method.to_id_string() == "1.3.6.1.5.5.7.48.1"
                };
                let places = access.iter().filter(ocsp).map(|access| &access.access_location);
                self.ocsp_urls = places.filter_map(url).collect();
            }
            ParsedExtension::PolicyConstraints(_) | ParsedExtension::InhibitAnyPolicy(_) => {
                self.has_policy_constraints = true;
            }
            ParsedExtension::PolicyMappings(_) => {}
            ParsedExtension::ParseError { .. } => return Err("has an extension that cannot be read"),
            _ if critical => self.unknown_critical.push(oid.to_id_string()),
            _ => {}
        }
        Ok(())
    }

    pub fn is_ca(&self) -> bool {
        self.basic_constraints.is_some_and(|constraints| constraints.is_ca)
    }

    pub(super) fn is_self_issued(&self) -> bool {
        self.raw_subject == self.raw_issuer
    }

    /// Whether its key may be used like this. A certificate that does not say may be used for everything.
    pub(super) fn may(&self, bit: u16) -> bool {
        self.key_usage.is_none_or(|usage| usage & bit != 0)
    }

    /// Whether it is for signing in (RFC 5280, section 4.2.1.12): `anyExtendedKeyUsage` alone is not, as it is not for OpenSSL.
    pub(super) fn is_for_clients(&self) -> bool {
        self.is_for(CLIENT_AUTH)
    }

    fn is_for(&self, purpose: &str) -> bool {
        self.extended_key_usage.as_ref().is_none_or(|purposes| purposes.iter().any(|named| named == purpose))
    }

    /// The same for answers of OCSP responders, where it has to be said.
    pub(super) fn is_for_answering(&self) -> bool {
        self.extended_key_usage.is_some() && self.is_for(OCSP_SIGNING)
    }

    /// Whether `issuer` may have issued this one, by what both say of each other.
    pub(super) fn names_issuer(&self, issuer: &Self) -> bool {
        let key_ids = self.authority_key_id.as_ref().zip(issuer.subject_key_id.as_ref());
        self.raw_issuer == issuer.raw_subject && key_ids.is_none_or(|(named, own)| named == own)
    }

    /// SHA-256 of name and key: the same for all certificates of one authority.
    pub(super) fn authority(&self) -> [u8; 32] {
        sha256(&[self.raw_subject.as_slice(), self.key.info.as_slice()].concat())
    }
}

impl Key {
    fn read(info: &SubjectPublicKeyInfo<'_>) -> Result<Self, &'static str> {
        let oid = info.algorithm.algorithm.to_id_string();
        let parsed = info.parsed().map_err(|_| "has a public key that cannot be read")?;
        let curve =
            || info.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok()).map(|oid| oid.to_id_string());
        let (algorithm, bits, is_strong) = match (&*oid, &parsed) {
            ("1.2.840.113549.1.1.1", PublicKey::RSA(key)) => {
                let bits = significant_bits(key.modulus);
                ("RSA".to_owned(), bits, (2048..=8192).contains(&bits))
            }
            ("1.2.840.10045.2.1", _) => match curve().as_deref() {
                Some("1.2.840.10045.3.1.7") => ("EC P-256".to_owned(), 256, true),
                Some("1.3.132.0.34") => ("EC P-384".to_owned(), 384, true),
                Some("1.3.132.0.35") => ("EC P-521".to_owned(), 521, true),
                Some(curve) => (format!("EC {curve}"), parsed.key_size(), false),
                None => ("EC".to_owned(), parsed.key_size(), false),
            },
            ("1.3.101.112", _) => ("Ed25519".to_owned(), 256, true),
            ("1.2.840.10040.4.1", _) => ("DSA".to_owned(), parsed.key_size(), false),
            _ => (oid, parsed.key_size(), false),
        };
        Ok(Self { algorithm, bits, is_strong, info: info.raw.to_vec() })
    }
}

fn significant_bits(number: &[u8]) -> usize {
    let number: &[u8] = match number.iter().position(|octet| *octet != 0) {
        Some(first) => &number[first..],
        None => return 0,
    };
    number.len() * 8 - number[0].leading_zeros() as usize
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

pub(super) fn time(time: ASN1Time) -> Result<DateTime<Utc>, &'static str> {
    DateTime::from_timestamp(time.timestamp(), 0).ok_or("has a time that is none")
}

fn texts<'a>(
    attributes: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
) -> Result<Vec<String>, &'static str> {
    attributes.map(|value| value.as_str().map(str::to_owned).map_err(|_| "has a name that is no text")).collect()
}

fn all_names(names: &[GeneralName<'_>]) -> Result<Vec<Name>, &'static str> {
    names.iter().map(Name::read).collect::<Option<_>>().ok_or("has an alternative name that cannot be read")
}

fn url(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::URI(url) if url.starts_with("http://") || url.starts_with("https://") => Some((*url).to_owned()),
        _ => None,
    }
}

/// Of lists that the certificate's own issuer signs, about all reasons.
fn list_urls(points: &x509_parser::extensions::CRLDistributionPoints<'_>) -> Vec<String> {
    let full = points.iter().filter(|point| point.crl_issuer.is_none() && point.reasons.is_none());
    let names = full.filter_map(|point| match &point.distribution_point {
        Some(DistributionPointName::FullName(names)) => Some(names),
        _ => None,
    });
    names.flatten().filter_map(url).collect()
}

fn purposes(usage: &x509_parser::extensions::ExtendedKeyUsage<'_>) -> Vec<String> {
    let known = [
        (usage.any, "2.5.29.37.0"),
        (usage.server_auth, "1.3.6.1.5.5.7.3.1"),
        (usage.client_auth, CLIENT_AUTH),
        (usage.code_signing, "1.3.6.1.5.5.7.3.3"),
        (usage.email_protection, "1.3.6.1.5.5.7.3.4"),
        (usage.time_stamping, "1.3.6.1.5.5.7.3.8"),
        (usage.ocsp_signing, OCSP_SIGNING),
    ];
    let named = known.into_iter().filter(|(is_named, _)| *is_named).map(|(_, oid)| oid.to_owned());
    named.chain(usage.other.iter().map(Oid::to_id_string)).collect()
}

/// RFC 8017, appendix A.2.4; RFC 5758; RFC 8410.
pub(super) fn signature_name(oid: &str) -> String {
    let name = match oid {
        "1.2.840.113549.1.1.4" => "RSA with MD5",
        "1.2.840.113549.1.1.5" => "RSA with SHA-1",
        "1.2.840.113549.1.1.10" => "RSA-PSS",
        "1.2.840.113549.1.1.11" => "RSA with SHA-256",
        "1.2.840.113549.1.1.12" => "RSA with SHA-384",
        "1.2.840.113549.1.1.13" => "RSA with SHA-512",
        "1.2.840.113549.1.1.14" => "RSA with SHA-224",
        "1.2.840.10045.4.1" => "ECDSA with SHA-1",
        "1.2.840.10045.4.3.2" => "ECDSA with SHA-256",
        "1.2.840.10045.4.3.3" => "ECDSA with SHA-384",
        "1.2.840.10045.4.3.4" => "ECDSA with SHA-512",
        "1.3.101.112" => "Ed25519",
        other => other,
    };
    name.to_owned()
}

/// Hashes with which a signature can be forged (RFC 6194, RFC 6151).
pub(super) fn is_weak_signature(name: &str) -> bool {
    name.ends_with("MD5") || name.ends_with("SHA-1") || name.ends_with("SHA-224")
}
