//! A plane's work as it comes: what is open first, then each job as it is issued.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures::{Stream, stream};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{super::Provisioning, Job, report::own_plane, store};
use crate::{
    error::Result,
    isolation::OperatorScope,
    platform::{ids::PlaneJobId, task::in_task},
    tenancy::Tenant,
};

/// Jobs that are read at once.
const PAGE: usize = 100;
/// What is committed together is looked for together.
const TOGETHER: Duration = Duration::from_millis(50);
/// Should no signal come: one that is lost is made up for.
const AT_LEAST: Duration = Duration::from_secs(5);
/// So many jobs may be known before those that are over are forgotten.
const KNOWN: usize = 1000;

/// A job, and its tenant.
type Asked = (Job, Option<Arc<Tenant>>);

struct Watch {
    provisioning: Provisioning,
    scope: OperatorScope,
    plane: String,
    signal: watch::Receiver<u64>,
    /// Told already; by these and not by time, as a job may be committed after a later one.
    told: Vec<PlaneJobId>,
    next: VecDeque<Asked>,
}

impl Provisioning {
    /// The jobs of the caller's own plane that wait for an answer, and each one that comes. It ends with an error once the plane is no longer
    /// the caller's.
    ///
    /// Errors: `not_found` at `plane`.
    pub async fn watch_jobs(
        &self,
        scope: OperatorScope,
        plane: String,
    ) -> Result<impl Stream<Item = Result<Asked>> + use<>> {
        let signal = self.0.signals.watch_all(); // before the first look: what comes in between is heard
        let (provisioning, next) = (self.clone(), VecDeque::new());
        let mut watch = Watch { provisioning, scope, plane, signal, told: Vec::new(), next };
        watch.look().await?;
        Ok(stream::unfold(Some(watch), |watch| async move {
            let mut watch = watch?;
            match watch.next().await {
                Ok(asked) => Some((Ok(asked), Some(watch))),
                Err(error) => Some((Err(error), None)),
            }
        }))
    }

    /// Up to a page of open jobs that are none of `told`, with their tenants; and which of `told` are still open, where there are many.
    async fn untold(
        &self,
        scope: &OperatorScope,
        plane: &str,
        mut told: Vec<PlaneJobId>,
    ) -> Result<(VecDeque<Asked>, Vec<PlaneJobId>)> {
        let tx = self.0.isolation.begin_operator(scope).await?;
        let plane = own_plane(&tx, plane, scope.caller()).await?;
        if told.len() > KNOWN {
            told = store::still_open(&tx, &plane.name, &told).await?;
        }
        let jobs = store::open_jobs_but(&tx, &plane.name, &told, PAGE).await?;
        tx.commit_unrecorded("a read").await?;
        told.extend(jobs.iter().map(|job| job.job_id));
        Ok((self.with_tenants(scope, jobs).await?.into(), told))
    }
}

impl Watch {
    async fn look(&mut self) -> Result<()> {
        let (provisioning, scope, plane) = (self.provisioning.clone(), self.scope.clone(), self.plane.clone());
        let told = std::mem::take(&mut self.told);
        (self.next, self.told) = in_task(async move { provisioning.untold(&scope, &plane, told).await }).await?;
        Ok(())
    }

    async fn next(&mut self) -> Result<Asked> {
        loop {
            if let Some(asked) = self.next.pop_front() {
                return Ok(asked);
            }
            self.look().await?;
            if self.next.is_empty() {
                let _ = timeout(AT_LEAST, self.signal.changed()).await;
                sleep(TOGETHER).await;
                self.signal.mark_unchanged();
            }
        }
    }
}
