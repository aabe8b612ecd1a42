//! Policies, revocation lists and verdicts in the schema.

use async_graphql::{Enum, ID, InputObject, Object, SimpleObject};
use chrono::{DateTime, Utc};

use super::super::{
    list::Scope,
    lists::{Listed, Source as ListSource},
    mapping::{Identity, Rule, Source, Target},
    name::hex,
    policy::{Policy, Revocation},
    refusal::{Reason, Refusal},
    revocation::{Authority, Checked, Status},
    verify::{Verdict, Verified},
};
use super::anchor::CertificateSubjectName;
use crate::access::PresentedBy;

/// How certificates are checked, and whom they name.
#[derive(Debug)]
pub struct CertificatePolicy(pub(super) Policy);

#[Object]
impl CertificatePolicy {
    async fn revocation(&self) -> Revocation {
        self.0.revocation
    }

    /// Whether responders are asked that certificates name (OCSP, RFC 6960).
    async fn ocsp(&self) -> bool {
        self.0.ocsp
    }

    /// Whether revocation lists are fetched from where certificates say.
    async fn fetch_lists(&self) -> bool {
        self.0.fetch_lists
    }

    /// The first rule that finds a name decides.
    async fn mapping(&self) -> Vec<CertificateMapping> {
        self.0.mapping.iter().cloned().map(Into::into).collect()
    }

    /// 0 where the tenant has set none.
    async fn version(&self) -> i64 {
        self.0.version
    }

    async fn updated_at(&self) -> Option<DateTime<Utc>> {
        self.0.updated_at
    }
}

/// Which name of a certificate means whom.
#[derive(Debug, SimpleObject)]
pub struct CertificateMapping {
    source: Source,
    target: Target,
    prefix: String,
    suffix: String,
    append: String,
}

impl From<Rule> for CertificateMapping {
    fn from(rule: Rule) -> Self {
        let Rule { source, target, prefix, suffix, append } = rule;
        Self { source, target, prefix, suffix, append }
    }
}

/// Which name of a certificate means whom. A rule that takes two names of one certificate refuses it.
#[derive(Debug, InputObject)]
pub struct CertificateMappingInput {
    /// Where to look.
    source: Source,
    /// What of a member is found by it.
    target: Target,
    /// What a name must begin with, in letters of any case; it is taken off. At most 255 bytes.
    #[graphql(default)]
    prefix: String,
    /// What a name must end with, in letters of any case; it is taken off. At most 255 bytes.
    #[graphql(default)]
    suffix: String,
    /// What is put at the end of the rest, such as `@example.com`. At most 255 bytes.
    #[graphql(default)]
    append: String,
}

impl From<CertificateMappingInput> for Rule {
    fn from(input: CertificateMappingInput) -> Self {
        let CertificateMappingInput { source, target, prefix, suffix, append } = input;
        Self { source, target, prefix, suffix, append }
    }
}

/// The newest list of an authority, of everything or of a part (RFC 5280, section 5).
#[derive(Debug)]
pub struct RevocationList(pub(super) Listed);

#[Object]
impl RevocationList {
    async fn id(&self) -> ID {
        self.0.list_id.to_string().into()
    }

    /// RFC 4514.
    async fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// Which of its certificates the list is about.
    async fn scope(&self) -> Scope {
        self.0.scope
    }

    /// Of a list that is one of several: certificates are on it that name one of these.
    async fn distribution_points(&self) -> &[String] {
        &self.0.distribution_points
    }

    async fn source(&self) -> ListSource {
        self.0.source
    }

    /// The list's own number, in decimal digits.
    async fn number(&self) -> Option<&str> {
        self.0.number.as_deref()
    }

    async fn this_update(&self) -> DateTime<Utc> {
        self.0.this_update
    }

    /// From then on it is too old to say that a certificate is good.
    async fn next_update(&self) -> DateTime<Utc> {
        self.0.next_update
    }

    /// How many certificates it revokes.
    async fn entries(&self) -> i32 {
        self.0.entries
    }

    async fn added_at(&self) -> DateTime<Utc> {
        self.0.added_at
    }
}

/// How a certificate came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum CertificateOrigin {
    /// With the question.
    Input,
    /// In the TLS handshake of the client.
    Handshake,
    /// In a header of a trusted proxy.
    Proxy,
}

impl From<PresentedBy> for CertificateOrigin {
    fn from(by: PresentedBy) -> Self {
        match by {
            PresentedBy::Handshake => Self::Handshake,
            PresentedBy::Proxy => Self::Proxy,
        }
    }
}

/// What a certificate is worth to the tenant.
#[derive(Debug)]
pub struct CertificateCheck {
    pub(super) verdict: Verdict,
    pub(super) origin: CertificateOrigin,
}

#[Object]
impl CertificateCheck {
    async fn origin(&self) -> CertificateOrigin {
        self.origin
    }

    /// Whether it is believed and names somebody.
    async fn accepted(&self) -> bool {
        matches!(self.verdict, Verdict::Accepted(_))
    }

    /// Null where it is accepted.
    async fn refusal(&self) -> Option<CertificateRefusal> {
        match &self.verdict {
            Verdict::Accepted(_) => None,
            Verdict::Refused(refusal) => Some(refusal.clone().into()),
        }
    }

    /// Null where it is refused.
    async fn certificate(&self) -> Option<VerifiedCertificate<'_>> {
        match &self.verdict {
            Verdict::Accepted(verified) => Some(VerifiedCertificate(verified)),
            Verdict::Refused(_) => None,
        }
    }
}

/// Why a certificate is refused.
#[derive(Debug, SimpleObject)]
pub struct CertificateRefusal {
    reason: Reason,
    /// Subject of the certificate that is in the way, where it is one.
    certificate: Option<String>,
    /// For a person.
    message: String,
}

impl From<Refusal> for CertificateRefusal {
    fn from(refusal: Refusal) -> Self {
        let Refusal { reason, certificate, message } = refusal;
        Self { reason, certificate, message }
    }
}

/// A certificate that is believed.
#[derive(Debug)]
pub struct VerifiedCertificate<'a>(&'a Verified);

#[Object]
impl VerifiedCertificate<'_> {
    /// RFC 4514.
    async fn subject(&self) -> &str {
        &self.0.subject
    }

    /// Subject alternative names.
    async fn names(&self) -> Vec<CertificateSubjectName> {
        self.0.names.iter().map(Into::into).collect()
    }

    /// In hexadecimal digits.
    async fn serial(&self) -> String {
        hex(&self.0.serial)
    }

    /// SHA-256 of the certificate, in hexadecimal digits.
    async fn fingerprint(&self) -> String {
        hex(&self.0.fingerprint)
    }

    async fn not_after(&self) -> DateTime<Utc> {
        self.0.not_after
    }

    /// Id of the trust anchor that the path ends at.
    async fn anchor_id(&self) -> ID {
        self.0.anchor.to_string().into()
    }

    /// Subjects, from the certificate's own to the anchor's.
    async fn path(&self) -> &[String] {
        &self.0.path
    }

    /// What was found out about each certificate of the path but the anchor; empty where the policy asks nobody.
    async fn revocation(&self) -> Vec<RevocationCheck> {
        self.0.revocation.iter().cloned().map(Into::into).collect()
    }

    /// Whom it names.
    async fn identity(&self) -> CertificateIdentity {
        self.0.identity.clone().into()
    }
}

#[derive(Debug, SimpleObject)]
pub struct RevocationCheck {
    subject: String,
    status: Status,
    /// Null where nobody has said it.
    by: Option<Authority>,
    /// Why it could not be found out.
    problem: Option<String>,
}

impl From<Checked> for RevocationCheck {
    fn from(checked: Checked) -> Self {
        let Checked { subject, status, by, problem } = checked;
        Self { subject, status, by, problem }
    }
}

/// Whom a certificate names.
#[derive(Debug, SimpleObject)]
pub struct CertificateIdentity {
    /// What of a member it is.
    target: Target,
    value: String,
    /// Where it was found.
    source: Source,
}

impl From<Identity> for CertificateIdentity {
    fn from(identity: Identity) -> Self {
        let Identity { target, value, source } = identity;
        Self { target, value, source }
    }
}
