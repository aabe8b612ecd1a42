//! The faces of the house: HTTP, GraphQL, WebSocket. Thin: parse, check, call a capability, convert.
//!
//! *Rules*: a document is measured and its permissions are checked before anything runs (`admission`, `execute`); whatever
//! touches the database runs to its end, whether the client leaves or not (`to_its_end`); errors leave through `errors.rs` alone; a panic
//! is answered as `internal`.

pub mod admission;
mod boxed;
mod client_certificate;
mod console;
mod errors;
mod execute;
mod graphql_http;
mod health;
mod host;
mod isolation;
mod kept;
pub mod listener;
mod rate_check;
mod request;
mod request_log;
pub mod schema;
mod socket;
mod tenant;
mod to_its_end;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, FromRequest as _, MatchedPath, Request, State, WebSocketUpgrade},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{any, get},
};
use tower_http::{cors::CorsLayer, limit::RequestBodyLimitLayer};
use tracing::Instrument as _;

use self::{
    client_certificate::Proxies,
    execute::Engine,
    host::{SocketHost, Streams},
    to_its_end::ToItsEnd,
};
use crate::{
    access::Origin,
    app::App,
    config,
    error::{Error, Kind},
    platform::telemetry,
    rates::{self, REQUESTS},
};

/// Everything that a server of this App answers.
pub fn router(app: &App) -> Router {
    let recorder = telemetry::metrics();
    let engine = Arc::new(Engine::new(app.clone()));
    let graphql = GraphQl { engine, streams: Streams::default(), sockets: sockets(app) };
    let (ready, metrics) = (app.clone(), app.clone());
    let entrance = Arc::new(Entrance { app: app.clone(), proxies: Proxies::new(&app.config.tls) });
    let (around, cors) = (middleware::from_fn_with_state(entrance, enter), cors(&app.config.server.allowed_origins));
    let usage = for_callers(app, crate::usage::http::router(app.usage.clone(), app.config.server.body_bytes));
    Router::new()
        .route("/graphql", any(graphql_entry).with_state(graphql))
        .route("/v1/rate/check", get(rate_check::check).with_state(Arc::new(app.clone())))
        .route("/livez", get(health::livez))
        .route("/readyz", get(move || health::readyz(ready.clone())))
        .route("/metrics", get(move || health::metrics(metrics.clone(), recorder.clone())))
        .route("/", get(|| async { axum::response::Redirect::temporary("/graphiql") }))
        .merge(console::router())
        .merge(crate::oauth::http::router(app.oauth.clone()))
        .merge(for_callers(app, crate::flags::http::router(app.flags.clone())))
        .merge(for_callers(app, crate::analytics::http::router(app.analytics.clone())))
        .merge(for_callers(app, crate::pki::http::router(app.pki.clone())))
        .fallback(|| async { refusal(&Error::not_found(), StatusCode::NOT_FOUND, "") })
        // One layer of many: each that a router gets by itself is a box more for every request.
        .layer((
            around.clone(),
            cors.clone(),
            RequestBodyLimitLayer::new(app.config.server.body_bytes),
            DefaultBodyLimit::disable(),
        ))
        // Bounds bodies itself, where it does not read them bit by bit.
        .merge(usage.layer((around, cors)))
}

/// Paths for who sends a valid token and is within its rate: the caller is in the request's extensions. What a path asks of its caller, it looks up
/// itself in the table of permissions.
fn for_callers(app: &App, router: Router) -> Router {
    router.route_layer(middleware::from_fn_with_state(Arc::new(app.clone()), authenticated))
}

async fn authenticated(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let origin = request.extensions().get::<Origin>().cloned().unwrap_or_default();
    let request_id = origin.request_id.clone().unwrap_or_default();
    match request::authenticate_and_admit(&app, request.headers(), origin).await {
        Ok(caller) => {
            if let Some(tenant) = caller.tenant() {
                tracing::Span::current().record("tenant", tracing::field::display(tenant));
            }
            let pass = match app.rates.admit(&caller).await {
                Ok(pass) => pass,
                Err(limited) => {
                    let mut response = refusal(&limited.error, limited.error.kind().http_status(), &request_id);
                    limited.tell(response.headers_mut());
                    return response;
                }
            };
            request.extensions_mut().insert(caller);
            let mut response = next.run(request).await;
            if let Some(standing) = pass.standing {
                standing.tell(REQUESTS, response.headers_mut());
            }
            response
        }
        Err(error) => {
            errors::log(&error);
            let status = error.kind().http_status();
            let mut response = refusal(&error, status, &request_id);
            if status == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            response
        }
    }
}

/// Lets pages of the listed origins call the API; without a list no page of another origin can. Tokens travel in a header
/// that such a page must set itself, so cookies and other ambient credentials are never allowed (Fetch standard, CORS protocol).
fn cors(origins: &[String]) -> CorsLayer {
    let origins: Vec<_> = origins.iter().filter_map(|origin| origin.trim_end_matches('/').parse().ok()).collect();
    if origins.is_empty() {
        return CorsLayer::new();
    }
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::POST, Method::GET])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_NONE_MATCH,
            request::IDEMPOTENCY_KEY,
            request::TENANT_ID,
            request::REQUEST_ID,
        ])
        .expose_headers([
            request::REQUEST_ID,
            header::ETAG,
            rates::RATE_LIMIT,
            rates::RATE_LIMIT_POLICY,
            header::RETRY_AFTER,
        ])
        .max_age(Duration::from_secs(600))
}

/// What `config` allows a connection.
pub fn connection_limits(server: &config::Server) -> listener::Limits {
    listener::Limits {
        first_byte: server.first_byte_timeout,
        header: server.header_timeout,
        idle: server.idle_timeout,
        max_connections: server.max_connections,
        max_connections_per_address: server.max_connections_per_address,
        shutdown_grace: server.shutdown_grace,
    }
}

/// What `config` says a document may ask for.
pub(crate) fn admission_limits(limits: &config::GraphQl) -> admission::Limits {
    admission::Limits {
        document_bytes: limits.document_bytes,
        tokens: limits.tokens,
        expanded_selections: limits.expanded_selections,
        depth: limits.depth,
        introspection_depth: limits.introspection_depth,
        complexity: limits.complexity,
        aliases: limits.aliases,
        directives: limits.directives,
        root_fields: limits.root_fields,
        ..admission::Limits::default()
    }
}

#[derive(Clone)]
struct GraphQl {
    engine: Arc<Engine>,
    streams: Streams,
    sockets: Arc<socket::Config>,
}

fn sockets(app: &App) -> Arc<socket::Config> {
    let limits = &app.config.socket;
    Arc::new(socket::Config {
        limits: socket::Limits {
            init_timeout: limits.init_timeout,
            ping_interval: limits.ping_interval,
            streams_per_socket: limits.streams_per_socket,
            message_bytes: app.config.graphql.document_bytes * 2,
            reauthorize_every: limits.reauthorize_every,
            send_buffer: limits.send_buffer,
            write_timeout: limits.write_timeout,
        },
        allowed_origins: app.config.server.allowed_origins.clone(),
        shutdown: app.shutdown.clone(),
        open: app.sockets.clone(),
    })
}

/// POST is an operation, an upgrade is a socket, everything else is refused: a GET would put documents into URLs and logs.
async fn graphql_entry(State(graphql): State<GraphQl>, mut request: Request) -> Response {
    let origin = request.extensions().get::<Origin>().cloned().unwrap_or_default();
    let request_id = origin.request_id.clone().unwrap_or_default();
    match *request.method() {
        Method::POST => {
            let headers = std::mem::take(request.headers_mut());
            match Bytes::from_request(request, &()).await {
                Ok(body) => graphql_http::post(graphql.engine, &headers, body, origin).await,
                Err(rejection) => {
                    let status = rejection.status();
                    let error = if status == StatusCode::PAYLOAD_TOO_LARGE {
                        too_large()
                    } else {
                        Error::invalid("body", "did not arrive")
                    };
                    refusal(&error, status, &request_id)
                }
            }
        }
        Method::GET | Method::CONNECT => open_socket(graphql, request, origin).await,
        _ => not_allowed(&request_id),
    }
}

async fn open_socket(graphql: GraphQl, request: Request, origin: Origin) -> Response {
    let request_id = origin.request_id.clone().unwrap_or_default();
    let headers = request.headers().clone();
    let Ok(upgrade) = WebSocketUpgrade::from_request(request, &()).await else { return not_allowed(&request_id) };
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '));
    let token = token.map(|(_, token)| token.trim().to_owned());
    let tenant = match request::named_tenant(&headers) {
        Ok(tenant) => tenant.map(str::to_owned),
        Err(error) => return refusal(&error, error.kind().http_status(), &request_id),
    };
    let host = SocketHost { engine: graphql.engine, origin, streams: graphql.streams, token, tenant };
    socket::upgrade(host, &graphql.sockets, &headers, upgrade)
}

fn not_allowed(request_id: &str) -> Response {
    let error = Error::invalid("method", "must be POST, or a WebSocket upgrade with graphql-transport-ws");
    let mut response = refusal(&error, StatusCode::METHOD_NOT_ALLOWED, request_id);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}

/// What every request passes.
struct Entrance {
    app: App,
    proxies: Proxies,
}

/// Around every request: its id, address and certificate, its span, an end whether the client waits for it or not, and an answer even to a panic.
async fn enter(State(entrance): State<Arc<Entrance>>, mut request: Request, next: Next) -> Response {
    let app = &entrance.app;
    let request_id = request::request_id(request.headers());
    let peer = request.extensions().get::<listener::Peer>().copied();
    let (address, forwarded) = request::addresses(peer, request.headers(), &app.config.server.trusted_proxies);
    let span = tracing::info_span!("request", id = %request_id, method = %request.method(), path = request.uri().path(), tenant = tracing::field::Empty, act = tracing::field::Empty);
    let handshake = request.extensions().get::<listener::ClientCertificate>().cloned();
    let certificate = match entrance.proxies.take(request.headers_mut(), peer, handshake.as_ref()) {
        Ok(certificate) => certificate,
        Err(error) => return refusal(&error, error.kind().http_status(), &request_id),
    };
    request.extensions_mut().insert(Origin { request_id: Some(request_id.clone()), address, forwarded, certificate });
    let (path, log) = (request.extensions().get::<MatchedPath>().cloned(), entrance.clone());
    let answering = async move { request_log::followed(&log.app.analytics, path, next.run(request)).await };
    let answered = ToItsEnd::new(answering.instrument(span)).await;
    let mut response = answered.unwrap_or_else(|error| {
        errors::log(&error);
        refusal(&error, StatusCode::INTERNAL_SERVER_ERROR, &request_id)
    });
    if is_plain_too_large(&response) {
        response = refusal(&too_large(), StatusCode::PAYLOAD_TOO_LARGE, &request_id);
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        headers.insert(request::REQUEST_ID, value);
    }
    headers.entry(HeaderName::from_static("x-content-type-options")).or_insert(HeaderValue::from_static("nosniff"));
    response
}

fn too_large() -> Error {
    Error::invalid("body", "is larger than this server takes")
}

/// The limit's own answer, where the length was told in advance, is a line of text.
fn is_plain_too_large(response: &Response) -> bool {
    let is_json = |value: &HeaderValue| value.as_bytes().starts_with(b"application/json");
    response.status() == StatusCode::PAYLOAD_TOO_LARGE
        && !response.headers().get(header::CONTENT_TYPE).is_some_and(is_json)
}

fn refusal(error: &Error, status: StatusCode, request_id: &str) -> Response {
    let status = if error.kind() == Kind::Internal { StatusCode::INTERNAL_SERVER_ERROR } else { status };
    let body = errors::body(error, request_id).to_string();
    (status, [(header::CONTENT_TYPE, "application/json; charset=utf-8")], Body::from(body)).into_response()
}
