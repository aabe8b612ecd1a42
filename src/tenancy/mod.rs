//! Tenants: what they are and what state they are in.
//!
//! *Owns*: `tenants`, `tenant_parents`, `partner_access`, `plans`, `setting_schemas`. *Rules*: transitions stand in
//! `lifecycle.rs` and nowhere else; a change is read, decided on plain values, written and journaled in one transaction under
//! the tenant's row lock; what services ask of a tenant is answered from `snapshot.rs`.
//!
//! *Emits*: TenantCreated, TenantUpdated, TenantPlanChanged, TenantActivated, TenantSuspended, TenantSuspensionPlanned,
//! TenantResumed, TenantArchived, TenantUnarchived, TenantDeleted, TenantDeletionCancelled, TenantParentSet,
//! PartnerAccessGranted, PartnerAccessRevoked, TenantNetworkRulesSet; PlanCreated, PlanUpdated,
//! SettingsSchemaRegistered; `tenantry_network_refusals_total` (`isolation/network.rs`).

mod catalogue;
mod change;
mod create;
pub mod declaration;
mod delegation;
pub mod graphql;
mod hierarchy;
mod jobs;
pub mod lifecycle;
mod list;
mod network;
mod partner;
mod plan;
mod profile;
mod settings;
mod sla;
mod slug;
mod snapshot;
mod store;
mod tenant;
mod view;

use std::sync::{Arc, PoisonError, RwLock};

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;

pub use self::{
    change::{Deletion, SuspensionOrder, Update, check_region},
    create::NewTenant,
    hierarchy::{NewParent, Parent, ParentLink},
    list::{Summary, TenantFilter, TenantOrder, cursor},
    network::NetworkOrder,
    partner::{Ended, NewPartnerAccess, PartnerAccess},
    plan::{Plan, QuotaDefaults},
    profile::Profile,
    sla::{Sla, SlaOverrides},
    snapshot::{Catalogue, Part, Snapshot, Snapshots, TenantPart, Wanted},
    tenant::{
        IsolationTier, Labels, PlannedSuspension, Sections, Status, Suspension, SuspensionMode, SuspensionReason,
        Tenant,
    },
    view::{KnownTenants, TenantPage, TenantView},
};
use crate::{
    access::{Caller, Effect, Permission},
    config,
    error::{Error, Kind, Result},
    isolation::{Isolation, OperatorScope, TenantScope, TenantTx, may_act},
    journal::{Entry, Signals},
    platform::{
        db::Tx,
        ids::TenantId,
        page::{Page, PageRequest},
    },
};

/// The handle of this capability. Clones share it.
#[derive(Clone)]
pub struct Tenancy {
    isolation: Isolation,
    snapshots: Arc<Snapshots>,
    fits: Arc<RwLock<Vec<FitCheck>>>,
    enlist: Arc<RwLock<Option<Enlist>>>,
    requirements: Arc<RwLock<Option<RequirementCheck>>>,
    tier_guard: Arc<RwLock<Option<TierGuard>>>,
    rules: Arc<config::Tenancy>,
    /// The region that this server works for, if it is for one.
    region: Option<Arc<str>>,
}

/// Notes that a tenant's environment is to be made or changed. It runs in the transaction of the change; what it notes is done later.
pub type Enlist = Arc<dyn for<'a> Fn(&'a Tx, TenantId, DateTime<Utc>) -> BoxFuture<'a, Result<()>> + Send + Sync>;

/// Refuses what cannot be had: layers that a plan requires and nobody makes, or, of a tenant, that no cell has on which it is or
/// may be placed. It runs in the transaction of the change.
pub type RequirementCheck =
    Arc<dyn for<'a> Fn(&'a Tx, &'a Plan, Option<&'a Tenant>) -> BoxFuture<'a, Result<()>> + Send + Sync>;
/// Refuses another tier for a tenant that has something on a cell. It runs in the transaction of the change.
pub type TierGuard = for<'a> fn(&'a Tx, TenantId) -> BoxFuture<'a, Result<()>>;

impl std::fmt::Debug for Tenancy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tenancy").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// Finds out what of a tenant does not fit a plan: one object for each thing that is in the way. Other capabilities have one;
/// it runs in the transaction of the change.
pub type FitCheck = for<'a> fn(&'a TenantTx, &'a Tenant, &'a Plan) -> BoxFuture<'a, Result<Vec<serde_json::Value>>>;

/// Whether a change of plan needs what the tenant has to fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    Needed,
    Whatever,
}

impl Tenancy {
    /// `region` is the one that this server works for; empty: all.
    pub fn new(isolation: Isolation, signals: Signals, rules: config::Tenancy, region: &str) -> Self {
        let snapshots = Arc::new(Snapshots::new(isolation.clone(), signals, rules.snapshot_bytes));
        snapshots.keep_of_tenants::<Parent>();
        let region = Some(region).filter(|region| !region.is_empty()).map(Arc::from);
        Self {
            isolation,
            snapshots,
            fits: Arc::default(),
            enlist: Arc::default(),
            requirements: Arc::default(),
            tier_guard: Arc::default(),
            rules: Arc::new(rules),
            region,
        }
    }

    /// From now on whoever is made, or needs another environment, is enlisted by `enlist`. For the house's construction.
    pub fn enlist_with(&self, enlist: Enlist) {
        *self.enlist.write().unwrap_or_else(PoisonError::into_inner) = Some(enlist);
    }

    /// From now on `check` is asked for what plans require. For the house's construction.
    pub fn check_requirements_with(&self, check: RequirementCheck) {
        *self.requirements.write().unwrap_or_else(PoisonError::into_inner) = Some(check);
    }

    async fn check_requirements(&self, tx: &Tx, plan: &Plan, tenant: Option<&Tenant>) -> Result<()> {
        if plan.required_layers.0.is_empty() {
            return Ok(());
        }
        let check = self.requirements.read().unwrap_or_else(PoisonError::into_inner).clone();
        match check {
            Some(check) => check(tx, plan, tenant).await,
            None => Err(Error::internal("nobody knows what plans may require")),
        }
    }

    /// From now on another tier is only set where `guard` lets it be. For the house's construction.
    pub fn guard_tiers_with(&self, guard: TierGuard) {
        *self.tier_guard.write().unwrap_or_else(PoisonError::into_inner) = Some(guard);
    }

    /// What a tenant has on a cell was made for its tier, and another tier would make an empty environment beside it.
    async fn check_tier(&self, tx: &Tx, before: &Tenant, after: &Tenant) -> Result<()> {
        let guard = *self.tier_guard.read().unwrap_or_else(PoisonError::into_inner);
        match guard {
            Some(guard) if before.isolation_tier != after.isolation_tier => guard(tx, after.id).await,
            _ => Ok(()),
        }
    }

    /// Sets the tier of a tenant that has been moved, in the transaction that changes its place; the entry for its journal.
    ///
    /// Whoever calls this renews the tenant's snapshot after its commit.
    pub async fn set_tier_of_moved(
        &self,
        tx: &Tx,
        tenant: TenantId,
        tier: IsolationTier,
        now: DateTime<Utc>,
    ) -> Result<Option<Entry>> {
        let before = store::lock(tx, tenant).await?;
        if before.isolation_tier == tier {
            return Ok(None);
        }
        let after = Tenant { isolation_tier: tier, version: before.version + 1, updated_at: now, ..before.clone() };
        store::set_tier(tx, &after).await?;
        let (was, is) = change::differences(&before, &after)?;
        Ok(Some(Entry { before: Some(was), after: Some(is), ..Entry::new("TenantUpdated", "tenant", tenant) }))
    }

    /// Whether there is anybody who makes environments.
    async fn enlist(&self, tx: &Tx, tenant: TenantId, now: DateTime<Utc>) -> Result<bool> {
        let enlist = self.enlist.read().unwrap_or_else(PoisonError::into_inner).clone();
        match enlist {
            Some(enlist) => enlist(tx, tenant, now).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Refuses a tenant whose home is another region than this server's.
    fn check_home(&self, region: &str) -> Result<()> {
        match &self.region {
            Some(own) if **own != *region => Err(Error::new(
                Kind::ResidencyViolation,
                "this server does not work for the tenant's region; ask one that does",
            )),
            _ => Ok(()),
        }
    }

    /// From now on a change of plan asks `check`, too. For the house's construction.
    pub fn check_plans_with(&self, check: FitCheck) {
        self.fits.write().unwrap_or_else(PoisonError::into_inner).push(check);
    }

    pub fn snapshots(&self) -> &Arc<Snapshots> {
        &self.snapshots
    }

    /// The one way to a tenant: checks binding, permission, epoch and state of the tenant.
    pub async fn enter(&self, caller: &Arc<Caller>, tenant: TenantId, permission: &Permission) -> Result<TenantScope> {
        let known = match caller.tenant() {
            // Operators are not held back by a tenant's state; whether there is such a tenant, its row will tell.
            None => {
                let scope = TenantScope::enter_as_operator(caller, tenant, permission)?;
                self.check_region_of(tenant).await?;
                return Ok(scope);
            }
            Some(bound) if bound != tenant => {
                let scope = self.enter_other(caller, bound, tenant, permission).await?;
                self.check_region_of(tenant).await?;
                return Ok(scope);
            }
            Some(_) => self.snapshots.get(tenant).await?.ok_or_else(Error::unauthenticated)?,
        };
        let scope = TenantScope::enter(caller, tenant, &known.tenant.standing(), permission)?;
        self.check_home(&known.tenant.region)?;
        Ok(scope)
    }

    /// Asked only of who may see the tenant. One that there is not is in no region.
    async fn check_region_of(&self, tenant: TenantId) -> Result<()> {
        if self.region.is_none() {
            return Ok(());
        }
        self.snapshots.get(tenant).await?.map_or(Ok(()), |known| self.check_home(&known.tenant.region))
    }

    /// Whether the state of the caller's tenant lets it do anything of this effect: asked for each request, before its fields.
    pub async fn admit(&self, caller: &Caller, effect: Effect) -> Result<()> {
        let Some(tenant) = caller.tenant() else { return Ok(()) };
        let known = self.snapshots.get(tenant).await?.ok_or_else(Error::unauthenticated)?;
        may_act(caller, &known.tenant.standing(), effect)?;
        self.check_home(&known.tenant.region)
    }

    /// The same from memory alone: `None` where the tenant is not there and must be asked for.
    pub fn admit_from_memory(&self, caller: &Caller, effect: Effect) -> Option<Result<()>> {
        let Some(tenant) = caller.tenant() else { return Some(Ok(())) };
        let known = self.snapshots.cached(tenant)?;
        Some(may_act(caller, &known.tenant.standing(), effect).and_then(|()| self.check_home(&known.tenant.region)))
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.isolation.clock().now()
    }

    /// The tenant, from memory for its own services, from its row for operators.
    pub async fn get(&self, scope: &TenantScope) -> Result<Arc<Tenant>> {
        if !scope.caller().is_platform() {
            return Ok(self.snapshots.get(scope.tenant()).await?.ok_or_else(Error::not_found)?.tenant.clone());
        }
        let tx = self.isolation.begin(scope).await?;
        let tenant = store::find(&tx, scope.tenant()).await?.ok_or_else(Error::not_found)?;
        tx.commit_unrecorded("a read").await?;
        Ok(Arc::new(tenant))
    }

    /// The rows of several tenants, for operators.
    pub async fn get_several(&self, scope: &OperatorScope, tenants: &[TenantId]) -> Result<Vec<Tenant>> {
        let tx = self.isolation.begin_operator(scope).await?;
        let found = store::find_several(&tx, tenants).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(found)
    }

    /// The id behind a slug, for operators.
    pub async fn find_by_slug(&self, scope: &OperatorScope, slug: &str) -> Result<Option<TenantId>> {
        if slug.contains('\0') {
            return Ok(None); // which PostgreSQL would refuse as no text
        }
        let tx = self.isolation.begin_operator(scope).await?;
        let row = tx.row("select tenant_id from tenantry.tenants where slug = $1", [slug.into()]).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(row.map(|row| row.try_get("", "tenant_id")).transpose()?)
    }

    /// A page of what lists show; [`TenantView::of_page`] reads the rest when it is wanted.
    pub async fn list(
        &self,
        scope: &OperatorScope,
        filter: &TenantFilter,
        order: TenantOrder,
        page: &PageRequest,
    ) -> Result<Page<Summary>> {
        let tx = self.isolation.begin_operator(scope).await?;
        let page = list::list(&tx, filter, order, page).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(page)
    }
}
