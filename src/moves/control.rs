//! What operators ask for: a plan, a move, its confirmation, its end.

use std::sync::Arc;

use super::{
    Moves, journal,
    order::{Move, Phase, Wanted},
    store,
};
use crate::{
    cells::{Cell, Cells, Placement, stem},
    error::{Error, Kind, Result},
    isolation::{Conditions, OperatorScope, OperatorTx, TenantScope},
    platform::ids::{MoveId, TenantId},
    tenancy::{IsolationTier, Status, Tenant},
};

/// Where a tenant is to go.
#[derive(Clone, Debug, Default)]
pub struct Destination {
    /// The name of a cell; the best one, where none is named.
    pub cell: Option<String>,
    /// Another tier, where it is to have one.
    pub tier: Option<IsolationTier>,
}

/// What a move would come to.
#[derive(Clone, Debug)]
pub struct Outlook {
    pub order: Move,
    pub cell: String,
    pub steps: Vec<String>,
}

impl Moves {
    /// The move that runs, or the last one.
    pub async fn of_tenant(&self, scope: &TenantScope) -> Result<Option<Move>> {
        let tx = self.0.isolation.begin(scope).await?;
        let found = store::latest(&tx, scope.tenant()).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(found)
    }

    /// All that have not come to their end, the oldest first.
    pub async fn running(&self, scope: &OperatorScope) -> Result<Vec<Move>> {
        let tx = self.0.isolation.begin_operator(scope).await?;
        let found = store::all_running(&tx).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(found)
    }

    /// A dry run: where the tenant would come to, and what would be done; both cells are asked, and nothing is changed.
    ///
    /// Errors: those of [`Moves::start`].
    pub async fn plan(&self, tenant: TenantId, destination: &Destination) -> Result<Outlook> {
        // Before the transaction: the cell may be slow to answer.
        let uses = self.uses(tenant).await?;
        let tx = self.begin().await?;
        let (order, cell) = self.order(&tx, tenant, (destination, &uses)).await?;
        tx.commit_unrecorded("a read").await?;
        let ends = self.ends(&order).await?;
        let tables = self.check(&ends).await?.tables;
        let place = match order.target_tier {
            IsolationTier::Standard => "schema",
            IsolationTier::Enterprise | IsolationTier::Premium => "database",
        };
        let steps = vec![
            format!("make roles and {place} {} on cell {}", stem(tenant), order.reason),
            format!("copy {} tables while services read and write", tables.len()),
            "carry over what was written meanwhile, and compare both sides".to_owned(),
            "keep services out for a moment, and change the tenant's place".to_owned(),
            format!("keep the source until it is confirmed, at most {} h", self.0.rules.keep_source.as_secs() / 3600),
        ];
        Ok(Outlook { order, cell: cell.name.clone(), steps })
    }

    /// Begins a move; it goes on by itself until the tenant is at its new place.
    ///
    /// Errors: `conflict` where one is running, or the cell has not the extension that the tenant uses, is full or drains; `invalid_input`
    /// for a cell of another tier, or where something of the tenant cannot be moved; `residency_violation`; `unavailable` where a cell
    /// does not answer.
    pub async fn start(
        &self,
        scope: &OperatorScope,
        tenant: TenantId,
        destination: &Destination,
        conditions: &Conditions,
    ) -> Result<Outlook> {
        let tx = self.0.isolation.begin_operator(scope).await?;
        if let Some(answered) = tx.first_answer::<MoveId>(conditions).await? {
            let order = store::find(&tx, answered).await?.ok_or_else(Error::not_found)?;
            tx.commit_unrecorded("a read").await?;
            let cell = self.0.cells.get(order.target_cell).await?.name.clone();
            return Ok(Outlook { order, cell, steps: Vec::new() });
        }
        tx.commit_unrecorded("a read").await?;
        // Before the transaction: cells may be slow to answer.
        let outlook = self.plan(tenant, destination).await?;
        let found = self.tenant(tenant).await?;
        let tx = self.0.isolation.begin_operator(scope).await?;
        let order = Move { started_at: tx.stamp().at, ..outlook.order };
        // Again, as of the moment when the move begins; what is made later is found by its steps.
        self.0.provisioning.check_nothing_is_left_behind(&tx, tenant).await?;
        self.0.cells.reserve(&tx, order.target_cell, &found).await?;
        store::insert(&tx, &order).await?;
        store::set_hold(&tx, tenant, Phase::Preparing).await?;
        tx.keep_answer(conditions, &order.id).await?;
        tx.commit_for(tenant, [journal::started(&order)]).await?;
        self.0.nudge.notify_one();
        Ok(Outlook { order, ..outlook })
    }

    /// Calls the move off: the tenant stays where it is, and nothing is left at the target.
    ///
    /// Errors: `not_found` where none is running, `invalid_transition` after the switch.
    pub async fn cancel(&self, scope: &OperatorScope, tenant: TenantId) -> Result<Move> {
        self.want(scope, tenant, Wanted::Cancel, |order| match order.phase {
            Phase::Switched => Err(Error::new(
                Kind::InvalidTransition,
                "the tenant is at its new place; roll the move back, or confirm it",
            )),
            _ => Ok(()),
        })
        .await
    }

    /// Gives up what the tenant had at the source.
    ///
    /// Errors: `not_found` where none is running, `invalid_transition` before the switch.
    pub async fn confirm(&self, scope: &OperatorScope, tenant: TenantId) -> Result<Move> {
        self.want(scope, tenant, Wanted::Confirm, |order| match order.phase {
            Phase::Switched if order.wanted == Wanted::RollBack => Err(Error::new(
                Kind::InvalidTransition,
                "the move is being rolled back; confirm the one that takes the tenant back",
            )),
            Phase::Switched => Ok(()),
            _ => Err(Error::new(Kind::InvalidTransition, "the tenant is still at its old place; wait for the switch")),
        })
        .await
    }

    /// Takes the tenant back to where it was before the switch, with all that was written since: as another move, which can be confirmed or
    /// rolled back in its turn. The place there is the tenant's until then.
    ///
    /// Errors: `not_found` where none is running, `invalid_transition` before the switch and after `confirm`, `residency_violation` where the
    /// tenant may not be there any more.
    pub async fn roll_back(&self, scope: &OperatorScope, tenant: TenantId) -> Result<Move> {
        let found = self.tenant(tenant).await?;
        self.want(scope, tenant, Wanted::RollBack, |order| match order.phase {
            Phase::Switched if order.wanted == Wanted::Confirm => {
                Err(Error::new(Kind::InvalidTransition, "the move is confirmed; move the tenant back"))
            }
            Phase::Switched => Cells::check_residency(&found, &order.source_region),
            _ => Err(Error::new(Kind::InvalidTransition, "the tenant is still at its old place; cancel the move")),
        })
        .await
    }

    async fn want(
        &self,
        scope: &OperatorScope,
        tenant: TenantId,
        wanted: Wanted,
        check: impl FnOnce(&Move) -> Result<()>,
    ) -> Result<Move> {
        let tx = self.0.isolation.begin_operator(scope).await?;
        let order = store::lock_running(&tx, tenant).await?.ok_or_else(Error::not_found)?;
        check(&order)?;
        if order.wanted == wanted {
            tx.commit_unrecorded("it is wanted already").await?;
            return Ok(order);
        }
        store::want(&tx, &order, wanted, tx.stamp().at).await?;
        tx.commit_for(tenant, [journal::asked(&order, wanted)]).await?;
        self.0.nudge.notify_one();
        Ok(Move { wanted, ..order })
    }

    /// What is asked for as a row, once everything that the registry knows was looked at.
    async fn order(
        &self,
        tx: &OperatorTx,
        tenant: TenantId,
        (destination, uses): (&Destination, &[String]),
    ) -> Result<(Move, Arc<Cell>)> {
        if store::lock_running(tx, tenant).await?.is_some() {
            return Err(store::running());
        }
        let found = self.tenant(tenant).await?;
        if matches!(found.status, Status::Deleted | Status::Erased) {
            return Err(Error::new(Kind::InvalidTransition, "the tenant is deleted"));
        }
        let source = self.0.cells.find_placement(tenant).await?;
        let source = source.filter(|_| self.0.provisioning.is_on());
        let source = source
            .ok_or_else(|| Error::conflict("the tenant has nothing on a cell that could be moved").at("tenantId"))?;
        if !self.0.provisioning.is_ready(tenant).await? {
            let rule = "the tenant's environment is not there yet; `Tenant.layers` says what is missing";
            return Err(Error::new(Kind::Unavailable, rule));
        }
        self.0.provisioning.check_nothing_is_left_behind(tx, tenant).await?;
        let tier = destination.tier.unwrap_or(found.isolation_tier);
        let named = destination.cell.as_deref();
        let required = self.0.provisioning.extensions_of(&self.0.tenancy.plan(&found.plan).await?);
        let used = uses.iter().map(String::as_str).filter(|name| !required.contains(name));
        let extensions: Vec<_> = required.iter().copied().chain(used).collect();
        let (choice, cell) =
            self.0.cells.choose_for_move(tx, (&found, tier), source.cell_id, named, &extensions).await?;
        let target_database = match tier {
            IsolationTier::Standard => cell.address.0.database.clone(),
            IsolationTier::Enterprise | IsolationTier::Premium => stem(tenant),
        };
        let target = Placement {
            tenant_id: tenant,
            cell_id: choice.cell,
            tier,
            region: choice.region,
            database_name: target_database,
            reason: choice.reason,
            placed_at: tx.stamp().at,
        };
        Ok((Move::new(source, target), cell))
    }

    pub(super) async fn tenant(&self, id: TenantId) -> Result<Tenant> {
        let scope = OperatorScope::system("moves");
        let found = self.0.tenancy.get_several(&scope, &[id]).await?;
        found.into_iter().next().ok_or_else(Error::not_found)
    }

    pub(super) async fn begin(&self) -> Result<OperatorTx> {
        self.0.isolation.begin_operator(&OperatorScope::system("moves")).await
    }
}
