//! An HSM by PKCS#11 (OASIS, version 2.40): AES keys that are made inside and never leave; AES-GCM there.
//!
//! A module belongs to the process: it is loaded and initialised once, whoever asks. Its calls block, so they run aside; a few at a
//! time, so that an HSM that hangs holds no more threads than that.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error as CkError, RvError},
    mechanism::{Mechanism, aead::GcmParams},
    object::{Attribute, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    slot::Slot,
    types::AuthPin,
};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::{WrappingKey, name, purpose};
use crate::{
    config,
    keys::{DataKey, KeyVersion, ProviderError},
    platform::{ids::TenantId, random},
};

const CALLS_AT_ONCE: usize = 8;
const NONCE_LEN: usize = 12;

#[derive(Clone, Debug)]
pub struct Hsm(Arc<Parts>);

struct Parts {
    settings: config::Pkcs11,
    gate: Arc<Semaphore>,
    /// Logged in, and not in use.
    sessions: Mutex<Vec<Session>>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hsm({})", self.settings.module.display())
    }
}

impl Hsm {
    pub(super) fn new(settings: &config::Pkcs11) -> Self {
        let gate = Arc::new(Semaphore::new(CALLS_AT_ONCE));
        Self(Arc::new(Parts { settings: settings.clone(), gate, sessions: Mutex::default() }))
    }

    pub(super) async fn ensure(&self, tenant: TenantId, generation: i64) -> Result<String, ProviderError> {
        let label = name(&self.0.settings.label_prefix, tenant, generation);
        self.run(move |session| {
            if find(session, &label)?.is_empty() {
                session.generate_key(&Mechanism::AesKeyGen, &template(&label))?;
            }
            Ok(label.clone())
        })
        .await
    }

    pub(super) async fn wrap(
        &self,
        by: &WrappingKey,
        version: KeyVersion,
        key: &DataKey,
    ) -> Result<Vec<u8>, ProviderError> {
        let (by, key) = (by.clone(), key.clone());
        let found = self.run(move |session| {
            let Some(object) = find(session, &by.reference)?.first().copied() else { return Ok(None) };
            let mut nonce = random::bytes::<NONCE_LEN>();
            let additional = purpose(by.tenant, version);
            // The module may put a nonce of its own into the parameters.
            let params = GcmParams::new(&mut nonce, additional.as_bytes(), 128_u64.into())?;
            let ciphertext = session.encrypt(&Mechanism::AesGcm(params), object, key.expose())?;
            Ok(Some([nonce.as_slice(), &ciphertext].concat()))
        });
        found.await?.ok_or_else(gone)
    }

    /// Replicas that made the key at the same moment made two of one name: one of them opens.
    pub(super) async fn unwrap(
        &self,
        by: &WrappingKey,
        version: KeyVersion,
        wrapped: &[u8],
    ) -> Result<DataKey, ProviderError> {
        let (by, wrapped) = (by.clone(), wrapped.to_vec());
        let opened = self.run(move |session| {
            let objects = find(session, &by.reference)?;
            if objects.is_empty() {
                return Ok(Err(gone()));
            }
            let Some((nonce, ciphertext)) = wrapped.split_first_chunk::<NONCE_LEN>() else {
                return Ok(Err(ProviderError::NotOpened("it is too short".to_owned())));
            };
            let additional = purpose(by.tenant, version);
            for object in objects {
                let mut nonce = *nonce;
                let params = GcmParams::new(&mut nonce, additional.as_bytes(), 128_u64.into())?;
                match session.decrypt(&Mechanism::AesGcm(params), object, ciphertext) {
                    Ok(bytes) => {
                        let key = DataKey::from_bytes(Zeroizing::new(bytes));
                        return Ok(key.ok_or_else(|| ProviderError::NotOpened("it is no key of 32 bytes".to_owned())));
                    }
                    Err(CkError::Pkcs11(
                        RvError::EncryptedDataInvalid | RvError::EncryptedDataLenRange | RvError::GeneralError,
                        _,
                    )) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(Err(ProviderError::NotOpened("no key of this name does".to_owned())))
        });
        opened.await?
    }

    pub(super) async fn destroy(&self, key: &WrappingKey) -> Result<(), ProviderError> {
        let label = key.reference.clone();
        self.run(move |session| {
            for object in find(session, &label)? {
                session.destroy_object(object)?;
            }
            Ok(())
        })
        .await
    }

    /// Runs `work` with a session. One from before may have died with the HSM's connection, so a failure is tried once more with a
    /// fresh one.
    async fn run<T: Send + 'static>(
        &self,
        work: impl Fn(&Session) -> Result<T, CkError> + Send + 'static,
    ) -> Result<T, ProviderError> {
        let permit = self.0.gate.clone().acquire_owned().await.map_err(|_| unreachable("closed"))?;
        let parts = self.0.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let known = parts.lock().pop(); // the lock is given back before the call
            if let Some(session) = known {
                match work(&session) {
                    Ok(done) => {
                        parts.lock().push(session);
                        return Ok(done);
                    }
                    Err(_) => parts.lock().clear(),
                }
            }
            let session = parts.open()?;
            let done = work(&session).map_err(failed)?;
            parts.lock().push(session);
            Ok(done)
        });
        done.await.map_err(|_| unreachable("the call was cut off"))?
    }
}

impl Parts {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session that may use private keys. Logging in is once for the whole process.
    fn open(&self) -> Result<Session, ProviderError> {
        let module = module(&self.settings.module)?;
        let slot = self.slot(&module)?;
        let session = module.open_rw_session(slot).map_err(failed)?;
        let pin = std::fs::read_to_string(&self.settings.pin_file)
            .map_err(|error| ProviderError::Refused(format!("keys.pkcs11.pin_file cannot be read: {error}")))?;
        let pin = AuthPin::new(Zeroizing::new(pin).trim().into());
        match session.login(UserType::User, Some(&pin)) {
            Ok(()) | Err(CkError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(error) => Err(failed(error)),
        }
    }

    fn slot(&self, module: &Pkcs11) -> Result<Slot, ProviderError> {
        let label = &self.settings.token_label;
        for slot in module.get_slots_with_token().map_err(failed)? {
            if module.get_token_info(slot).map_err(failed)?.label() == label {
                return Ok(slot);
            }
        }
        Err(unreachable(&format!("it has no token {label:?}")))
    }
}

/// The module, loaded and initialised once for the process (PKCS#11, C_Initialize).
fn module(path: &Path) -> Result<Pkcs11, ProviderError> {
    static MODULES: Mutex<BTreeMap<PathBuf, Pkcs11>> = Mutex::new(BTreeMap::new());
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = modules.get(path) {
        return Ok(module.clone());
    }
    let module = Pkcs11::new(path).map_err(failed)?;
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(CkError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => return Err(failed(error)),
    }
    modules.insert(path.to_owned(), module.clone());
    Ok(module)
}

fn find(session: &Session, label: &str) -> Result<Vec<ObjectHandle>, CkError> {
    session.find_objects(&[Attribute::Class(ObjectClass::SECRET_KEY), Attribute::Label(label.as_bytes().to_vec())])
}

fn template(label: &str) -> [Attribute; 8] {
    [
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::ValueLen(32_u64.into()),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
    ]
}

fn gone() -> ProviderError {
    ProviderError::NotOpened("the wrapping key is not in the HSM".to_owned())
}

fn unreachable(what: &str) -> ProviderError {
    ProviderError::Unreachable(what.to_owned())
}

/// The code alone.
fn failed(error: CkError) -> ProviderError {
    match error {
        CkError::Pkcs11(
            code @ (RvError::PinIncorrect
            | RvError::PinLocked
            | RvError::PinExpired
            | RvError::UserPinNotInitialized
            | RvError::MechanismInvalid
            | RvError::AttributeValueInvalid
            | RvError::TemplateInconsistent),
            _,
        ) => ProviderError::Refused(format!("{code:?}")),
        CkError::Pkcs11(code, _) => ProviderError::Unreachable(format!("{code:?}")),
        CkError::LibraryLoading(_) => unreachable("keys.pkcs11.module cannot be loaded"),
        _ => unreachable("the module misbehaves"),
    }
}
