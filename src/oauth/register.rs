//! Operations on clients.

use super::{
    OAuth, Owner,
    client::{Client, NewClient, NewSecret},
    client_secret,
    revocation::Death,
    store::{self, Registered},
};
use crate::{
    error::{Error, Kind, Result},
    isolation::Conditions,
    journal::Entry,
    platform::{
        db::Tx,
        ids::{ClientId, TenantId},
        secret::Secret,
    },
    tenancy::Status,
};

/// Clients of one owner that are not disabled. It bounds lists and memory and is no quota: two that are made at once may
/// pass it together.
const MAX_CLIENTS: i64 = 200;
/// Clients that a list shows, disabled ones included; the newest.
const MAX_LISTED: i64 = 1_000;

/// A client that was just made.
#[derive(Clone, Debug)]
pub struct CreatedClient {
    pub client: Client,
    /// Shown this once. `None` for a client without one, and where an idempotency key was used before: the kept answer
    /// has no secret, or whoever reads the table could sign in.
    pub secret: Option<Secret>,
}

impl OAuth {
    /// Makes a client that has at most the scopes of its creator.
    pub async fn create_client(&self, owner: &Owner, new: NewClient, conditions: &Conditions) -> Result<CreatedClient> {
        let parts = &self.0;
        self.check_tenant(owner).await?;
        let tx = owner.begin(&parts.isolation).await?;
        if let Some(client) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(CreatedClient { client, secret: None });
        }
        let new = new.checked(owner.caller(), owner.tenant_id(), tx.stamp().at)?;
        if store::count(&tx, owner.tenant_id()).await? >= MAX_CLIENTS {
            let rule = format!("there are {MAX_CLIENTS} clients; disable those that are not used");
            return Err(Error::new(Kind::QuotaExceeded, rule));
        }
        let (secret, secret_hash) = match new.secret {
            NewSecret::Make => Some(client_secret::generate()),
            NewSecret::None => None,
        }
        .unzip();
        let client = Client {
            id: ClientId::generate(),
            tenant_id: owner.tenant_id(),
            name: new.name,
            scopes: new.scopes,
            roles: new.roles,
            has_secret: secret.is_some(),
            jwks: new.jwks,
            created_at: tx.stamp().at,
            expires_at: new.expires_at,
            disabled_at: None,
            last_used_at: None,
            version: 1,
        };
        let registered = Registered { client, secret_hash };
        store::insert(&tx, &registered).await?;
        let client = registered.client;
        tx.keep_answer(conditions, &client).await?;
        tx.commit([Entry::new("OAuthClientCreated", "oauthClient", client.id).change(None, Some(&client))?]).await?;
        Ok(CreatedClient { client, secret })
    }

    /// Ends a client: it gets no more tokens, and those that it has die at once. There is no way back.
    pub async fn disable_client(&self, owner: &Owner, id: ClientId, conditions: &Conditions) -> Result<Client> {
        let parts = &self.0;
        let tx = owner.begin(&parts.isolation).await?;
        if let Some(client) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(client);
        }
        let before = store::lock(&tx, owner.tenant_id(), id).await?.ok_or_else(Error::not_found)?;
        conditions.check_version(before.version)?;
        if before.disabled_at.is_some() {
            tx.keep_answer(conditions, &before).await?;
            tx.commit_unrecorded("the client was disabled before, and that was recorded").await?;
            return Ok(before);
        }
        let now = tx.stamp().at;
        let client = Client { disabled_at: Some(now), version: before.version + 1, ..before.clone() };
        store::disable(&tx, &client, now).await?;
        tx.keep_answer(conditions, &client).await?;
        let death = Death::Client { tenant: client.tenant_id, client: client.id };
        death.announce(&tx).await?;
        tx.commit([Entry::new("OAuthClientDisabled", "oauthClient", id).change(Some(&before), Some(&client))?]).await?;
        parts.revocations.add(death, now + parts.settings.tokens_live());
        Ok(client)
    }

    /// A client of this owner, in the transaction of who is about to rely on it.
    pub async fn client_of(tx: &Tx, owner: TenantId, id: ClientId) -> Result<Option<Client>> {
        store::lock(tx, owner, id).await
    }

    /// The owner's clients, the newest first.
    pub async fn list_clients(&self, owner: &Owner) -> Result<Vec<Client>> {
        let tx = owner.begin(&self.0.isolation).await?;
        let clients = store::list(&tx, owner.tenant_id(), MAX_LISTED).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(clients)
    }

    /// An operator may name any id: there must be a tenant behind it.
    async fn check_tenant(&self, owner: &Owner) -> Result<()> {
        let Owner::Tenant(scope) = owner else { return Ok(()) };
        let tenant = self.0.tenancy.get(scope).await?;
        debug_assert!(tenant.id != TenantId::PLATFORM);
        if tenant.status == Status::Erased { Err(Error::not_found()) } else { Ok(()) }
    }
}
