//! What is known of a tenant in memory. Read on every request, replaced when the journal says so, empty while nobody listens.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use chrono::TimeDelta;
use moka::sync::Cache;

use super::{store, tenant::Tenant};
use crate::{
    error::Result,
    isolation::{Access, Isolation},
    journal::Signals,
    platform::{db::Heard, ids::TenantId},
};

const STRIPES: usize = 256;

/// Tenants in memory, weighed by their size. A load that began before a change cannot put back what was there before:
/// each change counts up the stripe of its tenant, and a load is kept only while the count stands.
#[derive(Debug)]
pub struct Snapshots {
    isolation: Isolation,
    signals: Signals,
    cache: Cache<TenantId, Arc<Tenant>>,
    stripes: Box<[Mutex<u64>]>,
    hasher: RandomState,
    /// Whether every change is heard: without it nothing is kept.
    listening: AtomicBool,
}

impl Snapshots {
    pub fn new(isolation: Isolation, signals: Signals, capacity_bytes: u64) -> Self {
        let cache =
            Cache::builder().max_capacity(capacity_bytes).weigher(|_, tenant: &Arc<Tenant>| weight(tenant)).build();
        let stripes = std::iter::repeat_with(Mutex::default).take(STRIPES).collect();
        Self { isolation, signals, cache, stripes, hasher: RandomState::new(), listening: AtomicBool::new(false) }
    }

    /// The tenant as last committed, as far as this replica has heard; `None` where there is none.
    pub async fn get(&self, tenant: TenantId) -> Result<Option<Arc<Tenant>>> {
        if let Some(known) = self.cached(tenant) {
            return Ok(Some(known));
        }
        self.load(tenant).await
    }

    /// The same without waiting: for checks between two events of a stream.
    pub fn cached(&self, tenant: TenantId) -> Option<Arc<Tenant>> {
        self.listening.load(Ordering::Acquire).then(|| self.cache.get(&tenant)).flatten()
    }

    /// Whether this replica hears of every change.
    pub fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Acquire)
    }

    /// Takes over what this replica has just committed.
    pub fn replace(&self, tenant: Arc<Tenant>) {
        let id = tenant.id;
        let mut count = self.stripe(id).lock().unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        let newer = self.cache.get(&id).is_none_or(|known| known.version < tenant.version);
        if newer && self.listening.load(Ordering::Acquire) {
            self.cache.insert(id, tenant);
        }
    }

    /// Follows the listener: a change replaces the tenant, a lost connection empties the cache.
    pub async fn hear(&self, heard: Heard) {
        match heard {
            Heard::Connected => {
                self.forget_all();
                self.listening.store(true, Ordering::Release);
                self.signals.raise_all();
            }
            Heard::Lost => {
                self.listening.store(false, Ordering::Release);
                self.forget_all();
                self.signals.raise_all();
            }
            Heard::Notified(payload) => {
                if let Ok(tenant) = payload.parse::<TenantId>() {
                    self.changed(tenant).await;
                }
            }
        }
    }

    /// Re-reads a tenant that this replica serves, so that the next request need not wait, and measures how long the change took.
    async fn changed(&self, tenant: TenantId) {
        let heard = Instant::now();
        let known = self.forget(tenant);
        if tenant.is_platform() || (known.is_none() && !self.signals.is_watched(tenant)) {
            self.signals.raise(tenant);
            return;
        }
        match self.load(tenant).await {
            Ok(Some(loaded)) => self.measure_cut(known.as_deref(), &loaded),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%tenant, cause = ?error.cause(), "a changed tenant cannot be read; the next request tries again")
            }
        }
        self.signals.raise(tenant);
        metrics::histogram!("tenantry_snapshot_refresh_seconds").record(heard.elapsed());
    }

    /// How long after the change this replica refuses: what LIFE-4b promises to be below a second.
    fn measure_cut(&self, known: Option<&Tenant>, loaded: &Tenant) {
        let shut = |tenant: &Tenant| tenant.standing().access != Access::Open;
        if shut(loaded)
            && known.is_none_or(|known| {
                known.version < loaded.version && known.standing().access != loaded.standing().access
            })
        {
            let took = self.isolation.clock().now() - loaded.updated_at;
            let seconds = took.max(TimeDelta::zero()).to_std().unwrap_or_default();
            metrics::histogram!("tenantry_access_cut_seconds").record(seconds);
        }
    }

    async fn load(&self, tenant: TenantId) -> Result<Option<Arc<Tenant>>> {
        let before = *self.stripe(tenant).lock().unwrap_or_else(PoisonError::into_inner);
        let tx = self.isolation.observe(tenant).await?;
        let loaded = store::find(&tx, tenant).await?.map(Arc::new);
        tx.end().await?;
        if let Some(loaded) = &loaded {
            let count = self.stripe(tenant).lock().unwrap_or_else(PoisonError::into_inner);
            if *count == before && self.listening.load(Ordering::Acquire) {
                self.cache.insert(tenant, loaded.clone());
            }
        }
        Ok(loaded)
    }

    fn forget(&self, tenant: TenantId) -> Option<Arc<Tenant>> {
        let mut count = self.stripe(tenant).lock().unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        self.cache.remove(&tenant)
    }

    fn forget_all(&self) {
        for stripe in &self.stripes {
            *stripe.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        }
        self.cache.invalidate_all();
    }

    fn stripe(&self, tenant: TenantId) -> &Mutex<u64> {
        &self.stripes[self.hasher.hash_one(tenant) as usize % STRIPES]
    }
}

/// About how many bytes a tenant takes in memory.
fn weight(tenant: &Tenant) -> u32 {
    let json = |value: usize| value as u32;
    let labels: usize = tenant.labels.0.iter().map(|(key, value)| key.len() + value.len() + 64).sum();
    let sections: usize = tenant.sections.0.values().map(|section| section.to_string().len() * 2).sum();
    let contacts = tenant.profile.technical_contacts.len()
        + tenant.profile.billing_contacts.len()
        + tenant.profile.security_contacts.len();
    1024 + json(labels) + json(sections) + json(contacts * 160)
}
