use serde_json::json;

use super::house::TENANT_STREAMS;
use super::{GENEROUS, Server};
use crate::edge::socket::Limits;

#[tokio::test]
async fn a_subscription_gives_its_events_in_order_and_completes() {
    let server = Server::start(GENEROUS).await;
    let mut client = server.open().await;
    // Far more than the send buffer holds: whoever reads is not cut, and loses nothing.
    client.subscribe("a", "subscription { count(to: 500) }").await;
    for n in 1..=500 {
        client.expect_next("a", json!({ "count": n })).await;
    }
    client.expect_complete("a").await;
    server.house.running(0).await;
}

#[tokio::test]
async fn a_query_gives_one_result() {
    let server = Server::start(GENEROUS).await;
    let mut client = server.open().await;
    let query = "query A { hello } query B($name: String) { hello(name: $name) }";
    let payload =
        json!({ "query": query, "operationName": "B", "variables": { "name": "Ada" }, "extensions": { "x": 1 } });
    client.say(json!({ "type": "subscribe", "id": "q", "payload": payload })).await;
    client.expect_next("q", json!({ "hello": "hello Ada" })).await;
    client.expect_complete("q").await;
}

#[tokio::test]
async fn an_id_is_free_as_soon_as_its_operation_has_ended() {
    let server = Server::start(GENEROUS).await;
    let mut client = server.open().await;
    for _ in 0..100 {
        client.subscribe("same", "{ hello }").await;
        client.expect_next("same", json!({ "hello": "hello world" })).await;
        client.expect_complete("same").await;
        client.subscribe("same", "{ nonsense }").await;
        client.expect_error("same", "invalid_input").await;
        client.subscribe("same", "subscription { silence }").await;
        client.complete("same").await;
    }
    server.house.running(0).await;
}

#[tokio::test]
async fn a_running_id_cannot_be_used_again() {
    let server = Server::start(GENEROUS).await;
    let id = "é".repeat(100);
    let mut client = server.open().await;
    client.subscribe(&id, "subscription { silence }").await;
    client.subscribe(&id, "{ hello }").await;
    // 123 bytes would end within a letter.
    client.expect_close(4409, &format!("Subscriber for {}", "é".repeat(54))).await;
    server.house.running(0).await;

    let mut client = server.open().await;
    client.subscribe("1", "subscription { silence }").await;
    client.subscribe("1", "{ hello }").await;
    client.expect_close(4409, "Subscriber for 1 already exists").await;
}

#[tokio::test]
async fn complete_drops_one_stream_and_no_other() {
    let server = Server::start(GENEROUS).await;
    let mut client = server.open().await;
    client.subscribe("1", "subscription { relayed }").await;
    client.subscribe("2", "subscription { relayed }").await;
    server.house.running(2).await;
    client.complete("1").await;
    server.house.running(1).await;
    server.house.relay("news");
    client.expect_next("2", json!({ "relayed": "news" })).await;
    client.expect_quiet().await;
}

#[tokio::test]
async fn complete_takes_back_what_waits_for_a_slow_reader() {
    const WAITING: usize = 64;
    let server = Server::start(Limits { send_buffer: WAITING, ..GENEROUS }).await;
    let mut client = server.open().await;
    client.subscribe("1", "subscription { flood(bytes: 65536) }").await;
    server.stalled().await;
    client.complete("1").await;
    server.house.running(0).await;
    client.say(json!({ "type": "ping" })).await;
    let mut received = 0;
    while client.message().await["type"] == "next" {
        received += 1;
    }
    assert!(server.house.produced() - received >= WAITING, "{received} of {}", server.house.produced());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_used_again_never_shows_the_events_of_its_predecessor() {
    let server = Server::start(GENEROUS).await;
    let mut client = server.open().await;
    client.subscribe("1", "subscription { flood(bytes: 10) }").await;
    client.message().await;
    client.complete("1").await;
    client.subscribe("1", "subscription { count(to: 3) }").await;
    // Those on their way when the server read `complete` still arrive, before the first of the successor.
    while client.message().await["payload"]["data"]["count"] != 1 {}
    client.expect_next("1", json!({ "count": 2 })).await;
    client.expect_next("1", json!({ "count": 3 })).await;
    client.expect_complete("1").await;
}

#[tokio::test]
async fn one_stream_too_many_is_refused_and_the_others_go_on() {
    let server = Server::start(GENEROUS).await;
    let mut client = server.open().await;
    for n in 0..GENEROUS.streams_per_socket {
        client.subscribe(&n.to_string(), "subscription { silence }").await;
    }
    client.subscribe("more", "subscription { silence }").await;
    assert_eq!(client.expect_error("more", "rate_limited").await["extensions"]["retryable"], true);
    server.house.running(GENEROUS.streams_per_socket).await;
    client.complete("0").await;
    server.house.running(GENEROUS.streams_per_socket - 1).await;
    client.subscribe("more", "{ hello }").await;
    client.expect_next("more", json!({ "hello": "hello world" })).await;
}

#[tokio::test]
async fn the_tenants_cap_holds_over_all_its_sockets() {
    let server = Server::start(Limits { streams_per_socket: TENANT_STREAMS, ..GENEROUS }).await;
    let (mut first, mut second) = (server.open().await, server.open().await);
    for n in 0..TENANT_STREAMS {
        first.subscribe(&n.to_string(), "subscription { silence }").await;
    }
    server.house.running(TENANT_STREAMS).await;
    second.subscribe("1", "subscription { silence }").await;
    second.expect_error("1", "rate_limited").await;
    drop(first);
    server.house.running(0).await;
    second.subscribe("1", "{ hello }").await;
    second.expect_next("1", json!({ "hello": "hello world" })).await;
}

#[tokio::test]
async fn refusals_end_the_operation_and_not_the_socket() {
    let server = Server::start(GENEROUS).await;
    let mut client = server.open().await;
    client.subscribe("m", "mutation { hello }").await;
    let error = client.expect_error("m", "forbidden").await;
    assert_eq!(error["message"], "mutations are not served over a socket");
    client.subscribe("syntax", "{").await;
    client.expect_error("syntax", "invalid_input").await;
    client.subscribe("unknown", "subscription { nonsense }").await;
    let error = client.expect_error("unknown", "invalid_input").await;
    assert_eq!(error["locations"][0]["line"], 1);
    client.expect_quiet().await;
}

#[tokio::test]
async fn an_error_within_the_data_is_an_event() {
    let server = Server::start(GENEROUS).await;
    let mut client = server.open().await;
    client.subscribe("1", "subscription { failure }").await;
    let message = client.message().await;
    assert_eq!(message["type"], "next");
    assert_eq!(message["payload"]["errors"][0]["path"], json!(["failure"]));
    client.expect_complete("1").await;
}

#[tokio::test]
async fn a_panic_is_internal_and_the_socket_lives() {
    let server = Server::start(GENEROUS).await;
    let mut client = server.open().await;
    client.subscribe("s", "subscription { bomb }").await;
    client.expect_next("s", json!({ "bomb": false })).await;
    client.expect_error("s", "internal").await;
    client.subscribe("q", "{ boom }").await;
    client.expect_error("q", "internal").await;
    client.expect_quiet().await;
    server.house.running(0).await;
}
