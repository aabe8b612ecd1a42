//! Operations on the catalogue of plans.

use super::{Plan, Tenancy, change::differences, plan};
use crate::{
    error::{Error, Result},
    isolation::{Conditions, OperatorScope},
    journal::Entry,
    platform::ids::TenantId,
};

impl Tenancy {
    /// All plans, from memory: everyone may know what is sold.
    pub async fn plans(&self) -> Result<Vec<Plan>> {
        Ok(self.snapshots.catalogue().await?.plans.clone())
    }

    /// The plan that a tenant is on.
    pub async fn plan(&self, key: &str) -> Result<Plan> {
        if let Some(plan) = self.snapshots.catalogue().await?.plan(key) {
            return Ok(plan.clone());
        }
        // Made by another replica a moment ago: the tenant's change was heard first.
        self.snapshots.refresh(TenantId::PLATFORM).await;
        let catalogue = self.snapshots.catalogue().await?;
        catalogue.plan(key).cloned().ok_or_else(|| Error::internal("a tenant's plan is always in the catalogue"))
    }

    /// Adds a plan. `version` and times of `plan` are set here.
    pub async fn create_plan(&self, scope: &OperatorScope, mut plan: Plan, conditions: &Conditions) -> Result<Plan> {
        plan.check()?;
        let tx = self.isolation.begin_operator(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            return Ok(answered);
        }
        self.check_requirements(&tx, &plan, None).await?;
        plan.version = 1;
        plan.created_at = tx.stamp().at;
        plan.updated_at = plan.created_at;
        plan::insert(&tx, plan.clone()).await?;
        tx.keep_answer(conditions, &plan).await?;
        tx.commit([Entry::new("PlanCreated", "plan", &plan.key).change(None, Some(&plan))?]).await?;
        self.snapshots.refresh(TenantId::PLATFORM).await;
        Ok(plan)
    }

    /// Changes a plan by `decide`. Tenants on it have the new values at once.
    pub async fn update_plan(
        &self,
        scope: &OperatorScope,
        key: &str,
        conditions: &Conditions,
        decide: impl FnOnce(&mut Plan) -> Result<()> + Send,
    ) -> Result<Plan> {
        let tx = self.isolation.begin_operator(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            return Ok(answered);
        }
        let before = plan::lock(&tx, key).await?.ok_or_else(Error::not_found)?;
        conditions.check_version(before.version)?;
        let mut plan = before.clone();
        decide(&mut plan)?;
        plan.check()?;
        self.check_requirements(&tx, &plan, None).await?;
        plan.version += 1;
        plan.updated_at = tx.stamp().at;
        plan::update(&tx, &plan).await?;
        tx.keep_answer(conditions, &plan).await?;
        let (was, is) = differences(&before, &plan)?;
        let entry = Entry { before: Some(was), after: Some(is), ..Entry::new("PlanUpdated", "plan", key) };
        tx.commit([entry]).await?;
        self.snapshots.refresh(TenantId::PLATFORM).await;
        Ok(plan)
    }
}
