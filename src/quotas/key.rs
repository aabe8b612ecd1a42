//! The catalogue of what can be limited.

use async_graphql::Enum;
use chrono::{DateTime, Utc};
use sea_orm::{EntityTrait as _, IntoActiveModel as _, QueryOrder as _, QuerySelect as _, entity::prelude::*};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    platform::{
        db::{Tx, violated_constraint},
        ids::TenantId,
    },
    tenancy::Part,
};

/// How a quota counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "QuotaKind")]
pub enum Kind {
    /// What exists at once, such as clusters: it stays used until it is given back.
    Level,
    /// What is used up in each period, such as tokens per month.
    Period,
    /// How fast, in units per second.
    Rate,
    /// How many at the same time, such as open streams.
    Concurrency,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "QuotaPeriod")]
pub enum Period {
    Minute,
    Hour,
    /// Of the tenant's time zone.
    Day,
    /// Of the tenant's time zone.
    Month,
}

/// What happens at the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "QuotaEnforcement")]
pub enum Enforcement {
    /// More is refused.
    Hard,
    /// More is allowed, and recorded when the limit is passed.
    Soft,
}

/// One row of `quota_keys`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Serialize, Deserialize)]
#[sea_orm(schema_name = "tenantry", table_name = "quota_keys")]
#[serde(rename_all = "camelCase")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub key: String,
    pub unit: String,
    pub kind: Kind,
    pub period: Option<Period>,
    pub description: String,
    pub enforcement: Enforcement,
    /// How far above the limit is still let in, in per cent of it.
    pub grace_percent: i32,
    /// For plans that do not name the key; none is unlimited.
    pub default_limit: Option<i64>,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

pub type QuotaKey = Model;

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl QuotaKey {
    /// Whether it is counted in the database: reserved, committed, given back.
    pub fn is_counted(&self) -> bool {
        matches!(self.kind, Kind::Level | Kind::Period)
    }

    pub(super) fn check(&self) -> Result<()> {
        let mut letters = self.key.chars();
        let well_formed = letters.next().is_some_and(|first| first.is_ascii_lowercase())
            && self.key.len() <= 63
            && letters.all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_');
        if !well_formed {
            let rule = "has 1 to 63 small letters, digits or '_', and begins with a letter";
            return Err(Error::invalid("key", rule));
        }
        if self.unit.trim().is_empty() || self.unit.chars().count() > 63 {
            return Err(Error::invalid("unit", "must have 1 to 63 characters"));
        }
        if self.description.chars().count() > 2000 {
            return Err(Error::invalid("description", "must have at most 2000 characters"));
        }
        if (self.kind == Kind::Period) != self.period.is_some() {
            return Err(Error::invalid("period", "is needed for the kind PERIOD, and for no other"));
        }
        check_grace("gracePercent", self.grace_percent)?;
        check_limit("defaultLimit", self.default_limit)
    }
}

pub(super) fn check_grace(field: &str, percent: i32) -> Result<()> {
    if (0..=100).contains(&percent) { Ok(()) } else { Err(Error::invalid(field, "must be between 0 and 100")) }
}

pub(super) fn check_limit(field: &str, limit: Option<i64>) -> Result<()> {
    match limit {
        Some(limit) if limit < 0 => Err(Error::invalid(field, "must not be negative")),
        _ => Ok(()),
    }
}

/// All keys, in memory.
#[derive(Clone, Debug)]
pub struct QuotaKeys(Vec<QuotaKey>);

impl QuotaKeys {
    pub fn all(&self) -> &[QuotaKey] {
        &self.0
    }

    pub fn find(&self, key: &str) -> Option<&QuotaKey> {
        self.0.binary_search_by(|known| known.key.as_str().cmp(key)).ok().map(|index| &self.0[index])
    }
}

impl Part for QuotaKeys {
    async fn load(tx: &Tx, _: TenantId) -> Result<Self> {
        let mut keys = Entity::find().order_by_asc(Column::Key).all(tx).await?;
        keys.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self(keys))
    }

    fn weight(&self) -> usize {
        self.0.iter().map(|key| 200 + key.key.len() + key.unit.len() + key.description.len()).sum()
    }
}

pub(super) async fn lock(tx: &Tx, key: &str) -> Result<QuotaKey> {
    Entity::find_by_id(key).lock_exclusive().one(tx).await?.ok_or_else(Error::not_found)
}

pub(super) async fn insert(tx: &Tx, key: &QuotaKey) -> Result<()> {
    match Entity::insert(key.clone().into_active_model()).exec_without_returning(tx).await {
        Err(error) if violated_constraint(&error) == Some("quota_keys_pkey") => {
            Err(Error::conflict("there is a quota with this key already").at("key"))
        }
        Err(error) => Err(error.into()),
        Ok(_) => Ok(()),
    }
}

pub(super) async fn update(tx: &Tx, key: &QuotaKey) -> Result<()> {
    let mut row = key.clone().into_active_model().reset_all();
    row.created_at = sea_orm::ActiveValue::NotSet;
    row.key = sea_orm::ActiveValue::Set(key.key.clone());
    Entity::update(row).exec(tx).await?;
    Ok(())
}
