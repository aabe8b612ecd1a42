use std::{net::SocketAddr, time::Duration};

use tokio::{net::TcpListener, signal::unix::SignalKind};

use super::{Output, operator};
use crate::{
    access::Role,
    app::App,
    config::Config,
    edge::{self, listener},
    error::{Context as _, Error, Result},
    platform::{
        clock::Clock,
        db::Place,
        telemetry::{self, Telemetry},
    },
    worker,
};

/// Runs the server until SIGINT or SIGTERM: no new connections, running requests to their end, then the database.
pub(super) async fn run(config: Config, output: &Output) -> Result<()> {
    let _telemetry = Telemetry::install(&config.telemetry)?;
    telemetry::metrics();
    let listener = TcpListener::bind(config.server.listen).await.map_err(|error| {
        Error::invalid(
            "server.listen",
            format!("{} cannot be bound: {error}; is another server running there?", config.server.listen),
        )
    })?;
    let address = listener.local_addr().context("ask for the bound address")?;
    let place = Place::open(&config).await?;
    let app = App::new(config, Clock::default(), &place)?;
    app.prepare(&place).await?;
    let tasks = worker::start(&app, &place);
    let limits = edge::connection_limits(&app.config.server);
    welcome(&app, &place, address, output).await?;
    let stop = app.shutdown.clone();
    tokio::spawn(async move {
        stop_signal().await;
        tracing::info!("stopping: running requests may finish");
        stop.cancel();
    });
    let stopped = app.shutdown.clone();
    listener::serve(listener, edge::router(&app), limits, async move { stopped.cancelled().await }).await;
    app.sockets.close();
    let _ = tokio::time::timeout(Duration::from_secs(2), app.sockets.wait()).await;
    app.background.close();
    let _ = tokio::time::timeout(app.config.server.shutdown_grace, app.background.wait()).await;
    drop(tasks);
    if let Err(error) = app.analytics.flush().await {
        tracing::warn!(%error, cause = error.cause().map(tracing::field::display), "what was asked last is in no statistics");
    }
    app.isolation.hearing().leave().await;
    if let Err(error) = app.quotas.close_leases().await {
        tracing::warn!(%error, "what is leased of quotas comes back when its reservations expire");
    }
    app.db.close().await;
    tokio::task::spawn_blocking(move || drop(place)).await.map_err(Error::internal)?;
    tracing::info!("stopped");
    Ok(())
}

/// Where to go and what to try first: with a token only where a person sits before the terminal of a private database.
async fn welcome(app: &App, place: &Place, address: SocketAddr, output: &Output) -> Result<()> {
    tracing::info!(%address, "listening");
    if !place.is_private() || output.is_json() {
        return Ok(());
    }
    let is_any_port = app.config.server.public_url.is_empty() && app.config.server.listen.port() == 0;
    let url = if is_any_port { format!("http://{address}") } else { app.config.public_url() };
    let token = app.oauth.issue_operator_token(&operator(), &[Role::Admin], app.config.auth.max_token_ttl).await?;
    output.text(&format!(
        "
Tenantry is ready.

  GraphiQL        {url}/graphiql#token={token}
  Operator token  {token}
  A first query   curl -s {url}/graphql -H 'authorization: Bearer {token}' \\
                    -H 'content-type: application/json' -d '{{\"query\":\"{{ tenants {{ edges {{ node {{ slug status }} }} }} plans {{ key }} }}\"}}'

The token is an administrator's and lives for {ttl}; `tenantry token --role admin` prints another.
",
        ttl = humantime::format_duration(app.config.auth.max_token_ttl)
    ))
}

async fn stop_signal() {
    let terminate = async {
        match tokio::signal::unix::signal(SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = terminate => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
