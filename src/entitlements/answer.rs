//! May this tenant do that, and how much of it is left.

use std::{collections::BTreeSet, sync::Arc};

use async_graphql::Enum;
use chrono::{DateTime, Utc};

use super::{
    AllowLists, Basis, Decision, Entitlements, Resource, Resources, catalogue::split, granting::check_feature,
};
use crate::{
    error::{Context as _, Error, Kind as ErrorKind, Result},
    grants::{Grant, Held, Kind},
    isolation::{Access, TenantScope},
    platform::ids::TenantId,
    quotas::{Limit, QuotaKeys, Reckoned, Reckoning, Source as LimitSource},
    tenancy::{Catalogue, Plan, Snapshot},
};

/// What the answer follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "EntitlementSource")]
pub enum Source {
    /// The state of the tenant: nothing is to be had.
    Lifecycle,
    /// The catalogue's default: of the quota, of the kind of resources, or that the resource is retired.
    Catalogue,
    /// The tenant's plan.
    Plan,
    /// The override of a limit.
    Override,
    /// A boost of a limit.
    Boost,
    /// A grant.
    Grant,
    /// What was added for the tenant, or taken from it.
    AllowList,
}

/// What something is worth: a limit of a quota, access to anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    Access(bool),
    /// None is unlimited.
    Limit(Option<i64>),
}

/// How a quota stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub limit: Limit,
    pub used: i64,
    pub reserved: i64,
    pub resets_at: Option<DateTime<Utc>>,
    pub requested: i64,
}

#[derive(Clone, Debug)]
pub struct Entitlement {
    pub kind: Kind,
    pub key: String,
    pub allowed: bool,
    pub source: Source,
    pub plan_value: Option<Value>,
    pub override_value: Option<Value>,
    pub effective_value: Value,
    pub usage: Option<Usage>,
    /// Those that count, in burn order, each with what is burnt of it by now.
    pub grants: Vec<(Grant, i64)>,
    /// `<tenant>.<platform>`: how far the two journals were.
    pub version: String,
}

/// What is known of the tenant and of the platform, now.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) now: DateTime<Utc>,
}

impl Entitlements {
    /// One entitlement: of a quota with one read of its counter, of all else from memory. `requested` is of a quota.
    pub async fn entitlement(
        &self,
        scope: &TenantScope,
        kind: Kind,
        key: &str,
        requested: Option<i64>,
    ) -> Result<Entitlement> {
        match (kind, requested) {
            (Kind::Quota, Some(..1)) => return Err(Error::invalid("amount", "must be at least 1")),
            (Kind::Feature | Kind::Resource, Some(_)) => return Err(Error::invalid("amount", "is for a QUOTA alone")),
            _ => {}
        }
        if kind == Kind::Quota {
            self.known_quota(key).await?;
            let reckoning = self.quotas.reckon(scope, Some(&[key.to_owned()])).await?;
            let quota = reckoning.quotas.first().ok_or_else(Error::not_found)?;
            return of_quota(&reckoning, quota, requested.unwrap_or(1));
        }
        let view = self.view(scope.tenant()).await?;
        match kind {
            Kind::Resource => view.of_resource(view.resource("key", key)?),
            _ => check_feature("key", key).and_then(|()| view.of_feature(key)),
        }
    }

    /// All of one kind, or of all kinds, in the order of their keys: features that plans have or the tenant was given, quotas and
    /// resources of the catalogues. The counters are read at once.
    pub async fn entitlements(&self, scope: &TenantScope, kind: Option<Kind>) -> Result<Vec<Entitlement>> {
        let wanted = |of: Kind| kind.is_none_or(|kind| kind == of);
        let mut found = Vec::new();
        let view = self.view(scope.tenant()).await?;
        if wanted(Kind::Feature) {
            let of_plans = view.catalogue.plans.iter().flat_map(|plan| plan.features.0.iter().cloned());
            let given = view.held()?.active(Kind::Feature, view.now).map(|grant| grant.key.clone());
            let names: BTreeSet<String> = of_plans.chain(given).collect();
            found.extend(names.iter().map(|name| view.of_feature(name)).collect::<Result<Vec<_>>>()?);
        }
        if wanted(Kind::Quota) {
            let reckoning = self.quotas.reckon(scope, None).await?;
            let quotas = reckoning.quotas.iter().map(|quota| of_quota(&reckoning, quota, 1));
            found.extend(quotas.collect::<Result<Vec<_>>>()?);
        }
        if wanted(Kind::Resource) {
            let resources = view.resources()?.resources.iter().map(|resource| view.of_resource(resource));
            found.extend(resources.collect::<Result<Vec<_>>>()?);
        }
        Ok(found)
    }

    /// The catalogue of what can be allowed.
    pub async fn catalogue(&self) -> Result<Arc<Catalogue>> {
        self.tenancy.snapshots().catalogue().await
    }

    pub(super) async fn view(&self, tenant: TenantId) -> Result<View> {
        let snapshots = self.tenancy.snapshots();
        let snapshot = snapshots.get(tenant).await?.ok_or_else(Error::not_found)?;
        let mut catalogue = snapshots.catalogue().await?;
        if catalogue.plan(&snapshot.tenant.plan).is_none() {
            // Made by another replica a moment ago: the tenant's change was heard first.
            catalogue = snapshots.reread_catalogue().await?;
        }
        Ok(View { snapshot, catalogue, now: self.isolation.clock().now() })
    }

    pub(super) async fn known_quota(&self, key: &str) -> Result<()> {
        let catalogue = self.tenancy.snapshots().catalogue().await?;
        let known = catalogue.part::<QuotaKeys>()?.find(key);
        known.map(drop).ok_or_else(|| Error::invalid("key", "names no quota of the catalogue"))
    }
}

impl View {
    pub(super) fn plan(&self) -> Result<&Plan> {
        self.catalogue.plan(&self.snapshot.tenant.plan).context("find the tenant's plan")
    }

    pub(super) fn resources(&self) -> Result<&Resources> {
        self.catalogue.part()
    }

    pub(super) fn held(&self) -> Result<&Held> {
        self.snapshot.part()
    }

    pub(super) fn version(&self) -> String {
        format!("{}.{}", self.snapshot.version, self.catalogue.version)
    }

    /// Whether the tenant's state leaves it nothing.
    pub(super) fn is_closed(&self) -> bool {
        is_closed(&self.snapshot)
    }

    pub(super) fn resource(&self, field: &str, name: &str) -> Result<&Resource> {
        let found = split(name).map(|(kind, key)| self.resources().map(|resources| resources.find(kind, key)));
        let found = found.transpose()?.flatten();
        found.ok_or_else(|| Error::invalid(field, "names no resource; it is `<kind>/<key>`"))
    }

    pub(super) fn basis(&self) -> Result<Basis<'_>> {
        Ok(Basis {
            resources: self.resources()?,
            lists: self.snapshot.part::<AllowLists>()?,
            held: self.held()?,
            plan: &self.snapshot.tenant.plan,
            now: self.now,
        })
    }

    fn of_feature(&self, key: &str) -> Result<Entitlement> {
        let planned = self.plan()?.features.0.iter().any(|feature| feature == key);
        let given = self.held()?.find(Kind::Feature, key, self.now);
        let (allowed, closed) = (planned || given.is_some(), self.is_closed());
        let source = match (closed, planned) {
            (true, _) => Source::Lifecycle,
            (false, false) if given.is_some() => Source::Grant,
            _ => Source::Plan,
        };
        Ok(Entitlement {
            kind: Kind::Feature,
            key: key.to_owned(),
            allowed: allowed && !closed,
            source,
            plan_value: Some(Value::Access(planned)),
            override_value: None,
            effective_value: Value::Access(allowed && !closed),
            usage: None,
            grants: given.map(|grant| (grant.clone(), 0)).into_iter().collect(),
            version: self.version(),
        })
    }

    fn of_resource(&self, resource: &Resource) -> Result<Entitlement> {
        let all = self.basis()?.all(resource);
        let decision = *all.first().ok_or_else(|| Error::new(ErrorKind::Internal, "a resource is of no kind"))?;
        let (mut plan_value, mut override_value, mut grants) = (None, None, Vec::new());
        for said in &all {
            match said {
                Decision::Plan(_, listed) => plan_value = Some(Value::Access(*listed)),
                Decision::Removed(_) | Decision::Added(_) => {
                    override_value = override_value.or(Some(Value::Access(said.allows())));
                }
                Decision::Granted(grant) => grants.push(((*grant).clone(), 0)),
                Decision::Retired(_) | Decision::Default(_) => {}
            }
        }
        let closed = self.is_closed();
        let source = match decision {
            _ if closed => Source::Lifecycle,
            Decision::Retired(_) | Decision::Default(_) => Source::Catalogue,
            Decision::Removed(_) | Decision::Added(_) => Source::AllowList,
            Decision::Granted(_) => Source::Grant,
            Decision::Plan(..) => Source::Plan,
        };
        let allowed = decision.allows() && !closed;
        Ok(Entitlement {
            kind: Kind::Resource,
            key: format!("{}/{}", resource.kind, resource.key),
            allowed,
            source,
            plan_value,
            override_value,
            effective_value: Value::Access(allowed),
            usage: None,
            grants,
            version: self.version(),
        })
    }
}

fn is_closed(snapshot: &Snapshot) -> bool {
    matches!(snapshot.tenant.standing().access, Access::Closed(_))
}

fn of_quota(reckoning: &Reckoning, quota: &Reckoned, requested: i64) -> Result<Entitlement> {
    let (mut plan_value, mut override_value, mut source) = (None, None, Source::Catalogue);
    for step in reckoning.steps(quota)? {
        source = match step.source {
            LimitSource::Catalogue(_) => Source::Catalogue,
            LimitSource::Plan(_) => Source::Plan,
            LimitSource::Override(_) => Source::Override,
            LimitSource::Boost(_) => Source::Boost,
            LimitSource::Grant(_) => Source::Grant,
        };
        match source {
            Source::Catalogue | Source::Plan => plan_value = Some(Value::Limit(step.limit)),
            Source::Override => override_value = Some(Value::Limit(step.limit)),
            _ => {}
        }
    }
    let usage = Usage {
        limit: quota.limit,
        used: quota.counter.used,
        reserved: quota.counter.reserved,
        resets_at: quota.resets_at,
        requested,
    };
    // To take something of a quota is a write, which a graceful suspension refuses, too.
    let open = reckoning.snapshot.tenant.standing().access == Access::Open;
    let grants = reckoning.grants(quota)?.into_iter().map(|(grant, burnt)| (grant.clone(), burnt));
    Ok(Entitlement {
        kind: Kind::Quota,
        key: quota.key.key.clone(),
        allowed: open && usage.fits(),
        source: if open { source } else { Source::Lifecycle },
        plan_value,
        override_value,
        effective_value: Value::Limit(quota.limit.limit),
        usage: Some(usage),
        grants: grants.collect(),
        version: reckoning.version(),
    })
}

impl Usage {
    /// Whether so much more would be let in. Of what is not counted (rates, concurrency) nothing is used here.
    pub fn fits(&self) -> bool {
        let after = self.used.saturating_add(self.reserved).saturating_add(self.requested);
        self.limit.ceiling().is_none_or(|most| after <= most)
    }

    /// What is left of the limit, never below zero; None is unlimited.
    pub fn remaining(&self) -> Option<i64> {
        self.limit.limit.map(|limit| limit.saturating_sub(self.used).saturating_sub(self.reserved).max(0))
    }
}
