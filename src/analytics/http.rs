//! Analytics as CSV: `GET /api/v1/analytics/requests.csv` and `GET /api/v1/analytics/usage.csv`, written window by window while they
//! are read. Each text that a spreadsheet could take for a formula has an apostrophe before it (`platform/spreadsheet.rs`).

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Body,
    extract::{RawQuery, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use chrono::{DateTime, SecondsFormat, Utc};
use chrono_tz::Tz;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::{
    Analytics, AnalyticsWindow,
    figures::{Grouping, RequestFigures},
};
use crate::{
    access::{self, Caller},
    error::{Error, Kind, Result},
    isolation::TenantScope,
    platform::{
        ids::TenantId,
        spreadsheet::{self, Cell},
    },
    usage::{Bounds, Total, Window},
};

const REQUESTS: &str = "/api/v1/analytics/requests.csv";
const USAGE: &str = "/api/v1/analytics/usage.csv";
/// Windows that are read at once.
const PIECE: usize = 100;

/// The files, for callers that who serves this router has put into the request's extensions.
pub fn router(analytics: Analytics) -> Router {
    Router::new().route(REQUESTS, get(requests)).route(USAGE, get(usage)).with_state(analytics)
}

async fn requests(
    State(analytics): State<Analytics>,
    Extension(caller): Extension<Arc<Caller>>,
    RawQuery(query): RawQuery,
) -> Response {
    let begun = async {
        let asked = Asked::parse(query.as_deref().unwrap_or_default());
        let scope = enter(&analytics, &caller, REQUESTS, asked.tenant.as_deref()).await?;
        let windows = asked.window()?.cover(asked.span()?, asked.zone()?)?;
        let pieces: Vec<Vec<Bounds>> = windows.chunks(PIECE).map(<[_]>::to_vec).collect();
        let head = spreadsheet::lines([REQUEST_HEADER.map(str::to_owned)])?;
        let more = stream::iter(pieces).then(move |windows| {
            let (analytics, scope) = (analytics.clone(), scope.clone());
            async move {
                let found = analytics.request_figures(&scope, &windows, Grouping::ByOperation).await?;
                spreadsheet::lines(found.iter().map(request_cells))
            }
        });
        file("requests.csv", head, more).await
    };
    begun.await.unwrap_or_else(|error| refused(&error))
}

async fn usage(
    State(analytics): State<Analytics>,
    Extension(caller): Extension<Arc<Caller>>,
    RawQuery(query): RawQuery,
) -> Response {
    let begun = async {
        let asked = Asked::parse(query.as_deref().unwrap_or_default());
        let scope = enter(&analytics, &caller, USAGE, asked.tenant.as_deref()).await?;
        let window = asked.window()?.of_usage();
        let window = window.ok_or_else(|| Error::invalid("window", "must be HOUR, DAY or MONTH"))?;
        let (zone, span) = (asked.zone()?, asked.span()?);
        window.cover(span.0, span.1, zone)?;
        let head = spreadsheet::lines([USAGE_HEADER.map(str::to_owned)])?;
        let dimensions = analytics.usage.dimensions().await?;
        let more = stream::iter(dimensions).then(move |dimension| {
            let (analytics, scope) = (analytics.clone(), scope.clone());
            async move {
                let windows: (Window, Tz) = (window, zone);
                let totals = analytics.usage.totals(&scope, &dimension.key, windows, span).await?;
                let cells = totals.iter().map(|total| usage_cells(&dimension.key, &dimension.unit, total));
                spreadsheet::lines(cells.collect::<Result<Vec<_>>>()?)
            }
        });
        file("usage.csv", head, more).await
    };
    begun.await.unwrap_or_else(|error| refused(&error))
}

/// The tenant that is named or, without a name, the caller's own.
async fn enter(
    analytics: &Analytics,
    caller: &Arc<Caller>,
    path: &'static str,
    named: Option<&str>,
) -> Result<TenantScope> {
    let permission = access::permission("GET", path)
        .ok_or_else(|| Error::internal(format!("{path} is missing in the table of permissions")))?;
    caller.require(permission)?;
    let tenant = named.map(TenantId::parse).transpose()?.or(caller.tenant());
    let tenant = tenant.ok_or_else(|| Error::invalid("tenant_id", "is needed: an operator is bound to no tenant"))?;
    analytics.tenancy.enter(caller, tenant, permission).await
}

/// What the query string asks for, as it was sent. What it does not know, it leaves.
#[derive(Debug, Default)]
struct Asked {
    tenant: Option<String>,
    from: Option<String>,
    to: Option<String>,
    window: Option<String>,
    zone: Option<String>,
    repeated: Option<&'static str>,
}

impl Asked {
    fn parse(query: &str) -> Self {
        let mut asked = Self::default();
        for part in query.split('&') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (place, name) = match name {
                "tenant_id" => (&mut asked.tenant, "tenant_id"),
                "from" => (&mut asked.from, "from"),
                "to" => (&mut asked.to, "to"),
                "window" => (&mut asked.window, "window"),
                "time_zone" => (&mut asked.zone, "time_zone"),
                _ => continue,
            };
            // A plus is one: times of RFC 3339 have it, and nothing here has spaces.
            if place.replace(percent_decode_str(value).decode_utf8_lossy().into_owned()).is_some() {
                asked.repeated = Some(name);
            }
        }
        asked
    }

    fn window(&self) -> Result<AnalyticsWindow> {
        if let Some(name) = self.repeated {
            return Err(Error::invalid(name, "must be sent once"));
        }
        let sent = self.window.as_deref().unwrap_or("DAY");
        AnalyticsWindow::parse(sent).ok_or_else(|| Error::invalid("window", "must be HOUR, DAY, WEEK or MONTH"))
    }

    fn span(&self) -> Result<Bounds> {
        Ok((moment("from", self.from.as_deref())?, moment("to", self.to.as_deref())?))
    }

    fn zone(&self) -> Result<Tz> {
        let zone = self.zone.as_deref().map_or(Ok(Tz::UTC), str::parse);
        zone.map_err(|_| Error::invalid("time_zone", "must be a name of the IANA time zone database"))
    }
}

fn moment(field: &str, sent: Option<&str>) -> Result<DateTime<Utc>> {
    let sent = sent.ok_or_else(|| Error::invalid(field, "is missing"))?;
    let at = DateTime::parse_from_rfc3339(sent);
    let at = at.map_err(|_| Error::invalid(field, "must be a time of RFC 3339, such as 2026-11-26T09:30:00Z"))?;
    Ok(at.with_timezone(&Utc))
}

const REQUEST_HEADER: [&str; 11] = [
    "begin",
    "end",
    "operation",
    "count",
    "errors",
    "error_rate",
    "p50_ms",
    "p90_ms",
    "p95_ms",
    "p99_ms",
    "errors_by_code",
];

fn request_cells(figures: &RequestFigures) -> [Cell; 11] {
    let percentile =
        |per_cent| Cell::Number(figures.latencies.percentile(per_cent).map_or_else(String::new, |ms| ms.to_string()));
    let codes: Vec<_> = figures.errors.iter().map(|(code, count)| format!("{code}={count}")).collect();
    [
        Cell::Text(time(figures.window.0)),
        Cell::Text(time(figures.window.1)),
        Cell::Text(figures.operation.clone().unwrap_or_default()),
        Cell::number(figures.count),
        Cell::number(figures.failed()),
        Cell::number(figures.error_rate()),
        percentile(50),
        percentile(90),
        percentile(95),
        percentile(99),
        Cell::Text(codes.join(" ")),
    ]
}

const USAGE_HEADER: [&str; 8] = ["begin", "end", "dimension", "unit", "labels", "events", "quantity", "units"];

fn usage_cells(dimension: &str, unit: &str, total: &Total) -> Result<[Cell; 8]> {
    Ok([
        Cell::Text(time(total.begin)),
        Cell::Text(time(total.end)),
        Cell::Text(dimension.to_owned()),
        Cell::Text(unit.to_owned()),
        Cell::Text(serde_json::to_string(&total.labels).map_err(Error::internal)?),
        Cell::number(total.events),
        Cell::number(total.figure),
        Cell::number(total.units),
    ])
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// What is wrong with the first piece is an answer; after that, a body that breaks off tells that it is not all.
async fn file(
    name: &'static str,
    head: String,
    pieces: impl futures::Stream<Item = Result<String>> + Send + 'static,
) -> Result<Response> {
    let mut pieces = Box::pin(pieces);
    let first = pieces.next().await.transpose()?.unwrap_or_default();
    let rest = pieces.inspect_err(|error| {
        tracing::warn!(%error, cause = error.cause().map(tracing::field::display), "a file of analytics breaks off");
    });
    let rest = rest.map_err(|error| std::io::Error::other(error.message().to_owned()));
    let body = Body::from_stream(stream::iter([Ok(head + &first)]).chain(rest));
    let disposition = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")).map_err(Error::internal)?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8; header=present")),
        (header::CONTENT_DISPOSITION, disposition),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((StatusCode::OK, headers, body).into_response())
}

fn refused(error: &Error) -> Response {
    if matches!(error.kind(), Kind::Internal | Kind::Unavailable) {
        tracing::warn!(%error, cause = error.cause().map(tracing::field::display), "analytics are not told");
    }
    let body = json!({ "errors": [{ "message": error.message(), "extensions": error.extensions() }] });
    let headers = [(header::CONTENT_TYPE, "application/json; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    let mut response = (error.kind().http_status(), headers, body.to_string()).into_response();
    response.extensions_mut().insert(error.kind());
    response
}
