//! GraphQL over WebSocket, the `graphql-transport-ws` protocol
//! (<https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md>), over axum's WebSocket.
//!
//! *Owns*: the handshake, the messages, the deadlines, the bounds and the end of a socket and of every operation on it.
//! Who a client is and what it may do is asked of a [`Host`]; nothing here knows tokens, tenants or the schema.
//!
//! *Rules*
//! - One sub-protocol; origins are listed or the server's own; `connection_init` has a deadline that includes its answer.
//! - A session is checked before every event, on a timer and when the house says that something changed. When the check
//!   fails, what is still queued is thrown away, each running operation gets an `error`, and the socket is closed.
//! - A reader that is slower than its streams holds at most `send_buffer` messages: a full buffer makes the streams wait.
//!   One that takes no message for `write_timeout` is cut with 1013.
//! - Whatever ends an operation or a socket drops its streams: nothing runs on for a client that is gone.
//!
//! | close code | when |
//! |---|---|
//! | 1001 | the server stops; the client is expected to connect again and subscribe again |
//! | 1009 | a message over `message_bytes` |
//! | 1013 | a slow reader, or the house cannot answer now; worth another try |
//! | 4400, 4401, 4408, 4409, 4429 | as the protocol says |
//! | 4403 | refused, at once or later; the reason is the error's code (`unauthenticated`, `tenant_suspended`) |
//! | 4500 | our own fault |
//!
//! *Emits*: `tenantry_sockets`, `tenantry_subscriptions`, `tenantry_socket_closed_total{code}`.

mod close;
mod connection;
mod handshake;
mod message;
mod operation;
mod outgoing;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::{Request, Response};
use axum::extract::ws::WebSocketUpgrade;
use axum::http::HeaderMap;
use futures::stream::BoxStream;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::Result;

/// The bounds of one socket.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the upgrade to `connection_ack`, the time that [`Host::authorize`] takes included.
    pub init_timeout: Duration,
    /// Between two WebSocket pings. A peer from which nothing was heard for a whole interval after a ping is cut.
    pub ping_interval: Duration,
    /// Operations that run at once on one socket. One more is answered with `rate_limited`.
    pub streams_per_socket: usize,
    /// Largest message a client may send.
    pub message_bytes: usize,
    /// How often [`Host::check`] is asked when nothing else gives cause to.
    pub reauthorize_every: Duration,
    /// Messages that wait for a slow reader, over all its streams. When it is full the streams are not asked for more.
    pub send_buffer: usize,
    /// The longest that one message may take to leave, before the reader counts as gone.
    pub write_timeout: Duration,
}

/// What is the same for every socket of a server.
#[derive(Clone, Debug)]
pub struct Config {
    pub limits: Limits,
    /// `https://console.example.com`: scheme, host and port as browsers write them. There is no wildcard.
    pub allowed_origins: Vec<String>,
    /// Closes every socket with 1001 when cancelled.
    pub shutdown: CancellationToken,
    /// Holds a token for each open socket, so that a stopping server can wait until the last close frame has left.
    pub open: TaskTracker,
}

/// What a socket asks of the house. One value is made per upgrade, so it can carry that request's headers and address.
///
/// The futures and streams are dropped without notice when the client leaves. Database work belongs in a task of its own.
pub trait Host: Clone + Send + Sync + 'static {
    /// Who speaks on the socket. It is dropped with the socket, so it can hold a permit that counts connections.
    type Session: Send + Sync + 'static;
    /// A slot of the tenant's, free again when dropped.
    type Permit: Send + 'static;

    /// Decides who the client is. `payload` is that of `connection_init`, always an object, empty when none was sent.
    fn authorize(&self, payload: Value) -> impl Future<Output = Result<Self::Session>> + Send;

    /// Whether the session may go on: expiry, access epoch, suspension, scopes. Called for every event, so from memory.
    fn check(&self, session: &Self::Session) -> Result<()>;

    /// Yields whenever [`check`](Self::check) ought to be asked at once. Asked for once per socket, so that no change falls
    /// between two calls. If it ends, nobody can tell of changes any more, and the socket is closed with 1001.
    fn changes(&self, session: &Self::Session) -> BoxStream<'static, ()>;

    /// A new id for one operation. Its errors carry it as `requestId`, and [`start`](Self::start) gets it for the log.
    fn request_id(&self) -> String;

    /// Takes a slot for one operation, a query's or a subscription's.
    fn admit(&self, session: &Self::Session) -> Result<Self::Permit>;

    /// Checks and runs one operation. A query yields once. Mutations are refused here: only the host reads documents.
    ///
    /// A response without data whose errors have no path is a refused request and becomes an `error` message. Every other
    /// response is sent as it is, so `requestId` under its errors is the host's to set.
    fn start(
        &self,
        session: &Arc<Self::Session>,
        request: Request,
        request_id: String,
    ) -> impl Future<Output = Result<BoxStream<'static, Response>>> + Send;
}

/// Answers an upgrade request: 400 without `graphql-transport-ws`, 403 for a foreign origin, otherwise the socket.
///
/// The connection has to be served with upgrades enabled (`serve_connection_with_upgrades` of hyper-util), and over TCP with
/// `set_nodelay`: an event and the `complete` after it are two small writes, which otherwise lie 40 ms apart.
pub fn upgrade<H: Host>(
    host: H,
    config: &Config,
    headers: &HeaderMap,
    upgrade: WebSocketUpgrade,
) -> axum::response::Response {
    let upgrade = match handshake::accept(upgrade, headers, config) {
        Ok(upgrade) => upgrade,
        Err(error) => return handshake::refuse(&error, &host.request_id()),
    };
    let (limits, shutdown, open) = (config.limits, config.shutdown.clone(), config.open.token());
    upgrade.on_upgrade(move |socket| async move {
        connection::serve(host, limits, shutdown, socket).await;
        drop(open);
    })
}
