use super::{KeyRing, TenantKeys};
use crate::platform::{db::Heard, ids::TenantId};

impl TenantKeys {
    /// Follows the listener, after the snapshots have: a tenant whose ring changed loses what memory has of it, a lost connection
    /// everything.
    pub async fn hear(&self, heard: &Heard) {
        match heard {
            Heard::Connected | Heard::Lost => self.cache.clear(),
            Heard::Notified(payload) => {
                if let Ok(tenant) = payload.parse()
                    && self.cache.knows(tenant)
                {
                    self.drop_old(tenant).await;
                }
            }
        }
    }

    pub(super) async fn drop_old(&self, tenant: TenantId) {
        let known = self.tenancy.snapshots().get(tenant).await.ok().flatten();
        let ring = known.and_then(|known| known.part::<KeyRing>().copied().ok());
        self.cache.keep_only(tenant, ring.filter(|ring| !ring.is_shredded).map(|ring| ring.active));
    }
}
