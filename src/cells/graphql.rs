//! Cells' part of the schema, for operators alone, and where a tenant is.

use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};

use super::{Cell, CellChange, CellHealth, CellState, Cells, NewCell, place::PlacementObject};
use crate::{
    error::Error,
    platform::{
        ids::{CellId, TenantId},
        secret::Secret,
    },
    tenancy::{
        IsolationTier, TenantView,
        graphql::{conditions, enter, enter_platform},
    },
};

/// A PostgreSQL database that holds what tenants have.
#[derive(Clone, Debug)]
pub struct CellObject {
    cell: Arc<Cell>,
    days_to_full: Option<i64>,
}

/// A PostgreSQL extension that parts of tenants' environments are made of.
#[derive(Clone, Debug, SimpleObject)]
pub struct CellExtension {
    name: String,
    /// The version that could be installed.
    available: Option<String>,
    /// The version that is there.
    installed: Option<String>,
    /// Whether Tenantry may install it there, which tenants with a database of their own need.
    creatable: bool,
}

#[Object(name = "Cell")]
impl CellObject {
    /// UUIDv7.
    async fn id(&self) -> ID {
        self.cell.id.into()
    }

    async fn name(&self) -> &str {
        &self.cell.name
    }

    async fn region(&self) -> &str {
        &self.cell.region
    }

    /// The tier of tenants that it is for.
    async fn tier(&self) -> IsolationTier {
        self.cell.tier
    }

    /// Tenants that it takes at most.
    async fn capacity(&self) -> i64 {
        self.cell.capacity
    }

    /// Tenants that are there.
    async fn placed(&self) -> i64 {
        self.cell.placed
    }

    /// Until it is full, at the pace of the last four weeks; null where it does not grow, or is not known for long enough.
    async fn days_to_full(&self) -> Option<i64> {
        self.days_to_full
    }

    /// The one tenant that a premium cell is for, once it is known.
    async fn reserved_for(&self) -> Option<ID> {
        self.cell.reserved_for.map(Into::into)
    }

    async fn state(&self) -> CellState {
        self.cell.state
    }

    async fn health(&self) -> CellHealth {
        self.cell.health
    }

    /// Why it is not well; empty where it is.
    async fn health_reason(&self) -> &str {
        &self.cell.health_reason
    }

    /// Since when it is as it is.
    async fn health_since(&self) -> DateTime<Utc> {
        self.cell.health_since
    }

    /// Host name of the PostgreSQL, or the folder of its socket.
    async fn host(&self) -> &str {
        &self.cell.address.0.host
    }

    async fn port(&self) -> i32 {
        self.cell.address.0.port.into()
    }

    async fn database(&self) -> &str {
        &self.cell.address.0.database
    }

    /// `server_version_num` of the PostgreSQL, for example 170011.
    async fn server_version(&self) -> i32 {
        self.cell.facts.version
    }

    /// What of Apache AGE (`age`), pgvector (`vector`) and others its PostgreSQL has.
    async fn extensions(&self) -> Vec<CellExtension> {
        let extensions = self.cell.facts.extensions.iter().cloned();
        extensions
            .map(|found| CellExtension {
                name: found.name,
                available: found.available,
                installed: found.installed,
                creatable: found.creatable,
            })
            .collect()
    }

    /// Whether what its PostgreSQL refused to tenants is read from its log, and journaled with who tried.
    async fn denials_visible(&self) -> bool {
        self.cell.facts.denials_hidden.is_none()
    }

    /// Why not, and what to change; null where it is.
    async fn denials_hidden_reason(&self) -> Option<&str> {
        self.cell.facts.denials_hidden.as_deref()
    }

    /// Whether it is the one that Tenantry made itself.
    async fn is_own(&self) -> bool {
        self.cell.is_own
    }

    /// What `expectedVersion` is compared with.
    async fn version(&self) -> i64 {
        self.cell.version
    }

    async fn created_at(&self) -> DateTime<Utc> {
        self.cell.created_at
    }
}

#[derive(Debug, InputObject)]
pub struct RegisterCellInput {
    /// Unique; 1 to 63 small letters, digits or '-'.
    name: String,
    region: String,
    #[graphql(default_with = "IsolationTier::Standard")]
    tier: IsolationTier,
    /// Tenants at most: of a premium cell 1.
    capacity: i64,
    /// `postgres://user:password@host:port/database`, as a login that may create roles. It is sealed, and never comes back.
    url: String,
    /// The one tenant that a premium cell is for; where none is given, the first that is placed there.
    reserved_for: Option<ID>,
}

#[derive(Debug, InputObject)]
pub struct DrainCellInput {
    id: ID,
    /// The version that you saw last: `conflict` if there is another.
    expected_version: Option<i64>,
}

#[derive(Debug, InputObject)]
pub struct ReactivateCellInput {
    id: ID,
    /// The version that you saw last: `conflict` if there is another.
    expected_version: Option<i64>,
}

/// Name, region, tier and the tenant of a premium cell never change.
#[derive(Debug, InputObject)]
pub struct UpdateCellInput {
    id: ID,
    /// Tenants at most, 1 to 100000: of a premium cell 1. Below what is placed there nobody is sent away, and nobody new comes.
    capacity: Option<i64>,
    /// Another address, login or password of the same database. It is sealed, and never comes back.
    url: Option<String>,
    /// The version that you saw last: `conflict` if there is another.
    expected_version: Option<i64>,
}

/// The cell after a change.
#[derive(Debug, SimpleObject)]
pub struct CellPayload {
    cell: CellObject,
}

#[derive(Debug, Default)]
pub struct CellQuery;

#[Object]
impl CellQuery {
    /// All cells, by name, with their load and health.
    ///
    /// Scope: `auth:cell:read`, operators only.
    async fn cells(&self, ctx: &Context<'_>) -> Result<Vec<CellObject>> {
        let scope = enter_platform(ctx, "Query")?;
        Ok(handle(ctx)?
            .list(&scope)
            .await?
            .into_iter()
            .map(|(cell, days)| CellObject { cell, days_to_full: days })
            .collect())
    }
}

#[derive(Debug, Default)]
pub struct CellMutation;

#[Object]
impl CellMutation {
    /// Makes a PostgreSQL database a cell, once it has been looked at: PostgreSQL 15 or newer, a primary, and a login that may
    /// make roles and schemas. Every server puts new tenants on it from then on.
    ///
    /// Errors: `invalid_input` with what to change in the database, `conflict` where it or the name is known,
    /// `residency_violation` where it is in another region, `unavailable` where it does not answer.
    ///
    /// Scope: `auth:cell:write`, operators only.
    async fn register_cell(&self, ctx: &Context<'_>, input: RegisterCellInput) -> Result<CellPayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let new = NewCell {
            name: input.name,
            region: input.region,
            tier: input.tier,
            capacity: input.capacity,
            url: Secret::new(input.url),
            reserved_for: input.reserved_for.as_ref().map(|id| TenantId::parse(id)).transpose()?,
        };
        let cell = handle(ctx)?.register(&scope, new, &conditions(ctx, None)).await?;
        Ok(CellPayload { cell: CellObject { cell, days_to_full: None } })
    }

    /// Changes how many tenants a cell takes, or how it is reached: a new password, a server that has moved. Tenants that wait for a place
    /// get one at once where there is more room; credentials of the tenants that are there name the new address.
    ///
    /// Errors: `invalid_input` for a capacity out of bounds or an address of another database, `not_found`, `conflict` for another
    /// version than expected, `residency_violation` at a server of another region, `unavailable` where the address does not answer.
    ///
    /// Scope: `auth:cell:write`, operators only.
    async fn update_cell(&self, ctx: &Context<'_>, input: UpdateCellInput) -> Result<CellPayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let UpdateCellInput { id, capacity, url, expected_version } = input;
        let wanted = CellChange { capacity, url: url.map(Secret::new) };
        let cell = handle(ctx)?.update(&scope, parse(&id)?, wanted, &conditions(ctx, expected_version)).await?;
        Ok(CellPayload { cell: CellObject { cell, days_to_full: None } })
    }

    /// Lets a cell that drains or is retired take tenants again, once its database has been looked at as when it was registered.
    ///
    /// Errors: `not_found`, `invalid_input` with what to change in the database, `conflict` for another version than expected,
    /// `residency_violation` at a server of another region, `unavailable` where it does not answer.
    ///
    /// Scope: `auth:cell:write`, operators only.
    async fn reactivate_cell(&self, ctx: &Context<'_>, input: ReactivateCellInput) -> Result<CellPayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let cell = handle(ctx)?.reactivate(&scope, parse(&input.id)?, &conditions(ctx, input.expected_version)).await?;
        Ok(CellPayload { cell: CellObject { cell, days_to_full: None } })
    }

    /// Lets a cell take no more tenants. One without any is retired.
    ///
    /// Scope: `auth:cell:write`, operators only.
    async fn drain_cell(&self, ctx: &Context<'_>, input: DrainCellInput) -> Result<CellPayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let cell = handle(ctx)?.drain(&scope, parse(&input.id)?, &conditions(ctx, input.expected_version)).await?;
        Ok(CellPayload { cell: CellObject { cell, days_to_full: None } })
    }
}

/// Where a tenant is.
#[derive(Clone, Debug)]
pub struct TenantPlacement(pub TenantView);

#[Object]
impl TenantPlacement {
    /// Where the tenant's data is, and why there; null until it has a place.
    ///
    /// Scope: `auth:tenant:read`.
    async fn placement(&self, ctx: &Context<'_>) -> Result<Option<PlacementObject>> {
        let scope = enter(ctx, "Tenant", &self.0.id().into()).await?;
        Ok(Box::pin(handle(ctx)?.placement_of(&scope)).await?.map(Into::into))
    }
}

fn parse(id: &ID) -> crate::error::Result<CellId> {
    id.parse().map_err(|_| Error::not_found())
}

fn handle<'a>(ctx: &Context<'a>) -> crate::error::Result<&'a Cells> {
    ctx.data_opt::<Cells>().ok_or_else(|| Error::internal("the schema has no cells"))
}
