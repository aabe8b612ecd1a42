//! Tenants' directories (LDAP, RFC 4511): people sign in with the password that they have there, and are members by what it says.
//!
//! *Owns*: `directories`, `directory_permits`, `directory_syncs`. *Rules*: nothing is said to a server in plain text, and no certificate
//! goes unverified, unless an operator permits it to the tenant; only configured servers are connected to, at addresses that are public
//! or that the operator's configuration allows, checked after the name was looked up; an empty password is refused before anything is
//! sent; what people type is one value of a filter; exactly one entry signs in; referrals are not followed; every wait ends; one tenant's
//! slow directory costs its own sign-ins alone; who signs in becomes the member that a synchronisation would make of it (`sync/single.rs`). The bind secret never leaves, and has to be sent again where servers change. A
//! synchronisation deactivates no more members than its cap unless it is forced.
//!
//! *Emits*: DirectoryConfigured, DirectoryRemoved, DirectoryPermitted; DirectorySyncStarted, DirectorySynced, DirectorySyncFailed.

mod configure;
mod gate;
pub mod graphql;
mod groups;
mod ldap;
mod permit;
mod person;
mod probe;
mod seal;
mod settings;
mod sign_in;
mod store;
pub mod sync;

use std::sync::Arc;

use futures::FutureExt as _;
use tokio::sync::Semaphore;

pub use self::{
    configure::{NewSecret, View},
    permit::{NewPermit, Permit},
    person::{Lacking, Person},
    probe::{ProbeReport, ProbeStep, StepKind},
    settings::{NewAttributes, NewMapping, NewSettings, Preset, Settings},
};
use self::{
    gate::{Gate, Gates},
    ldap::{Trust, Way},
    store::Configured,
};
use crate::{
    config,
    error::Result,
    isolation::{Isolation, TenantScope},
    members::Members,
    platform::{reach::Reach, secret::Secret},
    tenancy::Tenancy,
    tenant_keys::TenantKeys,
};

/// The handle of this capability. Clones share it.
#[derive(Clone, Debug)]
pub struct Directory {
    isolation: Isolation,
    tenancy: Tenancy,
    keys: TenantKeys,
    members: Members,
    gates: Gates,
    /// Synchronisations that this server works on at once.
    syncs: Arc<Semaphore>,
    reach: Arc<Reach>,
    limits: Arc<config::Directory>,
}

/// A directory with all that it takes to ask it.
#[derive(Debug)]
struct Live {
    settings: Settings,
    secret: Secret,
    gate: Arc<Gate>,
}

impl Directory {
    pub fn new(
        isolation: Isolation,
        tenancy: Tenancy,
        keys: TenantKeys,
        members: Members,
        limits: config::Directory,
    ) -> Self {
        keys.reseal_with(Arc::new({
            let isolation = isolation.clone();
            move |keys, scope, version| seal::reseal(isolation.clone(), keys, scope, version).boxed()
        }));
        let reach = Arc::new(Reach::new(&limits.allowed_networks));
        let (gates, syncs) = (Gates::new(), Arc::new(Semaphore::new(limits.syncs_at_once)));
        Self { isolation, tenancy, keys, members, gates, syncs, reach, limits: Arc::new(limits) }
    }

    /// The tenant's directory, its secret opened; none where none is configured.
    async fn live(&self, scope: &TenantScope) -> Result<Option<Live>> {
        let tx = self.isolation.begin(scope).await?;
        let configured = store::find(&tx).await?;
        let permit = store::find_permit(&tx, tx.tenant()).await?;
        tx.commit_unrecorded("a read").await?;
        let Some(Configured { view, sealed }) = configured else { return Ok(None) };
        let secret = seal::open(&self.keys, scope, &sealed).await?;
        let (settings, permit) = (view.settings, permit.unwrap_or_default());
        let trust = if permit.unverified {
            Trust::unverified()
        } else {
            Trust::in_authorities(settings.certificate_authorities.as_deref())?
        };
        let key = (scope.tenant(), view.version, permit.version);
        let gate = self.gates.of(key, || Gate::new(settings.servers.len(), trust, permit.plain_text, &self.limits));
        Ok(Some(Live { settings, secret, gate }))
    }

    /// The way to one of its servers.
    fn way<'a>(&'a self, live: &'a Live, server: usize, most: usize) -> Way<'a> {
        Way {
            server: &live.settings.servers[server],
            trust: &live.gate.trust,
            plain_text: live.gate.plain_text,
            reach: &self.reach,
            limits: &self.limits,
            most,
        }
    }
}
