//! When a cell will be full, told from how it has grown.

use std::collections::HashMap;

use chrono::{NaiveDate, TimeDelta};

use super::{Cell, Cells, store};
use crate::{error::Result, isolation::OperatorScope, platform::ids::CellId};

/// Days that are looked back.
const LOOK_BACK: i64 = 28;

/// Days until a cell is full, by cells; none for one that does not grow.
pub(super) type Outlook = HashMap<CellId, i64>;

impl Cells {
    /// Notes how full each cell is today. Safe to repeat.
    pub async fn note_growth(&self) -> Result<()> {
        let tx = self.isolation.begin_operator(&OperatorScope::system("cell-growth")).await?;
        let day = tx.stamp().at.date_naive();
        store::note_growth(&tx, day).await?;
        tx.commit_unrecorded("a count").await
    }

    pub(super) async fn outlook(&self, scope: &OperatorScope, cells: &[Cell]) -> Result<Outlook> {
        let today = self.isolation.clock().now().date_naive();
        let tx = self.isolation.begin_operator(scope).await?;
        let noted = store::growth(&tx, today - TimeDelta::days(LOOK_BACK)).await?;
        tx.commit_unrecorded("a read").await?;
        let first: HashMap<CellId, (NaiveDate, i64)> =
            noted.into_iter().rev().map(|(cell, day, placed)| (cell, (day, placed))).collect();
        let days = cells.iter().filter_map(|cell| {
            let (day, placed) = *first.get(&cell.id)?;
            Some((cell.id, days_to_full((today - day).num_days(), cell.placed - placed, cell.capacity - cell.placed)?))
        });
        Ok(days.collect())
    }
}

/// `grown` tenants came in `days`; how many days the `room` that is left lasts at that pace, rounded down.
fn days_to_full(days: i64, grown: i64, room: i64) -> Option<i64> {
    if room <= 0 {
        return Some(0);
    }
    (days > 0 && grown > 0).then(|| room.saturating_mul(days) / grown)
}

#[cfg(test)]
mod tests {
    use super::days_to_full;

    #[test]
    fn a_cell_is_full_when_its_room_is_used_up_at_the_pace_so_far() {
        assert_eq!(days_to_full(10, 100, 50), Some(5));
        assert_eq!(days_to_full(10, 3, 1), Some(3));
        assert_eq!(days_to_full(10, 0, 50), None);
        assert_eq!(days_to_full(0, 5, 50), None);
        assert_eq!(days_to_full(10, -3, 50), None);
        assert_eq!(days_to_full(0, 0, 0), Some(0));
    }
}
