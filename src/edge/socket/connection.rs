//! One socket, from the upgrade to the last stream dropped.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_graphql::Request;
use axum::extract::ws::{Message, WebSocket};
use futures::stream::{BoxStream, SplitSink, SplitStream};
use futures::{FutureExt, SinkExt, StreamExt};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;

use super::close::Close;
use super::message::{ClientMessage, OperationId, ServerMessage, graphql_error};
use super::operation::{Operation, Operations, Refusal, Runner, refused};
use super::outgoing::{Counted, Outgoing, Writer};
use super::{Host, Limits};
use crate::error::{Error, Kind};

/// Serves one socket. Reading, watching the session and writing run side by side; whichever ends first says why.
pub(super) async fn serve<H: Host>(host: H, limits: Limits, shutdown: CancellationToken, socket: WebSocket) {
    let _counted = Counted::socket();
    let (mut sink, mut frames) = socket.split();
    let (queue, queued) = mpsc::channel(limits.send_buffer.max(1));
    let operations = Operations::new(limits.streams_per_socket);
    let heard = AtomicBool::new(false);
    let close = {
        let incoming = Incoming { frames: &mut frames, heard: &heard };
        let mut socket = Socket { host, limits, incoming, queue, operations: &operations };
        let writer = Writer { sink: &mut sink, queue: queued, operations: &operations, heard: &heard, limits };
        tokio::select! {
            close = AssertUnwindSafe(socket.hold()).catch_unwind() => close.unwrap_or(Close::Failed),
            close = writer.run() => close,
            () = shutdown.cancelled() => Close::GoingAway,
        }
    };
    let stopped = operations.stop_all();
    metrics::counter!("tenantry_socket_closed_total", "code" => close.label()).increment(1);
    report(&close);
    // One deadline for the last messages and for the peer's answer; a peer that takes neither has lost the right to both.
    timeout(limits.write_timeout, part(&mut sink, &mut frames, &close, &stopped)).await.ok();
    operations.stopped().await;
}

/// The last messages. Only a refusal ends operations by name: after 1001 and 1013 clients subscribe again by themselves,
/// and would not if they were told that a stream had completed.
async fn part(
    sink: &mut SplitSink<WebSocket, Message>,
    frames: &mut SplitStream<WebSocket>,
    close: &Close,
    stopped: &[Arc<Operation>],
) -> Result<(), axum::Error> {
    if matches!(close, Close::Lost) {
        return Ok(());
    }
    if let Some(frame) = close.frame() {
        if let Close::Refused(error) = close {
            for operation in stopped {
                sink.feed(Message::Text(refused(operation, error).into())).await?;
            }
        }
        sink.send(Message::Close(Some(frame))).await?;
    }
    // Bytes that nobody read would turn our end into a reset, and a reset discards the close frame at the peer.
    while let Some(Ok(_)) = frames.next().await {}
    Ok(())
}

fn report(close: &Close) {
    match close {
        Close::Refused(error) if error.kind() == Kind::Internal => {
            tracing::error!(cause = ?error.cause(), "a socket could not be authorised");
        }
        Close::Failed => tracing::error!("a panic ended a socket"),
        _ => tracing::debug!(code = close.code(), "socket closed"),
    }
}

struct Socket<'a, H: Host> {
    host: H,
    limits: Limits,
    incoming: Incoming<'a>,
    queue: mpsc::Sender<Outgoing>,
    operations: &'a Operations,
}

impl<H: Host> Socket<'_, H> {
    async fn hold(&mut self) -> Close {
        let Err(close) = self.converse().await;
        close
    }

    async fn converse(&mut self) -> Result<Infallible, Close> {
        let opened = timeout(self.limits.init_timeout, self.open()).await;
        let session = Arc::new(opened.unwrap_or(Err(Close::InitTimeout))?);
        let (revoke, revoked) = mpsc::channel(1);
        // Listened to before the first check, so that a change after `authorize` is seen by one of the two.
        let changes = self.host.changes(&session);
        self.host.check(&session).map_err(Close::Refused)?;
        self.say(&ServerMessage::ConnectionAck).await?;
        let watch = Watch { host: self.host.clone(), session: session.clone(), changes, revoked };
        let runner = Runner { host: self.host.clone(), session, queue: self.queue.clone(), revoke };
        let every = self.limits.reauthorize_every;
        tokio::select! {
            end = self.listen(Arc::new(runner)) => end,
            close = watch.until_refused(every) => Err(close),
        }
    }

    /// Up to the house's answer to `connection_init`.
    async fn open(&mut self) -> Result<H::Session, Close> {
        let payload = loop {
            match self.incoming.message().await? {
                ClientMessage::ConnectionInit { payload } => break payload.unwrap_or_default(),
                other => self.before_ack(other).await?,
            }
        };
        let host = self.host.clone();
        let mut authorized = pin!(host.authorize(Value::Object(payload)));
        loop {
            let message = tokio::select! {
                session = &mut authorized => return session.map_err(Close::Refused),
                message = self.incoming.message() => message?,
            };
            self.before_ack(message).await?;
        }
    }

    async fn before_ack(&mut self, message: ClientMessage) -> Result<(), Close> {
        match message {
            ClientMessage::ConnectionInit { .. } => Err(Close::SecondInit),
            ClientMessage::Subscribe { .. } => Err(Close::TooEarly),
            ClientMessage::Ping { payload } => self.say(&ServerMessage::Pong { payload }).await,
            ClientMessage::Pong { .. } | ClientMessage::Complete { .. } => Ok(()),
        }
    }

    async fn listen(&mut self, runner: Arc<Runner<H>>) -> Result<Infallible, Close> {
        loop {
            match self.incoming.message().await? {
                ClientMessage::ConnectionInit { .. } => return Err(Close::SecondInit),
                ClientMessage::Ping { payload } => self.say(&ServerMessage::Pong { payload }).await?,
                ClientMessage::Pong { .. } => {}
                ClientMessage::Subscribe { id, payload } => self.subscribe(&runner, id, payload.into()).await?,
                ClientMessage::Complete { id } => self.operations.stop(&id),
            }
        }
    }

    async fn subscribe(&mut self, runner: &Arc<Runner<H>>, id: OperationId, request: Request) -> Result<(), Close> {
        let request_id = self.host.request_id();
        match self.operations.begin(&id, &request_id) {
            Ok(operation) => {
                self.operations.spawn(runner.clone(), operation, request);
                Ok(())
            }
            Err(Refusal::Duplicate) => Err(Close::Duplicate(id)),
            Err(Refusal::Full) => {
                let error = Error::new(Kind::RateLimited, "too many operations run on this socket; complete one first");
                let payload = vec![graphql_error(&error, &request_id)];
                self.say(&ServerMessage::Error { id: &id, payload }).await
            }
        }
    }

    /// Waits for a place in the queue: a client that does not read is not read either.
    async fn say(&self, message: &ServerMessage<'_>) -> Result<(), Close> {
        self.queue.send(Outgoing::Plain(message.text())).await.map_err(|_| Close::Lost)
    }
}

/// Asks the house again and again whether the session may go on.
struct Watch<H: Host> {
    host: H,
    session: Arc<H::Session>,
    changes: BoxStream<'static, ()>,
    revoked: mpsc::Receiver<Error>,
}

impl<H: Host> Watch<H> {
    async fn until_refused(mut self, every: Duration) -> Close {
        let every = every.max(Duration::from_millis(1));
        let mut timer = interval_at(Instant::now() + every, every);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = timer.tick() => {}
                change = self.changes.next() => if change.is_none() {
                    return Close::GoingAway;
                },
                Some(error) = self.revoked.recv() => return Close::Refused(error),
            }
            if let Err(error) = self.host.check(&self.session) {
                return Close::Refused(error);
            }
        }
    }
}

/// The reading half.
struct Incoming<'a> {
    frames: &'a mut SplitStream<WebSocket>,
    heard: &'a AtomicBool,
}

impl Incoming<'_> {
    /// The next message. Dropping the future loses none.
    async fn message(&mut self) -> Result<ClientMessage, Close> {
        loop {
            let frame = self.frames.next().await.ok_or(Close::Lost)?;
            self.heard.store(true, Ordering::Relaxed);
            match frame.map_err(|error| unreadable(&error))? {
                Message::Text(text) => {
                    return serde_json::from_str(&text).map_err(|error| Close::Invalid(error.to_string()));
                }
                Message::Binary(_) => return Err(Close::Invalid("only text is understood".to_owned())),
                Message::Close(frame) => return Err(Close::ByPeer(frame.map_or(1005, |frame| frame.code))),
                Message::Ping(_) | Message::Pong(_) => {}
            }
        }
    }
}

/// Tells a message that is too large from a connection that broke. tungstenite's error type is not within reach, only its
/// text; were that to change, the client would be cut without a code, and the test would fail.
fn unreadable(error: &axum::Error) -> Close {
    match error.to_string().starts_with("Space limit exceeded") {
        true => Close::TooLarge,
        false => Close::Lost,
    }
}
