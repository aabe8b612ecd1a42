//! Which certificates a tenant may trust or keep: those of authorities, in force, with keys and signatures that are worth it.

use chrono::{DateTime, Utc};
use rustls::pki_types::CertificateDer;

use super::{
    certificate::{Certificate, is_weak_signature, usage},
    path::check_signature,
    signed::Failure,
};

/// Why it is not taken, as a rule; `None` where it is.
pub(super) fn refused(certificate: &Certificate, now: DateTime<Utc>) -> Option<String> {
    let key = &certificate.key;
    if !certificate.is_version_3 || !certificate.is_ca() {
        return Some("is no authority's: basicConstraints does not say cA (RFC 5280, section 4.2.1.9)".to_owned());
    }
    if !certificate.may(usage::CERTIFICATE_SIGN) {
        return Some(
            "may not issue certificates: keyUsage does not have keyCertSign (RFC 5280, section 4.2.1.3)".to_owned(),
        );
    }
    if now > certificate.not_after {
        return Some(format!("has expired: it was valid until {}", certificate.not_after.to_rfc3339()));
    }
    if now < certificate.not_before {
        return Some(format!("is not yet valid: it is from {} on", certificate.not_before.to_rfc3339()));
    }
    if !key.is_strong {
        let wanted = "RSA of 2048 to 8192 bits, EC P-256, P-384 or P-521, or Ed25519";
        return Some(format!("has a weak key, {} of {} bits; it must be {wanted}", key.algorithm, key.bits));
    }
    if is_weak_signature(&certificate.signature_algorithm) {
        let algorithm = &certificate.signature_algorithm;
        return Some(format!("has a weak signature, {algorithm}; the hash must be SHA-256 or better"));
    }
    if let Some(oid) = certificate.unknown_critical.first() {
        return Some(format!("has a critical extension that is not processed, {oid}"));
    }
    if certificate.has_policy_constraints {
        return Some("restricts policies (policyConstraints or inhibitAnyPolicy), which is not processed".to_owned());
    }
    if !certificate.is_for_clients() {
        return Some("is not for signing in: extendedKeyUsage does not have clientAuth".to_owned());
    }
    if certificate.is_self_issued() && certificate.names_issuer(certificate) {
        match check_signature(certificate, certificate) {
            Ok(()) => {}
            Err(Failure::Invalid) => return Some("is damaged: its own signature does not fit its key".to_owned()),
            Err(Failure::Unsupported) => {
                return Some(format!("is signed by {}, which is not accepted", certificate.signature_algorithm));
            }
        }
    }
    let der = CertificateDer::from(&*certificate.der);
    let read = webpki::anchor_from_trusted_cert(&der);
    read.err().map(|error| format!("cannot be used as a trust anchor: {error}"))
}
