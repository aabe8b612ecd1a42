//! What a tenant's environment is made of. A new isolation mechanism is one file in `layers/` that implements [`Layer`], and one
//! line in `layers/mod.rs`.

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::{
    names::Names,
    probing::{ProbeTenant, Probed},
};
use crate::{
    cells::{Cell, LogStep, Placement},
    error::Result,
    isolation::Attempt,
    platform::{ids::TenantId, secret::Secret},
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

    /// Whether tenants of this tier have it.
    fn serves(&self, _tier: IsolationTier) -> bool {
        true
    }

    /// The PostgreSQL extension that it is made of. Such a layer is made where the cell has the extension, and holds a tenant back
    /// only where its plan requires it.
    fn extension(&self) -> Option<&'static str> {
        None
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

    /// Whether services get in here with a credential of their own.
    fn has_credentials(&self) -> bool {
        false
    }

    /// Makes a credential of the tenant's own for this layer, in the place of what was in `order.slot`; the other slot goes on
    /// opening until its own end. `None` where the layer has none.
    async fn issue(&self, _site: &Site, _order: &IssueOrder) -> Result<Option<Credential>> {
        Ok(None)
    }

    /// Lets in again what `issue` made with this secret, where the layer had to be made anew. Nothing to do where
    /// the secret proves itself.
    async fn reinstate(&self, _site: &Site, _order: &IssueOrder, _secret: &Secret) -> Result<()> {
        Ok(())
    }

    /// Shuts a slot whose credential has come to its end. Nothing to do where the server itself knows when that is.
    async fn retire(&self, _site: &Site, _slot: Slot) -> Result<()> {
        Ok(())
    }

    /// Asks the server that the layer stands on for a sign of life, where that is no cell. A mark that differs from the last
    /// one says that the server has begun anew and may have forgotten what was made.
    async fn probe(&self) -> Result<Probe> {
        Ok(Probe::NotNeeded)
    }

    /// Whether and where it is shown that one tenant does not reach another's.
    fn probed(&self) -> Probed {
        Probed::Not("nobody has written down how to try it")
    }

    /// Tries with the credentials of `intruder` everything on what is `victim`'s, and that the same works on its own. Both were made
    /// up for this, and are removed afterwards; what is let through must harm nobody but them.
    async fn probe_isolation(&self, _intruder: &ProbeTenant, _victim: &ProbeTenant) -> Result<Vec<Attempt>> {
        Ok(Vec::new())
    }

    /// What tenants' own credentials tried and the server refused since it was told last: what is told together, each by itself.
    async fn denials(&self) -> Result<Vec<Denials>> {
        Ok(Vec::new())
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
    /// Extensions that the tenant's plan requires.
    pub extensions: Vec<&'static str>,
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

/// What a server said when it was asked for a sign of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The layer stands on cells, which are looked at by themselves, or on nothing that can be down.
    NotNeeded,
    /// It answers; the mark tells one run of it from the next, and is empty where that does not matter.
    Alive { mark: String },
}

/// A refusal by a server: who tried what. Without any text of who tried, which may hold anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Whose credential it was.
    pub tenant: TenantId,
    pub user: String,
    /// What was tried, in words of ours.
    pub what: String,
    /// Whose things they were, where a name says it.
    pub other: Option<TenantId>,
    /// From which address.
    pub from: String,
    pub times: u64,
}

/// Refusals that are told together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denials {
    pub told: Vec<Denial>,
    /// Taken in the transaction that tells them, so that they are told once; none where the server has forgotten them already.
    pub step: Option<LogStep>,
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
    /// At most `IssueOrder::valid_until`.
    pub valid_until: DateTime<Utc>,
}
