use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::{
    IsolationTier, Labels, Profile, Sections, SlaOverrides, Status, Tenancy, Tenant,
    change::{check_region, differences},
    plan, profile, settings, slug, store,
};
use crate::{
    config::Activation,
    error::Result,
    isolation::{Conditions, NetworkRules, OperatorScope},
    journal::Entry,
    platform::ids::TenantId,
};

/// A tenant to be.
#[derive(Clone, Debug)]
pub struct NewTenant {
    pub slug: String,
    pub name: String,
    pub external_id: Option<String>,
    /// `None`: starter, or enterprise where the tier asks for more than a shared cell.
    pub plan: Option<String>,
    /// `None`: the plan's.
    pub isolation_tier: Option<IsolationTier>,
    /// `None`: the configured default.
    pub region: Option<String>,
    pub profile: Profile,
    pub labels: BTreeMap<String, String>,
    pub sla: SlaOverrides,
    pub sections: BTreeMap<String, Value>,
}

impl Tenancy {
    /// Makes a tenant: CREATED, or ACTIVE where the configuration does not hold it for `activateTenant` and nothing has to be
    /// made for it first.
    pub async fn create(&self, scope: &OperatorScope, new: NewTenant, conditions: &Conditions) -> Result<Arc<Tenant>> {
        self.check_new(&new)?;
        self.check_home(new.region.as_deref().unwrap_or(&self.rules.default_region))?;
        let tx = self.isolation.begin_operator(scope).await?;
        if let Some(answered) = tx.first_answer::<Tenant>(conditions).await? {
            return Ok(Arc::new(answered));
        }
        settings::check(&tx, Some(&new.sections)).await?;
        let shared = matches!(new.isolation_tier, None | Some(IsolationTier::Standard));
        let key = new.plan.as_deref().unwrap_or(if shared { "starter" } else { "enterprise" });
        let plan = plan::named(&tx, "plan", key).await?;
        let now = tx.stamp().at;
        let tenant = Tenant {
            id: TenantId::generate(),
            slug: new.slug,
            external_id: new.external_id,
            name: new.name,
            isolation_tier: new.isolation_tier.unwrap_or(plan.isolation_tier),
            plan: plan.key.clone(),
            region: new.region.unwrap_or_else(|| self.rules.default_region.clone()),
            status: Status::Created,
            archived_from: None,
            deleted_from: None,
            suspension: None,
            planned_suspension: None,
            suspend_at: None,
            resume_at: None,
            deleted_at: None,
            erase_at: None,
            access_epoch: 1,
            access_changed_at: now,
            profile: new.profile,
            labels: Labels(new.labels),
            sla: new.sla,
            sections: Sections(new.sections),
            network: NetworkRules::default(),
            version: 1,
            created_at: now,
            updated_at: now,
        };
        self.check_requirements(&tx, &plan, Some(&tenant)).await?;
        store::insert(&tx, &tenant).await?;
        let is_enlisted = self.enlist(&tx, tenant.id, now).await?;
        let mut entries = vec![Entry::new("TenantCreated", "tenant", tenant.id).change(None, Some(&tenant))?];
        let tenant = match self.rules.activation {
            Activation::Held => tenant,
            // Its environment is made first; whoever makes it activates it then.
            Activation::Automatic if is_enlisted => tenant,
            Activation::Automatic => self.activate_new(&tx, tenant, &mut entries).await?,
        };
        tx.keep_answer(conditions, &tenant).await?;
        tx.commit_for(tenant.id, entries).await?;
        let tenant = Arc::new(tenant);
        self.snapshots.replace(tenant.clone());
        Ok(tenant)
    }

    /// Where tenants get no environment, one that is not held is ready as soon as it is made.
    async fn activate_new(
        &self,
        tx: &crate::platform::db::Tx,
        before: Tenant,
        entries: &mut Vec<Entry>,
    ) -> Result<Tenant> {
        let mut tenant = before.clone();
        tenant.activate()?;
        tenant.version += 1;
        store::update(tx, &tenant).await?;
        let (was, is) = differences(&before, &tenant)?;
        entries.push(Entry {
            before: Some(was),
            after: Some(is),
            ..Entry::new("TenantActivated", "tenant", tenant.id)
        });
        Ok(tenant)
    }

    pub(super) fn check_new(&self, new: &NewTenant) -> Result<()> {
        slug::check("slug", &new.slug, &self.rules.reserved_slugs)?;
        profile::text("name", &new.name)?;
        if let Some(external_id) = &new.external_id {
            profile::text("externalId", external_id)?;
        }
        if let Some(region) = &new.region {
            check_region("region", region)?;
        }
        new.profile.check("profile")?;
        profile::check_labels("labels", &new.labels)?;
        new.sla.check("sla")
    }
}
