//! What the schema says of entitlements.

use std::sync::Arc;

use async_graphql::{Context, ID, Json, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};

use crate::{
    access,
    entitlements::{
        DefaultAccess, Entitlement, Explanation, Link, Origin, PlanList, Resource, ResourceKind, Resources, Source,
        Step, Subject, TenantList, Value,
    },
    grants::{Grant, Kind},
    quotas::Enforcement,
    tenancy::Catalogue,
};

/// What a tenant may do of one thing, and what that follows from.
#[derive(Clone, Debug)]
pub struct EntitlementObject(pub(super) Entitlement);

#[Object(name = "Entitlement")]
impl EntitlementObject {
    async fn kind(&self) -> Kind {
        self.0.kind
    }

    async fn key(&self) -> &str {
        &self.0.key
    }

    /// Whether it may be used now; of a quota, whether `requested` more would be let in.
    async fn allowed(&self) -> bool {
        self.0.allowed
    }

    /// What `effectiveValue` follows from.
    async fn source(&self) -> Source {
        self.0.source
    }

    /// What the plan says, else the catalogue; null where only the kind of a resource has a default.
    async fn plan_value(&self) -> Option<EntitlementValue> {
        self.0.plan_value.map(Into::into)
    }

    /// What was agreed with this tenant: the override of a limit, its additions and removals of resources.
    async fn override_value(&self) -> Option<EntitlementValue> {
        self.0.override_value.map(Into::into)
    }

    /// What holds now, boosts and grants included.
    async fn effective_value(&self) -> EntitlementValue {
        self.0.effective_value.into()
    }

    /// Of a quota: what happens at the limit.
    async fn enforcement(&self) -> Option<Enforcement> {
        self.0.usage.map(|usage| usage.limit.enforcement)
    }

    /// Of a quota: how much more was asked for.
    async fn requested(&self) -> Option<i64> {
        self.0.usage.map(|usage| usage.requested)
    }

    /// Of a quota: what is used, in this period where it has periods. Zero of what is not counted (rates, concurrency).
    async fn used(&self) -> Option<i64> {
        self.0.usage.map(|usage| usage.used)
    }

    /// Of a quota: what is held by reservations.
    async fn reserved(&self) -> Option<i64> {
        self.0.usage.map(|usage| usage.reserved)
    }

    /// Of a quota: what is left, never below zero; null is unlimited.
    async fn remaining(&self) -> Option<i64> {
        self.0.usage.and_then(|usage| usage.remaining())
    }

    /// Of a quota: when the next period begins.
    async fn resets_at(&self) -> Option<DateTime<Utc>> {
        self.0.usage.and_then(|usage| usage.resets_at)
    }

    /// Grants that count now, in the order in which they burn.
    async fn grants(&self, ctx: &Context<'_>) -> Result<Vec<EntitlementGrant>> {
        let operator = access::graphql::caller(ctx)?.is_platform();
        let grant = |(grant, burnt): &(Grant, i64)| EntitlementGrant::new(grant.clone(), Some(*burnt), operator);
        Ok(self.0.grants.iter().map(grant).collect())
    }

    /// What it was decided on, as `<tenant>.<platform>`: how far the two journals were.
    async fn version(&self) -> &str {
        &self.0.version
    }
}

/// A limit of a quota, or access to anything else.
#[derive(Clone, Copy, Debug, SimpleObject)]
pub struct EntitlementValue {
    /// Whether there is any: of a quota, whether the limit is not zero.
    access: bool,
    /// Of a quota; null is unlimited.
    limit: Option<i64>,
    /// Whether nothing limits it.
    unlimited: bool,
}

impl From<Value> for EntitlementValue {
    fn from(value: Value) -> Self {
        match value {
            Value::Access(access) => Self { access, limit: None, unlimited: access },
            Value::Limit(limit) => Self { access: limit != Some(0), limit, unlimited: limit.is_none() },
        }
    }
}

/// What a tenant was given beside its plan.
#[derive(Clone, Debug, SimpleObject)]
pub struct EntitlementGrant {
    /// UUIDv7.
    id: ID,
    kind: Kind,
    key: String,
    /// Of a quota: how much.
    amount: Option<i64>,
    /// Of a quota that is counted in periods: how much of it is used up.
    burnt: Option<i64>,
    /// Of a quota: what is left of it.
    remaining: Option<i64>,
    /// The lowest burns first.
    priority: i32,
    effective_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    /// When it was revoked, or recorded as expired.
    ended_at: Option<DateTime<Utc>>,
    reason: String,
    /// Subject of the token that gave it; operators alone are shown it.
    granted_by: Option<String>,
    /// Grows by one with every change; what `expectedVersion` is compared with.
    version: i64,
    created_at: DateTime<Utc>,
}

impl EntitlementGrant {
    /// `burnt` by now, where that is more than what was settled.
    pub(super) fn new(grant: Grant, burnt: Option<i64>, operator: bool) -> Self {
        let burnt = burnt.unwrap_or(grant.burnt);
        Self {
            id: grant.grant_id.into(),
            kind: grant.kind,
            key: grant.key,
            amount: grant.amount,
            burnt: grant.amount.map(|_| burnt),
            remaining: grant.amount.map(|amount| amount - burnt),
            priority: grant.priority,
            effective_at: grant.effective_at,
            expires_at: grant.expires_at,
            ended_at: grant.ended_at,
            reason: grant.reason,
            granted_by: operator.then_some(grant.granted_by),
            version: grant.version,
            created_at: grant.created_at,
        }
    }
}

#[derive(Debug, SimpleObject)]
pub struct GrantPayload {
    pub(super) grant: EntitlementGrant,
}

/// Why a tenant may do something, or not.
#[derive(Clone, Debug, SimpleObject)]
pub struct AccessExplanation {
    subject: Subject,
    key: String,
    /// Whether it may; of a quota, whether one more would be let in.
    allowed: bool,
    /// What was looked at, in its order.
    links: Vec<AccessLink>,
    /// What it was decided on, as `<tenant>.<platform>`: how far the two journals were.
    version: String,
}

/// One link of the chain.
#[derive(Clone, Debug, SimpleObject)]
pub struct AccessLink {
    step: Step,
    /// One sentence for people.
    text: String,
    /// What holds after this link, or what it says.
    value: Json<serde_json::Value>,
    /// Whether the answer follows from it.
    decides: bool,
    origin: Origin,
    /// When it was set.
    at: Option<DateTime<Utc>>,
    /// Who set it.
    actor: Option<AccessActor>,
    /// The journal entry that set it. Null of what shipped with the product or was computed, and of the platform's for services.
    entry: Option<AccessEntry>,
}

/// Who set it.
#[derive(Clone, Debug, SimpleObject)]
pub struct AccessActor {
    /// OPERATOR, SERVICE or SYSTEM.
    kind: String,
    /// Subject of the token. Services are not shown an operator's.
    name: Option<String>,
}

/// An entry of the journal, as `audit` shows it.
#[derive(Clone, Debug, SimpleObject)]
pub struct AccessEntry {
    id: ID,
    sequence: i64,
    event: String,
}

impl From<Explanation> for AccessExplanation {
    fn from(found: Explanation) -> Self {
        let Explanation { subject, key, allowed, links, version } = found;
        Self { subject, key, allowed, links: links.into_iter().map(Into::into).collect(), version }
    }
}

impl From<Link> for AccessLink {
    fn from(link: Link) -> Self {
        let Link { step, text, value, decides, origin, at, actor, entry } = link;
        let actor = actor.map(|actor| AccessActor { kind: actor.kind, name: actor.name });
        let entry = entry.map(|entry| AccessEntry {
            id: entry.id.to_string().into(),
            sequence: entry.sequence,
            event: entry.event,
        });
        Self { step, text, value: Json(value), decides, origin, at, actor, entry }
    }
}

/// A kind of resources, with its items and what plans allow of them.
#[derive(Clone, Debug)]
pub struct ResourceKindObject {
    pub(super) catalogue: Arc<Catalogue>,
    /// Its place among the kinds.
    pub(super) place: usize,
}

impl ResourceKindObject {
    fn of(&self) -> Result<(&Resources, &ResourceKind)> {
        let resources = self.catalogue.part::<Resources>()?;
        Ok((resources, &resources.kinds[self.place]))
    }
}

#[Object(name = "ResourceKind")]
impl ResourceKindObject {
    async fn key(&self) -> Result<&str> {
        Ok(&self.of()?.1.key)
    }

    async fn name(&self) -> Result<&str> {
        Ok(&self.of()?.1.name)
    }

    async fn description(&self) -> Result<&str> {
        Ok(&self.of()?.1.description)
    }

    /// For plans that have no list of the kind.
    async fn default_access(&self) -> Result<DefaultAccess> {
        Ok(self.of()?.1.default_access)
    }

    /// Its items, in the order of their keys.
    async fn resources(&self) -> Result<Vec<ResourceObject>> {
        let (resources, kind) = self.of()?;
        Ok(resources.resources.iter().filter(|item| item.kind == kind.key).map(Into::into).collect())
    }

    /// What plans allow of it.
    async fn plan_allow_lists(&self) -> Result<Vec<PlanAllowList>> {
        let (resources, kind) = self.of()?;
        Ok(resources.plan_lists.iter().filter(|list| list.kind == kind.key).map(Into::into).collect())
    }

    /// Grows by one with every change; what `expectedVersion` is compared with.
    async fn version(&self) -> Result<i64> {
        Ok(self.of()?.1.version)
    }
}

/// Something that can be allowed tenant by tenant, such as a model.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(name = "Resource")]
pub struct ResourceObject {
    key: String,
    name: String,
    description: String,
    /// Nobody may use it any more.
    retired: bool,
    /// Grows by one with every change; what `expectedVersion` is compared with.
    version: i64,
}

impl From<&Resource> for ResourceObject {
    fn from(found: &Resource) -> Self {
        Self {
            key: found.key.clone(),
            name: found.name.clone(),
            description: found.description.clone(),
            retired: found.retired,
            version: found.version,
        }
    }
}

/// What tenants of a plan may use of a kind of resources.
#[derive(Clone, Debug, SimpleObject)]
pub struct PlanAllowList {
    plan: String,
    /// All of the kind, those that come later as well.
    everything: bool,
    /// Keys of resources.
    resources: Vec<String>,
    /// Grows by one with every change; what `expectedVersion` is compared with.
    version: i64,
}

impl From<&PlanList> for PlanAllowList {
    fn from(list: &PlanList) -> Self {
        Self {
            plan: list.plan.clone(),
            everything: list.everything,
            resources: list.resources.0.clone(),
            version: list.version,
        }
    }
}

/// What one tenant may use of a kind beside its plan, and what it may not.
#[derive(Clone, Debug, SimpleObject)]
pub struct AllowList {
    resource_kind: String,
    /// Keys of resources that it may use beside those of its plan.
    added: Vec<String>,
    /// Keys of resources that it may not use, whatever else gives them.
    removed: Vec<String>,
    reason: String,
    /// Subject of the token that set it.
    set_by: String,
    /// Grows by one with every change; what `expectedVersion` is compared with.
    version: i64,
    updated_at: DateTime<Utc>,
}

impl From<TenantList> for AllowList {
    fn from(list: TenantList) -> Self {
        let TenantList { kind: resource_kind, added, removed, reason, set_by, version, updated_at, .. } = list;
        Self { resource_kind, added: added.0, removed: removed.0, reason, set_by, version, updated_at }
    }
}

#[derive(Debug, SimpleObject)]
pub struct AllowListPayload {
    pub(super) allow_list: AllowList,
}

#[derive(Debug, SimpleObject)]
pub struct PlanAllowListPayload {
    pub(super) allow_list: PlanAllowList,
}

#[derive(Debug, SimpleObject)]
pub struct ResourceKindPayload {
    pub(super) key: String,
    pub(super) version: i64,
}

#[derive(Debug, SimpleObject)]
pub struct ResourcePayload {
    pub(super) resource: ResourceObject,
}
