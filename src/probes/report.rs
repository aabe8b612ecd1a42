use std::collections::BTreeSet;

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
    /// Why it is INCONCLUSIVE: it could not be tried as a whole, or some of it showed nothing. Why it is NOT_HERE.
    pub reason: String,
    pub attempts: Attempts,
    pub at: DateTime<Utc>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Attempts(pub Vec<Attempt>);

impl LayerProbe {
    pub(super) fn tried(cell: Option<&Cell>, layer: &str, attempts: Vec<Attempt>, at: DateTime<Utc>) -> Self {
        let outcome = worst(attempts.iter().map(|attempt| attempt.outcome));
        let reason = if attempts.is_empty() { "nothing was tried".to_owned() } else { unshown(outcome, &attempts) };
        Self { outcome, reason, attempts: Attempts(attempts), ..Self::of(cell, layer, at) }
    }

    pub(super) fn not_tried(cell: Option<&Cell>, layer: &str, reason: &str, at: DateTime<Utc>) -> Self {
        Self { reason: reason.to_owned(), ..Self::of(cell, layer, at) }
    }

    pub(super) fn not_here(cell: Option<&Cell>, layer: &str, reason: &str, at: DateTime<Utc>) -> Self {
        Self { outcome: Outcome::NotHere, ..Self::not_tried(cell, layer, reason, at) }
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

/// The first that showed nothing, and how many others; nothing where the layer is not INCONCLUSIVE.
fn unshown(outcome: Outcome, attempts: &[Attempt]) -> String {
    let unshown: Vec<_> = attempts.iter().filter(|attempt| attempt.outcome == Outcome::Inconclusive).collect();
    match (outcome, unshown.as_slice()) {
        (Outcome::Inconclusive, [only]) => format!("{}: {}", only.what, only.reason),
        (Outcome::Inconclusive, [first, others @ ..]) => {
            format!("{}: {} (and {} more)", first.what, first.reason, others.len())
        }
        _ => String::new(),
    }
}

/// What is open in a region, since it was found so and until the same is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub(super) struct OpenThings(pub(super) BTreeSet<OpenThing>);

/// One thing that was let through, of one layer in one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OpenThing {
    pub layer: String,
    pub(super) place: String,
    pub cell: String,
    pub what: String,
}

impl OpenThings {
    pub(super) fn layers(&self) -> BTreeSet<String> {
        self.0.iter().map(|open| open.layer.clone()).collect()
    }

    /// With what `probes` found. What was open and shows nothing this time, as its server is down, stays open.
    pub(super) fn after(&self, probes: &[LayerProbe]) -> Self {
        let found = probes.iter().flat_map(|probe| {
            probe.let_through().map(|attempt| OpenThing {
                layer: probe.layer.clone(),
                place: probe.place.clone(),
                cell: probe.cell.clone(),
                what: attempt.what.clone(),
            })
        });
        let unshown = |open: &&OpenThing| {
            let same = probes.iter().find(|probe| probe.layer == open.layer && probe.place == open.place);
            same.is_some_and(|probe| {
                let again = probe.attempts.0.iter().find(|attempt| attempt.what == open.what);
                again.map_or(probe.outcome, |attempt| attempt.outcome) == Outcome::Inconclusive
            })
        };
        Self(self.0.iter().filter(unshown).cloned().chain(found).collect())
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
    /// What was let through in this run or an earlier one, and was not shown to be shut since.
    pub open: Vec<OpenThing>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(attempts: Vec<Attempt>) -> [LayerProbe; 1] {
        [LayerProbe::tried(None, "redis", attempts, DateTime::UNIX_EPOCH)]
    }

    #[test]
    fn what_is_open_stays_so_until_the_same_is_refused() {
        let open = OpenThings::default().after(&probe(vec![Attempt::let_through("read"), Attempt::refused("write")]));
        assert_eq!(open.0.iter().map(|one| &*one.what).collect::<Vec<_>>(), ["read"]);
        assert_eq!(open.after(&probe(vec![])), open, "its server is down");
        assert_eq!(open.after(&probe(vec![Attempt::inconclusive("read", "no answer")])), open);
        assert_eq!(open.after(&probe(vec![Attempt::refused("read")])), OpenThings::default());
        let gone = LayerProbe::not_here(None, "redis", "it is gone", DateTime::UNIX_EPOCH);
        assert_eq!(open.after(&[gone]), OpenThings::default(), "what it is made of is gone");
        assert_eq!(open.after(&[]), OpenThings::default(), "there is nothing any more that could be open");
        assert_ne!(open.after(&probe(vec![Attempt::let_through("write")])), open);
    }

    #[test]
    fn a_layer_says_why_it_shows_nothing() {
        let [one] = probe(vec![Attempt::refused("read"), Attempt::inconclusive("write", "no answer")]);
        assert_eq!(one.reason, "write: no answer");
        let [two] = probe(vec![Attempt::inconclusive("read", "no answer"), Attempt::inconclusive("write", "")]);
        assert_eq!(two.reason, "read: no answer (and 1 more)");
        let [open] = probe(vec![Attempt::let_through("read"), Attempt::inconclusive("write", "no answer")]);
        assert_eq!((open.outcome, &*open.reason), (Outcome::LetThrough, ""));
    }
}
