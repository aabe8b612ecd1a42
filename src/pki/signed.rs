//! Signatures over certificates, revocation lists and answers of OCSP responders: all are a sequence of what is signed, an algorithm, and a
//! signature (RFC 5280, sections 4.1.1 and 5.1.1; RFC 6960, section 4.2.1).

use rustls::{crypto::aws_lc_rs, pki_types::SignatureVerificationAlgorithm};
use x509_parser::asn1_rs::{Any, FromDer, Tag};

/// What is signed, with what, and the signature.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed<'a> {
    content: &'a [u8],
    /// The inside of the AlgorithmIdentifier.
    algorithm: &'a [u8],
    signature: &'a [u8],
}

/// Why a signature is worth nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// MD5, SHA-1, a curve or an algorithm that nobody should use any more, or that the library does not know.
    Unsupported,
    Invalid,
}

/// The algorithms of the library that TLS uses here: RSA of 2048 to 8192 bits with PKCS #1 or PSS, ECDSA on P-256, P-384 and P-521, Ed25519,
/// with SHA-256 and better.
pub(super) fn algorithms() -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    aws_lc_rs::default_provider().signature_verification_algorithms.all
}

impl<'a> Signed<'a> {
    /// `None` where it has another shape.
    pub(super) fn read(der: &'a [u8]) -> Option<Self> {
        let (_, outer) = sequence(der)?;
        let (rest, _) = sequence(outer)?;
        let content = &outer[..outer.len() - rest.len()];
        let (rest, algorithm) = sequence(rest)?;
        Some(Self { content, algorithm, signature: bits(rest)? })
    }

    /// Holds the signature against a SubjectPublicKeyInfo.
    pub(super) fn verify(&self, public_key: &[u8]) -> Result<(), Failure> {
        let parts = sequence(public_key).and_then(|(_, inside)| {
            let (rest, algorithm) = sequence(inside)?;
            Some((algorithm, bits(rest)?))
        });
        let (of_key, key) = parts.ok_or(Failure::Invalid)?;
        let fitting = algorithms().iter().filter(|known| {
            known.signature_alg_id().as_ref() == self.algorithm && known.public_key_alg_id().as_ref() == of_key
        });
        let mut failure = Failure::Unsupported;
        for known in fitting {
            if known.verify_signature(key, self.content, self.signature).is_ok() {
                return Ok(());
            }
            failure = Failure::Invalid;
        }
        Err(failure)
    }
}

/// The key itself in a SubjectPublicKeyInfo.
pub(super) fn key_octets(public_key: &[u8]) -> Option<&[u8]> {
    let (rest, _) = sequence(sequence(public_key)?.1)?;
    bits(rest)
}

/// What is behind the first sequence, and what is in it.
fn sequence(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (rest, any) = Any::from_der(der).ok()?;
    (any.tag() == Tag::Sequence).then_some((rest, any.data))
}

/// The octets of a bit string that has no unused bits.
fn bits(der: &[u8]) -> Option<&[u8]> {
    let (_, any) = Any::from_der(der).ok()?;
    match any.data.split_first() {
        Some((0, octets)) if any.tag() == Tag::BitString => Some(octets),
        _ => None,
    }
}
