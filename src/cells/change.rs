//! Changing a cell that is there: how many tenants it takes, how it is reached, and whether it takes any.

use std::sync::Arc;

use super::{
    Cell, CellNews, CellState, Cells,
    cell::Address,
    probe::Probe,
    purpose,
    register::{check_capacity, check_of_this_region},
    store,
};
use crate::{
    error::{Error, Result},
    isolation::{Conditions, OperatorScope},
    journal::Entry,
    platform::{
        db::{CellDb, CellLimits},
        ids::{CellId, TenantId},
        secret::Secret,
    },
};

/// What is to be another; what is not given stays. Name, region, tier and the tenant of a premium cell are what it is known
/// and trusted by: they never change.
#[derive(Clone, Debug, Default)]
pub struct CellChange {
    /// Below what is placed there, nobody new comes until enough have left.
    pub capacity: Option<i64>,
    /// Another way to the same database: another address of its server, or another login or password.
    pub url: Option<Secret>,
}

impl Cells {
    /// The cell takes no new tenants from now on; one without any is retired at once.
    pub async fn drain(&self, scope: &OperatorScope, id: CellId, conditions: &Conditions) -> Result<Arc<Cell>> {
        self.change(scope, id, conditions, |cell| {
            let state = if cell.placed == 0 { CellState::Retired } else { CellState::Draining };
            cell.state = state;
            Ok(if state == CellState::Retired { "CellRetired" } else { "CellDraining" })
        })
        .await
    }

    /// A cell that drains or is retired takes tenants again, once its database has been looked at as that of a new one.
    ///
    /// Errors: `invalid_input` at `url` with what to change in the database, `unavailable` where it does not answer.
    pub async fn reactivate(&self, scope: &OperatorScope, id: CellId, conditions: &Conditions) -> Result<Arc<Cell>> {
        let known = self.of_this_region(id).await?;
        let looked = self.look_at(&known, &self.url_of(&known)?).await?;
        self.change(scope, id, conditions, |cell| {
            cell.state = CellState::Active;
            cell.facts = looked.facts();
            Ok("CellReactivated")
        })
        .await
    }

    /// Errors: `invalid_input` for a capacity out of bounds, for an address of another database or of the own cell, `conflict` for
    /// another version than expected, `unavailable` where the new address does not answer.
    pub async fn update(
        &self,
        scope: &OperatorScope,
        id: CellId,
        wanted: CellChange,
        conditions: &Conditions,
    ) -> Result<Arc<Cell>> {
        let known = self.of_this_region(id).await?;
        if let Some(capacity) = wanted.capacity {
            check_capacity(capacity, known.tier)?;
        }
        let way = match &wanted.url {
            None => None,
            Some(_) if known.is_own => {
                return Err(Error::invalid("url", "is Tenantry's own to set: this cell is beside its registry"));
            }
            Some(url) if self.opens(&known, url) => None,
            Some(url) => Some(self.way_to(&known, url).await?),
        };
        self.change(scope, id, conditions, |cell| {
            cell.capacity = wanted.capacity.unwrap_or(cell.capacity);
            if let Some((sealed, address, probe)) = way {
                (cell.sealed_url, cell.address, cell.facts) = (sealed, address, probe.facts());
            }
            Ok("CellUpdated")
        })
        .await
    }

    /// What `work` makes of the cell, under its lock: no tenant gets a place there meanwhile. The tenants that wait for one look
    /// again where there is more room.
    async fn change(
        &self,
        scope: &OperatorScope,
        id: CellId,
        conditions: &Conditions,
        work: impl FnOnce(&mut Cell) -> Result<&'static str> + Send,
    ) -> Result<Arc<Cell>> {
        let tx = self.isolation.begin_operator(scope).await?;
        if let Some(answered) = tx.first_answer::<CellId>(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return self.get(answered).await;
        }
        let before = store::lock(&tx, id).await?.ok_or_else(Error::not_found)?;
        conditions.check_version(before.version)?;
        let mut cell = before.clone();
        let event = work(&mut cell)?;
        let (is_set_anew, is_elsewhere) = (cell.record() != before.record(), cell.sealed_url != before.sealed_url);
        if !is_set_anew && !is_elsewhere {
            tx.commit_unrecorded("nothing to do").await?;
            return Ok(Arc::new(before));
        }
        let cell = store::change(&tx, &cell, tx.stamp().at).await?;
        if cell.room() > before.room() {
            self.tell(&tx, CellNews::Room).await?;
        }
        if is_elsewhere {
            self.tell(&tx, CellNews::Address(&cell)).await?;
        }
        let events = [(is_set_anew, event), (is_elsewhere, "CellRelocated")].into_iter().filter(|(is, _)| *is);
        let entries: Vec<_> = events
            .map(|(_, event)| Entry::new(event, "cell", id).change(Some(&before.record()), Some(&cell.record())))
            .collect::<Result<_>>()?;
        tx.keep_answer(conditions, &id).await?;
        tx.commit(entries).await?;
        self.tenancy.snapshots().refresh(TenantId::PLATFORM).await;
        Ok(Arc::new(cell))
    }

    async fn of_this_region(&self, id: CellId) -> Result<Arc<Cell>> {
        let known = self.get(id).await?;
        check_of_this_region(self.region.as_deref(), &known.region)?;
        Ok(known)
    }

    /// The new way, sealed, and what is found at its end: the same database, or it is refused.
    async fn way_to(&self, known: &Cell, url: &Secret) -> Result<(Vec<u8>, Address, Probe)> {
        let probe = self.look_at(known, url).await?;
        let tx = self.isolation.observe_platform().await?;
        let identity = store::identity(&tx, known.id).await?;
        tx.end().await?;
        if identity != probe.identity {
            return Err(Error::invalid(
                "url",
                "leads to another database than the cell's; a new database is a new cell, and tenants come to it by `moveTenant`",
            ));
        }
        let address = CellDb::connect(url, CellLimits { connections: 1, ..self.pools.limits() })?.address();
        Ok((self.master.seal(&purpose(known.id), url.expose().as_bytes()), Address(address), probe))
    }

    async fn look_at(&self, known: &Cell, url: &Secret) -> Result<Probe> {
        let db = CellDb::connect(url, CellLimits { connections: 1, ..self.pools.limits() })?;
        let probe = Probe::of(&db).await?;
        db.close().await;
        probe.check(&known.region, known.tier)?;
        Ok(probe)
    }
}
