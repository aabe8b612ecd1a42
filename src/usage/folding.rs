//! Totals are made of what was accepted, beside requests.

use super::{Usage, store};
use crate::{error::Result, isolation::OperatorScope};

/// Rows of the inbox that one transaction takes.
const ROWS: i64 = 2000;

impl Usage {
    /// Moves accepted events into totals. Answers whether there may be more. Nothing that is read changes by it.
    pub async fn fold(&self) -> Result<bool> {
        let tx = self.isolation.begin_operator(&OperatorScope::system("usage")).await?;
        let taken = store::fold(&tx, ROWS).await?;
        tx.commit_unrecorded("the same events, elsewhere").await?;
        Ok(taken == ROWS)
    }
}
