//! How often statistics of requests are written down, and how long they are kept.

use std::time::Duration;

use serde::Deserialize;

use super::{ConfigError, duration, rule};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Analytics {
    #[serde(deserialize_with = "duration")]
    pub flush: Duration,
    #[serde(deserialize_with = "duration")]
    pub keep: Duration,
}

impl Analytics {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let (second, hour, day) = (Duration::from_secs(1), Duration::from_secs(3600), Duration::from_secs(86400));
        rule((second..=hour).contains(&self.flush), "analytics.flush", &self.flush, "must be between 1s and 1h")?;
        rule(self.keep >= day, "analytics.keep", &self.keep, "must be at least 1day")
    }
}
