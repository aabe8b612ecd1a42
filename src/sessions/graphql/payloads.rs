//! What sessions answer with in the schema.

use async_graphql::{ID, Object, SimpleObject};
use chrono::{DateTime, Utc};

use crate::{
    platform::{page::PageInfo, secret::Secret},
    sessions::{
        Begun, Challenge, Confirmed, EndReason, Enrollment, Factor, Method, MultiFactor, Policy, Session, SignedIn,
    },
};

/// What somebody signed in for, and until when.
#[derive(Debug)]
pub struct SessionObject(pub(super) Session);

#[Object(name = "Session")]
impl SessionObject {
    /// `sid` of its tokens.
    async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    async fn member_id(&self) -> ID {
        self.0.member.to_string().into()
    }

    /// By what the member was proved at first.
    async fn method(&self) -> Method {
        self.0.method
    }

    /// How it was proved, in values of RFC 8176: `pwd`, `swk`, `otp`, `mfa` …
    async fn amr(&self) -> Vec<&'static str> {
        self.0.amr.iter().map(|amr| amr.name()).collect()
    }

    /// Where it began.
    async fn address(&self) -> Option<&str> {
        self.0.address.as_deref()
    }

    async fn began_at(&self) -> DateTime<Utc> {
        self.0.began_at
    }

    async fn refreshed_at(&self) -> DateTime<Utc> {
        self.0.refreshed_at
    }

    /// When it ends unless it is refreshed before.
    async fn idle_at(&self) -> DateTime<Utc> {
        self.0.idle_at
    }

    /// When it ends in any case.
    async fn expires_at(&self) -> DateTime<Utc> {
        self.0.expires_at
    }

    async fn ended_at(&self) -> Option<DateTime<Utc>> {
        self.0.ended_at
    }

    async fn end_reason(&self) -> Option<EndReason> {
        self.0.end_reason
    }
}

/// Tokens of a session.
#[derive(Debug, SimpleObject)]
pub struct SessionTokens {
    /// For `Authorization: Bearer`. What it is good for is decided at each request, by the roles that the member has then.
    access_token: String,
    access_expires_at: DateTime<Utc>,
    /// For `refreshSession`. It works once: the next one comes with its answer.
    refresh_token: String,
    session: SessionObject,
}

impl From<SignedIn> for SessionTokens {
    fn from(signed_in: SignedIn) -> Self {
        Self {
            access_token: signed_in.access_token.expose().to_owned(),
            access_expires_at: signed_in.access_expires_at,
            refresh_token: signed_in.refresh_token.expose().to_owned(),
            session: SessionObject(signed_in.session),
        }
    }
}

/// What is still to be shown before a session begins.
#[derive(Debug, SimpleObject)]
pub struct SignInChallenge {
    /// To be sent along with what is asked for.
    challenge: String,
    factor: Factor,
    expires_at: DateTime<Utc>,
}

impl From<Challenge> for SignInChallenge {
    fn from(challenge: Challenge) -> Self {
        let Challenge { token, factor, expires_at } = challenge;
        Self { challenge: token.expose().to_owned(), factor, expires_at }
    }
}

/// One of the two.
#[derive(Debug, Default, SimpleObject)]
pub struct SignInPayload {
    tokens: Option<SessionTokens>,
    challenge: Option<SignInChallenge>,
}

impl From<Begun> for SignInPayload {
    fn from(begun: Begun) -> Self {
        match begun {
            Begun::SignedIn(signed_in) => Self { tokens: Some((*signed_in).into()), challenge: None },
            Begun::Challenged(challenge) => Self { tokens: None, challenge: Some(challenge.into()) },
        }
    }
}

#[derive(Debug, SimpleObject)]
pub struct RefreshSessionPayload {
    pub(super) tokens: SessionTokens,
}

#[derive(Debug, SimpleObject)]
pub struct SessionPayload {
    pub(super) session: SessionObject,
}

/// A secret for a device that makes time-based codes (RFC 6238): six digits, SHA-1, every 30 seconds.
#[derive(Debug, SimpleObject)]
pub struct EnrollTotpPayload {
    /// In Base32. Shown this once.
    secret: String,
    /// The same as `otpauth:` address, to be shown as a QR code.
    uri: String,
}

impl From<Enrollment> for EnrollTotpPayload {
    fn from(enrollment: Enrollment) -> Self {
        Self { secret: enrollment.secret.expose().to_owned(), uri: enrollment.uri.expose().to_owned() }
    }
}

#[derive(Debug, SimpleObject)]
pub struct ConfirmTotpPayload {
    /// Each works once in place of a code, where the device is lost. Shown this once.
    recovery_codes: Vec<String>,
    /// Where it was done while signing in: the session's tokens.
    tokens: Option<SessionTokens>,
    challenge: Option<SignInChallenge>,
}

impl From<Confirmed> for ConfirmTotpPayload {
    fn from(confirmed: Confirmed) -> Self {
        let recovery_codes = texts(&confirmed.recovery_codes);
        let SignInPayload { tokens, challenge } = confirmed.begun.map(SignInPayload::from).unwrap_or_default();
        Self { recovery_codes, tokens, challenge }
    }
}

#[derive(Debug, SimpleObject)]
pub struct RenewRecoveryCodesPayload {
    /// As in `confirmTotp`. Shown this once.
    recovery_codes: Vec<String>,
}

impl From<Vec<Secret>> for RenewRecoveryCodesPayload {
    fn from(codes: Vec<Secret>) -> Self {
        Self { recovery_codes: texts(&codes) }
    }
}

fn texts(codes: &[Secret]) -> Vec<String> {
    codes.iter().map(|code| code.expose().to_owned()).collect()
}

#[derive(Debug, SimpleObject)]
pub struct DisableTotpPayload {
    pub(super) member_id: ID,
}

/// What a tenant asks of the sessions of its members.
#[derive(Debug, SimpleObject)]
pub struct SessionPolicy {
    /// How long a session lasts at most.
    session_seconds: i64,
    /// How long it lasts without `refreshSession`.
    idle_seconds: i64,
    /// Of one member; one more ends the oldest.
    most_sessions: i32,
    multi_factor: MultiFactor,
    /// What `expectedVersion` is compared with; 0 where the server's own rules hold.
    version: i64,
    updated_at: Option<DateTime<Utc>>,
}

impl From<Policy> for SessionPolicy {
    fn from(policy: Policy) -> Self {
        let Policy { session_seconds, idle_seconds, most_sessions, multi_factor, version, updated_at } = policy;
        Self { session_seconds, idle_seconds, most_sessions, multi_factor, version, updated_at }
    }
}

#[derive(Debug, SimpleObject)]
pub struct SessionPolicyPayload {
    pub(super) policy: SessionPolicy,
}

#[derive(Debug, SimpleObject)]
pub struct SessionEdge {
    pub(super) cursor: String,
    pub(super) node: SessionObject,
}

#[derive(Debug, SimpleObject)]
pub struct SessionConnection {
    pub(super) edges: Vec<SessionEdge>,
    pub(super) page_info: PageInfo,
}
