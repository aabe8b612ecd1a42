//! Who is told of what matters to tenants of cells, in the transaction in which it happens.

use std::sync::{Arc, PoisonError};

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;

use super::{Cell, Cells};
use crate::{error::Result, isolation::OperatorTx, platform::db::Tx};

#[derive(Clone, Copy, Debug)]
pub enum CellNews<'a> {
    /// A cell takes tenants that took none before.
    Room,
    /// The cell is reached at another address, or by another login.
    Address(&'a Cell),
}

/// Does what follows from it.
pub type Follower = Arc<dyn for<'a> Fn(&'a Tx, CellNews<'a>, DateTime<Utc>) -> BoxFuture<'a, Result<()>> + Send + Sync>;

impl Cells {
    /// From now on `follower` is told. For the house's construction.
    pub fn follow_with(&self, follower: Follower) {
        *self.follower.write().unwrap_or_else(PoisonError::into_inner) = Some(follower);
    }

    pub(super) async fn tell(&self, tx: &OperatorTx, news: CellNews<'_>) -> Result<()> {
        let follower = self.follower.read().unwrap_or_else(PoisonError::into_inner).clone();
        match follower {
            Some(follower) => follower(tx, news, tx.stamp().at).await,
            None => Ok(()),
        }
    }
}
