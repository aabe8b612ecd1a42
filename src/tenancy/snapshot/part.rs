use std::{
    any::{Any, TypeId},
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::future::BoxFuture;

use crate::{
    error::{Error, Result},
    isolation::ReadTx,
    platform::{db::Tx, ids::TenantId},
    tenancy::{Plan, Tenant},
};

/// What another capability keeps in memory of a tenant, or of the platform in its catalogue. It is read in the same
/// transaction as the rest, and replaced whenever the owner's journal grows.
pub trait Part: Sized + Send + Sync + 'static {
    /// Reads it under a session of the owner: the tenant's own, or one over all tenants for the catalogue.
    fn load(tx: &Tx, owner: TenantId) -> impl Future<Output = Result<Self>> + Send;

    /// About how many bytes it takes.
    fn weight(&self) -> usize;
}

/// What is kept of tenants can be read of many at once, too: lists of tenants ask for all that they show together.
pub trait TenantPart: Part + Default {
    /// Reads it under a session over all tenants, in as many statements as [`Part::load`] for one. Owners of whom nothing is
    /// written may be missing.
    fn load_several(tx: &Tx, owners: &[TenantId]) -> impl Future<Output = Result<HashMap<TenantId, Self>>> + Send;
}

/// Parts that a reader of many tenants wants: of tenants that memory does not have, no others are read.
pub trait Wanted: Send + Sync + 'static {
    fn is_wanted(part: TypeId) -> bool;
}

impl<P: TenantPart> Wanted for P {
    fn is_wanted(part: TypeId) -> bool {
        part == TypeId::of::<P>()
    }
}

impl<P: TenantPart, Q: TenantPart> Wanted for (P, Q) {
    fn is_wanted(part: TypeId) -> bool {
        P::is_wanted(part) || Q::is_wanted(part)
    }
}

type AnyPart = Arc<dyn Any + Send + Sync>;

/// Loads a part whose type is forgotten.
pub(super) type Load = for<'a> fn(&'a ReadTx, TenantId) -> BoxFuture<'a, Result<(AnyPart, usize)>>;

pub(super) fn load<P: Part>(tx: &ReadTx, owner: TenantId) -> BoxFuture<'_, Result<(AnyPart, usize)>> {
    Box::pin(async move {
        let part = P::load(tx, owner).await?;
        let weight = part.weight();
        Ok((Arc::new(part) as AnyPart, weight))
    })
}

/// The same for several owners. All of them have the part afterwards.
pub(super) type LoadSeveral =
    for<'a> fn(&'a Tx, &'a [TenantId]) -> BoxFuture<'a, Result<HashMap<TenantId, (AnyPart, usize)>>>;

pub(super) fn load_several<'a, P: TenantPart>(
    tx: &'a Tx,
    owners: &'a [TenantId],
) -> BoxFuture<'a, Result<HashMap<TenantId, (AnyPart, usize)>>> {
    Box::pin(async move {
        let mut loaded = P::load_several(tx, owners).await?;
        let part = |owner: &TenantId| {
            let part = loaded.remove(owner).unwrap_or_default();
            let weight = part.weight();
            (*owner, (Arc::new(part) as AnyPart, weight))
        };
        Ok(owners.iter().map(part).collect())
    })
}

/// Parts of one owner, read together.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts {
    all: Vec<AnyPart>,
    pub(super) weight: usize,
}

impl Parts {
    pub(super) async fn load(loads: &[Load], tx: &ReadTx, owner: TenantId) -> Result<Self> {
        let mut parts = Self::default();
        for load in loads {
            let (part, weight) = load(tx, owner).await?;
            parts.all.push(part);
            parts.weight += weight;
        }
        Ok(parts)
    }

    /// Of each owner, in the order of `owners`.
    pub(super) async fn load_several(loads: &[LoadSeveral], tx: &Tx, owners: &[TenantId]) -> Result<Vec<Self>> {
        let mut several = vec![Self::default(); owners.len()];
        for load in loads {
            let mut loaded = load(tx, owners).await?;
            for (owner, parts) in owners.iter().zip(&mut several) {
                let (part, weight) = loaded.remove(owner).ok_or_else(|| Error::internal("a part was not read"))?;
                parts.all.push(part);
                parts.weight += weight;
            }
        }
        Ok(several)
    }

    fn get<P: Part>(&self) -> Result<&P> {
        let found = self.all.iter().find_map(|part| part.downcast_ref());
        found
            .ok_or_else(|| Error::internal(format!("nobody has registered, or wanted, {}", std::any::type_name::<P>())))
    }
}

/// What is known of one tenant.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub tenant: Arc<Tenant>,
    /// How far the tenant's journal was when this was read; what stands here is at least as new.
    pub version: i64,
    pub(super) parts: Parts,
    /// Whether somebody has asked for it.
    pub(super) was_asked: Arc<AtomicBool>,
}

impl Snapshot {
    pub(super) fn new(tenant: Tenant, version: i64, parts: Parts) -> Arc<Self> {
        Arc::new(Self { tenant: Arc::new(tenant), version, parts, was_asked: Arc::default() })
    }

    /// Written once: many read it at the same time.
    pub(super) fn ask(&self) {
        if !self.was_asked() {
            self.was_asked.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn was_asked(&self) -> bool {
        self.was_asked.load(Ordering::Relaxed)
    }

    pub fn part<P: Part>(&self) -> Result<&P> {
        self.parts.get()
    }
}

/// What is known of the platform: plans, and the catalogues of other capabilities.
#[derive(Clone, Debug)]
pub struct Catalogue {
    pub plans: Vec<Plan>,
    /// How far the platform's journal was when this was read; what stands here is at least as new.
    pub version: i64,
    pub(super) parts: Parts,
}

impl Catalogue {
    pub fn part<P: Part>(&self) -> Result<&P> {
        self.parts.get()
    }

    pub fn plan(&self, key: &str) -> Option<&Plan> {
        self.plans.iter().find(|plan| plan.key == key)
    }
}
