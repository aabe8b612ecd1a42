//! Cells: the PostgreSQL databases that hold what tenants have.
//!
//! *Owns*: `cells`, `cell_growth`, `cell_logs`, `placements`. *Rules*: which cell a tenant gets is decided by `placement.rs` and nowhere
//! else, on plain values, and the reason is kept; the address of a cell is sealed and never comes back; every replica knows
//! every cell from the catalogue in memory, so that a new one needs no restart; a cell that is down is passed over.
//!
//! *Emits*: CellRegistered, CellUpdated, CellRelocated, CellDraining, CellRetired, CellReactivated, CellHealthChanged, CellFactsChanged; TenantPlaced, TenantUnplaced.
//!
//! The first cell is a database of its own beside the registry's, on the same PostgreSQL: in the registry's database itself a
//! tenant's login could listen to its notifications and take its locks, which PostgreSQL shares by database.

mod cell;
mod change;
mod check;
pub mod graphql;
mod growth;
mod log;
mod names;
mod news;
mod own;
mod place;
mod placement;
mod pools;
mod probe;
mod register;
mod relocate;
mod store;

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use chrono::{DateTime, TimeDelta, Utc};

use self::pools::Pools;
pub use self::{
    cell::{Cell, CellCatalogue, CellHealth, CellState, Extension, ServerFacts},
    change::CellChange,
    check::HealthChange,
    log::{LogLine, LogStep},
    names::{literal, quoted, stem},
    news::{CellNews, Follower},
    place::Placement,
    placement::{Candidate, Choice, Wish, choose, residency},
    register::NewCell,
};
use crate::{
    config,
    error::{Error, Result},
    isolation::{Isolation, OperatorScope},
    keys::MasterKey,
    platform::{db::CellDb, ids::CellId, secret::Secret},
    tenancy::Tenancy,
};

/// The handle of this capability. Clones share it.
#[derive(Clone)]
pub struct Cells {
    isolation: Isolation,
    tenancy: Tenancy,
    master: MasterKey,
    pools: Arc<Pools>,
    rules: Arc<config::Cells>,
    /// The region that this server works for, if it is for one.
    region: Option<Arc<str>>,
    follower: Arc<RwLock<Option<Follower>>>,
    /// When this replica looked at them last.
    checked: Arc<Mutex<Option<DateTime<Utc>>>>,
}

impl std::fmt::Debug for Cells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cells").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl Cells {
    pub fn new(isolation: Isolation, tenancy: Tenancy, master: MasterKey, config: &config::Config) -> Self {
        tenancy.snapshots().keep_of_platform::<CellCatalogue>();
        tenancy.guard_tiers_with(place::guard_tier);
        let pools = Arc::new(Pools::new(&config.cells, config.provisioning.layer_timeout));
        let region = Some(config.server.region.as_str()).filter(|region| !region.is_empty()).map(Arc::from);
        Self {
            isolation,
            tenancy,
            master,
            pools,
            rules: Arc::new(config.cells.clone()),
            region,
            follower: Arc::default(),
            checked: Arc::default(),
        }
    }

    /// The cell, from memory; asked again where another replica has made it a moment ago.
    pub async fn get(&self, id: CellId) -> Result<Arc<Cell>> {
        let snapshots = self.tenancy.snapshots();
        if let Some(known) = snapshots.catalogue().await?.part::<CellCatalogue>()?.find(id) {
            return Ok(known);
        }
        let read = snapshots.reread_catalogue().await?;
        read.part::<CellCatalogue>()?.find(id).ok_or_else(Error::not_found)
    }

    /// All cells, by name.
    pub async fn all(&self) -> Result<Vec<Arc<Cell>>> {
        Ok(self.tenancy.snapshots().catalogue().await?.part::<CellCatalogue>()?.all().to_vec())
    }

    /// Whether `cells.check_interval` has passed since this was last true.
    pub fn is_check_due(&self) -> bool {
        let (now, every) =
            (self.isolation.clock().now(), TimeDelta::from_std(self.rules.check_interval).unwrap_or_default());
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = checked.is_none_or(|last| now - last >= every || now < last);
        if is_due {
            *checked = Some(now);
        }
        is_due
    }

    /// All cells as they are now, by name, and in how many days each is full.
    pub async fn list(&self, scope: &OperatorScope) -> Result<Vec<(Arc<Cell>, Option<i64>)>> {
        let tx = self.isolation.begin_operator(scope).await?;
        let cells = store::all(&tx).await?;
        tx.commit_unrecorded("a read").await?;
        let outlook = self.outlook(scope, &cells).await?;
        Ok(cells
            .into_iter()
            .map(|cell| (outlook.get(&cell.id).copied(), cell))
            .map(|(days, cell)| (Arc::new(cell), days))
            .collect())
    }

    /// Whether this server works for the cell's region.
    pub fn is_here(&self, cell: &Cell) -> bool {
        self.region.as_deref().is_none_or(|own| own == cell.region)
    }

    /// Connections to the cell, bounded, shared by all who ask on this replica.
    pub fn open(&self, cell: &Cell) -> Result<CellDb> {
        self.pools.open(cell, || self.url_of(cell))
    }

    fn url_of(&self, cell: &Cell) -> Result<Secret> {
        let url = self.master.unseal(&purpose(cell.id), &cell.sealed_url)?;
        Ok(Secret::new(String::from_utf8_lossy(&url).into_owned()))
    }
}

/// What a cell's sealed address is bound to.
fn purpose(cell: CellId) -> String {
    format!("cell:{cell}")
}
