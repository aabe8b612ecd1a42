//! The one public error. Every failure that leaves a capability is an [`Error`]: a [`Kind`] that clients
//! program against, one sentence for a person, and a cause that stays in the log.

use std::borrow::Cow;

use axum::http::StatusCode;
use serde_json::{Value, json};

pub type Result<T, E = Error> = std::result::Result<T, E>;
type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What went wrong, as clients see it in `extensions.code` (lower snake case).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Unauthenticated,
    Forbidden,
    TenantMismatch,
    TenantSuspended,
    TenantArchived,
    NotFound,
    InvalidInput,
    InvalidTransition,
    Conflict,
    QuotaExceeded,
    RateLimited,
    FeatureNotInPlan,
    ResidencyViolation,
    ComplianceViolation,
    Unavailable,
    Internal,
}

impl Kind {
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::TenantMismatch => "tenant_mismatch",
            Self::TenantSuspended => "tenant_suspended",
            Self::TenantArchived => "tenant_archived",
            Self::NotFound => "not_found",
            Self::InvalidInput => "invalid_input",
            Self::InvalidTransition => "invalid_transition",
            Self::Conflict => "conflict",
            Self::QuotaExceeded => "quota_exceeded",
            Self::RateLimited => "rate_limited",
            Self::FeatureNotInPlan => "feature_not_in_plan",
            Self::ResidencyViolation => "residency_violation",
            Self::ComplianceViolation => "compliance_violation",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// Whether the same request may succeed later without being changed.
    pub const fn retryable(self) -> bool {
        matches!(self, Self::RateLimited | Self::Unavailable)
    }

    /// The HTTP status where a whole request (not one GraphQL field) is refused.
    pub const fn http_status(self) -> StatusCode {
        match self {
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden
            | Self::TenantMismatch
            | Self::TenantSuspended
            | Self::TenantArchived
            | Self::FeatureNotInPlan
            | Self::ResidencyViolation
            | Self::ComplianceViolation => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::InvalidInput => StatusCode::BAD_REQUEST,
            Self::InvalidTransition | Self::Conflict => StatusCode::CONFLICT,
            Self::QuotaExceeded | Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// A failure with everything a caller may know (`kind`, `message`, `field`, `details`) and the cause that it may not.
#[derive(Debug)]
pub struct Error(Box<Parts>);

#[derive(Debug)]
struct Parts {
    kind: Kind,
    message: Cow<'static, str>,
    field: Option<String>,
    details: Option<Value>,
    cause: Option<Cause>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Parts { kind, message: message.into(), field: None, details: None, cause: None }))
    }

    /// Input that breaks a rule: `field` as the client wrote it (`slug`, `contacts[0].email`), `rule` as a sentence.
    pub fn invalid(field: impl Into<String>, rule: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::InvalidInput, rule).at(field)
    }

    /// The one answer for what does not exist and for what the caller may not see.
    pub fn not_found() -> Self {
        Self::new(Kind::NotFound, "there is no such object")
    }

    /// The one answer for every token that is missing, malformed, expired, revoked or not ours.
    pub fn unauthenticated() -> Self {
        Self::new(Kind::Unauthenticated, "a valid bearer token is required")
    }

    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Forbidden, message)
    }

    pub fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    pub fn internal(cause: impl Into<Cause>) -> Self {
        Self::new(Kind::Internal, "something went wrong on our side; the request id finds it in the log").because(cause)
    }

    pub fn unavailable(cause: impl Into<Cause>) -> Self {
        Self::new(Kind::Unavailable, "the service cannot answer right now; try again shortly").because(cause)
    }

    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// Machine-readable facts that belong to the kind (for `invalid_transition`: `status` and `allowed`).
    pub fn with(mut self, details: Value) -> Self {
        self.0.details = Some(details);
        self
    }

    pub fn because(mut self, cause: impl Into<Cause>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    pub fn field(&self) -> Option<&str> {
        self.0.field.as_deref()
    }

    pub fn details(&self) -> Option<&Value> {
        self.0.details.as_ref()
    }

    pub fn cause(&self) -> Option<&(dyn std::error::Error + Send + Sync + 'static)> {
        self.0.cause.as_deref()
    }

    /// What a client finds under `extensions`, but for `requestId`, which the edge adds.
    pub fn extensions(&self) -> Value {
        let mut extensions = json!({ "code": self.kind().code(), "retryable": self.kind().retryable() });
        if let Some(field) = self.field() {
            extensions["field"] = field.into();
        }
        if let Some(details) = self.details() {
            extensions["details"] = details.clone();
        }
        extensions
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.field() {
            Some(field) => write!(f, "{field}: {}", self.message()),
            None => f.write_str(self.message()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as _)
    }
}

/// Names the step in which a foreign error happened, and turns it into `internal`.
pub trait Context<T> {
    fn context(self, step: &'static str) -> Result<T>;
}

impl<T, E: Into<Cause>> Context<T> for std::result::Result<T, E> {
    fn context(self, step: &'static str) -> Result<T> {
        self.map_err(|cause| Error::internal(Step { step, cause: cause.into() }))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, step: &'static str) -> Result<T> {
        self.ok_or_else(|| Error::internal(format!("{step}: nothing there")))
    }
}

#[derive(Debug)]
struct Step {
    step: &'static str,
    cause: Cause,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.step, self.cause)
    }
}

impl std::error::Error for Step {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.cause.as_ref())
    }
}
