//! Taking a cell out of use.

use std::sync::Arc;

use super::{Cell, CellState, Cells, store};
use crate::{
    error::{Error, Result},
    isolation::{Conditions, OperatorScope},
    journal::Entry,
    platform::ids::{CellId, TenantId},
};

impl Cells {
    /// The cell takes no new tenants from now on; one without any is retired at once.
    pub async fn drain(&self, scope: &OperatorScope, id: CellId, conditions: &Conditions) -> Result<Arc<Cell>> {
        let tx = self.isolation.begin_operator(scope).await?;
        if let Some(answered) = tx.first_answer::<CellId>(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return self.get(answered).await;
        }
        let before = store::lock(&tx, id).await?.ok_or_else(Error::not_found)?;
        conditions.check_version(before.version)?;
        let state = if before.placed == 0 { CellState::Retired } else { CellState::Draining };
        if before.state == state {
            tx.commit_unrecorded("nothing to do").await?;
            return Ok(Arc::new(before));
        }
        let cell = store::set_state(&tx, id, state, tx.stamp().at).await?;
        tx.keep_answer(conditions, &id).await?;
        let event = if state == CellState::Retired { "CellRetired" } else { "CellDraining" };
        tx.commit([Entry::new(event, "cell", id).change(Some(&before.record()), Some(&cell.record()))?]).await?;
        self.tenancy.snapshots().refresh(TenantId::PLATFORM).await;
        Ok(Arc::new(cell))
    }
}
