//! Idempotency keys: the first answer, kept in the same transaction as its effect, is given again.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::FromQueryResult;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::{Context as _, Error, Result},
    platform::{db::Tx, ids::TenantId},
};

/// What a client demands before its change is made.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// The version that the client saw last; `conflict` where the object has another.
    pub expected_version: Option<i64>,
    pub idempotency: Option<IdempotencyKey>,
}

impl Conditions {
    pub fn check_version(&self, version: i64) -> Result<()> {
        match self.expected_version {
            Some(expected) if expected != version => Err(Error::conflict(format!(
                "the object has version {version}, not {expected}; read it again and repeat"
            ))
            .at("expectedVersion")
            .with(serde_json::json!({ "version": version, "expectedVersion": expected }))),
            _ => Ok(()),
        }
    }
}

/// A key, the request that it stands for, and how long it does.
#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    pub key: String,
    pub request_hash: [u8; 32],
    pub retention: TimeDelta,
}

#[derive(FromQueryResult)]
struct Kept {
    request_hash: Vec<u8>,
    answer: Option<serde_json::Value>,
    created_at: DateTime<Utc>,
}

const CLAIM: &str = "
    insert into tenantry.idempotency_keys (tenant_id, subject, key, request_hash, created_at) values ($1, $2, $3, $4, $5)
    on conflict do nothing";
const FIND: &str = "
    select request_hash, answer, created_at from tenantry.idempotency_keys
    where tenant_id = $1 and subject = $2 and key = $3 for update";
const RENEW: &str = "
    update tenantry.idempotency_keys set request_hash = $4, created_at = $5, answer = null
    where tenant_id = $1 and subject = $2 and key = $3";
const ANSWER: &str = "
    update tenantry.idempotency_keys set answer = $4::jsonb where tenant_id = $1 and subject = $2 and key = $3";

/// Whose key it is: the same text of two callers is two keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner<'a> {
    pub(super) tenant: TenantId,
    pub(super) subject: &'a str,
}

/// Takes the key for this transaction, or answers what its first request was answered. A second request with the same
/// key waits here until the first has committed or failed.
pub(super) async fn claim<T: DeserializeOwned>(
    tx: &Tx,
    owner: Owner<'_>,
    key: &IdempotencyKey,
    now: DateTime<Utc>,
) -> Result<Option<T>> {
    let (tenant, subject) = (owner.tenant, owner.subject);
    let claimed = tx
        .execute(
            CLAIM,
            [tenant.into(), subject.into(), key.key.as_str().into(), key.request_hash.to_vec().into(), now.into()],
        )
        .await?;
    if claimed == 1 {
        return Ok(None);
    }
    let row = tx
        .row(FIND, [tenant.into(), subject.into(), key.key.as_str().into()])
        .await?
        .context("find the idempotency key")?;
    let kept = Kept::from_query_result(&row, "")?;
    if now - kept.created_at >= key.retention {
        tx.execute(
            RENEW,
            [tenant.into(), subject.into(), key.key.as_str().into(), key.request_hash.to_vec().into(), now.into()],
        )
        .await?;
        return Ok(None);
    }
    if kept.request_hash != key.request_hash {
        return Err(Error::conflict("this idempotency key was used for another request").at("Idempotency-Key"));
    }
    let answer = kept.answer.context("an idempotency key commits with its answer")?;
    serde_json::from_value(answer).map(Some).context("read the first answer")
}

/// Keeps the answer with the key.
pub(super) async fn answer<T: Serialize>(tx: &Tx, owner: Owner<'_>, key: &IdempotencyKey, answer: &T) -> Result<()> {
    let json = serde_json::to_string(answer).context("write the answer")?;
    tx.execute(ANSWER, [owner.tenant.into(), owner.subject.into(), key.key.as_str().into(), json.into()]).await?;
    Ok(())
}
