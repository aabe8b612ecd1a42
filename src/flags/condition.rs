//! One condition: an attribute of the tenant or of the evaluation context, an operator, values.

use std::{cmp::Ordering, collections::BTreeMap, fmt, str::FromStr};

use async_graphql::Enum;
use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Values that one condition may name.
const MAX_VALUES: usize = 1_000;

/// How an attribute is compared. Of an attribute that is not there only NOT_EQ, NOT_IN and NOT_EXISTS are true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "FlagOperator")]
pub enum Operator {
    Eq,
    NotEq,
    /// Is one of the values.
    In,
    /// Is none of the values.
    NotIn,
    /// A text that has one of the values in it, or a list that has one of them as an item.
    Contains,
    StartsWith,
    EndsWith,
    /// Greater, as numbers; a text that is written as a number counts as one.
    Gt,
    Gte,
    Lt,
    Lte,
    /// Equal in precedence (Semantic Versioning 2.0.0, section 11).
    SemverEq,
    SemverGt,
    SemverGte,
    SemverLt,
    SemverLte,
    /// Is there and not null; takes no values.
    Exists,
    NotExists,
}

/// What a condition looks at. `tenant.…` is what the registry knows, which no caller can overwrite; everything else is an
/// attribute of the evaluation context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Attribute {
    TenantId,
    TenantSlug,
    TenantPlan,
    TenantRegion,
    TenantIsolationTier,
    TenantStatus,
    /// `tenant.label.<key>`
    TenantLabel(String),
    /// By its name; where there is none of that name, dots lead into objects.
    Context(String),
}

/// True or false of a tenant and a context.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    pub attribute: Attribute,
    pub operator: Operator,
    #[serde(default)]
    pub values: Vec<Value>,
}

/// What the evaluator knows of the tenant.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub id: &'a str,
    pub slug: &'a str,
    pub plan: &'a str,
    pub region: &'a str,
    pub isolation_tier: &'a str,
    pub status: &'a str,
    pub labels: &'a BTreeMap<String, String>,
    /// Of the plan, and given beside it.
    pub features: &'a [String],
}

/// What an attribute is, for one tenant and context.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found<'a> {
    Text(&'a str),
    Json(&'a Value),
}

impl FromStr for Attribute {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, &'static str> {
        if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
            return Err("has 1 to 128 bytes without control characters");
        }
        let Some(own) = name.strip_prefix("tenant.") else { return Ok(Self::Context(name.to_owned())) };
        Ok(match own {
            "id" => Self::TenantId,
            "slug" => Self::TenantSlug,
            "plan" => Self::TenantPlan,
            "region" => Self::TenantRegion,
            "isolationTier" => Self::TenantIsolationTier,
            "status" => Self::TenantStatus,
            _ => match own.strip_prefix("label.").filter(|label| !label.is_empty()) {
                Some(label) => Self::TenantLabel(label.to_owned()),
                None => return Err("is none of tenant.id, slug, plan, region, isolationTier, status, label.<key>"),
            },
        })
    }
}

impl TryFrom<String> for Attribute {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, &'static str> {
        name.parse()
    }
}

impl From<Attribute> for String {
    fn from(attribute: Attribute) -> Self {
        attribute.to_string()
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TenantId => f.write_str("tenant.id"),
            Self::TenantSlug => f.write_str("tenant.slug"),
            Self::TenantPlan => f.write_str("tenant.plan"),
            Self::TenantRegion => f.write_str("tenant.region"),
            Self::TenantIsolationTier => f.write_str("tenant.isolationTier"),
            Self::TenantStatus => f.write_str("tenant.status"),
            Self::TenantLabel(label) => write!(f, "tenant.label.{label}"),
            Self::Context(name) => f.write_str(name),
        }
    }
}

impl Attribute {
    pub(super) fn find<'a>(&self, facts: &Facts<'a>, context: &'a Map<String, Value>) -> Option<Found<'a>> {
        Some(Found::Text(match self {
            Self::TenantId => facts.id,
            Self::TenantSlug => facts.slug,
            Self::TenantPlan => facts.plan,
            Self::TenantRegion => facts.region,
            Self::TenantIsolationTier => facts.isolation_tier,
            Self::TenantStatus => facts.status,
            Self::TenantLabel(label) => facts.labels.get(label)?,
            Self::Context(name) => return in_context(name, context).filter(|value| !value.is_null()).map(Found::Json),
        }))
    }
}

fn in_context<'a>(name: &str, context: &'a Map<String, Value>) -> Option<&'a Value> {
    context.get(name).or_else(|| {
        let (first, rest) = name.split_once('.')?;
        rest.split('.').try_fold(context.get(first)?, |value, part| value.get(part))
    })
}

impl Found<'_> {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Json(value) => value.as_str(),
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Json(value) if value.is_number() => value.as_f64(),
            found => found.text()?.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        }
    }

    fn is(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Text(text), Value::String(value)) => text == value,
            (Self::Text(_), _) => false,
            // 1 and 1.0 are one number.
            (Self::Json(Value::Number(found)), Value::Number(value)) => found.as_f64() == value.as_f64(),
            (Self::Json(found), value) => *found == value,
        }
    }

    fn contains(&self, value: &Value) -> bool {
        match self {
            Self::Json(Value::Array(items)) => items.iter().any(|item| Found::Json(item).is(value)),
            found => found.text().zip(value.as_str()).is_some_and(|(text, value)| text.contains(value)),
        }
    }
}

impl Condition {
    /// Whether it is true of this tenant and context.
    pub fn holds(&self, facts: &Facts<'_>, context: &Map<String, Value>) -> bool {
        let found = self.attribute.find(facts, context);
        match (self.operator, found) {
            (Operator::Exists, found) => found.is_some(),
            (Operator::NotExists, found) => found.is_none(),
            (Operator::NotEq | Operator::NotIn, None) => true,
            (Operator::NotEq | Operator::NotIn, Some(found)) => !self.values.iter().any(|value| found.is(value)),
            (_, None) => false,
            (operator, Some(found)) => self.values.iter().any(|value| compare(operator, found, value)),
        }
    }

    /// At the door: what can never be true, or is not what the operator compares, is refused.
    pub(super) fn check(&self, field: &str) -> Result<()> {
        let wrong = |rule: String| Err(Error::invalid(format!("{field}.values"), rule));
        let (least, most) = match self.operator {
            Operator::Exists | Operator::NotExists => (0, 0),
            Operator::In | Operator::NotIn | Operator::Contains | Operator::StartsWith | Operator::EndsWith => {
                (1, MAX_VALUES)
            }
            _ => (1, 1),
        };
        if !(least..=most).contains(&self.values.len()) {
            let count = if least == most { least.to_string() } else { format!("{least} to {most}") };
            return wrong(format!("must be {count} for this operator, not {}", self.values.len()));
        }
        for (index, value) in self.values.iter().enumerate() {
            if let Some(rule) = unfit(self.operator, value) {
                return Err(Error::invalid(format!("{field}.values[{index}]"), rule));
            }
        }
        Ok(())
    }
}

/// What is wrong with a value for an operator.
fn unfit(operator: Operator, value: &Value) -> Option<&'static str> {
    use Operator::*;
    match operator {
        Gt | Gte | Lt | Lte => (!value.is_number()).then_some("must be a number"),
        StartsWith | EndsWith => (!value.is_string()).then_some("must be text"),
        SemverEq | SemverGt | SemverGte | SemverLt | SemverLte => {
            let version = value.as_str().and_then(|text| Version::parse(text).ok());
            version.is_none().then_some("must be a version such as 1.4.0 (Semantic Versioning 2.0.0)")
        }
        _ => (!matches!(value, Value::String(_) | Value::Number(_) | Value::Bool(_)))
            .then_some("must be text, a number, true or false"),
    }
}

fn compare(operator: Operator, found: Found<'_>, value: &Value) -> bool {
    let numbers = || found.number()?.partial_cmp(&value.as_f64()?);
    let versions = || {
        let (found, value) = (Version::parse(found.text()?).ok()?, Version::parse(value.as_str()?).ok()?);
        Some(found.cmp_precedence(&value))
    };
    let texts = |rule: fn(&str, &str) -> bool| found.text().zip(value.as_str()).is_some_and(|(a, b)| rule(a, b));
    match operator {
        Operator::Eq | Operator::In => found.is(value),
        Operator::Contains => found.contains(value),
        Operator::StartsWith => texts(|text, start| text.starts_with(start)),
        Operator::EndsWith => texts(|text, end| text.ends_with(end)),
        Operator::Gt => numbers() == Some(Ordering::Greater),
        Operator::Gte => numbers().is_some_and(Ordering::is_ge),
        Operator::Lt => numbers() == Some(Ordering::Less),
        Operator::Lte => numbers().is_some_and(Ordering::is_le),
        Operator::SemverEq => versions() == Some(Ordering::Equal),
        Operator::SemverGt => versions() == Some(Ordering::Greater),
        Operator::SemverGte => versions().is_some_and(Ordering::is_ge),
        Operator::SemverLt => versions() == Some(Ordering::Less),
        Operator::SemverLte => versions().is_some_and(Ordering::is_le),
        Operator::NotEq | Operator::NotIn | Operator::Exists | Operator::NotExists => false,
    }
}
