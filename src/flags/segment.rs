//! A group of tenants, or of users, by what is true of them. One row of `flag_segments`.

use chrono::{DateTime, Utc};
use sea_orm::{FromJsonQueryResult, entity::prelude::*};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::condition::{Condition, Facts};

/// All of them must be true.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Conditions(pub Vec<Condition>);

#[derive(Clone, Debug, PartialEq, DeriveEntityModel, Serialize, Deserialize)]
#[sea_orm(schema_name = "tenantry", table_name = "flag_segments")]
#[serde(rename_all = "camelCase")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub key: String,
    pub description: String,
    #[sea_orm(column_type = "JsonBinary")]
    pub conditions: Conditions,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

pub type Segment = Model;

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Segment {
    pub fn holds(&self, facts: &Facts<'_>, context: &Map<String, Value>) -> bool {
        self.conditions.0.iter().all(|condition| condition.holds(facts, context))
    }
}
