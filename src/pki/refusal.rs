//! Why a certificate is not believed.

use async_graphql::Enum;
use serde::{Deserialize, Serialize};

/// A program goes by the reason, a person reads the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    /// Subject of the certificate that is in the way, where it is one.
    pub certificate: Option<String>,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "CertificateRefusalReason")]
pub enum Reason {
    /// None was presented.
    Missing,
    /// It cannot be read, or more or larger ones were presented than is taken.
    Malformed,
    /// No path leads from it to a trust anchor of the tenant.
    Untrusted,
    /// A signature of the path does not fit the issuer's key.
    BadSignature,
    /// A signature of the path is made with an algorithm that is not accepted, such as SHA-1.
    WeakSignature,
    /// A key of the path is too short, or of a kind that is not accepted.
    WeakKey,
    NotYetValid,
    Expired,
    /// A certificate of the path that has issued another one is no authority, or may not issue (`basicConstraints`, `keyUsage`).
    NotAnAuthority,
    /// An authority of the path has more authorities below it than its `pathLenConstraint` allows.
    PathTooLong,
    /// `keyUsage` does not allow to sign with it, or it is an authority's own.
    KeyUsage,
    /// `extendedKeyUsage` of the path does not have `clientAuth`.
    ExtendedKeyUsage,
    /// An authority of the path may not give this name.
    NameConstraints,
    /// A critical extension, or a restriction of policies, that is not processed.
    UnknownExtension,
    /// Finding a path takes more steps than are taken.
    TooComplex,
    Revoked,
    /// Whether it is revoked cannot be found out, and the tenant's policy demands it.
    RevocationUnknown,
    /// No rule of the tenant's policy finds one person in it.
    NotMapped,
}

impl Refusal {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, certificate: None, message: message.into() }
    }

    pub(super) fn of(
        certificate: &super::certificate::Certificate,
        reason: Reason,
        message: impl Into<String>,
    ) -> Self {
        Self { reason, certificate: Some(certificate.subject.text.clone()), message: message.into() }
    }
}
