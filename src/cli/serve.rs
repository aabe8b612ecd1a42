use std::{net::SocketAddr, time::Duration};

use tokio::{net::TcpListener, signal::unix::SignalKind};

use super::{Output, operator};
use crate::{
    access::Role,
    app::App,
    config::{self, Config},
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
    let secure = secure_listener(&config.tls).await?;
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
    let (stopped, router) = (app.shutdown.clone(), edge::router(&app));
    let plain = listener::serve(listener, router.clone(), limits.clone(), stopped.cancelled());
    let secure = async {
        let Some((listener, tls)) = secure else { return };
        let address = listener.local_addr().ok().map(tracing::field::display);
        tracing::info!(address, "listening with TLS");
        tokio::join!(
            listener::serve_tls(listener, tls.clone(), router, limits, stopped.cancelled()),
            tls.reload(app.config.tls.reload, stopped.clone()),
        );
    };
    tokio::join!(plain, secure);
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

/// The listener with TLS, where there is to be one.
async fn secure_listener(rules: &config::Tls) -> Result<Option<(TcpListener, listener::Tls)>> {
    let Some(address) = rules.listen else { return Ok(None) };
    let tls = listener::Tls::new(rules)?;
    let listener = TcpListener::bind(address).await;
    let listener =
        listener.map_err(|error| Error::invalid("tls.listen", format!("{address} cannot be bound: {error}")))?;
    Ok(Some((listener, tls)))
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
