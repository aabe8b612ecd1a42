//! From a presented certificate to a person.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{
    Pki,
    anchor::{Anchor, Role},
    certificate::{Certificate, Fingerprint},
    mapping::{self, Identity},
    name::Name,
    path::{self, Known, Path},
    refusal::{Reason, Refusal},
    revocation::Checked,
    store,
};
use crate::{
    access::MOST_CERTIFICATES,
    error::{Error, Result},
    isolation::TenantScope,
    platform::ids::TrustAnchorId,
};

/// A certificate that is believed, and whom it names.
#[derive(Clone, Debug)]
pub struct Verified {
    pub subject: String,
    /// Subject alternative names.
    pub names: Vec<Name>,
    pub fingerprint: Fingerprint,
    pub serial: Vec<u8>,
    pub not_after: DateTime<Utc>,
    pub anchor: TrustAnchorId,
    /// Subjects, from the certificate's own to the anchor's.
    pub path: Vec<String>,
    pub revocation: Vec<Checked>,
    pub identity: Identity,
}

/// What a certificate is worth to a tenant.
#[derive(Clone, Debug)]
pub enum Verdict {
    Accepted(Box<Verified>),
    Refused(Refusal),
}

impl Pki {
    /// Judges what a client has presented (certificates in DER, its own first) by the authorities and the policy of the tenant, at `now`.
    /// Fails only where it cannot be judged.
    pub async fn verify(&self, scope: &TenantScope, chain: Vec<Vec<u8>>, now: DateTime<Utc>) -> Result<Verdict> {
        let tx = self.isolation.begin(scope).await?;
        let (anchors, policy) = (store::anchors(&tx).await?, store::policy(&tx).await?);
        tx.commit_unrecorded("a read").await?;
        let (found, anchors) = tokio::task::spawn_blocking(move || (find(&chain, &anchors, now), anchors))
            .await
            .map_err(Error::internal)?;
        let path = match found {
            Ok(path) => path,
            Err(refusal) => return Ok(counted(Verdict::Refused(refusal))),
        };
        let revocation = match self.check_revocation(scope, &path, &policy, now).await? {
            Ok(checked) => checked,
            Err(refusal) => return Ok(counted(Verdict::Refused(refusal))),
        };
        let identity = match mapping::map(&path, &policy.mapping) {
            Ok(identity) => identity,
            Err(refusal) => return Ok(counted(Verdict::Refused(refusal))),
        };
        let anchor = anchors.iter().find(|anchor| anchor.certificate.fingerprint == path.anchor.fingerprint);
        let anchor = anchor.ok_or_else(|| Error::internal("a path to an anchor that there is not"))?.anchor_id;
        let leaf = &path.leaf;
        Ok(counted(Verdict::Accepted(Box::new(Verified {
            subject: leaf.subject.text.clone(),
            names: leaf.names.clone(),
            fingerprint: leaf.fingerprint,
            serial: leaf.serial.clone(),
            not_after: leaf.not_after,
            anchor,
            path: path.certificates().map(|certificate| certificate.subject.text.clone()).collect(),
            revocation,
            identity,
        }))))
    }
}

fn counted(verdict: Verdict) -> Verdict {
    let outcome = if matches!(verdict, Verdict::Accepted(_)) { "accepted" } else { "refused" };
    metrics::counter!("tenantry_certificate_checks_total", "outcome" => outcome).increment(1);
    verdict
}

/// Reads what was presented, and finds a path. It takes its time on a processor.
fn find(chain: &[Vec<u8>], stored: &[Anchor], now: DateTime<Utc>) -> Result<Path, Refusal> {
    if chain.len() > MOST_CERTIFICATES {
        let message = format!("more than {MOST_CERTIFICATES} certificates were presented");
        return Err(Refusal::new(Reason::Malformed, message));
    }
    let mut read = Vec::with_capacity(chain.len());
    for (place, der) in chain.iter().enumerate() {
        let certificate = Certificate::read(der).map_err(|rule| {
            Refusal::new(Reason::Malformed, format!("certificate {} of those that were presented {rule}", place + 1))
        })?;
        read.push(Arc::new(certificate));
    }
    let mut presented = read.into_iter();
    let leaf = presented.next().ok_or_else(|| Refusal::new(Reason::Missing, "no certificate was presented"))?;
    let known = known(presented.collect(), stored);
    path::find(&leaf, &known, now)
}

fn known(presented: Vec<Arc<Certificate>>, stored: &[Anchor]) -> Known {
    let of = |role| stored.iter().filter(move |anchor| anchor.role == role).map(|anchor| anchor.certificate.clone());
    let mut known = Known { anchors: of(Role::Anchor).collect(), between: presented };
    known.between.extend(of(Role::Intermediate));
    known
}
