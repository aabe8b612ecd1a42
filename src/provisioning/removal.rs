//! Taking a tenant's environment away: every layer in reverse, counted, and nothing left.

use std::collections::BTreeMap;

use super::{
    Provisioning, journal,
    layer::Removed,
    state::{Record, Wanted},
    step::{Outcome, Step},
    store::{self, Lease},
    work::End,
};
use crate::{
    error::{Error, Kind, Result},
    platform::ids::TenantId,
};

/// What went of a tenant's environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// Of each layer, whatever attempts it took.
    pub removed: BTreeMap<String, Removed>,
    /// Layers of application planes that were asked, and did not say that they took away what they had.
    pub unconfirmed: Vec<String>,
    /// What still bears the tenant's id. Nothing, or erasure is not complete.
    pub residue: Vec<String>,
}

impl Provisioning {
    /// Takes away everything that the tenant has, and looks whether something is left. What is wanted is written down first:
    /// should this server die, another goes on. To call it again is to go on, too, and answers all that went.
    ///
    /// Errors: `unavailable` while another server works on the tenant, and where a layer fails; it is tried again anyway.
    pub async fn remove_all(&self, tenant: TenantId) -> Result<Removal> {
        self.want_absent(tenant).await?;
        let lease = self.take_one(tenant).await?;
        let end = self.withdraw(&lease).await;
        self.give_back_quietly(&lease).await;
        match end? {
            End::Settled => self.removal(tenant).await,
            End::Waiting => {
                Err(Error::new(Kind::Unavailable, "a layer cannot be removed yet; `Tenant.layers` says which, and why"))
            }
        }
    }

    /// What went so far, and what is left now.
    pub async fn removal(&self, tenant: TenantId) -> Result<Removal> {
        let tx = self.0.isolation.observe(tenant).await?;
        let records = store::records(&tx, tenant).await?;
        tx.end().await?;
        let unconfirmed = unconfirmed(&records);
        let removed = records.into_iter().map(|record| {
            let counts = serde_json::from_value(record.facts["removed"].clone()).unwrap_or_default();
            (record.layer, counts)
        });
        Ok(Removal { removed: removed.collect(), unconfirmed, residue: self.residue(tenant).await? })
    }

    /// What still bears the tenant's id, in all layers of this binary, used or not.
    pub async fn residue(&self, tenant: TenantId) -> Result<Vec<String>> {
        let Some(found) = self.tenant(tenant).await? else { return Ok(Vec::new()) };
        let site = self.site(&found, None).await?;
        let mut residue = Vec::new();
        for layer in &self.0.layers {
            let left = layer.residue(&site).await?;
            residue.extend(left.into_iter().map(|thing| format!("{}: {thing}", layer.name())));
        }
        Ok(residue)
    }

    async fn want_absent(&self, tenant: TenantId) -> Result<()> {
        let tx = self.begin().await?;
        if !store::turn(&tx, tenant, Wanted::Absent, tx.stamp().at).await? {
            tx.rollback().await?;
            return Err(Error::conflict("the tenant is being moved; cancel the move, or confirm it"));
        }
        tx.commit_for(tenant, [journal::removal_requested(tenant)]).await
    }

    /// Waits a little for who works on the tenant now.
    pub(super) async fn take_one(&self, tenant: TenantId) -> Result<Lease> {
        for _ in 0..60 {
            let tx = self.begin().await?;
            let taken = store::take_one(&tx, self.holder(tx.stamp().at), tenant).await?;
            tx.commit_unrecorded("a lease").await?;
            if let Some(lease) = taken {
                return Ok(lease);
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        Err(Error::new(Kind::Unavailable, "the tenant's environment is being worked on; try again shortly"))
    }

    /// In reverse: what stands on something goes before it.
    pub(super) async fn withdraw(&self, lease: &Lease) -> Result<End> {
        let Some(tenant) = self.tenant(lease.tenant_id).await? else { return Ok(End::Settled) };
        // They stand on all else.
        if self.work_with_planes(lease, &tenant).await? == Outcome::Waiting {
            return Ok(End::Waiting);
        }
        let plan = self.0.tenancy.plan(&tenant.plan).await?;
        for (position, layer) in self.0.layers.iter().enumerate().rev() {
            let is_essential = self.is_essential(&**layer, &plan);
            let step = Step { lease, layer, position, is_essential, tenant: &tenant };
            if self.step(&step).await? == Outcome::Waiting {
                return Ok(End::Waiting);
            }
        }
        let tx = self.begin().await?;
        self.stand(&tx, lease).await?;
        store::forget_credentials(&tx, tenant.id).await?;
        if store::settle(&tx, lease, tx.stamp().at).await? {
            let unconfirmed = unconfirmed(&store::records(&tx, tenant.id).await?);
            tx.commit_for(tenant.id, [journal::removal_succeeded(tenant.id, &unconfirmed)]).await?;
        } else {
            tx.commit_unrecorded("nothing was left").await?;
        }
        Ok(End::Settled)
    }

    pub(super) async fn give_back_quietly(&self, lease: &Lease) {
        if let Err(error) = self.give_back(lease).await {
            tracing::warn!(%error, "a lease cannot be given back; it ends by itself");
        }
    }

    /// Whether the whole of the tenant's environment is there, as far as was seen.
    pub async fn is_ready(&self, tenant: TenantId) -> Result<bool> {
        let tx = self.begin().await?;
        let is_ready = store::is_provided(&tx, tenant).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(is_ready)
    }
}

fn unconfirmed(records: &[Record]) -> Vec<String> {
    let unconfirmed = records.iter().filter(|record| record.facts["unconfirmed"] == true);
    unconfirmed.map(|record| record.layer.clone()).collect()
}
