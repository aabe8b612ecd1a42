//! Certificate revocation lists (RFC 5280, section 5): read, checked, and kept as what they revoke.

use async_graphql::Enum;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use x509_parser::{
    extensions::{DistributionPointName, GeneralName, IssuingDistributionPoint, ParsedExtension},
    prelude::FromDer as _,
    revocation_list::CertificateRevocationList,
};

use super::{
    certificate::{Certificate, is_weak_signature, signature_name, time, usage},
    name::{DirectoryName, hex},
    signed::Signed,
};

/// Of a list that is fetched.
pub(super) const MOST_BYTES: usize = 4 * 1024 * 1024;
const MOST_ENTRIES: usize = 100_000;

/// Which of an authority's certificates a list is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "RevocationListScope")]
pub enum Scope {
    All,
    /// Those of authorities alone.
    Authorities,
    /// All others.
    Users,
}

impl Scope {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::All => "ALL",
            Self::Authorities => "AUTHORITIES",
            Self::Users => "USERS",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::All, Self::Authorities, Self::Users].into_iter().find(|scope| scope.name() == name)
    }

    fn covers(self, certificate: &Certificate) -> bool {
        match self {
            Self::All => true,
            Self::Authorities => certificate.is_ca(),
            Self::Users => !certificate.is_ca(),
        }
    }
}

/// A list as it was issued.
#[derive(Clone, Debug)]
pub(super) struct List {
    pub(super) issuer: DirectoryName,
    raw_issuer: Vec<u8>,
    signature_algorithm: String,
    pub(super) this_update: DateTime<Utc>,
    pub(super) next_update: DateTime<Utc>,
    pub(super) number: Option<String>,
    pub(super) scope: Scope,
    /// Of a list that is one of several of its authority, where it is found: the certificates that it is about name one of these.
    pub(super) distribution_points: Vec<String>,
    /// Serial numbers in hexadecimal digits.
    pub(super) revoked: Vec<String>,
}

impl List {
    /// Reads one, or says in a few words why it is none that is taken.
    pub(super) fn read(der: &[u8]) -> Result<Self, String> {
        let (rest, parsed) = CertificateRevocationList::from_der(der)
            .map_err(|_| "is no revocation list in DER (RFC 5280, section 5.1)".to_owned())?;
        if !rest.is_empty() {
            return Err("has something behind its end".to_owned());
        }
        let tbs = &parsed.tbs_cert_list;
        tbs.extensions_map().map_err(|_| "has an extension twice".to_owned())?;
        if tbs.revoked_certificates.len() > MOST_ENTRIES {
            return Err(format!("revokes more than {MOST_ENTRIES} certificates"));
        }
        let next_update = tbs.next_update.ok_or("does not say when the next one comes (nextUpdate)")?;
        let mut list = Self {
            issuer: DirectoryName::read(&tbs.issuer),
            raw_issuer: tbs.issuer.as_raw().to_vec(),
            signature_algorithm: signature_name(&parsed.signature_algorithm.algorithm.to_id_string()),
            this_update: time(tbs.this_update)?,
            next_update: time(next_update)?,
            number: parsed.crl_number().map(ToString::to_string),
            scope: Scope::All,
            distribution_points: Vec::new(),
            revoked: Vec::with_capacity(tbs.revoked_certificates.len()),
        };
        for extension in tbs.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::IssuingDistributionPoint(point) => list.narrow(point)?,
                ParsedExtension::ParseError { .. } => return Err("has an extension that cannot be read".to_owned()),
                ParsedExtension::AuthorityKeyIdentifier(_) | ParsedExtension::CRLNumber(_) => {}
                _ if extension.critical => {
                    let oid = extension.oid.to_id_string();
                    return Err(match &*oid {
                        "2.5.29.27" => "is a delta of another list, which is not processed".to_owned(),
                        _ => format!("has a critical extension that is not processed, {oid}"),
                    });
                }
                _ => {}
            }
        }
        for entry in &tbs.revoked_certificates {
            if let Some(extension) = entry.extensions().iter().find(|extension| extension.critical) {
                let oid = extension.oid.to_id_string();
                return Err(format!("has an entry with a critical extension that is not processed, {oid}"));
            }
            list.revoked.push(hex(entry.raw_serial()));
        }
        Ok(list)
    }

    /// Section 5.2.5.
    fn narrow(&mut self, point: &IssuingDistributionPoint<'_>) -> Result<(), String> {
        if point.indirect_crl || point.only_some_reasons.is_some() || point.only_contains_attribute_certs {
            return Err(
                "is indirect, or only about some reasons or attribute certificates, which is not processed".to_owned()
            );
        }
        self.scope = match (point.only_contains_ca_certs, point.only_contains_user_certs) {
            (false, false) => Scope::All,
            (true, false) => Scope::Authorities,
            (false, true) => Scope::Users,
            (true, true) => return Err("is about no certificate at all".to_owned()),
        };
        match &point.distribution_point {
            None => {}
            Some(DistributionPointName::FullName(names)) => {
                for name in names {
                    match name {
                        GeneralName::URI(url) => self.distribution_points.push((*url).to_owned()),
                        _ => return Err("has a distribution point that is no URI".to_owned()),
                    }
                }
            }
            Some(DistributionPointName::NameRelativeToCRLIssuer(_)) => {
                return Err("has a distribution point that is no URI".to_owned());
            }
        }
        Ok(())
    }

    /// Whether `issuer` issued and signed it. `der` is what it was read from.
    pub(super) fn check_issuer(&self, der: &[u8], issuer: &Certificate) -> Result<(), String> {
        if self.raw_issuer != issuer.raw_subject {
            return Err("is of another issuer".to_owned());
        }
        if is_weak_signature(&self.signature_algorithm) {
            return Err(format!(
                "has a weak signature, {}; the hash must be SHA-256 or better",
                self.signature_algorithm
            ));
        }
        if !issuer.may(usage::LIST_SIGN) {
            return Err("is of an authority that may not issue lists: keyUsage does not have cRLSign".to_owned());
        }
        let signed = Signed::read(der).ok_or("is no revocation list in DER (RFC 5280, section 5.1)")?;
        signed.verify(&issuer.key.info).map_err(|_| "has a signature that does not fit its issuer's key".to_owned())
    }

    pub(super) fn is_about(&self, certificate: &Certificate) -> bool {
        is_about(self.scope, &self.distribution_points, certificate)
    }
}

/// Whether a list of the certificate's authority is the one to ask about it.
pub(super) fn is_about(scope: Scope, points: &[String], certificate: &Certificate) -> bool {
    scope.covers(certificate) && (points.is_empty() || points.iter().any(|point| certificate.crl_urls.contains(point)))
}
