//! Whether a client is who it says: from its credentials to its row.

use std::{sync::LazyLock, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Client, OAuth, client_secret,
    credentials::{Credentials, Proof},
    refusal::Refusal,
    settings::Settings,
    sha256,
    store::{self, Registered},
};
use crate::{
    access::{Assertion, AssertionRules, ClientKeys, verify_assertion},
    error::Result,
    isolation::OperatorScope,
    platform::secret::Secret,
};

/// How exact the time of last use is: a busy client's row is written once in this time.
const TOUCH_EVERY: TimeDelta = TimeDelta::minutes(1);

/// The example key of RFC 7517, appendix A.1: stands in for the keys of a client that does not exist.
const NOBODYS_KEYS: &[u8] = br#"{"keys":[{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;

/// What a proof turned out to be worth.
enum Worth {
    Nothing,
    Good,
    /// Good if it was not used before.
    Once(Assertion),
}

impl OAuth {
    /// The client behind these credentials. Unknown, disabled, expired, wrong secret: one answer, by the same way.
    pub(super) async fn authenticate(&self, credentials: &Credentials) -> Result<Client, Refusal> {
        self.prove(credentials).await?.ok_or_else(Refusal::invalid_client)
    }

    async fn prove(&self, credentials: &Credentials) -> Result<Option<Client>> {
        let parts = &self.0;
        let now = parts.isolation.clock().now();
        let tx = parts.isolation.begin_operator(&OperatorScope::system("token-endpoint")).await?;
        let found = match credentials.client_id {
            Some(id) => store::find(&tx, id).await?,
            None => None,
        };
        let worth = match &credentials.proof {
            Proof::Secret(secret) => secret_worth(secret, found.as_ref()),
            Proof::Assertion(assertion) => assertion_worth(assertion, found.as_ref(), &parts.settings, now),
        };
        let Some(client) = found.map(|found| found.client).filter(|client| client.is_in_force(now)) else {
            tx.commit_unrecorded("a read").await?;
            return Ok(None);
        };
        let proven = match worth {
            Worth::Nothing => false,
            Worth::Good => true,
            Worth::Once(assertion) => {
                store::use_assertion(&tx, &client, sha256(assertion.jti.as_bytes()), assertion.exp).await?
            }
        };
        if proven && client.last_used_at.is_none_or(|last| now - last >= TOUCH_EVERY) {
            store::touch(&tx, &client, now).await?;
        }
        tx.commit_unrecorded("bookkeeping: used assertions, and when the client was last used").await?;
        Ok(proven.then_some(client))
    }
}

fn secret_worth(secret: &Secret, found: Option<&Registered>) -> Worth {
    let kept = found.and_then(|found| found.secret_hash.as_ref());
    if client_secret::matches(secret, kept) { Worth::Good } else { Worth::Nothing }
}

/// RFC 7523, section 3: signed by the client with a registered key, for this server, now.
fn assertion_worth(assertion: &Secret, found: Option<&Registered>, settings: &Settings, now: DateTime<Utc>) -> Worth {
    static NOBODYS: LazyLock<Option<ClientKeys>> = LazyLock::new(|| ClientKeys::parse(NOBODYS_KEYS).ok());
    let registered = found
        .and_then(|found| found.client.jwks.as_ref())
        .and_then(|jwks| ClientKeys::parse(jwks.to_string().as_bytes()).ok());
    let Some(keys) = registered.as_ref().or(NOBODYS.as_ref()) else { return Worth::Nothing };
    let client_id = found.map(|found| found.client.id.to_string()).unwrap_or_default();
    let (endpoint, leeway) = (settings.token_endpoint(), settings.leeway.min(Duration::from_secs(30)));
    let audiences = [endpoint.as_str(), settings.issuer.as_str()];
    let rules = AssertionRules { keys, client_id: &client_id, audiences: &audiences, leeway };
    match verify_assertion(assertion.expose(), &rules, now) {
        Ok(good) if registered.is_some() => Worth::Once(good),
        Ok(_) => Worth::Nothing,
        Err(rejected) => {
            tracing::debug!(reason = %rejected.reason(), "a client assertion is refused");
            Worth::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_client_is_held_against_real_keys() {
        assert!(ClientKeys::parse(NOBODYS_KEYS).is_ok());
    }
}
