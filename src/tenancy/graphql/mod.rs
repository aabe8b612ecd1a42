//! Tenancy's part of the schema: the plain fields of a tenant, plans, and what mutations take. Root fields that answer with
//! a `Tenant` are in `edge/tenant.rs`.

mod input;
mod network;
mod partner;
mod plan;
mod sla;
mod tenant;

use async_graphql::{Context, ID};

pub use self::{
    input::{
        ChangePlanInput, CreateTenantInput, DeleteTenantInput, SetParentTenantInput, SuspendTenantInput,
        TenantActionInput, UpdateTenantInput,
    },
    network::{NetworkMutation, NetworkQuery},
    partner::{PartnerMutation, TenantPartners},
    plan::{CreatePlanInput, PlanObject, UpdatePlanInput},
    tenant::{TenantCore, TenantPlan},
};
use super::Tenancy;
use crate::{
    access,
    error::{Error, Result},
    isolation::{Conditions, IdempotencyKey, OperatorScope, TenantScope},
    platform::ids::TenantId,
};

/// Enters the tenant that an argument names, for what the present field of `type_name` asks.
pub async fn enter(ctx: &Context<'_>, type_name: &str, id: &ID) -> Result<TenantScope> {
    let (caller, permission) = (access::graphql::caller(ctx)?, access::graphql::permission_here(ctx, type_name)?);
    handle(ctx)?.enter(&caller, TenantId::parse(id)?, permission).await
}

/// Enters the tenant that an argument names or, without one, the tenant that the caller is bound to.
pub async fn enter_own_or(ctx: &Context<'_>, type_name: &str, id: Option<&ID>) -> Result<Option<TenantScope>> {
    let bound = access::graphql::caller(ctx)?.tenant();
    match (id, bound) {
        (Some(id), _) => enter(ctx, type_name, id).await.map(Some),
        (None, Some(bound)) => enter(ctx, type_name, &bound.into()).await.map(Some),
        (None, None) => Ok(None),
    }
}

/// Enters the platform itself, for what the present field of `type_name` asks.
pub fn enter_platform(ctx: &Context<'_>, type_name: &str) -> Result<OperatorScope> {
    OperatorScope::enter(&access::graphql::caller(ctx)?, access::graphql::permission_here(ctx, type_name)?)
}

/// What the client demands before its change is made: `expectedVersion` of the input, `Idempotency-Key` of the request.
pub fn conditions(ctx: &Context<'_>, expected_version: Option<i64>) -> Conditions {
    let idempotency = ctx.data_opt::<IdempotencyKey>().map(|key| {
        let place = ctx.path_node.as_ref().map(ToString::to_string).unwrap_or_default();
        IdempotencyKey { key: format!("{}#{place}", key.key), ..key.clone() }
    });
    Conditions { expected_version, idempotency }
}

pub fn handle<'a>(ctx: &Context<'a>) -> Result<&'a Tenancy> {
    ctx.data_opt::<Tenancy>().ok_or_else(|| Error::internal("the schema has no tenancy"))
}
