//! The socket adapter: tells [`Progress`](super::progress::Progress) what passes, ends writes that stall, and ends everything when the house is cut.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{
    progress::{Deadline, Tracked},
    seats::Seat,
};

/// The socket of a connection and, after an upgrade, of the WebSocket: these rules must hold without the HTTP connection's task.
/// The seat comes after the stream, because fields drop in order and a closed socket is no longer counted.
pub(super) struct Wire<S> {
    stream: S,
    stall: Stall,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    progress: Arc<Tracked>,
    _seat: Seat,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S, seat: Seat, progress: Arc<Tracked>, cut: CancellationToken, stall: Duration) -> Self {
        Self {
            stream,
            stall: Stall { after: stall, timer: None },
            cut: Box::pin(cut.cancelled_owned()),
            progress,
            _seat: seat,
        }
    }

    fn wrote(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            let now = Instant::now();
            self.progress.note(|progress| progress.sent(bytes, now));
        }
        self.stall.judge(cx, written)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    /// Only reads wait for the cut: the halves of a WebSocket may have a task each, and one waiter is kept. Every owner reads.
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the server is shutting down")));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        let chunk = &buf.filled()[before..];
        if !chunk.is_empty() {
            let now = Instant::now();
            this.progress.note(|progress| progress.received(chunk, now));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.wrote(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.wrote(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.stall.judge(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.stall.judge(cx, shut)
    }
}

/// A peer that reads nothing: its window is closed (RFC 9293, section 3.8.6.1) and stays so.
struct Stall {
    after: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    fn judge<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.timer = None;
            return written;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.after)));
        ready!(timer.as_mut().poll(cx));
        self.timer = None;
        Deadline::Write.count();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer reads nothing")))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::{
        super::{progress, seats::Seats},
        *,
    };

    const STALL: Duration = Duration::from_millis(200);

    fn wire(cut: &CancellationToken) -> (Wire<DuplexStream>, DuplexStream) {
        let (near, far) = duplex(16);
        let seat = Seats::new(1, 1).take(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        (Wire::new(near, seat, progress::track().0, cut.clone(), STALL), far)
    }

    #[tokio::test]
    async fn a_write_that_stalls_ends_after_its_deadline() {
        let (mut wire, _far) = wire(&CancellationToken::new());
        let start = Instant::now();
        let error = wire.write_all(&[0; 17]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() >= STALL);
    }

    #[tokio::test]
    async fn a_slow_reader_that_reads_keeps_its_connection() {
        let (mut wire, mut far) = wire(&CancellationToken::new());
        let reader = tokio::spawn(async move {
            let mut chunk = [0; 16];
            for _ in 0..6 {
                sleep(STALL / 4).await;
                far.read_exact(&mut chunk).await.unwrap();
            }
        });
        let start = Instant::now();
        wire.write_all(&[0; 96]).await.unwrap();
        assert!(start.elapsed() > STALL);
        reader.await.unwrap();
    }

    #[tokio::test]
    async fn an_idle_read_has_no_deadline_but_ends_with_the_cut() {
        let cut = CancellationToken::new();
        let (mut wire, _far) = wire(&cut);
        let reader = tokio::spawn(async move { wire.read_u8().await });
        sleep(STALL * 2).await;
        assert!(!reader.is_finished());
        cut.cancel();
        assert_eq!(reader.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }
}
