//! The rules of the socket, tried by a WebSocket client against a house with a toy schema.

mod client;
mod ending;
mod handshake;
mod house;
mod opening;
mod operations;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::any;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Config, Limits};
use client::Client;
use house::House;

/// Deadlines that tests wait for.
const SHORT: Duration = Duration::from_millis(150);
/// Deadlines that tests do not want to meet.
const LONG: Duration = Duration::from_secs(30);

const GENEROUS: Limits = Limits {
    init_timeout: LONG,
    ping_interval: LONG,
    streams_per_socket: 4,
    message_bytes: 4096,
    reauthorize_every: LONG,
    send_buffer: 4,
    write_timeout: Duration::from_secs(1),
};

struct Server {
    address: SocketAddr,
    house: House,
    config: Config,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = Config {
            limits,
            allowed_origins: vec!["https://console.example.com".to_owned()],
            shutdown: CancellationToken::new(),
            open: TaskTracker::new(),
        };
        let house = House::default();
        let app = Router::new().route("/graphql", any(answer)).with_state((house.clone(), config.clone()));
        let listener = listener.tap_io(|tcp| tcp.set_nodelay(true).unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, house, config }
    }

    /// A socket before `connection_init`.
    async fn connect(&self) -> Client {
        Client::connect(self.address, &[("sec-websocket-protocol", "graphql-transport-ws")]).await.unwrap()
    }

    /// A socket after `connection_ack`.
    async fn open(&self) -> Client {
        let mut client = self.connect().await;
        client.init("Bearer good").await;
        client.expect_message(serde_json::json!({ "type": "connection_ack" })).await;
        client
    }

    /// Returns when the streams have stopped, because every buffer on the way to a client that does not read is full.
    async fn stalled(&self) {
        let mut before = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = self.house.produced();
            if now > 0 && now == before {
                return;
            }
            before = now;
        }
    }
}

async fn answer(
    State((house, config)): State<(House, Config)>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    super::upgrade(house, &config, &headers, upgrade)
}
