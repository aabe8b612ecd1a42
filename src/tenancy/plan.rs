//! The catalogue of what is sold. The platform's own: no tenant's row.

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set, EntityTrait as _, FromJsonQueryResult, IntoActiveModel as _, QueryOrder as _, QuerySelect as _,
    entity::prelude::*,
};
use serde::{Deserialize, Serialize};

use super::{sla::Sla, tenant::IsolationTier};
use crate::{
    error::{Error, Result},
    platform::db::{Tx, violated_constraint},
};

/// Names of features that a plan includes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Features(pub Vec<String>);

/// Names of layers that tenants of a plan cannot do without, besides those that everybody has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct RequiredLayers(pub Vec<String>);

/// Quota defaults, key → limit; none is unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct QuotaDefaults(pub std::collections::BTreeMap<String, Option<i64>>);

/// One row of `plans`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Serialize, Deserialize)]
#[sea_orm(schema_name = "tenantry", table_name = "plans")]
#[serde(rename_all = "camelCase")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub key: String,
    pub name: String,
    pub description: String,
    pub isolation_tier: IsolationTier,
    #[sea_orm(column_type = "JsonBinary")]
    pub features: Features,
    #[sea_orm(column_type = "JsonBinary")]
    pub quotas: QuotaDefaults,
    #[sea_orm(column_type = "JsonBinary")]
    #[serde(default)]
    pub required_layers: RequiredLayers,
    #[sea_orm(column_type = "JsonBinary")]
    pub sla: Sla,
    #[sea_orm(column_type = "JsonBinary")]
    pub prices: Json,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

pub type Plan = Model;

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Plan {
    pub fn check(&self) -> Result<()> {
        let mut letters = self.key.chars();
        let well_formed = letters.next().is_some_and(|first| first.is_ascii_lowercase())
            && self.key.len() <= 63
            && letters.all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "_-".contains(letter));
        if !well_formed {
            return Err(Error::invalid(
                "key",
                "has 1 to 63 small letters, digits, '_' or '-', and begins with a letter",
            ));
        }
        super::profile::text("name", &self.name)?;
        if self.description.chars().count() > 2000 {
            return Err(Error::invalid("description", "must have at most 2000 characters"));
        }
        if let Some((key, _)) = self.quotas.0.iter().find(|(_, limit)| limit.is_some_and(|limit| limit < 0)) {
            return Err(Error::invalid(format!("quotas.{key}"), "must not be negative"));
        }
        self.sla.check("sla")
    }
}

pub(super) async fn all(tx: &Tx) -> Result<Vec<Plan>> {
    Ok(Entity::find().order_by_asc(Column::Key).all(tx).await?)
}

pub(super) async fn find(tx: &Tx, key: &str) -> Result<Option<Plan>> {
    Ok(Entity::find_by_id(key).one(tx).await?)
}

pub(super) async fn lock(tx: &Tx, key: &str) -> Result<Option<Plan>> {
    Ok(Entity::find_by_id(key).lock_exclusive().one(tx).await?)
}

/// The plan that an input names, or an error at `field`.
pub(super) async fn named(tx: &Tx, field: &str, key: &str) -> Result<Plan> {
    find(tx, key).await?.ok_or_else(|| Error::invalid(field.to_owned(), "names no plan of the catalogue"))
}

pub(super) async fn insert(tx: &Tx, plan: Plan) -> Result<()> {
    let inserted = Entity::insert(plan.into_active_model()).exec_without_returning(tx).await;
    match inserted {
        Err(error) if violated_constraint(&error) == Some("plans_pkey") => {
            Err(Error::conflict("there is a plan with this key already").at("key"))
        }
        Err(error) => Err(error.into()),
        Ok(_) => Ok(()),
    }
}

pub(super) async fn update(tx: &Tx, plan: &Plan) -> Result<()> {
    let mut row = plan.clone().into_active_model().reset_all();
    row.created_at = sea_orm::ActiveValue::NotSet;
    row.key = Set(plan.key.clone());
    Entity::update(row).exec(tx).await?;
    Ok(())
}
