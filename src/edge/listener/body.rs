//! The bodies of a request and its response: the deadline of the one, and the end of both.

use std::{
    future::Future as _,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{BoxError, http::Version};
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::progress::{Deadline, Tracked};

/// What a byte of a request body buys: at 500 bytes a second a body may take for ever, below that it lives on its first allowance.
/// Without it one byte per deadline would hold a handler for days. (Apache's mod_reqtimeout has the same default rate.)
const PER_BYTE: Duration = Duration::from_millis(2);

/// A request between its head and the end of both bodies.
#[derive(Debug)]
pub(super) struct Flight {
    progress: Arc<Tracked>,
    version: Version,
    answered: AtomicBool,
}

impl Flight {
    pub(super) fn begin(progress: Arc<Tracked>, version: Version) -> Arc<Self> {
        progress.note(|progress| progress.began(Instant::now()));
        Arc::new(Self { progress, version, answered: AtomicBool::new(false) })
    }

    pub(super) fn answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let answered = *self.answered.get_mut();
        self.progress.note(|progress| progress.ended(answered, Instant::now()));
    }
}

/// The client stopped sending in the middle of a body (RFC 9110, section 15.5.9).
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the request body did not arrive in time")]
pub(super) struct Stalled;

/// A request body that fails once its client has let us wait for `limit`. Only time that a reader waits counts.
pub(super) struct RequestBody<B> {
    body: B,
    limit: Duration,
    left: Duration,
    wait: Option<Wait>,
    _flight: Arc<Flight>,
}

struct Wait {
    since: Instant,
    over: Pin<Box<Sleep>>,
}

impl<B> RequestBody<B> {
    pub(super) fn new(body: B, limit: Duration, flight: Arc<Flight>) -> Self {
        Self { body, limit, left: limit, wait: None, _flight: flight }
    }

    fn waited(&mut self) {
        if let Some(wait) = self.wait.take() {
            self.left = self.left.saturating_sub(wait.since.elapsed());
        }
    }

    fn earned(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.left = self.limit.min(self.left.saturating_add(PER_BYTE.saturating_mul(bytes)));
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Stalled> {
        let left = self.left;
        let wait = self.wait.get_or_insert_with(|| {
            let since = Instant::now();
            Wait { since, over: Box::pin(sleep_until(since + left)) }
        });
        ready!(wait.over.as_mut().poll(cx));
        self.waited();
        Deadline::Body.count();
        Poll::Ready(Stalled)
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Poll::Ready(polled) = Pin::new(&mut this.body).poll_frame(cx) else {
            return this.wait(cx).map(|stalled| Some(Err(stalled.into())));
        };
        this.waited();
        if let Some(bytes) = polled.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            this.earned(bytes.len());
        }
        Poll::Ready(polled.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response body that knows whether it is waited for. HTTP/2 asks for the next frame when the stream's window has room; a peer that
/// never opens it stalls no write of ours. In HTTP/1 the wire sees the same.
pub(super) struct ResponseBody {
    body: axum::body::Body,
    owes: bool,
    flight: Arc<Flight>,
}

impl ResponseBody {
    pub(super) fn new(body: axum::body::Body, flight: Arc<Flight>) -> Self {
        Self { body, owes: false, flight }
    }

    fn settle(&mut self) {
        if std::mem::take(&mut self.owes) {
            self.flight.progress.note(|progress| progress.settled());
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        this.settle();
        let polled = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if this.flight.version == Version::HTTP_2 && matches!(polled, Some(Ok(_))) {
            this.owes = true;
            this.flight.progress.note(|progress| progress.owes(Instant::now()));
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.settle();
    }
}
