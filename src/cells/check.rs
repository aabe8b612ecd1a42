//! Whether cells are well.

use futures::{StreamExt as _, stream};
use serde::Deserialize;

use super::{Cell, CellHealth, CellNews, CellState, Cells, ServerFacts, probe::Probe, store};
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
    /// Asks every cell for a sign of life and what its server has, and answers whose health has changed. Each replica looks for
    /// itself; what is news is written once.
    pub async fn check_all(&self) -> Result<Vec<HealthChange>> {
        let tx = self.isolation.observe_platform().await?;
        let cells = store::all(&tx).await?;
        tx.end().await?;
        let here = |cell: &Cell| {
            cell.state != CellState::Retired && self.region.as_deref().is_none_or(|own| own == cell.region)
        };
        let looked: Vec<_> = stream::iter(cells.into_iter().filter(here))
            .map(|cell| async move {
                let (is, reason, facts) = self.look(&cell).await;
                (cell, is, reason, facts)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let (mut changes, mut has_news) = (Vec::new(), false);
        for (cell, is, reason, facts) in looked {
            if let Some(facts) = facts.filter(|facts| *facts != cell.facts) {
                has_news |= self.note_facts(&cell, &facts).await?;
            }
            if (cell.health, cell.health_reason.as_str()) == (is, reason.as_str()) {
                continue;
            }
            if self.note_health(&cell, is, &reason).await? {
                changes.push(HealthChange { cell: cell.id, was: cell.health, is });
            }
        }
        if has_news || !changes.is_empty() {
            self.tenancy.snapshots().refresh(TenantId::PLATFORM).await;
        }
        Ok(changes)
    }

    async fn look(&self, cell: &Cell) -> (CellHealth, String, Option<ServerFacts>) {
        let asked = async {
            let mut tx = self.open(cell)?.begin().await?;
            let sign: Sign = tx.json(SIGN_OF_LIFE, &[]).await?;
            let facts = Probe::ask(&mut tx).await?.facts();
            tx.commit().await?;
            Ok::<_, crate::error::Error>((sign, facts))
        };
        match asked.await {
            Ok((Sign { in_recovery: false, read_only: false }, facts)) => {
                (CellHealth::Healthy, String::new(), Some(facts))
            }
            Ok(_) => (CellHealth::Degraded, "it takes no writes".to_owned(), None),
            Err(error) => (CellHealth::Unhealthy, error.message().to_owned(), None),
        }
    }

    /// An extension came, the server is of another version: placement goes by it from now on.
    async fn note_facts(&self, cell: &Cell, facts: &ServerFacts) -> Result<bool> {
        let tx = self.isolation.begin_operator(&OperatorScope::system("cell-check")).await?;
        if !store::set_facts(&tx, cell.id, facts, tx.stamp().at).await? {
            tx.rollback().await?;
            return Ok(false);
        }
        let entry = Entry::new("CellFactsChanged", "cell", cell.id).change(Some(&cell.facts), Some(facts))?;
        tx.commit([entry]).await?;
        Ok(true)
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
        } else if cell.health == CellHealth::Unhealthy && cell.state == CellState::Active {
            self.tell(&tx, CellNews::Room).await?;
        }
        tx.commit([Entry::new("CellHealthChanged", "cell", cell.id).change(Some(&before), Some(&after))?]).await?;
        Ok(true)
    }
}
