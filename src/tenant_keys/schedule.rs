//! What the schedule does with tenants' keys, on every replica.

use chrono::{DateTime, TimeDelta, Utc};

use super::{TASK, TenantKeys};
use crate::{
    config::KeyProvider,
    error::{Context as _, Error, Result},
    isolation::OperatorScope,
    platform::ids::TenantId,
};

/// Tenants of one run.
const BATCH: usize = 20;
/// How long a replica has a tenant to itself; after that, it is taken for dead.
const LEASE: TimeDelta = TimeDelta::minutes(2);
const LONGEST_PAUSE: TimeDelta = TimeDelta::minutes(5);

const CLAIM: &str = "
    with due as (
      select tenant_id from tenantry.tenant_key_rings where due_at <= $1 order by due_at limit $3 for update skip locked)
    update tenantry.tenant_key_rings r set due_at = $2 from due where r.tenant_id = due.tenant_id
    returning r.tenant_id, r.attempts";
const POSTPONE: &str = "
    update tenantry.tenant_key_rings set due_at = $3, attempts = attempts + 1 where tenant_id = $1 and due_at = $2";
/// Tenants whose wrapping key is not where their tier wants it, or is a master key of before.
const DRIFT: &str = "
    update tenantry.tenant_key_rings r set due_at = $1
    from tenantry.tenants t, tenantry.tenant_wrapping_keys w
    where t.tenant_id = r.tenant_id and w.tenant_id = r.tenant_id and w.generation = r.active_generation
      and (r.due_at is null or r.due_at > $1) and r.shredded_at is null and r.active_version > 0 and t.status <> 'ERASED'
      and (w.provider <> case t.isolation_tier when 'STANDARD' then $2 when 'ENTERPRISE' then $3 else $4 end
        or (w.provider = $5 and w.reference = any($6)))";
const BEHIND: &str = "select count(*) as behind from tenantry.tenant_key_rings where due_at is not null";

impl TenantKeys {
    /// Goes on with the tenants whose keys have something left to do; answers whether there may be more.
    pub async fn run_due(&self) -> Result<bool> {
        let now = self.isolation.clock().now();
        self.cache.expire(now);
        let lease = now + LEASE;
        let tx = self.isolation.begin_operator(&OperatorScope::system(TASK)).await?;
        let rows = tx.rows(CLAIM, [now.into(), lease.into(), (BATCH as i64).into()]).await?;
        tx.commit_unrecorded("who looks after it").await?;
        for row in &rows {
            let (tenant, attempts): (TenantId, i32) = (row.try_get("", "tenant_id")?, row.try_get("", "attempts")?);
            if let Err(error) = self.reconcile(tenant).await {
                self.postpone(tenant, lease, attempts, &error).await?;
            }
        }
        Ok(rows.len() == BATCH)
    }

    async fn postpone(&self, tenant: TenantId, lease: DateTime<Utc>, attempts: i32, error: &Error) -> Result<()> {
        let pause = TimeDelta::seconds(1 << attempts.clamp(0, 9)).min(LONGEST_PAUSE);
        tracing::warn!(%tenant, %error, cause = error.cause().map(tracing::field::display), "the tenant's keys are not where they are wanted; tried again in {pause}");
        let tx = self.isolation.begin_operator(&OperatorScope::system(TASK)).await?;
        let again = self.isolation.clock().now() + pause;
        tx.execute(POSTPONE, [tenant.into(), lease.into(), again.into()]).await?;
        tx.commit_unrecorded("when to try again").await
    }

    /// Finds the tenants whose tier has moved, or whose tier has another provider than before, or another master key.
    pub async fn notice_drift(&self) -> Result<()> {
        let tx = self.isolation.begin_operator(&OperatorScope::system(TASK)).await?;
        let values = [
            tx.stamp().at.into(),
            self.rules.standard.name().into(),
            self.rules.enterprise.name().into(),
            self.rules.premium.name().into(),
            KeyProvider::Local.name().into(),
            self.wrappers.previous_master_keys().to_vec().into(),
        ];
        tx.execute(DRIFT, values).await?;
        let row = tx.row(BEHIND, []).await?.context("count what is left to do")?;
        let behind: i64 = row.try_get("", "behind")?;
        tx.commit_unrecorded("what is to be looked at").await?;
        metrics::gauge!("tenantry_key_rings_behind").set(behind as f64);
        Ok(())
    }
}
