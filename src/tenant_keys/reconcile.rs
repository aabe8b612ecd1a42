//! What is left to do for one tenant's keys, from wherever it stopped.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::{
    Resealed, TASK, TenantKeys,
    store::{self, Held},
};
use crate::{
    error::{Error, Result},
    isolation::TenantScope,
    journal::Entry,
    keys::KeyVersion,
    platform::ids::TenantId,
};

/// When a version that something refers to against expectation is looked at again.
const LATER: TimeDelta = TimeDelta::minutes(1);

const DONE: &str = "
    update tenantry.tenant_key_rings set due_at = $2, attempts = 0
    where tenant_id = $1 and active_version = $3 and active_generation = $4 and due_at is not distinct from $5";

impl TenantKeys {
    /// All of one tenant's keys, without a key.
    pub(super) async fn held(&self, tenant: TenantId) -> Result<Option<Held>> {
        let tx = self.isolation.observe(tenant).await?;
        let held = store::find(&tx, tenant).await?;
        tx.end().await?;
        Ok(held)
    }

    /// Brings a tenant's keys to where they are wanted: wrapped by its tier's provider, what they sealed under the present version,
    /// what is no longer used destroyed. Safe to repeat, to interrupt, and to run on several replicas at once.
    pub async fn reconcile(&self, tenant: TenantId) -> Result<()> {
        let Some(begun) = self.held(tenant).await? else { return Ok(()) };
        if begun.ring.shredded_at.is_some() {
            self.destroy_unused(tenant, &begun).await?;
            return self.done(tenant, &begun, begun.ring.due_at, None).await;
        }
        if begun.ring.active_version == 0 {
            return self.ensure(tenant).await;
        }
        let mut held = begun.clone();
        if self.follow_tier(tenant, &held).await? {
            held = self.held(tenant).await?.ok_or_else(Error::not_found)?;
        }
        let due = held.ring.due_at;
        if held.behind().next().is_some() || held.active()?.reference.is_none() {
            self.rewrap(tenant, &held).await?;
            held = self.held(tenant).await?.ok_or_else(Error::not_found)?;
        }
        if held.behind().next().is_none() {
            self.destroy_unused(tenant, &held).await?;
        }
        let next = self.retire(tenant, &held).await?;
        self.done(tenant, &held, due, next).await
    }

    /// Has everything sealed anew, and destroys the versions that nothing needs; answers when to look again.
    async fn retire(&self, tenant: TenantId, held: &Held) -> Result<Option<DateTime<Utc>>> {
        let active = held.ring.active_version;
        let earlier: Vec<_> = held.versions.iter().filter(|key| key.version < active).collect();
        if earlier.is_empty() {
            return Ok(None);
        }
        let now = self.isolation.clock().now();
        if self.reseal(tenant, active).await? == Resealed::More {
            return Ok(Some(now));
        }
        let keep = TimeDelta::from_std(self.rules.retire_after).unwrap_or(TimeDelta::MAX);
        let mut next = None;
        for key in earlier {
            let due = key.replaced_at.unwrap_or(now) + keep;
            let again = if due > now {
                due
            } else if self.retire_version(tenant, key.version).await? {
                continue;
            } else {
                now + LATER
            };
            next = Some(next.map_or(again, |next: DateTime<Utc>| next.min(again)));
        }
        Ok(next)
    }

    /// One batch of each capability.
    async fn reseal(&self, tenant: TenantId, active: KeyVersion) -> Result<Resealed> {
        let scope = TenantScope::system(TASK, tenant);
        let resealers = self.resealers.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let mut all = Resealed::All;
        for reseal in resealers {
            if reseal(self, &scope, active).await? == Resealed::More {
                all = Resealed::More;
            }
        }
        Ok(all)
    }

    /// False where something refers to it.
    async fn retire_version(&self, tenant: TenantId, version: KeyVersion) -> Result<bool> {
        let tx = self.isolation.begin(&TenantScope::system(TASK, tenant)).await?;
        store::lock(&tx, tenant).await?;
        if !store::delete_key(&tx, tenant, version).await? {
            return Ok(false);
        }
        let was = json!({ "version": version });
        tx.commit([Entry::new("TenantKeyRetired", "tenantKey", version).change(Some(&was), None)?]).await?;
        self.changed(tenant).await;
        Ok(true)
    }

    /// Notes when to look again, unless more was asked for meanwhile.
    async fn done(
        &self,
        tenant: TenantId,
        held: &Held,
        due: Option<DateTime<Utc>>,
        next: Option<DateTime<Utc>>,
    ) -> Result<()> {
        if due == next {
            return Ok(());
        }
        let tx = self.isolation.begin(&TenantScope::system(TASK, tenant)).await?;
        let values = [
            tenant.into(),
            next.into(),
            held.ring.active_version.into(),
            held.ring.active_generation.into(),
            due.into(),
        ];
        tx.execute(DONE, values).await?;
        tx.commit_unrecorded("when to look again").await
    }
}
