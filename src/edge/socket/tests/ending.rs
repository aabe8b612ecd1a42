use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::json;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::client::Heard;
use super::{GENEROUS, SHORT, Server};
use crate::edge::socket::Limits;
use crate::error::Kind;

#[tokio::test]
async fn a_change_that_ends_the_session_ends_every_operation_and_the_socket() {
    let server = Server::start(GENEROUS).await;
    let mut client = server.open().await;
    client.subscribe("1", "subscription { silence }").await;
    client.subscribe("2", "subscription { relayed }").await;
    server.house.running(2).await;
    server.house.announce_change();
    client.expect_quiet().await;
    server.house.refuse(Kind::TenantSuspended);
    server.house.announce_change();
    let mut ended = Vec::new();
    for _ in 0..2 {
        let message = client.message().await;
        assert_eq!(message["type"], "error");
        assert_eq!(message["payload"][0]["extensions"]["code"], "tenant_suspended");
        ended.push(message["id"].as_str().unwrap().to_owned());
    }
    ended.sort();
    assert_eq!(ended, ["1", "2"]);
    client.expect_close(4403, "tenant_suspended").await;
    server.house.running(0).await;
}

#[tokio::test]
async fn a_session_that_runs_out_is_found_by_the_timer() {
    let server = Server::start(Limits { reauthorize_every: SHORT, ..GENEROUS }).await;
    let mut client = server.open().await;
    client.subscribe("1", "subscription { silence }").await;
    server.house.running(1).await;
    server.house.refuse(Kind::Unauthenticated);
    client.expect_error("1", "unauthenticated").await;
    client.expect_close(4403, "unauthenticated").await;
}

#[tokio::test]
async fn no_event_leaves_after_the_session_has_ended() {
    let server = Server::start(GENEROUS).await;
    let mut client = server.open().await;
    client.subscribe("1", "subscription { relayed }").await;
    server.house.running(1).await;
    server.house.relay("before");
    client.expect_next("1", json!({ "relayed": "before" })).await;
    server.house.refuse(Kind::TenantSuspended);
    server.house.relay("after");
    client.expect_error("1", "tenant_suspended").await;
    client.expect_close(4403, "tenant_suspended").await;
}

#[tokio::test]
async fn nothing_starts_on_a_session_that_has_ended() {
    let server = Server::start(GENEROUS).await;
    let mut client = server.open().await;
    server.house.refuse(Kind::TenantArchived);
    client.subscribe("1", "subscription { silence }").await;
    client.expect_error("1", "tenant_archived").await;
    client.expect_close(4403, "tenant_archived").await;
}

#[tokio::test]
async fn what_waits_for_a_slow_reader_is_thrown_away_when_its_session_ends() {
    const WAITING: usize = 64;
    let server = Server::start(Limits { send_buffer: WAITING, ..GENEROUS }).await;
    let mut client = server.open().await;
    client.subscribe("1", "subscription { flood(bytes: 65536) }").await;
    server.stalled().await;
    server.house.refuse(Kind::TenantSuspended);
    server.house.announce_change();
    let mut received = 0;
    let end = loop {
        match client.message().await {
            next if next["type"] == "next" => received += 1,
            other => break other,
        }
    };
    assert_eq!(end["payload"][0]["extensions"]["code"], "tenant_suspended");
    client.expect_close(4403, "tenant_suspended").await;
    assert!(server.house.produced() - received >= WAITING, "{received} of {}", server.house.produced());
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut() {
    let server = Server::start(Limits { write_timeout: SHORT, ..GENEROUS }).await;
    let mut client = server.open().await;
    client.subscribe("1", "subscription { flood(bytes: 65536) }").await;
    server.house.running(1).await;
    server.house.running(0).await;
    let mut received = 0;
    while let Heard::Message(_) = client.hear().await {
        received += 1;
    }
    // One in the writer's hands, one in the stream's, and the buffer: memory does not grow with what is not read.
    assert!(server.house.produced() - received <= GENEROUS.send_buffer + 2);
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_streams_along() {
    let server = Server::start(GENEROUS).await;
    let (mut polite, mut rude) = (server.open().await, server.open().await);
    polite.subscribe("1", "subscription { silence }").await;
    rude.subscribe("1", "subscription { silence }").await;
    server.house.running(2).await;
    drop(rude);
    server.house.running(1).await;
    polite.0.close(Some(CloseFrame { code: 1000.into(), reason: "bye".into() })).await.unwrap();
    server.house.running(0).await;
    server.config.open.close();
    tokio::time::timeout(SHORT, server.config.open.wait()).await.expect("both sockets to be gone");
}

#[tokio::test]
async fn a_stopping_server_sends_its_clients_elsewhere() {
    let server = Server::start(GENEROUS).await;
    let (mut client, mut waiting) = (server.open().await, server.connect().await);
    client.subscribe("1", "subscription { silence }").await;
    server.house.running(1).await;
    server.config.shutdown.cancel();
    // No `complete` before it: a client subscribes again only to what it believes unfinished.
    client.expect_close(1001, "The server is stopping").await;
    waiting.expect_close(1001, "The server is stopping").await;
    assert_eq!((client.hear().await, waiting.hear().await), (Heard::End, Heard::End));
    server.config.open.close();
    tokio::time::timeout(SHORT, server.config.open.wait()).await.expect("both sockets to be gone");
    server.house.running(0).await;
}

#[tokio::test]
async fn sockets_and_operations_are_counted() {
    // Local to this thread, which also runs the server.
    let recorder = PrometheusBuilder::new().build_recorder();
    let (rendered, _guard) = (recorder.handle(), metrics::set_default_local_recorder(&recorder));
    let has = |line: &str| assert!(rendered.render().lines().any(|has| has == line), "{line} in {}", rendered.render());

    let server = Server::start(GENEROUS).await;
    let mut client = server.open().await;
    client.subscribe("1", "subscription { silence }").await;
    server.house.running(1).await;
    has("tenantry_sockets 1");
    has("tenantry_subscriptions 1");
    client.subscribe("1", "{ hello }").await;
    client.expect_close(4409, "Subscriber for 1 already exists").await;
    let mut leaver = server.open().await;
    leaver.0.close(Some(CloseFrame { code: 4999.into(), reason: "".into() })).await.unwrap();
    // Reading on is what answers a close frame.
    assert_eq!(client.hear().await, Heard::End);
    leaver.expect_close(4999, "").await;
    assert_eq!(leaver.hear().await, Heard::End);
    server.config.open.close();
    tokio::time::timeout(SHORT, server.config.open.wait()).await.expect("both sockets to be gone");
    has("tenantry_sockets 0");
    has("tenantry_subscriptions 0");
    has(r#"tenantry_socket_closed_total{code="4409"} 1"#);
    has(r#"tenantry_socket_closed_total{code="other"} 1"#);
}
