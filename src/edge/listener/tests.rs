//! Real sockets with short deadlines. Where a test waits, it waits for the server's close, never for a guessed time, except where the
//! rule is that nothing happens.

use std::{
    io::ErrorKind,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::ws::{WebSocket, WebSocketUpgrade},
    routing::{any, get, post},
};
use futures::{SinkExt as _, StreamExt as _};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::{
    sync::{Notify, oneshot},
    task::JoinHandle,
    time::Instant,
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use super::*;

const FIRST_BYTE: Duration = Duration::from_millis(200);
const HEADER: Duration = Duration::from_millis(300);
const IDLE: Duration = Duration::from_millis(400);
/// For a busy machine; a deadline that never comes fails all the same.
const SLACK: Duration = Duration::from_secs(5);
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
    /// How many handlers of `/slow` have begun, and their signal to end.
    begun: Arc<AtomicUsize>,
    release: Arc<Notify>,
}

fn limits() -> Limits {
    Limits {
        first_byte: FIRST_BYTE,
        header: HEADER,
        idle: IDLE,
        max_connections: 50,
        max_connections_per_address: 50,
        shutdown_grace: HEADER,
    }
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn start(limits: Limits) -> Server {
    let (begun, release) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let slow = {
        let (begun, release) = (Arc::clone(&begun), Arc::clone(&release));
        move || async move {
            begun.fetch_add(1, Ordering::Relaxed);
            release.notified().await;
            "done"
        }
    };
    let router = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/peer", get(|Extension(Peer(peer)): Extension<Peer>| async move { peer.to_string() }))
        .route("/length", post(|body: Bytes| async move { body.len().to_string() }))
        .route("/slow", get(slow))
        .route("/socket", any(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(echo) }))
        .route("/large", get(|| async { vec![b'x'; 64 * 1024 * 1024] }));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let served = tokio::spawn(serve(listener, router, limits, async move { drop(stopped.await) }));
    Server { address, stop: Some(stop), served, begun, release }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        stream
    }

    fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    async fn until_begun(&self, handlers: usize) {
        until(|| self.begun.load(Ordering::Relaxed) >= handlers).await;
    }

    async fn socket(&self) -> WebSocketStream<TcpStream> {
        client_async(format!("ws://{}/socket", self.address), self.connect().await).await.unwrap().0
    }
}

async fn until(mut holds: impl FnMut() -> bool) {
    timeout(SLACK, async {
        while !holds() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
}

/// Everything until the server closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut received = Vec::new();
    match timeout(SLACK, stream.read_to_end(&mut received)).await.expect("the server closes") {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    String::from_utf8_lossy(&received).into_owned()
}

/// One response with a content-length.
async fn response(stream: &mut TcpStream) -> String {
    let mut received = Vec::new();
    loop {
        let text = String::from_utf8(received.clone()).unwrap();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() == length.parse::<usize>().unwrap() {
                return text;
            }
        }
        let read = timeout(SLACK, stream.read_buf(&mut received)).await.unwrap().unwrap();
        assert_ne!(read, 0, "closed after {text:?}");
    }
}

async fn assert_serves(server: &Server) {
    let mut stream = server.send(GET).await;
    assert!(response(&mut stream).await.ends_with("hello"));
}

fn assert_about(start: Instant, deadline: Duration) {
    let elapsed = start.elapsed();
    assert!(elapsed >= deadline - Duration::from_millis(20) && elapsed < deadline + SLACK, "closed after {elapsed:?}");
}

#[tokio::test]
async fn half_a_head_is_closed_at_its_deadline_while_others_are_served() {
    let server = start(limits()).await;
    let start = Instant::now();
    let mut halves = Vec::new();
    for _ in 0..20 {
        halves.push(server.send(b"GET / HTTP/1.1\r\nhost: a\r\nx-").await);
    }
    assert_serves(&server).await;
    assert!(start.elapsed() < HEADER, "a half head made another client wait");
    for half in &mut halves {
        assert_eq!(rest(half).await, "");
    }
    assert_about(start, HEADER);
}

#[tokio::test]
async fn dripping_bytes_do_not_extend_a_head() {
    let server = start(limits()).await;
    let start = Instant::now();
    let (mut reader, mut writer) = server.send(b"GET / HTTP/1.1\r\n").await.into_split();
    let drip = tokio::spawn(async move {
        while writer.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
    });
    let mut received = Vec::new();
    let _closed = timeout(SLACK, reader.read_to_end(&mut received)).await.expect("the server closes");
    assert_about(start, HEADER);
    drip.abort();
}

#[tokio::test]
async fn a_client_without_a_first_byte_is_closed() {
    let server = start(limits()).await;
    let start = Instant::now();
    assert_eq!(rest(&mut server.connect().await).await, "");
    assert_about(start, FIRST_BYTE);
}

#[tokio::test]
async fn half_a_preface_is_closed_like_half_a_head() {
    let server = start(limits()).await;
    let start = Instant::now();
    assert_eq!(rest(&mut server.send(b"PRI * HTTP/2.0\r\n").await).await, "");
    assert_about(start, HEADER);
}

#[tokio::test]
async fn a_body_that_stands_still_is_an_error_and_closes_the_connection() {
    let server = start(limits()).await;
    let start = Instant::now();
    let mut stream = server.send(b"POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc").await;
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_about(start, HEADER);
}

#[tokio::test]
async fn a_slow_body_that_moves_is_served() {
    let server = start(limits()).await;
    let mut stream = server.send(b"POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n").await;
    let start = Instant::now();
    for _ in 0..10 {
        sleep(Duration::from_millis(50)).await;
        stream.write_all(&[b'x'; 100]).await.unwrap();
    }
    assert!(response(&mut stream).await.ends_with("1000"));
    assert!(start.elapsed() > HEADER);
}

#[tokio::test]
async fn a_dripping_body_ends_too() {
    let server = start(limits()).await;
    let (mut reader, mut writer) =
        server.send(b"POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n").await.into_split();
    let start = Instant::now();
    let drip = tokio::spawn(async move {
        while writer.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
    });
    let mut received = [0; 12];
    timeout(SLACK, reader.read_exact(&mut received)).await.unwrap().unwrap();
    assert_eq!(&received, b"HTTP/1.1 400");
    assert_about(start, HEADER);
    drip.abort();
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_in_use_is_not() {
    let server = start(limits()).await;
    let mut stream = server.connect().await;
    for _ in 0..3 {
        sleep(FIRST_BYTE / 2).await;
        stream.write_all(GET).await.unwrap();
        assert!(response(&mut stream).await.ends_with("hello"));
    }
    let start = Instant::now();
    assert_eq!(rest(&mut stream).await, "");
    assert_about(start, IDLE);
}

#[tokio::test]
async fn half_a_second_head_has_the_deadline_of_a_head() {
    let server = start(Limits { idle: SLACK, ..limits() }).await;
    let mut stream = server.send(GET).await;
    response(&mut stream).await;
    let start = Instant::now();
    stream.write_all(b"GET /").await.unwrap();
    assert_eq!(rest(&mut stream).await, "");
    assert_about(start, HEADER);
    assert!(start.elapsed() < SLACK, "waited for the idle deadline");
}

#[tokio::test]
async fn a_slow_handler_is_not_the_clients_fault() {
    let server = start(limits()).await;
    let mut stream = server.send(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    server.until_begun(1).await;
    sleep(IDLE + HEADER).await;
    server.release.notify_waiters();
    assert!(response(&mut stream).await.ends_with("done"));
}

#[tokio::test]
async fn a_large_response_outlives_the_idle_deadline_while_its_client_reads() {
    let server = start(limits()).await;
    let mut stream = server.send(b"GET /large HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    let (mut chunk, mut received, start) = (vec![0; 1024 * 1024], 0, Instant::now());
    loop {
        match timeout(SLACK, stream.read(&mut chunk)).await.unwrap().unwrap() {
            0 => break,
            read => received += read,
        }
        if received < 40 * 1024 * 1024 {
            sleep(Duration::from_millis(15)).await;
        }
    }
    assert!(received > 64 * 1024 * 1024);
    assert!(start.elapsed() > IDLE, "read too fast to tell");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = start(limits()).await;
    let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(40_000));
    let mut stream = server.send(long.as_bytes()).await;
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 431"));
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(HEADERS));
    let mut stream = server.send(many.as_bytes()).await;
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn a_handler_sees_its_peer() {
    let server = start(limits()).await;
    let mut stream = server.send(b"GET /peer HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let own = stream.local_addr().unwrap().to_string();
    assert!(response(&mut stream).await.ends_with(&own));
}

#[tokio::test]
async fn over_a_cap_a_connection_is_told_and_closed_and_its_seat_comes_free() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let shown = |line: &str| recorder.handle().render().lines().any(|shown| shown == line);
    let caps = Limits { max_connections_per_address: 2, idle: SLACK, ..limits() };
    let server = start(caps).await;
    let mut first = server.send(GET).await;
    let mut second = server.send(GET).await;
    response(&mut first).await;
    response(&mut second).await;
    let mut answer = String::new();
    let read = timeout(SLACK, server.send(GET).await.read_to_string(&mut answer)).await.unwrap();
    assert!(read.is_ok(), "a reset can overtake the answer: {read:?}");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(shown("tenantry_http_connections 2"));
    assert!(shown("tenantry_http_connections_refused_total{reason=\"address\"} 1"));
    drop(first);
    until(|| shown("tenantry_http_connections 1")).await;
    assert_serves(&server).await;

    let server = start(Limits { max_connections: 0, ..limits() }).await;
    assert!(rest(&mut server.send(GET).await).await.starts_with("HTTP/1.1 503"));
    assert!(shown("tenantry_http_connections_refused_total{reason=\"total\"} 1"));
}

#[tokio::test]
async fn each_deadline_is_counted_once_by_kind() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let server = start(limits()).await;
    let (mut silent, mut half) = (server.connect().await, server.send(b"GET").await);
    let (mut idle, mut body) =
        (server.send(GET).await, server.send(b"POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n").await);
    tokio::join!(rest(&mut silent), rest(&mut half), rest(&mut idle), rest(&mut body));
    let shown = recorder.handle().render();
    for kind in ["first_byte", "header", "idle", "body"] {
        let line = format!("tenantry_http_deadline_total{{kind=\"{kind}\"}} 1");
        assert!(shown.lines().any(|shown| shown == line), "{line} is not in\n{shown}");
    }
    until(|| recorder.handle().render().contains("tenantry_http_connections 0")).await;
}

#[tokio::test]
async fn shutdown_finishes_what_is_in_flight_and_refuses_what_is_new() {
    let mut server = start(Limits { shutdown_grace: SLACK, idle: SLACK, ..limits() }).await;
    let mut idle = server.send(GET).await;
    response(&mut idle).await;
    let mut silent = server.connect().await;
    let mut stream = server.send(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    server.until_begun(1).await;
    let start = Instant::now();
    server.stop();
    assert_eq!(rest(&mut idle).await, "");
    assert_eq!(rest(&mut silent).await, "");
    assert_eq!(TcpStream::connect(server.address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert!(!server.served.is_finished());
    server.release.notify_waiters();
    assert!(rest(&mut stream).await.ends_with("done"));
    timeout(SLACK, &mut server.served).await.unwrap().unwrap();
    assert!(start.elapsed() < SLACK, "waited for the grace although nothing was left");
}

#[tokio::test]
async fn what_outlives_the_grace_is_cut() {
    let mut server = start(limits()).await;
    let mut stream = server.send(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut socket = server.socket().await;
    server.until_begun(1).await;
    let start = Instant::now();
    server.stop();
    assert_eq!(rest(&mut stream).await, "");
    assert!(timeout(SLACK, socket.next()).await.unwrap().is_none_or(|last| last.is_err()));
    timeout(SLACK, &mut server.served).await.unwrap().unwrap();
    assert_about(start, HEADER);
    assert!(start.elapsed() < HEADER + CUTTING, "the cut was not noticed");
}

#[tokio::test]
async fn dropping_the_server_cuts_its_connections() {
    let server = start(limits()).await;
    let mut stream = server.send(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    server.until_begun(1).await;
    server.served.abort();
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test]
async fn an_upgraded_socket_outlives_the_deadlines_and_keeps_its_seat() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let shown = |line: &str| recorder.handle().render().lines().any(|shown| shown == line);
    let server = start(limits()).await;
    let mut socket = server.socket().await;
    sleep(IDLE + HEADER + FIRST_BYTE).await;
    assert!(shown("tenantry_http_connections 1"));
    socket.send(Message::text("still here")).await.unwrap();
    let echoed = timeout(SLACK, socket.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(echoed, Message::text("still here"));
    drop(socket);
    until(|| shown("tenantry_http_connections 0")).await;
}

/// HTTP/2 by hand, because no client of it is among the dependencies (RFC 9113, section 4.1; RFC 7541, appendix A).
mod http2 {
    use super::*;

    const HEADERS_FRAME: u8 = 1;
    const RST_STREAM: u8 = 3;
    const GOAWAY: u8 = 7;
    const PREFACE_AND_SETTINGS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// `GET path`, with END_STREAM and END_HEADERS.
    fn get(stream: u32, path: &str) -> Vec<u8> {
        let path_length = u8::try_from(path.len()).unwrap();
        frame(HEADERS_FRAME, 5, stream, &[&[0x82, 0x86, 0x41, 1, b'a', 0x44, path_length], path.as_bytes()].concat())
    }

    async fn next(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 9];
        timeout(SLACK, stream.read_exact(&mut head)).await.unwrap().ok()?;
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).await.ok()?;
        Some((head[3], payload))
    }

    #[tokio::test]
    async fn prior_knowledge_is_served_and_then_closed_when_idle() {
        let server = start(limits()).await;
        let mut stream = server.send(PREFACE_AND_SETTINGS).await;
        sleep(HEADER).await;
        stream.write_all(&get(1, "/")).await.unwrap();
        let mut statuses = Vec::new();
        let start = Instant::now();
        while let Some((kind, payload)) = next(&mut stream).await {
            if kind == HEADERS_FRAME {
                statuses.push(payload[0]);
            }
        }
        assert_eq!(statuses, [0x88], "200 is entry 8 of the static table");
        assert_about(start, IDLE);
    }

    #[tokio::test]
    async fn shutdown_says_goaway_and_finishes_the_stream() {
        let mut server = start(Limits { shutdown_grace: SLACK, ..limits() }).await;
        let mut stream = server.send(&[PREFACE_AND_SETTINGS, &get(1, "/slow")].concat()).await;
        server.until_begun(1).await;
        server.stop();
        let mut kinds = Vec::new();
        while let Some((kind, payload)) = next(&mut stream).await {
            kinds.push(kind);
            if kind == 6 {
                stream.write_all(&frame(6, 1, 0, &payload)).await.unwrap();
            }
            if kind == GOAWAY {
                server.release.notify_waiters();
            }
        }
        assert!(kinds.contains(&GOAWAY) && kinds.contains(&HEADERS_FRAME), "{kinds:?}");
        timeout(SLACK, &mut server.served).await.unwrap().unwrap();
    }

    /// One at a time, so that each handler begins: the case that h2 does not count.
    #[tokio::test]
    async fn a_rapid_reset_ends_the_connection() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let server = start(limits()).await;
        let mut stream = server.send(PREFACE_AND_SETTINGS).await;
        let counted = || recorder.handle().render().contains("kind=\"reset\"} 1");
        let mut requests = 0;
        while !counted() && requests < 1_000 {
            let id = 2 * requests + 1;
            requests += 1;
            if stream.write_all(&get(id, "/slow")).await.is_err() {
                break;
            }
            let begun = usize::try_from(requests).unwrap();
            until(|| counted() || server.begun.load(Ordering::Relaxed) >= begun).await;
            let _closed = stream.write_all(&frame(RST_STREAM, 0, id, &[0, 0, 0, 8])).await;
        }
        until(counted).await;
        assert!(requests > 100 && requests < 110, "closed after {requests}");
        assert_serves(&server).await;
    }

    #[tokio::test]
    async fn more_fields_than_allowed_are_refused() {
        let server = start(limits()).await;
        let fields = b"\x00\x01x\x01y".repeat(HEADERS + 1);
        let block = [&[0x82, 0x86, 0x84, 0x41, 1, b'a'], &fields[..]].concat();
        let mut stream = server.send(&[PREFACE_AND_SETTINGS, &frame(HEADERS_FRAME, 5, 1, &block)].concat()).await;
        loop {
            let (kind, payload) = next(&mut stream).await.unwrap();
            if kind == HEADERS_FRAME {
                assert!(payload.starts_with(&[0x48]), "a literal status: {payload:?}");
                return;
            }
        }
    }
}

/// Only a body whose reader waits is late.
#[tokio::test]
async fn a_body_is_not_late_while_its_reader_does_something_else() {
    use http_body_util::BodyExt as _;

    const LIMIT: Duration = Duration::from_millis(100);
    let (mut sender, incoming) = futures::channel::mpsc::channel::<Result<Bytes, Infallible>>(1);
    let flight = Flight::begin(progress::track().0, axum::http::Version::HTTP_11);
    let mut body = RequestBody::new(Body::from_stream(incoming), LIMIT, flight);
    sleep(LIMIT * 2).await;
    sender.send(Ok(Bytes::from_static(b"x"))).await.unwrap();
    assert!(body.frame().await.unwrap().is_ok());
    sleep(LIMIT * 2).await;
    let start = Instant::now();
    let stalled = body.frame().await.unwrap().unwrap_err();
    assert!(stalled.is::<body::Stalled>());
    assert_about(start, LIMIT);
}
