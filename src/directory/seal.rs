//! The bind secret, sealed with the tenant's own key.

use crate::{
    error::{Error, Result},
    isolation::{Isolation, TenantScope},
    keys::KeyVersion,
    platform::secret::Secret,
    tenant_keys::{Resealed, Sealed, TenantKeys},
};

/// What a sealed secret is bound to, besides its tenant.
pub(super) const PURPOSE: &str = "directory:bind-secret";

const BEHIND: &str = "select sealed_secret from tenantry.directories where tenant_id = $1 and key_version < $2";
const RESEAL: &str = "
    update tenantry.directories set key_version = $2, sealed_secret = $3 where tenant_id = $1 and sealed_secret = $4";

pub(super) async fn open(keys: &TenantKeys, scope: &TenantScope, sealed: &[u8]) -> Result<Secret> {
    let opened = keys.unseal(scope, PURPOSE, sealed).await?;
    let text = std::str::from_utf8(&opened).map_err(|_| Error::internal("a bind secret is no text"))?;
    Ok(Secret::new(text))
}

/// Seals it anew with `version`, where it is still what was read.
pub(super) async fn reseal(
    isolation: Isolation,
    keys: &TenantKeys,
    scope: &TenantScope,
    version: KeyVersion,
) -> Result<Resealed> {
    let tx = isolation.begin(scope).await?;
    let row = tx.row(BEHIND, [tx.tenant().into(), version.into()]).await?;
    tx.commit_unrecorded("a read").await?;
    let Some(row) = row else { return Ok(Resealed::All) };
    let before: Vec<u8> = row.try_get("", "sealed_secret")?;
    let secret = keys.unseal(scope, PURPOSE, &before).await?;
    let Sealed { version, bytes } = keys.seal(scope, PURPOSE, &secret).await?;
    let tx = isolation.begin(scope).await?;
    tx.execute(RESEAL, [tx.tenant().into(), version.into(), bytes.into(), before.into()]).await?;
    tx.commit_unrecorded("the same secret under another key; its rotation is recorded").await?;
    Ok(Resealed::More)
}
