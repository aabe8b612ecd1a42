//! Secrets of a tenant's data plane are sealed with the tenant's own data key: they end with it, and are sealed anew when it is
//! rotated. Those from before that are sealed with the platform's, and live until their next renewal.

use std::sync::Arc;

use super::{
    Provisioning,
    store::{self, Kept},
};
use crate::{
    error::Result,
    isolation::{Isolation, OperatorScope, TenantScope},
    keys::{KeyVersion, MasterKey},
    platform::{ids::TenantId, secret::Secret},
    tenant_keys::{Resealed, Sealed, TenantKeys},
};

const TASK: &str = "dataplane-credentials";
/// Credentials that one run seals anew: two of each layer at most.
const BATCH: i64 = 100;

impl Provisioning {
    pub(super) async fn seal(&self, tenant: TenantId, (layer, slot): (&str, i16), secret: &Secret) -> Result<Sealed> {
        let scope = TenantScope::system(TASK, tenant);
        self.0.keys.seal(&scope, &purpose(layer, slot), secret.expose().as_bytes()).await
    }

    /// `not_found` once the tenant's keys were destroyed; `unavailable` names the key provider that fails.
    pub(super) async fn unseal(&self, tenant: TenantId, kept: &Kept) -> Result<Secret> {
        let opened = open((&self.0.keys, &self.0.master), &TenantScope::system(TASK, tenant), kept).await?;
        Ok(Secret::new(String::from_utf8_lossy(&opened).into_owned()))
    }

    /// From now on a rotated data key has credentials sealed anew, too.
    pub(super) fn reseal_what_is_kept(&self) {
        let (isolation, master) = (self.0.isolation.clone(), self.0.master.clone());
        self.0.keys.reseal_with(Arc::new(move |keys, scope, version| {
            let (isolation, master) = (isolation.clone(), master.clone());
            Box::pin(async move { reseal((&isolation, &master), keys, scope, version).await })
        }));
    }
}

async fn open(
    (keys, master): (&TenantKeys, &MasterKey),
    scope: &TenantScope,
    kept: &Kept,
) -> Result<zeroize::Zeroizing<Vec<u8>>> {
    match kept.key_version {
        Some(_) => keys.unseal(scope, &purpose(&kept.layer, kept.slot), &kept.sealed).await,
        None => master.unseal(&purpose_before(scope.tenant(), &kept.layer, kept.slot), &kept.sealed),
    }
}

/// Each is written where it is still what was read: who renews a credential meanwhile has sealed it with the new key already.
async fn reseal(
    (isolation, master): (&Isolation, &MasterKey),
    keys: &TenantKeys,
    scope: &TenantScope,
    version: KeyVersion,
) -> Result<Resealed> {
    let operator = OperatorScope::system(TASK);
    let tx = isolation.begin_operator(&operator).await?;
    let rows = store::credentials_behind(&tx, scope.tenant(), version, BATCH).await?;
    tx.commit_unrecorded("a read").await?;
    if rows.is_empty() {
        return Ok(Resealed::All);
    }
    let mut anew = Vec::with_capacity(rows.len());
    for kept in rows {
        let secret = open((keys, master), scope, &kept).await?;
        let sealed = keys.seal(scope, &purpose(&kept.layer, kept.slot), &secret).await?;
        anew.push((kept, sealed));
    }
    let tx = isolation.begin_operator(&operator).await?;
    for (before, sealed) in &anew {
        store::reseal_credential(&tx, scope.tenant(), before, sealed).await?;
    }
    tx.commit_unrecorded("the same secrets under another key; its rotation is recorded").await?;
    Ok(Resealed::More)
}

/// What a sealed secret is bound to, besides its tenant.
fn purpose(layer: &str, slot: i16) -> String {
    format!("dataplane:{layer}:{slot}")
}

fn purpose_before(tenant: TenantId, layer: &str, slot: i16) -> String {
    format!("dataplane:{tenant}:{layer}:{slot}")
}
