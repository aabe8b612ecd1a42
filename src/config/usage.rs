//! How events of usage are taken, and how long they are kept.

use std::time::Duration;

use serde::Deserialize;

use super::{ConfigError, duration, rule};
use crate::platform::secret::Secret;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    pub lanes: usize,
    pub batch_events: usize,
    pub waiting_events: usize,
    #[serde(deserialize_with = "duration")]
    pub accept_late: Duration,
    #[serde(deserialize_with = "duration")]
    pub accept_early: Duration,
    #[serde(deserialize_with = "duration")]
    pub keep_events: Duration,
}

/// A stream of NATS JetStream that others publish usage to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageStream {
    /// Empty: not used.
    pub url: String,
    pub credentials: Secret,
    pub stream: String,
    pub subject: String,
    pub consumer: String,
    pub refused: String,
}

impl UsageStream {
    pub fn is_on(&self) -> bool {
        !self.url.is_empty()
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let is_name = |name: &str| !name.is_empty() && !name.contains(['.', '*', '>', '/', '\\', ' ']);
        for (key, name) in [("usage_stream.stream", &self.stream), ("usage_stream.consumer", &self.consumer)] {
            rule(
                !self.is_on() || is_name(name),
                key,
                name,
                "must be a name of NATS: not empty, without '.', '*', '>', '/', '\\' and blanks",
            )?;
        }
        Ok(())
    }
}

impl Usage {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        rule((1..=10_000).contains(&self.lanes), "usage.lanes", &self.lanes, "must be between 1 and 10000")?;
        for (key, count) in [("usage.batch_events", self.batch_events), ("usage.waiting_events", self.waiting_events)] {
            rule((1..=1_000_000).contains(&count), key, &count, "must be between 1 and 1000000")?;
        }
        rule(
            self.keep_events >= self.accept_late,
            "usage.keep_events",
            &self.keep_events,
            "must be at least usage.accept_late, or an event that is repeated late counts again",
        )
    }
}
