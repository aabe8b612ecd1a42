//! What is known in memory: of each tenant a snapshot, of the platform its catalogue. Read on every request, replaced when the
//! journal says so, empty while nobody listens.
//!
//! Other capabilities add parts of their own ([`Part`]), which are read in the same transaction. Times in a part (expiries,
//! schedules) are compared when it is used: nothing has to change in memory for them to pass.

mod changed;
mod part;
mod several;

use std::{
    any::TypeId,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use chrono::TimeDelta;
use moka::sync::Cache;

pub use self::part::{Catalogue, Part, Snapshot, TenantPart, Wanted};
use self::{
    changed::{Change, Changed},
    part::{Load, LoadSeveral, Parts},
};
use super::{plan, store, tenant::Tenant};
use crate::{
    error::Result,
    isolation::{Access, Isolation, ReadTx},
    journal::Signals,
    platform::{db::Heard, ids::TenantId, stripes::Stripes},
};

/// Snapshots weighed by their size. A load that began before a change cannot put back what was there before: each change
/// counts up the stripe of its owner, and a load is kept only while the count stands.
#[derive(Debug)]
pub struct Snapshots {
    isolation: Isolation,
    signals: Signals,
    cache: Cache<TenantId, Arc<Snapshot>>,
    catalogue: RwLock<Option<Arc<Catalogue>>>,
    of_tenants: RwLock<Vec<Load>>,
    of_several: RwLock<Vec<(TypeId, LoadSeveral)>>,
    of_platform: RwLock<Vec<Load>>,
    stripes: Stripes,
    /// Whether the connection that hears of changes stands: without it nothing is kept.
    listening: AtomicBool,
    changed: Changed,
}

impl Snapshots {
    pub fn new(isolation: Isolation, signals: Signals, capacity_bytes: u64) -> Self {
        let weigh = |_: &TenantId, snapshot: &Arc<Snapshot>| weight(snapshot);
        Self {
            isolation,
            signals,
            cache: Cache::builder().max_capacity(capacity_bytes).weigher(weigh).build(),
            catalogue: RwLock::default(),
            of_tenants: RwLock::default(),
            of_several: RwLock::default(),
            of_platform: RwLock::default(),
            stripes: Stripes::default(),
            listening: AtomicBool::new(false),
            changed: Changed::default(),
        }
    }

    /// From now on `P` is kept of every tenant. For the house's construction, before the first request.
    pub fn keep_of_tenants<P: TenantPart>(&self) {
        self.of_tenants.write().unwrap_or_else(PoisonError::into_inner).push(part::load::<P>);
        let several = (TypeId::of::<P>(), part::load_several::<P> as LoadSeveral);
        self.of_several.write().unwrap_or_else(PoisonError::into_inner).push(several);
    }

    /// From now on `P` is kept of the platform.
    pub fn keep_of_platform<P: Part>(&self) {
        self.of_platform.write().unwrap_or_else(PoisonError::into_inner).push(part::load::<P>);
    }

    /// The tenant as last committed, as far as this replica has heard; `None` where there is none. Mostly memory has it: the way to the database
    /// is boxed, so that no resolver that may ask for a tenant has room for it.
    pub async fn get(&self, tenant: TenantId) -> Result<Option<Arc<Snapshot>>> {
        if let Some(known) = self.cached(tenant) {
            return Ok(Some(known));
        }
        Ok(Box::pin(self.load(tenant)).await?.inspect(|loaded| loaded.ask()))
    }

    /// The same without waiting: for checks between two events of a stream.
    pub fn cached(&self, tenant: TenantId) -> Option<Arc<Snapshot>> {
        self.peek(tenant).inspect(|known| known.ask())
    }

    /// What memory has, without a claim to have it tomorrow.
    pub fn peek(&self, tenant: TenantId) -> Option<Arc<Snapshot>> {
        self.is_listening().then(|| self.cache.get(&tenant)).flatten()
    }

    /// The platform as last committed, as far as this replica has heard.
    pub async fn catalogue(&self) -> Result<Arc<Catalogue>> {
        let known = self.catalogue.read().unwrap_or_else(PoisonError::into_inner).clone();
        match known.filter(|_| self.is_listening()) {
            Some(known) => Ok(known),
            None => Box::pin(self.load_catalogue()).await,
        }
    }

    /// Whether this replica has heard of every change that was acknowledged.
    pub fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Acquire) && self.isolation.hearing().is_sure()
    }

    /// Takes over what this replica has just committed.
    pub fn replace(&self, tenant: Arc<Tenant>) {
        let id = tenant.id;
        let mut count = self.stripes.lock(id);
        *count += 1;
        if let Some(known) = self.cache.get(&id)
            && known.tenant.version < tenant.version
            && self.is_listening()
        {
            self.cache.insert(id, Arc::new(Snapshot { tenant, ..(*known).clone() }));
        }
    }

    /// Reads the tenant again, whatever memory has: for who knows that it has changed.
    pub async fn reread(&self, tenant: TenantId) -> Result<Option<Arc<Snapshot>>> {
        self.forget(tenant);
        self.load(tenant).await
    }

    /// Reads the platform again, whatever memory has.
    pub async fn reread_catalogue(&self) -> Result<Arc<Catalogue>> {
        self.forget(TenantId::PLATFORM);
        self.load_catalogue().await
    }

    /// Reads again what this replica has just changed, so that its next answer has it. Where that fails, the next request
    /// reads: what was changed stays changed.
    pub async fn refresh(&self, owner: TenantId) {
        self.forget(owner);
        let read =
            if owner.is_platform() { self.load_catalogue().await.map(drop) } else { self.load(owner).await.map(drop) };
        if let Err(error) = read {
            tracing::warn!(%owner, cause = ?error.cause(), "what changed cannot be read; the next request tries again");
        }
    }

    /// Follows the listener: what has changed is no longer in memory when this returns, and a lost connection empties it. Waits for
    /// nothing, for the acknowledgement of the change waits for this.
    pub fn hear(&self, heard: &Heard) {
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
                if let Ok(owner) = payload.parse::<TenantId>() {
                    let change = Change { heard: Instant::now(), known: self.forget(owner) };
                    self.changed.add(owner, change);
                }
            }
        }
    }

    /// Reads what has changed again, so that the next request need not wait, and answers whose it was. Waits until there is something.
    /// What nobody has asked for since it was read is let go: a change of all tenants is no reason to read all of them.
    pub async fn renew_changed(&self) -> TenantId {
        let (owner, Change { heard, known }) = self.changed.next().await;
        let read = if owner.is_platform() {
            self.load_catalogue().await.map(drop)
        } else if known.as_ref().is_some_and(|known| known.was_asked()) || self.signals.is_watched(owner) {
            let loaded = self.load(owner).await;
            loaded.map(|loaded| self.measure_cut(known.as_ref().map(|known| &*known.tenant), loaded.as_deref()))
        } else {
            Ok(())
        };
        if let Err(error) = read {
            tracing::warn!(%owner, cause = ?error.cause(), "what changed cannot be read; the next request tries again");
        }
        self.signals.raise(owner);
        metrics::histogram!("tenantry_snapshot_refresh_seconds").record(heard.elapsed());
        owner
    }

    /// How long after the change this replica refuses: what LIFE-4b promises to be below a second.
    fn measure_cut(&self, known: Option<&Tenant>, loaded: Option<&Snapshot>) {
        let Some(loaded) = loaded.map(|loaded| &*loaded.tenant) else { return };
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

    async fn load(&self, tenant: TenantId) -> Result<Option<Arc<Snapshot>>> {
        let before = self.stripes.count(tenant);
        let tx = self.isolation.observe(tenant).await?;
        let version = journal_version(&tx, tenant).await?;
        let loaded = match store::find(&tx, tenant).await? {
            None => None,
            Some(found) => {
                let loads = self.of_tenants.read().unwrap_or_else(PoisonError::into_inner).clone();
                let parts = Parts::load(&loads, &tx, tenant).await?;
                Some(Snapshot::new(found, version, parts))
            }
        };
        tx.end().await?;
        if let Some(loaded) = &loaded {
            let count = self.stripes.lock(tenant);
            if *count == before && self.is_listening() {
                self.cache.insert(tenant, loaded.clone());
            }
        }
        Ok(loaded)
    }

    async fn load_catalogue(&self) -> Result<Arc<Catalogue>> {
        let before = self.stripes.count(TenantId::PLATFORM);
        let tx = self.isolation.observe_platform().await?;
        let version = journal_version(&tx, TenantId::PLATFORM).await?;
        let plans = plan::all(&tx).await?;
        let loads = self.of_platform.read().unwrap_or_else(PoisonError::into_inner).clone();
        let parts = Parts::load(&loads, &tx, TenantId::PLATFORM).await?;
        tx.end().await?;
        let loaded = Arc::new(Catalogue { plans, version, parts });
        let count = self.stripes.lock(TenantId::PLATFORM);
        if *count == before && self.is_listening() {
            *self.catalogue.write().unwrap_or_else(PoisonError::into_inner) = Some(loaded.clone());
        }
        Ok(loaded)
    }

    fn forget(&self, owner: TenantId) -> Option<Arc<Snapshot>> {
        let mut count = self.stripes.lock(owner);
        *count += 1;
        if owner.is_platform() {
            *self.catalogue.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
        self.cache.remove(&owner)
    }

    fn forget_all(&self) {
        self.stripes.count_all_up();
        *self.catalogue.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.cache.invalidate_all();
    }
}

/// How far the owner's journal is. Asked before the rest is read: what is read afterwards is at least as new.
async fn journal_version(tx: &ReadTx, owner: TenantId) -> Result<i64> {
    let row = tx.row("select sequence from tenantry.journal_heads where tenant_id = $1", [owner.into()]).await?;
    Ok(row.map(|row| row.try_get("", "sequence")).transpose()?.unwrap_or_default())
}

/// About how many bytes a snapshot takes in memory.
fn weight(snapshot: &Snapshot) -> u32 {
    let tenant = &snapshot.tenant;
    let labels: usize = tenant.labels.0.iter().map(|(key, value)| key.len() + value.len() + 64).sum();
    let sections: usize = tenant.sections.0.values().map(|section| section.to_string().len() * 2).sum();
    let contacts = tenant.profile.technical_contacts.len()
        + tenant.profile.billing_contacts.len()
        + tenant.profile.security_contacts.len();
    u32::try_from(1024 + labels + sections + contacts * 160 + snapshot.parts.weight).unwrap_or(u32::MAX)
}
