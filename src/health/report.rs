//! Operations on outages.

use chrono::{DateTime, Utc};

use super::{
    Health,
    outage::{NewOutage, Outage},
    store,
};
use crate::{
    error::{Error, Result},
    isolation::{Conditions, TenantScope, TenantTx},
    journal::Entry,
    platform::{
        ids::OutageId,
        page::{Page, PageRequest},
    },
    tenancy::Status,
};

impl Health {
    /// Notes an outage of the tenant.
    pub async fn report(&self, scope: &TenantScope, new: NewOutage, conditions: &Conditions) -> Result<Outage> {
        // An operator may name any id: there must be a tenant behind it.
        if self.tenancy.get(scope).await?.status == Status::Erased {
            return Err(Error::not_found());
        }
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(answered);
        }
        let outage = new.checked(scope.tenant(), tx.stamp())?;
        store::insert(&tx, &outage).await?;
        tx.keep_answer(conditions, &outage).await?;
        tx.commit([Entry::new("OutageReported", "outage", outage.id).change(None, Some(&outage))?]).await?;
        Ok(outage)
    }

    /// The outage is over: since `ended_at`, or since now.
    pub async fn end(
        &self,
        scope: &TenantScope,
        outage: OutageId,
        ended_at: Option<DateTime<Utc>>,
        conditions: &Conditions,
    ) -> Result<Outage> {
        let tx = self.isolation.begin(scope).await?;
        change(tx, outage, conditions, "OutageEnded", |outage, now| outage.end(ended_at.unwrap_or(now), now)).await
    }

    /// The report was a mistake: it counts for nothing, in past months, too. To do so twice changes nothing.
    pub async fn withdraw(&self, scope: &TenantScope, outage: OutageId, conditions: &Conditions) -> Result<Outage> {
        let tx = self.isolation.begin(scope).await?;
        change(tx, outage, conditions, "OutageWithdrawn", |outage, now| {
            outage.withdrawn_at.get_or_insert(now);
            Ok(())
        })
        .await
    }

    /// The tenant's outages, withdrawn ones included; what began last comes first.
    pub async fn outages(&self, scope: &TenantScope, request: &PageRequest) -> Result<Page<Outage>> {
        let tx = self.isolation.begin(scope).await?;
        let page = store::list(&tx, scope.tenant(), request).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(page)
    }
}

/// Lock, check, decide, write, record, commit: the way of every change of an outage.
async fn change(
    tx: TenantTx,
    outage: OutageId,
    conditions: &Conditions,
    event: &'static str,
    decide: impl FnOnce(&mut Outage, DateTime<Utc>) -> Result<()>,
) -> Result<Outage> {
    if let Some(answered) = tx.first_answer(conditions).await? {
        tx.commit_unrecorded("a read").await?;
        return Ok(answered);
    }
    let now = tx.stamp().at;
    let before = store::lock(&tx, tx.tenant(), outage).await?;
    conditions.check_version(before.version)?;
    let mut outage = before.clone();
    decide(&mut outage, now)?;
    if outage == before {
        tx.keep_answer(conditions, &outage).await?;
        tx.commit_unrecorded("it was so before, and that was recorded").await?;
        return Ok(outage);
    }
    outage.version += 1;
    outage.updated_at = now;
    store::update(&tx, &outage).await?;
    tx.keep_answer(conditions, &outage).await?;
    tx.commit([Entry::new(event, "outage", outage.id).change(Some(&before), Some(&outage))?]).await?;
    Ok(outage)
}
