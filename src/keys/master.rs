use std::{
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::{
    aead::LessSafeKey,
    hmac::{self, HMAC_SHA256},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::aead::{self, KEY_LEN};
use crate::{
    error::{Context as _, Error, Result},
    platform::random,
};

const VERSION: u8 = 1;

/// The platform's key, and others that open: those before it, and those to come. Clones share them. Sealed form: version byte,
/// nonce, ciphertext, tag.
#[derive(Clone)]
pub struct MasterKey(Arc<[Key]>);

struct Key {
    id: String,
    key: LessSafeKey,
    derives: hmac::Key,
    is_previous: bool,
}

/// Files of master keys that open what they have sealed, and seal nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct OtherMasterKeys<'a> {
    /// What they sealed is to be sealed anew.
    pub previous: &'a [PathBuf],
    /// Already the key of other replicas: what they sealed stays as it is.
    pub next: &'a [PathBuf],
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MasterKey({})", self.id())
    }
}

impl MasterKey {
    /// Reads the key file, or makes one: 32 random bytes in base64, readable by its owner alone.
    pub fn open(file: &Path) -> Result<Self> {
        Self::with_others(file, OtherMasterKeys::default())
    }

    /// The same with keys that open besides.
    pub fn with_others(file: &Path, others: OtherMasterKeys<'_>) -> Result<Self> {
        make(file)?;
        let mut keys = vec![read("keys.master_key_file", file)?];
        for file in others.previous {
            let key = read("keys.previous_master_key_files", file)?;
            keys.push(Key { is_previous: true, ..key });
        }
        for file in others.next {
            keys.push(read("keys.next_master_key_files", file)?);
        }
        Ok(Self(keys.into()))
    }

    /// Names of the keys whose work is to be done anew.
    pub fn previous_ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|key| key.is_previous).map(|key| &*key.id)
    }

    /// Names the key that seals: the same for the same key, and nothing that helps to find it.
    pub fn id(&self) -> &str {
        &self.0[0].id
    }

    /// Seals `secret`, bound to `purpose`.
    pub fn seal(&self, purpose: &str, secret: &[u8]) -> Vec<u8> {
        aead::seal(&self.0[0].key, purpose.as_bytes(), &[VERSION], secret)
    }

    /// Keys of their own for `purpose`, the same on every replica: to authenticate what clients carry about. The first signs, all of
    /// them know what was signed. One step of HKDF's expansion (RFC 5869, section 2.3), which a key of full entropy needs no
    /// more of.
    pub fn derive(&self, purpose: &str) -> Vec<hmac::Key> {
        let named = [b"derive:", purpose.as_bytes(), &[1]].concat();
        let derived = self.0.iter().map(|key| hmac::sign(&key.derives, &named));
        derived.map(|secret| hmac::Key::new(HMAC_SHA256, secret.as_ref())).collect()
    }

    /// Seals with the key of this name, where it is one of these: what says that a key sealed it was sealed by that key, whichever
    /// is the present one of the replica that did.
    pub(super) fn seal_by(&self, id: &str, purpose: &str, secret: &[u8]) -> Option<Vec<u8>> {
        let key = self.0.iter().find(|key| key.id == id)?;
        Some(aead::seal(&key.key, purpose.as_bytes(), &[VERSION], secret))
    }

    /// Opens what was sealed for `purpose`.
    pub fn unseal(&self, purpose: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let opened = sealed
            .split_first()
            .filter(|(version, _)| **version == VERSION)
            .and_then(|(_, rest)| self.0.iter().find_map(|key| aead::open(&key.key, purpose.as_bytes(), rest)));
        opened.ok_or_else(|| Error::internal("a sealed secret does not open: is this the master key that sealed it?"))
    }
}

fn make(file: &Path) -> Result<()> {
    let name = file.display();
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).context("make the folder of the master key")?;
    }
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Ok(mut made) => {
            let text = Zeroizing::new(STANDARD.encode(Zeroizing::new(random::bytes::<KEY_LEN>()).as_slice()));
            made.write_all(text.as_bytes()).and_then(|()| made.sync_all()).context("write the master key")
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => {
            Err(Error::invalid("keys.master_key_file", format!("{name} can neither be read nor made")).because(error))
        }
    }
}

fn read(setting: &'static str, file: &Path) -> Result<Key> {
    let name = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Error::invalid(setting, format!("{name} cannot be read")).because(error))?;
    let text = Zeroizing::new(text);
    let bytes = Zeroizing::new(STANDARD.decode(text.trim()).unwrap_or_default());
    let key =
        aead::key(&bytes).ok_or_else(|| Error::invalid(setting, format!("{name} must hold 32 bytes in base64")))?;
    let derives = hmac::Key::new(HMAC_SHA256, &bytes);
    let tag = hmac::sign(&derives, b"tenantry master key id");
    let id = tag.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Key { id, key, derives, is_previous: false })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::keys) fn key() -> MasterKey {
        let file = file();
        let key = MasterKey::open(&file).unwrap();
        std::fs::remove_file(file).unwrap();
        key
    }

    fn file() -> PathBuf {
        std::env::temp_dir().join(format!("tenantry-key-{}", random::token()))
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
            assert!(key.unseal("signing-key:a", &sealed[..index]).is_err(), "{index} bytes");
        }
    }

    #[test]
    fn a_key_of_before_opens_what_it_sealed_and_seals_nothing() {
        let (old, new) = (file(), file());
        let before = MasterKey::open(&old).unwrap();
        let sealed = before.seal("a", b"secret");
        let previous = std::slice::from_ref(&old);
        let now = MasterKey::with_others(&new, OtherMasterKeys { previous, next: &[] }).unwrap();
        let early = MasterKey::with_others(&old, OtherMasterKeys { previous: &[], next: std::slice::from_ref(&new) });
        let early = early.unwrap();
        let alone = MasterKey::open(&new).unwrap();
        assert_eq!(now.unseal("a", &sealed).unwrap().as_slice(), b"secret");
        assert!(alone.unseal("a", &sealed).is_err());
        assert!(alone.unseal("a", &now.seal("a", b"secret")).is_ok());
        assert_eq!(early.unseal("a", &now.seal("a", b"secret")).unwrap().as_slice(), b"secret");
        assert!(before.unseal("a", &early.seal("a", b"secret")).is_ok(), "what is to come seals nothing");
        assert!(before.id() != now.id() && now.id() == alone.id());
        assert_eq!((now.previous_ids().collect::<Vec<_>>(), early.previous_ids().count()), (vec![before.id()], 0));
        std::fs::remove_file(old.clone()).unwrap();
        let others = OtherMasterKeys { previous: &[old], next: &[] };
        let missing = MasterKey::with_others(&new, others).unwrap_err();
        assert_eq!(missing.field(), Some("keys.previous_master_key_files"));
        std::fs::remove_file(new).unwrap();
    }
}
