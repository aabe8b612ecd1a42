//! What the mutations of flags take.

use async_graphql::{ID, InputObject, Json, MaybeUndefined};
use chrono::{DateTime, Utc};
use rust_decimal::{Decimal, prelude::ToPrimitive as _};
use serde_json::Value;

use crate::{
    error::{Error, Result},
    flags::{
        Approval, Attribute, BUCKETS, Condition, Flag, Kind, Lifecycle, NewSegment, NewSetting, Operator,
        flag::{PlanValues, Prerequisite, Prerequisites, Rollout, Rule, Rules, Variant, Variants},
        segment::Conditions,
    },
};

#[derive(Clone, Debug, InputObject)]
pub struct DefineFlagInput {
    /// 1 to 128 letters, digits, '.', '_' or '-'; never changes.
    key: String,
    /// Never changes.
    #[graphql(name = "type")]
    kind: Kind,
    /// What everyone has for whom nothing else is said.
    default_value: Json<Value>,
    /// What everyone has while it is switched off; the default where none is named.
    off_value: Option<Json<Value>>,
    #[graphql(default)]
    description: String,
    /// Who answers questions about it.
    #[graphql(default)]
    owner: String,
    #[graphql(default_with = "Lifecycle::Permanent")]
    lifecycle: Lifecycle,
    /// When a TEMPORARY flag should be gone; needed for one.
    stale_after: Option<DateTime<Utc>>,
    /// Feature that a tenant's plan must include for any other value than the default.
    feature: Option<String>,
    /// The kill switch.
    #[graphql(default = true)]
    enabled: bool,
    /// Whether a tenant's own services may not set it.
    #[graphql(default = true)]
    operator_only: bool,
    #[graphql(default_with = "Approval::None")]
    approval: Approval,
    #[graphql(default)]
    variants: Vec<FlagVariantInput>,
    #[graphql(default)]
    plan_values: Vec<FlagPlanValueInput>,
    /// In order; at most 100.
    #[graphql(default)]
    rules: Vec<FlagRuleInput>,
    #[graphql(default)]
    prerequisites: Vec<FlagPrerequisiteInput>,
    #[graphql(default)]
    salt: String,
}

/// What is left out stays as it is.
#[derive(Clone, Debug, InputObject)]
pub struct UpdateFlagInput {
    pub key: String,
    /// The version that you saw last: `conflict` if there is another.
    pub expected_version: Option<i64>,
    default_value: Option<Json<Value>>,
    /// Null: the default.
    off_value: MaybeUndefined<Json<Value>>,
    description: Option<String>,
    owner: Option<String>,
    lifecycle: Option<Lifecycle>,
    stale_after: MaybeUndefined<DateTime<Utc>>,
    feature: MaybeUndefined<String>,
    /// The kill switch: false gives everyone one value, at once.
    enabled: Option<bool>,
    operator_only: Option<bool>,
    approval: Option<Approval>,
    /// Replaces all.
    variants: Option<Vec<FlagVariantInput>>,
    /// Replaces all.
    plan_values: Option<Vec<FlagPlanValueInput>>,
    /// Replaces all.
    rules: Option<Vec<FlagRuleInput>>,
    /// Replaces all.
    prerequisites: Option<Vec<FlagPrerequisiteInput>>,
    salt: Option<String>,
}

#[derive(Clone, Debug, InputObject)]
pub struct ArchiveFlagInput {
    pub key: String,
    /// The version that you saw last: `conflict` if there is another.
    pub expected_version: Option<i64>,
    /// False brings it back.
    #[graphql(default = true)]
    pub archived: bool,
}

#[derive(Clone, Debug, InputObject)]
pub struct FlagVariantInput {
    name: String,
    value: Json<Value>,
}

#[derive(Clone, Debug, InputObject)]
pub struct FlagPlanValueInput {
    /// Key of a plan.
    plan: String,
    value: Json<Value>,
}

#[derive(Clone, Debug, InputObject)]
pub struct FlagPrerequisiteInput {
    /// Key of another flag.
    flag: String,
    /// What that must be.
    value: Json<Value>,
}

#[derive(Clone, Debug, InputObject)]
pub struct FlagRuleInput {
    /// Name within the flag, as answers tell it.
    key: String,
    /// Keys of segments: the tenant or user is in one of them.
    #[graphql(default)]
    segments: Vec<String>,
    /// All of them are true.
    #[graphql(default)]
    conditions: Vec<FlagConditionInput>,
    value: Json<Value>,
    /// For a part of them.
    rollout: Option<FlagRolloutInput>,
}

#[derive(Clone, Debug, InputObject)]
pub struct FlagRolloutInput {
    /// 0 to 100, in steps of 0.001.
    percentage: Decimal,
    /// `tenant.id`, or an attribute of the evaluation context such as `targetingKey`; who has none is in no part.
    #[graphql(default = "tenant.id")]
    bucket_by: String,
}

#[derive(Clone, Debug, InputObject)]
pub struct FlagConditionInput {
    /// `tenant.id`, `tenant.slug`, `tenant.plan`, `tenant.region`, `tenant.isolationTier`, `tenant.status`,
    /// `tenant.label.<key>`; everything else is an attribute of the evaluation context, with dots into objects.
    attribute: String,
    operator: Operator,
    #[graphql(default)]
    values: Vec<Json<Value>>,
}

#[derive(Clone, Debug, InputObject)]
pub struct DefineSegmentInput {
    /// 1 to 128 letters, digits, '.', '_' or '-'.
    key: String,
    #[graphql(default)]
    description: String,
    /// All of them are true; 1 to 50.
    conditions: Vec<FlagConditionInput>,
    /// The version that you saw last, 0 for none: `conflict` if there is another.
    pub expected_version: Option<i64>,
}

#[derive(Clone, Debug, InputObject)]
pub struct RemoveSegmentInput {
    pub key: String,
    /// The version that you saw last: `conflict` if there is another.
    pub expected_version: Option<i64>,
}

#[derive(Clone, Debug, InputObject)]
pub struct SetFlagInput {
    key: String,
    /// Whose value. Where not given: of the tenant that your token is bound to.
    pub tenant_id: Option<ID>,
    /// Of the flag's type; null takes the tenant's value back.
    value: MaybeUndefined<Json<Value>>,
    /// From when it counts; at once where none is named.
    starts_at: Option<DateTime<Utc>>,
    /// Until when it counts.
    ends_at: Option<DateTime<Utc>>,
    /// For people; at most 2,000 characters.
    #[graphql(default)]
    reason: String,
    /// The version of the tenant's value that you saw last, 0 for none: `conflict` if there is another.
    pub expected_version: Option<i64>,
}

#[derive(Clone, Debug, InputObject)]
pub struct FlagChangeInput {
    pub id: ID,
    /// For who asked; at most 2,000 characters.
    #[graphql(default)]
    pub note: String,
    /// The version of the request that you saw last: `conflict` if there is another.
    pub expected_version: Option<i64>,
}

impl TryFrom<DefineFlagInput> for Flag {
    type Error = Error;

    /// Version and times are set when it is kept.
    fn try_from(input: DefineFlagInput) -> Result<Self> {
        Ok(Self {
            key: input.key,
            kind: input.kind,
            default_value: input.default_value.0,
            off_value: input.off_value.map(|Json(value)| value),
            description: input.description,
            owner: input.owner,
            lifecycle: input.lifecycle,
            stale_after: input.stale_after,
            feature: input.feature,
            enabled: input.enabled,
            operator_only: input.operator_only,
            approval: input.approval,
            variants: variants(input.variants),
            plan_values: plan_values(input.plan_values)?,
            rules: rules(input.rules)?,
            prerequisites: prerequisites(input.prerequisites),
            salt: input.salt,
            archived_at: None,
            version: 1,
            created_at: DateTime::UNIX_EPOCH,
            updated_at: DateTime::UNIX_EPOCH,
        })
    }
}

impl UpdateFlagInput {
    /// Sets what is named.
    pub fn apply(self, flag: &mut Flag) -> Result<()> {
        fn keep<T>(slot: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *slot = value;
            }
        }
        fn keep_or_drop<T>(slot: &mut Option<T>, value: MaybeUndefined<T>) {
            match value {
                MaybeUndefined::Undefined => {}
                MaybeUndefined::Null => *slot = None,
                MaybeUndefined::Value(value) => *slot = Some(value),
            }
        }
        keep(&mut flag.default_value, self.default_value.map(|Json(value)| value));
        keep_or_drop(&mut flag.off_value, self.off_value.map_value(|Json(value)| value));
        keep(&mut flag.description, self.description);
        keep(&mut flag.owner, self.owner);
        if self.lifecycle == Some(Lifecycle::Permanent) {
            flag.stale_after = None;
        }
        keep(&mut flag.lifecycle, self.lifecycle);
        keep_or_drop(&mut flag.stale_after, self.stale_after);
        keep_or_drop(&mut flag.feature, self.feature);
        keep(&mut flag.enabled, self.enabled);
        keep(&mut flag.operator_only, self.operator_only);
        keep(&mut flag.approval, self.approval);
        keep(&mut flag.variants, self.variants.map(variants));
        keep(&mut flag.plan_values, self.plan_values.map(plan_values).transpose()?);
        keep(&mut flag.rules, self.rules.map(rules).transpose()?);
        keep(&mut flag.prerequisites, self.prerequisites.map(prerequisites));
        keep(&mut flag.salt, self.salt);
        Ok(())
    }
}

impl TryFrom<DefineSegmentInput> for NewSegment {
    type Error = Error;

    fn try_from(input: DefineSegmentInput) -> Result<Self> {
        let conditions = Conditions(conditions("conditions", input.conditions)?);
        Ok(Self { key: input.key, description: input.description, conditions })
    }
}

impl TryFrom<SetFlagInput> for NewSetting {
    type Error = Error;

    fn try_from(input: SetFlagInput) -> Result<Self> {
        let value = match input.value {
            MaybeUndefined::Undefined => {
                return Err(Error::invalid("value", "is needed; null takes the tenant's value back"));
            }
            MaybeUndefined::Null | MaybeUndefined::Value(Json(Value::Null)) => None,
            MaybeUndefined::Value(Json(value)) => Some(value),
        };
        let SetFlagInput { key: flag_key, starts_at, ends_at, reason, .. } = input;
        Ok(Self { flag_key, value, starts_at, ends_at, reason })
    }
}

fn variants(variants: Vec<FlagVariantInput>) -> Variants {
    Variants(variants.into_iter().map(|variant| Variant { name: variant.name, value: variant.value.0 }).collect())
}

fn plan_values(values: Vec<FlagPlanValueInput>) -> Result<PlanValues> {
    let count = values.len();
    let map: std::collections::BTreeMap<_, _> = values.into_iter().map(|value| (value.plan, value.value.0)).collect();
    if map.len() < count { Err(Error::invalid("planValues", "names a plan twice")) } else { Ok(PlanValues(map)) }
}

fn prerequisites(wanted: Vec<FlagPrerequisiteInput>) -> Prerequisites {
    let prerequisite = |wanted: FlagPrerequisiteInput| Prerequisite { flag: wanted.flag, value: wanted.value.0 };
    Prerequisites(wanted.into_iter().map(prerequisite).collect())
}

fn rules(rules: Vec<FlagRuleInput>) -> Result<Rules> {
    let rule = |(index, rule): (usize, FlagRuleInput)| {
        let field = format!("rules[{index}]");
        Ok(Rule {
            key: rule.key,
            segments: rule.segments,
            conditions: conditions(&format!("{field}.conditions"), rule.conditions)?,
            value: rule.value.0,
            rollout: rule.rollout.map(|rollout| rollout.read(&format!("{field}.rollout"))).transpose()?,
        })
    };
    Ok(Rules(rules.into_iter().enumerate().map(rule).collect::<Result<_>>()?))
}

fn conditions(field: &str, conditions: Vec<FlagConditionInput>) -> Result<Vec<Condition>> {
    let condition = |(index, condition): (usize, FlagConditionInput)| {
        Ok(Condition {
            attribute: attribute(&format!("{field}[{index}].attribute"), &condition.attribute)?,
            operator: condition.operator,
            values: condition.values.into_iter().map(|Json(value)| value).collect(),
        })
    };
    conditions.into_iter().enumerate().map(condition).collect()
}

impl FlagRolloutInput {
    fn read(self, field: &str) -> Result<Rollout> {
        let buckets = Decimal::from(BUCKETS / 100) * self.percentage.clamp(Decimal::NEGATIVE_ONE, Decimal::from(101));
        let percentage = format!("{field}.percentage");
        if !buckets.fract().is_zero() {
            return Err(Error::invalid(percentage, "has at most three digits behind the point"));
        }
        let buckets = buckets.to_u32().filter(|buckets| *buckets <= BUCKETS);
        let buckets = buckets.ok_or_else(|| Error::invalid(percentage, "must be between 0 and 100"))?;
        Ok(Rollout { buckets, bucket_by: attribute(&format!("{field}.bucketBy"), &self.bucket_by)? })
    }
}

fn attribute(field: &str, name: &str) -> Result<Attribute> {
    name.parse().map_err(|rule: &str| Error::invalid(field, rule.to_owned()))
}
