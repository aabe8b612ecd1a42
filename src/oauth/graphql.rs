//! The part of the schema that is about clients of the token endpoint, and signing keys.

use async_graphql::{Context, Enum, ID, InputObject, Json, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{Client, CreatedClient, NewClient, NewSecret, OAuth, Owner};
use crate::{
    access::{Role, Scope, ScopeSet},
    error::Error,
    platform::ids::ClientId,
    tenancy::{
        TenantView,
        graphql::{conditions, enter, enter_own_or, enter_platform},
    },
};

/// A service that gets tokens at `/oauth/token` (RFC 6749, client credentials).
#[derive(Clone, Debug)]
pub struct OAuthClientObject(Client);

#[Object(name = "OAuthClient")]
impl OAuthClientObject {
    /// Its `client_id`.
    async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// Whose it is; null for a client of the platform.
    async fn tenant_id(&self) -> Option<ID> {
        (!self.0.tenant_id.is_platform()).then(|| self.0.tenant_id.into())
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    /// What its tokens may be good for.
    async fn scopes(&self) -> Vec<&'static str> {
        self.0.scopes.iter().map(Scope::name).collect()
    }

    /// Operator roles of a client of the platform.
    async fn roles(&self) -> Vec<&'static str> {
        self.0.roles.iter().map(|role| role.name()).collect()
    }

    /// How it can prove itself.
    async fn auth_methods(&self) -> Vec<OAuthAuthMethod> {
        let secret =
            self.0.has_secret.then_some([OAuthAuthMethod::ClientSecretBasic, OAuthAuthMethod::ClientSecretPost]);
        secret.into_iter().flatten().chain(self.0.jwks.is_some().then_some(OAuthAuthMethod::PrivateKeyJwt)).collect()
    }

    /// Its public keys (RFC 7517).
    async fn jwks(&self) -> Option<Json<&Value>> {
        self.0.jwks.as_ref().map(Json)
    }

    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// When it stops working by itself; its tokens do not outlive it.
    async fn expires_at(&self) -> Option<DateTime<Utc>> {
        self.0.expires_at
    }

    async fn disabled_at(&self) -> Option<DateTime<Utc>> {
        self.0.disabled_at
    }

    /// When it last proved itself, accurate to a minute.
    async fn last_used_at(&self) -> Option<DateTime<Utc>> {
        self.0.last_used_at
    }

    /// Grows by one with every change; what `expectedVersion` is compared with.
    async fn version(&self) -> i64 {
        self.0.version
    }
}

/// How a client proves itself (RFC 8414, `token_endpoint_auth_methods_supported`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "OAuthAuthMethod")]
pub enum OAuthAuthMethod {
    /// Id and secret in the header `Authorization` (RFC 6749, section 2.3.1).
    ClientSecretBasic,
    /// Id and secret in the body (RFC 6749, section 2.3.1).
    ClientSecretPost,
    /// A signed assertion (RFC 7523, section 2.2).
    PrivateKeyJwt,
}

#[derive(Debug, InputObject)]
#[graphql(name = "CreateOAuthClientInput")]
pub struct CreateOAuthClientInput {
    /// Whose it will be. Where not given: the tenant that your token is bound to; for operators the platform.
    tenant_id: Option<ID>,
    /// For people; 1 to 200 characters.
    name: String,
    /// What its tokens may be good for, such as `auth:tenant:read`: no more than you have yourself. A client of the platform
    /// has those of its roles where none are named.
    #[graphql(default)]
    scopes: Vec<String>,
    /// Operator roles; for a client of the platform, which needs one at least.
    #[graphql(default)]
    roles: Vec<String>,
    /// Whether it gets a secret. Where not given: only if there are no `jwks`.
    secret: Option<bool>,
    /// A JSON Web Key Set with its 1 to 16 public keys (RSA of 2048 bits or more, or P-256), for `private_key_jwt`.
    jwks: Option<Json<Value>>,
    /// When it stops working by itself.
    expires_at: Option<DateTime<Utc>>,
}

/// A client that was just made.
#[derive(Debug, SimpleObject)]
#[graphql(name = "CreateOAuthClientPayload")]
pub struct CreateOAuthClientPayload {
    client: OAuthClientObject,
    /// Shown this once and kept nowhere. Null for a client without a secret, and where this answer is given again for an
    /// `Idempotency-Key` that was used before: disable the client and make another if the first answer was lost.
    secret: Option<String>,
}

#[derive(Debug, InputObject)]
#[graphql(name = "DisableOAuthClientInput")]
pub struct DisableOAuthClientInput {
    id: ID,
    /// Whose it is. Where not given: the tenant that your token is bound to; for operators the platform.
    tenant_id: Option<ID>,
    /// The version that you saw last: `conflict` if there is another.
    expected_version: Option<i64>,
}

/// The client after it was disabled.
#[derive(Debug, SimpleObject)]
#[graphql(name = "DisableOAuthClientPayload")]
pub struct DisableOAuthClientPayload {
    client: OAuthClientObject,
}

#[derive(Debug, InputObject)]
pub struct RotateSigningKeyInput {
    /// Whether tokens that were signed with any key before die at once; else they live until they expire.
    #[graphql(default)]
    revoke_previous: bool,
}

#[derive(Debug, SimpleObject)]
pub struct RotateSigningKeyPayload {
    /// Name of the key that signs from now on; its public half is at `/.well-known/jwks.json`.
    kid: String,
}

#[derive(Debug, Default)]
pub struct OAuthQuery;

#[Object]
impl OAuthQuery {
    /// The clients of a tenant, the newest first; without an id those of the tenant that your token is bound to, and for
    /// operators those of the platform.
    ///
    /// Scope: `auth:client:read`.
    #[graphql(name = "oauthClients")]
    async fn oauth_clients(&self, ctx: &Context<'_>, tenant_id: Option<ID>) -> Result<Vec<OAuthClientObject>> {
        list(ctx, &owner(ctx, "Query", tenant_id.as_ref()).await?).await
    }
}

#[derive(Debug, Default)]
pub struct OAuthMutation;

#[Object]
impl OAuthMutation {
    /// Makes a client for a service. Its secret is in this answer, and never shown again.
    ///
    /// Errors: `invalid_input` with the field and its rule; `forbidden` for scopes that you do not have yourself;
    /// `quota_exceeded` at 200 clients that are not disabled.
    ///
    /// Scope: `auth:client:write`.
    #[graphql(name = "createOAuthClient")]
    async fn create_oauth_client(
        &self,
        ctx: &Context<'_>,
        input: CreateOAuthClientInput,
    ) -> Result<CreateOAuthClientPayload> {
        let owner = owner(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let CreatedClient { client, secret } =
            handle(ctx)?.create_client(&owner, input.try_into()?, &conditions(ctx, None)).await?;
        let secret = secret.map(|secret| secret.expose().to_owned());
        Ok(CreateOAuthClientPayload { client: OAuthClientObject(client), secret })
    }

    /// Ends a client for good: it gets no more tokens, and those that it has die at once.
    ///
    /// Scope: `auth:client:write`.
    #[graphql(name = "disableOAuthClient")]
    async fn disable_oauth_client(
        &self,
        ctx: &Context<'_>,
        input: DisableOAuthClientInput,
    ) -> Result<DisableOAuthClientPayload> {
        let owner = owner(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let id: ClientId = input.id.parse().map_err(|_| Error::not_found())?;
        let client = handle(ctx)?.disable_client(&owner, id, &conditions(ctx, input.expected_version)).await?;
        Ok(DisableOAuthClientPayload { client: OAuthClientObject(client) })
    }

    /// Signs tokens with a new key from now on.
    ///
    /// Scope: `auth:key:write`, operators only.
    async fn rotate_signing_key(
        &self,
        ctx: &Context<'_>,
        input: RotateSigningKeyInput,
    ) -> Result<RotateSigningKeyPayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let kid = handle(ctx)?.rotate(&scope, input.revoke_previous, &conditions(ctx, None)).await?;
        Ok(RotateSigningKeyPayload { kid })
    }
}

/// A tenant's clients.
#[derive(Clone, Debug)]
pub struct TenantClients(pub TenantView);

#[Object]
impl TenantClients {
    /// Its clients of the token endpoint, the newest first.
    ///
    /// Scope: `auth:client:read`.
    #[graphql(name = "oauthClients")]
    async fn oauth_clients(&self, ctx: &Context<'_>) -> Result<Vec<OAuthClientObject>> {
        Box::pin(list(ctx, &Owner::Tenant(enter(ctx, "Tenant", &self.0.id().into()).await?))).await
    }
}

impl TryFrom<CreateOAuthClientInput> for NewClient {
    type Error = Error;

    fn try_from(input: CreateOAuthClientInput) -> Result<Self, Error> {
        let unknown = |field: &str, index: usize| Error::invalid(format!("{field}[{index}]"), "is unknown");
        let scopes = input
            .scopes
            .iter()
            .enumerate()
            .map(|(index, name)| Scope::parse(name).ok_or_else(|| unknown("scopes", index)));
        let roles = input
            .roles
            .iter()
            .enumerate()
            .map(|(index, name)| Role::parse(name).ok_or_else(|| unknown("roles", index)));
        let with_secret = input.secret.unwrap_or(input.jwks.is_none());
        Ok(Self {
            scopes: scopes.collect::<Result<ScopeSet, Error>>()?,
            roles: roles.collect::<Result<Vec<_>, Error>>()?,
            name: input.name,
            secret: if with_secret { NewSecret::Make } else { NewSecret::None },
            jwks: input.jwks.map(|Json(jwks)| jwks),
            expires_at: input.expires_at,
        })
    }
}

async fn list(ctx: &Context<'_>, owner: &Owner) -> Result<Vec<OAuthClientObject>> {
    Ok(handle(ctx)?.list_clients(owner).await?.into_iter().map(OAuthClientObject).collect())
}

/// Whose clients are meant, for what the present field of `type_name` asks.
async fn owner(ctx: &Context<'_>, type_name: &str, tenant: Option<&ID>) -> Result<Owner, Error> {
    match enter_own_or(ctx, type_name, tenant).await? {
        Some(scope) => Ok(Owner::Tenant(scope)),
        None => enter_platform(ctx, type_name).map(Owner::Platform),
    }
}

fn handle<'a>(ctx: &Context<'a>) -> Result<&'a OAuth, Error> {
    ctx.data_opt::<OAuth>().ok_or_else(|| Error::internal("the schema has no OAuth"))
}
