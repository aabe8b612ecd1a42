//! Tenancy's part of the schema: the plain fields of a tenant, plans, and what mutations take. Root fields that answer with
//! a `Tenant` are in `edge/tenant.rs`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use async_graphql::{
    Context, ID, InputObject, Json, Object, SimpleObject,
    dataloader::{DataLoader, Loader},
};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde_json::Value;

use super::{
    IsolationTier, NewTenant, Plan, PlannedSuspension, Profile, Sla, SlaOverrides, Status, Suspension, SuspensionMode,
    SuspensionOrder, SuspensionReason, Tenancy, Tenant, Update,
    list::LabelInput,
    plan::{Features, QuotaDefaults},
    profile::ProfileInput,
    sla::{Credit, SupportResponse},
};
use crate::{
    access,
    error::{Error, Result},
    isolation::{Conditions, IdempotencyKey, OperatorScope, TenantScope},
    platform::ids::TenantId,
};

/// The plain fields of a tenant.
#[derive(Clone, Debug)]
pub struct TenantCore(pub Arc<Tenant>);

#[Object]
impl TenantCore {
    /// UUIDv4; never reused.
    async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// Unique DNS label of 3 to 63 characters.
    async fn slug(&self) -> &str {
        &self.0.slug
    }

    /// The operator's own key, as in a tenant file.
    async fn external_id(&self) -> Option<&str> {
        self.0.external_id.as_deref()
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    /// Key of the plan.
    async fn plan_key(&self) -> &str {
        &self.0.plan
    }

    async fn isolation_tier(&self) -> IsolationTier {
        self.0.isolation_tier
    }

    /// Home region.
    async fn region(&self) -> &str {
        &self.0.region
    }

    async fn status(&self) -> Status {
        self.0.status
    }

    /// The states that it can go to from here.
    async fn allowed_transitions(&self) -> Vec<Status> {
        self.0.allowed()
    }

    /// Why and how it is held back, if it is.
    async fn suspension(&self) -> Option<TenantSuspension> {
        self.0.suspension.clone().map(TenantSuspension)
    }

    /// When a planned suspension begins.
    async fn suspend_at(&self) -> Option<DateTime<Utc>> {
        self.0.suspend_at
    }

    /// When the suspension ends by itself.
    async fn resume_at(&self) -> Option<DateTime<Utc>> {
        self.0.resume_at
    }

    async fn deleted_at(&self) -> Option<DateTime<Utc>> {
        self.0.deleted_at
    }

    /// Until when a deleted tenant can be brought back.
    async fn erase_at(&self) -> Option<DateTime<Utc>> {
        self.0.erase_at
    }

    /// Grows with every change that makes older tokens worthless.
    async fn access_epoch(&self) -> i64 {
        self.0.access_epoch
    }

    async fn profile(&self) -> &Profile {
        &self.0.profile
    }

    /// In the order of their keys.
    async fn labels(&self) -> Vec<Label<'_>> {
        self.0.labels.0.iter().map(|(key, value)| Label { key, value }).collect()
    }

    /// What the contract says differently from the plan.
    async fn sla_overrides(&self) -> SlaTerms {
        SlaTerms::from(self.0.sla.clone())
    }

    /// A free section of the tenant's file, such as `integrations` or `settings`.
    async fn section(&self, name: String) -> Option<Json<Value>> {
        self.0.sections.0.get(&name).cloned().map(Json)
    }

    /// Grows by one with every change; what `expectedVersion` is compared with.
    async fn version(&self) -> i64 {
        self.0.version
    }

    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    async fn updated_at(&self) -> DateTime<Utc> {
        self.0.updated_at
    }
}

/// What is sold to the tenant.
#[derive(Clone, Debug)]
pub struct TenantPlan(pub Arc<Tenant>);

#[Object]
impl TenantPlan {
    /// The plan that it is on.
    async fn plan(&self, ctx: &Context<'_>) -> async_graphql::Result<PlanObject> {
        Ok(PlanObject(plan_of(ctx, &self.0).await?))
    }

    /// What is promised: the plan's terms with the tenant's own on top.
    async fn sla(&self, ctx: &Context<'_>) -> async_graphql::Result<SlaTerms> {
        Ok(plan_of(ctx, &self.0).await?.sla.with(&self.0.sla).into())
    }
}

/// Plans of a page of tenants are read at once.
async fn plan_of(ctx: &Context<'_>, tenant: &Tenant) -> Result<Plan> {
    let loader =
        ctx.data_opt::<DataLoader<Plans>>().ok_or_else(|| Error::internal("the request has no loader of plans"))?;
    let plan = loader.load_one(tenant.plan.clone()).await.map_err(|error| Error::internal(error.to_string()))?;
    plan.ok_or_else(|| Error::internal("a tenant's plan is always in the catalogue"))
}

/// Loads plans by key; the catalogue is small.
#[derive(Debug)]
pub struct Plans(pub Tenancy);

impl Loader<String> for Plans {
    type Value = Plan;
    type Error = Arc<Error>;

    async fn load(&self, keys: &[String]) -> Result<HashMap<String, Plan>, Arc<Error>> {
        let plans = self.0.plans().await.map_err(Arc::new)?;
        Ok(plans.into_iter().filter(|plan| keys.contains(&plan.key)).map(|plan| (plan.key.clone(), plan)).collect())
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
pub struct TenantSuspension(Suspension);

#[Object(name = "Suspension")]
impl TenantSuspension {
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

/// Terms of service; null where the plan's apply.
#[derive(Clone, Debug, SimpleObject)]
pub struct SlaTerms {
    /// Per cent of a calendar month.
    uptime: Option<Decimal>,
    support_hours: Option<String>,
    support_response: Option<SupportResponse>,
    credits: Option<Vec<SlaCredit>>,
}

/// What the customer gets back when the month's availability was below `below` per cent: `percent` of the month's fee.
#[derive(Clone, Copy, Debug, SimpleObject, InputObject)]
#[graphql(input_name = "SlaCreditInput")]
pub struct SlaCredit {
    below: Decimal,
    percent: Decimal,
}

impl From<SlaOverrides> for SlaTerms {
    fn from(sla: SlaOverrides) -> Self {
        let credits = sla.credits.map(|credits| credits.into_iter().map(SlaCredit::from).collect());
        Self { uptime: sla.uptime, support_hours: sla.support_hours, support_response: sla.support_response, credits }
    }
}

impl From<Sla> for SlaTerms {
    fn from(sla: Sla) -> Self {
        Self {
            uptime: Some(sla.uptime),
            support_hours: Some(sla.support_hours),
            support_response: Some(sla.support_response),
            credits: Some(sla.credits.into_iter().map(SlaCredit::from).collect()),
        }
    }
}

impl From<Credit> for SlaCredit {
    fn from(credit: Credit) -> Self {
        Self { below: credit.below, percent: credit.percent }
    }
}

/// What is sold.
#[derive(Clone, Debug)]
pub struct PlanObject(pub Plan);

#[Object(name = "Plan")]
impl PlanObject {
    async fn key(&self) -> &str {
        &self.0.key
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    async fn description(&self) -> &str {
        &self.0.description
    }

    /// Isolation of tenants that ask for none.
    async fn isolation_tier(&self) -> IsolationTier {
        self.0.isolation_tier
    }

    /// Features that it includes.
    async fn features(&self) -> &[String] {
        &self.0.features.0
    }

    /// Limits of tenants without an override.
    async fn quotas(&self) -> Vec<QuotaDefault<'_>> {
        self.0.quotas.0.iter().map(|(key, limit)| QuotaDefault { key, limit: *limit }).collect()
    }

    async fn sla(&self) -> SlaTerms {
        self.0.sla.clone().into()
    }

    async fn version(&self) -> i64 {
        self.0.version
    }

    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    async fn updated_at(&self) -> DateTime<Utc> {
        self.0.updated_at
    }
}

/// The limit that a plan gives for one quota key.
#[derive(Clone, Debug, SimpleObject)]
pub struct QuotaDefault<'a> {
    key: &'a str,
    limit: i64,
}

#[derive(Clone, Debug, InputObject)]
pub struct CreateTenantInput {
    /// DNS label of 3 to 63 small letters, digits and '-'.
    pub slug: String,
    pub name: String,
    /// The operator's own key; unique.
    pub external_id: Option<String>,
    /// Key of a plan; `starter` (or `enterprise` for a dedicated tier) where none is named.
    pub plan: Option<String>,
    /// The plan's where none is named.
    pub isolation_tier: Option<IsolationTier>,
    /// The configured default where none is named.
    pub region: Option<String>,
    pub profile: Option<ProfileInput>,
    #[graphql(default)]
    pub labels: Vec<LabelInput>,
    pub sla: Option<SlaInput>,
    /// Free sections by name: `integrations`, `settings` and the others of a tenant file.
    pub sections: Option<Json<BTreeMap<String, Value>>>,
}

/// What is left out stays as it is.
#[derive(Clone, Debug, InputObject)]
pub struct UpdateTenantInput {
    pub id: ID,
    /// The version that you saw last: `conflict` if there is another.
    pub expected_version: Option<i64>,
    pub name: Option<String>,
    /// Replaces the whole profile.
    pub profile: Option<ProfileInput>,
    /// Replaces all labels.
    pub labels: Option<Vec<LabelInput>>,
    /// For operators, like all below.
    pub slug: Option<String>,
    pub external_id: Option<String>,
    pub region: Option<String>,
    pub isolation_tier: Option<IsolationTier>,
    /// Replaces all terms that differ from the plan.
    pub sla: Option<SlaInput>,
    /// Replaces all free sections.
    pub sections: Option<Json<BTreeMap<String, Value>>>,
}

/// Names a tenant to be moved through its life.
#[derive(Clone, Debug, InputObject)]
pub struct TenantActionInput {
    pub id: ID,
    /// The version that you saw last: `conflict` if there is another.
    pub expected_version: Option<i64>,
}

#[derive(Clone, Debug, InputObject)]
pub struct SuspendTenantInput {
    pub id: ID,
    /// The version that you saw last: `conflict` if there is another.
    pub expected_version: Option<i64>,
    #[graphql(default_with = "SuspensionMode::Graceful")]
    pub mode: SuspensionMode,
    pub reason: SuspensionReason,
    /// For people; at most 2,000 characters.
    #[graphql(default)]
    pub note: String,
    /// When it begins; at once where none is named.
    pub begin_at: Option<DateTime<Utc>>,
    /// When it ends by itself; never where none is named.
    pub end_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Debug, InputObject)]
pub struct DeleteTenantInput {
    pub id: ID,
    /// The version that you saw last: `conflict` if there is another.
    pub expected_version: Option<i64>,
    /// Days in which it can be brought back; 30 where none is named.
    pub grace_days: Option<i32>,
}

#[derive(Clone, Debug, InputObject)]
pub struct ChangeTenantPlanInput {
    pub id: ID,
    /// The version that you saw last: `conflict` if there is another.
    pub expected_version: Option<i64>,
    /// Key of the new plan.
    pub plan: String,
}

#[derive(Clone, Debug, Default, InputObject)]
pub struct SlaInput {
    /// Per cent of a calendar month, as a decimal: "99.95".
    pub uptime: Option<Decimal>,
    pub support_hours: Option<String>,
    pub support_response: Option<SupportResponse>,
    pub credits: Option<Vec<SlaCredit>>,
}

#[derive(Clone, Debug, InputObject)]
pub struct CreatePlanInput {
    pub key: String,
    pub name: String,
    #[graphql(default)]
    pub description: String,
    pub isolation_tier: IsolationTier,
    #[graphql(default)]
    pub features: Vec<String>,
    #[graphql(default)]
    pub quotas: Vec<QuotaDefaultInput>,
    pub sla: SlaInput,
}

/// What is left out stays as it is.
#[derive(Clone, Debug, InputObject)]
pub struct UpdatePlanInput {
    pub key: String,
    /// The version that you saw last: `conflict` if there is another.
    pub expected_version: Option<i64>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub isolation_tier: Option<IsolationTier>,
    pub features: Option<Vec<String>>,
    pub quotas: Option<Vec<QuotaDefaultInput>>,
    pub sla: Option<SlaInput>,
}

#[derive(Clone, Debug, InputObject)]
pub struct QuotaDefaultInput {
    pub key: String,
    pub limit: i64,
}

impl From<SlaInput> for SlaOverrides {
    fn from(input: SlaInput) -> Self {
        let credit = |credit: SlaCredit| Credit { below: credit.below, percent: credit.percent };
        Self {
            uptime: input.uptime,
            support_hours: input.support_hours,
            support_response: input.support_response,
            credits: input.credits.map(|credits| credits.into_iter().map(credit).collect()),
        }
    }
}

impl TryFrom<CreateTenantInput> for NewTenant {
    type Error = Error;

    fn try_from(input: CreateTenantInput) -> Result<Self> {
        Ok(Self {
            slug: input.slug,
            name: input.name,
            external_id: input.external_id,
            plan: input.plan,
            isolation_tier: input.isolation_tier,
            region: input.region,
            profile: input.profile.map(Into::into).unwrap_or_default(),
            labels: labels(input.labels)?,
            sla: input.sla.map(Into::into).unwrap_or_default(),
            sections: sections(input.sections)?.unwrap_or_default(),
        })
    }
}

impl TryFrom<UpdateTenantInput> for Update {
    type Error = Error;

    fn try_from(input: UpdateTenantInput) -> Result<Self> {
        Ok(Self {
            name: input.name,
            profile: input.profile.map(Into::into),
            labels: input.labels.map(labels).transpose()?,
            slug: input.slug,
            external_id: input.external_id,
            region: input.region,
            isolation_tier: input.isolation_tier,
            sla: input.sla.map(Into::into),
            sections: sections(input.sections)?,
        })
    }
}

impl From<SuspendTenantInput> for SuspensionOrder {
    fn from(input: SuspendTenantInput) -> Self {
        let suspension = PlannedSuspension { mode: input.mode, reason: input.reason, note: input.note };
        Self { suspension, begin_at: input.begin_at, end_at: input.end_at }
    }
}

impl TryFrom<CreatePlanInput> for Plan {
    type Error = Error;

    /// Version and times are set when it is kept.
    fn try_from(input: CreatePlanInput) -> Result<Self> {
        let need = |field: &'static str| move || Error::invalid(format!("sla.{field}"), "is needed for a plan");
        let sla = SlaOverrides::from(input.sla);
        Ok(Self {
            key: input.key,
            name: input.name,
            description: input.description,
            isolation_tier: input.isolation_tier,
            features: Features(input.features),
            quotas: quotas(input.quotas)?,
            sla: Sla {
                uptime: sla.uptime.ok_or_else(need("uptime"))?,
                support_hours: sla.support_hours.ok_or_else(need("supportHours"))?,
                support_response: sla.support_response.ok_or_else(need("supportResponse"))?,
                credits: sla.credits.unwrap_or_default(),
            },
            prices: Value::Array(Vec::new()),
            version: 1,
            created_at: DateTime::UNIX_EPOCH,
            updated_at: DateTime::UNIX_EPOCH,
        })
    }
}

impl UpdatePlanInput {
    /// Sets what is named.
    pub fn apply(self, plan: &mut Plan) -> Result<()> {
        plan.name = self.name.unwrap_or_else(|| std::mem::take(&mut plan.name));
        plan.description = self.description.unwrap_or_else(|| std::mem::take(&mut plan.description));
        plan.isolation_tier = self.isolation_tier.unwrap_or(plan.isolation_tier);
        if let Some(features) = self.features {
            plan.features = Features(features);
        }
        if let Some(limits) = self.quotas {
            plan.quotas = quotas(limits)?;
        }
        if let Some(sla) = self.sla {
            plan.sla = plan.sla.with(&sla.into());
        }
        Ok(())
    }
}

fn quotas(limits: Vec<QuotaDefaultInput>) -> Result<QuotaDefaults> {
    let count = limits.len();
    let map: BTreeMap<_, _> = limits.into_iter().map(|limit| (limit.key, limit.limit)).collect();
    if map.len() < count { Err(Error::invalid("quotas", "names a key twice")) } else { Ok(QuotaDefaults(map)) }
}

fn labels(labels: Vec<LabelInput>) -> Result<BTreeMap<String, String>> {
    let count = labels.len();
    let map: BTreeMap<_, _> = labels.into_iter().map(|label| (label.key, label.value)).collect();
    if map.len() < count { Err(Error::invalid("labels", "names a key twice")) } else { Ok(map) }
}

fn sections(sections: Option<Json<BTreeMap<String, Value>>>) -> Result<Option<BTreeMap<String, Value>>> {
    let Some(Json(sections)) = sections else { return Ok(None) };
    for name in sections.keys() {
        super::declaration::check_section_name("sections", name)?;
    }
    Ok(Some(sections))
}

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
