//! OpenFeature's Remote Evaluation Protocol (OFREP 0.2, github.com/open-feature/protocol): a flag by its key, and all of
//! them with an entity tag. The tenant is the token's.

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State, rejection::BytesRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    Flags, Verdict, View,
    graphql::{CONTEXT_BYTES, rule_name, segment_name},
};
use crate::{
    access::{self, Caller},
    error::{Error, Kind, Result},
};

const ONE: &str = "/ofrep/v1/evaluate/flags/{key}";
const ALL: &str = "/ofrep/v1/evaluate/flags";
/// A body is a context and its braces.
const BODY_BYTES: usize = CONTEXT_BYTES + 1024;

type Body = Result<Bytes, BytesRejection>;

/// The endpoints, for callers that who serves this router has put into the request's extensions.
pub fn router(flags: Flags) -> Router {
    Router::new()
        .route("/ofrep/v1/evaluate/flags", post(all))
        .route("/ofrep/v1/evaluate/flags/{key}", post(one))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(flags)
}

/// An answer that is no value, in OFREP's shape: `errorCode` for the SDK, `errorDetails` for a person.
struct Refusal {
    status: StatusCode,
    code: &'static str,
    details: String,
    /// Of a refusal of the house.
    kind: Option<Kind>,
}

async fn one(
    State(flags): State<Flags>,
    Extension(caller): Extension<Arc<Caller>>,
    Path(key): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let answered = async {
        let view = enter(&flags, &caller, ONE).await?;
        let context = context(&read(&headers, body)?)?;
        match view.evaluate(&key, &context)? {
            None => Err(Refusal::new(StatusCode::NOT_FOUND, "FLAG_NOT_FOUND", "there is no such flag")),
            Some((place, verdict)) => Ok(answer(StatusCode::OK, &told(&view, &view.version(), place, verdict)?)),
        }
    };
    match answered.await {
        Ok(response) => response,
        Err(refusal) => refusal.answer(Some(&key)),
    }
}

async fn all(
    State(flags): State<Flags>,
    Extension(caller): Extension<Arc<Caller>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let answered = async {
        let view = enter(&flags, &caller, ALL).await?;
        let body = read(&headers, body)?;
        let tag = format!("\"{}\"", view.fingerprint(&body)?);
        // A tag is made for a body that was fit: this one needs no reading.
        if matches(&headers, &tag) {
            return Ok((tag, StatusCode::NOT_MODIFIED.into_response()));
        }
        let (context, version) = (context(&body)?, view.version());
        let decided = view.evaluate_all(&context)?.into_iter();
        let told = decided.map(|(place, verdict)| told(&view, &version, place, verdict));
        let flags = told.collect::<Result<_, Refusal>>()?;
        let all = All { flags, metadata: Metadata { version: &version, rule: None, segment: None } };
        Ok((tag, answer(StatusCode::OK, &all)))
    };
    let (tag, mut response) = match answered.await {
        Ok(answered) => answered,
        Err(refusal) => return Refusal::answer(&refusal, None),
    };
    let headers = response.headers_mut();
    headers.extend(HeaderValue::from_str(&tag).ok().map(|tag| (header::ETAG, tag)));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response
}

/// The caller's tenant, if the caller may ask this of it.
async fn enter(flags: &Flags, caller: &Arc<Caller>, path: &str) -> Result<View, Refusal> {
    let permission = access::permission("POST", path);
    let permission =
        permission.ok_or_else(|| Error::internal(format!("{path} is missing in the table of permissions")))?;
    caller.require(permission)?;
    let tenant = caller.tenant().ok_or_else(|| {
        let details =
            "the token is an operator's, and bound to no tenant: ask with a token of the tenant's own service";
        Refusal::new(StatusCode::BAD_REQUEST, "INVALID_CONTEXT", details)
    })?;
    let scope = flags.tenancy.enter(caller, tenant, permission).await?;
    Ok(flags.view(scope.tenant()).await?)
}

/// The body, if it says that it is JSON.
fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Refusal> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        let details = "the body must be application/json";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "PARSE_ERROR", details));
    }
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let details = format!("the body is larger than {BODY_BYTES} bytes");
            Refusal::new(StatusCode::BAD_REQUEST, "INVALID_CONTEXT", details)
        }
        _ => Refusal::new(StatusCode::BAD_REQUEST, "PARSE_ERROR", "the body did not arrive"),
    })
}

/// `{"context": {…}}`; a body or a context that is not there is an empty one.
fn context(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let refused = |code, details: String| Err(Refusal::new(StatusCode::BAD_REQUEST, code, details));
    if body.is_empty() {
        return Ok(Map::new());
    }
    let Ok(text) = std::str::from_utf8(body) else {
        return refused("PARSE_ERROR", "the body is not UTF-8".to_owned());
    };
    let read = serde_json::from_str::<Value>(text);
    let mut members = match read {
        Ok(Value::Object(members)) => members,
        Ok(_) => return refused("PARSE_ERROR", "the body must be a JSON object".to_owned()),
        Err(error) => {
            let place = format!("the body is no JSON: line {}, column {}", error.line(), error.column());
            return refused("PARSE_ERROR", place);
        }
    };
    match members.remove("context") {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(context)) => match context.get("targetingKey") {
            None | Some(Value::Null | Value::String(_)) => Ok(context),
            Some(_) => refused("INVALID_CONTEXT", "`targetingKey` must be text".to_owned()),
        },
        Some(_) => refused("INVALID_CONTEXT", "`context` must be a JSON object".to_owned()),
    }
}

/// One flag as OFREP has it, borrowed from memory: it is written once, where it is sent.
#[derive(Serialize)]
struct Told<'a> {
    key: &'a str,
    value: &'a Value,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'a str>,
    metadata: Metadata<'a>,
}

/// Plain values, as OpenFeature's SDKs take no others.
#[derive(Serialize)]
struct Metadata<'a> {
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<&'a str>,
}

#[derive(Serialize)]
struct All<'a> {
    flags: Vec<Told<'a>>,
    metadata: Metadata<'a>,
}

fn told<'a>(view: &'a View, version: &'a str, place: usize, verdict: Verdict) -> Result<Told<'a>, Refusal> {
    let flag = &view.definitions()?.flags[place];
    let value = view.value(flag, verdict)?;
    let metadata = Metadata { version, rule: rule_name(flag, verdict), segment: segment_name(flag, verdict) };
    Ok(Told { key: &flag.key, value, reason: verdict.reason.name(), variant: flag.variant(value), metadata })
}

/// Whether the client has this already (RFC 9110, section 13.1.2, by weak comparison).
fn matches(headers: &HeaderMap, tag: &str) -> bool {
    let sent = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = sent.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|sent| sent.strip_prefix("W/").unwrap_or(sent) == tag)
}

fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    let body = serde_json::to_vec(body).expect("an answer is plain JSON");
    (status, headers, body).into_response()
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, details: impl Into<String>) -> Self {
        Self { status, code, details: details.into(), kind: None }
    }

    fn answer(&self, key: Option<&str>) -> Response {
        let mut body = json!({ "errorCode": self.code, "errorDetails": self.details });
        if let Some(key) = key {
            body["key"] = key.into();
        }
        let mut response = answer(self.status, &body);
        if let Some(kind) = self.kind {
            response.extensions_mut().insert(kind);
        }
        response
    }
}

/// A refusal of the house. Its cause is logged here, where it is handled.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        if matches!(error.kind(), Kind::Internal | Kind::Unavailable) {
            tracing::error!(%error, cause = error.cause().map(tracing::field::display), "a flag cannot be evaluated");
        }
        let refusal = Self::new(error.kind().http_status(), "GENERAL", error.to_string());
        Self { kind: Some(error.kind()), ..refusal }
    }
}
