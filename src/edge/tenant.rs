//! The hub of the graph: `Tenant` merges one small object per capability, so that capabilities do not know each other. Root
//! fields that answer with a `Tenant` are here, too.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, InputObject, Json, MergedObject, Object, Result, SimpleObject};
use serde_json::Value;

use crate::{
    audit::graphql::TenantAudit,
    cells::graphql::TenantPlacement,
    error::Error,
    flags::graphql::TenantFlags,
    health::graphql::TenantHealth,
    isolation::OperatorScope,
    moves::graphql::TenantMove,
    oauth::graphql::TenantClients,
    platform::{
        ids::TenantId,
        page::{LargestPage, PageInfo, PageRequest},
    },
    probes::graphql::TenantAttestation,
    provisioning::graphql::TenantLayers,
    quotas::graphql::TenantQuotas,
    templates::graphql::TenantSchema,
    tenancy::{
        self, Deletion, Fit, NewParent, NewTenant, TenantFilter, TenantOrder, TenantView,
        declaration::{Declaration, Difference, DocumentFormat, DryRun},
        graphql::{
            ChangePlanInput, CreatePlanInput, CreateTenantInput, DeleteTenantInput, PlanObject, SetParentTenantInput,
            SuspendTenantInput, TenantActionInput, TenantCore, TenantPartners, TenantPlan, UpdatePlanInput,
            UpdateTenantInput, conditions, enter, enter_own_or, enter_platform, handle,
        },
    },
    tenant_keys::graphql::TenantEncryption,
};

/// A customer of the platform: what it is, what state it is in, and by later capabilities what it has.
#[derive(Clone, Debug, MergedObject)]
#[graphql(name = "Tenant")]
pub struct TenantObject(
    TenantCore,
    TenantPlan,
    TenantAudit,
    TenantClients,
    TenantHealth,
    TenantQuotas,
    TenantFlags,
    TenantOutside,
);

/// Who reaches a tenant from outside, where it is, what it has there, and the key of it.
#[derive(Clone, Debug, MergedObject)]
pub struct TenantOutside(
    TenantPartners,
    TenantPlacement,
    TenantLayers,
    TenantEncryption,
    TenantSchema,
    TenantMove,
    TenantAttestation,
);

impl From<TenantView> for TenantObject {
    fn from(tenant: TenantView) -> Self {
        Self(
            TenantCore(tenant.clone()),
            TenantPlan(tenant.clone()),
            TenantAudit(tenant.clone()),
            TenantClients(tenant.clone()),
            TenantHealth(tenant.clone()),
            TenantQuotas(tenant.clone()),
            TenantFlags(tenant.clone()),
            TenantOutside(
                TenantPartners(tenant.clone()),
                TenantPlacement(tenant.clone()),
                TenantLayers(tenant.clone()),
                TenantEncryption(tenant.clone()),
                TenantSchema(tenant.clone()),
                TenantMove(tenant.clone()),
                TenantAttestation(tenant),
            ),
        )
    }
}

impl From<Arc<tenancy::Tenant>> for TenantObject {
    fn from(tenant: Arc<tenancy::Tenant>) -> Self {
        TenantView::from(tenant).into()
    }
}

/// One page of tenants.
#[derive(Debug, SimpleObject)]
pub struct TenantConnection {
    edges: Vec<TenantEdge>,
    page_info: PageInfo,
}

#[derive(Debug, SimpleObject)]
pub struct TenantEdge {
    cursor: String,
    node: TenantObject,
}

/// The tenant after a change.
#[derive(Debug, SimpleObject)]
pub struct TenantPayload {
    tenant: TenantObject,
}

/// A plan after a change.
#[derive(Debug, SimpleObject)]
pub struct PlanPayload {
    plan: PlanObject,
}

#[derive(Debug, InputObject)]
pub struct ApplyTenantInput {
    /// The tenant file.
    document: String,
    #[graphql(default_with = "DocumentFormat::Yaml")]
    format: DocumentFormat,
    /// Only tells what would be done.
    #[graphql(default)]
    dry_run: bool,
}

/// What applying a tenant file did, or would do.
#[derive(Debug, SimpleObject)]
pub struct ApplyTenantPayload {
    /// Null in a dry run of a tenant that is not there yet.
    tenant: Option<TenantObject>,
    /// Whether the tenant was made.
    created: bool,
    /// What the file says differently; empty where nothing had to be done.
    differences: Vec<Difference>,
}

#[derive(Debug, InputObject)]
pub struct RegisterSettingsSchemaInput {
    /// Section of a tenant file: `integrations`, `settings` …
    section: String,
    /// A JSON Schema; null drops the present one.
    schema: Option<Json<Value>>,
    /// The version that you saw last, 0 for none: `conflict` if there is another.
    expected_version: Option<i64>,
}

/// A registered JSON Schema.
#[derive(Debug, SimpleObject)]
pub struct RegisterSettingsSchemaPayload {
    section: String,
    version: i64,
}

/// Who sent the request.
#[derive(Debug, SimpleObject)]
pub struct Viewer {
    /// `sub` of the token.
    subject: String,
    kind: ViewerKind,
    /// Scopes that the token is good for here.
    scopes: Vec<String>,
    /// Operator roles.
    roles: Vec<String>,
    /// The tenant that the token is bound to.
    tenant_id: Option<ID>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum ViewerKind {
    /// A person or service of the platform.
    Operator,
    /// A service of one tenant.
    Service,
    /// A person who belongs to one tenant, in a session.
    Member,
    /// An operator inside one tenant, by an impersonation; the subject is its id.
    Impersonator,
}

fn viewer_kind(binding: &crate::access::Binding) -> ViewerKind {
    match binding {
        crate::access::Binding::Member { .. } => ViewerKind::Member,
        crate::access::Binding::Tenant { .. } | crate::access::Binding::Partner { .. } => ViewerKind::Service,
        crate::access::Binding::Impersonation { .. } => ViewerKind::Impersonator,
        // Without a token nobody gets here.
        _ => ViewerKind::Operator,
    }
}

#[derive(Debug, Default)]
pub struct TenantQuery;

#[Object]
impl TenantQuery {
    /// One tenant: by id or, for operators, by slug; without either the one that the token is bound to. Null where there is
    /// none that you may see.
    ///
    /// Scope: `auth:tenant:read`.
    async fn tenant(&self, ctx: &Context<'_>, id: Option<ID>, slug: Option<String>) -> Result<Option<TenantObject>> {
        let id = match slug {
            None => id,
            Some(_) if id.is_some() => return Err(Error::invalid("slug", "cannot be given beside `id`").into()),
            Some(slug) => match find_by_slug(ctx, &slug).await? {
                Some(id) => Some(id.into()),
                None => return Ok(None),
            },
        };
        let found = async {
            let scope = enter_own_or(ctx, "Query", id.as_ref()).await?;
            let scope = scope.ok_or_else(|| {
                Error::invalid("id", "is needed, or `slug`: an operator's token is bound to no tenant")
            })?;
            handle(ctx)?.get(&scope).await
        };
        match found.await {
            Ok(tenant) => Ok(Some(tenant.into())),
            Err(error) if error.kind() == crate::error::Kind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Tenants by filter, in order, page by page.
    ///
    /// Scope: `auth:tenant:read`, operators only.
    async fn tenants(
        &self,
        ctx: &Context<'_>,
        filter: Option<TenantFilter>,
        #[graphql(default)] order: TenantOrder,
        #[graphql(default = 25, desc = "At most 100.")] first: i32,
        #[graphql(desc = "Cursor of the last tenant of the page before.")] after: Option<String>,
    ) -> Result<TenantConnection> {
        let scope = enter_platform(ctx, "Query")?;
        let request = PageRequest::new(Some(first), after, ctx.data::<LargestPage>()?.0)?;
        let page = handle(ctx)?.list(&scope, &filter.unwrap_or_default(), order, &request).await?;
        let cursors: Vec<_> = page.items.iter().map(|tenant| tenancy::cursor(tenant, order)).collect();
        let page_info = PageInfo::new(&page, &cursors);
        let nodes = TenantView::of_page(handle(ctx)?, &scope, page.items).into_iter().map(TenantObject::from);
        let edges = cursors.into_iter().zip(nodes).map(|(cursor, node)| TenantEdge { cursor, node }).collect();
        Ok(TenantConnection { edges, page_info })
    }

    /// What is sold.
    ///
    /// Scope: `auth:plan:read`.
    async fn plans(&self, ctx: &Context<'_>) -> Result<Vec<PlanObject>> {
        Ok(handle(ctx)?.plans().await?.into_iter().map(PlanObject).collect())
    }

    /// A tenant as a file that `applyTenant` takes; without an id the one that the token is bound to.
    ///
    /// Scope: `auth:tenant:read`.
    async fn export_tenant(
        &self,
        ctx: &Context<'_>,
        id: Option<ID>,
        #[graphql(default_with = "DocumentFormat::Yaml")] format: DocumentFormat,
    ) -> Result<String> {
        let scope = enter_own_or(ctx, "Query", id.as_ref()).await?.ok_or_else(|| Error::invalid("id", "is needed"))?;
        Ok(Declaration::export(&*handle(ctx)?.get(&scope).await?, format)?)
    }

    /// Who you are, as your token says. Any valid token.
    async fn viewer(&self, ctx: &Context<'_>) -> Result<Viewer> {
        let caller = crate::access::graphql::caller(ctx)?;
        let roles = match &caller.binding {
            crate::access::Binding::Platform { roles, .. } => roles.iter().map(|role| role.name().to_owned()).collect(),
            _ => Vec::new(),
        };
        Ok(Viewer {
            subject: caller.subject.clone(),
            kind: viewer_kind(&caller.binding),
            scopes: caller.scopes.iter().map(|scope| scope.name().to_owned()).collect(),
            roles,
            tenant_id: caller.tenant().map(Into::into),
        })
    }
}

/// The id behind a slug. A service of a tenant may name its own; any other is as good as none.
async fn find_by_slug(ctx: &Context<'_>, slug: &str) -> Result<Option<TenantId>, Error> {
    let caller = crate::access::graphql::caller(ctx)?;
    if caller.is_platform() {
        return handle(ctx)?.find_by_slug(&enter_platform(ctx, "Query")?, slug).await;
    }
    let Some(scope) = enter_own_or(ctx, "Query", None).await? else { return Ok(None) };
    let own = handle(ctx)?.get(&scope).await?;
    Ok((own.slug == slug).then_some(own.id))
}

#[derive(Debug, Default)]
pub struct TenantMutation;

#[Object]
impl TenantMutation {
    /// Makes a tenant. It is CREATED until `activateTenant`, or ACTIVE at once where the server is configured so.
    ///
    /// Errors: `invalid_input` with the field and its rule, `conflict` where slug or external id are taken.
    ///
    /// Scope: `auth:tenant:write`, operators only.
    async fn create_tenant(&self, ctx: &Context<'_>, input: CreateTenantInput) -> Result<TenantPayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let tenant = handle(ctx)?.create(&scope, NewTenant::try_from(input)?, &conditions(ctx, None)).await?;
        Ok(TenantPayload { tenant: tenant.into() })
    }

    /// Changes a tenant's name, profile and labels; operators also change slug, region, tier, SLA and free sections.
    ///
    /// Scope: `auth:tenant:write`.
    async fn update_tenant(&self, ctx: &Context<'_>, input: UpdateTenantInput) -> Result<TenantPayload> {
        let scope = enter(ctx, "Mutation", &input.id).await?;
        let conditions = conditions(ctx, input.expected_version);
        let tenant = handle(ctx)?.update(&scope, input.try_into()?, &conditions).await?;
        Ok(TenantPayload { tenant: tenant.into() })
    }

    /// Puts a tenant on another plan, whose features and limits hold from then on. A plan that what the tenant has does not
    /// fit is refused, unless it is forced: then the tenant keeps what it has, is shown as over its limits, and cannot grow.
    ///
    /// Errors: `quota_exceeded` with `inTheWay`, a list of quotas with `limit`, `used` and `reserved`.
    ///
    /// Scope: `auth:tenant:write`, operators only.
    async fn change_plan(&self, ctx: &Context<'_>, input: ChangePlanInput) -> Result<TenantPayload> {
        let scope = enter(ctx, "Mutation", &input.id).await?;
        let fit = if input.force { Fit::Whatever } else { Fit::Needed };
        let conditions = conditions(ctx, input.expected_version);
        let tenant = handle(ctx)?.change_plan(&scope, &input.plan, fit, &conditions).await?;
        Ok(TenantPayload { tenant: tenant.into() })
    }

    /// Puts a tenant under another one, or under none. A tree is at most `tenancy.max_hierarchy_depth` levels deep.
    ///
    /// Errors: `invalid_input` where that would close a circle, or make the tree too deep.
    ///
    /// Scope: `auth:tenant:write`, operators only.
    async fn set_parent_tenant(&self, ctx: &Context<'_>, input: SetParentTenantInput) -> Result<TenantPayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let (child, conditions) = (TenantId::parse(&input.id)?, conditions(ctx, input.expected_version));
        let wanted = match &input.parent_id {
            None => None,
            Some(parent) => {
                let parent = TenantId::parse(parent)?;
                Some(NewParent { parent, barrier: input.barrier, rolls_up: input.rolls_up })
            }
        };
        let tenant = handle(ctx)?.set_parent(&scope, child, wanted, &conditions).await?;
        Ok(TenantPayload { tenant: Arc::new(tenant).into() })
    }

    /// Makes or changes the tenant that a file names. What the file leaves out stays as it is; applying it again does nothing.
    ///
    /// Scope: `auth:tenant:write`, operators only.
    async fn apply_tenant(&self, ctx: &Context<'_>, input: ApplyTenantInput) -> Result<ApplyTenantPayload> {
        let scope: OperatorScope = enter_platform(ctx, "Mutation")?;
        let declaration = Declaration::parse(&input.document, input.format)?;
        let dry_run = if input.dry_run { DryRun::Yes } else { DryRun::No };
        let applied = handle(ctx)?.apply(&scope, declaration, dry_run, &conditions(ctx, None)).await?;
        Ok(ApplyTenantPayload {
            tenant: applied.tenant.map(Into::into),
            created: applied.created,
            differences: applied.differences,
        })
    }

    /// CREATED → ACTIVE.
    ///
    /// Errors: `invalid_transition` with the present state and the allowed ones, like all steps below.
    ///
    /// Scope: `auth:lifecycle:write`, operators only.
    async fn activate_tenant(&self, ctx: &Context<'_>, input: TenantActionInput) -> Result<TenantPayload> {
        let scope = enter(ctx, "Mutation", &input.id).await?;
        let tenant = handle(ctx)?.activate(&scope, &conditions(ctx, input.expected_version)).await?;
        Ok(TenantPayload { tenant: tenant.into() })
    }

    /// ACTIVE → SUSPENDED, at once or at a time. A graceful suspension can be made hard.
    ///
    /// Scope: `auth:lifecycle:write`, operators only.
    async fn suspend_tenant(&self, ctx: &Context<'_>, input: SuspendTenantInput) -> Result<TenantPayload> {
        let scope = enter(ctx, "Mutation", &input.id).await?;
        let conditions = conditions(ctx, input.expected_version);
        let tenant = handle(ctx)?.suspend(&scope, input.into(), &conditions).await?;
        Ok(TenantPayload { tenant: tenant.into() })
    }

    /// SUSPENDED → ACTIVE; also drops a suspension that is planned.
    ///
    /// Scope: `auth:lifecycle:write`, operators only.
    async fn resume_tenant(&self, ctx: &Context<'_>, input: TenantActionInput) -> Result<TenantPayload> {
        let scope = enter(ctx, "Mutation", &input.id).await?;
        let tenant = handle(ctx)?.resume(&scope, &conditions(ctx, input.expected_version)).await?;
        Ok(TenantPayload { tenant: tenant.into() })
    }

    /// ACTIVE or SUSPENDED → ARCHIVED: no access for the tenant, its data kept.
    ///
    /// Scope: `auth:lifecycle:write`, operators only.
    async fn archive_tenant(&self, ctx: &Context<'_>, input: TenantActionInput) -> Result<TenantPayload> {
        let scope = enter(ctx, "Mutation", &input.id).await?;
        let tenant = handle(ctx)?.archive(&scope, &conditions(ctx, input.expected_version)).await?;
        Ok(TenantPayload { tenant: tenant.into() })
    }

    /// ARCHIVED → the state before.
    ///
    /// Scope: `auth:lifecycle:write`, operators only.
    async fn unarchive_tenant(&self, ctx: &Context<'_>, input: TenantActionInput) -> Result<TenantPayload> {
        let scope = enter(ctx, "Mutation", &input.id).await?;
        let tenant = handle(ctx)?.unarchive(&scope, &conditions(ctx, input.expected_version)).await?;
        Ok(TenantPayload { tenant: tenant.into() })
    }

    /// Any state → DELETED: access ends at once, and a grace period runs in which it can be brought back.
    ///
    /// Scope: `auth:lifecycle:write`, operators only.
    async fn delete_tenant(&self, ctx: &Context<'_>, input: DeleteTenantInput) -> Result<TenantPayload> {
        let scope = enter(ctx, "Mutation", &input.id).await?;
        let deletion = Deletion { grace: input.grace_days.map(|days| chrono::TimeDelta::days(days.into())) };
        let tenant = handle(ctx)?.delete(&scope, deletion, &conditions(ctx, input.expected_version)).await?;
        Ok(TenantPayload { tenant: tenant.into() })
    }

    /// DELETED → the state before, exactly as it was, while the grace period lasts.
    ///
    /// Scope: `auth:lifecycle:write`, operators only.
    async fn cancel_tenant_deletion(&self, ctx: &Context<'_>, input: TenantActionInput) -> Result<TenantPayload> {
        let scope = enter(ctx, "Mutation", &input.id).await?;
        let tenant = handle(ctx)?.cancel_deletion(&scope, &conditions(ctx, input.expected_version)).await?;
        Ok(TenantPayload { tenant: tenant.into() })
    }

    /// Adds a plan to the catalogue.
    ///
    /// Scope: `auth:plan:write`, operators only.
    async fn create_plan(&self, ctx: &Context<'_>, input: CreatePlanInput) -> Result<PlanPayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let tenancy = handle(ctx)?;
        let plan = tenancy.create_plan(&scope, input.try_into()?, &conditions(ctx, None)).await?;
        Ok(PlanPayload { plan: PlanObject(plan) })
    }

    /// Changes a plan; its tenants have the new values at once.
    ///
    /// Scope: `auth:plan:write`, operators only.
    async fn update_plan(&self, ctx: &Context<'_>, input: UpdatePlanInput) -> Result<PlanPayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let (key, conditions) = (input.key.clone(), conditions(ctx, input.expected_version));
        let plan = handle(ctx)?.update_plan(&scope, &key, &conditions, |plan| input.apply(plan)).await?;
        Ok(PlanPayload { plan: PlanObject(plan) })
    }

    /// Sets the JSON Schema that a free section of tenants must satisfy from now on.
    ///
    /// Scope: `auth:settings:write`, operators only.
    async fn register_settings_schema(
        &self,
        ctx: &Context<'_>,
        input: RegisterSettingsSchemaInput,
    ) -> Result<RegisterSettingsSchemaPayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let conditions = conditions(ctx, input.expected_version);
        let schema = input.schema.map(|Json(schema)| schema);
        let version = handle(ctx)?.register_settings_schema(&scope, &input.section, schema, &conditions).await?;
        Ok(RegisterSettingsSchemaPayload { section: input.section, version })
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::{ContainerType, Context};

    use super::*;

    fn size<'a, T: 'a, F: Future + 'a>(_: impl Fn(&'a T, &'a Context<'a>) -> F) -> usize {
        size_of::<F>()
    }

    macro_rules! sizes {
        ($($name:ty),* $(,)?) => { [$((stringify!($name), size::<$name, _>(|object, ctx| object.resolve_field(ctx)))),*] };
    }

    /// Each field that is asked for is a future of this size, copied to the heap. What waits for a database is boxed where it does
    /// (`Box::pin`), or has room in the futures of all fields beside it; in those of mutations, until the stack is full.
    #[test]
    fn futures_of_fields_are_small() {
        let sizes = sizes![TenantObject, crate::flags::graphql::FlagEvaluation];
        assert!(sizes.iter().all(|(_, size)| *size <= 3_328), "{sizes:?}");
        let roots = sizes![crate::edge::schema::Query, crate::edge::schema::Mutation];
        assert!(roots.iter().all(|(_, size)| *size <= 10_240), "{roots:?}");
    }
}
