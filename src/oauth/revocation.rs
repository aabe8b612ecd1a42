//! Which tokens died before they expired, in memory: asked at every request, kept current by notifications.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};

use super::sha256;
use crate::{
    access::Claims,
    error::Result,
    platform::{
        db::Tx,
        ids::{ClientId, TenantId},
    },
};

/// Dead tokens, and disabled clients, to remember; some 20 MB each. Beyond that the database is asked.
pub(super) const CAPACITY: usize = 200_000;

const ANNOUNCE: &str = "select pg_notify('tenantry', $1)::text";

/// What died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// One token, by the SHA-256 of its `jti`.
    Token { tenant: TenantId, jti_hash: [u8; 32] },
    /// Every token of a client.
    Client { tenant: TenantId, client: ClientId },
}

impl Death {
    /// Tells all replicas when `tx` commits. The journal's own notification says only that a tenant changed; this one names
    /// the row, so that each replica reads one row by its key and not all of a tenant's. It carries ids only: who hears it
    /// believes the row.
    pub(super) async fn announce(self, tx: &Tx) -> Result<()> {
        tx.row(ANNOUNCE, [self.payload().into()]).await?;
        Ok(())
    }

    pub(super) fn payload(self) -> String {
        match self {
            Self::Token { tenant, jti_hash } => format!("revoked-token:{tenant}:{}", URL_SAFE_NO_PAD.encode(jti_hash)),
            Self::Client { tenant, client } => format!("disabled-client:{tenant}:{client}"),
        }
    }

    pub(super) fn parse(payload: &str) -> Option<Self> {
        let (kind, ids) = payload.split_once(':')?;
        let (tenant, id) = ids.split_once(':')?;
        let tenant = tenant.parse().ok()?;
        match kind {
            "revoked-token" => {
                Some(Self::Token { tenant, jti_hash: URL_SAFE_NO_PAD.decode(id).ok()?.try_into().ok()? })
            }
            "disabled-client" => Some(Self::Client { tenant, client: id.parse().ok()? }),
            _ => None,
        }
    }

    pub(super) fn tenant(self) -> TenantId {
        match self {
            Self::Token { tenant, .. } | Self::Client { tenant, .. } => tenant,
        }
    }
}

/// The hash by which a token is known to be revoked.
pub(super) fn jti_hash(claims: &Claims) -> [u8; 32] {
    sha256(claims.jti.as_bytes())
}

/// The client that asked for a token.
pub(super) fn client_of(claims: &Claims) -> Option<ClientId> {
    claims.client_id.as_deref().and_then(|id| id.parse().ok())
}

/// The known deaths. One is never taken back, only forgotten once its tokens have expired: reads that overlap cannot lose one.
#[derive(Debug, Default)]
pub(super) struct Revocations(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    /// With the time from which the entry does not matter any more.
    tokens: HashMap<[u8; 32], DateTime<Utc>>,
    clients: HashMap<ClientId, DateTime<Utc>>,
    /// Counts connections of the listener.
    connection: u64,
    listening: bool,
    /// Whether what is not here is not revoked.
    complete: bool,
    full: bool,
}

impl Revocations {
    /// Whether the token is dead; `None` where only the database knows.
    pub(super) fn answer(&self, claims: &Claims) -> Option<bool> {
        let known = self.read();
        if known.tokens.is_empty() && known.clients.is_empty() {
            return known.complete.then_some(false);
        }
        let dead = known.tokens.contains_key(&jti_hash(claims))
            || client_of(claims).is_some_and(|client| known.clients.contains_key(&client));
        match dead {
            true => Some(true),
            false => known.complete.then_some(false),
        }
    }

    pub(super) fn add(&self, death: Death, until: DateTime<Utc>) {
        self.write().add(death, until);
    }

    /// From now on every death is heard; those before must be read.
    pub(super) fn connect(&self) {
        let mut known = self.write();
        known.connection += 1;
        known.listening = true;
        known.complete = false;
    }

    /// Deaths may be missed from now on.
    pub(super) fn disconnect(&self) {
        let mut known = self.write();
        known.listening = false;
        known.complete = false;
    }

    /// A death was heard of and could not be read.
    pub(super) fn distrust(&self) {
        self.write().complete = false;
    }

    pub(super) fn is_listening(&self) -> bool {
        self.read().listening
    }

    /// The connection under which everything should be read again, if it should.
    pub(super) fn to_complete(&self) -> Option<u64> {
        let known = self.read();
        (known.listening && !known.complete && !known.full).then_some(known.connection)
    }

    /// Takes over everything that was read under `connection`. It is everything only while that connection stands.
    pub(super) fn complete(&self, connection: u64, deaths: Vec<(Death, DateTime<Utc>)>) {
        let mut known = self.write();
        for (death, until) in deaths {
            known.add(death, until);
        }
        known.complete = known.listening && known.connection == connection && !known.full;
    }

    /// Drops what has expired, and with it the reason to ask the database where there was too much to remember.
    pub(super) fn forget_expired(&self, now: DateTime<Utc>) {
        let mut known = self.write();
        known.tokens.retain(|_, until| now < *until);
        known.clients.retain(|_, until| now < *until);
        known.full = known.tokens.len() >= CAPACITY || known.clients.len() >= CAPACITY;
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn add(&mut self, death: Death, until: DateTime<Utc>) {
        let room = match death {
            Death::Token { jti_hash, .. } => insert(&mut self.tokens, jti_hash, until),
            Death::Client { client, .. } => insert(&mut self.clients, client, until),
        };
        if !room {
            self.full = true;
            self.complete = false;
        }
    }
}

/// False where there is no room for another.
fn insert<K: Eq + std::hash::Hash>(known: &mut HashMap<K, DateTime<Utc>>, key: K, until: DateTime<Utc>) -> bool {
    if known.len() >= CAPACITY && !known.contains_key(&key) {
        return false;
    }
    known.insert(key, until);
    true
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::platform::clock::Clock;

    fn claims(jti: &str, client: Option<ClientId>) -> Claims {
        Claims {
            iss: "https://tenantry.example".to_owned(),
            sub: "s".to_owned(),
            aud: vec!["tenantry".to_owned()],
            exp: 2,
            iat: 1,
            nbf: Some(1),
            jti: jti.to_owned(),
            scope: String::new(),
            roles: vec![],
            tenant_id: None,
            epoch: None,
            client_id: client.map(|client| client.to_string()),
            sid: None,
            amr: vec![],
            act: None,
        }
    }

    fn token(jti: &str) -> Death {
        Death::Token { tenant: TenantId::PLATFORM, jti_hash: sha256(jti.as_bytes()) }
    }

    #[test]
    fn memory_answers_for_what_it_knows_and_for_the_rest_only_while_it_hears_everything() {
        let (revocations, later) = (Revocations::default(), Clock::default().now() + TimeDelta::hours(1));
        revocations.add(token("a"), later);
        let answers = || (revocations.answer(&claims("a", None)), revocations.answer(&claims("b", None)));
        assert_eq!(answers(), (Some(true), None));
        revocations.connect();
        assert_eq!(answers(), (Some(true), None), "connected, and nothing read yet");
        let connection = revocations.to_complete().unwrap();
        revocations.complete(connection, vec![]);
        assert_eq!(answers(), (Some(true), Some(false)));
        revocations.disconnect();
        assert_eq!(answers(), (Some(true), None));
    }

    #[test]
    fn what_was_read_under_an_older_connection_is_not_everything() {
        let revocations = Revocations::default();
        revocations.connect();
        let old = revocations.to_complete().unwrap();
        revocations.disconnect();
        revocations.complete(old, vec![]);
        assert_eq!(revocations.answer(&claims("a", None)), None);
        revocations.connect();
        revocations.complete(old, vec![]);
        assert_eq!(revocations.answer(&claims("a", None)), None);
        revocations.complete(revocations.to_complete().unwrap(), vec![]);
        assert_eq!(revocations.answer(&claims("a", None)), Some(false));
        revocations.distrust();
        assert_eq!(revocations.answer(&claims("a", None)), None);
    }

    #[test]
    fn every_token_of_a_disabled_client_is_dead_until_it_would_have_expired() {
        let (revocations, now) = (Revocations::default(), Clock::default().now());
        let (client, other) = (ClientId::generate(), ClientId::generate());
        revocations.connect();
        let connection = revocations.to_complete().unwrap();
        revocations.complete(connection, vec![(Death::Client { tenant: TenantId::generate(), client }, now)]);
        assert_eq!(revocations.answer(&claims("a", Some(client))), Some(true));
        assert_eq!(revocations.answer(&claims("a", Some(other))), Some(false));
        revocations.forget_expired(now - TimeDelta::microseconds(1));
        assert_eq!(revocations.answer(&claims("a", Some(client))), Some(true));
        revocations.forget_expired(now);
        assert_eq!(revocations.answer(&claims("a", Some(client))), Some(false));
    }

    #[test]
    fn too_many_are_left_to_the_database_until_some_expire() {
        let (revocations, now) = (Revocations::default(), Clock::default().now());
        revocations.connect();
        revocations.complete(revocations.to_complete().unwrap(), vec![]);
        for index in 0..CAPACITY {
            revocations.add(token(&index.to_string()), now);
        }
        assert_eq!(revocations.answer(&claims("x", None)), Some(false));
        revocations.add(token("x"), now);
        assert_eq!(revocations.answer(&claims("x", None)), None);
        assert_eq!(revocations.to_complete(), None);
        revocations.forget_expired(now);
        assert!(revocations.to_complete().is_some());
    }

    #[test]
    fn an_announcement_names_the_row() {
        let tenant = TenantId::generate();
        for death in [
            token("a"),
            Death::Token { tenant, jti_hash: [7; 32] },
            Death::Client { tenant, client: ClientId::generate() },
        ] {
            assert_eq!(Death::parse(&death.payload()), Some(death));
        }
        for payload in [
            "",
            "a",
            "revoked-token:x:y",
            "disabled-client:1",
            &tenant.to_string(),
            &format!("revoked-token:{tenant}:AAAA"),
        ] {
            assert_eq!(Death::parse(payload), None, "{payload}");
        }
    }
}
