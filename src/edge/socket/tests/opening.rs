use std::time::Duration;

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::client::Heard;
use super::{GENEROUS, LONG, SHORT, Server};
use crate::edge::socket::Limits;

#[tokio::test]
async fn a_refused_init_is_closed_with_the_reason() {
    let server = Server::start(GENEROUS).await;
    let answers = [
        ("Bearer bad", 4403, "unauthenticated"),
        ("Bearer untimely", 1013, "unavailable"),
        ("Bearer broken", 4500, "internal"),
        ("Bearer fatal", 4500, "internal"),
    ];
    for (token, code, reason) in answers {
        let mut client = server.connect().await;
        client.init(token).await;
        client.expect_close(code, reason).await;
    }
    let mut client = server.connect().await;
    client.say(json!({ "type": "connection_init" })).await;
    client.expect_close(4403, "unauthenticated").await;
}

#[tokio::test]
async fn init_has_a_deadline_that_covers_the_decision() {
    let server = Server::start(Limits { init_timeout: SHORT, ..GENEROUS }).await;
    let (mut silent, mut undecided) = (server.connect().await, server.connect().await);
    undecided.init("Bearer undecided").await;
    silent.expect_close(4408, "Connection initialisation timeout").await;
    undecided.expect_close(4408, "Connection initialisation timeout").await;
}

#[tokio::test]
async fn nothing_runs_before_the_ack() {
    let server = Server::start(GENEROUS).await;
    let mut client = server.connect().await;
    client.subscribe("1", "{ hello }").await;
    client.expect_close(4401, "Unauthorized").await;

    let mut client = server.connect().await;
    client.init("Bearer undecided").await;
    client.subscribe("1", "{ hello }").await;
    client.expect_close(4401, "Unauthorized").await;
}

#[tokio::test]
async fn a_second_init_closes_the_socket() {
    let server = Server::start(GENEROUS).await;
    let mut client = server.open().await;
    client.init("Bearer good").await;
    client.expect_close(4429, "Too many initialisation requests").await;

    let mut client = server.connect().await;
    client.init("Bearer undecided").await;
    client.init("Bearer undecided").await;
    client.expect_close(4429, "Too many initialisation requests").await;
}

#[tokio::test]
async fn what_is_not_of_the_protocol_closes_the_socket() {
    let server = Server::start(GENEROUS).await;
    let long = "x".repeat(257);
    let invalid = [
        "".to_owned(),
        "hello".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        json!({ "type": "start", "id": "1", "payload": {} }).to_string(),
        json!({ "type": "next", "id": "1", "payload": {} }).to_string(),
        json!({ "type": "ping", "payload": "text" }).to_string(),
        json!({ "type": "pong", "payload": [] }).to_string(),
        json!({ "type": "connection_init", "payload": "token" }).to_string(),
        json!({ "type": "complete" }).to_string(),
        json!({ "type": "subscribe", "payload": { "query": "{ hello }" } }).to_string(),
        json!({ "type": "subscribe", "id": 1, "payload": { "query": "{ hello }" } }).to_string(),
        json!({ "type": "subscribe", "id": "", "payload": { "query": "{ hello }" } }).to_string(),
        json!({ "type": "subscribe", "id": long, "payload": { "query": "{ hello }" } }).to_string(),
        json!({ "type": "subscribe", "id": "1", "payload": {} }).to_string(),
        json!({ "type": "subscribe", "id": "1", "payload": { "query": "{ hello }", "variables": [1] } }).to_string(),
        json!({ "type": "subscribe", "id": "1", "payload": { "query": "{ hello }", "extensions": 1 } }).to_string(),
        r#"{ "type": "subscribe", "id": "1", "id": "2", "payload": { "query": "{ hello }" } }"#.to_owned(),
        json!({ "type": "ö".repeat(300) }).to_string(),
    ];
    for text in invalid {
        let mut client = server.open().await;
        client.say_raw(Message::text(text.clone())).await;
        match client.hear().await {
            Heard::Closed(4400, reason) => assert!(reason.starts_with("Invalid message") && reason.len() <= 123),
            other => panic!("{text}: {other:?}"),
        }
    }
    let mut client = server.open().await;
    client.say_raw(Message::binary(r#"{"type":"ping"}"#)).await;
    client.expect_close(4400, "Invalid message: only text is understood").await;
}

#[tokio::test]
async fn a_large_message_closes_the_socket() {
    let server = Server::start(GENEROUS).await;
    let mut client = server.open().await;
    client.subscribe("1", &"x".repeat(GENEROUS.message_bytes)).await;
    client.expect_close(1009, "Message too large").await;
}

#[tokio::test]
async fn a_ping_is_answered_at_any_time() {
    let server = Server::start(GENEROUS).await;
    let mut client = server.connect().await;
    for token in ["Bearer good", ""] {
        client.say(json!({ "type": "ping", "payload": { "n": 1 } })).await;
        client.expect_message(json!({ "type": "pong", "payload": { "n": 1 } })).await;
        client.say(json!({ "type": "pong" })).await;
        client.complete("unknown").await;
        if !token.is_empty() {
            client.init(token).await;
            client.expect_message(json!({ "type": "connection_ack" })).await;
        }
    }
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_cut() {
    let interval = Duration::from_millis(60);
    let server = Server::start(Limits { ping_interval: interval, reauthorize_every: LONG, ..GENEROUS }).await;
    let (mut alive, mut dead) = (server.open().await, server.open().await);
    dead.subscribe("1", "subscription { silence }").await;
    server.house.running(1).await;
    // A client that does not read answers no ping.
    let (_, ()) = tokio::join!(
        async {
            for _ in 0..4 {
                assert_eq!(alive.hear().await, Heard::Ping);
            }
        },
        server.house.running(0),
    );
    assert_eq!(dead.hear().await, Heard::Ping);
    assert_eq!(dead.hear().await, Heard::End);
    alive.say(json!({ "type": "ping" })).await;
    while alive.hear().await == Heard::Ping {}
}
