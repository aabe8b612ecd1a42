use super::{WrappingKey, purpose};
use crate::keys::{DataKey, KeyVersion, MasterKey, ProviderError};

/// The platform's master key, for every tenant.
#[derive(Debug)]
pub struct Local {
    master: MasterKey,
}

impl Local {
    pub(super) fn new(master: MasterKey) -> Self {
        Self { master }
    }

    pub(super) fn reference(&self) -> String {
        self.master.id().to_owned()
    }

    pub(super) fn wrap(&self, by: &WrappingKey, version: KeyVersion, key: &DataKey) -> Result<Vec<u8>, ProviderError> {
        let wrapped = self.master.seal_by(&by.reference, &purpose(by.tenant, version), key.expose());
        wrapped.ok_or_else(|| {
            let wanted = &by.reference;
            ProviderError::NotOpened(format!("this server has no master key {wanted}"))
        })
    }

    pub(super) fn unwrap(
        &self,
        by: &WrappingKey,
        version: KeyVersion,
        wrapped: &[u8],
    ) -> Result<DataKey, ProviderError> {
        let opened = self.master.unseal(&purpose(by.tenant, version), wrapped).ok().and_then(DataKey::from_bytes);
        opened.ok_or_else(|| {
            let wanted = &by.reference;
            ProviderError::NotOpened(format!(
                "it was wrapped with the master key {wanted}: list its file among the previous or next ones"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{keys::master, platform::ids::TenantId};

    #[test]
    fn a_wrapped_key_opens_for_its_tenant_and_version_only() {
        let local = Local::new(master::tests::key());
        let by = WrappingKey { tenant: TenantId::generate(), generation: 1, reference: local.reference() };
        let key = DataKey::generate();
        let wrapped = local.wrap(&by, 1, &key).unwrap();
        let other = WrappingKey { reference: "other".to_owned(), ..by.clone() };
        assert!(local.wrap(&other, 1, &key).is_err(), "by the key that is named, or not at all");
        assert_eq!(local.unwrap(&by, 1, &wrapped).unwrap().expose(), key.expose());
        assert!(local.unwrap(&by, 2, &wrapped).is_err());
        assert!(local.unwrap(&WrappingKey { tenant: TenantId::generate(), ..by.clone() }, 1, &wrapped).is_err());
        assert!(Local::new(master::tests::key()).unwrap(&by, 1, &wrapped).is_err());
    }
}
