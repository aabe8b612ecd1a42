//! The catalogue of what is measured.

use async_graphql::Enum;
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::{Set, Unchanged},
    EntityTrait as _, IntoActiveModel as _, QueryOrder as _, QuerySelect as _,
    entity::prelude::*,
};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    platform::{
        db::{Tx, violated_constraint},
        ids::TenantId,
    },
    tenancy::Part,
};

use super::value_path::ValuePath;

/// What a window's figure is of its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "UsageAggregation")]
pub enum Aggregation {
    /// The sum of quantities.
    Sum,
    /// The largest quantity.
    Max,
    /// The quantity of the latest event, by its own time.
    Last,
    /// How many different subjects there are. An event without a subject reports a count instead: the larger figure holds.
    UniqueCount,
    /// The same for each day, and the sum of the days in a month.
    DailyUniqueCount,
    /// Each quantity holds from its time until the next: the average over the window, up to now. Before the first it is 0.
    TimeWeightedAverage,
}

/// What becomes of a part of a unit that is sold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "UsageRounding")]
pub enum Rounding {
    /// It stays a part.
    None,
    Up,
    Down,
    /// Up from a half on.
    HalfUp,
}

/// One row of `usage_dimensions`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Serialize, Deserialize)]
#[sea_orm(schema_name = "tenantry", table_name = "usage_dimensions")]
#[serde(rename_all = "camelCase")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub key: String,
    pub dimension_id: i16,
    pub unit: String,
    pub description: String,
    pub aggregation: Aggregation,
    /// How many make one unit that is sold.
    pub unit_size: i64,
    pub rounding: Rounding,
    /// Labels of events by which totals are kept apart.
    pub group_by: GroupBy,
    /// Where an event's body says the quantity.
    pub value_path: Option<String>,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(transparent)]
pub struct GroupBy(pub Vec<String>);

pub type Dimension = Model;

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// More make more totals of each event than anyone reads.
const LABELS: usize = 4;

impl Dimension {
    pub(super) fn check(&self) -> Result<()> {
        if !is_key(&self.key) {
            let rule = "has 1 to 63 small letters, digits or '_', and begins with a letter";
            return Err(Error::invalid("key", rule));
        }
        if self.unit.trim().is_empty() || self.unit.chars().count() > 63 {
            return Err(Error::invalid("unit", "must have 1 to 63 characters"));
        }
        if self.description.chars().count() > 2000 {
            return Err(Error::invalid("description", "must have at most 2000 characters"));
        }
        if self.unit_size < 1 {
            return Err(Error::invalid("unitSize", "must be at least 1"));
        }
        let labels = &self.group_by.0;
        if labels.len() > LABELS || !labels.iter().all(|label| is_key(label)) {
            let rule = "has at most 4 labels, each of 1 to 63 small letters, digits or '_', with a letter first";
            return Err(Error::invalid("groupBy", rule));
        }
        if labels.iter().enumerate().any(|(place, label)| labels[..place].contains(label)) {
            return Err(Error::invalid("groupBy", "names a label twice"));
        }
        self.value_path.as_deref().map_or(Ok(()), |path| ValuePath::parse(path).map(drop))
    }
}

pub(super) fn is_key(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|first| first.is_ascii_lowercase())
        && text.len() <= 63
        && letters.all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
}

/// All dimensions, in memory.
#[derive(Clone, Debug)]
pub struct Dimensions(Vec<Dimension>);

impl Dimensions {
    pub fn all(&self) -> &[Dimension] {
        &self.0
    }

    pub fn find(&self, key: &str) -> Option<&Dimension> {
        self.0.binary_search_by(|known| known.key.as_str().cmp(key)).ok().map(|index| &self.0[index])
    }
}

impl Part for Dimensions {
    async fn load(tx: &Tx, _: TenantId) -> Result<Self> {
        let mut dimensions = Entity::find().order_by_asc(Column::Key).all(tx).await?;
        dimensions.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self(dimensions))
    }

    fn weight(&self) -> usize {
        self.0.iter().map(|known| 200 + known.key.len() + known.unit.len() + known.description.len()).sum()
    }
}

const NEXT_ID: &str = "
    select (max(dimension_id) + 1)::int2 as next from tenantry.usage_dimensions";

/// The catalogue is locked by its first row, so that two that are defined at once get two ids.
pub(super) async fn insert(tx: &Tx, dimension: &mut Dimension) -> Result<()> {
    tx.execute("select key from tenantry.usage_dimensions where dimension_id = 1 for update", []).await?;
    let row = tx.row(NEXT_ID, []).await?.ok_or_else(|| Error::internal("there are no dimensions"))?;
    dimension.dimension_id = row.try_get("", "next")?;
    match Entity::insert(dimension.clone().into_active_model()).exec_without_returning(tx).await {
        Err(error) if violated_constraint(&error) == Some("usage_dimensions_pkey") => {
            Err(Error::conflict("there is a dimension with this key already").at("key"))
        }
        Err(error) => Err(error.into()),
        Ok(_) => Ok(()),
    }
}

pub(super) async fn lock(tx: &Tx, key: &str) -> Result<Dimension> {
    Entity::find_by_id(key).lock_exclusive().one(tx).await?.ok_or_else(Error::not_found)
}

/// Writes what may change.
pub(super) async fn update(tx: &Tx, dimension: &Dimension) -> Result<()> {
    let known = dimension.clone();
    let row = ActiveModel {
        key: Unchanged(known.key),
        unit: Set(known.unit),
        description: Set(known.description),
        group_by: Set(known.group_by),
        value_path: Set(known.value_path),
        version: Set(known.version),
        updated_at: Set(known.updated_at),
        ..Default::default()
    };
    Entity::update(row).exec(tx).await?;
    Ok(())
}
