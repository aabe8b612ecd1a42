//! How the OAuth endpoints refuse (RFC 6749, section 5.2): `error`, `error_description`, and our own code beside them.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::error::{Error, Kind};

/// The codes of RFC 6749, section 5.2, and those of section 4.1.2.1 for what is our own fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    InvalidRequest,
    InvalidClient,
    InvalidGrant,
    InvalidScope,
    UnauthorizedClient,
    UnsupportedGrantType,
    TemporarilyUnavailable,
    ServerError,
}

/// A refused request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: Code,
    /// Printable ASCII without `"` and `\` (RFC 6749, section 5.2).
    description: &'static str,
    kind: Kind,
}

impl Code {
    const fn name(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::InvalidScope => "invalid_scope",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::ServerError => "server_error",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::InvalidClient => StatusCode::UNAUTHORIZED,
            Self::TemporarilyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl Refusal {
    pub(super) const fn invalid_request(description: &'static str) -> Self {
        Self { code: Code::InvalidRequest, description, kind: Kind::InvalidInput }
    }

    /// The one answer for a client that does not exist, is disabled or expired, and for a wrong secret or assertion.
    pub(super) const fn invalid_client() -> Self {
        let description = "the client is unknown, or did not prove who it is";
        Self { code: Code::InvalidClient, description, kind: Kind::Unauthenticated }
    }

    pub(super) const fn invalid_scope(description: &'static str) -> Self {
        Self { code: Code::InvalidScope, description, kind: Kind::Forbidden }
    }

    pub(super) const fn unsupported_grant_type() -> Self {
        let description = "grant_type must be client_credentials";
        Self { code: Code::UnsupportedGrantType, description, kind: Kind::InvalidInput }
    }

    /// A token of somebody else (RFC 6749, section 5.2: "was issued to another client").
    pub(super) const fn foreign_token() -> Self {
        Self { code: Code::InvalidGrant, description: "the token was issued to another client", kind: Kind::Forbidden }
    }

    /// A proven client whose tenant may not sign in now; `kind` says why.
    pub(super) const fn tenant_closed(kind: Kind) -> Self {
        let description = match kind {
            Kind::TenantSuspended => "the tenant is suspended",
            Kind::TenantArchived => "the tenant is archived",
            _ => "the tenant gives no access",
        };
        Self { code: Code::UnauthorizedClient, description, kind }
    }

    /// A proven client whose tenant lets nobody in from there.
    pub(super) const fn network() -> Self {
        let description = "the tenant's network rules do not let in the address that this comes from";
        Self { code: Code::UnauthorizedClient, description, kind: Kind::Forbidden }
    }

    /// Label of metrics, and the value of `error`.
    pub(super) const fn name(&self) -> &'static str {
        self.code.name()
    }
}

/// A failure on our side. Its cause is logged here, where it is handled.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let cause = error.cause().map(tracing::field::display);
        if error.kind() == Kind::Unavailable {
            tracing::warn!(%error, cause, "an OAuth request cannot be answered");
            let description = "the service cannot answer right now; try again shortly";
            return Self { code: Code::TemporarilyUnavailable, description, kind: Kind::Unavailable };
        }
        tracing::error!(%error, cause, "an OAuth request failed");
        Self { code: Code::ServerError, description: "something went wrong on our side", kind: Kind::Internal }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body =
            json!({ "error": self.code.name(), "error_description": self.description, "code": self.kind.code() });
        let mut response = (self.code.status(), Json(body)).into_response();
        let headers = response.headers_mut();
        match self.code {
            Code::InvalidClient => {
                headers.insert(
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static("Basic realm=\"tenantry\", charset=\"UTF-8\""),
                );
            }
            Code::TemporarilyUnavailable => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_client_that_is_not_proven_is_asked_to_prove_itself() {
        let response = Refusal::invalid_client().into_response();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert!(response.headers()[header::WWW_AUTHENTICATE].to_str().unwrap().starts_with("Basic "));
        let response = Refusal::invalid_request("x").into_response();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert!(!response.headers().contains_key(header::WWW_AUTHENTICATE));
    }

    #[test]
    fn what_fails_here_says_nothing_of_why() {
        let refusal = Refusal::from(Error::internal("password of the database"));
        assert_eq!((refusal.code, refusal.description), (Code::ServerError, "something went wrong on our side"));
        assert_eq!(Refusal::from(Error::unavailable("down")).code.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
