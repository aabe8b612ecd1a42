//! Short-lived credentials of a tenant's data plane: made when they are first asked for, renewed by the schedule before they
//! end, sealed with the tenant's key where they are kept.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::{
    Provisioning,
    layer::{IssueOrder, Layer, Site, Slot},
    state::{Observed, Record},
    store::{self, Kept, Lease},
};
use crate::{
    error::{Error, Kind, Result},
    isolation::{OperatorScope, TenantScope},
    journal::Entry,
    platform::{ids::TenantId, secret::Secret},
    tenancy::Tenant,
};

/// Tenants whose credentials one run of the schedule renews.
const ROTATIONS: i64 = 100;

/// How a service of the tenant gets into one layer of its data plane.
#[derive(Clone, Debug)]
pub struct DataplaneCredential {
    pub layer: String,
    pub details: BTreeMap<String, String>,
    pub secret: Secret,
    pub issued_at: DateTime<Utc>,
    pub valid_until: DateTime<Utc>,
}

impl Provisioning {
    /// The tenant's present credentials, of each layer that has some: none where tenants get no environment. Each hand-out is
    /// journaled, without the secret. A layer that is down has none to renew, which keeps nobody from those of the others.
    ///
    /// Errors: `unavailable` until the tenant's environment is there, and where there is no credential that is still good.
    pub async fn credentials(&self, scope: &TenantScope) -> Result<Vec<DataplaneCredential>> {
        self.tenant(scope.tenant()).await?.ok_or_else(Error::not_found)?;
        if !self.is_on() {
            return Ok(Vec::new());
        }
        if !self.is_ready(scope.tenant()).await? {
            return Err(Error::new(
                Kind::Unavailable,
                "the tenant's environment is not there yet; `Tenant.layers` says what is missing",
            ));
        }
        let kept = self.good_ones(scope.tenant()).await?;
        let mut opened = Vec::with_capacity(kept.len());
        for one in kept.into_values() {
            opened.push(self.open(scope.tenant(), one).await?);
        }
        let told: Vec<_> =
            opened.iter().map(|one| json!({ "layer": one.layer, "validUntil": one.valid_until })).collect();
        let tx = self.0.isolation.begin(scope).await?;
        let entry = Entry::new("DataplaneCredentialIssued", "tenant", scope.tenant());
        tx.commit([Entry { after: Some(json!({ "credentials": told })), ..entry }]).await?;
        Ok(opened)
    }

    /// What opens now; made where it does not yet.
    async fn good_ones(&self, tenant: TenantId) -> Result<BTreeMap<String, Kept>> {
        let now = self.0.isolation.clock().now();
        let mut kept = self.kept(tenant).await?;
        kept.retain(|_, one| now < one.valid_until);
        let records = self.layer_records(tenant).await?;
        let is_there = |layer: &dyn Layer| {
            records.iter().any(|record| record.layer == layer.name() && record.observed == Observed::Present)
        };
        let mut wanted = self.0.layers.iter().filter(|layer| layer.has_credentials() && is_there(&***layer));
        if wanted.all(|layer| kept.contains_key(layer.name())) {
            return Ok(kept);
        }
        let issued = self.issue_missing(tenant).await;
        kept = self.kept(tenant).await?;
        kept.retain(|_, one| now < one.valid_until);
        match issued {
            Err(error) if kept.is_empty() => Err(error),
            _ => Ok(kept),
        }
    }

    /// Renews what has used up half of its life; answers of how many tenants.
    pub async fn rotate_due(&self) -> Result<usize> {
        if !self.is_on() {
            return Ok(0);
        }
        let tx = self.begin().await?;
        let due = store::credentials_due(&tx, tx.stamp().at, ROTATIONS).await?;
        tx.commit_unrecorded("a read").await?;
        let mut done = 0;
        for tenant in &due {
            match self.issue_missing(*tenant).await {
                Ok(()) => done += 1,
                Err(error) => {
                    tracing::warn!(%tenant, %error, cause = error.cause().map(tracing::field::display), "credentials cannot be renewed; it is tried again")
                }
            }
        }
        Ok(done)
    }

    fn ttl(&self) -> TimeDelta {
        TimeDelta::from_std(self.0.rules.credential_ttl).unwrap_or(TimeDelta::MAX)
    }

    /// The newest of each layer.
    async fn kept(&self, tenant: TenantId) -> Result<BTreeMap<String, Kept>> {
        let tx = self.0.isolation.observe(tenant).await?;
        let rows = store::credentials(&tx, tenant).await?;
        tx.end().await?;
        Ok(rows.into_iter().map(|row| (row.layer.clone(), row)).collect())
    }

    /// Makes what is not there or is half used up, alone with the tenant.
    async fn issue_missing(&self, tenant: TenantId) -> Result<()> {
        let lease = self.take_one(tenant).await?;
        let issued = self.issue_all(&lease).await;
        self.give_back_quietly(&lease).await;
        issued
    }

    async fn issue_all(&self, lease: &Lease) -> Result<()> {
        let Some(tenant) = self.tenant(lease.tenant_id).await? else { return Ok(()) };
        let kept = self.kept(tenant.id).await?;
        let now = self.0.isolation.clock().now();
        let mut outcome = Ok(());
        for layer in self.0.layers.iter().filter(|layer| layer.serves(tenant.isolation_tier)) {
            let present = kept.get(layer.name());
            if layer.has_credentials() && present.is_none_or(|present| present.is_half_used(now)) {
                // One that is down keeps no other from being served.
                outcome = outcome.and(self.issue(lease, &tenant, layer, present).await);
            }
        }
        outcome
    }

    async fn layer_records(&self, tenant: TenantId) -> Result<Vec<Record>> {
        let tx = self.0.isolation.observe(tenant).await?;
        let records = store::records(&tx, tenant).await?;
        tx.end().await?;
        Ok(records)
    }

    async fn issue(
        &self,
        lease: &Lease,
        tenant: &Arc<Tenant>,
        layer: &Arc<dyn Layer>,
        present: Option<&Kept>,
    ) -> Result<()> {
        let records = self.layer_records(tenant.id).await?;
        let record = records.iter().find(|record| record.layer == layer.name());
        if record.is_none_or(|record| record.observed != Observed::Present) {
            return Ok(()); // of a best-effort layer that is not there
        }
        let site = self.site(tenant, record).await?;
        let slot = present.map_or(Slot::A, |present| Slot::of(present.slot).other());
        let issued_at = self.0.isolation.clock().now();
        let valid_until = issued_at + self.ttl();
        let Some(made) = layer.issue(&site, &IssueOrder { slot, valid_until }).await? else { return Ok(()) };
        let valid_until = made.valid_until.min(valid_until);
        let sealed = self.seal(tenant.id, (layer.name(), slot.number()), &made.secret).await?;
        let row = Kept {
            layer: layer.name().to_owned(),
            slot: slot.number(),
            key_version: Some(sealed.version),
            sealed: sealed.bytes,
            details: json!(made.details),
            issued_at,
            valid_until,
            retired_at: None,
        };
        let tx = self.0.isolation.begin_operator(&OperatorScope::system("credential-rotation")).await?;
        self.stand(&tx, lease).await?;
        store::keep_credential(&tx, tenant.id, &row).await?;
        let entry = Entry::new("DataplaneCredentialRotated", "layer", layer.name());
        let after = json!({ "layer": layer.name(), "details": made.details, "validUntil": valid_until });
        tx.commit_for(tenant.id, [Entry { after: Some(after), ..entry }]).await
    }

    /// Shuts the slots of credentials that have come to their end, where a server does not do so by itself; answers how many.
    pub async fn retire_due(&self) -> Result<usize> {
        if !self.is_on() {
            return Ok(0);
        }
        let tx = self.begin().await?;
        let ended = store::credentials_ended(&tx, tx.stamp().at, ROTATIONS).await?;
        tx.commit_unrecorded("a read").await?;
        for tenant in &ended {
            if let Err(error) = self.retire(*tenant).await {
                tracing::warn!(%tenant, %error, cause = error.cause().map(tracing::field::display), "credentials that have ended cannot be shut; it is tried again");
            }
        }
        Ok(ended.len())
    }

    async fn retire(&self, tenant: TenantId) -> Result<()> {
        let lease = self.take_one(tenant).await?;
        let retired = self.retire_all(&lease).await;
        self.give_back_quietly(&lease).await;
        retired
    }

    async fn retire_all(&self, lease: &Lease) -> Result<()> {
        let Some(tenant) = self.tenant(lease.tenant_id).await? else { return Ok(()) };
        let tx = self.0.isolation.observe(tenant.id).await?;
        let rows = store::credentials(&tx, tenant.id).await?;
        tx.end().await?;
        let now = self.0.isolation.clock().now();
        let mut outcome = Ok(());
        for row in rows.iter().filter(|row| row.valid_until <= now && row.retired_at.is_none()) {
            outcome = outcome.and(self.retire_one(lease, &tenant, row).await);
        }
        outcome
    }

    async fn retire_one(&self, lease: &Lease, tenant: &Arc<Tenant>, row: &Kept) -> Result<()> {
        if let Some(layer) = self.0.layers.iter().find(|layer| layer.name() == row.layer) {
            let site = self.site(tenant, None).await?;
            layer.retire(&site, Slot::of(row.slot)).await?;
        }
        let tx = self.0.isolation.begin_operator(&OperatorScope::system("credential-rotation")).await?;
        self.stand(&tx, lease).await?;
        store::note_retired(&tx, tenant.id, row, tx.stamp().at).await?;
        let entry = Entry::new("DataplaneCredentialRetired", "layer", &row.layer);
        let after = json!({ "layer": row.layer, "details": row.details, "validUntil": row.valid_until });
        tx.commit_for(tenant.id, [Entry { after: Some(after), ..entry }]).await
    }

    /// A layer that was made anew lets in again what was given out for it.
    pub(super) async fn reinstate(&self, site: &Site, layer: &Arc<dyn Layer>) -> Result<()> {
        let tx = self.0.isolation.observe(site.tenant.id).await?;
        let rows = store::credentials(&tx, site.tenant.id).await?;
        tx.end().await?;
        let now = self.0.isolation.clock().now();
        for row in rows.into_iter().filter(|row| row.layer == layer.name() && row.valid_until > now) {
            let order = IssueOrder { slot: Slot::of(row.slot), valid_until: row.valid_until };
            let secret = self.unseal(site.tenant.id, &row).await?;
            layer.reinstate(site, &order, &secret).await?;
        }
        Ok(())
    }

    async fn open(&self, tenant: TenantId, kept: Kept) -> Result<DataplaneCredential> {
        let secret = self.unseal(tenant, &kept).await?;
        Ok(DataplaneCredential {
            layer: kept.layer,
            details: serde_json::from_value(kept.details).map_err(Error::internal)?,
            secret,
            issued_at: kept.issued_at,
            valid_until: kept.valid_until,
        })
    }
}
