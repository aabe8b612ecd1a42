//! Whether cells are well.

use futures::{StreamExt as _, stream};
use serde::Deserialize;

use super::{Cell, CellHealth, CellState, Cells, store};
use crate::{
    error::Result,
    isolation::OperatorScope,
    journal::Entry,
    platform::ids::{CellId, TenantId},
};

/// Cells that are asked at once: one that does not answer holds up no other.
const AT_ONCE: usize = 16;
const SIGN_OF_LIFE: &str = "
    select jsonb_build_object('inRecovery', pg_is_in_recovery(), 'readOnly', current_setting('default_transaction_read_only')::bool)::text";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sign {
    in_recovery: bool,
    read_only: bool,
}

/// A change of what a cell's health is said to be.
#[derive(Clone, Debug)]
pub struct HealthChange {
    pub cell: CellId,
    pub was: CellHealth,
    pub is: CellHealth,
}

impl Cells {
    /// Asks every cell for a sign of life, and answers what has changed. Each replica looks for itself; what is news is
    /// written once.
    pub async fn check_all(&self) -> Result<Vec<HealthChange>> {
        let tx = self.isolation.observe_platform().await?;
        let cells = store::all(&tx).await?;
        tx.end().await?;
        let here = |cell: &Cell| {
            cell.state != CellState::Retired && self.region.as_deref().is_none_or(|own| own == cell.region)
        };
        let looked: Vec<_> = stream::iter(cells.into_iter().filter(here))
            .map(|cell| async move {
                let (is, reason) = self.look(&cell).await;
                (cell, is, reason)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut changes = Vec::new();
        for (cell, is, reason) in looked {
            if (cell.health, cell.health_reason.as_str()) == (is, reason.as_str()) {
                continue;
            }
            if self.note_health(&cell, is, &reason).await? {
                changes.push(HealthChange { cell: cell.id, was: cell.health, is });
            }
        }
        if !changes.is_empty() {
            self.tenancy.snapshots().refresh(TenantId::PLATFORM).await;
        }
        Ok(changes)
    }

    async fn look(&self, cell: &Cell) -> (CellHealth, String) {
        let asked = async {
            let mut tx = self.open(cell)?.begin().await?;
            let sign: Sign = tx.json(SIGN_OF_LIFE, &[]).await?;
            tx.commit().await?;
            Ok::<_, crate::error::Error>(sign)
        };
        match asked.await {
            Ok(Sign { in_recovery: false, read_only: false }) => (CellHealth::Healthy, String::new()),
            Ok(_) => (CellHealth::Degraded, "it takes no writes".to_owned()),
            Err(error) => (CellHealth::Unhealthy, error.message().to_owned()),
        }
    }

    async fn note_health(&self, cell: &Cell, is: CellHealth, reason: &str) -> Result<bool> {
        let tx = self.isolation.begin_operator(&OperatorScope::system("cell-check")).await?;
        let now = tx.stamp().at;
        if !store::set_health(&tx, cell.id, is, reason, now).await? {
            tx.rollback().await?;
            return Ok(false);
        }
        let before = serde_json::json!({ "health": cell.health, "reason": cell.health_reason });
        let after = serde_json::json!({ "health": is, "reason": reason });
        if is == CellHealth::Unhealthy {
            tracing::error!(cell = cell.name, reason, "a cell is down; its tenants wait, others go on");
        }
        tx.commit([Entry::new("CellHealthChanged", "cell", cell.id).change(Some(&before), Some(&after))?]).await?;
        Ok(true)
    }
}
