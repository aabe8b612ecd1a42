use std::sync::Arc;

use zeroize::Zeroizing;

use super::aead::{self, KEY_LEN};
use crate::platform::{ids::TenantId, random};

/// How manieth data key of its tenant: the first is 1.
pub type KeyVersion = i64;

/// First byte of what a data key has sealed; the master key's has another.
const FORM: u8 = 2;
const HEADER: usize = 1 + size_of::<KeyVersion>();

/// One version of a tenant's data key. Clones share it; with the last of them it is wiped from memory.
#[derive(Clone)]
pub struct DataKey(Arc<Zeroizing<Vec<u8>>>);

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKey")
    }
}

impl DataKey {
    pub fn generate() -> Self {
        Self(Arc::new(Zeroizing::new(Zeroizing::new(random::bytes::<KEY_LEN>()).to_vec())))
    }

    /// `None` where these are not 32 bytes.
    pub(super) fn from_bytes(bytes: Zeroizing<Vec<u8>>) -> Option<Self> {
        (bytes.len() == KEY_LEN).then(|| Self(Arc::new(bytes)))
    }

    /// Whether it is the same key; takes the same time whatever differs.
    pub fn is(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }

    /// For who wraps it.
    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Seals `secret`, bound to tenant, purpose and version. Sealed form: a byte for the form, the version (8 bytes, big-endian),
    /// nonce, ciphertext, tag.
    pub fn seal(&self, tenant: TenantId, version: KeyVersion, purpose: &str, secret: &[u8]) -> Vec<u8> {
        let header = [&[FORM], version.to_be_bytes().as_slice()].concat();
        aead::seal(&self.key(), &additional(tenant, version, purpose), &header, secret)
    }

    /// Opens what this version has sealed for tenant and purpose; `None` where anything differs.
    pub fn unseal(&self, tenant: TenantId, purpose: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let version = version_of(sealed)?;
        aead::open(&self.key(), &additional(tenant, version, purpose), &sealed[HEADER..])
    }

    /// Its schedule is made anew each time (about a microsecond), so that nothing but `self` holds the key.
    fn key(&self) -> aws_lc_rs::aead::LessSafeKey {
        aead::key(&self.0).expect("a data key has 32 bytes")
    }
}

/// The version of the data key that sealed this; `None` where no data key did.
pub fn version_of(sealed: &[u8]) -> Option<KeyVersion> {
    let (form, rest) = sealed.split_first()?;
    let (version, _) = rest.split_first_chunk()?;
    (*form == FORM).then(|| KeyVersion::from_be_bytes(*version)).filter(|version| *version > 0)
}

/// Fixed lengths first, so that no two different triples read the same.
fn additional(tenant: TenantId, version: KeyVersion, purpose: &str) -> Vec<u8> {
    [tenant.uuid().as_bytes().as_slice(), &version.to_be_bytes(), purpose.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sealed_secret_opens_with_its_key_tenant_version_and_purpose_only() {
        let (key, tenant) = (DataKey::generate(), TenantId::generate());
        let sealed = key.seal(tenant, 3, "secret:dsn", b"postgres://");
        assert_eq!(version_of(&sealed), Some(3));
        assert_eq!(key.unseal(tenant, "secret:dsn", &sealed).unwrap().as_slice(), b"postgres://");
        assert!(key.unseal(TenantId::generate(), "secret:dsn", &sealed).is_none());
        assert!(key.unseal(tenant, "secret:dsn2", &sealed).is_none());
        assert!(DataKey::generate().unseal(tenant, "secret:dsn", &sealed).is_none());
        for index in 0..sealed.len() {
            let mut broken = sealed.clone();
            broken[index] ^= 1;
            assert!(key.unseal(tenant, "secret:dsn", &broken).is_none(), "byte {index}");
            assert!(key.unseal(tenant, "secret:dsn", &sealed[..index]).is_none(), "{index} bytes");
        }
    }

    proptest! {
        #[test]
        fn what_is_sealed_comes_back_and_is_different_each_time(secret in any::<Vec<u8>>(), version in 1_i64.., purpose in "[a-z:]{0,40}") {
            let (key, tenant) = (DataKey::generate(), TenantId::generate());
            let (one, other) = (key.seal(tenant, version, &purpose, &secret), key.seal(tenant, version, &purpose, &secret));
            prop_assert_ne!(&one, &other);
            for sealed in [one, other] {
                let opened = key.unseal(tenant, &purpose, &sealed).unwrap();
                prop_assert_eq!(opened.as_slice(), secret.as_slice());
            }
        }

        #[test]
        fn what_was_never_sealed_does_not_open_and_does_no_harm(bytes in any::<Vec<u8>>()) {
            prop_assert!(DataKey::generate().unseal(TenantId::generate(), "a", &bytes).is_none());
        }
    }

    #[test]
    fn a_key_does_not_print() {
        assert_eq!(format!("{:?}", DataKey::generate()), "DataKey");
    }
}
