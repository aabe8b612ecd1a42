//! Provisioning: a tenant's environment, made, kept and taken away.
//!
//! *Owns*: `provisioning`, `provisioning_layers`, `dataplane_credentials`, `layer_health`; what `planes` says. *Rules*: what is wanted and what was seen are kept
//! apart, and the reconciler closes the gap; a tenant is worked on by one replica at a time, under a lease, and a result is
//! written only while the lease stands; no transaction is open while another server works; layers are made in the order of
//! the configuration and taken away in reverse; a layer's error is shown, a secret never is.
//!
//! *Emits*: ProvisioningRequested, LayerStarted, LayerReady, LayerUnavailable, LayerFailed, LayerDrifted, LayerRemoved,
//! LayerRemovalUnconfirmed; ProvisioningSucceeded, ProvisioningFailed, DeprovisioningRequested, DeprovisioningSucceeded, DeprovisioningFailed;
//! DataplaneCredentialIssued, DataplaneCredentialRotated, DataplaneCredentialRetired; DataplaneAccessDenied; LayerHealthChanged.

mod credentials;
mod denials;
mod elsewhere;
pub mod graphql;
mod health;
mod journal;
mod layer;
pub mod layers;
mod names;
mod plan;
mod planes;
mod probing;
mod reconcile;
mod removal;
mod requirements;
mod secrets;
mod state;
mod step;
mod store;
mod work;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use futures::FutureExt as _;
use tokio::sync::{Notify, Semaphore};

pub use self::{
    credentials::DataplaneCredential,
    health::LayerHealth,
    layer::{
        Availability, Credential, Denial, Denials, Ensured, IssueOrder, Layer, Probe, Removed, Site, Slot, Verdict,
    },
    layers::scram_verifier,
    names::{Names, literal, quoted},
    plan::PlannedLayer,
    planes::{
        ApplicationPlane, Change as PlaneChange, Interest as PlaneInterest, Job as PlaneJob, JobKind, JobState,
        NewPlane, Outcome as PlaneOutcome, Report as PlaneReport,
    },
    probing::{ProbeTenant, Probed},
    removal::Removal,
    state::{Observed, Record, Wanted, pause},
};
use crate::{
    cells::{CellNews, Cells},
    config::{self, Activation},
    error::{Error, Result},
    isolation::{Isolation, OperatorScope, TenantScope},
    journal::Signals,
    keys::MasterKey,
    platform::{db::Heard, ids::TenantId, random},
    tenancy::{Plan, Tenancy},
    tenant_keys::TenantKeys,
};

/// The handle of this capability. Clones share it.
#[derive(Clone, Debug)]
pub struct Provisioning(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    isolation: Isolation,
    tenancy: Tenancy,
    cells: Cells,
    keys: TenantKeys,
    /// Opens what was sealed before tenants' credentials were sealed with their own keys.
    master: MasterKey,
    rules: config::Provisioning,
    activation: Activation,
    region: Option<String>,
    /// In the order in which they are made.
    layers: Vec<Arc<dyn Layer>>,
    /// The layers' names: what tells that a tenant was looked at with others.
    signature: String,
    /// Who this replica is, in leases.
    holder: String,
    nudge: Notify,
    /// Tenants that this replica made or changed, and of whose commit it has not heard yet; the platform where a cell has room.
    expected: Mutex<HashSet<TenantId>>,
    places: Arc<Semaphore>,
    /// Wakes who follows what a plane is asked for.
    signals: Signals,
}

impl Inner {
    /// There is work once the commit is heard of.
    fn expect(&self, tenant: TenantId) {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant);
    }
}

/// What a server's provisioning is put together from.
#[derive(Debug)]
pub struct Parts {
    pub isolation: Isolation,
    pub tenancy: Tenancy,
    pub cells: Cells,
    pub keys: TenantKeys,
    pub master: MasterKey,
    pub signals: Signals,
    /// All layers that this binary has, in no order; the configuration says which are used, and in what order.
    pub known: Vec<Arc<dyn Layer>>,
}

impl Provisioning {
    /// Errors: `invalid_input` where the configuration names a layer that there is not.
    pub fn new(parts: Parts, config: &config::Config) -> Result<Self> {
        let rules = config.provisioning.clone();
        let layers = chosen(&parts.known, &rules.layers)?;
        let region = Some(config.server.region.clone()).filter(|region| !region.is_empty());
        let inner = Arc::new(Inner {
            signature: rules.layers.join(","),
            places: Arc::new(Semaphore::new(rules.workers)),
            holder: format!("{}-{}", std::process::id(), random::token().get(..8).unwrap_or_default()),
            activation: config.tenancy.activation,
            isolation: parts.isolation,
            tenancy: parts.tenancy,
            cells: parts.cells,
            keys: parts.keys,
            master: parts.master,
            signals: parts.signals,
            rules,
            region,
            layers,
            nudge: Notify::new(),
            expected: Mutex::default(),
        });
        let provisioning = Self(inner);
        provisioning.enlist_what_is_made();
        provisioning.follow_cells();
        provisioning.check_what_plans_require();
        provisioning.reseal_what_is_kept();
        Ok(provisioning)
    }

    /// Whether tenants get an environment.
    pub fn is_on(&self) -> bool {
        !self.0.layers.is_empty()
    }

    pub fn cells(&self) -> &Cells {
        &self.0.cells
    }

    /// The layers, in the order in which they are made.
    pub fn layers(&self) -> &[Arc<dyn Layer>] {
        &self.0.layers
    }

    /// Whether a tenant of this plan is held back without this layer.
    fn is_essential(&self, layer: &dyn Layer, plan: &Plan) -> bool {
        let named_in = |names: &[String]| names.iter().any(|name| name == layer.name());
        match layer.extension() {
            Some(_) => named_in(&plan.required_layers.0),
            None => !named_in(&self.0.rules.best_effort),
        }
    }

    /// From now on a tenant that is made or changed is looked at, whatever happens to this replica after its commit.
    fn enlist_what_is_made(&self) {
        if !self.is_on() {
            return;
        }
        let inner = Arc::downgrade(&self.0);
        self.0.tenancy.enlist_with(Arc::new(move |tx, tenant, now| {
            let inner = inner.clone();
            async move {
                store::enlist(tx, tenant, now).await?;
                if let Some(inner) = inner.upgrade() {
                    inner.expect(tenant);
                }
                Ok(())
            }
            .boxed()
        }));
    }

    /// From now on what waits for a place goes on as soon as there is one, and credentials name the address that a cell has.
    fn follow_cells(&self) {
        if !self.is_on() {
            return;
        }
        let inner = Arc::downgrade(&self.0);
        self.0.cells.follow_with(Arc::new(move |tx, news, now| {
            let inner = inner.clone();
            async move {
                match news {
                    CellNews::Address(cell) => return store::readdress_on(tx, cell).await,
                    CellNews::Room if !store::look_again_for_places(tx, now).await? => return Ok(()),
                    CellNews::Room => {}
                }
                if let Some(inner) = inner.upgrade() {
                    inner.expect(TenantId::PLATFORM);
                }
                Ok(())
            }
            .boxed()
        }));
    }

    /// Follows the listener: what this replica has committed is worked on at once. What others have is theirs to do, and
    /// everybody's after a while.
    pub fn hear(&self, heard: &Heard) {
        let Heard::Notified(payload) = heard else { return };
        let Ok(tenant) = payload.parse::<TenantId>() else { return };
        if self.0.expected.lock().unwrap_or_else(PoisonError::into_inner).remove(&tenant) {
            self.0.nudge.notify_one();
        }
    }

    /// What is known of each of the tenant's layers, in order.
    pub async fn records(&self, scope: &TenantScope) -> Result<Vec<Record>> {
        let tx = self.0.isolation.begin(scope).await?;
        let records = store::records(&tx, scope.tenant()).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(records)
    }

    /// The same, with what each application plane was asked last.
    pub async fn records_and_jobs(&self, scope: &TenantScope) -> Result<(Vec<Record>, Vec<PlaneJob>)> {
        let tx = self.0.isolation.begin(scope).await?;
        let records = store::records(&tx, scope.tenant()).await?;
        let of_planes = records.iter().any(Record::is_of_plane);
        let jobs = if of_planes { planes::latest_jobs(&tx, scope.tenant()).await? } else { Vec::new() };
        tx.commit_unrecorded("a read").await?;
        Ok((records, jobs))
    }

    /// Asks for another look at the tenant, now.
    pub async fn look_again(&self, tenant: TenantId) -> Result<()> {
        let tx = self.0.isolation.begin_operator(&OperatorScope::system("provisioning")).await?;
        store::enlist(&tx, tenant, tx.stamp().at).await?;
        tx.commit_unrecorded("a nudge").await?;
        self.0.nudge.notify_one();
        Ok(())
    }
}

/// `names` of `known`, in the order of `names`.
fn chosen(known: &[Arc<dyn Layer>], names: &[String]) -> Result<Vec<Arc<dyn Layer>>> {
    let mut layers: Vec<Arc<dyn Layer>> = Vec::new();
    for name in names {
        let found = known.iter().find(|layer| layer.name() == name).ok_or_else(|| {
            let there: Vec<_> = known.iter().map(|layer| layer.name()).collect();
            let rule = format!("{name:?} is none of {}, which are set up", there.join(", "));
            Error::invalid("provisioning.layers", rule)
        })?;
        if layers.iter().any(|layer| layer.name() == name) {
            return Err(Error::invalid("provisioning.layers", format!("{name:?} stands there twice")));
        }
        layers.push(found.clone());
    }
    Ok(layers)
}
