//! Who wraps data keys: four providers behind one shape.

mod http;
#[cfg(feature = "kms")]
mod kms;
mod local;
#[cfg(feature = "pkcs11")]
mod pkcs11;
mod transit;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{DataKey, KeyVersion, MasterKey, Outage, ProviderError, outage::Standing};
use crate::{
    config::{self, KeyProvider},
    error::{Error, Kind, Result},
    platform::{clock::Clock, ids::TenantId},
};

/// A wrapping key: of which tenant, its how manieth, and what the provider calls it. The platform's own key file serves all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappingKey {
    pub tenant: TenantId,
    pub generation: i64,
    pub reference: String,
}

/// One provider.
#[derive(Debug)]
pub enum Wrapper {
    /// The platform's master key.
    Local(local::Local),
    /// The transit secrets engine of HashiCorp Vault or OpenBao: one key for each tenant and generation.
    Transit(transit::Transit),
    /// AWS KMS: one key for each tenant and generation.
    #[cfg(feature = "kms")]
    Kms(kms::Kms),
    /// An HSM: one key object for each tenant and generation, which never leaves it.
    #[cfg(feature = "pkcs11")]
    Pkcs11(pkcs11::Hsm),
}

impl Wrapper {
    /// Makes the tenant's wrapping key of this generation where it is not there, and answers what the provider calls it. Safe to
    /// repeat, and to run on several replicas at once.
    async fn ensure(&self, tenant: TenantId, generation: i64) -> Result<String, ProviderError> {
        match self {
            Self::Local(local) => Ok(local.reference()),
            Self::Transit(transit) => transit.ensure(tenant, generation).await,
            #[cfg(feature = "kms")]
            Self::Kms(kms) => kms.ensure(tenant, generation).await,
            #[cfg(feature = "pkcs11")]
            Self::Pkcs11(hsm) => hsm.ensure(tenant, generation).await,
        }
    }

    async fn wrap(&self, by: &WrappingKey, version: KeyVersion, key: &DataKey) -> Result<Vec<u8>, ProviderError> {
        match self {
            Self::Local(local) => local.wrap(by, version, key),
            Self::Transit(transit) => transit.wrap(by, version, key).await,
            #[cfg(feature = "kms")]
            Self::Kms(kms) => kms.wrap(by, version, key).await,
            #[cfg(feature = "pkcs11")]
            Self::Pkcs11(hsm) => hsm.wrap(by, version, key).await,
        }
    }

    async fn unwrap(&self, by: &WrappingKey, version: KeyVersion, wrapped: &[u8]) -> Result<DataKey, ProviderError> {
        match self {
            Self::Local(local) => local.unwrap(by, version, wrapped),
            Self::Transit(transit) => transit.unwrap(by, version, wrapped).await,
            #[cfg(feature = "kms")]
            Self::Kms(kms) => kms.unwrap(by, version, wrapped).await,
            #[cfg(feature = "pkcs11")]
            Self::Pkcs11(hsm) => hsm.unwrap(by, version, wrapped).await,
        }
    }

    async fn destroy(&self, key: &WrappingKey) -> Result<(), ProviderError> {
        match self {
            Self::Local(_) => Ok(()), // serves every tenant
            Self::Transit(transit) => transit.destroy(key).await,
            #[cfg(feature = "kms")]
            Self::Kms(kms) => kms.destroy(key).await,
            #[cfg(feature = "pkcs11")]
            Self::Pkcs11(hsm) => hsm.destroy(key).await,
        }
    }
}

/// The providers that are set up. Every call has a deadline, is measured, and is remembered where it fails.
#[derive(Clone, Debug)]
pub struct Wrappers(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    providers: Vec<(KeyProvider, Wrapper, Standing)>,
    deadline: Duration,
    previous_master_keys: Vec<String>,
}

impl Wrappers {
    /// Sets up what the configuration names; nothing is asked of a provider yet.
    pub fn new(settings: &config::Keys, master: MasterKey, clock: &Clock) -> Result<Self> {
        let previous_master_keys = master.previous_ids().map(str::to_owned).collect();
        let mut set_up = vec![(KeyProvider::Local, Wrapper::Local(local::Local::new(master)))];
        if !settings.transit.address.is_empty() {
            set_up.push((KeyProvider::Transit, Wrapper::Transit(transit::Transit::new(&settings.transit)?)));
        }
        if !settings.kms.region.is_empty() {
            #[cfg(feature = "kms")]
            set_up.push((KeyProvider::Kms, Wrapper::Kms(kms::Kms::new(&settings.kms, clock)?)));
            #[cfg(not(feature = "kms"))]
            return Err(left_out("keys.kms.region", "kms"));
        }
        if !settings.pkcs11.module.as_os_str().is_empty() {
            #[cfg(feature = "pkcs11")]
            set_up.push((KeyProvider::Pkcs11, Wrapper::Pkcs11(pkcs11::Hsm::new(&settings.pkcs11))));
            #[cfg(not(feature = "pkcs11"))]
            return Err(left_out("keys.pkcs11.module", "pkcs11"));
        }
        let providers = set_up
            .into_iter()
            .map(|(provider, wrapper)| (provider, wrapper, Standing::new(provider, clock.clone())))
            .collect();
        Ok(Self(Arc::new(Parts { providers, deadline: settings.timeout, previous_master_keys })))
    }

    /// Names of the master keys that are to wrap nothing any more.
    pub fn previous_master_keys(&self) -> &[String] {
        &self.0.previous_master_keys
    }

    /// Each provider that is set up, and its outage where it fails.
    pub fn standing(&self) -> impl Iterator<Item = (KeyProvider, Option<Outage>)> {
        self.0.providers.iter().map(|(provider, _, standing)| (*provider, standing.outage()))
    }

    /// Makes the tenant's wrapping key of this generation where it is not there. `unavailable` names the provider that fails.
    pub async fn ensure(&self, provider: KeyProvider, tenant: TenantId, generation: i64) -> Result<WrappingKey> {
        let (wrapper, standing) = self.find(provider)?;
        let reference = self.call(provider, standing, "ensure", wrapper.ensure(tenant, generation)).await?;
        Ok(WrappingKey { tenant, generation, reference })
    }

    /// The data key as it may be stored: bound to tenant and version. `unavailable` names the provider that fails.
    pub async fn wrap(
        &self,
        provider: KeyProvider,
        by: &WrappingKey,
        version: KeyVersion,
        key: &DataKey,
    ) -> Result<Vec<u8>> {
        let (wrapper, standing) = self.find(provider)?;
        self.call(provider, standing, "wrap", wrapper.wrap(by, version, key)).await
    }

    /// The data key again. `unavailable` names the provider that fails.
    pub async fn unwrap(
        &self,
        provider: KeyProvider,
        by: &WrappingKey,
        version: KeyVersion,
        wrapped: &[u8],
    ) -> Result<DataKey> {
        let (wrapper, standing) = self.find(provider)?;
        self.call(provider, standing, "unwrap", wrapper.unwrap(by, version, wrapped)).await
    }

    /// The same where it may well not open, which is no error: nothing then.
    pub async fn try_unwrap(
        &self,
        provider: KeyProvider,
        by: &WrappingKey,
        version: KeyVersion,
        wrapped: &[u8],
    ) -> Result<Option<DataKey>> {
        let (wrapper, standing) = self.find(provider)?;
        let opened = async {
            match wrapper.unwrap(by, version, wrapped).await {
                Err(ProviderError::NotOpened(_)) => Ok(None),
                opened => opened.map(Some),
            }
        };
        self.call(provider, standing, "unwrap", opened).await
    }

    /// Destroys a tenant's wrapping key, for ever; one that is gone stays gone. `unavailable` names the provider that fails.
    pub async fn destroy(&self, provider: KeyProvider, key: &WrappingKey) -> Result<()> {
        let (wrapper, standing) = self.find(provider)?;
        self.call(provider, standing, "destroy", wrapper.destroy(key)).await
    }

    fn find(&self, provider: KeyProvider) -> Result<(&Wrapper, &Standing)> {
        let found = self.0.providers.iter().find(|(known, ..)| *known == provider);
        found.map(|(_, wrapper, standing)| (wrapper, standing)).ok_or_else(|| {
            let name = provider.name();
            Error::new(Kind::Unavailable, format!("the key provider `{name}` is not set up on this server"))
        })
    }

    async fn call<T>(
        &self,
        provider: KeyProvider,
        standing: &Standing,
        operation: &'static str,
        call: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T> {
        standing.check().map_err(|error| error.of(provider))?;
        let began = Instant::now();
        let done = match tokio::time::timeout(self.0.deadline, call).await {
            Ok(done) => done,
            Err(_late) => Err(ProviderError::Unreachable(format!("no answer within {:?}", self.0.deadline))),
        };
        standing.note(&done);
        let outcome = if done.is_ok() { "ok" } else { "error" };
        let (name, took) = (provider.name(), began.elapsed());
        metrics::histogram!("tenantry_key_provider_seconds", "provider" => name, "operation" => operation, "outcome" => outcome)
            .record(took);
        done.map_err(|error| error.of(provider))
    }
}

#[cfg(not(all(feature = "kms", feature = "pkcs11")))]
fn left_out(setting: &'static str, feature: &str) -> Error {
    Error::invalid(setting, format!("this build has no such provider: build it with the Cargo feature `{feature}`"))
}

/// What a wrapped data key is bound to.
fn purpose(tenant: TenantId, version: KeyVersion) -> String {
    format!("tenant-key:{tenant}:{version}")
}

/// What a provider calls a tenant's key.
fn name(prefix: &str, tenant: TenantId, generation: i64) -> String {
    format!("{prefix}{tenant}-{generation}")
}
