use zeroize::Zeroizing;

use super::{
    KeyRing, TenantKeys,
    store::{self, Wrapped},
};
use crate::{
    error::{Error, Kind, Result},
    isolation::TenantScope,
    keys::{DataKey, KeyVersion, version_of},
    platform::ids::TenantId,
};

/// A sealed secret, and the version of the data key that opens it: both belong in its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub version: KeyVersion,
    pub bytes: Vec<u8>,
}

impl TenantKeys {
    /// Seals `secret` with the tenant's present data key, bound to tenant and `purpose`; makes the tenant's first key where there is
    /// none. `unavailable` names the provider that fails.
    pub async fn seal(&self, scope: &TenantScope, purpose: &str, secret: &[u8]) -> Result<Sealed> {
        let tenant = scope.tenant();
        let mut ring = self.ring(tenant).await?;
        if ring.active == 0 {
            self.ensure(tenant).await?;
            // Another replica may have made it, and this one not have heard of that yet.
            self.tenancy.snapshots().reread(tenant).await?;
            ring = self.ring(tenant).await?;
        }
        let version = ring.active;
        let key = self.key(tenant, version, ring).await?;
        Ok(Sealed { version, bytes: key.seal(tenant, version, purpose, secret) })
    }

    /// Opens what was sealed for `purpose`. `not_found` once the tenant's keys were destroyed; `unavailable` names the provider that
    /// fails.
    pub async fn unseal(&self, scope: &TenantScope, purpose: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let tenant = scope.tenant();
        let version =
            version_of(sealed).ok_or_else(|| Error::internal("what no data key has sealed is to be opened"))?;
        let mut ring = self.ring(tenant).await?;
        if !ring.has(version) {
            // Sealed by another replica with a key that this one has not heard of yet.
            self.tenancy.snapshots().reread(tenant).await?;
            ring = self.ring(tenant).await?;
        }
        let key = self.key(tenant, version, ring).await?;
        key.unseal(tenant, purpose, sealed).ok_or_else(|| Error::internal("a sealed secret does not open"))
    }

    /// `not_found` where there is no such tenant, or its keys were destroyed.
    pub(super) async fn ring(&self, tenant: TenantId) -> Result<KeyRing> {
        let snapshot = self.tenancy.snapshots().get(tenant).await?.ok_or_else(Error::not_found)?;
        let ring = *snapshot.part::<KeyRing>()?;
        if ring.is_shredded { Err(destroyed()) } else { Ok(ring) }
    }

    /// One version, from memory or from who wrapped it.
    pub(super) async fn key(&self, tenant: TenantId, version: KeyVersion, ring: KeyRing) -> Result<DataKey> {
        if !ring.has(version) {
            return Err(Error::internal(format!("the data key {version} of {tenant} is not there")));
        }
        let name = (tenant, version);
        if let Some(known) = self.cache.get(name, self.isolation.clock().now()) {
            return Ok(known);
        }
        let turn = self.cache.turn(name);
        let _turn = turn.lock().await;
        if let Some(known) = self.cache.get(name, self.isolation.clock().now()) {
            return Ok(known);
        }
        let ticket = self.cache.ticket();
        let key = self.unwrap(tenant, version).await?;
        if self.tenancy.snapshots().is_listening() {
            self.cache.put(ticket, name, ring.active, key.clone(), self.isolation.clock().now());
        }
        Ok(key)
    }

    /// Asks who wrapped it. Where it has been wrapped anew meanwhile, and the wrapping key of before is gone, whoever did that.
    pub(super) async fn unwrap(&self, tenant: TenantId, version: KeyVersion) -> Result<DataKey> {
        let mut wrapped = self.wrapped(tenant, version).await?;
        loop {
            let error = match self.wrappers.unwrap(wrapped.provider, &wrapped.by, version, &wrapped.bytes).await {
                Ok(key) => return Ok(key),
                Err(error) => error,
            };
            let again = self.wrapped(tenant, version).await?;
            if again.by.generation == wrapped.by.generation {
                return Err(error);
            }
            wrapped = again;
        }
    }

    async fn wrapped(&self, tenant: TenantId, version: KeyVersion) -> Result<Wrapped> {
        let tx = self.isolation.observe(tenant).await?;
        let wrapped = store::find_key(&tx, tenant, version).await?;
        tx.end().await?;
        wrapped.ok_or_else(destroyed)
    }
}

pub(super) fn destroyed() -> Error {
    Error::new(Kind::NotFound, "the tenant's keys were destroyed")
}
