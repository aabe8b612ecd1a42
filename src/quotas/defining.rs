//! Operators' own quotas.

use super::{
    Quotas,
    key::{self, QuotaKey},
};
use crate::{
    error::{Error, Result},
    isolation::{Conditions, OperatorScope},
    journal::Entry,
    platform::ids::TenantId,
};

impl Quotas {
    /// Adds a quota to the catalogue. `version` and times of `wanted` are set here.
    pub async fn define(
        &self,
        scope: &OperatorScope,
        mut wanted: QuotaKey,
        conditions: &Conditions,
    ) -> Result<QuotaKey> {
        wanted.check()?;
        let tx = self.isolation.begin_operator(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            return Ok(answered);
        }
        (wanted.version, wanted.created_at, wanted.updated_at) = (1, tx.stamp().at, tx.stamp().at);
        key::insert(&tx, &wanted).await?;
        tx.keep_answer(conditions, &wanted).await?;
        tx.commit([Entry::new("QuotaDefined", "quota", &wanted.key).change(None, Some(&wanted))?]).await?;
        self.tenancy.snapshots().refresh(TenantId::PLATFORM).await;
        Ok(wanted)
    }

    /// Changes a quota by `decide`. What it counts (kind and period) stays.
    pub async fn redefine(
        &self,
        scope: &OperatorScope,
        key: &str,
        conditions: &Conditions,
        decide: impl FnOnce(&mut QuotaKey) + Send,
    ) -> Result<QuotaKey> {
        let tx = self.isolation.begin_operator(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            return Ok(answered);
        }
        let before = key::lock(&tx, key).await?;
        conditions.check_version(before.version)?;
        let mut wanted = before.clone();
        decide(&mut wanted);
        wanted.check()?;
        if (wanted.kind, wanted.period) != (before.kind, before.period) {
            return Err(Error::invalid("kind", "of a quota stays as it was"));
        }
        (wanted.version, wanted.updated_at) = (before.version + 1, tx.stamp().at);
        key::update(&tx, &wanted).await?;
        tx.keep_answer(conditions, &wanted).await?;
        tx.commit([Entry::new("QuotaRedefined", "quota", key).change(Some(&before), Some(&wanted))?]).await?;
        self.tenancy.snapshots().refresh(TenantId::PLATFORM).await;
        Ok(wanted)
    }
}
