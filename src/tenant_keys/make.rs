//! New data keys: the tenant's first, and later versions.

use serde_json::json;

use super::{
    TASK, TenantKeys,
    rotate::KeyLevel,
    seal::destroyed,
    store::{self, Held},
};
use crate::{
    error::{Context as _, Error, Result},
    isolation::{TenantScope, TenantTx},
    journal::Entry,
    keys::{DataKey, KeyVersion, WrappingKey},
    platform::ids::TenantId,
    tenancy::Status,
};

/// A new version, wrapped and not yet stored.
pub(super) struct Prepared {
    pub(super) version: KeyVersion,
    pub(super) by: WrappingKey,
    wrapped: Vec<u8>,
}

impl TenantKeys {
    /// The tenant has a data key: makes the first where there is none. Safe to repeat, and to run on several replicas at once.
    /// `not_found` for tenants that are not there or whose keys were destroyed; `unavailable` names the provider that fails.
    pub async fn ensure(&self, tenant: TenantId) -> Result<()> {
        let mut held = self.begin_ring(tenant).await?;
        if held.ring.active_version == 0 {
            // The tier may have moved since the first try.
            if self.follow_tier(tenant, &held).await? {
                held = self.begin_ring(tenant).await?;
            }
            let prepared = self.prepare(tenant, &held).await?;
            let tx = self.isolation.begin(&TenantScope::system(TASK, tenant)).await?;
            if store_prepared(&tx, &prepared).await? {
                tx.commit([entry(&prepared, &held)?]).await?;
            } else {
                tx.commit_unrecorded("another was faster, and recorded it").await?;
            }
            self.tenancy.snapshots().refresh(tenant).await;
        }
        Ok(())
    }

    /// Names the first wrapping key before it is made, so that none is forgotten at its provider.
    pub(super) async fn begin_ring(&self, tenant: TenantId) -> Result<Held> {
        let known = self.tenancy.snapshots().get(tenant).await?.ok_or_else(Error::not_found)?;
        if known.tenant.status == Status::Erased {
            return Err(Error::not_found());
        }
        let tx = self.isolation.begin(&TenantScope::system(TASK, tenant)).await?;
        let held = match store::lock(&tx, tenant).await? {
            Some(held) => held,
            None => {
                let now = tx.stamp().at;
                store::begin(&tx, tenant, now).await?;
                let provider = self.provider_of(known.tenant.isolation_tier);
                store::insert_wrapping(&tx, tenant, 1, provider, now).await?;
                store::lock(&tx, tenant).await?.context("begin a tenant's keys")?
            }
        };
        tx.commit_unrecorded("the name of a key to be; the record follows with the key").await?;
        if held.ring.shredded_at.is_some() { Err(destroyed()) } else { Ok(held) }
    }

    /// The next version, wrapped by the present wrapping key, which is made where it is not there.
    pub(super) async fn prepare(&self, tenant: TenantId, held: &Held) -> Result<Prepared> {
        let by = self.wrapping_key(tenant, held).await?;
        let (version, key) = (held.ring.active_version + 1, DataKey::generate());
        let wrapped = self.wrappers.wrap(held.active()?.provider, &by, version, &key).await?;
        Ok(Prepared { version, by, wrapped })
    }

    /// The present wrapping key, which is made where it is not there.
    pub(super) async fn wrapping_key(&self, tenant: TenantId, held: &Held) -> Result<WrappingKey> {
        let (generation, active) = (held.ring.active_generation, held.active()?);
        match &active.reference {
            Some(reference) => Ok(WrappingKey { tenant, generation, reference: reference.clone() }),
            None => self.wrappers.ensure(active.provider, tenant, generation).await,
        }
    }
}

/// Stores what was prepared, unless the ring has changed since: then false.
pub(super) async fn store_prepared(tx: &TenantTx, prepared: &Prepared) -> Result<bool> {
    let tenant = prepared.by.tenant;
    let held = store::lock(tx, tenant).await?.context("lock a tenant's keys")?;
    let unchanged = held.ring.active_version + 1 == prepared.version
        && held.ring.active_generation == prepared.by.generation
        && held.ring.shredded_at.is_none();
    if !unchanged {
        return Ok(false);
    }
    let now = tx.stamp().at;
    store::name_wrapping(tx, &prepared.by).await?;
    store::insert_key(tx, &prepared.by, prepared.version, prepared.wrapped.clone(), now).await?;
    let mut ring = held.ring;
    ring.active_version = prepared.version;
    if prepared.version > 1 {
        ring.due_at = Some(now);
    }
    store::update_ring(tx, tenant, &ring, now).await?;
    Ok(true)
}

/// What is written into the journal: numbers and names, no key.
pub(super) fn entry(prepared: &Prepared, held: &Held) -> Result<Entry> {
    let provider = held.active()?.provider.name();
    let after = json!({
        "level": KeyLevel::Data, "version": prepared.version, "generation": prepared.by.generation, "provider": provider,
    });
    let before = (prepared.version > 1).then(|| json!({ "version": prepared.version - 1 }));
    let event = if prepared.version == 1 { "TenantKeyCreated" } else { "TenantKeyRotated" };
    Entry::new(event, "tenantKey", prepared.version).change(before.as_ref(), Some(&after))
}
