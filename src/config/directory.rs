//! Where tenants' directories (LDAP) may be, and how long they are waited for.

use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::{ConfigError, duration, rule};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    pub allowed_networks: Vec<IpNet>,
    #[serde(deserialize_with = "duration")]
    pub connect_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    pub answer_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    pub deadline: Duration,
    pub connections: usize,
    #[serde(deserialize_with = "duration")]
    pub patience: Duration,
    #[serde(deserialize_with = "duration")]
    pub idle: Duration,
    pub failures: u32,
    #[serde(deserialize_with = "duration")]
    pub pause: Duration,
    #[serde(deserialize_with = "duration")]
    pub sync_deadline: Duration,
    pub most_people: usize,
    pub syncs_at_once: usize,
}

impl Directory {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let (short, minute, hour) = (Duration::from_millis(10), Duration::from_secs(60), Duration::from_secs(3600));
        for (key, wait) in [
            ("directory.connect_timeout", self.connect_timeout),
            ("directory.answer_timeout", self.answer_timeout),
            ("directory.deadline", self.deadline),
            ("directory.patience", self.patience),
        ] {
            rule((short..=minute).contains(&wait), key, &wait, "must be between 10ms and 1m")?;
        }
        for (key, wait) in [
            ("directory.idle", self.idle),
            ("directory.pause", self.pause),
            ("directory.sync_deadline", self.sync_deadline),
        ] {
            rule((short..=hour).contains(&wait), key, &wait, "must be between 10ms and 1h")?;
        }
        for (key, count) in
            [("directory.connections", self.connections), ("directory.syncs_at_once", self.syncs_at_once)]
        {
            rule((1..=100).contains(&count), key, &count, "must be between 1 and 100")?;
        }
        rule((1..=100).contains(&self.failures), "directory.failures", &self.failures, "must be between 1 and 100")?;
        rule(
            (1..=1_000_000).contains(&self.most_people),
            "directory.most_people",
            &self.most_people,
            "must be between 1 and 1000000",
        )
    }
}
