//! Definitions: flags and segments, as operators wrote them.

use async_graphql::{Json, Object, SimpleObject};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde_json::Value;

use crate::flags::{
    Approval, Condition, Flag, Kind, Lifecycle, Operator, Segment,
    flag::{Rollout, Rule},
};

/// A flag's definition, looked at now.
#[derive(Clone, Debug)]
pub struct FlagObject {
    pub flag: Flag,
    pub now: DateTime<Utc>,
}

/// A switch or a value that tenants are given.
#[Object(name = "Flag")]
impl FlagObject {
    async fn key(&self) -> &str {
        &self.flag.key
    }

    #[graphql(name = "type")]
    async fn kind(&self) -> Kind {
        self.flag.kind
    }

    /// What everyone has for whom nothing else is said.
    async fn default_value(&self) -> Json<&Value> {
        Json(&self.flag.default_value)
    }

    /// What everyone has while it is switched off; the default where null.
    async fn off_value(&self) -> Option<Json<&Value>> {
        self.flag.off_value.as_ref().map(Json)
    }

    async fn description(&self) -> &str {
        &self.flag.description
    }

    /// Who answers questions about it.
    ///
    /// Scope: `auth:flag:read`, operators only.
    async fn owner(&self) -> &str {
        &self.flag.owner
    }

    async fn lifecycle(&self) -> Lifecycle {
        self.flag.lifecycle
    }

    /// When a TEMPORARY flag should be gone.
    async fn stale_after(&self) -> Option<DateTime<Utc>> {
        self.flag.stale_after
    }

    /// Whether it should have been gone by now.
    async fn stale(&self) -> bool {
        self.flag.stale(self.now)
    }

    /// What somebody should look at.
    async fn warnings(&self) -> Vec<String> {
        let stale = self.flag.stale_after.filter(|_| self.flag.stale(self.now));
        let stale = stale.map(|date| {
            format!("temporary, and past its date ({}): take it out of the code and archive it", date.date_naive())
        });
        stale.into_iter().collect()
    }

    /// Feature that a tenant's plan must include for any other value than the default.
    async fn feature(&self) -> Option<&str> {
        self.flag.feature.as_deref()
    }

    /// The kill switch: while it is off, everyone has one value.
    async fn enabled(&self) -> bool {
        self.flag.enabled
    }

    /// Whether a tenant's own services may not set it.
    async fn operator_only(&self) -> bool {
        self.flag.operator_only
    }

    async fn approval(&self) -> Approval {
        self.flag.approval
    }

    /// Names of values.
    async fn variants(&self) -> Vec<FlagVariant> {
        let variant = |variant: &crate::flags::flag::Variant| FlagVariant {
            name: variant.name.clone(),
            value: Json(variant.value.clone()),
        };
        self.flag.variants.0.iter().map(variant).collect()
    }

    /// Whom it is for: it may name other tenants.
    ///
    /// Scope: `auth:flag:read`, operators only.
    async fn targeting(&self) -> FlagTargeting {
        FlagTargeting::from(&self.flag)
    }

    async fn archived_at(&self) -> Option<DateTime<Utc>> {
        self.flag.archived_at
    }

    /// Grows by one with every change; what `expectedVersion` is compared with.
    async fn version(&self) -> i64 {
        self.flag.version
    }

    async fn created_at(&self) -> DateTime<Utc> {
        self.flag.created_at
    }

    async fn updated_at(&self) -> DateTime<Utc> {
        self.flag.updated_at
    }
}

/// A name for a value.
#[derive(Clone, Debug, SimpleObject)]
pub struct FlagVariant {
    name: String,
    value: Json<Value>,
}

/// Whom a flag is for.
#[derive(Clone, Debug, SimpleObject)]
pub struct FlagTargeting {
    /// Other flags that must have a value first.
    prerequisites: Vec<FlagPrerequisite>,
    /// In order; the first that matches decides.
    rules: Vec<FlagRule>,
    plan_values: Vec<FlagPlanValue>,
    /// Another one deals all units of rollouts anew.
    salt: String,
}

/// Another flag that must have this value.
#[derive(Clone, Debug, SimpleObject)]
pub struct FlagPrerequisite {
    flag: String,
    value: Json<Value>,
}

/// What tenants of a plan have.
#[derive(Clone, Debug, SimpleObject)]
pub struct FlagPlanValue {
    /// Key of the plan.
    plan: String,
    value: Json<Value>,
}

/// Who is in one of the segments (where there are any), and of whom all conditions are true, has the value.
#[derive(Clone, Debug, SimpleObject)]
pub struct FlagRule {
    /// Name within the flag, as answers tell it.
    key: String,
    segments: Vec<String>,
    conditions: Vec<FlagCondition>,
    value: Json<Value>,
    /// Which part of them; all where null.
    rollout: Option<FlagRollout>,
}

/// Part of those that a rule is about. Who is in stays in while the percentage grows.
#[derive(Clone, Debug, SimpleObject)]
pub struct FlagRollout {
    percentage: Decimal,
    /// `tenant.id`, or an attribute of the evaluation context such as `targetingKey`.
    bucket_by: String,
}

/// True or false of a tenant and an evaluation context.
#[derive(Clone, Debug, SimpleObject)]
pub struct FlagCondition {
    attribute: String,
    operator: Operator,
    values: Vec<Json<Value>>,
}

/// A group of tenants, or of users: all conditions are true.
#[derive(Clone, Debug, SimpleObject)]
pub struct FlagSegment {
    key: String,
    description: String,
    conditions: Vec<FlagCondition>,
    /// Grows by one with every change; what `expectedVersion` is compared with.
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<&Flag> for FlagTargeting {
    fn from(flag: &Flag) -> Self {
        let prerequisites = flag.prerequisites.0.iter();
        let prerequisites = prerequisites
            .map(|wanted| FlagPrerequisite { flag: wanted.flag.clone(), value: Json(wanted.value.clone()) });
        let plan_values = flag.plan_values.0.iter();
        let plan_values =
            plan_values.map(|(plan, value)| FlagPlanValue { plan: plan.clone(), value: Json(value.clone()) });
        Self {
            prerequisites: prerequisites.collect(),
            rules: flag.rules.0.iter().map(FlagRule::from).collect(),
            plan_values: plan_values.collect(),
            salt: flag.salt.clone(),
        }
    }
}

impl From<&Rule> for FlagRule {
    fn from(rule: &Rule) -> Self {
        Self {
            key: rule.key.clone(),
            segments: rule.segments.clone(),
            conditions: rule.conditions.iter().map(FlagCondition::from).collect(),
            value: Json(rule.value.clone()),
            rollout: rule.rollout.as_ref().map(FlagRollout::from),
        }
    }
}

impl From<&Rollout> for FlagRollout {
    fn from(rollout: &Rollout) -> Self {
        Self {
            percentage: Decimal::new(i64::from(rollout.buckets), 3).normalize(),
            bucket_by: rollout.bucket_by.to_string(),
        }
    }
}

impl From<&Condition> for FlagCondition {
    fn from(condition: &Condition) -> Self {
        Self {
            attribute: condition.attribute.to_string(),
            operator: condition.operator,
            values: condition.values.iter().cloned().map(Json).collect(),
        }
    }
}

impl From<&Segment> for FlagSegment {
    fn from(segment: &Segment) -> Self {
        Self {
            key: segment.key.clone(),
            description: segment.description.clone(),
            conditions: segment.conditions.0.iter().map(FlagCondition::from).collect(),
            version: segment.version,
            created_at: segment.created_at,
            updated_at: segment.updated_at,
        }
    }
}
