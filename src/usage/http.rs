//! Usage over plain HTTP: `POST /api/v1/billing/meter` with JSON, and `POST /api/v1/usage/events` with CloudEvents 1.0 or with
//! newline-delimited JSON. Each event is answered for by itself.

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest as _, Request, State, rejection::BytesRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::post,
};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    Patience, Usage, cloud_event,
    event::RawEvent,
    lines,
    recording::{Outcome, Recorded, Sender},
    tally::Tally,
};
use crate::{
    access::{self, Caller, Permission},
    error::{Error, Kind, Result},
};

const METER: &str = "/api/v1/billing/meter";
const EVENTS: &str = "/api/v1/usage/events";

type Body = Result<Bytes, BytesRejection>;

/// The endpoints, for callers that who serves this router has put into the request's extensions. A body may have `body_bytes`,
/// but for lines, which are counted as they arrive, however many come: no other limit may stand before this router.
pub fn router(usage: Usage, body_bytes: usize) -> Router {
    Router::new()
        .route(METER, post(meter))
        .route(EVENTS, post(events))
        .layer(DefaultBodyLimit::max(body_bytes))
        .with_state(usage)
}

/// An event of the meter. What it does not know, it does not count.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meter<'a> {
    tenant_id: Option<String>,
    dimension: String,
    #[serde(borrow)]
    quantity: Option<&'a RawValue>,
    timestamp: Option<String>,
    idempotency_key: Option<String>,
    subject: Option<String>,
    #[serde(default)]
    labels: Map<String, Value>,
    adjustment_reason: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// What a request's body is: each of its events, or what is wrong with that one.
struct Sent {
    events: Vec<Result<RawEvent>>,
    /// Whether it is one by itself, and answered so.
    is_single: bool,
}

async fn meter(
    State(usage): State<Usage>,
    Extension(caller): Extension<Arc<Caller>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let sent = read(body).and_then(|body| {
        if content_type(&headers) != "application/json" {
            return Err(unsupported("the body must be application/json"));
        }
        let mut sent = metered(text(&body)?)?;
        // Of the request, where the event has none of its own.
        let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok());
        if let (true, Some(key), Some(Ok(event))) = (sent.is_single, key, sent.events.first_mut()) {
            event.key.get_or_insert_with(|| key.to_owned());
        }
        Ok(sent)
    });
    record(&usage, &caller, METER, sent).await
}

async fn events(State(usage): State<Usage>, Extension(caller): Extension<Arc<Caller>>, request: Request) -> Response {
    let headers = request.headers().clone();
    if content_type(&headers) == "application/x-ndjson" {
        return match permitted(&caller, EVENTS) {
            Ok(permission) => told(&lines::record(&usage, &caller, permission, request.into_body()).await),
            Err(error) => refused(Refused::from(error)),
        };
    }
    let sent = read(Bytes::from_request(request, &()).await).and_then(|body| match content_type(&headers).as_str() {
        "application/cloudevents+json" => {
            Ok(Sent { events: vec![cloud_event::structured(text(&body)?)], is_single: true })
        }
        "application/cloudevents-batch+json" => {
            let events = items(text(&body)?)?.into_iter().map(|item| cloud_event::structured(item.get()));
            Ok(Sent { events: events.collect(), is_single: false })
        }
        _ if cloud_event::is_binary(&headers) => {
            Ok(Sent { events: vec![cloud_event::binary(&headers, text(&body)?)], is_single: true })
        }
        _ => Err(unsupported(
            "the body must be application/cloudevents+json, application/cloudevents-batch+json or application/x-ndjson, or the request a CloudEvent in binary mode",
        )),
    });
    record(&usage, &caller, EVENTS, sent).await
}

fn content_type(headers: &HeaderMap) -> String {
    let sent = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    sent.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn read(body: Body) -> Result<Bytes, Refused> {
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refused {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            error: Error::invalid("body", "is too large; send fewer events at a time"),
        },
        _ => Error::invalid("body", "did not arrive").into(),
    })
}

pub(super) fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| Error::invalid("body", "must be UTF-8"))
}

fn unsupported(rule: &'static str) -> Refused {
    Refused { status: StatusCode::UNSUPPORTED_MEDIA_TYPE, error: Error::invalid("Content-Type", rule) }
}

/// One event, or a list of them. A list is read in one go; only one with something bad in it is taken apart first.
fn metered(body: &str) -> Result<Sent> {
    if body.trim_start().starts_with('[') {
        let events = match serde_json::from_str::<Vec<Meter<'_>>>(body) {
            Ok(meters) => meters.into_iter().map(event).collect(),
            Err(_) => items(body)?.into_iter().map(|item| one(item.get())).collect(),
        };
        return Ok(Sent { events, is_single: false });
    }
    Ok(Sent { events: vec![one(body)], is_single: true })
}

fn items(body: &str) -> Result<Vec<&RawValue>> {
    serde_json::from_str(body).map_err(|error| Error::invalid("body", format!("must be a JSON list: {error}")))
}

pub(super) fn one(text: &str) -> Result<RawEvent> {
    let meter: Meter<'_> =
        serde_json::from_str(text).map_err(|error| Error::invalid("event", format!("is no usage event: {error}")))?;
    event(meter)
}

fn event(meter: Meter<'_>) -> Result<RawEvent> {
    let quantity = meter.quantity.map(quantity_text).transpose()?;
    // Only what says no quantity may have to be searched for one.
    let data = meter.data.filter(|_| quantity.is_none()).map(ToOwned::to_owned);
    Ok(RawEvent {
        tenant: meter.tenant_id,
        key: meter.idempotency_key,
        source: None,
        dimension: meter.dimension,
        quantity,
        subject: meter.subject,
        labels: meter.labels,
        timestamp: meter.timestamp,
        adjustment_reason: meter.adjustment_reason,
        data,
    })
}

/// The digits of a number or of a text, as they were sent: read as floating point, they would be others.
pub(super) fn quantity_text(raw: &RawValue) -> Result<String> {
    let raw = raw.get();
    match raw.as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw).map_err(Error::internal),
        Some(b'-' | b'0'..=b'9') => Ok(raw.to_owned()),
        _ => Err(Error::invalid("quantity", "must be a number, or one in quotation marks")),
    }
}

fn permitted(caller: &Caller, path: &'static str) -> Result<&'static Permission> {
    let permission = access::permission("POST", path)
        .ok_or_else(|| Error::internal(format!("{path} is missing in the table of permissions")))?;
    caller.require(permission)?;
    Ok(permission)
}

async fn record(usage: &Usage, caller: &Arc<Caller>, path: &'static str, sent: Result<Sent, Refused>) -> Response {
    let recorded = async {
        let permission = permitted(caller, path)?;
        let sent = sent?;
        Ok((usage.record_each(Sender::Caller(caller, permission), sent.events, Patience::None).await?, sent.is_single))
    };
    match recorded.await {
        Ok((recorded, true)) => single(&recorded),
        Ok((recorded, false)) => told(&Tally::of(&recorded)),
        Err(error) => refused(error),
    }
}

fn refused(Refused { status, error }: Refused) -> Response {
    warn(&error);
    let mut response = answer(status, &errors(error.message(), error.extensions()));
    response.extensions_mut().insert(error.kind());
    later(response, &error)
}

fn warn(error: &Error) {
    if matches!(error.kind(), Kind::Internal | Kind::Unavailable) {
        tracing::warn!(%error, cause = error.cause().map(tracing::field::display), "usage is not counted");
    }
}

/// Where it may go a moment later, says so.
fn later(mut response: Response, error: &Error) -> Response {
    if error.kind() == Kind::Unavailable {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn single(recorded: &Recorded) -> Response {
    match recorded.0.first() {
        Some(Outcome::Refused(refusal)) => {
            let extensions = json!({ "code": refusal.kind.code(), "field": refusal.field });
            let mut response = answer(refusal.kind.http_status(), &errors(&refusal.message, extensions));
            response.extensions_mut().insert(refusal.kind);
            response
        }
        Some(Outcome::Duplicate) => answer(StatusCode::OK, &json!({ "status": "duplicate" })),
        Some(Outcome::Accepted) | None => answer(StatusCode::OK, &json!({ "status": "accepted" })),
    }
}

/// What became of several; of those that were broken off, the first ones, and why it was not all.
fn told(tally: &Tally) -> Response {
    let mut body = tally.body();
    let Some(error) = &tally.broken_off else {
        let status = if tally.is_for_nothing() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
        return answer(status, &body);
    };
    warn(error);
    body["errors"] = errors(error.message(), error.extensions())["errors"].take();
    later(answer(error.kind().http_status(), &body), error)
}

fn errors(message: &str, extensions: Value) -> Value {
    json!({ "errors": [{ "message": message, "extensions": extensions }] })
}

fn answer(status: StatusCode, body: &Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, body.to_string()).into_response()
}

/// A request that is not done at all.
struct Refused {
    status: StatusCode,
    error: Error,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { status: error.kind().http_status(), error }
    }
}
