//! Sessions of members, where their tenant says nothing else.

use std::time::Duration;

use serde::Deserialize;

use super::{ConfigError, duration, rule};

const DAY: u64 = 24 * 60 * 60;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sessions {
    #[serde(deserialize_with = "duration")]
    pub length: Duration,
    #[serde(deserialize_with = "duration")]
    pub idle: Duration,
    pub most_of_member: i32,
    #[serde(deserialize_with = "duration")]
    pub refresh_grace: Duration,
    #[serde(deserialize_with = "duration")]
    pub known_address: Duration,
}

impl Sessions {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let minute = Duration::from_secs(60);
        let fits = (minute..=Duration::from_secs(366 * DAY)).contains(&self.length);
        rule(fits, "sessions.length", &self.length, "must be between a minute and a year")?;
        let fits = (minute..=self.length).contains(&self.idle);
        rule(fits, "sessions.idle", &self.idle, "must be between a minute and sessions.length")?;
        let fits = (1..=1000).contains(&self.most_of_member);
        rule(fits, "sessions.most_of_member", &self.most_of_member, "must be between 1 and 1000")?;
        // Longer, and who stole a token could use it for as long before it is noticed.
        let fits = self.refresh_grace <= minute;
        rule(fits, "sessions.refresh_grace", &self.refresh_grace, "must be at most a minute")?;
        let fits = self.known_address <= Duration::from_secs(3660 * DAY);
        rule(fits, "sessions.known_address", &self.known_address, "must be at most ten years")
    }
}
