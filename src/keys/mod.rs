//! Sealing of secrets: nothing secret reaches a table in the clear.
//!
//! *Owns*: the master key files; the ways to whoever wraps tenants' data keys (a key file, Vault or OpenBao, AWS KMS, an HSM).
//! *Rules*: AES-256-GCM with a random nonce; what a secret is for is bound to it as additional data, so that one row's secret
//! cannot be put into another. A provider's call has a deadline; its failure names the provider, and no secret.
//!
//! Which tenant has which keys is `tenant_keys`' business.

mod aead;
mod data_key;
mod master;
mod outage;
mod wrapper;

pub use self::{
    data_key::{DataKey, KeyVersion, version_of},
    master::{MasterKey, OtherMasterKeys},
    outage::{Outage, ProviderError},
    wrapper::{Wrapper, Wrappers, WrappingKey},
};
