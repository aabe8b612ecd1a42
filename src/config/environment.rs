//! Where tenants' environments are, and how they are made.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::{ConfigError, duration, rule};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cells {
    pub own: bool,
    pub own_capacity: i64,
    pub max_connections: u32,
    #[serde(deserialize_with = "duration")]
    pub acquire_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    pub idle_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    pub check_interval: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provisioning {
    #[serde(deserialize_with = "names")]
    pub layers: Vec<String>,
    #[serde(deserialize_with = "names")]
    pub best_effort: Vec<String>,
    pub workers: usize,
    #[serde(deserialize_with = "duration")]
    pub lease: Duration,
    #[serde(deserialize_with = "duration")]
    pub layer_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    pub verify_interval: Duration,
    #[serde(deserialize_with = "duration")]
    pub first_retry: Duration,
    #[serde(deserialize_with = "duration")]
    pub longest_retry: Duration,
    pub plane_removal_attempts: i32,
    #[serde(deserialize_with = "duration")]
    pub credential_ttl: Duration,
    pub tenant_connections: i32,
    #[serde(deserialize_with = "duration")]
    pub tenant_statement_timeout: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Templates {
    pub lanes: usize,
    pub batch: u32,
    #[serde(deserialize_with = "duration")]
    pub lease: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moves {
    pub workers: usize,
    #[serde(deserialize_with = "duration")]
    pub lease: Duration,
    pub batch: u32,
    #[serde(deserialize_with = "duration")]
    pub longest_pause: Duration,
    #[serde(deserialize_with = "duration")]
    pub keep_source: Duration,
}

impl Moves {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        rule((1..=100).contains(&self.workers), "moves.workers", &self.workers, "must be between 1 and 100")?;
        rule((1..=100_000).contains(&self.batch), "moves.batch", &self.batch, "must be between 1 and 100000")?;
        let least = Duration::from_millis(100);
        rule(self.lease >= least, "moves.lease", &self.lease, "must be at least 100ms")?;
        let pause = "must be at least 100ms and shorter than five minutes";
        let within = self.longest_pause >= least && self.longest_pause < Duration::from_mins(5);
        rule(within, "moves.longest_pause", &self.longest_pause, pause)
    }
}

impl Templates {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        rule((1..=100).contains(&self.lanes), "templates.lanes", &self.lanes, "must be between 1 and 100")?;
        rule((1..=1000).contains(&self.batch), "templates.batch", &self.batch, "must be between 1 and 1000")?;
        let least = Duration::from_millis(100);
        rule(self.lease >= least, "templates.lease", &self.lease, "must be at least 100ms")
    }
}

impl Cells {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let capacity = &self.own_capacity;
        rule((1..=100_000).contains(capacity), "cells.own_capacity", capacity, "must be between 1 and 100000")?;
        let connections = &self.max_connections;
        rule((1..=1000).contains(connections), "cells.max_connections", connections, "must be between 1 and 1000")?;
        let interval = &self.check_interval;
        rule(*interval >= Duration::from_millis(10), "cells.check_interval", interval, "must be at least 10ms")
    }
}

impl Provisioning {
    /// Whether tenants get an environment at all.
    pub fn is_on(&self) -> bool {
        !self.layers.is_empty()
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        rule((1..=1000).contains(&self.workers), "provisioning.workers", &self.workers, "must be between 1 and 1000")?;
        rule(
            self.lease > self.layer_timeout && !self.layer_timeout.is_zero(),
            "provisioning.lease",
            &self.lease,
            "must be longer than provisioning.layer_timeout, or two servers work on one layer",
        )?;
        rule(
            !self.first_retry.is_zero() && self.first_retry <= self.longest_retry,
            "provisioning.first_retry",
            &self.first_retry,
            "must be above 0s and at most provisioning.longest_retry",
        )?;
        rule(
            (1..=1000).contains(&self.plane_removal_attempts),
            "provisioning.plane_removal_attempts",
            &self.plane_removal_attempts,
            "must be between 1 and 1000",
        )?;
        let stray = self.best_effort.iter().find(|name| *name == "placement" || !self.layers.contains(name));
        rule(
            stray.is_none(),
            "provisioning.best_effort",
            &self.best_effort,
            "must name layers of provisioning.layers, and not placement: all others stand on it",
        )?;
        let minute = Duration::from_secs(60);
        rule(
            self.credential_ttl >= minute,
            "provisioning.credential_ttl",
            &self.credential_ttl,
            "must be at least 1m, or credentials end before they are used",
        )?;
        rule(
            self.verify_interval >= Duration::from_secs(1),
            "provisioning.verify_interval",
            &self.verify_interval,
            "must be at least 1s",
        )?;
        rule(
            (1..=100_000).contains(&self.tenant_connections),
            "provisioning.tenant_connections",
            &self.tenant_connections,
            "must be between 1 and 100000",
        )
    }
}

/// An empty variable of the environment is a list of one empty name: no name at all.
fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    Ok(names.into_iter().filter(|name| !name.is_empty()).collect())
}
