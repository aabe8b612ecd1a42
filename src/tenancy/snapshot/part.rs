use std::{any::Any, sync::Arc};

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

    fn get<P: Part>(&self) -> Result<&P> {
        let found = self.all.iter().find_map(|part| part.downcast_ref());
        found.ok_or_else(|| Error::internal(format!("nobody has registered {}", std::any::type_name::<P>())))
    }
}

/// What is known of one tenant.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub tenant: Arc<Tenant>,
    /// How far the tenant's journal was when this was read; what stands here is at least as new.
    pub version: i64,
    pub(super) parts: Parts,
}

impl Snapshot {
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
