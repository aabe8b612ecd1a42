//! What is asked for besides the first proof: a second factor, or to set one up.
//!
//! A challenge says all that there is to know, stamped with a key that only replicas have; nothing of it is in the database. It is good
//! for minutes, and for one member as it is now. It may be answered once, because a code works once.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::proof::{Amr, Method, Proof};
use crate::{
    access::Origin,
    error::{Error, Kind, Result},
    platform::{
        ids::{MemberId, TenantId},
        secret::Secret,
    },
};

const LASTS: TimeDelta = TimeDelta::minutes(10);
const MAX_BYTES: usize = 1024;

/// What is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, async_graphql::Enum)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "SignInFactor")]
pub enum Factor {
    /// A time-based code, or a recovery code: `completeSignIn`.
    Totp,
    /// The tenant asks for a second factor, and the member has none: `enrollTotp`, then `confirmTotp`.
    TotpEnrollment,
}

/// A first proof, and what is missing to it.
#[derive(Clone, Debug)]
pub struct Challenge {
    pub token: Secret,
    pub factor: Factor,
    pub expires_at: DateTime<Utc>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Body {
    tenant: TenantId,
    member: MemberId,
    epoch: i64,
    method: Method,
    amr: Vec<Amr>,
    factor: Factor,
    /// Unix seconds.
    expires: i64,
}

/// Makes challenges, and knows its own again.
pub(super) struct Challenges(Vec<hmac::Key>);

impl Challenges {
    /// `keys` has at least one.
    pub(super) fn new(keys: Vec<hmac::Key>) -> Self {
        Self(keys)
    }

    pub(super) fn issue(&self, proof: &Proof, factor: Factor, now: DateTime<Utc>) -> Challenge {
        let expires_at = now + LASTS;
        let body = Body {
            tenant: proof.tenant,
            member: proof.member,
            epoch: proof.member_epoch,
            method: proof.method,
            amr: proof.amr.clone(),
            factor,
            expires: expires_at.timestamp(),
        };
        let body = serde_json::to_vec(&body).expect("a challenge is plain JSON");
        let tag = hmac::sign(&self.0[0], &body);
        let token = format!("{}.{}", URL_SAFE_NO_PAD.encode(&body), URL_SAFE_NO_PAD.encode(tag));
        Challenge { token: Secret::new(token), factor, expires_at }
    }

    /// The proof behind a challenge, as whoever answers it continues it.
    pub(super) fn read(&self, token: &Secret, wanted: Factor, origin: &Origin, now: DateTime<Utc>) -> Result<Proof> {
        self.open(token)
            .filter(|body| body.factor == wanted && now.timestamp() < body.expires)
            .map(|body| Proof {
                tenant: body.tenant,
                member: body.member,
                member_epoch: body.epoch,
                method: body.method,
                amr: body.amr,
                origin: origin.clone(),
            })
            .ok_or_else(|| Error::new(Kind::Unauthenticated, "this challenge is over; sign in again").at("challenge"))
    }

    fn open(&self, token: &Secret) -> Option<Body> {
        let text = token.expose();
        let (body, tag) = text.split_once('.').filter(|_| text.len() <= MAX_BYTES)?;
        let (body, tag) = (URL_SAFE_NO_PAD.decode(body).ok()?, URL_SAFE_NO_PAD.decode(tag).ok()?);
        let is_ours = self.0.iter().any(|key| hmac::verify(key, &body, &tag).is_ok());
        is_ours.then(|| serde_json::from_slice(&body).ok())?
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hmac::HMAC_SHA256;

    use super::*;

    #[test]
    fn a_challenge_is_good_for_what_it_asks_and_for_minutes() {
        let challenges = Challenges::new(vec![hmac::Key::new(HMAC_SHA256, b"a")]);
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        let proof = Proof {
            tenant: TenantId::generate(),
            member: MemberId::generate(),
            member_epoch: 3,
            method: Method::Password,
            amr: vec![Amr::Pwd],
            origin: Origin::default(),
        };
        let challenge = challenges.issue(&proof, Factor::Totp, now);
        let read = |token: &Secret, factor, now| challenges.read(token, factor, &Origin::default(), now);
        let again = read(&challenge.token, Factor::Totp, now).unwrap();
        assert_eq!((again.tenant, again.member, again.member_epoch), (proof.tenant, proof.member, 3));
        assert!(read(&challenge.token, Factor::TotpEnrollment, now).is_err());
        assert!(read(&challenge.token, Factor::Totp, now + LASTS).is_err());
        let others = Challenges::new(vec![hmac::Key::new(HMAC_SHA256, b"b")]).issue(&proof, Factor::Totp, now);
        let text = challenge.token.expose();
        for forged in [others.token.expose(), "", ".", "a.b", &text[1..], &format!("{text}A")] {
            assert!(read(&Secret::new(forged), Factor::Totp, now).is_err(), "{forged}");
        }
    }
}
