//! Making, loading and changing the keys that sign. Replicas agree through the one active row of `signing_keys`.

use chrono::{DateTime, Utc};
use sea_orm::FromQueryResult as _;
use serde_json::json;

use super::{
    OAuth,
    signing_key::{self, SigningKey, Use, purpose},
};
use crate::{
    access::OwnKey,
    error::{Context as _, Error, Result},
    isolation::{Conditions, OperatorScope, OperatorTx},
    journal::Entry,
    platform::db::Tx,
};

const TASK: &str = "key-rotation";

const ALL: &str = "select * from tenantry.signing_keys order by created_at, kid";
const LOCK_ACTIVE: &str = "select * from tenantry.signing_keys where retired_at is null for update";
const INSERT: &str = "
    insert into tenantry.signing_keys (kid, public_jwk, sealed_private, created_at) values ($1, $2, $3, $4)
    on conflict do nothing";
const RETIRE: &str =
    "update tenantry.signing_keys set retired_at = $1, sealed_private = null where retired_at is null returning kid";
const REVOKE: &str =
    "update tenantry.signing_keys set revoked_at = $1 where retired_at is not null and revoked_at is null";

/// What the ring was last filled with.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    keys: Vec<(String, Use)>,
    signing_since: Option<DateTime<Utc>>,
    /// When a key stops being accepted.
    next_change: Option<DateTime<Utc>>,
}

/// What becomes of the keys before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Previous {
    /// Their tokens live on until they expire.
    Keep,
    /// Their tokens die at once.
    Revoke,
}

impl OAuth {
    /// Loads the keys, and makes the first one where there is none. Replicas that start at once make one between them.
    pub async fn ensure_keys(&self) -> Result<()> {
        let scope = OperatorScope::system("start-up");
        self.load_keys(&scope).await?;
        if self.0.keyring.signing_kid().is_some() {
            return Ok(());
        }
        let key = self.generate_key().await?;
        let tx = self.0.isolation.begin_operator(&scope).await?;
        if self.insert_key(&tx, &key).await? {
            let after = json!({ "kid": key.kid() });
            tx.commit([Entry::new("SigningKeyCreated", "signingKey", key.kid()).change(None, Some(&after))?]).await?;
        } else {
            tx.commit_unrecorded("another replica was faster, and recorded it").await?;
        }
        self.load_keys(&scope).await?;
        self.0.keyring.signing_kid().map(drop).context("load the first signing key")
    }

    /// Fills the ring with what the database has; does nothing where that is there already.
    pub async fn load_keys(&self, scope: &OperatorScope) -> Result<()> {
        let parts = &self.0;
        let mut loaded = parts.loaded.lock().await;
        let tx = parts.isolation.begin_operator(scope).await?;
        let rows = tx.rows(ALL, []).await?;
        tx.commit_unrecorded("a read").await?;
        let keys = rows.iter().map(|row| SigningKey::from_query_result(row, "")).collect::<Result<Vec<_>, _>>()?;
        let (now, overlap) = (parts.isolation.clock().now(), parts.settings.key_overlap);
        let uses: Vec<Use> = keys.iter().map(|key| key.usage(now, overlap)).collect();
        let named: Vec<_> = keys.iter().map(|key| key.kid.clone()).zip(uses.iter().copied()).collect();
        if loaded.keys != named {
            parts.keyring.set_own(
                signing_key::open_all(&keys, &uses, &parts.master).map_err(|error| self.does_not_open(error))?,
            );
        }
        let signing_since = keys.iter().find(|key| key.retired_at.is_none()).map(|key| key.created_at);
        *loaded = Loaded { keys: named, signing_since, next_change: signing_key::next_change(&keys, now, overlap) };
        Ok(())
    }

    /// Signs with a new key from now on, and answers its `kid`. With `revoke_previous` all keys before are worth nothing at
    /// once, those that an earlier rotation had left accepted included: whoever asks for that does not trust them.
    pub async fn rotate(
        &self,
        scope: &OperatorScope,
        revoke_previous: bool,
        conditions: &Conditions,
    ) -> Result<String> {
        let previous = if revoke_previous { Previous::Revoke } else { Previous::Keep };
        let key = self.generate_key().await?;
        let tx = self.0.isolation.begin_operator(scope).await?;
        if let Some(kid) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(kid);
        }
        lock_active(&tx).await?;
        self.replace(tx, key, previous, conditions).await
    }

    /// Rotates by age (`auth.key_rotation`), and follows the clock: keys whose overlap has passed are no longer accepted.
    /// While nobody listens, rotations of other replicas are looked for here. Answers whether it rotated.
    pub async fn rotate_due_keys(&self) -> Result<bool> {
        let parts = &self.0;
        let now = parts.isolation.clock().now();
        let scope = OperatorScope::system(TASK);
        let changes = parts.loaded.lock().await.next_change.is_some_and(|at| at <= now);
        if changes || !parts.revocations.is_listening() {
            self.load_keys(&scope).await?;
        }
        let is_due =
            |since: DateTime<Utc>| !parts.settings.key_rotation.is_zero() && now - since >= parts.settings.key_rotation;
        if !parts.loaded.lock().await.signing_since.is_some_and(is_due) {
            return Ok(false);
        }
        let key = self.generate_key().await?;
        let tx = parts.isolation.begin_operator(&scope).await?;
        let active = lock_active(&tx).await?;
        if !active.as_ref().is_some_and(|active| is_due(active.created_at)) {
            tx.commit_unrecorded("another replica has rotated, and recorded it").await?;
            self.load_keys(&scope).await?;
            return Ok(false);
        }
        self.replace(tx, key, Previous::Keep, &Conditions::default()).await.map(|_| true)
    }

    pub(super) async fn reload_keys_or_warn(&self) {
        if let Err(error) = self.load_keys(&OperatorScope::system(TASK)).await {
            tracing::error!(%error, cause = error.cause().map(tracing::field::display), "signing keys cannot be read again; the schedule repeats it");
            self.0.loaded.lock().await.next_change = Some(self.0.isolation.clock().now());
        }
    }

    /// Retires the active key, which is locked, and puts `key` into its place.
    async fn replace(
        &self,
        tx: OperatorTx,
        key: OwnKey,
        previous: Previous,
        conditions: &Conditions,
    ) -> Result<String> {
        let now = tx.stamp().at;
        let retired = tx.row(RETIRE, [now.into()]).await?;
        let retired: Option<String> = retired.map(|row| row.try_get("", "kid")).transpose()?;
        if previous == Previous::Revoke {
            tx.execute(REVOKE, [now.into()]).await?;
        }
        if !self.insert_key(&tx, &key).await? {
            return Err(Error::conflict("the keys were rotated at the same time; look at them again"));
        }
        let kid = key.kid().to_owned();
        tx.keep_answer(conditions, &kid).await?;
        let before = retired.map(|kid| json!({ "kid": kid }));
        let after = json!({ "kid": kid, "previousRevoked": previous == Previous::Revoke });
        tx.commit([Entry::new("SigningKeyRotated", "signingKey", &kid).change(before.as_ref(), Some(&after))?]).await?;
        self.reload_keys_or_warn().await;
        Ok(kid)
    }

    /// False where another key is active.
    async fn insert_key(&self, tx: &Tx, key: &OwnKey) -> Result<bool> {
        let sealed = self.0.master.seal(&purpose(key.kid()), &key.pkcs8()?);
        let values = [key.kid().into(), key.public().jwk().into(), sealed.into(), key.created_at.into()];
        Ok(tx.execute(INSERT, values).await? == 1)
    }

    /// Before a transaction is begun: it can take seconds.
    async fn generate_key(&self) -> Result<OwnKey> {
        let (bits, now) = (self.0.settings.key_bits, self.0.isolation.clock().now());
        tokio::task::spawn_blocking(move || OwnKey::generate(bits, now)).await.context("make a signing key")?
    }

    fn does_not_open(&self, cause: Error) -> Error {
        let file = self.0.settings.master_key_file.display();
        let rule = format!(
            "{file} does not open the signing key in the database: every replica needs the file that it was sealed with"
        );
        Error::invalid("keys.master_key_file", rule).because(cause)
    }
}

/// The active key, held until the transaction ends: rotations go one after the other. `None` where one came in between.
async fn lock_active(tx: &Tx) -> Result<Option<SigningKey>> {
    let row = tx.row(LOCK_ACTIVE, []).await?;
    Ok(row.map(|row| SigningKey::from_query_result(&row, "")).transpose()?)
}
