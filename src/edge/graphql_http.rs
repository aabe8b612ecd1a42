//! GraphQL over HTTP: one operation by POST, in the media types of the GraphQL-over-HTTP specification. Content types that a
//! browser sends without a preflight are refused, and so are batches.

use std::sync::Arc;

use async_graphql::{Request, Response, Variables, parser::types::OperationType};
use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::IntoResponse,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    admission::{Admitted, sha256},
    errors,
    execute::Engine,
    request,
};
use crate::{
    access::{Caller, Origin},
    error::{Error, Kind, Result},
    rates::{Pass, Permit, REQUESTS},
};

const JSON: &str = "application/json";
const GRAPHQL: &str = "application/graphql-response+json";

/// The media type of an answer: in GraphQL's own, the status tells what happened; in plain JSON, every operation that was
/// understood is 200, as clients of old expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MediaType {
    Json,
    GraphQl,
}

/// Answers one POST.
pub(super) async fn post(
    engine: Arc<Engine>,
    headers: &HeaderMap,
    body: Bytes,
    origin: Origin,
) -> axum::response::Response {
    let request_id = origin.request_id.clone().unwrap_or_default();
    let Some(media_type) = accepted(headers) else {
        let error = Error::invalid("Accept", format!("must allow {GRAPHQL} or {JSON}"));
        return refused(&error, StatusCode::NOT_ACCEPTABLE, MediaType::Json, &request_id);
    };
    if !is_json(headers) {
        let error = Error::invalid("Content-Type", format!("must be {JSON}"));
        return refused(&error, StatusCode::UNSUPPORTED_MEDIA_TYPE, media_type, &request_id);
    }
    let caller = match request::authenticate_if_named(engine.app(), headers, origin).await {
        Ok(caller) => caller,
        Err(error) => return refused(&error, error.kind().http_status(), media_type, &request_id),
    };
    if let Some(tenant) = caller.tenant() {
        tracing::Span::current().record("tenant", tracing::field::display(tenant));
    }
    let Pass { permit, standing } = match engine.app().rates.admit(&caller).await {
        Ok(pass) => pass,
        Err(limited) => {
            let mut response = refused(&limited.error, limited.error.kind().http_status(), media_type, &request_id);
            limited.tell(response.headers_mut());
            return response;
        }
    };
    let asked = Asked { caller, permit, media_type, request_id };
    let mut response = run(&engine, headers, &body, asked).await;
    if let Some(standing) = standing {
        standing.tell(REQUESTS, response.headers_mut());
    }
    response
}

/// What is known of a request that was let in.
struct Asked {
    caller: Arc<Caller>,
    /// Held until the operation has run to its end, whoever still waits for it.
    permit: Option<Permit>,
    media_type: MediaType,
    request_id: String,
}

async fn run(engine: &Arc<Engine>, headers: &HeaderMap, body: &Bytes, asked: Asked) -> axum::response::Response {
    let Asked { caller, permit, media_type, request_id } = asked;
    // Who sent no token is told nothing of what else may be wrong.
    let is_anonymous = caller.is_anonymous();
    let told = move |error: Error| if is_anonymous { Error::unauthenticated() } else { error };
    let digest = sha256(body);
    let repeated = engine.admission().recall(&digest).and_then(|known| Some((repeat(body, &known)?, known)));
    let (prepared, known) = match repeated {
        Some((request, known)) => (Ok(request), Some(known)),
        None => (parse(body), None),
    };
    let prepared = prepared.and_then(|request| {
        let retention =
            chrono::TimeDelta::from_std(engine.app().config.idempotency.retention).unwrap_or(chrono::TimeDelta::MAX);
        Ok(match request::idempotency_key(headers, digest, retention)? {
            Some(key) => request.data(key),
            None => request,
        })
    });
    let request = match prepared {
        Ok(request) => hold(request, permit),
        Err(error) if is_anonymous => return refused_operation(&told(error), media_type, &request_id),
        Err(error) => return refused(&error, StatusCode::BAD_REQUEST, media_type, &request_id),
    };
    let admitted = match known {
        Some(known) => engine.permit(&caller, known).await,
        None => engine.admit(&caller, &request).await,
    };
    match admitted {
        Ok(admitted) if admitted.operation().kind == OperationType::Subscription => {
            let error =
                Error::invalid("query", "subscriptions run over WebSocket (graphql-transport-ws) at this address");
            refused(&error, error.kind().http_status(), media_type, &request_id)
        }
        Ok(admitted) => {
            let response = engine.execute(caller, request, admitted.clone(), &request_id).await;
            if !is_refusal(&response) {
                engine.admission().remember(digest, &admitted);
            }
            answer(&response, media_type)
        }
        Err(error) => refused_operation(&told(error), media_type, &request_id),
    }
}

/// The permit lives as long as the request does, which is as long as it is executed.
fn hold(request: Request, permit: Option<Permit>) -> Request {
    match permit {
        Some(permit) => request.data(permit),
        None => request,
    }
}

/// A request whose bytes were valid before: only its variables are needed.
fn repeat(body: &[u8], known: &Admitted) -> Option<Request> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        variables: Variables,
    }
    let Body { variables } = serde_json::from_slice(body).ok()?;
    let request = Request::new("").variables(variables);
    Some(match &known.operation().name {
        Some(name) if known.document.operations.len() > 1 => request.operation_name(name),
        _ => request,
    })
}

/// Reads the body by hand: what it must be is told member by member.
fn parse(body: &[u8]) -> Result<Request> {
    let value: Value = serde_json::from_slice(body).map_err(|error| {
        Error::invalid("body", format!("is no JSON: line {}, column {}", error.line(), error.column()))
    })?;
    let Value::Object(mut members) = value else {
        let rule =
            if value.is_array() { "must be one operation; batches are not taken" } else { "must be a JSON object" };
        return Err(Error::invalid("body", rule));
    };
    let query = match members.remove("query") {
        Some(Value::String(query)) => query,
        Some(_) => return Err(Error::invalid("query", "must be text")),
        None => return Err(Error::invalid("query", "is missing")),
    };
    let mut request = Request::new(query);
    match members.remove("operationName") {
        None | Some(Value::Null) => {}
        Some(Value::String(name)) => request = request.operation_name(name),
        Some(_) => return Err(Error::invalid("operationName", "must be text")),
    }
    let variables = object(&mut members, "variables")?;
    object(&mut members, "extensions")?;
    Ok(request.variables(Variables::from_json(Value::Object(variables))))
}

fn object(members: &mut Map<String, Value>, name: &'static str) -> Result<Map<String, Value>> {
    match members.remove(name) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(object)) => Ok(object),
        Some(_) => Err(Error::invalid(name, "must be a JSON object")),
    }
}

/// Whether nothing was executed.
fn is_refusal(response: &Response) -> bool {
    response.data == async_graphql::Value::Null
        && !response.errors.is_empty()
        && response.errors.iter().all(|error| error.path.is_empty())
}

fn answer(response: &Response, media_type: MediaType) -> axum::response::Response {
    if is_refusal(response) {
        let body = serde_json::json!({ "errors": response.errors });
        let status = response.errors.first().and_then(status_of).unwrap_or(StatusCode::BAD_REQUEST);
        return reply(status_for(status, media_type), media_type, body.to_string().into());
    }
    let body = serde_json::to_vec(response).expect("a response is plain JSON");
    reply(StatusCode::OK, media_type, body.into())
}

/// Errors that an operator of the service must see in a status, whatever the media type.
fn status_of(error: &async_graphql::ServerError) -> Option<StatusCode> {
    let code = error.extensions.as_ref()?.get("code")?;
    let async_graphql::Value::String(code) = code else { return None };
    [Kind::Internal, Kind::Unavailable].into_iter().find(|kind| kind.code() == code).map(Kind::http_status)
}

fn refused_operation(error: &Error, media_type: MediaType, request_id: &str) -> axum::response::Response {
    refused(error, status_for(error.kind().http_status(), media_type), media_type, request_id)
}

/// Plain JSON answers 200 to what was understood and refused; identity and our own faults keep their status.
fn status_for(status: StatusCode, media_type: MediaType) -> StatusCode {
    let plain = media_type == MediaType::Json && status.is_client_error() && status != StatusCode::UNAUTHORIZED;
    if plain { StatusCode::OK } else { status }
}

fn refused(error: &Error, status: StatusCode, media_type: MediaType, request_id: &str) -> axum::response::Response {
    errors::log(error);
    let mut response = reply(status, media_type, errors::body(error, request_id).to_string().into());
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn reply(status: StatusCode, media_type: MediaType, body: Bytes) -> axum::response::Response {
    let content_type = match media_type {
        MediaType::Json => "application/json; charset=utf-8",
        MediaType::GraphQl => "application/graphql-response+json; charset=utf-8",
    };
    (
        status,
        [
            (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ],
        body,
    )
        .into_response()
}

/// The first media type of `Accept` that we can answer in, those with the highest quality first (RFC 9110, section 12.5.1).
fn accepted(headers: &HeaderMap) -> Option<MediaType> {
    let mut best: Option<(f32, MediaType)> = None;
    let mut named = false;
    for value in headers.get_all(header::ACCEPT) {
        for range in value.to_str().unwrap_or_default().split(',').filter(|range| !range.trim().is_empty()) {
            named = true;
            let mut parts = range.split(';').map(str::trim);
            let media_type = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
                GRAPHQL => MediaType::GraphQl,
                JSON | "*/*" | "application/*" => MediaType::Json,
                _ => continue,
            };
            let quality =
                parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |quality| quality.parse().unwrap_or(0.0));
            if quality > 0.0 && best.is_none_or(|(known, _)| quality > known) {
                best = Some((quality, media_type));
            }
        }
    }
    if named { best.map(|(_, media_type)| media_type) } else { Some(MediaType::Json) }
}

/// `application/json`, in UTF-8 where a character set is named.
fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let mut parts = value.to_str().unwrap_or_default().split(';').map(|part| part.trim().to_ascii_lowercase());
    let fits = |media_type: String| media_type == JSON || media_type == GRAPHQL;
    parts.next().is_some_and(fits)
        && parts.all(|part| part.strip_prefix("charset=").is_none_or(|charset| charset.trim_matches('"') == "utf-8"))
}
