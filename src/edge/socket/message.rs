//! The messages of the protocol.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_graphql::{Request, Response, ServerError, Variables};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::{Error, Kind};

/// Ids are held for as long as their operation runs, and written back with every event.
const ID_BYTES: usize = 256;

/// An operation's name, chosen by the client, unique among those that run on its socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct OperationId(Arc<str>);

impl TryFrom<String> for OperationId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.len() {
            1..=ID_BYTES => Ok(Self(text.into())),
            _ => Err("`id` has to be 1 to 256 bytes long"),
        }
    }
}

impl From<OperationId> for String {
    fn from(id: OperationId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a client may say. Any other type is an invalid message, also those that only a server sends.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ClientMessage {
    ConnectionInit {
        payload: Option<Map<String, Value>>,
    },
    Ping {
        payload: Option<Map<String, Value>>,
    },
    Pong {
        #[expect(dead_code, reason = "read to refuse a payload that is no object")]
        payload: Option<Map<String, Value>>,
    },
    Subscribe {
        id: OperationId,
        payload: Subscribe,
    },
    Complete {
        id: OperationId,
    },
}

/// A GraphQL request. Its own type because async-graphql takes variables that are no object for no variables.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Subscribe {
    query: String,
    operation_name: Option<String>,
    variables: Option<Map<String, Value>>,
    extensions: Option<HashMap<String, async_graphql::Value>>,
}

impl From<Subscribe> for Request {
    fn from(subscribe: Subscribe) -> Self {
        let variables = Variables::from_json(Value::Object(subscribe.variables.unwrap_or_default()));
        let mut request = Self::new(subscribe.query).variables(variables);
        request.operation_name = subscribe.operation_name;
        request.extensions = async_graphql::Extensions(subscribe.extensions.unwrap_or_default());
        request
    }
}

/// What we say. Pings are WebSocket frames, which every peer answers, also before `connection_init`.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ServerMessage<'a> {
    ConnectionAck,
    Pong {
        #[serde(skip_serializing_if = "Option::is_none")]
        payload: Option<Map<String, Value>>,
    },
    Next {
        id: &'a OperationId,
        payload: &'a Response,
    },
    Error {
        id: &'a OperationId,
        payload: Vec<Value>,
    },
    Complete {
        id: &'a OperationId,
    },
}

impl ServerMessage<'_> {
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).expect("every key is a string, so it is JSON")
    }
}

/// One of our errors as GraphQL writes it.
pub(super) fn graphql_error(error: &Error, request_id: &str) -> Value {
    let mut extensions = error.extensions();
    extensions["requestId"] = request_id.into();
    json!({ "message": error.message(), "extensions": extensions })
}

/// Whether the request was refused before it ran (GraphQL, section 7.1.2): no data, and no error that points into it.
pub(super) fn is_refusal(response: &Response) -> bool {
    response.data == async_graphql::Value::Null
        && !response.errors.is_empty()
        && response.errors.iter().all(|error| error.path.is_empty())
}

/// An error of async-graphql's, with the extensions that all our errors have. Those it already carries stay.
pub(super) fn refused_request(error: &ServerError, request_id: &str) -> Value {
    let mut value = json!({ "message": error.message });
    if !error.locations.is_empty() {
        value["locations"] = json!(error.locations);
    }
    let mut extensions = json!({
        "code": Kind::InvalidInput.code(),
        "retryable": Kind::InvalidInput.retryable(),
        "requestId": request_id,
    });
    if let (Value::Object(all), Ok(Value::Object(own))) = (&mut extensions, serde_json::to_value(&error.extensions)) {
        all.extend(own);
    }
    value["extensions"] = extensions;
    value
}
