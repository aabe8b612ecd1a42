//! Closed periods and corrections in the schema.

use std::collections::BTreeMap;

use async_graphql::{Context, ID, InputObject, Json, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use super::{
    super::graphql::{entered, handle},
    Closing, Correction,
};
use crate::{
    platform::page::{LargestPage, PageInfo, PageRequest},
    tenancy::graphql::conditions,
};

#[derive(Debug, InputObject)]
pub struct CloseUsageInput {
    tenant_id: ID,
    /// All before it is closed: a quarter of an hour, such as the begin of a month in the tenant's time zone, and not after the present.
    until: DateTime<Utc>,
}

#[derive(Debug, InputObject)]
pub struct UsageCorrectionsInput {
    /// The tenant; a service's own where not given.
    tenant_id: Option<ID>,
    /// A key of `usageDimensions`; all where not given.
    dimension: Option<String>,
    /// Booked from this moment on.
    from: DateTime<Utc>,
    /// Booked before it.
    to: DateTime<Utc>,
}

/// Until when a tenant's usage is closed.
#[derive(Clone, Copy, Debug, SimpleObject)]
pub struct UsageClosing {
    /// Totals before it stay as they are; null while the first closing is under way.
    closed_until: Option<DateTime<Utc>>,
    closed_at: Option<DateTime<Utc>>,
    /// What comes now counts from then on. It differs from `closedUntil` while a closing is under way, or was broken off: then close again.
    closing_until: DateTime<Utc>,
}

impl From<Closing> for UsageClosing {
    fn from(closing: Closing) -> Self {
        Self { closed_until: closing.closed_until, closed_at: closing.closed_at, closing_until: closing.closing_until }
    }
}

/// An event that corrects what was counted, or that came when its period was closed.
#[derive(Debug)]
pub struct UsageCorrection(Correction);

#[Object]
impl UsageCorrection {
    async fn dimension(&self) -> &str {
        &self.0.dimension
    }

    async fn quantity(&self) -> Decimal {
        self.0.quantity
    }

    /// When it counts: where its period was closed, when it came.
    async fn booked_at(&self) -> DateTime<Utc> {
        self.0.booked_at
    }

    /// Its own time.
    async fn occurred_at(&self) -> DateTime<Utc> {
        self.0.occurred_at
    }

    async fn received_at(&self) -> DateTime<Utc> {
        self.0.received_at
    }

    /// Those of the dimension's `groupBy` that it had.
    async fn labels(&self) -> Json<&BTreeMap<String, String>> {
        Json(&self.0.labels)
    }

    async fn subject(&self) -> Option<&str> {
        (!self.0.subject.is_empty()).then_some(&self.0.subject)
    }

    /// Its `adjustmentReason`; null where it is none, and only came too late.
    async fn reason(&self) -> Option<&str> {
        (!self.0.reason.is_empty()).then_some(&self.0.reason)
    }
}

#[derive(Debug, SimpleObject)]
pub struct UsageCorrectionEdge {
    cursor: String,
    node: UsageCorrection,
}

#[derive(Debug, SimpleObject)]
pub struct UsageCorrectionConnection {
    edges: Vec<UsageCorrectionEdge>,
    page_info: PageInfo,
}

#[derive(Debug, SimpleObject)]
pub struct CloseUsagePayload {
    closing: UsageClosing,
}

#[derive(Debug, Default)]
pub struct PeriodQuery;

#[Object]
impl PeriodQuery {
    /// Until when the tenant's usage is closed; null where nothing is. Without an id, of the tenant that the token is bound to.
    ///
    /// Scope: `auth:usage:read`.
    async fn usage_closing(&self, ctx: &Context<'_>, tenant_id: Option<ID>) -> Result<Option<UsageClosing>> {
        let scope = entered(ctx, "Query", tenant_id.as_ref()).await?;
        Ok(handle(ctx)?.closing(&scope).await?.map(Into::into))
    }

    /// Adjustments, and events that came when their period was closed, the last booked first. They stay when events are removed.
    ///
    /// Errors: `invalid_input` at `dimension`, `to`, `first` or `after`.
    ///
    /// Scope: `auth:usage:read`.
    async fn usage_corrections(
        &self,
        ctx: &Context<'_>,
        input: UsageCorrectionsInput,
        #[graphql(default = 25, desc = "At most 100.")] first: i32,
        #[graphql(desc = "Cursor of the last correction of the page before.")] after: Option<String>,
    ) -> Result<UsageCorrectionConnection> {
        let scope = entered(ctx, "Query", input.tenant_id.as_ref()).await?;
        let request = PageRequest::new(Some(first), after, ctx.data::<LargestPage>()?.0)?;
        let span = (input.from, input.to);
        let page = handle(ctx)?.corrections(&scope, input.dimension.as_deref(), span, &request).await?;
        let cursors: Vec<_> = page.items.iter().map(Correction::cursor).collect();
        let page_info = PageInfo::new(&page, &cursors);
        let nodes = page.items.into_iter().map(UsageCorrection);
        let edges = cursors.into_iter().zip(nodes).map(|(cursor, node)| UsageCorrectionEdge { cursor, node }).collect();
        Ok(UsageCorrectionConnection { edges, page_info })
    }
}

#[derive(Debug, Default)]
pub struct PeriodMutation;

#[Object]
impl PeriodMutation {
    /// Closes all of the tenant's usage before `until`: totals of it stay as they are from now on. What comes later for it, adjustments
    /// included, counts when it comes, and is listed by `usageCorrections`. What is closed is not opened again.
    ///
    /// Errors: `invalid_input` at `until`, `conflict` at `until` where more is closed already, `unavailable` where usage that came before
    /// is still being counted: close again.
    ///
    /// Scope: `auth:usage:write`, operators only.
    async fn close_usage(&self, ctx: &Context<'_>, input: CloseUsageInput) -> Result<CloseUsagePayload> {
        let scope = entered(ctx, "Mutation", Some(&input.tenant_id)).await?;
        let closing = handle(ctx)?.close(&scope, input.until, &conditions(ctx, None)).await?;
        Ok(CloseUsagePayload { closing: closing.into() })
    }
}
