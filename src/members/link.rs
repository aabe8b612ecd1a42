//! Links that work once: what a person gets to come in, or to set a new password.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;

use crate::platform::{digest::sha256, ids::TenantId, random, secret::Secret};

const TENANT_BYTES: usize = 16;
const BYTES: usize = TENANT_BYTES + 32;

/// The secret of a link: whose it is, and 256 random bits. Its SHA-256 is all that is kept: nobody guesses 256 bits.
#[derive(Clone, Debug)]
pub struct LinkToken {
    pub text: Secret,
    pub(super) hash: [u8; 32],
}

impl LinkToken {
    pub(super) fn generate(tenant: TenantId) -> Self {
        let mut bytes = [0; BYTES];
        bytes[..TENANT_BYTES].copy_from_slice(tenant.uuid().as_bytes());
        bytes[TENANT_BYTES..].copy_from_slice(&random::bytes::<32>());
        let text = URL_SAFE_NO_PAD.encode(bytes);
        Self { hash: sha256(text.as_bytes()), text: Secret::new(text) }
    }

    /// Whose link it claims to be, and its hash; `None` where it cannot be one.
    pub(super) fn read(text: &str) -> Option<(TenantId, [u8; 32])> {
        let bytes: [u8; BYTES] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let tenant = TenantId::from_uuid(Uuid::from_slice(&bytes[..TENANT_BYTES]).ok()?);
        Some((tenant, sha256(text.as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_says_whose_it_is() {
        let tenant = TenantId::generate();
        let (one, other) = (LinkToken::generate(tenant), LinkToken::generate(tenant));
        assert_eq!(LinkToken::read(one.text.expose()), Some((tenant, one.hash)));
        assert_ne!(one.hash, other.hash);
        assert_eq!(format!("{:?}", one.text), "[secret]");
        for text in ["", "x", &one.text.expose()[1..], &format!("{}=", one.text.expose())] {
            assert_eq!(LinkToken::read(text), None, "{text}");
        }
    }
}
