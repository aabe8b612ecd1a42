//! Who is worked on next. Every replica does this; leases keep them apart.

use std::time::Duration;

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use super::{
    Provisioning,
    store::{self, Holder, Lease},
    work::signature,
};
use crate::{
    cells::{CellHealth, HealthChange},
    error::Result,
    isolation::OperatorScope,
};

/// Tenants that are enlisted at once, where nobody has.
const SWEEP: i64 = 1000;

impl Provisioning {
    /// Works on what is due until `stop`; looks at least every `interval`.
    pub async fn run(self, interval: Duration, stop: CancellationToken) {
        if !self.is_on() {
            return;
        }
        while !stop.is_cancelled() {
            let taken = self.start_due().await.unwrap_or_else(|error| {
                tracing::warn!(%error, cause = error.cause().map(tracing::field::display), "no tenant can be taken to work on; it is tried again");
                0
            });
            if taken > 0 {
                continue;
            }
            tokio::select! {
                () = self.0.nudge.notified() => {}
                () = tokio::time::sleep(interval) => {}
                () = stop.cancelled() => {}
            }
        }
        self.rest().await;
    }

    /// Lets work that has begun come to its end, and its leases with it: other servers need not wait for them.
    async fn rest(&self) {
        let all = u32::try_from(self.0.rules.workers).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(self.0.rules.layer_timeout, self.0.places.acquire_many(all)).await;
    }

    /// Takes as many tenants as there is room for, and works on each in a task of its own; answers how many.
    async fn start_due(&self) -> Result<usize> {
        let places: Vec<_> = std::iter::from_fn(|| self.0.places.clone().try_acquire_owned().ok()).collect();
        if places.is_empty() {
            return Ok(0); // whoever ends nudges
        }
        let leases = self.take(places.len()).await?;
        let taken = leases.len();
        for (lease, place) in leases.into_iter().zip(places) {
            let worker = self.clone();
            tokio::spawn(async move {
                worker.work_and_tell(lease).await;
                drop(place);
                worker.0.nudge.notify_one();
            });
        }
        Ok(taken)
    }

    async fn take(&self, room: usize) -> Result<Vec<Lease>> {
        let tx = self.0.isolation.begin_operator(&OperatorScope::system("provisioning")).await?;
        let leases = store::take(&tx, self.holder(tx.stamp().at), room, self.0.region.as_deref()).await?;
        tx.commit_unrecorded("leases").await?;
        Ok(leases)
    }

    pub(super) fn holder(&self, now: chrono::DateTime<chrono::Utc>) -> Holder<'_> {
        Holder { name: &self.0.holder, now, until: now + self.lease() }
    }

    pub(super) fn lease(&self) -> TimeDelta {
        TimeDelta::from_std(self.0.rules.lease).unwrap_or(TimeDelta::MAX)
    }

    async fn work_and_tell(&self, lease: Lease) {
        let tenant = lease.tenant_id;
        if let Err(error) = self.work(&lease).await {
            tracing::warn!(%tenant, %error, cause = error.cause().map(tracing::field::display), "work on a tenant was broken off; it goes on soon");
        }
        self.give_back_quietly(&lease).await;
    }

    /// Enlists tenants that nobody has enlisted: those from before there were environments, or before a layer came.
    pub async fn sweep(&self) -> Result<u64> {
        if !self.is_on() {
            return Ok(0);
        }
        let tx = self.0.isolation.begin_operator(&OperatorScope::system("provisioning")).await?;
        let signature = signature(&self.0.signature, store::planes(&tx).await?);
        let found = store::enlist_missing(&tx, &signature, SWEEP, tx.stamp().at).await?;
        tx.commit_unrecorded("a nudge").await?;
        if found > 0 {
            self.0.nudge.notify_one();
        }
        Ok(found)
    }

    /// What waits for a cell goes on as soon as it is back.
    pub async fn cells_changed(&self, changes: &[HealthChange]) -> Result<()> {
        let back: Vec<_> = changes.iter().filter(|change| change.was == CellHealth::Unhealthy).collect();
        if back.is_empty() || !self.is_on() {
            return Ok(());
        }
        let tx = self.0.isolation.begin_operator(&OperatorScope::system("provisioning")).await?;
        for change in back {
            store::look_again_on(&tx, change.cell, tx.stamp().at).await?;
        }
        tx.commit_unrecorded("a nudge").await?;
        self.0.nudge.notify_one();
        Ok(())
    }
}
