use std::{net::SocketAddr, time::Duration};

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use super::client::Client;

/// A WebSocket that speaks graphql-transport-ws. Every frame and close reason passes the canary oracle.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    client: Client,
}

/// What the server sent next.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    Message(Value),
    Closed { code: u16, reason: String },
}

impl Socket {
    /// Connects and is acknowledged.
    pub async fn connect(address: SocketAddr, client: &Client) -> Self {
        let mut socket = Self::open(address, client).await;
        socket.send(json!({ "type": "connection_init", "payload": { "Authorization": format!("Bearer {}", client.token().unwrap_or_default()) } })).await;
        assert_eq!(socket.next().await, Received::Message(json!({ "type": "connection_ack" })));
        socket
    }

    /// Connects and says nothing yet.
    pub async fn open(address: SocketAddr, client: &Client) -> Self {
        let mut request = format!("ws://{address}/graphql").into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().unwrap());
        let (stream, _) = connect_async(request).await.unwrap();
        Self { stream, client: client.clone() }
    }

    pub async fn send(&mut self, message: Value) {
        self.stream.send(Message::text(message.to_string())).await.unwrap();
    }

    pub async fn subscribe(&mut self, id: &str, query: &str, variables: Value) {
        self.send(json!({ "id": id, "type": "subscribe", "payload": { "query": query, "variables": variables } }))
            .await;
    }

    /// The next message or the end, within 10 seconds.
    pub async fn next(&mut self) -> Received {
        self.next_within(Duration::from_secs(10)).await.expect("nothing was received")
    }

    pub async fn next_within(&mut self, limit: Duration) -> Option<Received> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let frame = tokio::time::timeout_at(deadline, self.stream.next()).await.ok()?;
            match frame {
                Some(Ok(Message::Text(text))) => {
                    self.client.check(&text);
                    return Some(Received::Message(serde_json::from_str(&text).unwrap()));
                }
                Some(Ok(Message::Close(frame))) => {
                    let (code, reason) =
                        frame.map_or((1005, String::new()), |frame| (frame.code.into(), frame.reason.to_string()));
                    self.client.check(&reason);
                    return Some(Received::Closed { code, reason });
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Some(Received::Closed { code: 1006, reason: String::new() }),
            }
        }
    }

    /// The payload of the next `next` message.
    pub async fn event(&mut self) -> Value {
        match self.next().await {
            Received::Message(message) if message["type"] == "next" => message["payload"].clone(),
            other => panic!("not an event: {other:?}"),
        }
    }
}
