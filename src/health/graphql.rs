//! The part of the schema that is about outages and the service level that was reached.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};

use super::{Health, Month, NewOutage, Outage, OutageKind, SlaAttainment, store};
use crate::{
    error::Error,
    platform::{
        ids::OutageId,
        page::{LargestPage, Page, PageInfo, PageRequest},
    },
    tenancy::{
        TenantView,
        graphql::{conditions, enter},
    },
};

/// A time in which a tenant was not served as usual.
#[derive(Clone, Debug)]
pub struct OutageObject(Outage);

#[Object(name = "Outage")]
impl OutageObject {
    /// UUIDv7.
    async fn id(&self) -> ID {
        self.0.id.into()
    }

    async fn kind(&self) -> OutageKind {
        self.0.kind
    }

    async fn began_at(&self) -> DateTime<Utc> {
        self.0.began_at
    }

    /// Null while it lasts.
    async fn ended_at(&self) -> Option<DateTime<Utc>> {
        self.0.ended_at
    }

    /// What it was, for people.
    async fn summary(&self) -> &str {
        &self.0.summary
    }

    /// Subject of who reported it.
    async fn reported_by(&self) -> &str {
        &self.0.reported_by
    }

    /// When the report turned out to be a mistake; it counts for nothing since.
    async fn withdrawn_at(&self) -> Option<DateTime<Utc>> {
        self.0.withdrawn_at
    }

    /// Grows by one with every change; what `expectedVersion` is compared with.
    async fn version(&self) -> i64 {
        self.0.version
    }

    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    async fn updated_at(&self) -> DateTime<Utc> {
        self.0.updated_at
    }
}

/// One page of outages.
#[derive(Debug, SimpleObject)]
pub struct OutageConnection {
    edges: Vec<OutageEdge>,
    page_info: PageInfo,
}

#[derive(Debug, SimpleObject)]
pub struct OutageEdge {
    cursor: String,
    node: OutageObject,
}

impl From<Page<Outage>> for OutageConnection {
    fn from(page: Page<Outage>) -> Self {
        let cursors: Vec<_> = page.items.iter().map(store::cursor).collect();
        let page_info = PageInfo::new(&page, &cursors);
        let nodes = page.items.into_iter().map(OutageObject);
        let edges = cursors.into_iter().zip(nodes).map(|(cursor, node)| OutageEdge { cursor, node }).collect();
        Self { edges, page_info }
    }
}

#[derive(Debug, InputObject)]
pub struct ReportOutageInput {
    /// The tenant.
    id: ID,
    /// Not in the future.
    began_at: DateTime<Utc>,
    /// Not in the future, and later than `beganAt`. Left out while it lasts.
    ended_at: Option<DateTime<Utc>>,
    kind: OutageKind,
    /// What it is, for people, the tenant's included; 1 to 2,000 characters.
    summary: String,
}

#[derive(Debug, InputObject)]
pub struct EndOutageInput {
    /// The tenant.
    id: ID,
    outage_id: ID,
    /// Not in the future, and later than the beginning; now where not given.
    ended_at: Option<DateTime<Utc>>,
    /// The version that you saw last: `conflict` if there is another.
    expected_version: Option<i64>,
}

#[derive(Debug, InputObject)]
pub struct WithdrawOutageInput {
    /// The tenant.
    id: ID,
    outage_id: ID,
    /// The version that you saw last: `conflict` if there is another.
    expected_version: Option<i64>,
}

/// The outage after a change.
#[derive(Debug, SimpleObject)]
pub struct OutagePayload {
    outage: OutageObject,
}

#[derive(Debug, Default)]
pub struct HealthMutation;

#[Object]
impl HealthMutation {
    /// Notes that a tenant is not served as usual, or was not.
    ///
    /// Errors: `invalid_input` with the field and its rule.
    ///
    /// Scope: `auth:health:write`, operators only.
    async fn report_outage(&self, ctx: &Context<'_>, input: ReportOutageInput) -> Result<OutagePayload> {
        let scope = enter(ctx, "Mutation", &input.id).await?;
        let ReportOutageInput { id: _, began_at, ended_at, kind, summary } = input;
        let new = NewOutage { began_at, ended_at, kind, summary };
        Ok(payload(handle(ctx)?.report(&scope, new, &conditions(ctx, None)).await?))
    }

    /// Notes that an outage is over.
    ///
    /// Errors: `conflict` where it was over before, or its report was withdrawn.
    ///
    /// Scope: `auth:health:write`, operators only.
    async fn end_outage(&self, ctx: &Context<'_>, input: EndOutageInput) -> Result<OutagePayload> {
        let (scope, id) = (enter(ctx, "Mutation", &input.id).await?, outage_id(&input.outage_id)?);
        let conditions = conditions(ctx, input.expected_version);
        Ok(payload(handle(ctx)?.end(&scope, id, input.ended_at, &conditions).await?))
    }

    /// Takes back a report that was a mistake: it stays in the list, and counts for nothing.
    ///
    /// Scope: `auth:health:write`, operators only.
    async fn withdraw_outage(&self, ctx: &Context<'_>, input: WithdrawOutageInput) -> Result<OutagePayload> {
        let (scope, id) = (enter(ctx, "Mutation", &input.id).await?, outage_id(&input.outage_id)?);
        Ok(payload(handle(ctx)?.withdraw(&scope, id, &conditions(ctx, input.expected_version)).await?))
    }
}

/// How a tenant is served.
#[derive(Clone, Debug)]
pub struct TenantHealth(pub TenantView);

#[Object]
impl TenantHealth {
    /// The availability that was reached in a month, beside the one promised.
    ///
    /// Errors: `invalid_input` at `month` for what is no month, and for months to come.
    ///
    /// Scope: `auth:health:read`.
    async fn sla_attainment(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "A calendar month in UTC, such as `2026-11`; the present one where not given.")] month: Option<
            String,
        >,
    ) -> Result<SlaAttainment> {
        let scope = enter(ctx, "Tenant", &self.0.id().into()).await?;
        let month = month.map(|month| Month::parse("month", &month)).transpose()?;
        Ok(Box::pin(handle(ctx)?.attainment(&scope, month)).await?)
    }

    /// Its outages and maintenance, withdrawn reports included; what began last comes first.
    ///
    /// Scope: `auth:health:read`.
    async fn outages(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most 100; 25 where not given.")] first: Option<i32>,
        #[graphql(desc = "Cursor of the last outage of the page before.")] after: Option<String>,
    ) -> Result<OutageConnection> {
        let scope = enter(ctx, "Tenant", &self.0.id().into()).await?;
        let request = PageRequest::new(first, after, ctx.data::<LargestPage>()?.0)?;
        Ok(Box::pin(handle(ctx)?.outages(&scope, &request)).await?.into())
    }
}

fn payload(outage: Outage) -> OutagePayload {
    OutagePayload { outage: OutageObject(outage) }
}

/// What is no id names nothing.
fn outage_id(id: &ID) -> Result<OutageId, Error> {
    id.parse().map_err(|_| Error::not_found())
}

fn handle<'a>(ctx: &Context<'a>) -> Result<&'a Health, Error> {
    ctx.data_opt::<Health>().ok_or_else(|| Error::internal("the schema has no health"))
}
