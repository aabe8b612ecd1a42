//! Whether what is one tenant's opens what another's keys have wrapped and sealed: tried where keys really are.

use super::TenantKeys;
use crate::{
    config::KeyProvider,
    error::Result,
    isolation::Attempt,
    keys::{DataKey, KeyVersion, WrappingKey},
    platform::{ids::TenantId, random},
};

const VERSION: KeyVersion = 1;
const PURPOSE: &str = "probe";

impl TenantKeys {
    /// Tries it at every provider, with keys of two tenants that were made up for it. A provider that fails shows nothing.
    pub async fn try_across(&self, intruder: TenantId, victim: TenantId) -> Vec<Attempt> {
        let mut attempts = sealed(intruder, victim);
        for (provider, _) in self.wrappers.standing() {
            let tried = self.try_at(provider, intruder, victim).await.unwrap_or_else(|error| {
                vec![Attempt::inconclusive(at(provider, "open the other tenant's data key"), error.message())]
            });
            attempts.extend(tried);
        }
        attempts
    }

    /// With wrapping keys that are made for it, and destroyed behind it. KMS bills each key that is made, and keeps it for days:
    /// there the two stay, and are found again by their names.
    async fn try_at(&self, provider: KeyProvider, intruder: TenantId, victim: TenantId) -> Result<Vec<Attempt>> {
        let own = self.wrappers.ensure(provider, intruder, 1).await?;
        let theirs = self.wrappers.ensure(provider, victim, 1).await?;
        let tried = self.try_with(provider, &own, &theirs).await;
        if provider != KeyProvider::Kms {
            self.wrappers.destroy(provider, &own).await?;
            self.wrappers.destroy(provider, &theirs).await?;
        }
        tried
    }

    async fn try_with(&self, provider: KeyProvider, own: &WrappingKey, theirs: &WrappingKey) -> Result<Vec<Attempt>> {
        let key = DataKey::generate();
        let wrapped = self.wrappers.wrap(provider, theirs, VERSION, &key).await?;
        let opened = self.wrappers.try_unwrap(provider, theirs, VERSION, &wrapped).await?;
        if !opened.is_some_and(|opened| opened.is(&key)) {
            let what = at(provider, "open its own data key");
            return Ok(vec![Attempt::inconclusive(what, "it does not open for whom it was wrapped")]);
        }
        let in_own_name = WrappingKey { tenant: own.tenant, ..theirs.clone() };
        let mut ways = vec![("open the other tenant's data key with its own wrapping key", own)];
        // One key serves all tenants of a key file: there the two are the same.
        if own.reference != theirs.reference {
            ways.push(("open the other tenant's data key in its own name", &in_own_name));
        }
        let mut attempts = Vec::with_capacity(ways.len());
        for (what, by) in ways {
            let opened = self.wrappers.try_unwrap(provider, by, VERSION, &wrapped).await?;
            attempts.push(tried(at(provider, what), opened.is_some()));
        }
        Ok(attempts)
    }
}

/// What a data key has sealed, in memory as in a table.
fn sealed(intruder: TenantId, victim: TenantId) -> Vec<Attempt> {
    let (own, theirs) = (DataKey::generate(), DataKey::generate());
    let secret = random::token();
    let sealed = theirs.seal(victim, VERSION, PURPOSE, secret.as_bytes());
    let opens = |key: &DataKey, tenant| key.unseal(tenant, PURPOSE, &sealed);
    if opens(&theirs, victim).is_none_or(|opened| opened.as_slice() != secret.as_bytes()) {
        return vec![Attempt::inconclusive("open its own secret", "it does not open for whom it was sealed")];
    }
    [
        ("open the other tenant's secret with its own data key", opens(&own, victim)),
        ("open the other tenant's secret in its own name", opens(&theirs, intruder)),
    ]
    .map(|(what, opened)| tried(what.to_owned(), opened.is_some()))
    .to_vec()
}

fn tried(what: String, is_opened: bool) -> Attempt {
    if is_opened { Attempt::let_through(what) } else { Attempt::refused(what) }
}

fn at(provider: KeyProvider, what: &str) -> String {
    format!("{what} ({})", provider.name())
}
