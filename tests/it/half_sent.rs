//! Requests that are never finished (HAZARDS.md, H7): each is closed at its deadline, and nobody else waits for them.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use crate::{
    binary::Binary,
    support::{TestApp, database},
};

const DEADLINE: Duration = Duration::from_millis(1_500);
/// On top of the deadline, for two thousand at once on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// As many as both ends may have open files.
fn connections() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let open_files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let soft: usize = open_files.split_whitespace().nth(3).unwrap().parse().unwrap_or(usize::MAX);
    2_000.min(soft.saturating_sub(300))
}

/// What was sent when the client fell silent.
fn half(number: usize) -> &'static str {
    const HALVES: [&str; 8] = [
        "",
        "P",
        "POST /graph",
        "POST /graphql HTTP/1.1\r\n",
        "POST /graphql HTTP/1.1\r\nhost: tenantry.test\r\nauthorization: Bear",
        "GET /livez HTTP/1.1\r\nhost: tenantry.test\r\n",
        "POST /graphql HTTP/1.1\r\nhost: tenantry.test\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n",
        "POST /graphql HTTP/1.1\r\nhost: tenantry.test\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"query\": \"",
    ];
    HALVES[number % HALVES.len()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_sent_requests_are_closed_at_their_deadline_and_nobody_waits_for_them() {
    let deadline = humantime::format_duration(DEADLINE).to_string();
    let server = Binary::on(&database().await)
        .set("SERVER__FIRST_BYTE_TIMEOUT", &deadline)
        .set("SERVER__HEADER_TIMEOUT", &deadline)
        .set("SERVER__IDLE_TIMEOUT", &deadline)
        .serve()
        .await;
    let admin = server.admin().await;
    let opened = stream::iter(0..connections()).map(|number| {
        let address = server.address;
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(half(number).as_bytes()).await.unwrap();
            (stream, Instant::now(), half(number))
        }
    });
    let opened: Vec<_> = opened.buffer_unordered(100).collect().await;
    let last = opened.iter().map(|(_, sent, _)| *sent).max().unwrap();
    let held = opened.len();
    let closing: JoinSet<Duration> = opened.into_iter().map(closed).collect();
    let mut served: Vec<Duration> = Vec::new();
    while last.elapsed() < DEADLINE || served.len() < 10 {
        let began = Instant::now();
        admin.ok("{ viewer { subject } plans { key } }", json!({})).await;
        served.push(began.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let closed = closing.join_all().await;
    served.sort_unstable();
    let median = served[served.len() / 2];
    let longest = closed.iter().max().unwrap();
    println!(
        "{held} half-sent requests closed after at most {longest:?}; meanwhile {} served, half of them within {median:?}",
        served.len()
    );
    assert!(*longest < DEADLINE + PATIENCE, "one was open for {longest:?}");
    assert!(median < Duration::from_millis(250), "others waited for {median:?}");
}

/// How long the server kept it.
async fn closed((mut stream, sent, half): (TcpStream, Instant, &'static str)) -> Duration {
    let mut answer = Vec::new();
    let ended = timeout(DEADLINE + PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "{half:?} is still open");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{half:?} was answered with {answer}");
    sent.elapsed()
}

#[tokio::test]
async fn a_body_that_stops_is_answered_as_what_it_is() {
    let app = TestApp::with("[server]\nheader_timeout = \"200ms\"\n").await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let head = "POST /graphql HTTP/1.1\r\nhost: tenantry.test\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 4") && answer.contains("did not arrive"), "{answer}");
}
