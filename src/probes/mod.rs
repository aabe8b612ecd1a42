//! Live probes: whether one tenant really does not reach another's things, tried with real credentials on every server.
//!
//! *Owns*: `isolation_runs`, `isolation_probes`. *Rules*: the two tenants that try are made up, are in no table, take no place, and are
//! removed behind each round; they are called after a seed, so that the next round finds what a killed one has left; what was
//! not shown is INCONCLUSIVE, never REFUSED; one server runs the probes of a region at a time, under a lease; an attestation is
//! signed for a tenant only where everything that it stands on was refused, lately.
//!
//! *Emits*: IsolationVerified (by hand); IsolationBreached where something else is open than before, IsolationRestored once all of it
//! is refused again.

mod attestation;
pub mod graphql;
mod report;
mod round;
mod run;
mod store;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;

pub use self::{
    report::{LayerProbe, OpenThing, ProbesReport},
    round::Round,
};
use crate::{
    access::KeyRing, cells::Cells, config, isolation::Isolation, platform::random, provisioning::Provisioning,
};

/// How tenants' isolation stands, by the names of layers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// On these one tenant reached another's things, and nothing has shown since that they are shut.
    pub open: BTreeSet<String>,
    /// On these the last run could not show anything, somewhere: a server was down.
    pub not_shown: BTreeSet<String>,
}

/// The handle of this capability. Clones share it.
#[derive(Clone, Debug)]
pub struct Probes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    isolation: Isolation,
    cells: Cells,
    provisioning: Provisioning,
    keyring: Arc<KeyRing>,
    rules: config::Isolation,
    /// How long one layer may take.
    patience: std::time::Duration,
    /// Empty: this server works for all regions.
    region: String,
    /// Who this replica is, in leases.
    holder: String,
    known: Mutex<Standing>,
}

impl Probes {
    pub fn new(
        isolation: Isolation,
        cells: Cells,
        provisioning: Provisioning,
        keyring: Arc<KeyRing>,
        config: &config::Config,
    ) -> Self {
        Self(Arc::new(Inner {
            isolation,
            cells,
            provisioning,
            keyring,
            rules: config.isolation.clone(),
            patience: config.provisioning.layer_timeout,
            region: config.server.region.clone(),
            holder: format!("{}-{}", std::process::id(), random::token().get(..8).unwrap_or_default()),
            known: Mutex::default(),
        }))
    }

    /// As far as this replica knows. Asks nobody.
    pub fn standing(&self) -> Standing {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, standing: Standing) {
        metrics::gauge!("tenantry_isolation_let_through").set(f64::from(!standing.open.is_empty()));
        *self.0.known.lock().unwrap_or_else(PoisonError::into_inner) = standing;
    }
}
