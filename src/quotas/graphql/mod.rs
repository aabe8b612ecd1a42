//! Quotas in the schema.

mod input;
mod object;

use async_graphql::{Context, ID, Object, Result};
use chrono::TimeDelta;

use self::{
    input::{
        BoostQuotaInput, CommitReservationInput, DefineQuotaInput, EndQuotaBoostInput, PreviewQuotaInput,
        QuotaLineInput, ReleaseReservationInput, ReserveQuotaInput, SetQuotaInput, SetQuotaUsageInput,
        UpdateQuotaDefinitionInput,
    },
    object::{
        QuotaBoost, QuotaBoostPayload, QuotaDefinition, QuotaDefinitionPayload, QuotaObject, QuotaPayload,
        QuotaPreview, QuotaPreviewLine, ReservationPayload,
    },
};
use super::{Line, NewBoost, NewOverride, Preview, Quotas};
use crate::{
    error::Error,
    isolation::TenantScope,
    platform::ids::BoostId,
    tenancy::{
        TenantView,
        graphql::{conditions, enter, enter_own_or, enter_platform},
    },
};

#[derive(Debug, Default)]
pub struct QuotaQuery;

#[Object]
impl QuotaQuery {
    /// What a tenant may have and has: all quotas of the catalogue, or those that `keys` names. Without `tenantId` of the
    /// tenant that the token is bound to.
    ///
    /// Scope: `auth:quota:read`.
    async fn quotas(
        &self,
        ctx: &Context<'_>,
        tenant_id: Option<ID>,
        keys: Option<Vec<String>>,
    ) -> Result<Vec<QuotaObject>> {
        list(ctx, &own_or(ctx, "Query", tenant_id.as_ref()).await?, keys.as_deref()).await
    }

    /// Whether something would fit, now. Nothing is held: what counts is `reserveQuota`.
    ///
    /// Scope: `auth:quota:read`.
    async fn preview_quota(&self, ctx: &Context<'_>, input: PreviewQuotaInput) -> Result<QuotaPreview> {
        let scope = own_or(ctx, "Query", input.tenant_id.as_ref()).await?;
        let lines = handle(ctx)?.preview(&scope, &lines(input.lines)).await?;
        let line = |line: Preview| QuotaPreviewLine {
            key: line.standing.key.clone(),
            requested: line.requested,
            fits: line.fits,
            standing: line.standing.into(),
        };
        Ok(QuotaPreview { fits: lines.iter().all(|line| line.fits), lines: lines.into_iter().map(line).collect() })
    }

    /// The catalogue of what can be limited.
    ///
    /// Scope: `auth:quota:read`.
    async fn quota_definitions(&self, ctx: &Context<'_>) -> Result<Vec<QuotaDefinition>> {
        Ok(handle(ctx)?.definitions().await?.into_iter().map(Into::into).collect())
    }
}

#[derive(Debug, Default)]
pub struct QuotaMutation;

#[Object]
impl QuotaMutation {
    /// Holds so much of one or more quotas, all or nothing, before anything is provisioned. Commit it with what was really
    /// used, or release it; else it frees itself when it expires.
    ///
    /// Errors: `quota_exceeded` with `key`, `limit`, `used`, `reserved`, `requested` and `resetsAt`.
    ///
    /// Scope: `auth:quota:write`.
    async fn reserve_quota(&self, ctx: &Context<'_>, input: ReserveQuotaInput) -> Result<ReservationPayload> {
        let scope = own_or(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let lasts = input.expires_in_seconds.map(|seconds| TimeDelta::seconds(seconds.into()));
        let once = conditions(ctx, None).idempotency;
        Ok(handle(ctx)?.reserve(&scope, &lines(input.lines), lasts, once).await?.try_into()?)
    }

    /// Counts what was reserved, or less, as used. To repeat it changes nothing.
    ///
    /// Errors: `not_found` for a reservation that is not the tenant's, `conflict` for one that has expired or was released.
    ///
    /// Scope: `auth:quota:write`.
    async fn commit_reservation(&self, ctx: &Context<'_>, input: CommitReservationInput) -> Result<ReservationPayload> {
        let scope = own_or(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        Ok(handle(ctx)?.commit(&scope, &input.reservation_id, &lines(input.lines)).await?.try_into()?)
    }

    /// Gives back what was reserved. To repeat it changes nothing.
    ///
    /// Errors: `not_found` for a reservation that is not the tenant's, `conflict` for one that was committed.
    ///
    /// Scope: `auth:quota:write`.
    async fn release_reservation(
        &self,
        ctx: &Context<'_>,
        input: ReleaseReservationInput,
    ) -> Result<ReservationPayload> {
        let scope = own_or(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        Ok(handle(ctx)?.release(&scope, &input.reservation_id).await?.try_into()?)
    }

    /// Takes over how much another system has counted, whatever the limit is: of a level what exists, of a period what was
    /// used in this one.
    ///
    /// Scope: `auth:quota:write`.
    async fn set_quota_usage(&self, ctx: &Context<'_>, input: SetQuotaUsageInput) -> Result<QuotaPayload> {
        let scope = own_or(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        handle(ctx)?.set_used(&scope, &input.key, input.used).await?;
        payload(ctx, &scope, input.key).await
    }

    /// Sets a tenant's own limit, or drops it. Below what is used it stops growth, and takes nothing away.
    ///
    /// Scope: `auth:limit:write`, operators only.
    async fn set_quota(&self, ctx: &Context<'_>, input: SetQuotaInput) -> Result<QuotaPayload> {
        let scope = enter(ctx, "Mutation", &input.tenant_id).await?;
        let (quotas, conditions) = (handle(ctx)?, conditions(ctx, input.expected_version));
        if input.clear {
            if input.limit.is_some()
                || input.enforcement.is_some()
                || input.grace_percent.is_some()
                || input.expires_at.is_some()
            {
                return Err(Error::invalid("clear", "goes with no limit, enforcement, grace or expiry").into());
            }
            quotas.clear(&scope, &input.key, &conditions).await?;
        } else {
            let wanted = NewOverride {
                key: input.key.clone(),
                limit: input.limit,
                enforcement: input.enforcement,
                grace_percent: input.grace_percent,
                expires_at: input.expires_at,
                reason: input.reason,
            };
            quotas.set(&scope, wanted, &conditions).await?;
        }
        payload(ctx, &scope, input.key).await
    }

    /// Gives a tenant more of something until a time, when it reverts by itself.
    ///
    /// Scope: `auth:limit:write`, operators only.
    async fn boost_quota(&self, ctx: &Context<'_>, input: BoostQuotaInput) -> Result<QuotaBoostPayload> {
        let scope = enter(ctx, "Mutation", &input.tenant_id).await?;
        let BoostQuotaInput { tenant_id: _, key, amount, expires_at, reason } = input;
        let wanted = NewBoost { key, amount, expires_at, reason };
        let boost = handle(ctx)?.boost(&scope, wanted, &conditions(ctx, None)).await?;
        Ok(QuotaBoostPayload { boost: QuotaBoost(boost) })
    }

    /// Ends a boost before its time.
    ///
    /// Scope: `auth:limit:write`, operators only.
    async fn end_quota_boost(&self, ctx: &Context<'_>, input: EndQuotaBoostInput) -> Result<QuotaBoostPayload> {
        let scope = enter(ctx, "Mutation", &input.tenant_id).await?;
        let id: BoostId = input.boost_id.parse().map_err(|_| Error::not_found())?;
        let boost = handle(ctx)?.end_boost(&scope, id, &conditions(ctx, None)).await?;
        Ok(QuotaBoostPayload { boost: QuotaBoost(boost) })
    }

    /// Adds a quota to the catalogue.
    ///
    /// Scope: `auth:plan:write`, operators only.
    async fn define_quota(&self, ctx: &Context<'_>, input: DefineQuotaInput) -> Result<QuotaDefinitionPayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let defined = handle(ctx)?.define(&scope, input.into(), &conditions(ctx, None)).await?;
        Ok(QuotaDefinitionPayload { definition: defined.into() })
    }

    /// Changes a quota of the catalogue; what it counts stays.
    ///
    /// Scope: `auth:plan:write`, operators only.
    async fn update_quota_definition(
        &self,
        ctx: &Context<'_>,
        input: UpdateQuotaDefinitionInput,
    ) -> Result<QuotaDefinitionPayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let (key, conditions) = (input.key.clone(), conditions(ctx, input.expected_version));
        let changed = handle(ctx)?.redefine(&scope, &key, &conditions, |known| input.apply(known)).await?;
        Ok(QuotaDefinitionPayload { definition: changed.into() })
    }
}

/// A tenant's quotas.
#[derive(Clone, Debug)]
pub struct TenantQuotas(pub TenantView);

#[Object]
impl TenantQuotas {
    /// What it may have and has: all quotas of the catalogue, or those that `keys` names.
    ///
    /// Scope: `auth:quota:read`.
    async fn quotas(&self, ctx: &Context<'_>, keys: Option<Vec<String>>) -> Result<Vec<QuotaObject>> {
        let scope = enter(ctx, "Tenant", &self.0.id().into()).await?;
        let Some(page) = self.0.page() else { return Box::pin(list(ctx, &scope, keys.as_deref())).await };
        let page = Box::pin(handle(ctx)?.of_page(&enter_platform(ctx, "Tenant")?, page)).await?;
        Ok(page.list(scope.tenant(), keys.as_deref())?.into_iter().map(QuotaObject).collect())
    }
}

async fn list(ctx: &Context<'_>, scope: &TenantScope, keys: Option<&[String]>) -> Result<Vec<QuotaObject>> {
    Ok(handle(ctx)?.list(scope, keys).await?.into_iter().map(QuotaObject).collect())
}

async fn payload(ctx: &Context<'_>, scope: &TenantScope, key: String) -> Result<QuotaPayload> {
    let quota = list(ctx, scope, Some(&[key])).await?.pop();
    Ok(QuotaPayload { quota: quota.ok_or_else(|| Error::internal("a quota that was changed is not there"))? })
}

fn lines(input: Vec<QuotaLineInput>) -> Vec<Line> {
    input.into_iter().map(|line| Line { key: line.key, amount: line.amount }).collect()
}

/// The tenant that an argument names, else the one that the token is bound to.
async fn own_or(ctx: &Context<'_>, type_name: &str, tenant: Option<&ID>) -> Result<TenantScope, Error> {
    let scope = enter_own_or(ctx, type_name, tenant).await?;
    scope.ok_or_else(|| Error::invalid("tenantId", "is needed: an operator's token is bound to no tenant"))
}

fn handle<'a>(ctx: &Context<'a>) -> Result<&'a Quotas, Error> {
    ctx.data_opt::<Quotas>().ok_or_else(|| Error::internal("the schema has no quotas"))
}
