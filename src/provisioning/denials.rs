//! What tenants' own credentials tried and were refused: journaled with the tenant that tried, counted, and said loudly
//! where it went for another tenant's things.

use serde_json::json;

use super::{Provisioning, layer::Denial};
use crate::{error::Result, isolation::OperatorScope, journal::Entry};

impl Provisioning {
    /// Fetches from every layer what was refused since the last time. A server that is down says nothing, and that is said by
    /// its health.
    pub async fn collect_denials(&self) -> Result<usize> {
        let mut found = 0;
        for layer in &self.0.layers {
            let denials = match layer.denials().await {
                Ok(denials) => denials,
                Err(error) => {
                    tracing::debug!(layer = layer.name(), %error, "refusals cannot be fetched; it is tried again");
                    continue;
                }
            };
            for denial in &denials {
                self.note_denial(layer.name(), denial).await?;
            }
            found += denials.len();
        }
        Ok(found)
    }

    async fn note_denial(&self, layer: &'static str, denial: &Denial) -> Result<()> {
        if denial.tenant.is_probe() {
            return Ok(()); // meant to be refused
        }
        let crossing = denial.other.is_some_and(|other| other != denial.tenant);
        let kind = if crossing { "another_tenant" } else { "not_allowed" };
        metrics::counter!("tenantry_dataplane_denials_total", "layer" => layer, "kind" => kind).increment(denial.times);
        if crossing {
            tracing::error!(tenant = %denial.tenant, layer, user = denial.user, from = denial.from, what = denial.what, "a tenant's credential was used to reach for another tenant's things, and was refused");
        }
        // One that was erased meanwhile has no journal to write in.
        if self.tenant(denial.tenant).await?.is_none() {
            return Ok(());
        }
        let tx = self.0.isolation.begin_operator(&OperatorScope::system("denials")).await?;
        let after = json!({ "layer": layer, "user": denial.user, "what": denial.what, "from": denial.from,
            "times": denial.times, "otherTenant": crossing });
        let entry = Entry::new("DataplaneAccessDenied", "layer", layer);
        tx.commit_for(denial.tenant, [Entry { after: Some(after), ..entry }]).await
    }
}
