//! The part of the schema that is about flags.

mod definition;
mod evaluation;
mod input;

use std::sync::Arc;

use async_graphql::{Context, ID, Json, Object, Result, SimpleObject};
use serde_json::{Map, Value};

pub(super) use self::evaluation::{rule_name, segment_name};
pub use self::{
    definition::{FlagObject, FlagSegment},
    evaluation::{FlagChangeRequest, FlagEvaluation, FlagEvaluations, FlagSetting},
    input::{
        ArchiveFlagInput, DefineFlagInput, DefineSegmentInput, FlagChangeInput, RemoveSegmentInput, SetFlagInput,
        UpdateFlagInput,
    },
};
use super::{Answer, Archive, ChangeStatus, Definitions, Flag, Flags, Outcome, Settings, View};
use crate::{
    access,
    error::Error,
    grants::Held,
    platform::ids::FlagChangeId,
    tenancy::{
        self, TenantView,
        graphql::{conditions, enter_own_or, enter_platform},
    },
};

/// Bytes of JSON of one evaluation context.
pub(super) const CONTEXT_BYTES: usize = 64 * 1024;
/// Keys that one request may name.
const MAX_KEYS: usize = 1_000;

/// A flag after a change.
#[derive(Debug, SimpleObject)]
pub struct FlagPayload {
    flag: FlagObject,
}

/// A segment after a change.
#[derive(Debug, SimpleObject)]
pub struct FlagSegmentPayload {
    segment: FlagSegment,
}

#[derive(Debug, SimpleObject)]
pub struct RemoveSegmentPayload {
    key: String,
}

/// What came of it: one of the two.
#[derive(Debug, SimpleObject)]
pub struct SetFlagPayload {
    /// The tenant's value as it is now.
    setting: Option<FlagSetting>,
    /// Where the flag needs a second person: what waits for one. Nothing is set yet.
    change_request: Option<FlagChangeRequest>,
}

/// A request after it was decided.
#[derive(Debug, SimpleObject)]
pub struct FlagChangePayload {
    change_request: FlagChangeRequest,
    /// The tenant's value, where it was approved.
    setting: Option<FlagSetting>,
}

#[derive(Debug, Default)]
pub struct FlagQuery;

#[Object]
impl FlagQuery {
    /// Definitions of flags, in the order of their keys.
    ///
    /// Scope: `auth:flag:read`.
    async fn flags(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only these; all where none are named.")] keys: Option<Vec<String>>,
        #[graphql(default, desc = "With those that are archived.")] include_archived: bool,
        #[graphql(default, desc = "Only temporary ones that are past their date.")] only_stale: bool,
    ) -> Result<Vec<FlagObject>> {
        check_keys(keys.as_deref())?;
        let flags = handle(ctx)?;
        let (catalogue, now) = (flags.definitions().await?, flags.now());
        let known = catalogue.part::<Definitions>()?;
        let wanted = |flag: &&Flag| {
            keys.as_ref().is_none_or(|keys| keys.contains(&flag.key)) && (!only_stale || flag.stale(now))
        };
        let archived = known.archived.iter().filter(|_| include_archived);
        let found = known.flags.iter().chain(archived).filter(wanted);
        let mut found: Vec<_> = found.map(|flag| FlagObject { flag: flag.clone(), now }).collect();
        found.sort_by(|a, b| a.flag.key.cmp(&b.flag.key));
        Ok(found)
    }

    /// What flags are for a tenant and an evaluation context, decided from memory; without a tenant the one that the token is
    /// bound to. A key that names no flag is answered with the reason ERROR.
    ///
    /// Scope: `auth:flag:read`.
    async fn evaluate_flags(
        &self,
        ctx: &Context<'_>,
        tenant_id: Option<ID>,
        #[graphql(desc = "All where none are named.")] keys: Option<Vec<String>>,
        #[graphql(desc = "OpenFeature's evaluation context: an object, such as {\"targetingKey\": \"user-1\"}.")]
        context: Option<Json<Value>>,
    ) -> Result<FlagEvaluations> {
        let scope = enter_own_or(ctx, "Query", tenant_id.as_ref()).await?;
        let scope =
            scope.ok_or_else(|| Error::invalid("tenantId", "is needed: an operator's token is bound to no tenant"))?;
        let context = match context {
            None | Some(Json(Value::Null)) => Map::new(),
            Some(Json(Value::Object(context))) => context,
            Some(_) => return Err(Error::invalid("context", "must be an object").into()),
        };
        if serde_json::to_vec(&context).is_ok_and(|json| json.len() > CONTEXT_BYTES) {
            return Err(Error::invalid("context", format!("has more than {CONTEXT_BYTES} bytes of JSON")).into());
        }
        let view = Arc::new(handle(ctx)?.view(scope.tenant()).await?);
        Ok(FlagEvaluations { version: view.version(), flags: evaluate(&view, keys, &context)? })
    }

    /// Segments that rules may name, in the order of their keys.
    ///
    /// Scope: `auth:flag:read`, operators only.
    async fn flag_segments(&self, ctx: &Context<'_>) -> Result<Vec<FlagSegment>> {
        let catalogue = handle(ctx)?.definitions().await?;
        Ok(catalogue.part::<Definitions>()?.segments.iter().map(FlagSegment::from).collect())
    }

    /// Changes that wait for a second person, and what was said to them, the newest 200; without a tenant those of the one that the
    /// token is bound to, and for operators of all.
    ///
    /// Scope: `auth:flag:read`.
    async fn flag_change_requests(
        &self,
        ctx: &Context<'_>,
        tenant_id: Option<ID>,
        status: Option<ChangeStatus>,
    ) -> Result<Vec<FlagChangeRequest>> {
        let flags = handle(ctx)?;
        let found = match enter_own_or(ctx, "Query", tenant_id.as_ref()).await? {
            Some(scope) => flags.requests(&scope, status).await?,
            None => flags.all_requests(&enter_platform(ctx, "Query")?, status).await?,
        };
        Ok(found.into_iter().map(FlagChangeRequest::from).collect())
    }
}

#[derive(Debug, Default)]
pub struct FlagMutation;

#[Object]
impl FlagMutation {
    /// Adds a flag.
    ///
    /// Errors: `invalid_input` with the member and its rule; `conflict` where there is, or was, one with this key.
    ///
    /// Scope: `auth:flag:write`, operators only.
    async fn define_flag(&self, ctx: &Context<'_>, input: DefineFlagInput) -> Result<FlagPayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let flag = handle(ctx)?.define(&scope, input.try_into()?, &conditions(ctx, None)).await?;
        payload(ctx, flag)
    }

    /// Changes a flag's definition; every tenant is answered by it within a second. `enabled: false` is the kill switch.
    ///
    /// Scope: `auth:flag:write`, operators only.
    async fn update_flag(&self, ctx: &Context<'_>, input: UpdateFlagInput) -> Result<FlagPayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let (key, conditions) = (input.key.clone(), conditions(ctx, input.expected_version));
        let flag = handle(ctx)?.update(&scope, &key, &conditions, |flag| input.apply(flag)).await?;
        payload(ctx, flag)
    }

    /// Takes a flag out of use, or brings it back: an archived flag is found by nobody who asks what it is. `conflict`
    /// while it is a prerequisite of another.
    ///
    /// Scope: `auth:flag:write`, operators only.
    async fn archive_flag(&self, ctx: &Context<'_>, input: ArchiveFlagInput) -> Result<FlagPayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let archive = if input.archived { Archive::Archive } else { Archive::Restore };
        let conditions = conditions(ctx, input.expected_version);
        let flag = handle(ctx)?.archive(&scope, &input.key, archive, &conditions).await?;
        payload(ctx, flag)
    }

    /// Makes a segment, or replaces it.
    ///
    /// Scope: `auth:flag:write`, operators only.
    async fn define_segment(&self, ctx: &Context<'_>, input: DefineSegmentInput) -> Result<FlagSegmentPayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let conditions = conditions(ctx, input.expected_version);
        let segment = handle(ctx)?.define_segment(&scope, input.try_into()?, &conditions).await?;
        Ok(FlagSegmentPayload { segment: FlagSegment::from(&segment) })
    }

    /// Removes a segment; `conflict` while a rule names it.
    ///
    /// Scope: `auth:flag:write`, operators only.
    async fn remove_segment(&self, ctx: &Context<'_>, input: RemoveSegmentInput) -> Result<RemoveSegmentPayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let conditions = conditions(ctx, input.expected_version);
        let key = handle(ctx)?.remove_segment(&scope, &input.key, &conditions).await?;
        Ok(RemoveSegmentPayload { key })
    }

    /// Sets a tenant's own value, or takes it back. A flag with `approval: REQUIRED` gets a change request instead. A tenant's
    /// own services may set what is not `operatorOnly`.
    ///
    /// Errors: `invalid_input` with the member and its rule; `feature_not_in_plan`; `forbidden` for what operators set;
    /// `conflict` while another change waits for an answer.
    ///
    /// Scope: `auth:flag:write`.
    async fn set_flag(&self, ctx: &Context<'_>, input: SetFlagInput) -> Result<SetFlagPayload> {
        let scope = enter_own_or(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let scope =
            scope.ok_or_else(|| Error::invalid("tenantId", "is needed: an operator's token is bound to no tenant"))?;
        let conditions = conditions(ctx, input.expected_version);
        Ok(match handle(ctx)?.set(&scope, input.try_into()?, &conditions).await? {
            Outcome::Set(setting) => SetFlagPayload { setting: Some(setting.into()), change_request: None },
            Outcome::Requested(request) => SetFlagPayload { setting: None, change_request: Some(request.into()) },
        })
    }

    /// Sets what another person asked for. `forbidden` for who asked; `conflict` where the value has changed since.
    ///
    /// Scope: `auth:flag:write`, operators only.
    async fn approve_flag_change(&self, ctx: &Context<'_>, input: FlagChangeInput) -> Result<FlagChangePayload> {
        answer(ctx, input, ChangeStatus::Approved).await
    }

    /// Sets nothing of what was asked for; who asked withdraws it so.
    ///
    /// Scope: `auth:flag:write`, operators only.
    async fn reject_flag_change(&self, ctx: &Context<'_>, input: FlagChangeInput) -> Result<FlagChangePayload> {
        answer(ctx, input, ChangeStatus::Rejected).await
    }
}

/// What flags are for a tenant.
#[derive(Clone, Debug)]
pub struct TenantFlags(pub TenantView);

#[Object]
impl TenantFlags {
    /// What flags are for it where no evaluation context is given, decided from memory, in the order of their keys.
    ///
    /// Scope: `auth:flag:read`.
    async fn flags(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "All where none are named.")] keys: Option<Vec<String>>,
    ) -> Result<Vec<FlagEvaluation>> {
        let (caller, permission) = (access::graphql::caller(ctx)?, access::graphql::permission_here(ctx, "Tenant")?);
        let scope = tenancy::graphql::handle(ctx)?.enter(&caller, self.0.id(), permission).await?;
        let view = match self.0.page() {
            None => Box::pin(handle(ctx)?.view(scope.tenant())).await?,
            Some(_) => {
                let (tenancy, platform) = (tenancy::graphql::handle(ctx)?, enter_platform(ctx, "Tenant")?);
                let known = Box::pin(self.0.snapshot::<(Settings, Held)>(tenancy, &platform)).await?;
                Box::pin(handle(ctx)?.view_of(known)).await?
            }
        };
        Ok(evaluate(&Arc::new(view), keys, &Map::new())?)
    }
}

fn evaluate(
    view: &Arc<View>,
    keys: Option<Vec<String>>,
    context: &Map<String, Value>,
) -> Result<Vec<FlagEvaluation>, Error> {
    let answer = |found| FlagEvaluation { view: view.clone(), found };
    let known = |(place, verdict)| answer(evaluation::Found::Flag(place, verdict));
    check_keys(keys.as_deref())?;
    let Some(keys) = keys else { return Ok(view.evaluate_all(context)?.into_iter().map(known).collect()) };
    let one = |key: String| match view.evaluate(&key, context)? {
        Some(found) => Ok(known(found)),
        None => Ok(answer(evaluation::Found::Unknown(key))),
    };
    keys.into_iter().map(one).collect()
}

fn check_keys(keys: Option<&[String]>) -> Result<(), Error> {
    match keys.map_or(0, <[String]>::len) {
        count if count > MAX_KEYS => {
            Err(Error::invalid("keys", format!("are {count}; at most {MAX_KEYS} are answered")))
        }
        _ => Ok(()),
    }
}

async fn answer(ctx: &Context<'_>, input: FlagChangeInput, status: ChangeStatus) -> Result<FlagChangePayload> {
    let scope = enter_platform(ctx, "Mutation")?;
    let request: FlagChangeId = input.id.parse().map_err(|_| Error::not_found())?;
    let conditions = conditions(ctx, input.expected_version);
    let said = Answer { request, status, note: input.note };
    let (request, setting) = handle(ctx)?.answer(&scope, said, &conditions).await?;
    Ok(FlagChangePayload { change_request: request.into(), setting: setting.map(Into::into) })
}

fn payload(ctx: &Context<'_>, flag: Flag) -> Result<FlagPayload> {
    Ok(FlagPayload { flag: FlagObject { flag, now: handle(ctx)?.now() } })
}

fn handle<'a>(ctx: &Context<'a>) -> Result<&'a Flags, Error> {
    ctx.data_opt::<Flags>().ok_or_else(|| Error::internal("the schema has no flags"))
}
