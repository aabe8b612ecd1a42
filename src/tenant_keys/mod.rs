//! Envelope encryption: each tenant's secrets are sealed with data keys of its own, which are stored wrapped only.
//!
//! *Owns*: `tenant_key_rings`, `tenant_wrapping_keys`, `tenant_keys`, `tenant_secrets`. *Rules*: the tier says who wraps (`[keys]` of
//! the configuration); a new version of a data key seals from the moment it is committed, earlier ones open until nothing refers to
//! them; a wrapping key is named in a row before it is made, and destroyed after the last data key has left it; no provider is
//! asked between begin and commit. What is left to do stands in `due_at` and is resumed by whoever comes.
//!
//! A capability that keeps sealed columns has `key_version` beside each, a foreign key `(tenant_id, key_version) references
//! tenant_keys deferrable`, and a [`Resealer`]. Example: `secret.rs`.
//!
//! *Emits*: TenantKeyCreated, TenantKeyRotated, TenantKeyRewrapped, TenantKeyRetired, TenantKeyShredded; TenantSecretSet,
//! TenantSecretRemoved.

mod cache;
pub mod graphql;
mod hearing;
mod intrusion;
mod layer;
mod make;
mod reconcile;
mod rewrap;
mod ring;
mod rotate;
mod schedule;
mod seal;
mod secret;
mod shred;
mod standing;
mod store;

use std::sync::{Arc, PoisonError, RwLock};

use futures::{FutureExt as _, future::BoxFuture};

use self::cache::Cache;
pub use self::{
    ring::KeyRing,
    rotate::KeyLevel,
    seal::Sealed,
    shred::Shredded,
    standing::{KeyProblem, KeyStanding},
};
use crate::{
    config::{self, KeyProvider},
    error::Result,
    isolation::{Isolation, TenantScope},
    keys::{KeyVersion, Outage, Wrappers},
    tenancy::{IsolationTier, Tenancy},
};

/// In the journal: who did what nobody asked for by name.
const TASK: &str = "tenant-keys";

/// The handle of this capability. Clones share it.
#[derive(Clone)]
pub struct TenantKeys {
    isolation: Isolation,
    tenancy: Tenancy,
    wrappers: Wrappers,
    cache: Arc<Cache>,
    resealers: Arc<RwLock<Vec<Resealer>>>,
    rules: Arc<config::Keys>,
}

impl std::fmt::Debug for TenantKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TenantKeys").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// Seals anew, with the version that is given, a batch of what a capability keeps of the tenant under earlier ones. Runs again and
/// again; a value that changed meanwhile is left to the next run.
pub type Resealer =
    Arc<dyn for<'a> Fn(&'a TenantKeys, &'a TenantScope, KeyVersion) -> BoxFuture<'a, Result<Resealed>> + Send + Sync>;

/// What a batch left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resealed {
    /// Nothing is sealed under an earlier version.
    All,
    More,
}

impl TenantKeys {
    pub fn new(isolation: Isolation, tenancy: Tenancy, wrappers: Wrappers, rules: config::Keys) -> Self {
        tenancy.snapshots().keep_of_tenants::<KeyRing>();
        let cache = Arc::new(Cache::new(rules.cache_keys, rules.cache_ttl));
        let keys = Self { isolation, tenancy, wrappers, cache, resealers: Arc::default(), rules: Arc::new(rules) };
        keys.reseal_with(Arc::new(|keys, scope, version| secret::reseal(keys, scope, version).boxed()));
        keys
    }

    /// From now on a rotated data key has `resealer` seal anew, too. For the house's construction.
    pub fn reseal_with(&self, resealer: Resealer) {
        self.resealers.write().unwrap_or_else(PoisonError::into_inner).push(resealer);
    }

    /// Each provider that is set up, and since when and why it fails where it does.
    pub fn providers(&self) -> Vec<(KeyProvider, Option<Outage>)> {
        self.wrappers.standing().collect()
    }

    /// Who wraps the data keys of tenants of this tier.
    fn provider_of(&self, tier: IsolationTier) -> KeyProvider {
        match tier {
            IsolationTier::Standard => self.rules.standard,
            IsolationTier::Enterprise => self.rules.enterprise,
            IsolationTier::Premium => self.rules.premium,
        }
    }
}
