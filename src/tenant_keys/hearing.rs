use super::{KeyRing, TenantKeys};
use crate::platform::{db::Heard, ids::TenantId};

impl TenantKeys {
    /// Follows the listener, after the snapshots have: a tenant whose ring changed loses what memory has of it, a lost connection
    /// everything.
    pub fn hear(&self, heard: &Heard) {
        if matches!(heard, Heard::Connected | Heard::Lost) {
            self.cache.clear();
        }
    }

    /// Keeps in memory what the tenant still seals with, as long as the tenant itself is kept. Whoever wants a key asks the tenant's snapshot first, so what is dropped late
    /// is not used.
    pub async fn drop_old(&self, tenant: TenantId) {
        if !self.cache.knows(tenant) {
            return;
        }
        let known = self.tenancy.snapshots().peek(tenant);
        let ring = known.and_then(|known| known.part::<KeyRing>().copied().ok());
        self.cache.keep_only(tenant, ring.filter(|ring| !ring.is_shredded).map(|ring| ring.active));
    }
}
