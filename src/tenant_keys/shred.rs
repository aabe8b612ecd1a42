use serde_json::json;

use super::{TASK, TenantKeys, store};
use crate::{
    error::{Context as _, Error, Result},
    isolation::TenantScope,
    journal::Entry,
    platform::ids::TenantId,
    tenancy::Status,
};

/// What crypto-shredding destroyed, in all: the same however often it is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shredded {
    /// Versions of the data key.
    pub data_keys: usize,
    /// Wrapping keys of the tenant at providers, earlier ones included; the platform's own key file is none.
    pub wrapping_keys: usize,
}

impl TenantKeys {
    /// Destroys the tenant's keys, for ever: whatever they sealed, in tables and backups, opens no more. Safe to repeat; where a
    /// provider is away nothing opens any more all the same, `unavailable` names it, and the schedule goes on.
    pub async fn shred(&self, tenant: TenantId) -> Result<Shredded> {
        let known = self.tenancy.snapshots().get(tenant).await?.ok_or_else(Error::not_found)?;
        if known.tenant.status == Status::Erased && self.held(tenant).await?.is_none() {
            return Ok(Shredded::default());
        }
        let tx = self.isolation.begin(&TenantScope::system(TASK, tenant)).await?;
        let now = tx.stamp().at;
        let held = match store::lock(&tx, tenant).await? {
            Some(held) => held,
            None => {
                // So that no key is made from now on.
                store::begin(&tx, tenant, now).await?;
                store::lock(&tx, tenant).await?.context("begin a tenant's keys")?
            }
        };
        if held.ring.shredded_at.is_none() {
            let destroyed = store::destroy_keys(&tx, tenant).await?;
            let mut ring = held.ring.clone();
            (ring.shredded_at, ring.due_at) = (Some(now), Some(now));
            store::update_ring(&tx, tenant, &ring, now).await?;
            let after = json!({ "dataKeys": destroyed, "wrappingKeys": own_wrapping_keys(&held) });
            tx.commit([Entry::new("TenantKeyShredded", "tenantKey", ring.active_version).change(None, Some(&after))?])
                .await?;
        } else {
            tx.commit_unrecorded("done before, and recorded").await?;
        }
        self.changed(tenant).await;
        self.reconcile(tenant).await?;
        let held = self.held(tenant).await?.context("read a tenant's keys")?;
        Ok(Shredded { data_keys: held.versions.len(), wrapping_keys: own_wrapping_keys(&held) })
    }
}

fn own_wrapping_keys(held: &store::Held) -> usize {
    held.wrapping.iter().filter(|key| key.provider != crate::config::KeyProvider::Local).count()
}
