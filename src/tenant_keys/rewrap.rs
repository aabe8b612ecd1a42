//! Data keys on their way from one wrapping key to the next.

use serde_json::json;

use super::{
    TASK, TenantKeys,
    store::{self, Held, Version},
};
use crate::{
    error::{Error, Result},
    isolation::TenantScope,
    journal::Entry,
    keys::WrappingKey,
    platform::ids::TenantId,
};

impl TenantKeys {
    /// Wraps with the present wrapping key what another wraps. A data key that was begun is finished; the rest may follow later.
    pub(super) async fn rewrap(&self, tenant: TenantId, held: &Held) -> Result<()> {
        let by = self.wrapping_key(tenant, held).await?;
        if held.active()?.reference.is_none() {
            let tx = self.isolation.begin(&TenantScope::system(TASK, tenant)).await?;
            store::name_wrapping(&tx, &by).await?;
            tx.commit_unrecorded("what the provider calls a key; that it is wanted is recorded").await?;
        }
        for version in held.behind() {
            self.rewrap_version(tenant, held, &by, version).await?;
        }
        Ok(())
    }

    async fn rewrap_version(&self, tenant: TenantId, held: &Held, by: &WrappingKey, version: &Version) -> Result<()> {
        let (before, after) = (held.wrapping(version.generation)?, held.active()?);
        let key = self.key(tenant, version.version, self.ring(tenant).await?).await?;
        let wrapped = self.wrappers.wrap(after.provider, by, version.version, &key).await?;
        // The wrapping key of before is destroyed soon: nothing is taken on trust.
        if !self.wrappers.unwrap(after.provider, by, version.version, &wrapped).await?.is(&key) {
            return Err(Error::internal("a key provider does not give back what it wrapped"));
        }
        let tx = self.isolation.begin(&TenantScope::system(TASK, tenant)).await?;
        let present = store::lock(&tx, tenant).await?.ok_or_else(Error::not_found)?;
        let is_current = present.ring.active_generation == by.generation && present.ring.shredded_at.is_none();
        if is_current && store::rewrap_key(&tx, version, by, wrapped, tx.stamp().at).await? {
            let was = json!({ "generation": before.generation, "provider": before.provider.name() });
            let is =
                json!({ "version": version.version, "generation": by.generation, "provider": after.provider.name() });
            let entry = Entry::new("TenantKeyRewrapped", "tenantKey", version.version);
            return tx.commit([entry.change(Some(&was), Some(&is))?]).await;
        }
        tx.commit_unrecorded("another was faster, and recorded it").await
    }

    /// Destroys the wrapping keys that no data key needs any more: those before the present one or, once the tenant's keys were
    /// destroyed, all.
    pub(super) async fn destroy_unused(&self, tenant: TenantId, held: &Held) -> Result<()> {
        for wrapping in held.wrapping.iter().filter(|wrapping| wrapping.destroyed_at.is_none()) {
            let generation = wrapping.generation;
            let is_past = held.ring.shredded_at.is_some() || generation < held.ring.active_generation;
            let is_needed = held.versions.iter().any(|key| !key.is_destroyed && key.generation == generation);
            if !is_past || is_needed {
                continue;
            }
            let key = match &wrapping.reference {
                Some(reference) => WrappingKey { tenant, generation, reference: reference.clone() },
                // It may have been made by who then died: found by its name, or made to be destroyed.
                None => self.wrappers.ensure(wrapping.provider, tenant, generation).await?,
            };
            self.wrappers.destroy(wrapping.provider, &key).await?;
            let tx = self.isolation.begin(&TenantScope::system(TASK, tenant)).await?;
            store::end_wrapping(&tx, tenant, generation, tx.stamp().at).await?;
            tx.commit_unrecorded("the end of a key; what it was ended by is recorded").await?;
        }
        Ok(())
    }
}
