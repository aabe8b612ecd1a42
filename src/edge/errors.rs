//! What a client sees of an error: kind, rule, field, request id; never a cause. Logged here, once.

use async_graphql::{ErrorExtensionValues, ServerError};
use serde_json::{Value, json};

use super::request_log;
use crate::error::{Error, Kind};

/// Gives every error of a response its extensions, and keeps at most `most`, in the order of the document: the order in which
/// fields failed would tell which of them took longer.
pub(super) fn present(errors: &mut Vec<ServerError>, request_id: &str, most: usize) {
    errors.sort_by_key(|error| error.locations.first().map(|at| (at.line, at.column)));
    errors.truncate(most);
    for error in errors {
        let known = error.source::<Error>();
        let extensions = match known {
            Some(known) => {
                log(known);
                known.extensions()
            }
            // The engine's own: the document or a variable does not fit the schema.
            None => {
                request_log::note_error(Kind::InvalidInput);
                Error::new(Kind::InvalidInput, "").extensions()
            }
        };
        if let Some(known) = known {
            error.message = known.message().to_owned();
        }
        error.extensions = Some(values(extensions, request_id));
        error.source = None;
    }
}

/// The GraphQL form of an error that ends a request before anything is executed.
pub(super) fn body(error: &Error, request_id: &str) -> Value {
    let mut extensions = error.extensions();
    extensions["requestId"] = request_id.into();
    json!({ "errors": [{ "message": error.message(), "extensions": extensions }] })
}

/// `error!` means that a person must act; what clients do wrong is nobody's alarm.
pub(super) fn log(error: &Error) {
    request_log::note_error(error.kind());
    let kind = error.kind().code();
    match (error.kind(), error.cause()) {
        (Kind::Internal, cause) => tracing::error!(kind, cause = cause.map(tracing::field::display), "request failed"),
        (Kind::Unavailable, cause) => {
            tracing::warn!(kind, cause = cause.map(tracing::field::display), "request failed")
        }
        (_, _) => tracing::debug!(kind, field = error.field(), "request refused"),
    }
    metrics::counter!("tenantry_errors_total", "code" => kind).increment(1);
}

fn values(extensions: Value, request_id: &str) -> ErrorExtensionValues {
    let mut values = ErrorExtensionValues::default();
    if let Value::Object(members) = extensions {
        for (key, value) in members {
            values.set(key, async_graphql::Value::from_json(value).unwrap_or_default());
        }
    }
    values.set("requestId", request_id);
    values
}
