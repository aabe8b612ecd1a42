//! The Online Certificate Status Protocol (RFC 6960): what is asked, and whether what is answered can be believed.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use chrono::{DateTime, TimeDelta, Utc};
use x509_cert::{
    der::{
        Decode as _, Encode as _,
        asn1::{Null, ObjectIdentifier, OctetString},
    },
    ext::Extension,
    serial_number::SerialNumber,
    spki::AlgorithmIdentifierOwned,
};
use x509_ocsp::{
    BasicOcspResponse, CertId, CertStatus, OcspGeneralizedTime, OcspRequest, OcspResponse, OcspResponseStatus, Request,
    ResponderId, SingleResponse, TbsRequest, ext::Nonce,
};

use super::{
    certificate::{Certificate, usage},
    path::check_signature,
    signed::{Signed, key_octets},
};
use crate::platform::random;

const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const NONCE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.2");
const BASIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");
/// How far clocks may be apart.
const LEEWAY: TimeDelta = TimeDelta::minutes(5);
/// How old an answer may be that does not say when the next one comes.
const OLDEST: TimeDelta = TimeDelta::hours(24);
/// Answers, with all certificates that they bring.
pub(super) const MOST_BYTES: usize = 64 * 1024;

/// What is sent to a responder.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) der: Vec<u8>,
    id: CertId,
    nonce: [u8; 16],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Good,
    Revoked,
    /// The responder does not know this certificate.
    Unknown,
}

/// What was answered, and until when it may be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: Status,
    pub(super) fresh_until: DateTime<Utc>,
}

impl Question {
    /// `None` for a certificate that cannot be asked about, such as one with a serial number that breaks RFC 5280.
    pub(super) fn about(certificate: &Certificate, issuer: &Certificate) -> Option<Self> {
        Self::with_nonce(certificate, issuer, random::bytes())
    }

    fn with_nonce(certificate: &Certificate, issuer: &Certificate, nonce: [u8; 16]) -> Option<Self> {
        // Which certificate is meant is all that this hash says, and it is the one that every responder knows (RFC 5019, section 2.1.1).
        let hash = |bytes: &[u8]| OctetString::new(digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref()).ok();
        let id = CertId {
            hash_algorithm: AlgorithmIdentifierOwned { oid: SHA1, parameters: Some(Null.into()) },
            issuer_name_hash: hash(&issuer.raw_subject)?,
            issuer_key_hash: hash(key_octets(&issuer.key.info)?)?,
            serial_number: SerialNumber::new(&certificate.serial).ok()?,
        };
        let value = OctetString::new(Nonce::new(nonce).ok()?.to_der().ok()?).ok()?;
        let request = OcspRequest {
            tbs_request: TbsRequest {
                request_list: vec![Request { req_cert: id.clone(), single_request_extensions: None }],
                request_extensions: Some(vec![Extension { extn_id: NONCE, critical: false, extn_value: value }]),
                ..TbsRequest::default()
            },
            optional_signature: None,
        };
        Some(Self { der: request.to_der().ok()?, id, nonce })
    }

    /// What an answer to this question is worth at `now`; else what is wrong with it.
    pub(super) fn judge(&self, answer: &[u8], issuer: &Certificate, now: DateTime<Utc>) -> Result<Answer, String> {
        let unreadable = |_| "cannot be read".to_owned();
        let response = OcspResponse::from_der(answer).map_err(unreadable)?;
        if response.response_status != OcspResponseStatus::Successful {
            return Err(format!("is {:?}", response.response_status));
        }
        let inside =
            response.response_bytes.filter(|bytes| bytes.response_type == BASIC).ok_or("is of no known kind")?;
        let der = inside.response.as_bytes();
        let basic = BasicOcspResponse::from_der(der).map_err(unreadable)?;
        check_signer(der, &basic, issuer, now)?;
        if let Some(nonce) = basic.nonce()
            && nonce.0.as_bytes() != self.nonce
        {
            return Err("is one to another question".to_owned());
        }
        let about = basic.tbs_response_data.responses.iter().find(|response| self.is_about(response));
        about.ok_or_else(|| "is about another certificate".to_owned()).and_then(|about| fresh(about, now))
    }

    fn is_about(&self, response: &SingleResponse) -> bool {
        let (asked, told) = (&self.id, &response.cert_id);
        told.hash_algorithm.oid == asked.hash_algorithm.oid
            && told.issuer_name_hash == asked.issuer_name_hash
            && told.issuer_key_hash == asked.issuer_key_hash
            && told.serial_number == asked.serial_number
    }
}

/// RFC 6960, section 4.2.2.1.
fn fresh(response: &SingleResponse, now: DateTime<Utc>) -> Result<Answer, String> {
    let this_update = moment(&response.this_update)?;
    let next_update = response.next_update.as_ref().map(moment).transpose()?;
    let fresh_until = next_update.unwrap_or(this_update + OLDEST);
    if this_update > now + LEEWAY {
        return Err("is of the future".to_owned());
    }
    if fresh_until < now {
        return Err("is too old".to_owned());
    }
    let status = match response.cert_status {
        CertStatus::Good(_) => Status::Good,
        CertStatus::Revoked(_) => Status::Revoked,
        CertStatus::Unknown(_) => Status::Unknown,
    };
    Ok(Answer { status, fresh_until })
}

fn moment(time: &OcspGeneralizedTime) -> Result<DateTime<Utc>, String> {
    let seconds = i64::try_from(time.0.to_unix_duration().as_secs()).ok();
    seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0)).ok_or_else(|| "has a time that is none".to_owned())
}

/// The certificate's own issuer signs, or who that one has given a certificate for it (section 4.2.2.2).
fn check_signer(der: &[u8], basic: &BasicOcspResponse, issuer: &Certificate, now: DateTime<Utc>) -> Result<(), String> {
    let signed = Signed::read(der).ok_or("cannot be read")?;
    let id = &basic.tbs_response_data.responder_id;
    if is_responder(id, issuer) {
        return signed.verify(&issuer.key.info).map_err(|_| "has a signature that does not fit".to_owned());
    }
    for sent in basic.certs.iter().flatten() {
        let read = sent.to_der().ok().and_then(|der| Certificate::read(&der).ok());
        let Some(responder) = read.filter(|responder| is_responder(id, responder)) else { continue };
        let is_delegated = responder.names_issuer(issuer) && check_signature(&responder, issuer).is_ok();
        if !is_delegated {
            return Err("is signed by somebody whom the certificate's issuer has not allowed to".to_owned());
        }
        if !responder.is_for_answering()
            || !responder.may(usage::DIGITAL_SIGNATURE)
            || !responder.unknown_critical.is_empty()
        {
            return Err("is signed with a certificate that is not for it (OCSPSigning)".to_owned());
        }
        if !responder.key.is_strong || now < responder.not_before || now > responder.not_after {
            return Err("is signed with a certificate that is weak or not in force".to_owned());
        }
        return signed.verify(&responder.key.info).map_err(|_| "has a signature that does not fit".to_owned());
    }
    Err("is signed by somebody who does not say who it is".to_owned())
}

fn is_responder(id: &ResponderId, certificate: &Certificate) -> bool {
    match id {
        ResponderId::ByName(name) => name.to_der().is_ok_and(|name| name == certificate.raw_subject),
        ResponderId::ByKey(hash) => key_octets(&certificate.key.info)
            .is_some_and(|key| digest(&SHA1_FOR_LEGACY_USE_ONLY, key).as_ref() == hash.as_bytes()),
    }
}
