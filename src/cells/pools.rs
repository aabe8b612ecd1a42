//! The connections of this replica to cells.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::Cell;
use crate::{
    config,
    error::Result,
    platform::{
        db::{CellDb, CellLimits},
        ids::CellId,
        secret::Secret,
    },
};

/// One bounded pool for each cell that was used. Idle connections are closed by the pool; a cell whose address changed gets
/// a new pool, and the old one ends with its last borrower.
#[derive(Debug)]
pub(super) struct Pools {
    limits: CellLimits,
    open: Mutex<HashMap<CellId, (Vec<u8>, CellDb)>>,
}

impl Pools {
    pub(super) fn new(rules: &config::Cells, statement_timeout: Duration) -> Self {
        let limits = CellLimits {
            connections: rules.max_connections,
            acquire_timeout: rules.acquire_timeout,
            idle_timeout: rules.idle_timeout,
            statement_timeout,
        };
        Self { limits, open: Mutex::default() }
    }

    pub(super) fn limits(&self) -> CellLimits {
        self.limits
    }

    pub(super) fn open(&self, cell: &Cell, url: impl FnOnce() -> Result<Secret>) -> Result<CellDb> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((sealed, db)) = open.get(&cell.id)
            && *sealed == cell.sealed_url
        {
            return Ok(db.clone());
        }
        let db = CellDb::connect(&url()?, self.limits)?;
        open.insert(cell.id, (cell.sealed_url.clone(), db.clone()));
        Ok(db)
    }
}
