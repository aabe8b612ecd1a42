//! Sessions of operators.

use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::{ConfigError, duration, rule};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operators {
    #[serde(deserialize_with = "duration")]
    pub session_length: Duration,
    #[serde(deserialize_with = "duration")]
    pub session_idle: Duration,
    pub most_sessions: i32,
    pub allowed_networks: Vec<IpNet>,
}

impl Operators {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let minute = Duration::from_secs(60);
        let fits = (minute..=minute * 60 * 24).contains(&self.session_length);
        rule(fits, "operators.session_length", &self.session_length, "must be between a minute and a day")?;
        let fits = (minute..=self.session_length).contains(&self.session_idle);
        let bounds = "must be between a minute and operators.session_length";
        rule(fits, "operators.session_idle", &self.session_idle, bounds)?;
        let fits = (1..=100).contains(&self.most_sessions);
        rule(fits, "operators.most_sessions", &self.most_sessions, "must be between 1 and 100")
    }
}
