//! Sealing of secrets: nothing secret reaches a table in the clear.
//!
//! *Owns*: the master key file. *Rules*: AES-256-GCM with a random nonce; what a secret is for is bound to it as additional
//! data, so that one row's secret cannot be put into another. Sealed form: version byte, 12-byte nonce, ciphertext, tag.

use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path, sync::Arc};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::{
    error::{Context as _, Error, Result},
    platform::random,
};

const VERSION: u8 = 1;

/// The platform's key. Clones share it.
#[derive(Clone)]
pub struct MasterKey {
    seals: Arc<LessSafeKey>,
    derives: hmac::Key,
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey")
    }
}

impl MasterKey {
    /// Reads the key file, or makes one: 32 random bytes in base64, readable by its owner alone.
    pub fn open(file: &Path) -> Result<Self> {
        let name = file.display();
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).context("make the folder of the master key")?;
        }
        match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
            Ok(mut made) => {
                let text = Zeroizing::new(STANDARD.encode(Zeroizing::new(random::bytes::<32>()).as_slice()));
                made.write_all(text.as_bytes()).and_then(|()| made.sync_all()).context("write the master key")?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(Error::invalid("keys.master_key_file", format!("{name} can neither be read nor made"))
                    .because(error));
            }
        }
        let text = Zeroizing::new(std::fs::read_to_string(file).context("read the master key")?);
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).unwrap_or_default());
        let key = UnboundKey::new(&AES_256_GCM, &bytes)
            .map_err(|_| Error::invalid("keys.master_key_file", format!("{name} must hold 32 bytes in base64")))?;
        Ok(Self { seals: Arc::new(LessSafeKey::new(key)), derives: hmac::Key::new(hmac::HMAC_SHA256, &bytes) })
    }

    /// Seals `secret`, bound to `purpose`.
    pub fn seal(&self, purpose: &str, secret: &[u8]) -> Vec<u8> {
        let nonce = random::bytes::<NONCE_LEN>();
        let mut sealed = secret.to_vec();
        self.seals
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(purpose.as_bytes()), &mut sealed)
            .expect("secrets are far below the cipher's limit");
        [&[VERSION], nonce.as_slice(), &sealed].concat()
    }

    /// A key of its own for `purpose`, the same on every replica: to authenticate what clients carry about. One step of HKDF's
    /// expansion (RFC 5869, section 2.3), which a key of full entropy needs no more of.
    pub fn derive(&self, purpose: &str) -> hmac::Key {
        let derived = hmac::sign(&self.derives, &[b"derive:", purpose.as_bytes(), &[1]].concat());
        hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
    }

    /// Opens what was sealed for `purpose`.
    pub fn unseal(&self, purpose: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let failed = || Error::internal("a sealed secret does not open: is this the master key that sealed it?");
        let (&version, rest) = sealed.split_first().ok_or_else(failed)?;
        let (nonce, ciphertext) = rest.split_at_checked(NONCE_LEN).filter(|_| version == VERSION).ok_or_else(failed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| failed())?;
        let mut buffer = Zeroizing::new(ciphertext.to_vec());
        let length =
            self.seals.open_in_place(nonce, Aad::from(purpose.as_bytes()), &mut buffer).map_err(|_| failed())?.len();
        buffer.truncate(length);
        Ok(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> MasterKey {
        let file = std::env::temp_dir().join(format!("tenantry-key-{}", random::token()));
        let key = MasterKey::open(&file).unwrap();
        std::fs::remove_file(file).unwrap();
        key
    }

    #[test]
    fn a_sealed_secret_opens_with_its_key_and_purpose_only() {
        let (key, other) = (key(), key());
        let sealed = key.seal("signing-key:a", b"secret");
        assert_eq!(key.unseal("signing-key:a", &sealed).unwrap().as_slice(), b"secret");
        assert!(key.unseal("signing-key:b", &sealed).is_err());
        assert!(other.unseal("signing-key:a", &sealed).is_err());
        for index in 0..sealed.len() {
            let mut broken = sealed.clone();
            broken[index] ^= 1;
            assert!(key.unseal("signing-key:a", &broken).is_err(), "byte {index}");
        }
    }
}
