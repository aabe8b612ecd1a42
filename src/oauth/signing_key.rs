use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::FromQueryResult;
use serde_json::Value;

use crate::{
    access::{OwnKey, OwnKeys, VerificationKey},
    error::{Context as _, Error, Result},
    keys::MasterKey,
};

/// One row of `signing_keys`.
#[derive(Clone, Debug, FromQueryResult)]
pub(super) struct SigningKey {
    pub(super) kid: String,
    pub(super) public_jwk: Value,
    /// Only of the key that signs: the private half of a retired one is destroyed.
    pub(super) sealed_private: Option<Vec<u8>>,
    pub(super) created_at: DateTime<Utc>,
    pub(super) retired_at: Option<DateTime<Utc>>,
    pub(super) revoked_at: Option<DateTime<Utc>>,
}

/// What a key is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Signing,
    /// Its tokens are still accepted.
    Accepted,
    /// It verifies what was signed for the journal, and no tokens.
    Retired,
}

/// What a sealed private key is bound to.
pub(super) fn purpose(kid: &str) -> String {
    format!("signing-key:{kid}")
}

impl SigningKey {
    pub(super) fn usage(&self, now: DateTime<Utc>, overlap: TimeDelta) -> Use {
        match (self.retired_at, self.revoked_at) {
            (None, _) => Use::Signing,
            (Some(retired), None) if now < retired + overlap => Use::Accepted,
            _ => Use::Retired,
        }
    }

    /// When it stops being accepted, where that is still to come.
    fn ends(&self, now: DateTime<Utc>, overlap: TimeDelta) -> Option<DateTime<Utc>> {
        let end = self.retired_at.map(|retired| retired + overlap);
        end.filter(|_| self.usage(now, overlap) == Use::Accepted)
    }

    fn open(&self, master: &MasterKey) -> Result<OwnKey> {
        let sealed = self.sealed_private.as_deref().context("a signing key has a private half")?;
        let key = OwnKey::from_pkcs8(&master.unseal(&purpose(&self.kid), sealed)?, self.created_at)?;
        if key.kid() == self.kid {
            Ok(key)
        } else {
            Err(Error::internal("a signing key is not the one that its row names"))
        }
    }

    fn public(&self) -> Result<VerificationKey> {
        VerificationKey::from_jwk(&self.public_jwk).context("read the public half of a signing key")
    }
}

/// When time alone changes what a key is good for.
pub(super) fn next_change(keys: &[SigningKey], now: DateTime<Utc>, overlap: TimeDelta) -> Option<DateTime<Utc>> {
    keys.iter().filter_map(|key| key.ends(now, overlap)).min()
}

/// The keys as the ring takes them.
pub(super) fn open_all(keys: &[SigningKey], uses: &[Use], master: &MasterKey) -> Result<OwnKeys> {
    let mut own = OwnKeys::default();
    for (key, usage) in keys.iter().zip(uses) {
        match usage {
            Use::Signing => own.signing = Some(key.open(master)?),
            Use::Accepted => own.accepted.push(key.public()?),
            Use::Retired => own.retired.push(key.public()?),
        }
    }
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::clock::Clock;

    const OVERLAP: TimeDelta = TimeDelta::hours(25);

    fn key(retired_at: Option<DateTime<Utc>>, revoked_at: Option<DateTime<Utc>>) -> SigningKey {
        let created_at = DateTime::UNIX_EPOCH;
        SigningKey {
            kid: "k".to_owned(),
            public_jwk: Value::Null,
            sealed_private: None,
            created_at,
            retired_at,
            revoked_at,
        }
    }

    #[test]
    fn a_retired_key_is_accepted_for_the_overlap_unless_it_is_revoked() {
        let now = Clock::default().now();
        let ago = |time: TimeDelta| Some(now - time);
        let usage = |retired, revoked| key(retired, revoked).usage(now, OVERLAP);
        assert_eq!(usage(None, None), Use::Signing);
        assert_eq!(usage(ago(TimeDelta::zero()), None), Use::Accepted);
        assert_eq!(usage(ago(OVERLAP - TimeDelta::seconds(1)), None), Use::Accepted);
        assert_eq!(usage(ago(OVERLAP), None), Use::Retired);
        assert_eq!(usage(ago(TimeDelta::zero()), ago(TimeDelta::zero())), Use::Retired);
    }

    #[test]
    fn the_next_change_is_the_first_end_of_an_overlap() {
        let now = Clock::default().now();
        let hour = TimeDelta::hours(1);
        let keys = [
            key(None, None),
            key(Some(now - hour), None),
            key(Some(now - hour * 2), None),
            key(Some(now - OVERLAP), None),
        ];
        assert_eq!(next_change(&keys, now, OVERLAP), Some(now - hour * 2 + OVERLAP));
        assert_eq!(next_change(&keys[..1], now, OVERLAP), None);
        assert_eq!(next_change(&[key(Some(now), Some(now))], now, OVERLAP), None);
    }

    #[test]
    fn keys_open_with_their_master_key_and_under_their_own_name_only() {
        let folder = std::env::temp_dir();
        let open = |name: &str| {
            let file = folder.join(format!("tenantry-{name}-{}", crate::platform::random::token()));
            let master = MasterKey::open(&file).unwrap();
            std::fs::remove_file(file).unwrap();
            master
        };
        let (master, other) = (open("a"), open("b"));
        let made = OwnKey::generate(2048, DateTime::UNIX_EPOCH).unwrap();
        let row = SigningKey {
            kid: made.kid().to_owned(),
            public_jwk: made.public().jwk(),
            sealed_private: Some(master.seal(&purpose(made.kid()), &made.pkcs8().unwrap())),
            ..key(None, None)
        };
        let own = open_all(std::slice::from_ref(&row), &[Use::Signing], &master).unwrap();
        assert_eq!(own.signing.unwrap().kid(), made.kid());
        assert!(open_all(std::slice::from_ref(&row), &[Use::Signing], &other).is_err());
        assert!(open_all(&[SigningKey { kid: "other".to_owned(), ..row.clone() }], &[Use::Signing], &master).is_err());
        assert_eq!(open_all(&[row], &[Use::Retired], &other).unwrap().retired.len(), 1);
    }
}
