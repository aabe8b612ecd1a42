//! Everything that is sent while a socket is open: one bounded queue, and the writer that empties it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use futures::SinkExt;
use futures::stream::SplitSink;
use metrics::Gauge;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::Limits;
use super::close::Close;
use super::operation::{Operation, Operations};

/// A message on its way out.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// Of the socket itself.
    Plain(String),
    /// An event of an operation; not sent any more once that has ended.
    Event(Arc<Operation>, String),
    /// The last word of an operation. Its id is free again when this leaves, not before and not after.
    Last(Arc<Operation>, String),
}

/// Sends what is queued, pings, and finds out that a peer is slow or gone.
pub(super) struct Writer<'a> {
    pub(super) sink: &'a mut SplitSink<WebSocket, Message>,
    pub(super) queue: mpsc::Receiver<Outgoing>,
    pub(super) operations: &'a Operations,
    /// Set by the reader for whatever arrives.
    pub(super) heard: &'a AtomicBool,
    pub(super) limits: Limits,
}

impl Writer<'_> {
    pub(super) async fn run(mut self) -> Close {
        let every = self.limits.ping_interval.max(Duration::from_millis(1));
        let mut pings = interval_at(Instant::now() + every, every);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pinged = false;
        loop {
            let message = tokio::select! {
                Some(outgoing) = self.queue.recv() => match self.still_wanted(outgoing) {
                    Some(text) => Message::Text(text.into()),
                    None => continue,
                },
                _ = pings.tick() => {
                    if pinged && !self.heard.load(Ordering::Relaxed) {
                        return Close::Lost;
                    }
                    self.heard.store(false, Ordering::Relaxed);
                    pinged = true;
                    Message::Ping(Bytes::new())
                }
            };
            match timeout(self.limits.write_timeout, self.sink.send(message)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Close::Lost,
                Err(_) => return Close::SlowReader,
            }
        }
    }

    fn still_wanted(&self, outgoing: Outgoing) -> Option<String> {
        match outgoing {
            Outgoing::Plain(text) => Some(text),
            Outgoing::Event(operation, text) => (!operation.is_stopped()).then_some(text),
            Outgoing::Last(operation, text) => self.operations.finish(&operation).then_some(text),
        }
    }
}

/// Counts one in a gauge for as long as it lives.
pub(super) struct Counted(Gauge);

impl Counted {
    pub(super) fn socket() -> Self {
        Self::one_more(metrics::gauge!("tenantry_sockets"))
    }

    pub(super) fn operation() -> Self {
        Self::one_more(metrics::gauge!("tenantry_subscriptions"))
    }

    fn one_more(gauge: Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
