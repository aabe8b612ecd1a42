//! Moves' part of the schema: operators begin and end them, whoever may see the tenant sees how far one is.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};

use super::{Destination, Move, Moves, Outlook, Phase};
use crate::{
    error::Error,
    platform::ids::TenantId,
    tenancy::{
        IsolationTier, TenantView,
        graphql::{conditions, enter, enter_platform},
    },
};

/// A tenant on its way from one cell or tier to another.
#[derive(Clone, Debug)]
pub struct MoveObject(Move);

#[Object(name = "Move")]
impl MoveObject {
    /// UUIDv7.
    async fn id(&self) -> ID {
        self.0.id.into()
    }

    async fn tenant_id(&self) -> ID {
        self.0.tenant.into()
    }

    async fn phase(&self) -> Phase {
        self.0.phase
    }

    async fn source_region(&self) -> &str {
        &self.0.source_region
    }

    async fn source_tier(&self) -> IsolationTier {
        self.0.source_tier
    }

    async fn target_region(&self) -> &str {
        &self.0.target_region
    }

    async fn target_tier(&self) -> IsolationTier {
        self.0.target_tier
    }

    /// Why that cell.
    async fn reason(&self) -> &str {
        &self.0.reason
    }

    /// Why it does not go on, or was given up; empty where all is well.
    async fn problem(&self) -> &str {
        &self.0.problem
    }

    /// Failures in a row.
    async fn attempts(&self) -> i32 {
        self.0.attempts
    }

    /// Rows of the first copy.
    async fn rows_copied(&self) -> i64 {
        self.0.rows_copied
    }

    /// Changes of rows that were carried over after it.
    async fn changes_applied(&self) -> i64 {
        self.0.changes_applied
    }

    /// How long services were kept out at the switch, in milliseconds; null before it.
    async fn pause_ms(&self) -> Option<i64> {
        self.0.pause_ms
    }

    async fn started_at(&self) -> DateTime<Utc> {
        self.0.started_at
    }

    async fn switched_at(&self) -> Option<DateTime<Utc>> {
        self.0.switched_at
    }

    /// When the source is given up without being asked; null before the switch.
    async fn keep_until(&self) -> Option<DateTime<Utc>> {
        self.0.keep_until
    }

    async fn finished_at(&self) -> Option<DateTime<Utc>> {
        self.0.finished_at
    }
}

#[derive(Debug, InputObject)]
pub struct MoveTenantInput {
    tenant_id: ID,
    /// The name of the cell that it is to come to; without one, the best that there is for it.
    cell: Option<String>,
    /// The tier that it is to have; without one, it keeps its own.
    isolation_tier: Option<IsolationTier>,
    /// Only tells what would be done.
    #[graphql(default)]
    dry_run: bool,
}

#[derive(Debug, InputObject)]
pub struct MoveInput {
    tenant_id: ID,
}

/// A move that was begun, or what one would come to.
#[derive(Debug, SimpleObject)]
pub struct MoveTenantPayload {
    /// Null in a dry run.
    r#move: Option<MoveObject>,
    /// The cell's name.
    cell: String,
    /// Why that one.
    reason: String,
    /// What is done, one sentence each.
    steps: Vec<String>,
}

/// A move after a change.
#[derive(Debug, SimpleObject)]
pub struct MovePayload {
    r#move: MoveObject,
}

#[derive(Debug, Default)]
pub struct MoveQuery;

#[Object]
impl MoveQuery {
    /// The moves that have not come to their end, the oldest first: those that wait to be confirmed are among them.
    ///
    /// Scope: `auth:cell:read`, operators only.
    async fn moves(&self, ctx: &Context<'_>) -> Result<Vec<MoveObject>> {
        let scope = enter_platform(ctx, "Query")?;
        Ok(handle(ctx)?.running(&scope).await?.into_iter().map(MoveObject).collect())
    }
}

#[derive(Debug, Default)]
pub struct MoveMutation;

#[Object]
impl MoveMutation {
    /// Moves the tenant to another cell, or to another tier, with all its rows. Its services read and write where it is until the switch,
    /// which keeps them out for a moment; then they fetch `dataplaneCredentials` anew and go on where it has come to. What it had
    /// before is kept until `confirmMove`.
    ///
    /// Errors: `residency_violation` for a cell where it may not be, `conflict` where a move is running, or the cell
    /// is full, drains, or has not the extension that the tenant uses, `invalid_input` for a cell of another tier, or where the cells or
    /// something of the tenant do not allow a move (which says what to change), `unavailable` where a cell does not answer.
    ///
    /// Scope: `auth:cell:write`, operators only.
    async fn move_tenant(&self, ctx: &Context<'_>, input: MoveTenantInput) -> Result<MoveTenantPayload> {
        let tenant = entered(ctx, &input.tenant_id).await?;
        let scope = enter_platform(ctx, "Mutation")?;
        let destination = Destination { cell: input.cell, tier: input.isolation_tier };
        let moves = handle(ctx)?;
        if input.dry_run {
            let Outlook { order, cell, steps } = moves.plan(tenant, &destination).await?;
            return Ok(MoveTenantPayload { r#move: None, cell, reason: order.reason, steps });
        }
        let Outlook { order, cell, steps } = moves.start(&scope, tenant, &destination, &conditions(ctx, None)).await?;
        Ok(MoveTenantPayload { cell, reason: order.reason.clone(), r#move: Some(MoveObject(order)), steps })
    }

    /// Gives up what the tenant had where it was before the switch. Without it, that happens at `keepUntil`.
    ///
    /// Errors: `not_found` where none is running, `invalid_transition` before the switch.
    ///
    /// Scope: `auth:cell:write`, operators only.
    async fn confirm_move(&self, ctx: &Context<'_>, input: MoveInput) -> Result<MovePayload> {
        let tenant = entered(ctx, &input.tenant_id).await?;
        let order = handle(ctx)?.confirm(&enter_platform(ctx, "Mutation")?, tenant).await?;
        Ok(MovePayload { r#move: MoveObject(order) })
    }

    /// Takes the tenant back to where it was before the switch, with all that was written since, while its services read and write: the move is over
    /// as `ROLLED_BACK`, and another begins. It is followed, and confirmed, as any.
    ///
    /// Errors: `not_found` where none is running, `invalid_transition` before the switch and after `confirmMove`, `residency_violation` where the
    /// tenant may not be there any more.
    ///
    /// Scope: `auth:cell:write`, operators only.
    async fn rollback_move(&self, ctx: &Context<'_>, input: MoveInput) -> Result<MovePayload> {
        let tenant = entered(ctx, &input.tenant_id).await?;
        let order = handle(ctx)?.roll_back(&enter_platform(ctx, "Mutation")?, tenant).await?;
        Ok(MovePayload { r#move: MoveObject(order) })
    }

    /// Calls a move off: the tenant stays where it is, and nothing is left where it was to come to. After the switch there is `rollbackMove`.
    ///
    /// Errors: `not_found` where none is running, `invalid_transition` after the switch.
    ///
    /// Scope: `auth:cell:write`, operators only.
    async fn cancel_move(&self, ctx: &Context<'_>, input: MoveInput) -> Result<MovePayload> {
        let tenant = entered(ctx, &input.tenant_id).await?;
        let order = handle(ctx)?.cancel(&enter_platform(ctx, "Mutation")?, tenant).await?;
        Ok(MovePayload { r#move: MoveObject(order) })
    }
}

/// Whether a tenant is on its way.
#[derive(Clone, Debug)]
pub struct TenantMove(pub TenantView);

#[Object]
impl TenantMove {
    /// The move that the tenant is on, or its last one; null where it was never moved.
    ///
    /// Scope: `auth:tenant:read`.
    async fn r#move(&self, ctx: &Context<'_>) -> Result<Option<MoveObject>> {
        let scope = enter(ctx, "Tenant", &self.0.id().into()).await?;
        Ok(Box::pin(handle(ctx)?.of_tenant(&scope)).await?.map(MoveObject))
    }
}

async fn entered(ctx: &Context<'_>, tenant: &ID) -> Result<TenantId> {
    Ok(enter(ctx, "Mutation", tenant).await?.tenant())
}

fn handle<'a>(ctx: &Context<'a>) -> crate::error::Result<&'a Moves> {
    ctx.data_opt::<Moves>().ok_or_else(|| Error::internal("the schema has no moves"))
}
