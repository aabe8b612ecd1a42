//! What a tenant's environment is made of. A new isolation mechanism is one file in `layers/` that implements [`Layer`], and one
//! line in `layers/mod.rs`.

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::names::Names;
use crate::{
    cells::{Cell, Placement},
    error::Result,
    platform::secret::Secret,
    tenancy::{IsolationTier, Tenant},
};

/// One part of a tenant's environment, with three verbs that may be repeated, interrupted anywhere, and run twice at once.
///
/// - Every verb first looks at what is there and then does what is missing: nothing may rest on what an earlier call remembered.
/// - No transaction of the registry is open while a verb runs, and none may be opened around a call to another server.
/// - An error's sentence is kept and shown to operators and to the tenant: no secrets, no text of another server.
///   `Kind::Unavailable` is for what may pass by itself; everything is tried again.
/// - What a verb makes carries the tenant's id in its name, so that [`Layer::residue`] can find it without a record.
///
/// `tests/it/provisioning/conformance.rs` holds every layer to this: repeated, cut off at each outside call, run by two workers
/// at once, removed twice, removed half-made.
#[async_trait]
pub trait Layer: fmt::Debug + Send + Sync {
    /// Its stable name, as in `provisioning.layers` of the configuration, in tables and in the API.
    fn name(&self) -> &'static str;

    /// Whether a tenant is held back without it.
    fn weight(&self) -> Weight {
        Weight::Essential
    }

    /// Whether tenants of this tier have it.
    fn serves(&self, _tier: IsolationTier) -> bool {
        true
    }

    /// Whether it can be made where the tenant is: an extension may be missing on the cell. Asked before `ensure`.
    async fn availability(&self, _site: &Site) -> Result<Availability> {
        Ok(Availability::Here)
    }

    /// What `ensure` would do now, one sentence each, without doing it. `site.placement` may be none: then all of it.
    async fn plan(&self, site: &Site) -> Result<Vec<String>>;

    /// Makes what is missing, and mends what is not as it should be.
    async fn ensure(&self, site: &Site) -> Result<Ensured>;

    /// Looks, and changes nothing.
    async fn verify(&self, site: &Site) -> Result<Verdict>;

    /// Takes all of it away, and says how much of what. Nothing there is no error.
    async fn remove(&self, site: &Site) -> Result<Removed>;

    /// What still bears the tenant's id, anywhere that this layer reaches: after `remove`, nothing.
    async fn residue(&self, site: &Site) -> Result<Vec<String>>;

    /// Makes a credential of the tenant's own for this layer, in the place of what was in `order.slot`; the other slot goes on
    /// opening until its own end. `None` where the layer has none.
    async fn issue(&self, _site: &Site, _order: &IssueOrder) -> Result<Option<Credential>> {
        Ok(None)
    }
}

/// Whose environment, and where: read anew for every verb.
#[derive(Clone, Debug)]
pub struct Site {
    pub tenant: Arc<Tenant>,
    /// What things of this tenant are called.
    pub names: Names,
    /// Where it is; `None` before the layer `placement` has run, and after it was removed.
    pub placement: Option<Placement>,
    /// The cell of `placement`.
    pub cell: Option<Arc<Cell>>,
    /// What this layer left when it was ensured last ([`Ensured::facts`]).
    pub facts: Map<String, Value>,
}

impl Site {
    /// Where the tenant is, for layers that stand on `placement`.
    pub fn placed(&self) -> Result<(&Placement, &Arc<Cell>)> {
        match (&self.placement, &self.cell) {
            (Some(placement), Some(cell)) => Ok((placement, cell)),
            _ => {
                Err(crate::error::Error::new(crate::error::Kind::Unavailable, "the tenant has no place on a cell yet"))
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Without it the tenant does not become ACTIVE, and layers behind it wait.
    Essential,
    /// Tried again and again, and nobody waits for it.
    BestEffort,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    Here,
    /// Why not, for people: "not available on this cell: …".
    NotHere(String),
}

/// What `ensure` did.
#[derive(Clone, Debug, Default)]
pub struct Ensured {
    /// One sentence for each thing that was made or mended; none where all was there.
    pub changes: Vec<String>,
    /// Kept with the layer, shown to operators: never secret.
    pub facts: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    InPlace,
    /// What is missing or different, one sentence each; `ensure` mends it.
    Drifted(Vec<String>),
    /// What is different and not Tenantry's to change, one sentence each: it is there, and people are told.
    Told(Vec<String>),
}

impl Verdict {
    /// In place where nothing is different.
    pub fn of(differences: Vec<String>) -> Self {
        if differences.is_empty() { Self::InPlace } else { Self::Drifted(differences) }
    }
}

/// How much went, by kind of thing: `{"tables": 12, "schemas": 1}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Removed(pub BTreeMap<String, u64>);

impl Removed {
    pub fn of<'a>(counts: impl IntoIterator<Item = (&'a str, u64)>) -> Self {
        Self(counts.into_iter().filter(|(_, count)| *count > 0).map(|(kind, count)| (kind.to_owned(), count)).collect())
    }

    pub fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }
}

/// Which of a layer's two credentials is to be made, and how long it is good for.
#[derive(Clone, Copy, Debug)]
pub struct IssueOrder {
    pub slot: Slot,
    pub valid_until: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    A,
    B,
}

impl Slot {
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    pub(super) fn number(self) -> i16 {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }

    pub(super) fn of(number: i16) -> Self {
        if number == 0 { Self::A } else { Self::B }
    }
}

/// How a service of the tenant gets in.
#[derive(Clone, Debug)]
pub struct Credential {
    /// What it needs besides the secret, by name: `host`, `port`, `user` …
    pub details: BTreeMap<String, String>,
    pub secret: Secret,
}
