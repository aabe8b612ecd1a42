//! What a tenant may have of what is not counted in the database (rates, concurrency), from memory.

use super::{Allowances, Kind, QuotaKeys, Quotas, limit::limit};
use crate::{
    error::{Error, Result},
    platform::ids::TenantId,
    tenancy::Snapshot,
};

impl Quotas {
    /// The kind of a quota, and up to where the tenant is let in. None is unlimited.
    pub async fn allowed(&self, tenant: TenantId, key: &str) -> Result<(Kind, Option<i64>)> {
        let kind = self.key(key).await?.kind;
        let snapshot = self.tenancy.snapshots().get(tenant).await?.ok_or_else(Error::not_found)?;
        let [ceiling] = self.ceilings(&snapshot, [key]).await?;
        Ok((kind, ceiling))
    }

    /// A tenant's limit of one key, from memory. None is unlimited, and what the catalogue does not have.
    pub async fn limit_of(&self, snapshot: &Snapshot, key: &str) -> Result<Option<i64>> {
        let catalogue = self.tenancy.snapshots().catalogue().await?;
        let (known, plan) = (catalogue.part::<QuotaKeys>()?.find(key), catalogue.plan(&snapshot.tenant.plan));
        let (Some(known), Some(plan)) = (known, plan) else { return Ok(None) };
        Ok(limit(known, plan, snapshot.part::<Allowances>()?, self.isolation.clock().now()).limit)
    }

    /// Up to where a tenant is let in, of several keys, for every request: nothing is allocated. None is unlimited, and what
    /// the catalogue does not have.
    pub async fn ceilings<const N: usize>(&self, snapshot: &Snapshot, keys: [&str; N]) -> Result<[Option<i64>; N]> {
        let catalogue = self.tenancy.snapshots().catalogue().await?;
        let (known, allowances) = (catalogue.part::<QuotaKeys>()?, snapshot.part::<Allowances>()?);
        let (plan, now) = (catalogue.plan(&snapshot.tenant.plan), self.isolation.clock().now());
        Ok(keys.map(|key| limit(known.find(key)?, plan?, allowances, now).ceiling()))
    }
}
