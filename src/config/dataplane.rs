//! Servers besides PostgreSQL that hold what tenants have.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::{ConfigError, duration, rule};
use crate::platform::secret::Secret;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// Empty: not used.
    pub url: Secret,
    pub address: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nats {
    /// Empty: not used.
    pub url: String,
    pub address: String,
    pub operator_seed: Secret,
    pub system_seed: Secret,
    pub stream_bytes: i64,
    #[serde(deserialize_with = "duration")]
    pub stream_age: Duration,
    pub replicas: i64,
    pub connections: i64,
    pub consumers: i64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// Empty: not used.
    pub url: String,
    /// As the library `object_store` names them; secrets are among them.
    pub options: BTreeMap<String, Secret>,
    pub sts_endpoint: String,
    pub role_arn: String,
    #[serde(deserialize_with = "duration")]
    pub credential_ttl: Duration,
}

impl Redis {
    pub fn is_on(&self) -> bool {
        !self.url.is_empty()
    }
}

impl Nats {
    pub fn is_on(&self) -> bool {
        !self.url.is_empty()
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        rule(self.stream_bytes >= 1024, "nats.stream_bytes", &self.stream_bytes, "must be at least 1024")?;
        rule(matches!(self.replicas, 1..=5), "nats.replicas", &self.replicas, "must be 1 to 5")?;
        rule(self.connections > 0, "nats.connections", &self.connections, "must be at least 1")?;
        rule(self.consumers > 0, "nats.consumers", &self.consumers, "must be at least 1")
    }
}

impl Storage {
    pub fn is_on(&self) -> bool {
        !self.url.is_empty()
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let ttl = &self.credential_ttl;
        let hours = Duration::from_secs(12 * 3600);
        rule(
            (Duration::from_secs(900)..=hours).contains(ttl),
            "storage.credential_ttl",
            ttl,
            "must be between 15m and 12h, as AWS STS has it",
        )
    }
}
