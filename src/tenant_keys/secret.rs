//! Secrets of a tenant by name: passwords, DSNs, credentials of providers. Other capabilities read them; the API never does.

use serde_json::json;
use zeroize::Zeroizing;

use super::{Resealed, Sealed, TenantKeys};
use crate::{
    error::{Error, Result},
    isolation::TenantScope,
    journal::Entry,
    keys::KeyVersion,
    platform::db::violated_constraint,
};

const LONGEST_NAME: usize = 200;
const LARGEST: usize = 64 * 1024;
const BATCH: i64 = 100;

const PUT: &str = "
    insert into tenantry.tenant_secrets (tenant_id, name, key_version, sealed, created_at, updated_at)
    values ($1, $2, $3, $4, $5, $5)
    on conflict (tenant_id, name) do update set key_version = $3, sealed = $4, updated_at = $5";
const FIND: &str = "select sealed from tenantry.tenant_secrets where tenant_id = $1 and name = $2";
const REMOVE: &str = "delete from tenantry.tenant_secrets where tenant_id = $1 and name = $2";
const BEHIND: &str = "
    select name, sealed from tenantry.tenant_secrets where tenant_id = $1 and key_version < $2 order by name limit $3";
const RESEAL: &str = "
    update tenantry.tenant_secrets set key_version = $3, sealed = $4 where tenant_id = $1 and name = $2 and sealed = $5";

impl TenantKeys {
    /// Keeps a secret under a name, in place of the one before. `invalid_input` at `name` or `secret`; `unavailable` names the key
    /// provider that fails.
    pub async fn put_secret(&self, scope: &TenantScope, name: &str, secret: &[u8]) -> Result<()> {
        check(name, secret)?;
        if self.store_secret(scope, name, secret).await? {
            return Ok(());
        }
        // This replica had not heard for so long that the key is gone meanwhile.
        self.tenancy.snapshots().reread(scope.tenant()).await?;
        if self.store_secret(scope, name, secret).await? {
            return Ok(());
        }
        Err(Error::unavailable("a data key was destroyed before what it sealed was stored"))
    }

    /// False where the data key is gone.
    async fn store_secret(&self, scope: &TenantScope, name: &str, secret: &[u8]) -> Result<bool> {
        let Sealed { version, bytes } = self.seal(scope, &purpose(name), secret).await?;
        let tx = self.isolation.begin(scope).await?;
        let values = [tx.tenant().into(), name.into(), version.into(), bytes.into(), tx.stamp().at.into()];
        match tx.execute(PUT, values).await {
            Ok(_) => {}
            Err(error) if violated_constraint(&error) == Some("tenant_secrets_tenant_id_key_version_fkey") => {
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
        let after = json!({ "name": name, "keyVersion": version });
        tx.commit([Entry::new("TenantSecretSet", "tenantSecret", name).change(None, Some(&after))?]).await?;
        Ok(true)
    }

    /// The secret of this name; `None` where there is none. For capabilities that use it: nothing of it may leave by the API.
    pub async fn secret(&self, scope: &TenantScope, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let tx = self.isolation.begin(scope).await?;
        let row = tx.row(FIND, [tx.tenant().into(), name.into()]).await?;
        tx.commit_unrecorded("a read").await?;
        let Some(row) = row else { return Ok(None) };
        let sealed: Vec<u8> = row.try_get("", "sealed")?;
        self.unseal(scope, &purpose(name), &sealed).await.map(Some)
    }

    /// Forgets a secret; answers whether there was one.
    pub async fn remove_secret(&self, scope: &TenantScope, name: &str) -> Result<bool> {
        let tx = self.isolation.begin(scope).await?;
        if tx.execute(REMOVE, [tx.tenant().into(), name.into()]).await? == 0 {
            tx.commit_unrecorded("nothing was changed").await?;
            return Ok(false);
        }
        let before = json!({ "name": name });
        tx.commit([Entry::new("TenantSecretRemoved", "tenantSecret", name).change(Some(&before), None)?]).await?;
        Ok(true)
    }
}

/// Seals a batch anew with `version`. Each is written where it is still what was read.
pub(super) async fn reseal(keys: &TenantKeys, scope: &TenantScope, version: KeyVersion) -> Result<Resealed> {
    let tenant = scope.tenant();
    let tx = keys.isolation.begin(scope).await?;
    let rows = tx.rows(BEHIND, [tenant.into(), version.into(), BATCH.into()]).await?;
    tx.commit_unrecorded("a read").await?;
    if rows.is_empty() {
        return Ok(Resealed::All);
    }
    let mut anew = Vec::with_capacity(rows.len());
    for row in &rows {
        let (name, sealed): (String, Vec<u8>) = (row.try_get("", "name")?, row.try_get("", "sealed")?);
        let secret = keys.unseal(scope, &purpose(&name), &sealed).await?;
        let again = keys.seal(scope, &purpose(&name), &secret).await?;
        anew.push((name, sealed, again));
    }
    let tx = keys.isolation.begin(scope).await?;
    for (name, before, Sealed { version, bytes }) in anew {
        tx.execute(RESEAL, [tenant.into(), name.into(), version.into(), bytes.into(), before.into()]).await?;
    }
    tx.commit_unrecorded("the same secrets under another key; its rotation is recorded").await?;
    Ok(Resealed::More)
}

/// What a sealed secret is bound to, besides its tenant.
fn purpose(name: &str) -> String {
    format!("tenant-secret:{name}")
}

fn check(name: &str, secret: &[u8]) -> Result<()> {
    let length = name.chars().count();
    if !(1..=LONGEST_NAME).contains(&length) || name.chars().any(char::is_control) {
        return Err(Error::invalid("name", format!("has 1 to {LONGEST_NAME} characters, and no control characters")));
    }
    if secret.len() > LARGEST {
        return Err(Error::invalid("secret", "must have at most 64 KiB"));
    }
    Ok(())
}
