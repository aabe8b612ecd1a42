//! The part of the schema that is about tenants' keys. No key is in it.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};

use super::{KeyLevel, KeyStanding, TenantKeys};
use crate::{
    error::Error,
    tenancy::{
        TenantView,
        graphql::{conditions, enter},
    },
};

/// How a tenant's encryption keys stand. Its secrets are sealed with a data key of its own, which a wrapping key wraps.
#[derive(Clone, Debug)]
pub struct TenantKeyObject(KeyStanding);

#[Object(name = "TenantKey")]
impl TenantKeyObject {
    /// The version of the data key that seals; grows by one with every rotation.
    async fn version(&self) -> i64 {
        self.0.version
    }

    /// Versions that still open, the one that seals included: fewer once everything is sealed anew.
    async fn versions(&self) -> &[i64] {
        &self.0.versions
    }

    /// Who wraps the data keys: `local`, `transit`, `kms` or `pkcs11`.
    async fn provider(&self) -> &str {
        &self.0.provider
    }

    /// How manieth wrapping key it is; grows by one with every rotation, and with a change of provider.
    async fn generation(&self) -> i64 {
        self.0.generation
    }

    /// Data keys that an earlier wrapping key still wraps; 0 once a rotation is complete.
    async fn behind(&self) -> i32 {
        i32::try_from(self.0.behind).unwrap_or(i32::MAX)
    }

    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// When the version that seals was made.
    async fn rotated_at(&self) -> Option<DateTime<Utc>> {
        self.0.rotated_at
    }

    /// When the keys were destroyed: nothing that they sealed opens any more.
    async fn shredded_at(&self) -> Option<DateTime<Utc>> {
        self.0.shredded_at
    }
}

#[derive(Debug, InputObject)]
pub struct RotateTenantKeyInput {
    tenant_id: ID,
    level: KeyLevel,
}

/// The keys after the rotation.
#[derive(Debug, SimpleObject)]
pub struct RotateTenantKeyPayload {
    key: TenantKeyObject,
}

#[derive(Debug, Default)]
pub struct TenantKeyMutation;

#[Object]
impl TenantKeyMutation {
    /// Rotates a tenant's data key, or the key that wraps it, while everything goes on. What the key of before sealed or wrapped is
    /// done anew step by step, and that key is then destroyed.
    ///
    /// Errors: `conflict` where another rotation came in between; `unavailable` names the key provider that fails.
    ///
    /// Scope: `auth:key:write`, operators only.
    async fn rotate_tenant_key(
        &self,
        ctx: &Context<'_>,
        input: RotateTenantKeyInput,
    ) -> Result<RotateTenantKeyPayload> {
        let scope = enter(ctx, "Mutation", &input.tenant_id).await?;
        let standing = handle(ctx)?.rotate(&scope, input.level, &conditions(ctx, None)).await?;
        Ok(RotateTenantKeyPayload { key: TenantKeyObject(standing) })
    }
}

/// A tenant's keys.
#[derive(Clone, Debug)]
pub struct TenantEncryption(pub TenantView);

#[Object]
impl TenantEncryption {
    /// How its encryption keys stand; null before anything was sealed.
    ///
    /// Scope: `auth:tenant:read`.
    async fn encryption_key(&self, ctx: &Context<'_>) -> Result<Option<TenantKeyObject>> {
        let scope = enter(ctx, "Tenant", &self.0.id().into()).await?;
        Ok(Box::pin(handle(ctx)?.standing_of(scope.tenant())).await?.map(TenantKeyObject))
    }
}

fn handle<'a>(ctx: &Context<'a>) -> Result<&'a TenantKeys, Error> {
    ctx.data_opt::<TenantKeys>().ok_or_else(|| Error::internal("the schema has no tenant keys"))
}
