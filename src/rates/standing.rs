//! How a tenant stands with one limit, and how clients are told: header fields and errors.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::json;

use crate::error::{Error, Kind};

pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// A decision, and what is left after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub allowed: bool,
    /// Tokens per second.
    pub limit: i64,
    /// Tokens that may be taken at once.
    pub burst: i64,
    pub burst_seconds: i64,
    /// Whole tokens that could be taken now.
    pub remaining: i64,
    /// Until everything is refilled.
    pub reset_micros: i64,
    /// Until the same would be let in; 0 where it was.
    pub retry_micros: i64,
}

impl Standing {
    /// Adds `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4; structured fields,
    /// RFC 9651) and, on a refusal, `Retry-After`. Both name the same moment then; else `t` is when everything is back.
    pub fn tell(&self, key: &str, headers: &mut HeaderMap) {
        let policy = format!("\"{key}\";q={};w={}", self.burst, self.burst_seconds);
        let reset = if self.allowed { seconds(self.reset_micros) } else { self.retry_after() };
        let limit = format!("\"{key}\";r={};t={reset}", self.remaining);
        for (name, text) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, limit)] {
            // A key of the catalogue is letters, digits and underscores.
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(name, value);
            }
        }
        if !self.allowed {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(self.retry_after()));
        }
    }

    /// Whole seconds to wait, at least one (RFC 9110, section 10.2.3).
    pub fn retry_after(&self) -> i64 {
        seconds(self.retry_micros).max(1)
    }

    /// `rate_limited`, with what the limit is.
    pub fn refusal(&self, key: &str) -> Error {
        let details = json!({ "key": key, "limit": self.limit, "retryAfterSeconds": self.retry_micros as f64 / 1e6 });
        Error::new(Kind::RateLimited, "the tenant has used up what it may have in a second; try again later")
            .with(details)
    }
}

fn seconds(micros: i64) -> i64 {
    micros.saturating_add(999_999) / 1_000_000
}
