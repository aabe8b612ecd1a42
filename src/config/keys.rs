use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{ConfigError, duration, rule};
use crate::platform::secret::Secret;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    pub master_key_file: PathBuf,
    pub next_master_key_files: Vec<PathBuf>,
    pub previous_master_key_files: Vec<PathBuf>,
    /// Who wraps the data keys of tenants of this tier.
    pub standard: KeyProvider,
    pub enterprise: KeyProvider,
    pub premium: KeyProvider,
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
    #[serde(deserialize_with = "duration")]
    pub cache_ttl: Duration,
    pub cache_keys: usize,
    #[serde(deserialize_with = "duration")]
    pub retire_after: Duration,
    pub transit: Transit,
    pub kms: Kms,
    pub pkcs11: Pkcs11,
}

/// Who wraps data keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum KeyProvider {
    Local,
    Transit,
    Kms,
    Pkcs11,
}

impl KeyProvider {
    pub const ALL: [Self; 4] = [Self::Local, Self::Transit, Self::Kms, Self::Pkcs11];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Transit => "transit",
            Self::Kms => "kms",
            Self::Pkcs11 => "pkcs11",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.name() == name)
    }
}

impl TryFrom<String> for KeyProvider {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} must be local, transit, kms or pkcs11"))
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transit {
    pub address: String,
    pub mount: String,
    pub namespace: String,
    pub token_file: PathBuf,
    pub token: Secret,
    pub ca_file: PathBuf,
    pub key_prefix: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kms {
    pub region: String,
    pub endpoint: String,
    pub access_key_id: String,
    pub secret_access_key: Secret,
    pub session_token: Secret,
    pub credentials_url: String,
    pub credentials_token_file: PathBuf,
    pub ca_file: PathBuf,
    pub alias_prefix: String,
    pub deletion_days: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pkcs11 {
    pub module: PathBuf,
    pub token_label: String,
    pub pin_file: PathBuf,
    pub label_prefix: String,
}

impl Keys {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        for (key, provider) in
            [("keys.standard", self.standard), ("keys.enterprise", self.enterprise), ("keys.premium", self.premium)]
        {
            let (is_set_up, setting) = match provider {
                KeyProvider::Local => (true, ""),
                KeyProvider::Transit => (!self.transit.address.is_empty(), "keys.transit.address"),
                KeyProvider::Kms => (!self.kms.region.is_empty(), "keys.kms.region"),
                KeyProvider::Pkcs11 => (!self.pkcs11.module.as_os_str().is_empty(), "keys.pkcs11.module"),
            };
            rule(is_set_up, key, &provider.name(), &format!("needs {setting}"))?;
        }
        rule(
            (Duration::from_millis(100)..=Duration::from_secs(10)).contains(&self.timeout),
            "keys.timeout",
            &self.timeout,
            "must be between 100ms and 10s",
        )?;
        rule(
            (1..=1_000_000).contains(&self.cache_keys),
            "keys.cache_keys",
            &self.cache_keys,
            "must be between 1 and 1000000",
        )?;
        rule(
            self.cache_ttl <= Duration::from_secs(24 * 3600),
            "keys.cache_ttl",
            &self.cache_ttl,
            "must be at most 1day",
        )?;
        rule(
            self.retire_after >= Duration::from_secs(60),
            "keys.retire_after",
            &self.retire_after,
            "must be at least 1m: requests that have read what the key sealed may still be under way",
        )?;
        rule(
            (7..=30).contains(&self.kms.deletion_days),
            "keys.kms.deletion_days",
            &self.kms.deletion_days,
            "must be between 7 and 30",
        )
    }
}
