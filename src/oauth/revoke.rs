//! Operations on revocations: the check of every request, the revocation endpoint (RFC 7009), and what replicas hear.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{QueryResult, Value};
use serde_json::json;

use super::{
    OAuth, Owner,
    client::Client,
    revocation::{CAPACITY, Death, client_of, jti_hash},
};
use crate::{
    access::{Audience, Binding, Caller, Claims, Effect, Origin, Permission, ScopeSet},
    error::{Context as _, Error, Result},
    isolation::{Access, EVERYWHERE, OperatorScope, Standing, TenantScope},
    journal::Entry,
    platform::ids::TenantId,
};

/// A client needs no scope to give a token of its own back.
const REVOKE: Permission = Permission {
    field: "oauth.revoke",
    name: "token.revoke",
    scope: None,
    audience: Audience::Anyone,
    effect: Effect::Write,
};

const ALL_TOKENS: &str =
    "select tenant_id, jti_hash, expires_at from tenantry.revoked_tokens where expires_at > $1 limit $2";
const ALL_CLIENTS: &str =
    "select tenant_id, client_id, disabled_at from tenantry.oauth_clients where disabled_at > $1 limit $2";
const TOKEN: &str = "select expires_at from tenantry.revoked_tokens where tenant_id = $1 and jti_hash = $2";
const CLIENT: &str = "
    select disabled_at from tenantry.oauth_clients where tenant_id = $1 and client_id = $2 and disabled_at is not null";
const IS_REVOKED: &str = "
    select exists (select from tenantry.revoked_tokens where tenant_id = $1 and jti_hash = $2)
      or exists (select from tenantry.oauth_clients where tenant_id = $1 and client_id = $3 and disabled_at is not null) as revoked";
const INSERT: &str = "
    insert into tenantry.revoked_tokens (tenant_id, jti_hash, revoked_at, expires_at) values ($1, $2, $3, $4)
    on conflict do nothing";

impl OAuth {
    /// Whether a verified token was revoked, or its client disabled. Asks the database where memory cannot tell.
    pub async fn revoked(&self, claims: &Claims) -> Result<bool> {
        if let Some(answer) = self.revoked_from_memory(claims) {
            return Ok(answer);
        }
        let tenant = claims.tenant_id.unwrap_or(TenantId::PLATFORM);
        let values = [tenant.into(), jti_hash(claims).to_vec().into(), client_of(claims).into()];
        let row = self.read_row(tenant, IS_REVOKED, values).await?.context("ask for a revocation")?;
        Ok(row.try_get("", "revoked")?)
    }

    /// The same from memory alone: `None` where the database must be asked. Tokens of other issuers are theirs to revoke.
    pub fn revoked_from_memory(&self, claims: &Claims) -> Option<bool> {
        if claims.iss != self.0.settings.issuer {
            return Some(false);
        }
        // What is dead stays dead; that something lives is known by who hears of every death.
        self.0.revocations.answer(claims).filter(|dead| *dead || self.0.isolation.hearing().is_sure())
    }

    /// Kills one of the client's own tokens; a second time does nothing.
    pub(super) async fn revoke_token(&self, client: &Client, claims: &Claims, origin: Origin) -> Result<()> {
        let parts = &self.0;
        let now = parts.isolation.clock().now();
        let expires_at = DateTime::from_timestamp(claims.exp, 0).context("read the end of a token")?;
        let until = expires_at + TimeDelta::from_std(parts.settings.leeway).unwrap_or_default();
        let death = Death::Token { tenant: client.tenant_id, jti_hash: jti_hash(claims) };
        let tx = revoking(client, origin, now)?.begin(&parts.isolation).await?;
        let values = [client.tenant_id.into(), jti_hash(claims).to_vec().into(), tx.stamp().at.into(), until.into()];
        if tx.execute(INSERT, values).await? == 0 {
            return tx.commit_unrecorded("the token was revoked before, and that was recorded").await;
        }
        death.announce(&tx).await?;
        let what = json!({ "clientId": client.id, "expiresAt": expires_at });
        tx.commit([Entry::new("TokenRevoked", "token", &claims.jti).change(None, Some(&what))?]).await?;
        parts.revocations.add(death, until);
        Ok(())
    }

    /// Takes over the death that a notification names. Other notifications are not ours.
    pub(super) async fn take_over(&self, payload: &str) {
        let Some(death) = Death::parse(payload) else { return };
        match self.read_death(death).await {
            Ok(Some(until)) => self.0.revocations.add(death, until),
            Ok(None) => tracing::warn!(payload, "a revocation was announced that is not in the database"),
            Err(error) => {
                self.0.revocations.distrust();
                tracing::warn!(
                    cause = error.cause().map(tracing::field::display),
                    "a revocation cannot be read; requests ask the database"
                );
            }
        }
    }

    /// Reads everything again where that is needed, and says in the log that it could not.
    pub(super) async fn reload_revocations_or_warn(&self) {
        if let Err(error) = self.reload_revocations().await {
            tracing::warn!(
                cause = error.cause().map(tracing::field::display),
                "revocations cannot be read; requests ask the database"
            );
        }
    }

    /// Fills memory with what may still matter, if it is not known to be complete.
    pub(super) async fn reload_revocations(&self) -> Result<()> {
        let parts = &self.0;
        let Some(connection) = parts.revocations.to_complete() else { return Ok(()) };
        let (now, live) = (parts.isolation.clock().now(), parts.settings.tokens_live());
        let limit = i64::try_from(CAPACITY).unwrap_or(i64::MAX).saturating_add(1);
        let tx = parts.isolation.begin_operator(&OperatorScope::system("revocations")).await?;
        let tokens = tx.rows(ALL_TOKENS, [now.into(), limit.into()]).await?;
        let clients = tx.rows(ALL_CLIENTS, [(now - live).into(), limit.into()]).await?;
        tx.commit_unrecorded("a read").await?;
        let mut deaths = tokens.iter().map(dead_token).collect::<Result<Vec<_>>>()?;
        for row in &clients {
            let client = Death::Client { tenant: row.try_get("", "tenant_id")?, client: row.try_get("", "client_id")? };
            deaths.push((client, row.try_get::<DateTime<Utc>>("", "disabled_at")? + live));
        }
        parts.revocations.complete(connection, deaths);
        Ok(())
    }

    /// Until when an announced death matters; `None` where there is none.
    async fn read_death(&self, death: Death) -> Result<Option<DateTime<Utc>>> {
        let tenant = death.tenant();
        match death {
            Death::Token { jti_hash, .. } => {
                let row = self.read_row(tenant, TOKEN, [tenant.into(), jti_hash.to_vec().into()]).await?;
                Ok(row.map(|row| row.try_get("", "expires_at")).transpose()?)
            }
            Death::Client { client, .. } => {
                let row = self.read_row(tenant, CLIENT, [tenant.into(), client.into()]).await?;
                let disabled_at: Option<DateTime<Utc>> = row.map(|row| row.try_get("", "disabled_at")).transpose()?;
                Ok(disabled_at.map(|at| at + self.0.settings.tokens_live()))
            }
        }
    }

    /// One row, in the tenant's own session or, for the platform's rows, in an operator's.
    async fn read_row<const N: usize>(
        &self,
        tenant: TenantId,
        sql: &str,
        values: [Value; N],
    ) -> Result<Option<QueryResult>> {
        let isolation = &self.0.isolation;
        if tenant.is_platform() {
            let tx = isolation.begin_operator(&OperatorScope::system("revocations")).await?;
            let row = tx.row(sql, values).await?;
            tx.commit_unrecorded("a read").await?;
            return Ok(row);
        }
        let tx = isolation.observe(tenant).await?;
        let row = tx.row(sql, values).await?;
        tx.end().await?;
        Ok(row)
    }
}

/// The client's right to revoke, in its own name. No state of its tenant forbids it, since it only takes away.
fn revoking(client: &Client, origin: Origin, now: DateTime<Utc>) -> Result<Owner> {
    let (subject, tenant) = (client.id.to_string(), client.tenant_id);
    if tenant.is_platform() {
        let binding = Binding::Platform { roles: client.roles.clone(), account: None };
        let caller = Caller { subject, binding, scopes: client.scopes, origin };
        return OperatorScope::enter(&Arc::new(caller), &REVOKE).map(Owner::Platform);
    }
    let binding = Binding::Tenant { id: tenant, epoch: None, issued_at: now.timestamp() };
    let caller = Caller { subject, binding, scopes: ScopeSet::default(), origin };
    let standing = Standing { access: Access::Open, epoch: 1, epoch_began: DateTime::UNIX_EPOCH, network: &EVERYWHERE };
    TenantScope::enter(&Arc::new(caller), tenant, &standing, &REVOKE).map(Owner::Tenant)
}

fn dead_token(row: &QueryResult) -> Result<(Death, DateTime<Utc>)> {
    let hash: Vec<u8> = row.try_get("", "jti_hash")?;
    let jti_hash = hash.try_into().map_err(|_| Error::internal("a hash has 32 bytes"))?;
    Ok((Death::Token { tenant: row.try_get("", "tenant_id")?, jti_hash }, row.try_get("", "expires_at")?))
}
