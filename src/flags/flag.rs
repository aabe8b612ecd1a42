//! What a flag is: its definition, as operators write it. One row of `flags`.

use std::collections::BTreeMap;

use async_graphql::Enum;
use chrono::{DateTime, Utc};
use sea_orm::{FromJsonQueryResult, entity::prelude::*};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::condition::{Attribute, Condition};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "FlagType")]
pub enum Kind {
    Boolean,
    String,
    Number,
    /// An object or a list.
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "FlagLifecycle")]
pub enum Lifecycle {
    /// For a rollout: to be taken out of the code, and archived, after its date.
    Temporary,
    /// For good.
    Permanent,
}

/// Whether setting a tenant's value needs a second person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "FlagApproval")]
pub enum Approval {
    None,
    /// `setFlag` makes a change request, which another operator approves or rejects.
    Required,
}

/// A name for a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    pub name: String,
    pub value: Value,
}

/// Which part of those that a rule is about has its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// How many of the 100,000 buckets, from the first.
    pub buckets: u32,
    /// What is put into buckets: the tenant, or whoever an attribute names.
    pub bucket_by: Attribute,
}

/// In one of the segments (where there are any), and all conditions true.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Name within the flag, as answers tell it.
    pub key: String,
    #[serde(default)]
    pub segments: Vec<String>,
    #[serde(default)]
    pub conditions: Vec<Condition>,
    pub value: Value,
    pub rollout: Option<Rollout>,
}

/// Another flag that must have this value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prerequisite {
    pub flag: String,
    pub value: Value,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Variants(pub Vec<Variant>);

/// By key of the plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct PlanValues(pub BTreeMap<String, Value>);

/// In order; the first that matches decides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Rules(pub Vec<Rule>);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Prerequisites(pub Vec<Prerequisite>);

#[derive(Clone, Debug, PartialEq, DeriveEntityModel, Serialize, Deserialize)]
#[sea_orm(schema_name = "tenantry", table_name = "flags")]
#[serde(rename_all = "camelCase")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub key: String,
    /// Never changes: code that asks for it relies on it.
    pub kind: Kind,
    #[sea_orm(column_type = "JsonBinary")]
    pub default_value: Value,
    /// While it is switched off; the default where there is none.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub off_value: Option<Value>,
    pub description: String,
    /// Who answers questions about it.
    pub owner: String,
    pub lifecycle: Lifecycle,
    /// Of a temporary flag: when it should be gone.
    pub stale_after: Option<DateTime<Utc>>,
    /// Feature that a tenant's plan must include for any other value than the default.
    pub feature: Option<String>,
    /// The kill switch: a flag that is not enabled has one value for everyone.
    pub enabled: bool,
    /// Whether a tenant's own services may not set it.
    pub operator_only: bool,
    pub approval: Approval,
    #[sea_orm(column_type = "JsonBinary")]
    pub variants: Variants,
    #[sea_orm(column_type = "JsonBinary")]
    pub plan_values: PlanValues,
    #[sea_orm(column_type = "JsonBinary")]
    pub rules: Rules,
    #[sea_orm(column_type = "JsonBinary")]
    pub prerequisites: Prerequisites,
    /// Another one deals all units into buckets anew.
    pub salt: String,
    pub archived_at: Option<DateTime<Utc>>,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

pub type Flag = Model;

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Kind {
    pub fn accepts(self, value: &Value) -> bool {
        match self {
            Self::Boolean => value.is_boolean(),
            Self::String => value.is_string(),
            Self::Number => value.is_number(),
            Self::Json => value.is_object() || value.is_array(),
        }
    }

    pub const fn wants(self) -> &'static str {
        match self {
            Self::Boolean => "must be true or false: the flag is a BOOLEAN",
            Self::String => "must be text: the flag is a STRING",
            Self::Number => "must be a number: the flag is a NUMBER",
            Self::Json => "must be an object or a list: the flag is JSON",
        }
    }
}

impl Flag {
    /// Whether it is temporary and should have been gone by now.
    pub fn stale(&self, now: DateTime<Utc>) -> bool {
        self.archived_at.is_none() && self.stale_after.is_some_and(|date| date <= now)
    }

    /// What its value is called: as the definition says, and on or off for a BOOLEAN that has no names.
    pub fn variant(&self, value: &Value) -> Option<&str> {
        let named = self.variants.0.iter().find(|variant| variant.value == *value);
        named.map(|variant| variant.name.as_str()).or(match value {
            Value::Bool(true) => Some("on"),
            Value::Bool(false) => Some("off"),
            _ => None,
        })
    }
}
