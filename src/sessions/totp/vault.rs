//! Who seals the secrets: each tenant's own data key; for operators, who belong to no tenant, the master key.

use zeroize::Zeroizing;

use crate::{
    error::Result,
    isolation::TenantScope,
    keys::{KeyVersion, MasterKey},
    platform::ids::MemberId,
    tenant_keys::TenantKeys,
};

const PURPOSE: &str = "member-totp";
const OPERATORS: &str = "operator-totp";

#[derive(Clone)]
pub(in crate::sessions) struct Vault {
    keys: TenantKeys,
    master: MasterKey,
}

/// As it stands in its row.
pub(super) struct Sealed {
    pub(super) bytes: Vec<u8>,
    /// Of the tenant's data key; none under the master key.
    pub(super) version: Option<KeyVersion>,
}

impl Vault {
    pub(in crate::sessions) fn new(keys: TenantKeys, master: MasterKey) -> Self {
        Self { keys, master }
    }

    pub(super) async fn seal(&self, scope: &TenantScope, member: MemberId, secret: &[u8]) -> Result<Sealed> {
        if scope.tenant().is_platform() {
            return Ok(Sealed { bytes: self.master.seal(&format!("{OPERATORS}:{member}"), secret), version: None });
        }
        let sealed = self.keys.seal(scope, &purpose(member), secret).await?;
        Ok(Sealed { bytes: sealed.bytes, version: Some(sealed.version) })
    }

    pub(super) async fn unseal(
        &self,
        scope: &TenantScope,
        member: MemberId,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>> {
        if scope.tenant().is_platform() {
            return self.master.unseal(&format!("{OPERATORS}:{member}"), sealed);
        }
        self.keys.unseal(scope, &purpose(member), sealed).await
    }
}

/// What a tenant's sealed secret is bound to, besides the tenant.
pub(super) fn purpose(member: MemberId) -> String {
    format!("{PURPOSE}:{member}")
}
