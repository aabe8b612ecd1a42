//! Why a token is refused, for the log; and the one answer that its sender gets.

use std::sync::Arc;

use crate::{access::claims::InvalidClaims, error::Error};

/// A refused token. Whatever the reason, it becomes [`Error::unauthenticated`]: nothing else may reach the sender.
#[derive(Clone, Debug)]
pub struct Rejected {
    reason: Reason,
    /// The configured issuer whose key is not known.
    issuer: Option<Arc<str>>,
}

/// The first rule that a token broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("the token is longer than 8 KiB")]
    TooLong,
    #[error("the token is not three parts of canonical base64url")]
    Malformed,
    #[error(
        "the header is not JSON with one `alg` and `kid`, has a type that is not ours, or asks for what is never done"
    )]
    Header,
    #[error("the algorithm is not accepted")]
    Algorithm,
    #[error("`kid` is missing or not 1 to 64 of A-Z a-z 0-9 _ -")]
    KeyId,
    #[error(transparent)]
    Claims(#[from] InvalidClaims),
    #[error("the issuer is not configured")]
    UnknownIssuer,
    #[error("the issuer has no such key")]
    UnknownKey,
    #[error("the signature is wrong")]
    Signature,
    #[error("the token is for another audience")]
    Audience,
    #[error("`iss` and `sub` are not the client")]
    Subject,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYetValid,
    #[error("`iat` lies in the future, or not before `exp`")]
    IssuedAt,
    #[error("the token lives longer than its issuer may make it live")]
    Lifetime,
    #[error("the token has neither a tenant nor a role")]
    Unbound,
}

impl Reason {
    /// Label of metrics: one of a fixed set.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Header => "header",
            Self::Algorithm => "algorithm",
            Self::KeyId => "key_id",
            Self::Claims(_) => "claims",
            Self::UnknownIssuer => "unknown_issuer",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Audience => "audience",
            Self::Subject => "subject",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::IssuedAt => "issued_at",
            Self::Lifetime => "lifetime",
            Self::Unbound => "unbound",
        }
    }
}

impl Rejected {
    pub(super) fn unknown_key(issuer: Arc<str>) -> Self {
        Self { reason: Reason::UnknownKey, issuer: Some(issuer) }
    }

    /// For log and metrics only.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The configured issuer that may have published the missing key meanwhile.
    pub fn issuer_to_refresh(&self) -> Option<&str> {
        self.issuer.as_deref()
    }
}

impl From<Reason> for Rejected {
    fn from(reason: Reason) -> Self {
        Self { reason, issuer: None }
    }
}

impl From<InvalidClaims> for Rejected {
    fn from(invalid: InvalidClaims) -> Self {
        Reason::Claims(invalid).into()
    }
}

impl From<Rejected> for Error {
    fn from(rejected: Rejected) -> Self {
        Self::unauthenticated().because(rejected.reason)
    }
}
