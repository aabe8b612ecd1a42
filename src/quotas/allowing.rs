//! Overrides and boosts of one tenant.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{
    Quotas,
    allowance::{self, Boost, Override},
    key::{Enforcement, QuotaKey, check_grace, check_limit},
};
use crate::{
    error::{Error, Result},
    isolation::{Conditions, TenantScope},
    journal::Entry,
    platform::ids::BoostId,
};

/// What a contract says differently from the plan.
#[derive(Clone, Debug)]
pub struct NewOverride {
    pub key: String,
    /// None is unlimited.
    pub limit: Option<i64>,
    pub enforcement: Option<Enforcement>,
    pub grace_percent: Option<i32>,
    pub expires_at: Option<DateTime<Utc>>,
    pub reason: String,
}

/// So much more, for a while.
#[derive(Clone, Debug)]
pub struct NewBoost {
    pub key: String,
    pub amount: i64,
    pub expires_at: DateTime<Utc>,
    pub reason: String,
}

impl Quotas {
    /// Sets a tenant's own limit. It may be below what is used: then nothing more is let in until it is not.
    pub async fn set(&self, scope: &TenantScope, wanted: NewOverride, conditions: &Conditions) -> Result<()> {
        let now = self.isolation.clock().now();
        self.key(&wanted.key).await?;
        check_limit("limit", wanted.limit)?;
        check_grace("gracePercent", wanted.grace_percent.unwrap_or_default())?;
        check_reason(&wanted.reason)?;
        if wanted.expires_at.is_some_and(|end| end <= now) {
            return Err(Error::invalid("expiresAt", "must be in the future"));
        }
        self.tenancy.get(scope).await?;
        let tx = self.isolation.begin(scope).await?;
        if tx.first_answer::<Value>(conditions).await?.is_some() {
            return tx.commit_unrecorded("a read").await;
        }
        let before = allowance::lock(&tx, scope.tenant(), &wanted.key).await?;
        conditions.check_version(before.as_ref().map_or(0, |before| before.version))?;
        let set = Override {
            tenant_id: scope.tenant(),
            limit: wanted.limit,
            enforcement: wanted.enforcement,
            grace_percent: wanted.grace_percent,
            expires_at: wanted.expires_at,
            reason: wanted.reason,
            set_by: tx.stamp().actor.name.clone(),
            version: before.as_ref().map_or(1, |before| before.version + 1),
            created_at: before.as_ref().map_or(now, |before| before.created_at),
            updated_at: now,
            key: wanted.key,
        };
        allowance::put(&tx, &set, before.as_ref()).await?;
        tx.keep_answer(conditions, &json!({})).await?;
        tx.commit([Entry::new("QuotaSet", "quota", &set.key).change(before.as_ref(), Some(&set))?]).await?;
        self.tenancy.snapshots().refresh(scope.tenant()).await;
        Ok(())
    }

    /// Goes back to what the plan says. To do so twice changes nothing.
    pub async fn clear(&self, scope: &TenantScope, key: &str, conditions: &Conditions) -> Result<()> {
        self.key(key).await?;
        self.tenancy.get(scope).await?;
        let tx = self.isolation.begin(scope).await?;
        if tx.first_answer::<Value>(conditions).await?.is_some() {
            return tx.commit_unrecorded("a read").await;
        }
        let before = allowance::lock(&tx, scope.tenant(), key).await?;
        conditions.check_version(before.as_ref().map_or(0, |before| before.version))?;
        tx.keep_answer(conditions, &json!({})).await?;
        let Some(before) = before else { return tx.commit_unrecorded("there was nothing to clear").await };
        allowance::remove(&tx, &before).await?;
        tx.commit([Entry::new("QuotaCleared", "quota", key).change(Some(&before), None)?]).await?;
        self.tenancy.snapshots().refresh(scope.tenant()).await;
        Ok(())
    }

    /// Gives a tenant more until a time.
    pub async fn boost(&self, scope: &TenantScope, wanted: NewBoost, conditions: &Conditions) -> Result<Boost> {
        let now = self.isolation.clock().now();
        self.key(&wanted.key).await?;
        if wanted.amount < 1 {
            return Err(Error::invalid("amount", "must be at least 1"));
        }
        if wanted.expires_at <= now {
            return Err(Error::invalid("expiresAt", "must be in the future"));
        }
        check_reason(&wanted.reason)?;
        self.tenancy.get(scope).await?;
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(answered);
        }
        let boost = Boost {
            boost_id: BoostId::generate(),
            key: wanted.key,
            amount: wanted.amount,
            expires_at: wanted.expires_at,
            ended_at: None,
            approved_by: tx.stamp().actor.name.clone(),
            reason: wanted.reason,
            created_at: now,
        };
        allowance::insert_boost(&tx, scope.tenant(), &boost).await?;
        tx.keep_answer(conditions, &boost).await?;
        tx.commit([Entry::new("QuotaBoosted", "quota", &boost.key).change(None, Some(&boost))?]).await?;
        self.tenancy.snapshots().refresh(scope.tenant()).await;
        Ok(boost)
    }

    /// Ends a boost before its time.
    pub async fn end_boost(&self, scope: &TenantScope, boost: BoostId, conditions: &Conditions) -> Result<Boost> {
        let now = self.isolation.clock().now();
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(answered);
        }
        let ended = allowance::end_boost(&tx, scope.tenant(), boost, now).await?.ok_or_else(Error::not_found)?;
        tx.keep_answer(conditions, &ended).await?;
        tx.commit([Entry::new("QuotaBoostEnded", "quota", &ended.key).change(None, Some(&ended))?]).await?;
        self.tenancy.snapshots().refresh(scope.tenant()).await;
        Ok(ended)
    }

    /// Records the end of boosts whose time is over: they count for nothing since then, whether this has run or not.
    pub async fn end_due_boosts(&self) -> Result<()> {
        let now = self.isolation.clock().now();
        let system = crate::isolation::OperatorScope::system("quotas");
        let tx = self.isolation.begin_operator(&system).await?;
        let due = "select tenant_id, boost_id from tenantry.quota_boosts where ended_at is null and expires_at <= $1 limit 100";
        let rows = tx.rows(due, [now.into()]).await?;
        tx.commit_unrecorded("a read").await?;
        for row in rows {
            let scope = TenantScope::system("quotas", row.try_get("", "tenant_id")?);
            match self.end_boost(&scope, row.try_get("", "boost_id")?, &Conditions::default()).await {
                // Another replica was faster.
                Err(error) if error.kind() == crate::error::Kind::NotFound => {}
                ended => drop(ended?),
            }
        }
        Ok(())
    }

    pub(super) async fn key(&self, key: &str) -> Result<QuotaKey> {
        let catalogue = self.tenancy.snapshots().catalogue().await?;
        let found = catalogue.part::<super::QuotaKeys>()?.find(key).cloned();
        found.ok_or_else(|| Error::invalid("key", "names no quota of the catalogue"))
    }
}

fn check_reason(reason: &str) -> Result<()> {
    if reason.trim().is_empty() || reason.chars().count() > 2000 {
        return Err(Error::invalid("reason", "must have 1 to 2000 characters"));
    }
    Ok(())
}
