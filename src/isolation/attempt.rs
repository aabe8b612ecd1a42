use async_graphql::Enum;
use sea_orm::{DeriveActiveEnum, EnumIter};
use serde::{Deserialize, Serialize};

/// What came of something that must not succeed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enum, EnumIter, DeriveActiveEnum, Serialize, Deserialize,
)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "IsolationOutcome")]
pub enum Outcome {
    /// What the layer is made of is not there, so there is nothing that could be reached.
    NotHere,
    /// The server said no, or showed nothing, and lets its owner do the same with what is its own.
    Refused,
    /// Nothing is shown either way: the server is down, or answers in words that say neither.
    Inconclusive,
    /// One tenant reached what is another's.
    LetThrough,
}

/// One thing that was tried with one tenant's rights on what is another's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// In words of ours: nothing secret, and no tenant's name.
    pub what: String,
    pub outcome: Outcome,
    /// Why it is INCONCLUSIVE; empty where it is not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl Attempt {
    pub fn refused(what: impl Into<String>) -> Self {
        Self { what: what.into(), outcome: Outcome::Refused, reason: String::new() }
    }

    pub fn let_through(what: impl Into<String>) -> Self {
        Self { what: what.into(), outcome: Outcome::LetThrough, reason: String::new() }
    }

    pub fn inconclusive(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { what: what.into(), outcome: Outcome::Inconclusive, reason: reason.into() }
    }
}

/// What several come to: one that was let through outweighs all, and nothing tried shows nothing.
pub fn worst(outcomes: impl IntoIterator<Item = Outcome>) -> Outcome {
    outcomes.into_iter().max().unwrap_or(Outcome::Inconclusive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_was_let_through_outweighs_all_and_nothing_shows_nothing() {
        use Outcome::{Inconclusive, LetThrough, NotHere, Refused};
        assert_eq!(worst([Refused, LetThrough, Inconclusive]), LetThrough);
        assert_eq!(worst([Refused, Inconclusive]), Inconclusive);
        assert_eq!(worst([Refused, NotHere, Refused]), Refused);
        assert_eq!(worst([]), Inconclusive);
    }
}
