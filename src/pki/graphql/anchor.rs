//! Certificates of authorities in the schema.

use async_graphql::{ID, Object, SimpleObject};
use chrono::{DateTime, Utc};

use super::super::{
    anchor::{Anchor, Role},
    certificate::{self, usage},
    name::{Name, hex},
    pem,
};
use crate::platform::{ids::TenantId, page::PageInfo};

/// The certificate of an authority that the tenant trusts, or knows (RFC 5280, section 4).
#[derive(Debug)]
pub struct TrustAnchor {
    pub(super) anchor: Anchor,
    pub(super) now: DateTime<Utc>,
}

#[Object]
impl TrustAnchor {
    async fn id(&self) -> ID {
        self.anchor.anchor_id.to_string().into()
    }

    async fn role(&self) -> Role {
        self.anchor.role
    }

    /// A distinguished name as RFC 4514 writes it, the most specific part first.
    async fn subject(&self) -> &str {
        &self.anchor.certificate.subject.text
    }

    async fn issuer(&self) -> &str {
        &self.anchor.certificate.issuer.text
    }

    /// In hexadecimal digits.
    async fn serial(&self) -> String {
        hex(&self.anchor.certificate.serial)
    }

    /// SHA-256 of the certificate, in hexadecimal digits.
    async fn fingerprint(&self) -> String {
        hex(&self.anchor.certificate.fingerprint)
    }

    async fn not_before(&self) -> DateTime<Utc> {
        self.anchor.certificate.not_before
    }

    async fn not_after(&self) -> DateTime<Utc> {
        self.anchor.certificate.not_after
    }

    /// Whole days until `notAfter`; below 0 once it has passed.
    async fn days_left(&self) -> i64 {
        self.anchor.days_left(self.now)
    }

    /// `RSA`, `EC P-256`, `EC P-384`, `EC P-521` or `Ed25519`.
    async fn key_algorithm(&self) -> &str {
        &self.anchor.certificate.key.algorithm
    }

    /// In bits.
    async fn key_size(&self) -> usize {
        self.anchor.certificate.key.bits
    }

    async fn signature_algorithm(&self) -> &str {
        &self.anchor.certificate.signature_algorithm
    }

    /// How many authorities may be below it; null where it does not say.
    async fn path_length(&self) -> Option<u32> {
        self.anchor.certificate.basic_constraints.and_then(|constraints| constraints.path_length)
    }

    /// By their names in RFC 5280, section 4.2.1.3; null where it may be used for everything.
    async fn key_usage(&self) -> Option<Vec<&'static str>> {
        let bits = self.anchor.certificate.key_usage?;
        let named = usage::NAMES.iter().enumerate().filter(|(bit, _)| bits & (1 << bit) != 0);
        Some(named.map(|(_, name)| *name).collect())
    }

    /// Object identifiers; null where it may be used for everything.
    async fn extended_key_usage(&self) -> Option<&[String]> {
        self.anchor.certificate.extended_key_usage.as_deref()
    }

    /// Names that it may give; null where it may give any.
    async fn name_constraints(&self) -> Option<NameConstraints> {
        self.anchor.certificate.name_constraints.as_ref().map(Into::into)
    }

    /// In hexadecimal digits.
    async fn subject_key_id(&self) -> Option<String> {
        self.anchor.certificate.subject_key_id.as_deref().map(hex)
    }

    /// In hexadecimal digits.
    async fn authority_key_id(&self) -> Option<String> {
        self.anchor.certificate.authority_key_id.as_deref().map(hex)
    }

    /// Object identifiers of certificate policies.
    async fn policies(&self) -> &[String] {
        &self.anchor.certificate.policies
    }

    async fn added_at(&self) -> DateTime<Utc> {
        self.anchor.added_at
    }

    /// Subject of the token by which it was added.
    async fn added_by(&self) -> &str {
        &self.anchor.added_by
    }

    /// The certificate itself (RFC 7468).
    async fn pem(&self) -> String {
        pem::write(super::super::anchor::LABEL, &self.anchor.certificate.der)
    }
}

/// Names that an authority may give (RFC 5280, section 4.2.1.10).
#[derive(Debug, SimpleObject)]
pub struct NameConstraints {
    /// Of each form that is here, these names alone.
    permitted: Vec<CertificateSubjectName>,
    excluded: Vec<CertificateSubjectName>,
}

impl From<&certificate::NameConstraints> for NameConstraints {
    fn from(constraints: &certificate::NameConstraints) -> Self {
        let names = |names: &[Name]| names.iter().map(Into::into).collect();
        Self { permitted: names(&constraints.permitted), excluded: names(&constraints.excluded) }
    }
}

/// A name in a certificate.
#[derive(Debug, SimpleObject)]
pub struct CertificateSubjectName {
    /// `rfc822Name`, `dNSName` and the other names of RFC 5280, section 4.2.1.6; `userPrincipalName` for that otherName.
    form: &'static str,
    /// Empty for forms that are not read.
    value: String,
}

impl From<&Name> for CertificateSubjectName {
    fn from(name: &Name) -> Self {
        Self { form: name.form(), value: name.text() }
    }
}

#[derive(Debug, SimpleObject)]
pub struct TrustAnchorEdge {
    pub(super) cursor: String,
    pub(super) node: TrustAnchor,
}

#[derive(Debug, SimpleObject)]
pub struct TrustAnchorConnection {
    pub(super) edges: Vec<TrustAnchorEdge>,
    pub(super) page_info: PageInfo,
}

/// A certificate that will end, or has.
#[derive(Debug)]
pub struct ExpiringCertificate {
    pub(super) tenant: TenantId,
    pub(super) anchor: Anchor,
    pub(super) now: DateTime<Utc>,
}

#[Object]
impl ExpiringCertificate {
    async fn tenant_id(&self) -> ID {
        self.tenant.to_string().into()
    }

    /// Whole days until it ends; below 0 once it has.
    async fn days_left(&self) -> i64 {
        self.anchor.days_left(self.now)
    }

    async fn trust_anchor(&self) -> TrustAnchor {
        TrustAnchor { anchor: self.anchor.clone(), now: self.now }
    }
}
