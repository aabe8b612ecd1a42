//! Rotation of both levels: what is committed here holds from the next sealing on; the rest follows step by step.

use async_graphql::Enum;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    KeyStanding, TASK, TenantKeys, make,
    seal::destroyed,
    store::{self, Held},
};
use crate::{
    config::KeyProvider,
    error::{Context as _, Error, Result},
    isolation::{Conditions, TenantScope, TenantTx},
    journal::Entry,
    platform::ids::TenantId,
};

/// Which key is rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum KeyLevel {
    /// The key that seals the tenant's secrets. They are sealed anew, step by step, and the key of before is destroyed.
    Data,
    /// The key that wraps the tenant's data keys. They are wrapped anew, and the wrapping key of before is destroyed.
    Wrapping,
}

impl TenantKeys {
    /// Rotates; makes the first key where there is none. What is sealed goes on opening all the time. `conflict` where another
    /// rotation came in between; `unavailable` names the provider that fails.
    pub async fn rotate(&self, scope: &TenantScope, level: KeyLevel, conditions: &Conditions) -> Result<KeyStanding> {
        self.ensure(scope.tenant()).await?;
        match level {
            KeyLevel::Data => self.rotate_data_key(scope, conditions).await,
            KeyLevel::Wrapping => self.rotate_wrapping_key(scope, conditions).await,
        }
    }

    async fn rotate_data_key(&self, scope: &TenantScope, conditions: &Conditions) -> Result<KeyStanding> {
        let tenant = scope.tenant();
        let held = self.held(tenant).await?.ok_or_else(Error::not_found)?;
        let prepared = self.prepare(tenant, &held).await?;
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            return Ok(answered);
        }
        if !make::store_prepared(&tx, &prepared).await? {
            return Err(Error::conflict("the keys were rotated at the same time; look at them again"));
        }
        let standing = standing(&tx).await?;
        tx.keep_answer(conditions, &standing).await?;
        tx.commit([make::entry(&prepared, &held)?]).await?;
        self.changed(tenant).await;
        Ok(standing)
    }

    async fn rotate_wrapping_key(&self, scope: &TenantScope, conditions: &Conditions) -> Result<KeyStanding> {
        let tenant = scope.tenant();
        let provider = self.wanted_provider(tenant).await?;
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            return Ok(answered);
        }
        let held = store::lock(&tx, tenant).await?.ok_or_else(Error::not_found)?;
        let entry = next_generation(&tx, &held, provider).await?;
        let standing = standing(&tx).await?;
        tx.keep_answer(conditions, &standing).await?;
        tx.commit([entry]).await?;
        // Begun at once; whatever it does not reach is the schedule's.
        if let Err(error) = self.reconcile(tenant).await {
            tracing::warn!(%tenant, %error, cause = error.cause().map(tracing::field::display), "data keys are not wrapped anew yet; the schedule goes on");
        }
        Ok(self.standing_of(tenant).await?.unwrap_or(standing))
    }

    /// A wrapping key at the provider that the tenant's tier asks for, or of the master key that is the platform's now where it is one of before.
    pub(super) async fn follow_tier(&self, tenant: TenantId, held: &Held) -> Result<bool> {
        let (wanted, active) = (self.wanted_provider(tenant).await?, held.active()?);
        let master_changed = active.provider == KeyProvider::Local
            && active
                .reference
                .as_ref()
                .is_some_and(|reference| self.wrappers.previous_master_keys().contains(reference));
        if active.provider == wanted && !master_changed {
            return Ok(false);
        }
        let tx = self.isolation.begin(&TenantScope::system(TASK, tenant)).await?;
        let now = store::lock(&tx, tenant).await?.ok_or_else(Error::not_found)?;
        if now.ring.active_generation == held.ring.active_generation && now.ring.shredded_at.is_none() {
            let entry = next_generation(&tx, &now, wanted).await?;
            tx.commit([entry]).await?;
        } else {
            tx.commit_unrecorded("another was faster, and recorded it").await?;
        }
        Ok(true)
    }

    pub(super) async fn wanted_provider(&self, tenant: TenantId) -> Result<KeyProvider> {
        let known = self.tenancy.snapshots().get(tenant).await?.ok_or_else(Error::not_found)?;
        Ok(self.provider_of(known.tenant.isolation_tier))
    }

    /// This replica has just changed the tenant's keys.
    pub(super) async fn changed(&self, tenant: TenantId) {
        self.tenancy.snapshots().refresh(tenant).await;
        self.drop_old(tenant).await;
    }
}

/// Names the next wrapping key, which is then made and taken into use.
async fn next_generation(tx: &TenantTx, held: &Held, provider: KeyProvider) -> Result<Entry> {
    if held.ring.shredded_at.is_some() {
        return Err(destroyed());
    }
    let (tenant, now, before) = (tx.tenant(), tx.stamp().at, held.active()?);
    let mut ring = held.ring.clone();
    ring.active_generation += 1;
    ring.due_at = Some(now);
    store::insert_wrapping(tx, tenant, ring.active_generation, provider, now).await?;
    store::update_ring(tx, tenant, &ring, now).await?;
    let was = json!({ "generation": before.generation, "provider": before.provider.name() });
    let is = json!({ "level": KeyLevel::Wrapping, "generation": ring.active_generation, "provider": provider.name() });
    Entry::new("TenantKeyRotated", "tenantKey", ring.active_version).change(Some(&was), Some(&is))
}

async fn standing(tx: &TenantTx) -> Result<KeyStanding> {
    let held = store::find(tx, tx.tenant()).await?.context("read a tenant's keys")?;
    KeyStanding::of(&held)
}
