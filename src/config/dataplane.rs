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
