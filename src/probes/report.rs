use chrono::{DateTime, Utc};
use sea_orm::{FromJsonQueryResult, FromQueryResult};
use serde::{Deserialize, Serialize};

use crate::{
    cells::Cell,
    isolation::{Attempt, Outcome, worst},
};

/// The registry itself, as a place and as a layer.
pub(super) const REGISTRY: &str = "registry";

/// What was tried on one layer in one place, and what came of it: one row of `isolation_probes`.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct LayerProbe {
    /// The id of a cell; `registry`; empty for the server of a layer that is no cell.
    pub place: String,
    pub layer: String,
    /// The cell's name.
    pub cell: String,
    pub outcome: Outcome,
    /// Why it could not be tried as a whole.
    pub reason: String,
    pub attempts: Attempts,
    pub at: DateTime<Utc>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Attempts(pub Vec<Attempt>);

impl LayerProbe {
    pub(super) fn tried(cell: Option<&Cell>, layer: &str, attempts: Vec<Attempt>, at: DateTime<Utc>) -> Self {
        let outcome = worst(attempts.iter().map(|attempt| attempt.outcome));
        let reason = if attempts.is_empty() { "nothing was tried".to_owned() } else { String::new() };
        Self { outcome, reason, attempts: Attempts(attempts), ..Self::of(cell, layer, at) }
    }

    pub(super) fn not_tried(cell: Option<&Cell>, layer: &str, reason: &str, at: DateTime<Utc>) -> Self {
        Self { reason: reason.to_owned(), ..Self::of(cell, layer, at) }
    }

    pub(super) fn of_registry(attempts: Vec<Attempt>, at: DateTime<Utc>) -> Self {
        Self { place: REGISTRY.to_owned(), ..Self::tried(None, REGISTRY, attempts, at) }
    }

    fn of(cell: Option<&Cell>, layer: &str, at: DateTime<Utc>) -> Self {
        Self {
            place: cell.map(|cell| cell.id.to_string()).unwrap_or_default(),
            layer: layer.to_owned(),
            cell: cell.map(|cell| cell.name.clone()).unwrap_or_default(),
            outcome: Outcome::Inconclusive,
            reason: String::new(),
            attempts: Attempts::default(),
            at,
        }
    }

    /// Those that were let through.
    pub fn let_through(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.0.iter().filter(|attempt| attempt.outcome == Outcome::LetThrough)
    }
}

/// The last run of a region's probes.
#[derive(Clone, Debug, Default)]
pub struct ProbesReport {
    /// When it ended; none where there was none.
    pub ran_at: Option<DateTime<Utc>>,
    pub outcome: Option<Outcome>,
    /// What the verifier of the catalogue found then.
    pub findings: i64,
    /// Whether it is too long ago to show anything.
    pub stale: bool,
    pub layers: Vec<LayerProbe>,
}
