//! What tenancy does by schedule: suspensions that begin and end at a time.

use chrono::{DateTime, Utc};

use super::{Status, Tenancy, change::delta};
use crate::{
    error::Result,
    isolation::{Conditions, OperatorScope, TenantScope},
    platform::ids::TenantId,
};

const DUE: &str = "
    select tenant_id from tenantry.tenants
    where (suspend_at is not null or resume_at is not null) and least(suspend_at, resume_at) <= $1
      and status in ('ACTIVE', 'SUSPENDED')
    order by least(suspend_at, resume_at) limit 100";

impl Tenancy {
    /// Begins and ends the suspensions whose time has come; answers how many. Safe to run on every replica at once: each
    /// tenant is looked at again under its row lock.
    pub async fn run_due_suspensions(&self) -> Result<usize> {
        let now = self.isolation.clock().now();
        let tx = self.isolation.begin_operator(&OperatorScope::system("suspension-schedule")).await?;
        let rows = tx.rows(DUE, [now.into()]).await?;
        tx.commit_unrecorded("a read").await?;
        let mut done = 0;
        for row in rows {
            done += usize::from(self.run_due_suspension(row.try_get("", "tenant_id")?, now).await?);
        }
        Ok(done)
    }

    async fn run_due_suspension(&self, tenant: TenantId, now: DateTime<Utc>) -> Result<bool> {
        let scope = TenantScope::system("suspension-schedule", tenant);
        let drain = delta(self.rules.suspension_drain);
        let tx = self.isolation.begin(&scope).await?;
        let present = super::store::lock(&tx, tenant).await?;
        let planned = present.planned_suspension.clone().filter(|_| present.suspend_at.is_some_and(|at| at <= now));
        match (present.status, planned) {
            (Status::Active, Some(suspension)) => {
                let resume_at = present.resume_at;
                let begin = |tenant: &mut super::Tenant, now| {
                    tenant.suspend(now, suspension, drain)?;
                    tenant.resume_at = resume_at;
                    Ok(())
                };
                self.change(tx, &Conditions::default(), "TenantSuspended", begin).await?;
            }
            (Status::Suspended, _) if present.resume_at.is_some_and(|at| at <= now) => {
                self.change(tx, &Conditions::default(), "TenantResumed", |tenant, _| tenant.resume()).await?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}
