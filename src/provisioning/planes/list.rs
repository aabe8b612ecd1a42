//! What a plane has to do: how one that was away finds all that it was asked for.

use std::sync::Arc;

use super::{super::Provisioning, Job, report::own_plane, store};
use crate::{
    error::Result,
    isolation::OperatorScope,
    platform::{
        ids::{PlaneJobId, TenantId},
        page::{self, Page, PageRequest},
    },
    tenancy::Tenant,
};

impl Provisioning {
    /// The jobs of the caller's own plane that wait for an answer, with their tenants, the oldest first.
    pub async fn open_jobs(
        &self,
        scope: &OperatorScope,
        plane: &str,
        request: &PageRequest,
    ) -> Result<Page<(Job, Option<Arc<Tenant>>)>> {
        let after = request.key::<PlaneJobId>()?;
        let tx = self.0.isolation.begin_operator(scope).await?;
        let plane = own_plane(&tx, plane, scope.caller()).await?;
        let jobs = store::open_jobs(&tx, &plane.name, after, request.first + 1).await?;
        tx.commit_unrecorded("a read").await?;
        let Page { items, has_next, has_previous } = request.page(jobs);
        Ok(Page { items: self.with_tenants(scope, items).await?, has_next, has_previous })
    }

    pub(super) async fn with_tenants(
        &self,
        scope: &OperatorScope,
        jobs: Vec<Job>,
    ) -> Result<Vec<(Job, Option<Arc<Tenant>>)>> {
        let ids: Vec<TenantId> = jobs.iter().map(|job| job.tenant_id).collect();
        let tenants: Vec<Arc<Tenant>> = match ids.is_empty() {
            true => Vec::new(),
            false => self.0.tenancy.get_several(scope, &ids).await?.into_iter().map(Arc::new).collect(),
        };
        let of = |job: Job| {
            let tenant = tenants.iter().find(|tenant| tenant.id == job.tenant_id).cloned();
            (job, tenant)
        };
        Ok(jobs.into_iter().map(of).collect())
    }
}

/// The cursor of a job in that list.
pub(super) fn cursor(job: &Job) -> String {
    page::encode(&job.job_id)
}
