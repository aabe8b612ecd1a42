//! The plain fields of a tenant and what its plan gives it.

use async_graphql::{Context, ID, Json, Object, SimpleObject};
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{enter_platform, handle, plan::PlanObject, sla::SlaTerms};
use crate::tenancy::{
    IsolationTier, Parent, ParentLink, Profile, Status, Suspension, SuspensionMode, SuspensionReason, TenantView,
};

/// The plain fields of a tenant.
#[derive(Clone, Debug)]
pub struct TenantCore(pub TenantView);

#[Object]
impl TenantCore {
    /// UUIDv4; never reused.
    async fn id(&self) -> ID {
        self.0.id().into()
    }

    /// Unique DNS label of 3 to 63 characters.
    async fn slug(&self) -> &str {
        &self.0.summary().slug
    }

    /// The operator's own key, as in a tenant file.
    async fn external_id(&self) -> Option<&str> {
        self.0.summary().external_id.as_deref()
    }

    async fn name(&self) -> &str {
        &self.0.summary().name
    }

    /// Key of the plan.
    async fn plan_key(&self) -> &str {
        &self.0.summary().plan
    }

    async fn isolation_tier(&self) -> IsolationTier {
        self.0.summary().isolation_tier
    }

    /// Home region.
    async fn region(&self) -> &str {
        &self.0.summary().region
    }

    async fn status(&self) -> Status {
        self.0.summary().status
    }

    /// The states that it can go to from here.
    async fn allowed_transitions(&self) -> async_graphql::Result<Vec<Status>> {
        Ok(self.0.whole().await?.allowed())
    }

    /// Why and how it is held back, if it is.
    async fn suspension(&self) -> async_graphql::Result<Option<TenantSuspension<'_>>> {
        Ok(self.0.whole().await?.suspension.as_ref().map(TenantSuspension))
    }

    /// When a planned suspension begins.
    async fn suspend_at(&self) -> async_graphql::Result<Option<DateTime<Utc>>> {
        Ok(self.0.whole().await?.suspend_at)
    }

    /// When the suspension ends by itself.
    async fn resume_at(&self) -> async_graphql::Result<Option<DateTime<Utc>>> {
        Ok(self.0.whole().await?.resume_at)
    }

    async fn deleted_at(&self) -> async_graphql::Result<Option<DateTime<Utc>>> {
        Ok(self.0.whole().await?.deleted_at)
    }

    /// Until when a deleted tenant can be brought back.
    async fn erase_at(&self) -> async_graphql::Result<Option<DateTime<Utc>>> {
        Ok(self.0.whole().await?.erase_at)
    }

    /// Grows with every change that makes older tokens worthless.
    async fn access_epoch(&self) -> async_graphql::Result<i64> {
        Ok(self.0.whole().await?.access_epoch)
    }

    async fn profile(&self) -> async_graphql::Result<&Profile> {
        Ok(&self.0.whole().await?.profile)
    }

    /// In the order of their keys.
    async fn labels(&self) -> async_graphql::Result<Vec<Label<'_>>> {
        Ok(self.0.whole().await?.labels.0.iter().map(|(key, value)| Label { key, value }).collect())
    }

    /// What the contract says differently from the plan.
    async fn sla_overrides(&self) -> async_graphql::Result<SlaTerms> {
        Ok(SlaTerms::from(self.0.whole().await?.sla.clone()))
    }

    /// A free section of the tenant's file, such as `integrations` or `settings`.
    async fn section(&self, name: String) -> async_graphql::Result<Option<Json<Value>>> {
        Ok(self.0.whole().await?.sections.0.get(&name).cloned().map(Json))
    }

    /// Whose child it is. For operators.
    ///
    /// Scope: `auth:tenant:read`, operators only.
    async fn parent(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<TenantParent>> {
        let known = Box::pin(self.0.snapshot::<Parent>(handle(ctx)?, &enter_platform(ctx, "Tenant")?)).await?;
        Ok(known.part::<Parent>()?.0.clone().map(TenantParent))
    }

    /// Grows by one with every change; what `expectedVersion` is compared with.
    async fn version(&self) -> i64 {
        self.0.summary().version
    }

    async fn created_at(&self) -> DateTime<Utc> {
        self.0.summary().created_at
    }

    async fn updated_at(&self) -> DateTime<Utc> {
        self.0.summary().updated_at
    }
}

/// What is sold to the tenant.
#[derive(Clone, Debug)]
pub struct TenantPlan(pub TenantView);

#[Object]
impl TenantPlan {
    /// The plan that it is on.
    async fn plan(&self, ctx: &Context<'_>) -> async_graphql::Result<PlanObject> {
        Ok(PlanObject(Box::pin(handle(ctx)?.plan(&self.0.summary().plan)).await?))
    }

    /// What is promised: the plan's terms with the tenant's own on top.
    async fn sla(&self, ctx: &Context<'_>) -> async_graphql::Result<SlaTerms> {
        let plan = Box::pin(handle(ctx)?.plan(&self.0.summary().plan)).await?;
        Ok(plan.sla.with(&self.0.whole().await?.sla).into())
    }
}

/// Whose child a tenant is.
#[derive(Clone, Debug)]
pub struct TenantParent(ParentLink);

#[Object]
impl TenantParent {
    /// The parent.
    async fn id(&self) -> ID {
        self.0.parent_id.into()
    }

    /// Whether administration from above ends here.
    async fn barrier(&self) -> bool {
        self.0.barrier
    }

    /// Whether what the child uses counts for the parent's quotas, too.
    async fn rolls_up(&self) -> bool {
        self.0.rolls_up
    }

    async fn version(&self) -> i64 {
        self.0.version
    }
}

/// A label.
#[derive(Clone, Debug, SimpleObject)]
pub struct Label<'a> {
    key: &'a str,
    value: &'a str,
}

/// Why and how a tenant is held back.
#[derive(Clone, Debug)]
pub struct TenantSuspension<'a>(&'a Suspension);

#[Object(name = "Suspension")]
impl TenantSuspension<'_> {
    async fn mode(&self) -> SuspensionMode {
        self.0.mode
    }

    async fn reason(&self) -> SuspensionReason {
        self.0.reason
    }

    async fn note(&self) -> &str {
        &self.0.note
    }

    async fn since(&self) -> DateTime<Utc> {
        self.0.since
    }

    /// Until when the tenant still gets new tokens, in graceful mode.
    async fn drain_until(&self) -> DateTime<Utc> {
        self.0.drain_until
    }
}
