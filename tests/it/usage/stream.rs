//! Lines of usage that come for as long as they come: no body is too large, and the server does not grow.

use std::time::Instant;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::{USAGE, service};
use crate::{
    binary::Binary,
    moves::soak,
    support::{Client, TestApp, database},
};

/// A request whose body comes in chunks (RFC 9112, 7.1).
struct Upload {
    write: OwnedWriteHalf,
    read: BufReader<OwnedReadHalf>,
}

impl Upload {
    async fn begin(address: std::net::SocketAddr, client: &Client) -> Self {
        let (read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
        let head = format!(
            "POST /api/v1/usage/events HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\n\
             content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n",
            client.token().unwrap()
        );
        write.write_all(head.as_bytes()).await.unwrap();
        Self { write, read: BufReader::new(read) }
    }

    async fn send(&mut self, text: &str) {
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        self.write.write_all(chunk.as_bytes()).await.unwrap();
    }

    /// Status and body of the answer.
    async fn end(mut self) -> (u16, Value) {
        self.write.write_all(b"0\r\n\r\n").await.unwrap();
        let mut line = String::new();
        self.read.read_line(&mut line).await.unwrap();
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut rest = String::new();
        self.read.read_to_string(&mut rest).await.unwrap();
        let body = rest.split_once("\r\n\r\n").unwrap().1;
        (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}")))
    }
}

/// `count` lines of one event each, from `first` on, for the day that is.
fn lines(stream: usize, first: usize, count: usize) -> String {
    (first..first + count)
        .map(|line| format!("{{\"dimension\":\"api_calls\",\"quantity\":1,\"idempotency_key\":\"{stream}-{line}\"}}\n"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_are_counted_as_they_come_and_wait_where_others_are_refused() {
    let settings = "[server]\nbody_bytes = 16384\n[usage]\nlanes = 1\nbatch_events = 200\nwaiting_events = 1500";
    let app = TestApp::with(settings).await;
    let tenant = app.tenant("stream").await;
    let client = service(&app, &tenant).await;
    let send = async |stream: usize| {
        let mut upload = Upload::begin(app.address, &client).await;
        for part in 0..20 {
            upload.send(&lines(stream, part * 250, 250)).await;
            if part == 9 {
                upload.send("{\"dimension\":\"api_c").await;
                upload.send("alls\",\"quantity\":\"x\"}\n").await;
            }
        }
        upload.end().await
    };
    // Each is more than twenty times what a body may have, and all together more than may wait.
    for (status, told) in futures::future::join_all((0..4).map(send)).await {
        assert_eq!((status, &told["accepted"], &told["refused"]), (200, &json!(5000), &json!(1)), "{told}");
        assert_eq!((&told["results"][0]["index"], &told["results"][0]["field"]), (&json!(2500), &json!("quantity")));
    }
    let (now, day) = (app.app.clock.now(), chrono::TimeDelta::days(1));
    let input = json!({ "dimension": "api_calls", "window": "DAY", "from": (now - day).to_rfc3339(), "to": (now + day).to_rfc3339() });
    let totals = client.ok(USAGE, json!({ "input": input })).await;
    let totals = totals["usage"].as_array().unwrap().iter().map(|total| total["events"].as_i64().unwrap());
    let sum: i64 = totals.sum();
    assert_eq!(sum, 20_000);
    let answer = client.post("/api/v1/billing/meter").header("content-type", "application/json");
    let large = format!("[{}]", lines(9, 0, 500).trim_end().replace('\n', ","));
    assert_eq!(client.send(answer.body(large)).await.status, 413, "a list is still held to what a body may have");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_does_not_grow_with_the_lines_that_come() {
    let count = if soak() { 10_000_000 } else { 100_000 };
    let database = database().await;
    let server = Binary::on(&database).serve().await;
    let admin = server.admin().await;
    let tenant = admin
        .ok("mutation { createTenant(input: { slug: \"bulk\", name: \"Bulk\" }) { tenant { id } } }", json!({}))
        .await;
    let tenant = tenant["createTenant"]["tenant"]["id"].as_str().unwrap().to_owned();
    let send = async |stream: usize, count: usize| {
        let mut upload = Upload::begin(server.address, &admin).await;
        for first in (0..count).step_by(1000) {
            upload
                .send(&lines(stream, first, 1000).replace("{\"dim", &format!("{{\"tenant_id\":\"{tenant}\",\"dim")))
                .await;
        }
        let (status, told) = upload.end().await;
        assert_eq!((status, &told["accepted"]), (200, &json!(count)), "{told}");
    };
    send(0, 20_000).await;
    let before = server.resident();
    let began = Instant::now();
    send(1, count).await;
    let (after, rate) = (server.resident(), count as f64 / began.elapsed().as_secs_f64());
    println!(
        "{count} lines, {rate:.0} lines/s, resident {} MiB before and {} MiB after (debug build)",
        before >> 20,
        after >> 20
    );
    assert!(after < before + (32 << 20), "{before} bytes before, {after} after");
}
