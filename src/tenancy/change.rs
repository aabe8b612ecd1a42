//! Changes of one tenant: read under lock, decide on plain values, write, record.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Fit, IsolationTier, Plan, PlannedSuspension, Profile, Sections, SlaOverrides, Tenancy, Tenant, plan, profile,
    settings, slug, store,
};
use crate::{
    error::{Context as _, Error, Kind, Result},
    isolation::{Conditions, TenantScope, TenantTx},
    journal::Entry,
};

/// What `update` sets; `None` leaves a value as it is.
#[derive(Clone, Debug, Default)]
pub struct Update {
    pub name: Option<String>,
    pub profile: Option<Profile>,
    pub labels: Option<BTreeMap<String, String>>,
    /// For operators alone, like all below.
    pub slug: Option<String>,
    pub external_id: Option<String>,
    pub region: Option<String>,
    pub isolation_tier: Option<IsolationTier>,
    pub sla: Option<SlaOverrides>,
    pub sections: Option<BTreeMap<String, Value>>,
}

/// A suspension as it was asked for.
#[derive(Clone, Debug)]
pub struct SuspensionOrder {
    pub suspension: PlannedSuspension,
    /// When it begins; `None`: at once.
    pub begin_at: Option<DateTime<Utc>>,
    /// When it ends by itself; `None`: when someone resumes the tenant.
    pub end_at: Option<DateTime<Utc>>,
}

/// A deletion as it was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deletion {
    /// How long the tenant can be brought back; `None`: the default.
    pub grace: Option<TimeDelta>,
}

impl Tenancy {
    /// Changes names, profile, labels; for operators also slug, region, tier, SLA and free sections.
    pub async fn update(&self, scope: &TenantScope, update: Update, conditions: &Conditions) -> Result<Arc<Tenant>> {
        if !scope.caller().is_platform() {
            update.check_own_fields()?;
        }
        self.check_update(&update)?;
        let tx = self.isolation.begin(scope).await?;
        settings::check(&tx, update.sections.as_ref()).await?;
        self.change(tx, conditions, "TenantUpdated", |tenant, _| {
            update.apply(tenant);
            Ok(())
        })
        .await
    }

    /// Puts the tenant on another plan of the catalogue. Its isolation tier follows where it is not asked for otherwise.
    pub async fn change_plan(
        &self,
        scope: &TenantScope,
        key: &str,
        fit: Fit,
        conditions: &Conditions,
    ) -> Result<Arc<Tenant>> {
        let tx = self.isolation.begin(scope).await?;
        let plan = plan::named(&tx, "plan", key).await?;
        self.check_fit(&tx, &plan, fit).await?;
        self.change(tx, conditions, "TenantPlanChanged", |tenant, _| {
            tenant.plan = plan.key;
            Ok(())
        })
        .await
    }

    /// Refuses a plan that requires what the tenant cannot have, and one that it has outgrown, with the list of what is in the way.
    pub(super) async fn check_fit(&self, tx: &TenantTx, plan: &Plan, fit: Fit) -> Result<()> {
        let present = store::lock(tx, tx.tenant()).await?;
        if present.plan == plan.key {
            return Ok(());
        }
        self.check_requirements(tx, plan, Some(&present)).await?;
        if fit == Fit::Whatever {
            return Ok(());
        }
        let mut in_the_way = Vec::new();
        let checks = self.fits.read().unwrap_or_else(PoisonError::into_inner).clone();
        for check in checks {
            in_the_way.extend(check(tx, &present, plan).await?);
        }
        if in_the_way.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            Kind::QuotaExceeded,
            "what the tenant has does not fit the plan; reduce it, or force the change",
        )
        .at("plan")
        .with(serde_json::json!({ "inTheWay": in_the_way })))
    }

    pub async fn activate(&self, scope: &TenantScope, conditions: &Conditions) -> Result<Arc<Tenant>> {
        let tx = self.isolation.begin(scope).await?;
        self.change(tx, conditions, "TenantActivated", |tenant, _| tenant.activate()).await
    }

    /// Suspends now, or plans it.
    pub async fn suspend(
        &self,
        scope: &TenantScope,
        order: SuspensionOrder,
        conditions: &Conditions,
    ) -> Result<Arc<Tenant>> {
        let now = self.isolation.clock().now();
        let later = order.begin_at.filter(|begin| *begin > now);
        if order.end_at.is_some_and(|end| end <= later.unwrap_or(now)) {
            return Err(Error::invalid("endAt", "must be later than the beginning"));
        }
        if order.suspension.note.chars().count() > 2000 {
            return Err(Error::invalid("note", "must have at most 2000 characters"));
        }
        let drain = delta(self.rules.suspension_drain);
        let tx = self.isolation.begin(scope).await?;
        let event = if later.is_some() { "TenantSuspensionPlanned" } else { "TenantSuspended" };
        self.change(tx, conditions, event, |tenant, now| {
            match later {
                Some(begin) => tenant.plan_suspension(begin, order.suspension)?,
                None => tenant.suspend(now, order.suspension, drain)?,
            }
            tenant.resume_at = order.end_at;
            Ok(())
        })
        .await
    }

    /// Ends a suspension, and drops one that is planned.
    pub async fn resume(&self, scope: &TenantScope, conditions: &Conditions) -> Result<Arc<Tenant>> {
        let tx = self.isolation.begin(scope).await?;
        self.change(tx, conditions, "TenantResumed", |tenant, _| tenant.resume()).await
    }

    pub async fn archive(&self, scope: &TenantScope, conditions: &Conditions) -> Result<Arc<Tenant>> {
        let tx = self.isolation.begin(scope).await?;
        self.change(tx, conditions, "TenantArchived", Tenant::archive).await
    }

    pub async fn unarchive(&self, scope: &TenantScope, conditions: &Conditions) -> Result<Arc<Tenant>> {
        let tx = self.isolation.begin(scope).await?;
        self.change(tx, conditions, "TenantUnarchived", |tenant, _| tenant.unarchive()).await
    }

    /// Begins the grace period.
    pub async fn delete(
        &self,
        scope: &TenantScope,
        deletion: Deletion,
        conditions: &Conditions,
    ) -> Result<Arc<Tenant>> {
        let (least, most) = (delta(self.rules.min_deletion_grace), delta(self.rules.max_deletion_grace));
        let grace = deletion.grace.unwrap_or(delta(self.rules.deletion_grace));
        if !(least..=most).contains(&grace) {
            return Err(Error::invalid(
                "graceDays",
                format!("must be between {} and {}", least.num_days(), most.num_days()),
            ));
        }
        let tx = self.isolation.begin(scope).await?;
        self.change(tx, conditions, "TenantDeleted", |tenant, now| tenant.delete(now, grace)).await
    }

    /// Brings a deleted tenant back.
    pub async fn cancel_deletion(&self, scope: &TenantScope, conditions: &Conditions) -> Result<Arc<Tenant>> {
        let tx = self.isolation.begin(scope).await?;
        self.change(tx, conditions, "TenantDeletionCancelled", Tenant::cancel_deletion).await
    }

    /// Lock, check, decide, write, record, commit: the way of every change of a tenant.
    pub(super) async fn change(
        &self,
        tx: TenantTx,
        conditions: &Conditions,
        event: &'static str,
        decide: impl FnOnce(&mut Tenant, DateTime<Utc>) -> Result<()>,
    ) -> Result<Arc<Tenant>> {
        if let Some(answered) = tx.first_answer::<Tenant>(conditions).await? {
            return Ok(Arc::new(answered));
        }
        let now = tx.stamp().at;
        let before = store::lock(&tx, tx.tenant()).await?;
        conditions.check_version(before.version)?;
        let mut tenant = before.clone();
        decide(&mut tenant, now)?;
        self.check_tier(&tx, &before, &tenant).await?;
        tenant.version += 1;
        tenant.updated_at = now;
        store::update(&tx, &tenant).await?;
        if needs_another_environment(&before, &tenant) {
            self.enlist(&tx, tenant.id, now).await?;
        }
        tx.keep_answer(conditions, &tenant).await?;
        let (was, is) = differences(&before, &tenant)?;
        let entry = Entry { before: Some(was), after: Some(is), ..Entry::new(event, "tenant", tenant.id) };
        tx.commit([entry]).await?;
        let tenant = Arc::new(tenant);
        self.snapshots.replace(tenant.clone());
        Ok(tenant)
    }

    pub(super) fn check_update(&self, update: &Update) -> Result<()> {
        if let Some(name) = &update.name {
            profile::text("name", name)?;
        }
        if let Some(wanted) = &update.slug {
            slug::check("slug", wanted, &self.rules.reserved_slugs)?;
        }
        if let Some(external_id) = &update.external_id {
            profile::text("externalId", external_id)?;
        }
        if let Some(region) = &update.region {
            check_region("region", region)?;
        }
        if let Some(profile) = &update.profile {
            profile.check("profile")?;
        }
        if let Some(labels) = &update.labels {
            profile::check_labels("labels", labels)?;
        }
        if let Some(sla) = &update.sla {
            sla.check("sla")?;
        }
        Ok(())
    }
}

impl Update {
    /// Refuses what only operators may set, whatever its value.
    fn check_own_fields(&self) -> Result<()> {
        let foreign = [
            ("slug", self.slug.is_some()),
            ("externalId", self.external_id.is_some()),
            ("region", self.region.is_some()),
            ("isolationTier", self.isolation_tier.is_some()),
            ("sla", self.sla.is_some()),
            ("sections", self.sections.is_some()),
        ];
        match foreign.iter().find(|(_, set)| *set) {
            Some((field, _)) => Err(Error::forbidden("this field is for operators of the platform").at(*field)),
            None => Ok(()),
        }
    }

    pub(super) fn apply(self, tenant: &mut Tenant) {
        let keep = |slot: &mut String, value: Option<String>| {
            if let Some(value) = value {
                *slot = value;
            }
        };
        keep(&mut tenant.name, self.name);
        keep(&mut tenant.slug, self.slug);
        keep(&mut tenant.region, self.region);
        tenant.external_id = self.external_id.or(tenant.external_id.take());
        tenant.isolation_tier = self.isolation_tier.unwrap_or(tenant.isolation_tier);
        if let Some(profile) = self.profile {
            tenant.profile = profile;
        }
        if let Some(labels) = self.labels {
            tenant.labels.0 = labels;
        }
        if let Some(sla) = self.sla {
            tenant.sla = sla;
        }
        if let Some(sections) = self.sections {
            tenant.sections = Sections(sections);
        }
    }
}

/// Whether where and how the tenant's environment has to be is another than before.
fn needs_another_environment(before: &Tenant, after: &Tenant) -> bool {
    before.isolation_tier != after.isolation_tier
        || before.plan != after.plan
        || before.region != after.region
        || before.sections != after.sections
        || before.status.is_in_use() != after.status.is_in_use()
}

/// A region is a name of the operator's own: small letters, digits and '-'.
pub fn check_region(field: &str, region: &str) -> Result<()> {
    let well_formed = (1..=63).contains(&region.len())
        && region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if well_formed { Ok(()) } else { Err(Error::invalid(field, "has 1 to 63 small letters, digits or '-'")) }
}

/// The members that differ, before and after.
pub(super) fn differences<T: Serialize>(before: &T, after: &T) -> Result<(Value, Value)> {
    let members = |value: &T| match serde_json::to_value(value).context("write a state")? {
        Value::Object(members) => Ok(members),
        _ => Err(Error::internal("a state is an object")),
    };
    let (mut was, mut is): (Map<_, _>, Map<_, _>) = (members(before)?, members(after)?);
    let same: Vec<_> =
        was.iter().filter(|(key, value)| is.get(*key) == Some(value)).map(|(key, _)| key.clone()).collect();
    for key in same {
        was.remove(&key);
        is.remove(&key);
    }
    Ok((Value::Object(was), Value::Object(is)))
}

pub(super) fn delta(duration: std::time::Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}
