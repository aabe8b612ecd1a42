//! Operators inside tenants: for how long, and how long it is remembered.

use std::time::Duration;

use serde::Deserialize;

use super::{ConfigError, duration, rule};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Impersonation {
    #[serde(deserialize_with = "duration")]
    pub longest: Duration,
    #[serde(deserialize_with = "duration")]
    pub keep: Duration,
}

impl Impersonation {
    /// `longest_token`: what the verifier takes at most.
    pub(super) fn validate(&self, longest_token: Duration) -> Result<(), ConfigError> {
        let most = longest_token.min(DAY);
        let fits = (Duration::from_secs(60)..=most).contains(&self.longest);
        let between = "must be between a minute and a day, and at most auth.max_token_ttl";
        rule(fits, "impersonation.longest", &self.longest, between)?;
        let fits = (DAY..=3660 * DAY).contains(&self.keep);
        rule(fits, "impersonation.keep", &self.keep, "must be between a day and ten years")
    }
}
