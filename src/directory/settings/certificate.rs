//! Certificate authorities of a tenant's directory, as it pastes them.

use chrono::{DateTime, Utc};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use crate::error::{Error, Result};

const FIELD: &str = "certificateAuthorities";
const LARGEST: usize = 64 << 10;
const MOST: usize = 20;

/// What of a certificate is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    pub subject: String,
    pub issuer: String,
    pub not_before: DateTime<Utc>,
    pub not_after: DateTime<Utc>,
    pub is_authority: bool,
}

/// The bytes could not be read as a certificate (RFC 5280).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::directory) struct Unreadable;

impl Certificate {
    pub(in crate::directory) fn read(der: &[u8]) -> Result<Self, Unreadable> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| Unreadable)?;
        let time = |seconds| DateTime::from_timestamp(seconds, 0).ok_or(Unreadable);
        if !rest.is_empty() {
            return Err(Unreadable);
        }
        Ok(Self {
            subject: shortened(certificate.subject().to_string()),
            issuer: shortened(certificate.issuer().to_string()),
            not_before: time(certificate.validity().not_before.timestamp())?,
            not_after: time(certificate.validity().not_after.timestamp())?,
            is_authority: certificate.is_ca(),
        })
    }
}

/// Names come from whoever made the certificate.
fn shortened(name: String) -> String {
    name.chars().filter(|letter| !letter.is_control()).take(300).collect()
}

/// The certificates of a PEM text (RFC 7468) that was checked.
pub(in crate::directory) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    read.map_err(|_| Error::invalid(FIELD, "must be certificates in PEM (RFC 7468)"))
}

/// Checks certificate authorities: 1 to 20 of them in at most 64 KiB, each one an authority's and in force at `now`.
pub(super) fn check(pem: &str, now: DateTime<Utc>) -> Result<Vec<Certificate>> {
    if pem.len() > LARGEST {
        return Err(Error::invalid(FIELD, "must have at most 64 KiB"));
    }
    if pem.contains("PRIVATE KEY") {
        return Err(Error::invalid(
            FIELD,
            "holds a private key, which belongs nowhere but where it was made; send certificates alone",
        ));
    }
    let found = certificates(pem)?;
    if !(1..=MOST).contains(&found.len()) {
        return Err(Error::invalid(FIELD, format!("must be 1 to {MOST} certificates in PEM (RFC 7468)")));
    }
    found.iter().enumerate().map(|(place, der)| check_one(place + 1, der, now)).collect()
}

fn check_one(number: usize, der: &CertificateDer<'_>, now: DateTime<Utc>) -> Result<Certificate> {
    let refused = |rule: &str| Error::invalid(FIELD, format!("certificate {number} {rule}"));
    let certificate = Certificate::read(der).map_err(|_| refused("cannot be read"))?;
    if !certificate.is_authority {
        return Err(refused("is not an authority's (basicConstraints, RFC 5280 section 4.2.1.9)"));
    }
    if certificate.not_after <= now {
        return Err(refused("has expired"));
    }
    let mut roots = rustls::RootCertStore::empty();
    roots.add(der.clone()).map_err(|_| refused("cannot be used as an authority's"))?;
    Ok(certificate)
}
