//! Which cell a tenant may be moved to, and the places that a move takes and gives back.

use std::sync::Arc;

use super::{
    Candidate, Cell, CellHealth, CellNews, CellState, Cells, Choice, Placement, Wish, choose, residency, store,
};
use crate::{
    error::{Error, Kind, Result},
    isolation::OperatorTx,
    platform::{db::Tx, ids::CellId},
    tenancy::{IsolationTier, Tenant},
};

impl Cells {
    /// The cell that the tenant comes to: the one with this name, or the best. Not on the server where it is: PostgreSQL shares roles
    /// between all databases of a server, and the tenant's would be the same at both ends.
    ///
    /// Errors: `residency_violation`; `invalid_input` for a cell of another tier or on the same server, `conflict` for one that is
    /// full or drains, `unavailable` for one that is down, or where no cell fits. `extensions` are those that its plan requires.
    pub async fn choose_for_move(
        &self,
        tx: &Tx,
        (tenant, tier): (&Tenant, IsolationTier),
        from: CellId,
        named: Option<&str>,
        extensions: &[&str],
    ) -> Result<(Choice, Arc<Cell>)> {
        let cells = store::all(tx).await?;
        let source = cells.iter().find(|cell| cell.id == from).ok_or_else(Error::not_found)?;
        let is_elsewhere = |cell: &&Cell| {
            (&cell.address.0.host, cell.address.0.port) != (&source.address.0.host, source.address.0.port)
        };
        let required_by = "which the tenant uses or its plan requires";
        let wish = Wish { tier, required_by, ..Wish::of(tenant, extensions) };
        let candidates: Vec<Candidate> = match named {
            None => cells.iter().filter(is_elsewhere).map(Candidate::from).collect(),
            Some(name) => {
                let cell = cells.iter().find(|cell| cell.name == name);
                let cell = cell.ok_or_else(|| Error::invalid("cell", "is no cell's name; `cells` lists them"))?;
                check_named(&wish, tenant, cell)?;
                if !is_elsewhere(&cell) {
                    return Err(Error::invalid(
                        "cell",
                        "is on the PostgreSQL server where the tenant is; a move goes to another server",
                    ));
                }
                vec![Candidate::from(cell)]
            }
        };
        let choice = choose(&wish, &candidates).map_err(|error| error.at("cell"))?;
        let chosen = cells.into_iter().find(|cell| cell.id == choice.cell).ok_or_else(Error::not_found)?;
        Ok((choice, Arc::new(chosen)))
    }

    /// Takes a place at `cell` for a tenant that still has another.
    pub async fn reserve(&self, tx: &Tx, cell: CellId, tenant: &Tenant) -> Result<()> {
        if store::take_place(tx, cell, tenant.id).await? {
            return Ok(());
        }
        Err(Error::new(Kind::Unavailable, "another tenant has taken the last place on the cell; try again").at("cell"))
    }

    /// Gives back a place that a tenant, or a move, has taken.
    pub async fn release(&self, tx: &OperatorTx, cell: CellId) -> Result<()> {
        if store::give_back(tx, cell).await? {
            self.tell(tx, CellNews::Room).await?;
        }
        Ok(())
    }

    /// Errors: `residency_violation` where the tenant may not be in that region.
    pub fn check_residency(tenant: &Tenant, region: &str) -> Result<()> {
        let allowed = residency(tenant);
        if allowed.iter().any(|allowed| allowed == region) {
            return Ok(());
        }
        let rule = format!("the cell is in {region}, and the tenant may be in {} only", allowed.join(", "));
        Err(Error::new(Kind::ResidencyViolation, rule))
    }

    /// The tenant's place is there from now on.
    pub async fn replace(&self, tx: &Tx, placement: &Placement) -> Result<()> {
        store::replace(tx, placement).await
    }
}

/// Says what of a cell that was asked for by name is in the way.
fn check_named(wish: &Wish, tenant: &Tenant, cell: &Cell) -> Result<()> {
    Cells::check_residency(tenant, &cell.region).map_err(|error| error.at("cell"))?;
    if cell.state != CellState::Active {
        return Err(Error::conflict("the cell takes no tenants any more").at("cell"));
    }
    if cell.health == CellHealth::Unhealthy {
        return Err(Error::new(Kind::Unavailable, "the cell is down").at("cell"));
    }
    if cell.placed >= cell.capacity {
        return Err(Error::conflict("the cell is full").at("cell"));
    }
    let is_premium = |tier| tier == IsolationTier::Premium;
    if is_premium(wish.tier) != is_premium(cell.tier)
        || wish.tier == IsolationTier::Standard && cell.tier != IsolationTier::Standard
        || wish.tier != IsolationTier::Standard && !cell.facts.makes_databases
    {
        return Err(Error::invalid("cell", "is not for tenants of that tier"));
    }
    if cell.reserved_for.is_some_and(|reserved| reserved != wish.tenant) {
        return Err(Error::conflict("the cell is reserved for another tenant").at("cell"));
    }
    let lacks = wish.missing(&Candidate::from(cell)).join(", ");
    if !lacks.is_empty() {
        let rule = format!("cell {} has no {lacks}, {}", cell.name, wish.required_by);
        return Err(Error::conflict(rule).at("cell"));
    }
    Ok(())
}
