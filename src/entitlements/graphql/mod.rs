//! Entitlements' part of the schema.

mod input;
mod object;

use async_graphql::{Context, ID, Object, Result};
use serde_json::{Map, Value as Json};

use self::{
    input::{
        DefineResourceInput, DefineResourceKindInput, EntitlementInput, ExplainAccessInput, GrantEntitlementInput,
        RevokeGrantInput, SetAllowListInput, SetPlanAllowListInput,
    },
    object::{
        AccessExplanation, AllowListPayload, EntitlementGrant, EntitlementObject, GrantPayload, PlanAllowListPayload,
        ResourceKindObject, ResourceKindPayload, ResourcePayload,
    },
};
use super::{Entitlements, NewGrant, NewTenantList, Resources};
use crate::{
    error::Error,
    grants::Kind,
    isolation::TenantScope,
    platform::ids::GrantId,
    tenancy::graphql::{conditions, enter, enter_own_or, enter_platform},
};

/// Bytes of JSON of one evaluation context.
const CONTEXT_BYTES: usize = 64 * 1024;

#[derive(Debug, Default)]
pub struct EntitlementQuery;

#[Object]
impl EntitlementQuery {
    /// May the tenant do that, how much of it is left, and what that follows from. Decided from memory; of a quota, its counter is
    /// read.
    ///
    /// Errors: `invalid_input` for a quota or a resource that no catalogue has.
    ///
    /// Scope: `auth:entitlement:read`.
    async fn entitlement(&self, ctx: &Context<'_>, input: EntitlementInput) -> Result<EntitlementObject> {
        let scope = own_or(ctx, "Query", input.tenant_id.as_ref()).await?;
        let found = handle(ctx)?.entitlement(&scope, input.kind, &input.key, input.amount).await?;
        Ok(EntitlementObject(found))
    }

    /// Everything that the tenant may do and may not: features that plans have or it was given, quotas and resources of the
    /// catalogues, each in the order of its key.
    ///
    /// Scope: `auth:entitlement:read`.
    async fn entitlements(
        &self,
        ctx: &Context<'_>,
        tenant_id: Option<ID>,
        #[graphql(desc = "All kinds where none is named.")] kind: Option<Kind>,
    ) -> Result<Vec<EntitlementObject>> {
        let scope = own_or(ctx, "Query", tenant_id.as_ref()).await?;
        Ok(handle(ctx)?.entitlements(&scope, kind).await?.into_iter().map(EntitlementObject).collect())
    }

    /// What the tenant was given beside its plan, and what has ended of it: the newest 200. How much is burnt of one, without
    /// what the present period has not settled, is shown by `entitlement`.
    ///
    /// Scope: `auth:entitlement:read`.
    async fn entitlement_grants(&self, ctx: &Context<'_>, tenant_id: Option<ID>) -> Result<Vec<EntitlementGrant>> {
        let scope = own_or(ctx, "Query", tenant_id.as_ref()).await?;
        let (found, operator) = (handle(ctx)?.grants(&scope).await?, scope.caller().is_platform());
        Ok(found.into_iter().map(|grant| EntitlementGrant::new(grant, None, operator)).collect())
    }

    /// Why a tenant may do something, or not: the chain that led to it, in the order in which it was looked at, with value, actor, time
    /// and journal entry of each link. Services are shown no names of operators, and of what the platform has set only when.
    ///
    /// Errors: `invalid_input` for what no catalogue has.
    ///
    /// Scope: `auth:entitlement:read`.
    async fn explain_access(&self, ctx: &Context<'_>, input: ExplainAccessInput) -> Result<AccessExplanation> {
        let scope = own_or(ctx, "Query", input.tenant_id.as_ref()).await?;
        let context = match input.context {
            None => Map::new(),
            Some(async_graphql::Json(Json::Object(context))) => context,
            Some(_) => return Err(Error::invalid("context", "must be an object").into()),
        };
        if serde_json::to_vec(&context).is_ok_and(|json| json.len() > CONTEXT_BYTES) {
            return Err(Error::invalid("context", format!("has more than {CONTEXT_BYTES} bytes of JSON")).into());
        }
        Ok(handle(ctx)?.explain(&scope, input.subject, &input.key, &context).await?.into())
    }

    /// What can be allowed tenant by tenant, in the order of the keys.
    ///
    /// Scope: `auth:entitlement:read`.
    async fn resource_kinds(&self, ctx: &Context<'_>) -> Result<Vec<ResourceKindObject>> {
        let catalogue = handle(ctx)?.catalogue().await?;
        let kinds = &catalogue.part::<Resources>()?.kinds;
        Ok((0..kinds.len()).map(|place| ResourceKindObject { catalogue: catalogue.clone(), place }).collect())
    }
}

#[derive(Debug, Default)]
pub struct EntitlementMutation;

#[Object]
impl EntitlementMutation {
    /// Gives a tenant something beside its plan: so much more of a quota, a feature, or a resource. Of a quota that is counted in
    /// periods, what is used above the limit burns grants: the lowest priority first, then what expires earlier, then what is
    /// older; what is burnt is not there again in the next period. Of all others it counts while it lasts.
    ///
    /// Errors: `invalid_input` with the field and its rule.
    ///
    /// Scope: `auth:limit:write`, operators only.
    async fn grant_entitlement(&self, ctx: &Context<'_>, input: GrantEntitlementInput) -> Result<GrantPayload> {
        let scope = enter(ctx, "Mutation", &input.tenant_id).await?;
        let new = NewGrant::from(input);
        let grant = handle(ctx)?.grant(&scope, new, &conditions(ctx, None)).await?;
        Ok(GrantPayload { grant: EntitlementGrant::new(grant, None, true) })
    }

    /// Ends a grant before its time. What was used of it stays used.
    ///
    /// Scope: `auth:limit:write`, operators only.
    async fn revoke_grant(&self, ctx: &Context<'_>, input: RevokeGrantInput) -> Result<GrantPayload> {
        let scope = enter(ctx, "Mutation", &input.tenant_id).await?;
        // An id that no grant has is not there, whatever it looks like.
        let id: GrantId = input.grant_id.parse().map_err(|_| Error::not_found())?;
        let grant = handle(ctx)?.revoke(&scope, id, &conditions(ctx, input.expected_version)).await?;
        Ok(GrantPayload { grant: EntitlementGrant::new(grant, None, true) })
    }

    /// Says what a tenant may use of a kind of resources beside its plan, and what it may not although its plan has it. It replaces
    /// what was said before.
    ///
    /// Scope: `auth:limit:write`, operators only.
    async fn set_allow_list(&self, ctx: &Context<'_>, input: SetAllowListInput) -> Result<AllowListPayload> {
        let scope = enter(ctx, "Mutation", &input.tenant_id).await?;
        let conditions = conditions(ctx, input.expected_version);
        let new =
            NewTenantList { kind: input.resource_kind, added: input.add, removed: input.remove, reason: input.reason };
        Ok(AllowListPayload { allow_list: handle(ctx)?.set_list(&scope, new, &conditions).await?.into() })
    }

    /// Says what the tenants of a plan may use of a kind of resources. It replaces what was said before.
    ///
    /// Scope: `auth:plan:write`, operators only.
    async fn set_plan_allow_list(
        &self,
        ctx: &Context<'_>,
        input: SetPlanAllowListInput,
    ) -> Result<PlanAllowListPayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let conditions = conditions(ctx, input.expected_version);
        let list = handle(ctx)?.set_plan_list(&scope, input.into(), &conditions).await?;
        Ok(PlanAllowListPayload { allow_list: (&list).into() })
    }

    /// Adds a kind of resources to the catalogue, or changes it.
    ///
    /// Scope: `auth:plan:write`, operators only.
    async fn define_resource_kind(
        &self,
        ctx: &Context<'_>,
        input: DefineResourceKindInput,
    ) -> Result<ResourceKindPayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let conditions = conditions(ctx, input.expected_version);
        let kind = handle(ctx)?.define_kind(&scope, input.into(), &conditions).await?;
        Ok(ResourceKindPayload { key: kind.key, version: kind.version })
    }

    /// Adds a resource to the catalogue, or changes it; a retired one is allowed to nobody.
    ///
    /// Scope: `auth:plan:write`, operators only.
    async fn define_resource(&self, ctx: &Context<'_>, input: DefineResourceInput) -> Result<ResourcePayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let conditions = conditions(ctx, input.expected_version);
        let resource = handle(ctx)?.define_resource(&scope, input.into(), &conditions).await?;
        Ok(ResourcePayload { resource: (&resource).into() })
    }
}

/// The tenant that an argument names, else the one that the token is bound to.
async fn own_or(ctx: &Context<'_>, type_name: &str, tenant: Option<&ID>) -> Result<TenantScope, Error> {
    let scope = enter_own_or(ctx, type_name, tenant).await?;
    scope.ok_or_else(|| Error::invalid("tenantId", "is needed: an operator's token is bound to no tenant"))
}

fn handle<'a>(ctx: &Context<'a>) -> Result<&'a Entitlements, Error> {
    ctx.data_opt::<Entitlements>().ok_or_else(|| Error::internal("the schema has no entitlements"))
}
