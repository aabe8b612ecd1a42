//! One tenant's turn: its layers in order, each looked at, made, verified, and written down while the lease stands.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Map;

use super::{
    Provisioning, journal,
    layer::Site,
    names::Names,
    state::{Observed, Record, Wanted, jittered, next_look},
    step::{Outcome, Step},
    store::{self, Lease},
};
use crate::{
    config::Activation,
    error::{Error, Kind, Result},
    isolation::{Conditions, OperatorScope, OperatorTx, TenantScope},
    journal::Entry,
    platform::{ids::TenantId, random},
    tenancy::{Status, Tenant},
};

/// What a turn ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing essential is left to do.
    Settled,
    /// Something failed, or waits.
    Waiting,
}

impl Provisioning {
    /// Works on the tenant until nothing can be done for it now.
    pub(super) async fn work(&self, lease: &Lease) -> Result<()> {
        let end = match lease.wanted {
            Wanted::Present => self.provide(lease).await?,
            Wanted::Absent => self.withdraw(lease).await?,
        };
        tracing::debug!(tenant = %lease.tenant_id, ?end, "a tenant's turn is over");
        Ok(())
    }

    async fn provide(&self, lease: &Lease) -> Result<End> {
        let Some(tenant) = self.tenant(lease.tenant_id).await? else { return Ok(End::Settled) };
        if tenant.status == Status::Erased {
            return Ok(End::Settled);
        }
        let mut waits = false;
        let plan = self.0.tenancy.plan(&tenant.plan).await?;
        for (position, layer) in
            self.0.layers.iter().enumerate().filter(|(_, layer)| layer.serves(tenant.isolation_tier))
        {
            let is_essential = self.is_essential(&**layer, &plan);
            let step = Step { lease, layer, position, is_essential, tenant: &tenant };
            match self.step(&step).await? {
                Outcome::Done => {}
                Outcome::Waiting if !is_essential => {}
                Outcome::Waiting => {
                    waits = true;
                    break;
                }
            }
        }
        if waits || self.work_with_planes(lease, &tenant).await? == Outcome::Waiting {
            return Ok(End::Waiting);
        }
        self.settle(lease, &tenant).await?;
        Ok(End::Settled)
    }

    /// Everything essential is there: said once, and followed by activation where that is automatic. A server that dies in
    /// between does both again, which changes nothing.
    async fn settle(&self, lease: &Lease, tenant: &Tenant) -> Result<()> {
        if lease.settled_at.is_none() {
            let tx = self.begin().await?;
            self.stand(&tx, lease).await?;
            if store::settle(&tx, lease, tx.stamp().at).await? {
                tx.commit_for(tenant.id, [journal::succeeded(tenant.id)]).await?;
            }
        }
        if self.0.activation == Activation::Automatic && tenant.status == Status::Created {
            let scope = TenantScope::system("provisioning", tenant.id);
            match self.0.tenancy.activate(&scope, &Conditions::default()).await {
                // Somebody was faster, or has deleted it.
                Err(error) if error.kind() == Kind::InvalidTransition => {}
                done => drop(done?),
            }
        }
        Ok(())
    }

    pub(super) async fn give_back(&self, lease: &Lease) -> Result<()> {
        let tx = self.begin().await?;
        let records = store::records(&tx, lease.tenant_id).await?;
        let now = tx.stamp().at;
        // Never in the past for what has just been looked at: one that can make no progress would spin.
        let soonest = now + jittered(TimeDelta::from_std(self.0.rules.first_retry).unwrap_or_default(), chance());
        let next = next_look(lease.wanted, &records, self.verify_every(), chance());
        let due = next.map(|at| if at <= now { soonest } else { at });
        store::release(&tx, lease, due, &signature(&self.0.signature, lease.planes)).await?;
        tx.commit_unrecorded("a lease").await
    }

    pub(super) async fn tenant(&self, id: TenantId) -> Result<Option<Arc<Tenant>>> {
        let found = self.0.tenancy.get_several(&OperatorScope::system("provisioning"), &[id]).await?;
        Ok(found.into_iter().next().map(Arc::new))
    }

    /// Where things of the tenant are and how they are called, for one layer.
    pub(super) async fn site(&self, tenant: &Arc<Tenant>, record: Option<&Record>) -> Result<Site> {
        let placement = self.0.cells.find_placement(tenant.id).await?;
        let cell = match &placement {
            Some(placement) => Some(self.0.cells.get(placement.cell_id).await?),
            None => None,
        };
        let facts = record.map_or_else(Map::new, Record::facts);
        let extensions = self.extensions_of(&self.0.tenancy.plan(&tenant.plan).await?);
        Ok(Site { tenant: tenant.clone(), names: Names::of(tenant.id), placement, cell, extensions, facts })
    }

    pub(super) async fn begin(&self) -> Result<OperatorTx> {
        self.0.isolation.begin_operator(&OperatorScope::system("provisioning")).await
    }

    /// Refuses to write what was done by one whose lease somebody else has taken over.
    pub(super) async fn stand(&self, tx: &OperatorTx, lease: &Lease) -> Result<()> {
        if store::hold(tx, lease, tx.stamp().at + self.lease()).await? {
            return Ok(());
        }
        Err(Error::new(Kind::Unavailable, "another server works on the tenant by now"))
    }

    pub(super) fn verify_every(&self) -> TimeDelta {
        TimeDelta::from_std(self.0.rules.verify_interval).unwrap_or(TimeDelta::MAX)
    }

    /// Writes a layer's record and what is to be journaled, while the lease stands.
    pub(super) async fn write(&self, lease: &Lease, record: &Record, entries: Vec<Entry>) -> Result<()> {
        let tx = self.begin().await?;
        self.stand(&tx, lease).await?;
        store::save(&tx, lease.tenant_id, record).await?;
        let is_back = record.essential && record.wanted == Wanted::Present && record.observed != Observed::Present;
        if is_back && lease.settled_at.is_some() {
            store::unsettle(&tx, lease).await?;
        }
        if entries.is_empty() {
            return tx.commit_unrecorded("what was seen is as before").await;
        }
        tx.commit_for(lease.tenant_id, entries).await
    }
}

/// A layer's record before anything is known.
pub(super) fn fresh(layer: &str, wanted: Wanted, now: DateTime<Utc>) -> Record {
    Record {
        layer: layer.to_owned(),
        position: 0,
        essential: true,
        wanted,
        observed: Observed::Unknown,
        since: now,
        attempts: 0,
        last_error: String::new(),
        next_attempt_at: None,
        verified_at: None,
        facts: serde_json::json!({}),
    }
}

/// What a tenant was looked at with: the layers, and the planes as they were by the sum of their versions. Where there never were any, the
/// layers alone.
pub(super) fn signature(layers: &str, planes: i64) -> String {
    if planes == 0 { layers.to_owned() } else { format!("{layers};planes={planes}") }
}

/// Any number, for jitter.
pub(super) fn chance() -> u64 {
    u64::from_le_bytes(random::bytes())
}
