//! The server's own accept loop, because `axum::serve` has no deadlines: of 2,000 half-sent requests all 2,000 were still open after 45 s.
//!
//! *Owns*: sockets from accept to close, the deadlines of a connection, the caps on connections, draining at shutdown.
//!
//! *Rules*: A peer that sends nothing, half a head, a stalled body, or reads nothing loses its connection; nobody else waits for it.
//! The deadlines live in a pure state ([`progress`]) that the socket adapter ([`wire`]) and the bodies ([`body`]) feed. A seat
//! ([`seats`]) lives inside the socket adapter, so that an upgraded WebSocket is counted until its socket closes, not until its
//! HTTP connection ends. How long a handler may take is the handler's matter.
//!
//! TLS ([`tls`]) lies between socket and adapter: a handshake has the time of a first byte, and holds a seat.
//!
//! *Deliberately absent*: the PROXY protocol, WebSockets over HTTP/2 (RFC 8441: they would look idle here).
//!
//! *Emits*: gauge `tenantry_http_connections`; counters `tenantry_http_connections_refused_total{reason}` (`total`, `address`) and
//! `tenantry_http_deadline_total{kind}` (`first_byte`, `header`, `idle`, `body`, `write`, `reset`).

mod body;
mod progress;
mod seats;
#[cfg(test)]
mod tests;
mod tls;
mod wire;

use std::{
    convert::Infallible,
    future::{Future as _, poll_fn},
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use axum::{
    Router,
    http::{Request, Response, StatusCode},
    response::IntoResponse as _,
};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::yield_now,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::Service as _;
use tracing::{debug, warn};

pub use self::tls::Tls;
use self::{
    body::{Flight, RequestBody, ResponseBody},
    seats::{Refusal, Seat, Seats},
    wire::Wire,
};
use crate::access::PresentedCertificate;

/// Of a request: its line and fields together, and in HTTP/2 the uncompressed field list (RFC 9113, section 6.5.2). In HTTP/1 it is the
/// size of the buffer that has to hold the head. It is also what a connection buffers for a slow reader.
const HEADER_BYTES: u16 = 32 * 1024;
const HEADERS: usize = 100;
/// RFC 9113, section 6.5.2, recommends no fewer than 100.
const STREAMS: u32 = 100;
/// Streams that were reset before hyper saw them, and streams that we reset for errors, before the connection is closed
/// (CVE-2023-44487, RUSTSEC-2024-0003). Resets of requests already running are counted in [`progress`].
const PENDING_RESETS: usize = 20;
const ERROR_RESETS: usize = 128;
const PING_EVERY: Duration = Duration::from_secs(20);
const PONG_WITHIN: Duration = Duration::from_secs(10);
/// Without one byte accepted by the peer; the same for upgraded sockets.
const WRITE_STALL: Duration = Duration::from_secs(30);
/// Refusals that are told so at once; the others are closed without a word, so that refusing never costs more than serving.
const TOLD_REFUSALS: usize = 64;
const TELLING: Duration = Duration::from_millis(500);
const REFUSAL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const BACKOFF_FIRST: Duration = Duration::from_millis(5);
const BACKOFF_LAST: Duration = Duration::from_secs(1);
/// For tasks to notice that they were cut.
const CUTTING: Duration = Duration::from_secs(1);

/// What a peer may hold, and for how long without giving something back.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From accept to the first byte.
    pub first_byte: Duration,
    /// From the first byte of a request to the end of its head. Also what a request body may stand still.
    pub header: Duration,
    /// Keep-alive between requests (RFC 9112, section 9.3), and a HTTP/2 connection without streams.
    pub idle: Duration,
    /// Open sockets in all, upgraded ones included. Keep it well below the limit on open files.
    pub max_connections: usize,
    /// The same per IPv4 address or IPv6 /64. Behind a proxy every connection has the proxy's address.
    pub max_connections_per_address: usize,
    /// From the shutdown signal to the cut.
    pub shutdown_grace: Duration,
}

/// The peer's address as a request extension: that of the socket, an IPv4-mapped address as IPv4.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// The certificate of the client's TLS handshake as a request extension.
#[derive(Clone, Debug)]
pub struct ClientCertificate(pub Arc<PresentedCertificate>);

/// Serves `router` over HTTP/1.1 (with upgrades) and HTTP/2 with prior knowledge (RFC 9113, section 3.3), until `shutdown` resolves.
/// Then it closes the listener and drains: requests in flight finish within the grace, then the rest is cut. Upgraded sockets are not
/// told; whoever owns them has to watch for the shutdown. Dropping the future cuts every connection at once.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, shutdown: impl Future<Output = ()>) {
    welcome(listener, House::open(router, limits, None), shutdown).await;
}

/// The same over TLS; the protocol is the one that the handshake settles on (RFC 7301).
pub async fn serve_tls(
    listener: TcpListener,
    tls: Tls,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    welcome(listener, House::open(router, limits, Some(tls)), shutdown).await;
}

async fn welcome(listener: TcpListener, house: House, shutdown: impl Future<Output = ()>) {
    let house = Arc::new(house);
    let _cut_when_dropped = house.cut.clone().drop_guard();
    tokio::select! {
        biased;
        () = shutdown => {}
        () = admit(&listener, &house) => {}
    }
    drop(listener);
    house.drain().await;
}

/// What all connections of one listener share.
struct House {
    router: Router,
    tls: Option<Tls>,
    limits: Limits,
    protocols: auto::Builder<TokioExecutor>,
    seats: Seats,
    telling: Arc<Semaphore>,
    draining: CancellationToken,
    cut: CancellationToken,
}

impl House {
    fn open(router: Router, limits: Limits, tls: Option<Tls>) -> Self {
        Self {
            router,
            tls,
            protocols: protocols(),
            seats: Seats::new(limits.max_connections, limits.max_connections_per_address),
            limits,
            telling: Arc::new(Semaphore::new(TOLD_REFUSALS)),
            draining: CancellationToken::new(),
            cut: CancellationToken::new(),
        }
    }

    async fn drain(&self) {
        self.draining.cancel();
        if timeout(self.limits.shutdown_grace, self.seats.emptied()).await.is_ok() {
            return;
        }
        warn!(connections = self.seats.taken(), "cut connections that did not finish within the grace");
        self.cut.cancel();
        if timeout(CUTTING, self.seats.emptied()).await.is_err() {
            warn!(connections = self.seats.taken(), "left connections whose tasks did not notice the cut");
        }
    }
}

fn protocols() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // `progress` has the deadlines, and tells idle time from a head; hyper's clock would set a timer for each request.
        .header_read_timeout(None)
        .max_headers(HEADERS)
        .max_buf_size(usize::from(HEADER_BYTES));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::from(HEADER_BYTES))
        .max_send_buf_size(usize::from(HEADER_BYTES))
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(ERROR_RESETS)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN);
    builder
}

async fn admit(listener: &TcpListener, house: &Arc<House>) {
    let mut backoff = BACKOFF_FIRST;
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                // Out of files or memory: accept fails at once, again and again, until a connection closes.
                warn!(%error, "accept connection; trying again in {backoff:?}");
                sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_LAST);
                continue;
            }
        };
        backoff = BACKOFF_FIRST;
        let peer = Peer(SocketAddr::new(address.ip().to_canonical(), address.port()));
        match house.seats.take(peer.0.ip()) {
            Ok(seat) => drop(tokio::spawn(greet(stream, peer, seat, Arc::clone(house)))),
            Err(refusal) => refuse(stream, refusal, &house.telling),
        }
    }
}

/// Errors of the connection that was about to be accepted (accept(2), "Error handling"); the next one may be fine.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Closes in stages (RFC 9112, section 9.6), or the reset for the unread request would overtake the answer.
fn refuse(mut stream: TcpStream, refusal: Refusal, telling: &Arc<Semaphore>) {
    refusal.count();
    let Ok(permit) = Arc::clone(telling).try_acquire_owned() else { return };
    tokio::spawn(async move {
        let _permit = permit;
        let tell = async {
            stream.write_all(REFUSAL).await?;
            stream.shutdown().await?;
            let mut unread = [0; 1024];
            while stream.read(&mut unread).await? > 0 {}
            io::Result::Ok(())
        };
        if let Ok(Err(error)) = timeout(TELLING, tell).await {
            debug!(%error, "refuse connection");
        }
    });
}

/// One connection, from accept until it ends or is handed to its upgrade.
async fn greet(stream: TcpStream, peer: Peer, seat: Seat, house: Arc<House>) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "set TCP_NODELAY");
    }
    let Some(tls) = &house.tls else { return converse(stream, Client { peer, certificate: None }, seat, house).await };
    let handshake = timeout(house.limits.first_byte, tls.accept(stream));
    let shaken = tokio::select! {
        biased;
        () = house.draining.cancelled() => return,
        shaken = handshake => shaken,
    };
    match shaken {
        Ok(Ok((stream, presented))) => {
            let certificate = presented.map(ClientCertificate);
            converse(stream, Client { peer, certificate }, seat, house).await;
        }
        Ok(Err(error)) => debug!(%error, "shake hands"),
        Err(_) => progress::Deadline::FirstByte.count(),
    }
}

/// Who is at the other end.
#[derive(Clone)]
struct Client {
    peer: Peer,
    certificate: Option<ClientCertificate>,
}

async fn converse<S>(stream: S, client: Client, seat: Seat, house: Arc<House>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (progress, mut watch) = progress::track();
    let wire = Wire::new(stream, seat, Arc::clone(&progress), house.cut.clone(), WRITE_STALL);
    let answers = service_fn(|request| answer(request, &client, &house, &progress));
    let mut connection = pin!(house.protocols.serve_connection_with_upgrades(TokioIo::new(wire), answers));
    let mut cut = pin!(house.cut.cancelled());
    let mut draining = pin!(house.draining.cancelled());
    let mut drains = false;
    let ended = poll_fn(|cx| {
        watch.attend();
        if !drains && draining.as_mut().poll(cx).is_ready() {
            drains = true;
            connection.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(Ended::Served(ended));
        }
        if cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ended::Cut);
        }
        watch.poll_expired(cx, &house.limits).map(Ended::Expired)
    });
    match ended.await {
        Ended::Served(Ok(())) | Ended::Cut => {}
        Ended::Served(Err(error)) => debug!(error, "serve connection"),
        Ended::Expired(deadline) => deadline.count(),
    }
}

/// How a connection came to its end.
enum Ended<E> {
    Served(Result<(), E>),
    Expired(progress::Deadline),
    Cut,
}

fn answer(
    request: Request<Incoming>,
    client: &Client,
    house: &House,
    progress: &Arc<progress::Tracked>,
) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> + use<> {
    let flight = Flight::begin(Arc::clone(progress), request.version());
    let stand_still = house.limits.header;
    let mut router = house.router.clone();
    let Client { peer, certificate } = client.clone();
    async move {
        // hyper counts the fields of HTTP/1 only.
        let answered = if request.headers().len() > HEADERS {
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.into_response()
        } else {
            let mut request = request
                .map(|incoming| axum::body::Body::new(RequestBody::new(incoming, stand_still, Arc::clone(&flight))));
            request.extensions_mut().insert(peer);
            if let Some(certificate) = certificate {
                request.extensions_mut().insert(certificate);
            }
            let answered = router.call(request).await?;
            // Lets the requests that have arrived by now be answered first: written together, answers cost half of what they cost one by
            // one, each of which wakes its reader.
            yield_now().await;
            answered
        };
        flight.answered();
        Ok(answered.map(|body| ResponseBody::new(body, flight)))
    }
}
