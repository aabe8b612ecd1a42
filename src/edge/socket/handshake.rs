//! Who may open a socket, and in which language.

use axum::Json;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::{Config, message};
use crate::error::{Error, Kind, Result};

/// The only sub-protocol. `graphql-ws`, the legacy one, is never answered.
const PROTOCOL: &str = "graphql-transport-ws";
/// tungstenite takes this much at once for every socket; its default of 128 KiB is too much for thousands of quiet ones.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// Checks origin and sub-protocol, and sets the bounds on messages.
pub(super) fn accept(upgrade: WebSocketUpgrade, headers: &HeaderMap, config: &Config) -> Result<WebSocketUpgrade> {
    check_origin(headers, &config.allowed_origins)?;
    let upgrade = upgrade.protocols([PROTOCOL]);
    if upgrade.selected_protocol().is_none() {
        let rule = "the WebSocket sub-protocol has to be graphql-transport-ws";
        return Err(Error::new(Kind::InvalidInput, rule));
    }
    let bytes = config.limits.message_bytes;
    Ok(upgrade.max_message_size(bytes).max_frame_size(bytes).read_buffer_size(READ_BUFFER_BYTES).write_buffer_size(0))
}

/// The answer to a refused upgrade, shaped as GraphQL errors are.
pub(super) fn refuse(error: &Error, request_id: &str) -> Response {
    let body = Json(json!({ "errors": [message::graphql_error(error, request_id)] }));
    (error.kind().http_status(), body).into_response()
}

/// A browser always names the page's origin, and a page of another site may open sockets to us (RFC 6455, section 10.2).
/// Without an `Origin` the client is no browser, and has no ambient credentials to abuse.
fn check_origin(headers: &HeaderMap, allowed: &[String]) -> Result<()> {
    if !headers.contains_key(ORIGIN) {
        return Ok(());
    }
    let known = single(headers, &ORIGIN).is_some_and(|origin| {
        allowed.iter().any(|known| known.trim_end_matches('/').eq_ignore_ascii_case(origin)) || is_own(origin, headers)
    });
    known.then_some(()).ok_or_else(|| Error::forbidden("this origin may not open a WebSocket here"))
}

/// Whether the page came from the host that the request names. The scheme is not compared, as TLS may end before us.
fn is_own(origin: &str, headers: &HeaderMap) -> bool {
    let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    match (authority, single(headers, &HOST)) {
        (Some(authority), Some(host)) => authority.eq_ignore_ascii_case(host),
        _ => false,
    }
}

/// The value of a header that was sent exactly once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.to_str().ok()).flatten()
}
