//! `GET /v1/rate/check`: may a tenant do so much now? For gateways that limit what they let through; 2xx is yes, 429 no.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};

use super::{errors, refusal, request};
use crate::{
    access::{Origin, permission},
    app::App,
    error::{Error, Kind, Result},
    platform::ids::TenantId,
    rates::{Pass, REQUESTS, Refused},
};

/// What the query string asks for.
#[derive(Debug, PartialEq, Eq)]
struct Query {
    tenant: Option<String>,
    key: String,
    cost: i64,
}

pub(super) async fn check(
    State(app): State<Arc<App>>,
    origin: Option<Extension<Origin>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let origin = origin.map(|Extension(origin)| origin).unwrap_or_default();
    let request_id = origin.request_id.clone().unwrap_or_default();
    let mut told = HeaderMap::new();
    told.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    let mut response = match decide(&app, &headers, origin, query.as_deref().unwrap_or_default(), &mut told).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => {
            errors::log(&error);
            if error.kind() == Kind::Unauthenticated {
                told.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
            }
            refusal(&error, error.kind().http_status(), &request_id)
        }
    };
    response.headers_mut().extend(told);
    response
}

/// The request itself takes one of `requests_per_second` as every request does, unless that is what it asks for.
async fn decide(app: &App, headers: &HeaderMap, origin: Origin, query: &str, told: &mut HeaderMap) -> Result<()> {
    let caller = request::authenticate_and_admit(app, headers, origin).await?;
    let query = Query::parse(query);
    let asks_for_itself = query.as_ref().is_ok_and(|query| query.key == REQUESTS);
    let admitted = if asks_for_itself { Ok(Pass::default()) } else { app.rates.admit(&caller).await };
    let _pass = admitted.map_err(|refused: Refused| {
        refused.tell(told);
        refused.error
    })?;
    let named = |query: &Query| query.tenant.as_deref().map(TenantId::parse).transpose();
    let permission = permission("GET", "/v1/rate/check")
        .ok_or_else(|| Error::internal("the path has no line in the table of permissions"))?;
    caller.require(permission)?;
    let query = query?;
    let tenant = named(&query)?.or(caller.tenant());
    let tenant = tenant.ok_or_else(|| Error::invalid("tenant", "is needed: an operator is bound to no tenant"))?;
    let scope = app.tenancy.enter(&caller, tenant, permission).await?;
    let Some(standing) = app.rates.check(&scope, &query.key, query.cost).await? else { return Ok(()) };
    standing.tell(&query.key, told);
    if standing.allowed { Ok(()) } else { Err(standing.refusal(&query.key)) }
}

impl Query {
    fn parse(query: &str) -> Result<Self> {
        let (mut tenant, mut key, mut cost) = (None, None, None);
        for part in query.split('&') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (place, name) = match name {
                "tenant" => (&mut tenant, "tenant"),
                "key" => (&mut key, "key"),
                "cost" => (&mut cost, "cost"),
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(Error::invalid(name, "must be sent once"));
            }
        }
        // Ids, keys and numbers have nothing to escape.
        let key = key.filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| Error::invalid("key", "is missing: name a quota of the kind RATE"))?.to_owned();
        let cost = cost.map_or(Ok(1), str::parse);
        let cost = cost.map_err(|_| Error::invalid("cost", "must be a whole number"))?;
        Ok(Self { tenant: tenant.map(str::to_owned), key, cost })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_a_key_and_each_parameter_once() {
        let query = |key: &str, cost| Query { tenant: None, key: key.to_owned(), cost };
        assert_eq!(Query::parse("key=a").unwrap(), query("a", 1));
        assert_eq!(Query::parse("other=1&other=2&cost=7&key=a").unwrap(), query("a", 7));
        assert_eq!(Query::parse("key=a&tenant=t").unwrap().tenant.as_deref(), Some("t"));
        for (text, field) in [
            ("", "key"),
            ("key=", "key"),
            ("key=a&key=a", "key"),
            ("key=a&cost=1&cost=1", "cost"),
            ("key=a&cost=", "cost"),
            ("key=a&cost=1.5", "cost"),
            ("key=a&cost=99999999999999999999", "cost"),
            ("key=a&tenant=t&tenant=t", "tenant"),
        ] {
            let error = Query::parse(text).unwrap_err();
            assert_eq!((error.kind(), error.field()), (Kind::InvalidInput, Some(field)), "{text}");
        }
    }
}
