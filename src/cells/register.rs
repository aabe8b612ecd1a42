//! Making a database a cell.

use std::sync::Arc;

use super::{Cell, CellHealth, CellNews, CellState, Cells, cell::Address, probe::Probe, purpose, store};
use crate::{
    error::{Error, Kind, Result},
    isolation::{Conditions, OperatorScope},
    journal::Entry,
    platform::{
        db::{CellDb, CellLimits},
        ids::{CellId, TenantId},
        secret::Secret,
    },
    tenancy::{IsolationTier, check_region},
};

/// A cell to be.
#[derive(Clone, Debug)]
pub struct NewCell {
    pub name: String,
    pub region: String,
    pub tier: IsolationTier,
    /// Tenants at most; of a premium cell one.
    pub capacity: i64,
    /// `postgres://user:password@host:port/database`, as a login that may create roles.
    pub url: Secret,
    pub reserved_for: Option<TenantId>,
}

impl Cells {
    /// Connects, looks whether it can be a cell, and adds it. The next tenant may get a place on it, on every replica.
    ///
    /// Errors: `invalid_input` with what to change in the database, `conflict` for a name or a database that is known,
    /// `residency_violation` for another region than the database's or the server's own.
    pub async fn register(&self, scope: &OperatorScope, new: NewCell, conditions: &Conditions) -> Result<Arc<Cell>> {
        self.check_new(&new)?;
        // Before the transaction: the cell may be slow to answer.
        let db = CellDb::connect(&new.url, CellLimits { connections: 1, ..self.pools.limits() })?;
        let probe = Probe::of(&db).await?;
        probe.check(&new.region, new.tier)?;
        probe.prepare(&db, &new.region).await?;
        let address = db.address();
        db.close().await;
        let tx = self.isolation.begin_operator(scope).await?;
        if let Some(answered) = tx.first_answer::<CellId>(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return self.get(answered).await;
        }
        let (id, now) = (CellId::generate(), tx.stamp().at);
        let cell = Cell {
            id,
            name: new.name,
            region: new.region,
            tier: new.tier,
            capacity: new.capacity,
            placed: 0,
            reserved_for: new.reserved_for,
            state: CellState::Active,
            sealed_url: self.master.seal(&purpose(id), new.url.expose().as_bytes()),
            address: Address(address),
            facts: probe.facts(),
            health: CellHealth::Healthy,
            health_reason: String::new(),
            health_since: now,
            is_own: false,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        store::insert(&tx, &cell, &probe.identity).await?;
        self.tell(&tx, CellNews::Room).await?;
        tx.keep_answer(conditions, &id).await?;
        tx.commit([Entry::new("CellRegistered", "cell", id).change(None, Some(&cell.record()))?]).await?;
        self.tenancy.snapshots().refresh(TenantId::PLATFORM).await;
        Ok(Arc::new(cell))
    }

    fn check_new(&self, new: &NewCell) -> Result<()> {
        let name = &new.name;
        let well_formed = (1..=63).contains(&name.len())
            && !name.starts_with('-')
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !well_formed {
            return Err(Error::invalid(
                "name",
                "has 1 to 63 small letters, digits or '-', and does not begin with '-'",
            ));
        }
        check_region("region", &new.region)?;
        check_capacity(new.capacity, new.tier)?;
        if new.tier != IsolationTier::Premium && new.reserved_for.is_some() {
            return Err(Error::invalid("reservedFor", "is for premium cells"));
        }
        check_of_this_region(self.region.as_deref(), &new.region)
    }
}

pub(super) fn check_capacity(capacity: i64, tier: IsolationTier) -> Result<()> {
    if !(1..=100_000).contains(&capacity) {
        return Err(Error::invalid("capacity", "must be between 1 and 100000"));
    }
    if tier == IsolationTier::Premium && capacity != 1 {
        return Err(Error::invalid("capacity", "must be 1: a premium cell is for one tenant"));
    }
    Ok(())
}

/// `own` is the region that this server works for, if it is for one.
pub(super) fn check_of_this_region(own: Option<&str>, region: &str) -> Result<()> {
    match own {
        Some(own) if own != region => Err(Error::new(
            Kind::ResidencyViolation,
            format!("this server works for {own} alone; ask a server of the cell's region"),
        )
        .at("region")),
        _ => Ok(()),
    }
}
