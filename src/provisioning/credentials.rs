//! Short-lived credentials of a tenant's data plane: made when they are first asked for, renewed by the schedule before they
//! end, sealed where they are kept.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::{
    Provisioning,
    layer::{IssueOrder, Layer, Slot},
    state::Observed,
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
    /// journaled, without the secret.
    ///
    /// Errors: `unavailable` until the tenant's environment is there.
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
        let now = self.0.isolation.clock().now();
        let mut kept = self.kept(scope.tenant()).await?;
        if kept.is_empty() || kept.values().any(|one| now >= one.valid_until) {
            self.issue_missing(scope.tenant()).await?;
            kept = self.kept(scope.tenant()).await?;
        }
        let opened: Vec<_> = kept.into_values().map(|one| self.open(scope.tenant(), one)).collect::<Result<_>>()?;
        let told: Vec<_> =
            opened.iter().map(|one| json!({ "layer": one.layer, "validUntil": one.valid_until })).collect();
        let tx = self.0.isolation.begin(scope).await?;
        let entry = Entry::new("DataplaneCredentialIssued", "tenant", scope.tenant());
        tx.commit([Entry { after: Some(json!({ "credentials": told })), ..entry }]).await?;
        Ok(opened)
    }

    /// Renews what has used up half of its life; answers of how many tenants.
    pub async fn rotate_due(&self) -> Result<usize> {
        if !self.is_on() {
            return Ok(0);
        }
        let tx = self.begin().await?;
        let due = store::credentials_due(&tx, tx.stamp().at + self.half_life(), ROTATIONS).await?;
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

    fn half_life(&self) -> TimeDelta {
        self.ttl() / 2
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
        let renew_before = self.0.isolation.clock().now() + self.half_life();
        for layer in self.0.layers.iter().filter(|layer| layer.serves(tenant.isolation_tier)) {
            let present = kept.get(layer.name());
            if present.is_none_or(|present| present.valid_until <= renew_before) {
                self.issue(lease, &tenant, layer, present).await?;
            }
        }
        Ok(())
    }

    async fn issue(
        &self,
        lease: &Lease,
        tenant: &Arc<Tenant>,
        layer: &Arc<dyn Layer>,
        present: Option<&Kept>,
    ) -> Result<()> {
        let tx = self.0.isolation.observe(tenant.id).await?;
        let records = store::records(&tx, tenant.id).await?;
        tx.end().await?;
        let record = records.iter().find(|record| record.layer == layer.name());
        if record.is_none_or(|record| record.observed != Observed::Present) {
            return Ok(()); // of a best-effort layer that is not there
        }
        let site = self.site(tenant, record).await?;
        let slot = present.map_or(Slot::A, |present| Slot::of(present.slot).other());
        let issued_at = self.0.isolation.clock().now();
        let valid_until = issued_at + self.ttl();
        let Some(made) = layer.issue(&site, &IssueOrder { slot, valid_until }).await? else { return Ok(()) };
        let purpose = purpose(tenant.id, layer.name(), slot.number());
        let row = Kept {
            layer: layer.name().to_owned(),
            slot: slot.number(),
            sealed: self.0.master.seal(&purpose, made.secret.expose().as_bytes()),
            details: json!(made.details),
            issued_at,
            valid_until,
        };
        let tx = self.0.isolation.begin_operator(&OperatorScope::system("credential-rotation")).await?;
        self.stand(&tx, lease).await?;
        store::keep_credential(&tx, tenant.id, &row).await?;
        let entry = Entry::new("DataplaneCredentialRotated", "layer", layer.name());
        let after = json!({ "layer": layer.name(), "details": made.details, "validUntil": valid_until });
        tx.commit_for(tenant.id, [Entry { after: Some(after), ..entry }]).await
    }

    fn open(&self, tenant: TenantId, kept: Kept) -> Result<DataplaneCredential> {
        let secret = self.0.master.unseal(&purpose(tenant, &kept.layer, kept.slot), &kept.sealed)?;
        Ok(DataplaneCredential {
            layer: kept.layer,
            details: serde_json::from_value(kept.details).map_err(Error::internal)?,
            secret: Secret::new(String::from_utf8_lossy(&secret).into_owned()),
            issued_at: kept.issued_at,
            valid_until: kept.valid_until,
        })
    }
}

fn purpose(tenant: TenantId, layer: &str, slot: i16) -> String {
    format!("dataplane:{tenant}:{layer}:{slot}")
}
