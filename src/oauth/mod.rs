//! OAuth 2.0 for services (RFC 6749, section 4.4): clients, the token endpoint, revocation, and the keys that sign.
//!
//! *Owns*: `oauth_clients`, `revoked_tokens`, `used_assertions`, `signing_keys`. *Rules*: a client has no more scopes than
//! who made it; secrets are kept as hashes, private keys sealed; one key signs at a time; what was revoked is answered from
//! memory while this replica hears of every change, and from the database while it does not.
//!
//! *Emits*: OAuthClientCreated, OAuthClientDisabled, TokenIssued (command line only), TokenRevoked, SigningKeyCreated,
//! SigningKeyRotated.

mod authenticate;
mod client;
mod client_secret;
mod credentials;
mod form;
pub mod graphql;
pub mod http;
mod introspection;
mod jobs;
mod metadata;
mod owner;
mod refusal;
mod register;
mod revocation;
mod revoke;
mod rotation;
mod settings;
mod signing_key;
mod store;
mod token;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use aws_lc_rs::digest::{SHA256, digest};
use futures::future::BoxFuture;

pub use self::{
    client::{Client, NewClient, NewSecret},
    jobs::Purged,
    owner::Owner,
    register::CreatedClient,
    token::{ImpersonatorGrant, MemberGrant},
};
use self::{revocation::Revocations, rotation::Loaded, settings::Settings};
use crate::{
    access::{Claims, Kept, KeyRing, ScopeSet, TokenVerifier},
    config::Config,
    error::Result,
    isolation::Isolation,
    keys::MasterKey,
    platform::{db::Heard, ids::TenantId},
    tenancy::Tenancy,
};

/// The handle of this capability. Clones share it.
#[derive(Clone)]
pub struct OAuth(Arc<Parts>);

struct Parts {
    isolation: Isolation,
    tenancy: Tenancy,
    keyring: Arc<KeyRing>,
    master: MasterKey,
    /// Of own tokens alone: what introspection and revocation are about.
    verifier: TokenVerifier,
    revocations: Revocations,
    /// What the ring was last filled with; held while it is filled, so that an older read never overwrites a newer one.
    loaded: tokio::sync::Mutex<Loaded>,
    settings: Settings,
    keepers: RwLock<HashMap<Kept, KeeperCheck>>,
}

/// What a token that hangs on a session or an impersonation is good for now; `unauthenticated` where that is over. Introspection asks it.
pub type KeeperCheck = Arc<dyn for<'a> Fn(&'a Claims) -> BoxFuture<'a, Result<ScopeSet>> + Send + Sync>;

impl OAuth {
    /// Nothing is read here: `ensure_keys` does that at start, `hear` from then on.
    pub fn new(
        isolation: Isolation,
        tenancy: Tenancy,
        keyring: Arc<KeyRing>,
        master: MasterKey,
        config: &Config,
    ) -> Self {
        let settings = Settings::from_config(config);
        let verifier = settings.own_verifier(isolation.clock().clone(), keyring.clone());
        let revocations = Revocations::default();
        let (loaded, keepers) = (tokio::sync::Mutex::default(), RwLock::default());
        Self(Arc::new(Parts { isolation, tenancy, keyring, master, verifier, revocations, loaded, settings, keepers }))
    }

    /// From now on `check` is asked for tokens that hang on this. For the house's construction.
    pub fn ask_with(&self, kept: Kept, check: KeeperCheck) {
        self.0.keepers.write().unwrap_or_else(PoisonError::into_inner).insert(kept, check);
    }

    /// Follows the listener: keys and revocations of other replicas are in force here as soon as this returns.
    pub async fn hear(&self, heard: &Heard) {
        match heard {
            Heard::Connected => {
                self.0.revocations.connect();
                self.reload_keys_or_warn().await;
                self.reload_revocations_or_warn().await;
            }
            Heard::Lost => self.0.revocations.disconnect(),
            // A rotation stands in the platform's journal.
            Heard::Notified(payload) if payload.parse() == Ok(TenantId::PLATFORM) => self.reload_keys_or_warn().await,
            Heard::Notified(payload) => self.take_over(payload).await,
        }
    }
}

impl std::fmt::Debug for OAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OAuth")
            .field("keyring", &self.0.keyring)
            .field("settings", &self.0.settings)
            .finish_non_exhaustive()
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}
