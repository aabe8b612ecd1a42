//! Certificates of clients: whom a tenant trusts to issue them, whether one is believed, and whom it names.
//!
//! *Owns*: `trust_anchors`, `trust_anchor_alerts`, `certificate_policies`, `revocation_lists`. *Rules*: what is read of a certificate is in
//! `certificate.rs`, which are taken as authorities in `acceptance.rs`, what makes a path in `path.rs` and `constraints.rs`, who is named in
//! `mapping.rs`: plain values all, without clock, database or network. Each tenant is judged by its own authorities alone. URLs are followed
//! only where a signature leads from them to a tenant's anchor and its policy says so, by `platform/outbound.rs`. Private keys never stay
//! (`pem.rs`). Whom certificates sign in as is for those alone to say who may do as much as all members together.
//!
//! *Deliberately absent*: signing in itself. Whoever lets a client in asks [`Pki::verify`] (`sessions/by_certificate.rs`).
//!
//! *Emits*: TrustAnchorAdded, TrustAnchorRemoved, TrustAnchorExpiring, TrustAnchorExpired, RevocationListAdded, RevocationListRemoved,
//! CertificatePolicySet; `tenantry_certificate_checks_total{outcome}`, `tenantry_certificate_alerts_total`.

mod acceptance;
mod anchor;
mod certificate;
mod constraints;
mod expiry;
pub mod graphql;
pub mod http;
mod list;
mod list_store;
mod lists;
mod mapping;
mod name;
mod ocsp;
mod path;
mod pem;
mod policy;
mod refusal;
mod revocation;
mod signed;
mod store;
mod verify;

pub use self::{
    anchor::{Anchor, Bundle, Role},
    certificate::{BasicConstraints, Certificate, Fingerprint, Key, NameConstraints},
    list::Scope as ListScope,
    lists::{Listed, Source as ListSource},
    mapping::{Identity, Rule, Source, Target},
    name::{DirectoryName, Name},
    path::{Known, Path, find},
    policy::{NewPolicy, Policy, Revocation},
    refusal::{Reason, Refusal},
    revocation::{Authority, Checked, Status},
    verify::{Verdict, Verified},
};
use crate::{
    config, error::Result, isolation::Isolation, members::Members, platform::outbound::Outbound, tenancy::Tenancy,
};

/// Certificates in a text, in DER, at most so many. Nothing of them is checked.
pub fn certificates_of_pem(field: &str, text: &str, most: usize) -> Result<Vec<Vec<u8>>> {
    let blocks = pem::read(field, text, anchor::LABEL, most)?;
    Ok(blocks.into_iter().map(|block| block.der).collect())
}

/// The handle of this capability. Clones share it.
#[derive(Clone, Debug)]
pub struct Pki {
    isolation: Isolation,
    tenancy: Tenancy,
    members: Members,
    outbound: Outbound,
    remembered: revocation::Remembered,
}

impl Pki {
    pub fn new(isolation: Isolation, tenancy: Tenancy, members: Members, rules: &config::Pki) -> Result<Self> {
        let outbound = Outbound::new(&rules.private_networks, rules.fetch_timeout)?;
        Ok(Self { isolation, tenancy, members, outbound, remembered: revocation::Remembered::default() })
    }
}
