//! `GET /api/v1/pki/bundle.pem`: the authorities that a tenant trusts at present, for gateways that check certificates themselves. A gateway
//! asks again with `If-None-Match` (RFC 9110, section 13.1.2) and reads it only where it is another one.

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::Pki;
use crate::{
    access::{self, Caller},
    error::{Error, Kind, Result},
    isolation::TenantScope,
    platform::ids::TenantId,
};

const BUNDLE: &str = "/api/v1/pki/bundle.pem";

/// The path, for callers that who serves this router has put into the request's extensions.
pub fn router(pki: Pki) -> Router {
    Router::new().route("/api/v1/pki/bundle.pem", get(bundle)).with_state(pki)
}

async fn bundle(
    State(pki): State<Pki>,
    Extension(caller): Extension<Arc<Caller>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let answered = async {
        let named = named_tenant(query.as_deref().unwrap_or_default())?;
        let scope = enter(&pki, &caller, named.as_deref()).await?;
        let bundle = pki.bundle(&scope).await?;
        let tag = format!("\"{}\"", bundle.tag);
        let common = [
            (header::ETAG, HeaderValue::from_str(&tag).map_err(Error::internal)?),
            // Whoever keeps it asks each time whether it still is the one.
            (header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache")),
        ];
        if is_known(&headers, &tag) {
            return Ok((StatusCode::NOT_MODIFIED, common).into_response());
        }
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("application/x-pem-file"))];
        Ok((StatusCode::OK, common, kind, bundle.pem).into_response())
    };
    answered.await.unwrap_or_else(|error: Error| refused(&error))
}

fn named_tenant(query: &str) -> Result<Option<String>> {
    let mut named = query.split('&').filter_map(|part| part.strip_prefix("tenant_id="));
    let first = named.next().map(|value| percent_decode_str(value).decode_utf8_lossy().into_owned());
    match named.next() {
        Some(_) => Err(Error::invalid("tenant_id", "must be sent once")),
        None => Ok(first),
    }
}

/// The tenant that is named or, without a name, the caller's own.
async fn enter(pki: &Pki, caller: &Arc<Caller>, named: Option<&str>) -> Result<TenantScope> {
    let permission = access::permission("GET", BUNDLE)
        .ok_or_else(|| Error::internal(format!("{BUNDLE} is missing in the table of permissions")))?;
    caller.require(permission)?;
    let tenant = named.map(TenantId::parse).transpose()?.or(caller.tenant());
    let tenant = tenant.ok_or_else(|| Error::invalid("tenant_id", "is needed: an operator is bound to no tenant"))?;
    pki.tenancy.enter(caller, tenant, permission).await
}

/// A weak comparison, as RFC 9110 has it for this header.
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let sent = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    sent.flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

fn refused(error: &Error) -> Response {
    if matches!(error.kind(), Kind::Internal | Kind::Unavailable) {
        tracing::warn!(%error, cause = error.cause().map(tracing::field::display), "a bundle is not told");
    }
    let body = json!({ "errors": [{ "message": error.message(), "extensions": error.extensions() }] });
    let headers = [(header::CONTENT_TYPE, "application/json; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    let mut response = (error.kind().http_status(), headers, body.to_string()).into_response();
    response.extensions_mut().insert(error.kind());
    response
}
