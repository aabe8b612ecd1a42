//! Refresh tokens: each works once, and the next comes with its answer (RFC 9700, section 4.14.2).
//!
//! A token names its session and its place in the row of its tokens, and is stamped with a key that only replicas have: there is nothing
//! to guess, and nothing of it in the database but that place. Whoever shows an earlier one ends the session, for two have it. One
//! exception: where the answer of a refresh was lost, the client sends the same token again. For some seconds, and as long as the next one
//! was not used, it is answered with that same next one. That is safe: no second line of tokens begins. If a thief is the one who asks
//! again, both now hold one token, and the session ends as soon as both have used it.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use uuid::Uuid;

use super::{
    Begun, EndReason, Session, Sessions, SignedIn,
    proof::is_multi_factor,
    session::{Worth, worth},
    store,
};
use crate::{
    access::Origin,
    error::{Error, Kind, Result},
    isolation::TenantTx,
    members::{Member, Status},
    platform::{
        ids::{SessionId, TenantId},
        secret::Secret,
    },
};

const VERSION: u8 = 1;
/// Version, tenant, session, generation; behind them 32 bytes of HMAC-SHA-256.
const BODY: usize = 1 + 16 + 16 + 8;
const TAG: usize = 32;

/// Makes refresh tokens, and knows its own again. All replicas have the same keys: the first stamps, others are of before or to come.
pub(super) struct RefreshTokens(Vec<hmac::Key>);

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) tenant: TenantId,
    pub(super) session: SessionId,
    pub(super) generation: i64,
}

impl RefreshTokens {
    /// `keys` has at least one.
    pub(super) fn new(keys: Vec<hmac::Key>) -> Self {
        Self(keys)
    }

    pub(super) fn issue(&self, named: Named) -> Secret {
        let mut bytes = [0; BODY + TAG];
        bytes[0] = VERSION;
        bytes[1..17].copy_from_slice(named.tenant.uuid().as_bytes());
        bytes[17..33].copy_from_slice(named.session.uuid().as_bytes());
        bytes[33..BODY].copy_from_slice(&named.generation.to_be_bytes());
        let tag = hmac::sign(&self.0[0], &bytes[..BODY]);
        bytes[BODY..].copy_from_slice(tag.as_ref());
        Secret::new(URL_SAFE_NO_PAD.encode(bytes))
    }

    pub(super) fn read(&self, token: &Secret) -> Option<Named> {
        let bytes: [u8; BODY + TAG] = URL_SAFE_NO_PAD.decode(token.expose()).ok()?.try_into().ok()?;
        let (body, tag) = bytes.split_at(BODY);
        let is_ours = bytes[0] == VERSION && self.0.iter().any(|key| hmac::verify(key, body, tag).is_ok());
        if !is_ours {
            return None;
        }
        let uuid = |range: std::ops::Range<usize>| Uuid::from_slice(&bytes[range]).ok();
        Some(Named {
            tenant: TenantId::from_uuid(uuid(1..17)?),
            session: SessionId::from_uuid(uuid(17..33)?),
            generation: i64::from_be_bytes(bytes[33..BODY].try_into().ok()?),
        })
    }
}

/// The one answer for every refresh token that is worth nothing, whatever the reason.
fn over() -> Error {
    Error::new(Kind::Unauthenticated, "the session is over; sign in again")
}

impl Sessions {
    /// Goes on with a session: new tokens for the refresh token, which is used up.
    pub async fn refresh(&self, origin: &Origin, token: &Secret) -> Result<SignedIn> {
        let named = self.refresh.read(token).ok_or_else(over)?;
        let ground = self.members.ground(named.tenant).await?.ok_or_else(over)?;
        let now = self.isolation.clock().now();
        if let Some(kind) = ground.closed(now) {
            return Err(Error::new(kind, "nobody of the tenant may sign in now"));
        }
        ground.check_network(origin)?;
        let tx = self.isolation.begin(&Self::signing_in(named.tenant, origin)?).await?;
        let session = store::lock(&tx, named.session).await?.ok_or_else(over)?;
        let member = self.members.find_in(&tx, named.tenant, session.member).await?.ok_or_else(over)?;
        if !stands(&session, &member, now) || session.tenant_epoch != ground.access_epoch() {
            return Err(over());
        }
        let grace = TimeDelta::from_std(self.rules.refresh_grace).unwrap_or_default();
        match worth(&session, named.generation, grace, now) {
            Worth::Nothing => return Err(over()),
            Worth::Reused => return self.end_refused(tx, &session, EndReason::TokenReused).await,
            Worth::Good | Worth::JustUsed => {}
        }
        let policy = self.policy_of(&ground)?;
        let scopes = ground.scopes_of(&member.roles)?;
        if policy.multi_factor.is_required(scopes) && !is_multi_factor(&session.amr) {
            return self.end_refused(tx, &session, EndReason::SecondFactorMissing).await;
        }
        let session = if named.generation == session.generation {
            let session = session.refreshed(&policy, now);
            store::refresh(&tx, &session).await?;
            session
        } else {
            session
        };
        tx.commit_unrecorded("a session goes on").await?;
        self.signed_in(named.tenant, &member, scopes, session)
    }

    async fn end_refused(&self, tx: TenantTx, session: &Session, reason: EndReason) -> Result<SignedIn> {
        tracing::warn!(tenant = %tx.tenant(), session = %session.id, reason = reason.name(), "a session is ended");
        self.end_in(tx, session, reason).await?;
        Err(over())
    }
}

/// Whether the session runs, and its member stands as it did when it began. How the tenant stands is for the caller to know.
pub(super) fn stands(session: &Session, member: &Member, now: chrono::DateTime<chrono::Utc>) -> bool {
    session.is_running(now) && member.status == Status::Active && member.access_epoch == session.member_epoch
}

impl From<SignedIn> for Begun {
    fn from(signed_in: SignedIn) -> Self {
        Self::SignedIn(Box::new(signed_in))
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hmac::HMAC_SHA256;

    use super::*;

    #[test]
    fn a_token_is_known_again_and_no_other_is() {
        let key = |text: &[u8]| hmac::Key::new(HMAC_SHA256, text);
        let (before, now) = (RefreshTokens::new(vec![key(b"a")]), RefreshTokens::new(vec![key(b"b"), key(b"a")]));
        let named = Named { tenant: TenantId::generate(), session: SessionId::generate(), generation: 7 };
        let token = before.issue(named);
        assert_eq!((before.read(&token), now.read(&token)), (Some(named), Some(named)));
        assert_eq!(before.read(&now.issue(named)), None, "a key that it does not have yet");
        let bytes = URL_SAFE_NO_PAD.decode(token.expose()).unwrap();
        for place in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[place] ^= 1;
            assert_eq!(now.read(&Secret::new(URL_SAFE_NO_PAD.encode(forged))), None, "byte {place}");
        }
        for text in ["", "x", &token.expose()[4..]] {
            assert_eq!(now.read(&Secret::new(text)), None);
        }
    }
}
