//! What the mutations of tenants take.

use std::collections::BTreeMap;

use async_graphql::{ID, InputObject, Json};
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::sla::SlaInput;
use crate::{
    error::{Error, Result},
    tenancy::{
        IsolationTier, NewTenant, PlannedSuspension, SuspensionMode, SuspensionOrder, SuspensionReason, Update,
        declaration, list::LabelInput, profile::ProfileInput,
    },
};

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
pub struct SetParentTenantInput {
    /// The child.
    pub id: ID,
    /// The version of the link that you saw last, 0 for none: `conflict` if there is another.
    pub expected_version: Option<i64>,
    /// Null for none.
    pub parent_id: Option<ID>,
    /// Administration from above ends at this child.
    #[graphql(default)]
    pub barrier: bool,
    /// What this child uses counts for the parent's quotas, too.
    #[graphql(default)]
    pub rolls_up: bool,
}

#[derive(Clone, Debug, InputObject)]
pub struct ChangePlanInput {
    pub id: ID,
    /// The version that you saw last: `conflict` if there is another.
    pub expected_version: Option<i64>,
    /// Key of the new plan.
    pub plan: String,
    /// Even if what the tenant has does not fit it.
    #[graphql(default)]
    pub force: bool,
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

fn labels(labels: Vec<LabelInput>) -> Result<BTreeMap<String, String>> {
    let count = labels.len();
    let map: BTreeMap<_, _> = labels.into_iter().map(|label| (label.key, label.value)).collect();
    if map.len() < count { Err(Error::invalid("labels", "names a key twice")) } else { Ok(map) }
}

fn sections(sections: Option<Json<BTreeMap<String, Value>>>) -> Result<Option<BTreeMap<String, Value>>> {
    let Some(Json(sections)) = sections else { return Ok(None) };
    for name in sections.keys() {
        declaration::check_section_name("sections", name)?;
    }
    Ok(Some(sections))
}
