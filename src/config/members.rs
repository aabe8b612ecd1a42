//! How members come in, and how their passwords are kept.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{ConfigError, duration, rule};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Members {
    #[serde(deserialize_with = "duration")]
    pub invitation_ttl: Duration,
    #[serde(deserialize_with = "duration")]
    pub password_link_ttl: Duration,
    pub password_length: usize,
    pub breached_passwords: PathBuf,
    pub hashing_at_once: usize,
    pub hashing_memory_kib: u32,
    pub hashing_iterations: u32,
}

impl Members {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        for (key, length) in
            [("members.invitation_ttl", self.invitation_ttl), ("members.password_link_ttl", self.password_link_ttl)]
        {
            rule(!length.is_zero(), key, &length, "must not be zero")?;
        }
        // NIST SP 800-63B, section 5.1.1.2: never below 8.
        let fits = (8..=128).contains(&self.password_length);
        rule(fits, "members.password_length", &self.password_length, "must be between 8 and 128")?;
        let fits = (1..=1024).contains(&self.hashing_at_once);
        rule(fits, "members.hashing_at_once", &self.hashing_at_once, "must be between 1 and 1024")?;
        let fits = (1024..=4_194_304).contains(&self.hashing_memory_kib);
        rule(fits, "members.hashing_memory_kib", &self.hashing_memory_kib, "must be between 1024 and 4194304")?;
        let fits = (1..=100).contains(&self.hashing_iterations);
        rule(fits, "members.hashing_iterations", &self.hashing_iterations, "must be between 1 and 100")
    }
}
