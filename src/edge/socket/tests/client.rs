//! A client that says exactly what a test wants said.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

pub(super) struct Client(pub(super) WebSocketStream<TcpStream>);

/// What a client hears.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    Message(Value),
    Ping,
    Closed(u16, String),
    /// The end, without a close frame.
    End,
}

impl Client {
    /// Upgrades, or answers the status and body of the refusal.
    pub(super) async fn connect(address: SocketAddr, headers: &[(&str, &str)]) -> Result<Self, (u16, String)> {
        let mut request = format!("ws://{address}/graphql").into_client_request().unwrap();
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
        }
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        match client_async(request, stream).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(Error::Http(response)) => {
                let body = response.body().clone().unwrap_or_default();
                Err((response.status().as_u16(), String::from_utf8(body).unwrap()))
            }
            Err(other) => panic!("{other}"),
        }
    }

    pub(super) async fn init(&mut self, token: &str) {
        self.say(json!({ "type": "connection_init", "payload": { "Authorization": token } })).await;
    }

    pub(super) async fn subscribe(&mut self, id: &str, query: &str) {
        self.say(json!({ "type": "subscribe", "id": id, "payload": { "query": query } })).await;
    }

    pub(super) async fn complete(&mut self, id: &str) {
        self.say(json!({ "type": "complete", "id": id })).await;
    }

    pub(super) async fn say(&mut self, message: Value) {
        self.say_raw(Message::text(message.to_string())).await;
    }

    pub(super) async fn say_raw(&mut self, message: Message) {
        self.0.send(message).await.unwrap();
    }

    pub(super) async fn hear(&mut self) -> Heard {
        let next = tokio::time::timeout(Duration::from_secs(2), self.0.next()).await;
        match next.expect("something to hear") {
            Some(Ok(Message::Text(text))) => Heard::Message(serde_json::from_str(&text).unwrap()),
            Some(Ok(Message::Close(Some(frame)))) => Heard::Closed(frame.code.into(), frame.reason.to_string()),
            Some(Ok(Message::Ping(_))) => Heard::Ping,
            Some(Ok(other)) => panic!("unexpected {other:?}"),
            Some(Err(_)) | None => Heard::End,
        }
    }

    pub(super) async fn message(&mut self) -> Value {
        match self.hear().await {
            Heard::Message(message) => message,
            other => panic!("a message was expected, not {other:?}"),
        }
    }

    pub(super) async fn expect_message(&mut self, expected: Value) {
        assert_eq!(self.message().await, expected);
    }

    pub(super) async fn expect_next(&mut self, id: &str, data: Value) {
        self.expect_message(json!({ "type": "next", "id": id, "payload": { "data": data } })).await;
    }

    pub(super) async fn expect_complete(&mut self, id: &str) {
        self.expect_message(json!({ "type": "complete", "id": id })).await;
    }

    /// Expects the `error` that ends `id`; answers its only entry.
    pub(super) async fn expect_error(&mut self, id: &str, code: &str) -> Value {
        let mut message = self.message().await;
        assert_eq!((&message["type"], &message["id"]), (&json!("error"), &json!(id)), "{message}");
        let error = message["payload"][0].take();
        assert_eq!(error["extensions"]["code"], code, "{error}");
        assert!(error["extensions"]["retryable"].is_boolean(), "{error}");
        assert!(error["extensions"]["requestId"].as_str().unwrap().starts_with("request-"), "{error}");
        error
    }

    pub(super) async fn expect_close(&mut self, code: u16, reason: &str) {
        assert_eq!(self.hear().await, Heard::Closed(code, reason.to_owned()));
    }

    /// Expects nothing to have been said before an answer to this ping.
    pub(super) async fn expect_quiet(&mut self) {
        self.say(json!({ "type": "ping" })).await;
        self.expect_message(json!({ "type": "pong" })).await;
    }
}
