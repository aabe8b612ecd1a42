use std::sync::Arc;

use async_graphql::Enum;
use chrono::{DateTime, Utc};
use sea_orm::{DeriveActiveEnum, EnumIter, FromJsonQueryResult, FromQueryResult};
use serde::{Deserialize, Serialize};

use super::store;
use crate::{
    error::Result,
    platform::{
        db::{CellAddress, Tx},
        ids::{CellId, TenantId},
    },
    tenancy::{IsolationTier, Part},
};

/// Whether a cell takes new tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CellState {
    /// Takes tenants.
    Active,
    /// Takes no more; those that are there stay until they are moved or removed.
    Draining,
    /// Empty, and out of use.
    Retired,
}

/// What the last look at a cell said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CellHealth {
    Healthy,
    /// Works, but not as it should: read-only, for example.
    Degraded,
    /// Does not work.
    Unhealthy,
    /// Nobody has looked yet.
    Unknown,
}

/// An extension that matters to layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Extension {
    pub name: String,
    /// The version that `create extension` would make.
    pub available: Option<String>,
    /// The version that is there in the cell's database.
    pub installed: Option<String>,
    /// Whether the cell's login may install it, in a tenant's own database, too.
    #[serde(default)]
    pub creatable: bool,
}

impl Extension {
    /// Whether a tenant of this tier finds it here: in the cell's database, or in one of its own.
    pub fn serves(&self, tier: IsolationTier) -> bool {
        self.creatable || (tier == IsolationTier::Standard && self.installed.is_some())
    }
}

/// What the server of a cell said of itself when it was registered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(rename_all = "camelCase")]
pub struct ServerFacts {
    /// `server_version_num`, for example 170011.
    pub version: i32,
    /// Whether the login may make databases, which enterprise and premium tenants need.
    pub makes_databases: bool,
    pub extensions: Vec<Extension>,
    /// Why it cannot be read what its server refused to tenants; none where it can.
    #[serde(default)]
    pub denials_hidden: Option<String>,
}

/// Where clients find the cell, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Address(pub CellAddress);

/// One row of `cells`.
#[derive(Clone, Debug, FromQueryResult)]
pub struct Cell {
    #[sea_orm(from_alias = "cell_id")]
    pub id: CellId,
    /// Unique, of the operator's choosing: `eu-central-1a`.
    pub name: String,
    pub region: String,
    /// The tier of tenants that it is for.
    pub tier: IsolationTier,
    /// Tenants at most.
    pub capacity: i64,
    /// Tenants that are there, when this was read.
    pub placed: i64,
    /// The one tenant that a premium cell is for, once it is known.
    pub reserved_for: Option<TenantId>,
    pub state: CellState,
    pub(super) sealed_url: Vec<u8>,
    pub address: Address,
    pub facts: ServerFacts,
    pub health: CellHealth,
    pub health_reason: String,
    pub health_since: DateTime<Utc>,
    /// The first one, made by Tenantry itself.
    pub is_own: bool,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl Cell {
    /// How many tenants more it takes.
    pub(super) fn room(&self) -> i64 {
        if self.state == CellState::Active { (self.capacity - self.placed).max(0) } else { 0 }
    }

    /// The extensions that a tenant of this tier finds here.
    pub fn extensions_for(&self, tier: IsolationTier) -> Vec<String> {
        let found = self.facts.extensions.iter().filter(|extension| extension.serves(tier));
        found.map(|extension| extension.name.clone()).collect()
    }
}

/// All cells, in every replica's memory.
#[derive(Clone, Debug, Default)]
pub struct CellCatalogue(Vec<Arc<Cell>>);

impl CellCatalogue {
    pub fn find(&self, id: CellId) -> Option<Arc<Cell>> {
        self.0.iter().find(|cell| cell.id == id).cloned()
    }

    /// By name.
    pub fn all(&self) -> &[Arc<Cell>] {
        &self.0
    }
}

impl Part for CellCatalogue {
    async fn load(tx: &Tx, _: TenantId) -> Result<Self> {
        Ok(Self(store::all(tx).await?.into_iter().map(Arc::new).collect()))
    }

    fn weight(&self) -> usize {
        self.0.len() * 1024
    }
}

/// What the journal keeps of a cell: everything but its address and its secret.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record<'a> {
    name: &'a str,
    region: &'a str,
    tier: IsolationTier,
    capacity: i64,
    reserved_for: Option<TenantId>,
    state: CellState,
    facts: &'a ServerFacts,
}

impl Cell {
    pub(super) fn record(&self) -> Record<'_> {
        Record {
            name: &self.name,
            region: &self.region,
            tier: self.tier,
            capacity: self.capacity,
            reserved_for: self.reserved_for,
            state: self.state,
            facts: &self.facts,
        }
    }
}
