//! The endpoints of OAuth 2.0: token (RFC 6749, section 3.2), introspection (RFC 7662), revocation (RFC 7009), keys
//! (RFC 7517) and metadata (RFC 8414).

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State, rejection::BytesRejection},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;

use super::{
    Client, OAuth,
    credentials::Credentials,
    form::{self, Form},
    metadata,
    refusal::Refusal,
};
use crate::access::Origin;

/// Answers with tokens, and about them, are kept nowhere (RFC 6749, section 5.1).
const NOT_KEPT: [(HeaderName, HeaderValue); 2] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::PRAGMA, HeaderValue::from_static("no-cache")),
];
/// Who verifies tokens should ask again for a `kid` that it does not know; this is how long it need not otherwise.
const KEPT_SHORTLY: [(HeaderName, HeaderValue); 1] =
    [(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"))];

type Body = Result<Bytes, BytesRejection>;

/// The endpoints, for anyone to reach: each asks the client to prove itself. Handlers touch the database, so who serves
/// this router runs them in tasks that a leaving client cannot cancel.
pub fn router(oauth: OAuth) -> Router {
    let document = metadata::document(&oauth.0.settings);
    let mut router = Router::new()
        .route("/oauth/token", post(token))
        .route("/oauth/introspect", post(introspect))
        .route("/oauth/revoke", post(revoke))
        .route("/.well-known/jwks.json", get(jwks));
    for path in metadata::paths(&oauth.0.settings.issuer) {
        let document = document.clone();
        router = router.route(&path, get(async move || (KEPT_SHORTLY, Json(document))));
    }
    router.layer(DefaultBodyLimit::max(form::MAX_BYTES)).with_state(oauth)
}

async fn token(
    State(oauth): State<OAuth>,
    origin: Option<Extension<Origin>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let origin = origin.map(|Extension(origin)| origin).unwrap_or_default();
    answer("token", grant(&oauth, &origin, &headers, body).await)
}

async fn introspect(State(oauth): State<OAuth>, headers: HeaderMap, body: Body) -> Response {
    let answered = async {
        let (client, form) = enter(&oauth, &headers, body).await?;
        oauth.introspect(&client, form.require("token", "token is missing")?).await
    };
    answer("introspect", answered.await.map(Json))
}

async fn revoke(
    State(oauth): State<OAuth>,
    origin: Option<Extension<Origin>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let origin = origin.map(|Extension(origin)| origin).unwrap_or_default();
    answer("revoke", give_back(&oauth, origin, &headers, body).await)
}

async fn jwks(State(oauth): State<OAuth>) -> Response {
    (KEPT_SHORTLY, Json(oauth.0.keyring.jwks())).into_response()
}

/// Client credentials grant (RFC 6749, section 4.4).
async fn grant(oauth: &OAuth, origin: &Origin, headers: &HeaderMap, body: Body) -> Result<impl IntoResponse, Refusal> {
    let (client, form) = enter(oauth, headers, body).await?;
    if form.require("grant_type", "grant_type is missing")? != "client_credentials" {
        return Err(Refusal::unsupported_grant_type());
    }
    let issued = oauth.issue_to_client(&client, form.get("scope"), origin).await?;
    Ok(Json(json!({
        "access_token": issued.token,
        "token_type": "Bearer",
        "expires_in": issued.lives,
        "scope": issued.scopes.to_string(),
    })))
}

/// RFC 7009, section 2: what is no token, or no longer one, is as good as revoked; a token of another client is not the
/// caller's to revoke.
async fn give_back(oauth: &OAuth, origin: Origin, headers: &HeaderMap, body: Body) -> Result<(), Refusal> {
    let (client, form) = enter(oauth, headers, body).await?;
    let token = form.require("token", "token is missing")?;
    let Some(verified) = oauth.own_token(token) else { return Ok(()) };
    let claims = &verified.claims;
    let own = claims.client_id.as_deref() == Some(client.id.to_string().as_str());
    if !own || claims.tenant_id != Some(client.tenant_id).filter(|tenant| !tenant.is_platform()) {
        return Err(Refusal::foreign_token());
    }
    Ok(oauth.revoke_token(&client, claims, origin).await?)
}

/// The form, and the client that proved itself with it. The form is checked first: who sends nonsense learns that.
async fn enter(oauth: &OAuth, headers: &HeaderMap, body: Body) -> Result<(Client, Form), Refusal> {
    let form = read(headers, body)?;
    let client = oauth.authenticate(&Credentials::read(headers, &form)?).await?;
    Ok((client, form))
}

fn read(headers: &HeaderMap, body: Body) -> Result<Form, Refusal> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(Refusal::invalid_request("the body must be application/x-www-form-urlencoded"));
    }
    let body = body.map_err(|_| Refusal::invalid_request("the body is larger than 16 KiB, or did not arrive"))?;
    Form::parse(&body)
}

fn answer(endpoint: &'static str, answered: Result<impl IntoResponse, Refusal>) -> Response {
    let outcome = answered.as_ref().map_or_else(Refusal::name, |_| "ok");
    metrics::counter!("tenantry_oauth_requests_total", "endpoint" => endpoint, "outcome" => outcome).increment(1);
    match answered {
        Ok(answered) => (NOT_KEPT, answered).into_response(),
        Err(refusal) => (NOT_KEPT, refusal).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content_type: Option<&'static str>, body: &'static str) -> Result<Form, Refusal> {
        let mut headers = HeaderMap::new();
        if let Some(content_type) = content_type {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        read(&headers, Ok(Bytes::from_static(body.as_bytes())))
    }

    #[test]
    fn only_forms_are_read() {
        assert!(check(Some("application/x-www-form-urlencoded"), "token=a").is_ok());
        assert!(check(Some("Application/X-WWW-Form-Urlencoded; charset=UTF-8"), "token=a").is_ok());
        for content_type in [None, Some("application/json"), Some("text/plain"), Some("multipart/form-data")] {
            assert!(check(content_type, "token=a").is_err(), "{content_type:?}");
        }
    }

    #[test]
    fn what_is_answered_is_not_kept() {
        for answered in [Ok("x"), Err(Refusal::invalid_client())] {
            let response = answer("token", answered);
            assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
            assert_eq!(response.headers()[header::PRAGMA], "no-cache");
        }
    }
}
