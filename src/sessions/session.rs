//! What a session is, and what it is still worth.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{
    policy::Policy,
    proof::{Amr, Method},
};
use crate::platform::ids::{MemberId, SessionId};

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, async_graphql::Enum)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "SessionEndReason")]
pub enum EndReason {
    /// By its member.
    SignedOut,
    /// By somebody who may end sessions.
    Ended,
    /// The member has begun more than it may have.
    Replaced,
    /// A refresh token was used again: somebody else may have it.
    TokenReused,
    /// The tenant's rules ask for a second factor that it did not begin with.
    SecondFactorMissing,
}

impl EndReason {
    pub const fn name(self) -> &'static str {
        match self {
            Self::SignedOut => "SIGNED_OUT",
            Self::Ended => "ENDED",
            Self::Replaced => "REPLACED",
            Self::TokenReused => "TOKEN_REUSED",
            Self::SecondFactorMissing => "SECOND_FACTOR_MISSING",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::SignedOut, Self::Ended, Self::Replaced, Self::TokenReused, Self::SecondFactorMissing]
            .into_iter()
            .find(|reason| reason.name() == name)
    }
}

/// One session of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    pub id: SessionId,
    pub member: MemberId,
    pub method: Method,
    pub amr: Vec<Amr>,
    /// Access epochs that it began under.
    pub tenant_epoch: i64,
    pub member_epoch: i64,
    /// Of the refresh token that is good.
    #[serde(skip)]
    pub generation: i64,
    /// Where it began.
    pub address: Option<String>,
    pub began_at: DateTime<Utc>,
    pub refreshed_at: DateTime<Utc>,
    /// When it ends unless it is refreshed.
    pub idle_at: DateTime<Utc>,
    /// When it ends in any case.
    pub expires_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
    pub end_reason: Option<EndReason>,
}

impl Session {
    /// Whether its own times and marks let it go on.
    pub(super) fn is_running(&self, now: DateTime<Utc>) -> bool {
        self.ended_at.is_none() && now < self.idle_at && now < self.expires_at
    }

    pub(super) fn ended(&self, reason: EndReason, now: DateTime<Utc>) -> Self {
        Self { ended_at: Some(now), end_reason: Some(reason), ..self.clone() }
    }

    /// One refresh on, held to today's rules.
    pub(super) fn refreshed(&self, policy: &Policy, now: DateTime<Utc>) -> Self {
        let expires_at = self.expires_at.min(self.began_at + policy.length());
        let idle_at = (now + policy.idle()).min(expires_at);
        Self { generation: self.generation + 1, refreshed_at: now, idle_at, expires_at, ..self.clone() }
    }
}

/// What a refresh token of this generation is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// The one that is good.
    Good,
    /// The one before, so shortly after that its answer may have been lost: it is answered the same again.
    JustUsed,
    /// Used before. Who has it may have stolen it, or been stolen from.
    Reused,
    /// Never made.
    Nothing,
}

pub(super) fn worth(session: &Session, generation: i64, grace: TimeDelta, now: DateTime<Utc>) -> Worth {
    match session.generation - generation {
        0 => Worth::Good,
        1 if now < session.refreshed_at + grace => Worth::JustUsed,
        1.. => Worth::Reused,
        _ => Worth::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::policy::MultiFactor;

    fn session() -> Session {
        let at = DateTime::UNIX_EPOCH;
        Session {
            id: SessionId::generate(),
            member: MemberId::generate(),
            method: Method::Password,
            amr: vec![Amr::Pwd],
            tenant_epoch: 1,
            member_epoch: 1,
            generation: 5,
            address: None,
            began_at: at,
            refreshed_at: at,
            idle_at: at + TimeDelta::hours(1),
            expires_at: at + TimeDelta::hours(12),
            ended_at: None,
            end_reason: None,
        }
    }

    #[test]
    fn a_session_lasts_until_the_first_of_its_times() {
        let (session, at) = (session(), DateTime::UNIX_EPOCH);
        assert!(session.is_running(at + TimeDelta::minutes(59)) && !session.is_running(at + TimeDelta::hours(1)));
        let ended = session.ended(EndReason::SignedOut, at);
        assert!(!ended.is_running(at));
        let policy = Policy {
            session_seconds: 7_200,
            idle_seconds: 5_400,
            most_sessions: 1,
            multi_factor: MultiFactor::Off,
            version: 1,
            updated_at: None,
        };
        let on = session.refreshed(&policy, at + TimeDelta::minutes(50));
        assert_eq!((on.generation, on.expires_at, on.idle_at), (6, at + TimeDelta::hours(2), at + TimeDelta::hours(2)));
    }

    #[test]
    fn a_token_works_once_and_a_moment_longer() {
        let (session, at, grace) = (session(), DateTime::UNIX_EPOCH, TimeDelta::seconds(10));
        let worth = |generation, seconds| worth(&session, generation, grace, at + TimeDelta::seconds(seconds));
        assert_eq!(worth(5, 3_000), Worth::Good);
        assert_eq!((worth(4, 9), worth(4, 10)), (Worth::JustUsed, Worth::Reused));
        assert_eq!((worth(3, 0), worth(0, 0), worth(6, 0)), (Worth::Reused, Worth::Reused, Worth::Nothing));
    }
}
