//! From a presented certificate to a trust anchor (RFC 5280, section 6; RFC 4158 for finding the path).
//!
//! Two have to agree on each path: the rules below, and `rustls-webpki`, which Tenantry's TLS uses as well. The library processes no
//! constraints on e-mail addresses, directory names and URIs and refuses where there are some; there, and there alone, these rules decide by
//! themselves (`docs/decisions/0032-certificate-paths.md`). Neither works longer than its budget.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::{
    certificate::{Certificate, Fingerprint, usage},
    constraints,
    name::Name,
    refusal::{Reason, Refusal},
    signed::{self, Failure, Signed},
};

/// Authorities between a certificate and its anchor.
pub(super) const MOST_BETWEEN: usize = 6;
/// Signatures that are checked for one certificate, as many as `rustls-webpki` checks.
const MOST_SIGNATURES: usize = 100;
/// Authorities that are looked at for one certificate, each as often as it is.
const MOST_STEPS: usize = 20_000;

/// A path that was found good.
#[derive(Clone, Debug)]
pub struct Path {
    pub leaf: Arc<Certificate>,
    /// From the leaf's issuer upwards.
    pub between: Vec<Arc<Certificate>>,
    pub anchor: Arc<Certificate>,
}

impl Path {
    /// From the leaf to the anchor.
    pub fn certificates(&self) -> impl DoubleEndedIterator<Item = &Arc<Certificate>> {
        std::iter::once(&self.leaf).chain(&self.between).chain(std::iter::once(&self.anchor))
    }

    /// Each certificate but the anchor, with its issuer.
    pub fn issued(&self) -> impl Iterator<Item = (&Arc<Certificate>, &Arc<Certificate>)> {
        self.certificates().zip(self.certificates().skip(1))
    }

    /// Whether every authority of the path may give this e-mail address.
    pub(super) fn allows_email(&self, address: &str) -> bool {
        let mut limits = self.certificates().filter_map(|authority| authority.name_constraints.as_ref());
        limits.all(|limits| constraints::allows_email(limits, address))
    }
}

/// What a path is looked for in.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub anchors: Vec<Arc<Certificate>>,
    /// Presented and stored ones.
    pub between: Vec<Arc<Certificate>>,
}

/// Finds a path that is good at `now`, or says why there is none: of the paths that reach an anchor, what is in the way of the first.
pub fn find(leaf: &Arc<Certificate>, known: &Known, now: DateTime<Utc>) -> Result<Path, Refusal> {
    let search = Search { known, now, budget: Budget::default(), checked: RefCell::default(), found: Cell::default() };
    let mut way = vec![leaf.clone()];
    match search.upwards(&mut way) {
        Step::Found(path) => Ok(path),
        Step::Exhausted => Err(Refusal::of(
            leaf,
            Reason::TooComplex,
            "finding a path to a trust anchor takes more steps than are taken; present its authorities alone",
        )),
        Step::Nothing => Err(search.found.take().unwrap_or_else(|| {
            Refusal::of(
                leaf,
                Reason::Untrusted,
                "no path leads to a trust anchor: an issuer is missing, or not trusted",
            )
        })),
    }
}

/// Of a certificate and of an issuer, whether the one's signature fits the other's key.
type Signatures = HashMap<(Fingerprint, Fingerprint), Result<(), Failure>>;

struct Budget {
    signatures: Cell<usize>,
    steps: Cell<usize>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { signatures: Cell::new(MOST_SIGNATURES), steps: Cell::new(MOST_STEPS) }
    }
}

impl Budget {
    fn spend(of: &Cell<usize>) -> Option<()> {
        of.set(of.get().checked_sub(1)?);
        Some(())
    }
}

struct Search<'a> {
    known: &'a Known,
    now: DateTime<Utc>,
    budget: Budget,
    /// Signatures that were checked, by the fingerprints of certificate and issuer.
    checked: RefCell<Signatures>,
    /// What was in the way of the first path.
    found: Cell<Option<Refusal>>,
}

enum Step {
    Found(Path),
    Nothing,
    Exhausted,
}

impl Search<'_> {
    fn upwards(&self, way: &mut Vec<Arc<Certificate>>) -> Step {
        let head = way[way.len() - 1].clone();
        for anchor in self.issuers(&head, &self.known.anchors) {
            if Budget::spend(&self.budget.steps).is_none() {
                return Step::Exhausted;
            }
            match self.is_signed(&head, anchor) {
                None => return Step::Exhausted,
                Some(Err(failure)) => self.note(unsigned(&head, failure)),
                Some(Ok(())) => {
                    let path = Path { leaf: way[0].clone(), between: way[1..].to_vec(), anchor: anchor.clone() };
                    match judge(&path, self.now) {
                        Ok(()) => return Step::Found(path),
                        Err(refusal) => self.note(refusal),
                    }
                }
            }
        }
        if way.len() > MOST_BETWEEN {
            return Step::Nothing;
        }
        for issuer in self.issuers(&head, &self.known.between) {
            if Budget::spend(&self.budget.steps).is_none() {
                return Step::Exhausted;
            }
            // Each name with its key once: a loop leads nowhere (RFC 4158, section 5.2).
            let same =
                |other: &Arc<Certificate>| other.raw_subject == issuer.raw_subject && other.key.info == issuer.key.info;
            if !issuer.is_ca() || way.iter().any(same) {
                continue;
            }
            match self.is_signed(&head, issuer) {
                None => return Step::Exhausted,
                Some(Err(failure)) => self.note(unsigned(&head, failure)),
                Some(Ok(())) => {
                    way.push(issuer.clone());
                    let step = self.upwards(way);
                    way.pop();
                    if !matches!(step, Step::Nothing) {
                        return step;
                    }
                }
            }
        }
        Step::Nothing
    }

    /// Those that may have issued it.
    fn issuers<'b>(
        &self,
        of: &Certificate,
        among: &'b [Arc<Certificate>],
    ) -> impl Iterator<Item = &'b Arc<Certificate>> {
        among.iter().filter(move |candidate| of.names_issuer(candidate))
    }

    /// `None` where no more signatures are checked.
    fn is_signed(&self, certificate: &Certificate, issuer: &Certificate) -> Option<Result<(), Failure>> {
        let key = (certificate.fingerprint, issuer.fingerprint);
        if let Some(checked) = self.checked.borrow().get(&key) {
            return Some(*checked);
        }
        Budget::spend(&self.budget.signatures)?;
        let checked = check_signature(certificate, issuer);
        self.checked.borrow_mut().insert(key, checked);
        Some(checked)
    }

    /// Anything that was found out about a path tells more than that a signature does not fit.
    fn note(&self, refusal: Refusal) {
        let known = self.found.take();
        let keeps = known.as_ref().is_some_and(|known| known.reason != Reason::BadSignature);
        self.found.set(if keeps { known } else { Some(refusal) });
    }
}

pub(super) fn check_signature(certificate: &Certificate, issuer: &Certificate) -> Result<(), Failure> {
    Signed::read(&certificate.der).ok_or(Failure::Invalid)?.verify(&issuer.key.info)
}

fn unsigned(certificate: &Certificate, failure: Failure) -> Refusal {
    match failure {
        Failure::Invalid => {
            Refusal::of(certificate, Reason::BadSignature, "its signature does not fit the key of its issuer")
        }
        Failure::Unsupported => weak_signature(certificate),
    }
}

fn weak_signature(certificate: &Certificate) -> Refusal {
    let message = format!("is signed by {}, which is not accepted", certificate.signature_algorithm);
    Refusal::of(certificate, Reason::WeakSignature, message)
}

/// The rules of RFC 5280, section 6.1, on a path whose signatures fit; then the library's.
fn judge(path: &Path, now: DateTime<Utc>) -> Result<(), Refusal> {
    for certificate in path.certificates() {
        check_each(certificate, now)?;
    }
    check_leaf(&path.leaf)?;
    check_authorities(path)?;
    check_names(path)?;
    second_opinion(path, now)
}

/// What holds for every certificate of a path, the anchor included.
fn check_each(certificate: &Certificate, now: DateTime<Utc>) -> Result<(), Refusal> {
    let refuse = |reason, message: String| Err(Refusal::of(certificate, reason, message));
    if !certificate.key.is_strong {
        let message =
            format!("its key, {} of {} bits, is not accepted", certificate.key.algorithm, certificate.key.bits);
        return refuse(Reason::WeakKey, message);
    }
    if now < certificate.not_before {
        return refuse(Reason::NotYetValid, format!("is valid from {} on", certificate.not_before.to_rfc3339()));
    }
    if now > certificate.not_after {
        return refuse(Reason::Expired, format!("was valid until {}", certificate.not_after.to_rfc3339()));
    }
    if let Some(oid) = certificate.unknown_critical.first() {
        return refuse(Reason::UnknownExtension, format!("its critical extension {oid} is not processed"));
    }
    if certificate.has_policy_constraints {
        let message = "policyConstraints and inhibitAnyPolicy are not processed".to_owned();
        return refuse(Reason::UnknownExtension, message);
    }
    if !certificate.is_for_clients() {
        return refuse(Reason::ExtendedKeyUsage, "its extendedKeyUsage does not have clientAuth".to_owned());
    }
    Ok(())
}

fn check_leaf(leaf: &Certificate) -> Result<(), Refusal> {
    if leaf.is_ca() {
        return Err(Refusal::of(leaf, Reason::KeyUsage, "is an authority's own, which nobody signs in with"));
    }
    if !leaf.may(usage::DIGITAL_SIGNATURE) {
        return Err(Refusal::of(leaf, Reason::KeyUsage, "its keyUsage does not have digitalSignature"));
    }
    Ok(())
}

fn check_authorities(path: &Path) -> Result<(), Refusal> {
    let mut below = 0;
    for authority in path.between.iter().chain([&path.anchor]) {
        if !authority.is_ca() || !authority.may(usage::CERTIFICATE_SIGN) {
            return Err(Refusal::of(authority, Reason::NotAnAuthority, "may not issue certificates"));
        }
        let allowed = authority.basic_constraints.and_then(|constraints| constraints.path_length);
        if allowed.is_some_and(|allowed| below > allowed) {
            let message = format!("has {below} authorities below it, more than its pathLenConstraint allows");
            return Err(Refusal::of(authority, Reason::PathTooLong, message));
        }
        // One that renews its own key is not counted (RFC 5280, section 6.1.4 (l)).
        below += u32::from(!authority.is_self_issued());
    }
    Ok(())
}

fn check_names(path: &Path) -> Result<(), Refusal> {
    let all: Vec<_> = path.certificates().collect();
    let mut comparisons = 0;
    for (place, authority) in all.iter().enumerate().skip(1) {
        let Some(limits) = &authority.name_constraints else { continue };
        for (below, certificate) in all[..place].iter().enumerate() {
            // Section 6.1.3 (b): an authority that renews its own key is not named anew.
            if below > 0 && certificate.is_self_issued() {
                continue;
            }
            comparisons += (limits.permitted.len() + limits.excluded.len()) * (certificate.names.len() + 4);
            if comparisons > constraints::MOST_COMPARISONS {
                let message = "its name constraints have too many names";
                return Err(Refusal::of(authority, Reason::TooComplex, message));
            }
            constraints::check(limits, certificate).map_err(|name| {
                let message = format!("its {name} is none that {} may give", authority.subject.text);
                Refusal::of(certificate, Reason::NameConstraints, message)
            })?;
        }
    }
    Ok(())
}

/// What `rustls-webpki` says to exactly this path.
fn second_opinion(path: &Path, now: DateTime<Utc>) -> Result<(), Refusal> {
    match ask_library(path, now) {
        Ok(()) => Ok(()),
        Err(webpki::Error::NameConstraintViolation) if has_constraints_that_the_library_leaves(path) => Ok(()),
        Err(error) => Err(from_library(&path.leaf, &error)),
    }
}

fn ask_library(path: &Path, now: DateTime<Utc>) -> Result<(), webpki::Error> {
    let (leaf, anchor) = (CertificateDer::from(&*path.leaf.der), CertificateDer::from(&*path.anchor.der));
    let between: Vec<_> = path.between.iter().map(|certificate| CertificateDer::from(&*certificate.der)).collect();
    let anchors = [anchor_from_trusted_cert(&anchor)?];
    let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
    let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let leaf = EndEntityCert::try_from(&leaf)?;
    leaf.verify_for_usage(signed::algorithms(), &anchors, &between, time, KeyUsage::client_auth(), None, None).map(drop)
}

/// Forms of names that the library refuses wherever they are constrained.
fn has_constraints_that_the_library_leaves(path: &Path) -> bool {
    let limits = path.certificates().filter_map(|authority| authority.name_constraints.as_ref());
    limits
        .flat_map(|limits| limits.permitted.iter().chain(&limits.excluded))
        .any(|base| matches!(base, Name::Email(_) | Name::Directory(_) | Name::Uri(_)))
}

fn from_library(leaf: &Certificate, error: &webpki::Error) -> Refusal {
    use webpki::Error as E;
    let reason = match error {
        E::CertExpired { .. } => Reason::Expired,
        E::CertNotValidYet { .. } => Reason::NotYetValid,
        E::NameConstraintViolation => Reason::NameConstraints,
        E::PathLenConstraintViolated => Reason::PathTooLong,
        E::UnsupportedCriticalExtension => Reason::UnknownExtension,
        E::CaUsedAsEndEntity => Reason::KeyUsage,
        E::EndEntityUsedAsCa => Reason::NotAnAuthority,
        E::UnknownIssuer => Reason::Untrusted,
        E::InvalidSignatureForPublicKey => Reason::BadSignature,
        E::MaximumSignatureChecksExceeded
        | E::MaximumPathBuildCallsExceeded
        | E::MaximumNameConstraintComparisonsExceeded => Reason::TooComplex,
        E::EmptyEkuExtension | E::RequiredEkuNotFoundContext(_) => Reason::ExtendedKeyUsage,
        _ => Reason::Malformed,
    };
    Refusal::of(leaf, reason, format!("its path is refused: {error}"))
}
