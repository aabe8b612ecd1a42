use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{TenantKeys, store::Held};
use crate::{config::KeyProvider, error::Result, keys::KeyVersion, platform::ids::TenantId};

/// How a tenant's keys stand: numbers and names, no key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyStanding {
    /// The version that seals; 0 where none was made yet.
    pub version: KeyVersion,
    /// Versions that open, the one that seals included.
    pub versions: Vec<KeyVersion>,
    /// Name of the provider that wraps.
    pub provider: String,
    /// How manieth wrapping key.
    pub generation: i64,
    /// Data keys that an earlier wrapping key still wraps.
    pub behind: usize,
    pub created_at: DateTime<Utc>,
    /// When the version that seals was made.
    pub rotated_at: Option<DateTime<Utc>>,
    /// When the keys were destroyed.
    pub shredded_at: Option<DateTime<Utc>>,
}

impl KeyStanding {
    pub(super) fn of(held: &Held) -> Result<Self> {
        let ring = &held.ring;
        let wrapping = held.wrapping.iter().find(|key| key.generation == ring.active_generation);
        let active = held.versions.iter().find(|key| key.version == ring.active_version);
        Ok(Self {
            version: ring.active_version,
            versions: held.versions.iter().filter(|key| !key.is_destroyed).map(|key| key.version).collect(),
            provider: wrapping.map_or_else(String::new, |key| key.provider.name().to_owned()),
            generation: ring.active_generation,
            behind: held.behind().count(),
            created_at: ring.created_at,
            rotated_at: active.map(|key| key.created_at),
            shredded_at: ring.shredded_at,
        })
    }
}

impl TenantKeys {
    /// How a tenant's keys stand; `None` where it has none yet.
    pub async fn standing_of(&self, tenant: TenantId) -> Result<Option<KeyStanding>> {
        self.held(tenant).await?.as_ref().map(KeyStanding::of).transpose()
    }
}

/// What is wrong with a tenant's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyProblem {
    Missing,
    Destroyed,
    OtherProvider {
        wanted: KeyProvider,
        found: KeyProvider,
    },
    /// An earlier wrapping key still wraps it.
    Behind {
        version: KeyVersion,
    },
    NotOpened {
        version: KeyVersion,
        reason: String,
    },
}

impl fmt::Display for KeyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the tenant has no data key"),
            Self::Destroyed => f.write_str("the tenant's keys were destroyed"),
            Self::OtherProvider { wanted, found } => {
                write!(f, "`{}` wraps the tenant's keys, and its tier wants `{}`", found.name(), wanted.name())
            }
            Self::Behind { version } => write!(f, "data key {version} is not wrapped anew yet"),
            Self::NotOpened { version, reason } => write!(f, "data key {version} does not open: {reason}"),
        }
    }
}
