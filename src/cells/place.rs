//! Putting a tenant on a cell, and taking it off.

use std::sync::Arc;

use async_graphql::SimpleObject;
use chrono::{DateTime, Utc};
use futures::{FutureExt as _, future::BoxFuture};
use sea_orm::FromQueryResult;
use serde::{Deserialize, Serialize};

use super::{Candidate, Cell, CellState, Cells, Wish, choose, placement::is_for, residency, store};
use crate::{
    error::{Error, Kind, Result},
    isolation::{OperatorScope, TenantScope},
    journal::Entry,
    platform::{
        db::Tx,
        ids::{CellId, TenantId},
    },
    tenancy::{IsolationTier, Tenant},
};

/// Others may take the last place between the look and the taking; then there is another look.
const LOOKS: usize = 5;

/// Where a tenant is, and why there: one row of `placements`.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    pub tenant_id: TenantId,
    pub cell_id: CellId,
    /// The tier that it was placed for.
    pub tier: IsolationTier,
    pub region: String,
    /// The cell's own database, or the tenant's.
    pub database_name: String,
    pub reason: String,
    pub placed_at: DateTime<Utc>,
}

/// A tenant's place as its readers see it.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(name = "Placement")]
pub struct PlacementObject {
    region: String,
    tier: IsolationTier,
    /// Why it is there.
    reason: String,
    placed_at: DateTime<Utc>,
}

impl From<Placement> for PlacementObject {
    fn from(placement: Placement) -> Self {
        let Placement { region, tier, reason, placed_at, .. } = placement;
        Self { region, tier, reason, placed_at }
    }
}

/// A tenant that has a place has what it has there for its tier.
pub(super) fn guard_tier(tx: &Tx, tenant: TenantId) -> BoxFuture<'_, Result<()>> {
    async move {
        match store::placement(tx, tenant).await? {
            None => Ok(()),
            Some(_) => Err(Error::conflict(
                "the tenant has its data on a cell in the form of its tier; another tier comes with `moveTenant` alone",
            )
            .at("isolationTier")),
        }
    }
    .boxed()
}

impl Cells {
    /// Where the tenant is; `None` where it has no place yet. For whoever may see the tenant.
    pub async fn placement_of(&self, scope: &TenantScope) -> Result<Option<Placement>> {
        let tx = self.isolation.begin(scope).await?;
        let found = store::placement(&tx, scope.tenant()).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(found)
    }

    /// The same for Tenantry's own work, in a transaction that is under way.
    pub async fn placement_in(tx: &Tx, tenant: TenantId) -> Result<Option<Placement>> {
        store::placement(tx, tenant).await
    }

    /// Where the tenant would be put now.
    pub async fn preview(&self, tenant: &Tenant, extensions: &[&str]) -> Result<super::Choice> {
        let tx = self.isolation.observe_platform().await?;
        let cells = store::all(&tx).await?;
        tx.end().await?;
        choose(&Wish::of(tenant, extensions), &cells.iter().map(Candidate::from).collect::<Vec<_>>())
    }

    /// Puts the tenant on a cell, unless it is on one: then that. `dedicated` names the database of a tenant that has its own;
    /// `extensions` are those that its plan requires.
    pub async fn place(&self, tenant: &Tenant, dedicated: &str, extensions: &[&str]) -> Result<(Placement, bool)> {
        for _ in 0..LOOKS {
            if let Some(placed) = self.try_place(tenant, dedicated, extensions).await? {
                return Ok(placed);
            }
        }
        Err(Error::new(Kind::Unavailable, "others take the places of cells as they are looked at; it is tried again"))
    }

    async fn try_place(
        &self,
        tenant: &Tenant,
        dedicated: &str,
        extensions: &[&str],
    ) -> Result<Option<(Placement, bool)>> {
        let tx = self.isolation.begin_operator(&OperatorScope::system("placement")).await?;
        if let Some(found) = store::placement(&tx, tenant.id).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(Some((found, false)));
        }
        let cells = store::all(&tx).await?;
        if !store::is_of_tier(&tx, tenant).await? {
            tx.rollback().await?;
            return Ok(None); // it has just got another; the next turn knows
        }
        let choice = choose(&Wish::of(tenant, extensions), &cells.iter().map(Candidate::from).collect::<Vec<_>>())?;
        if !store::take_place(&tx, choice.cell, tenant.id).await? {
            tx.rollback().await?;
            return Ok(None);
        }
        let shared = cells.iter().find(|cell| cell.id == choice.cell).map(|cell| cell.address.0.database.clone());
        let database_name = match tenant.isolation_tier {
            IsolationTier::Standard => shared.unwrap_or_default(),
            IsolationTier::Enterprise | IsolationTier::Premium => dedicated.to_owned(),
        };
        let placement = Placement {
            tenant_id: tenant.id,
            cell_id: choice.cell,
            tier: tenant.isolation_tier,
            region: choice.region,
            database_name,
            reason: choice.reason,
            placed_at: tx.stamp().at,
        };
        if !store::place(&tx, &placement).await? {
            tx.rollback().await?;
            return Ok(None);
        }
        let entry = Entry::new("TenantPlaced", "tenant", tenant.id).change(None, Some(&placement))?;
        tx.commit_for(tenant.id, [entry]).await?;
        Ok(Some((placement, true)))
    }

    /// Whether the tenant finds these extensions where it is; where it has no place yet, on a cell where it may be, full or not.
    ///
    /// Errors: `invalid_input` at `plan` with what is missing where.
    pub async fn check_extensions(&self, tx: &Tx, tenant: &Tenant, extensions: &[&str]) -> Result<()> {
        let (cells, tier) = (self.all().await?, tenant.isolation_tier);
        let lacking = |cell: &Cell| {
            let has = cell.extensions_for(tier);
            extensions.iter().filter(|name| !has.iter().any(|found| found == *name)).copied().collect::<Vec<_>>()
        };
        if let Some(placement) = store::placement(tx, tenant.id).await? {
            let lacks = cells.iter().find(|cell| cell.id == placement.cell_id).map(|cell| lacking(cell));
            let Some(lacks) = lacks.filter(|lacks| !lacks.is_empty()) else { return Ok(()) };
            let rule = format!(
                "requires {}, which is not available on the tenant's cell; move the tenant to one that has it",
                lacks.join(", ")
            );
            return Err(Error::invalid("plan", rule));
        }
        let allowed = residency(tenant);
        let may_be = |cell: &&Arc<Cell>| {
            is_for(cell.tier, tier) && allowed.contains(&cell.region) && cell.state == CellState::Active
        };
        let missing: Vec<_> = cells.iter().filter(may_be).map(|cell| (lacking(cell), cell)).collect();
        if missing.iter().any(|(lacks, _)| lacks.is_empty()) {
            return Ok(());
        }
        let told: Vec<_> =
            missing.iter().map(|(lacks, cell)| format!("{} has no {}", cell.name, lacks.join(", "))).collect();
        let there = if told.is_empty() { "there is no cell".to_owned() } else { told.join("; ") };
        let rule = format!(
            "requires {}, which no cell in {} has for this tier: {there}",
            extensions.join(", "),
            allowed.join(", ")
        );
        Err(Error::invalid("plan", rule))
    }

    /// Where the tenant is, for Tenantry's own work.
    pub async fn find_placement(&self, tenant: TenantId) -> Result<Option<Placement>> {
        let tx = self.isolation.observe(tenant).await?;
        let found = store::placement(&tx, tenant).await?;
        tx.end().await?;
        Ok(found)
    }

    /// Gives the tenant's place back; whether there was one.
    pub async fn unplace(&self, tenant: TenantId) -> Result<bool> {
        let tx = self.isolation.begin_operator(&OperatorScope::system("placement")).await?;
        let Some(placement) = store::unplace(&tx, tenant).await? else {
            tx.rollback().await?;
            return Ok(false);
        };
        self.release(&tx, placement.cell_id).await?;
        let entry = Entry::new("TenantUnplaced", "tenant", tenant).change(Some(&placement), None)?;
        tx.commit_for(tenant, [entry]).await?;
        Ok(true)
    }
}
