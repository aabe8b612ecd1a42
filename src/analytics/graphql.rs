//! Analytics in the schema.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::{
    Analytics, AnalyticsWindow,
    figures::{self, Grouping, RequestFigures},
};
use crate::{
    error::Error,
    isolation::TenantScope,
    tenancy::graphql::enter_own_or,
    usage::{self, Bounds},
};

#[derive(Debug, InputObject)]
pub struct AnalyticsInput {
    /// The tenant; a service's own where not given.
    tenant_id: Option<ID>,
    window: AnalyticsWindow,
    /// The first window is the one that this moment is in.
    from: DateTime<Utc>,
    /// The last window begins before it.
    to: DateTime<Utc>,
    /// A name of the IANA time zone database; UTC where not given.
    time_zone: Option<String>,
}

/// How a tenant uses the platform, window by window. Windows in which nothing happened are left out of each list.
#[derive(Debug)]
pub struct TenantAnalytics {
    scope: TenantScope,
    windows: Vec<Bounds>,
}

#[Object]
impl TenantAnalytics {
    /// What the tenant's services asked over HTTP and WebSocket, whatever came of it. What was answered in the last seconds, and what a
    /// server was told that was killed, may be missing. Not counted are requests whose token was not valid, and those of operators. With
    /// `byOperation` each operation is told by itself: `query` or `mutation` with the name of its root field (the first by name, `and
    /// others` behind it), the path of what is not GraphQL, and `other` for what is beyond 256 of them.
    ///
    /// Errors: `invalid_input` at `from` where there are more than 20,000 figures.
    async fn requests(
        &self,
        ctx: &Context<'_>,
        #[graphql(default)] by_operation: bool,
    ) -> Result<Vec<AnalyticsRequests>> {
        let grouping = if by_operation { Grouping::ByOperation } else { Grouping::Together };
        let found = handle(ctx)?.request_figures(&self.scope, &self.windows, grouping).await?;
        Ok(found.into_iter().map(AnalyticsRequests).collect())
    }

    /// How many different callers asked, by the `sub` of their tokens.
    async fn callers(&self, ctx: &Context<'_>) -> Result<Vec<AnalyticsCount>> {
        let found = handle(ctx)?.callers(&self.scope, &self.windows).await?;
        Ok(found.into_iter().map(|callers| AnalyticsCount::of(callers.window, callers.count)).collect())
    }

    /// How many different subjects the events of a dimension have that the tenant sent.
    ///
    /// Errors: `invalid_input` at `dimension`.
    async fn active_users(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "A key of `usageDimensions`.", default = "users")] dimension: String,
    ) -> Result<Vec<AnalyticsCount>> {
        let found = handle(ctx)?.usage.active_users(&self.scope, &dimension, &self.windows).await?;
        let told = found.into_iter().map(|(place, count)| Ok(AnalyticsCount::of(self.at(place)?, count)));
        told.collect()
    }

    /// Sessions: a subject's events that follow each other without a pause. A session belongs to the window that it begins in; what
    /// lasts longer than a day after the last window is cut off there. Of events, as long as they are kept.
    ///
    /// Errors: `invalid_input` at `dimension`, or `pauseMinutes`.
    async fn sessions(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "A key of `usageDimensions`.", default = "users")] dimension: String,
        #[graphql(desc = "What ends a session: 1 to 1440 minutes without an event.", default = 30)] pause_minutes: i64,
    ) -> Result<Vec<AnalyticsSessions>> {
        if !(1..=1440).contains(&pause_minutes) {
            return Err(Error::invalid("pauseMinutes", "must be between 1 and 1440").into());
        }
        let pause = TimeDelta::minutes(pause_minutes);
        let found = handle(ctx)?.usage.sessions(&self.scope, &dimension, &self.windows, pause).await?;
        found.into_iter().map(|found| Ok(AnalyticsSessions { window: self.at(found.window)?, found })).collect()
    }

    /// Events by value of a label, the most used first. Of events, as long as they are kept.
    ///
    /// Errors: `invalid_input` at `dimension`, at `label` where it is not in the dimension's `groupBy`, and at `from` where there are more
    /// than 20,000 figures.
    async fn features(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "A key of `usageDimensions`.")] dimension: String,
        #[graphql(desc = "A label of the dimension's `groupBy`.")] label: String,
    ) -> Result<Vec<AnalyticsFeature>> {
        let most = i64::try_from(figures::MOST).map_err(Error::internal)? + 1;
        let asked = (dimension.as_str(), label.as_str());
        let found = handle(ctx)?.usage.features(&self.scope, asked, &self.windows, most).await?;
        if found.len() > figures::MOST {
            return Err(figures::too_much().into());
        }
        found.into_iter().map(|found| Ok(AnalyticsFeature { window: self.at(found.window)?, found })).collect()
    }
}

impl TenantAnalytics {
    fn at(&self, place: usize) -> Result<Bounds> {
        Ok(figures::at(&self.windows, place)?)
    }
}

/// Requests of one window.
#[derive(Debug)]
pub struct AnalyticsRequests(RequestFigures);

#[Object]
impl AnalyticsRequests {
    async fn begin(&self) -> DateTime<Utc> {
        self.0.window.0
    }

    /// The begin of the next window.
    async fn end(&self) -> DateTime<Utc> {
        self.0.window.1
    }

    /// Null where operations are not told apart.
    async fn operation(&self) -> Option<&str> {
        self.0.operation.as_deref()
    }

    async fn count(&self) -> i64 {
        self.0.count
    }

    /// How many of them failed: of GraphQL, those with an error in their answer.
    async fn errors(&self) -> i64 {
        self.0.failed()
    }

    /// The share of those that failed, from 0 to 1.
    async fn error_rate(&self) -> f64 {
        self.0.error_rate()
    }

    async fn errors_by_code(&self) -> Vec<AnalyticsErrors> {
        let told = |(code, count): (&String, &i64)| AnalyticsErrors { code: code.clone(), count: *count };
        self.0.errors.iter().map(told).collect()
    }

    /// So many milliseconds half of them took at most until they were answered. Percentiles are at most 4.5 per cent off.
    async fn p50(&self) -> Option<f64> {
        self.0.latencies.percentile(50)
    }

    async fn p90(&self) -> Option<f64> {
        self.0.latencies.percentile(90)
    }

    async fn p95(&self) -> Option<f64> {
        self.0.latencies.percentile(95)
    }

    async fn p99(&self) -> Option<f64> {
        self.0.latencies.percentile(99)
    }
}

#[derive(Debug, SimpleObject)]
pub struct AnalyticsErrors {
    /// As in `extensions.code`; of several errors of one answer, the first one's.
    code: String,
    count: i64,
}

/// How many there were in one window.
#[derive(Debug, SimpleObject)]
pub struct AnalyticsCount {
    begin: DateTime<Utc>,
    /// The begin of the next window.
    end: DateTime<Utc>,
    count: i64,
}

impl AnalyticsCount {
    fn of((begin, end): Bounds, count: i64) -> Self {
        Self { begin, end, count }
    }
}

/// Sessions that begin in one window.
#[derive(Debug)]
pub struct AnalyticsSessions {
    window: Bounds,
    found: usage::Sessions,
}

#[Object]
impl AnalyticsSessions {
    async fn begin(&self) -> DateTime<Utc> {
        self.window.0
    }

    /// The begin of the next window.
    async fn end(&self) -> DateTime<Utc> {
        self.window.1
    }

    async fn count(&self) -> i64 {
        self.found.count
    }

    /// Seconds from a session's first event to its last, on average.
    async fn mean_seconds(&self) -> f64 {
        self.found.mean
    }

    /// So many seconds half of them lasted at most.
    async fn p50_seconds(&self) -> f64 {
        self.found.p50
    }

    async fn p90_seconds(&self) -> f64 {
        self.found.p90
    }

    async fn p95_seconds(&self) -> f64 {
        self.found.p95
    }

    async fn p99_seconds(&self) -> f64 {
        self.found.p99
    }
}

/// What had one value of the label in one window.
#[derive(Debug)]
pub struct AnalyticsFeature {
    window: Bounds,
    found: usage::Feature,
}

#[Object]
impl AnalyticsFeature {
    async fn begin(&self) -> DateTime<Utc> {
        self.window.0
    }

    /// The begin of the next window.
    async fn end(&self) -> DateTime<Utc> {
        self.window.1
    }

    /// The label's.
    async fn value(&self) -> &str {
        &self.found.value
    }

    async fn events(&self) -> i64 {
        self.found.events
    }

    /// Different subjects of these events.
    async fn users(&self) -> i64 {
        self.found.users
    }
}

#[derive(Debug, Default)]
pub struct AnalyticsQuery;

#[Object]
impl AnalyticsQuery {
    /// How a tenant uses the platform in each window from `from` until before `to`, at most 1,500 windows: whole windows of the time
    /// zone. The same is there as CSV: `GET /api/v1/analytics/requests.csv` and `/api/v1/analytics/usage.csv`.
    ///
    /// Errors: `invalid_input` at `timeZone` (a name of the IANA time zone database), `from` or `to`.
    ///
    /// Scope: `auth:usage:read`.
    async fn analytics(&self, ctx: &Context<'_>, input: AnalyticsInput) -> Result<TenantAnalytics> {
        let scope = enter_own_or(ctx, "Query", input.tenant_id.as_ref()).await?;
        let scope = scope.ok_or_else(|| Error::invalid("tenantId", "is needed: an operator is bound to no tenant"))?;
        let zone = input.time_zone.map_or(Ok(Tz::UTC), |name| name.parse());
        let zone = zone.map_err(|_| Error::invalid("timeZone", "must be a name of the IANA time zone database"))?;
        Ok(TenantAnalytics { scope, windows: input.window.cover((input.from, input.to), zone)? })
    }
}

fn handle<'a>(ctx: &Context<'a>) -> Result<&'a Analytics> {
    Ok(ctx.data_opt::<Analytics>().ok_or_else(|| Error::internal("the schema has no analytics"))?)
}
