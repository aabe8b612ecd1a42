//! What tenants' own credentials tried and were refused: journaled with the tenant that tried, counted, and said loudly
//! where it went for another tenant's things.

use std::collections::BTreeMap;

use serde_json::json;

use super::{
    Provisioning,
    layer::{Denial, Denials},
};
use crate::{error::Result, isolation::OperatorScope, journal::Entry, platform::ids::TenantId};

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
            for together in denials {
                found += self.note_denials(layer.name(), together).await?;
            }
        }
        Ok(found)
    }

    /// Journals them and takes the step behind them, both or neither; answers how many that were.
    async fn note_denials(&self, layer: &'static str, Denials { mut told, step }: Denials) -> Result<usize> {
        told.retain(|denial| !denial.tenant.is_probe()); // meant to be refused
        let mut entries = BTreeMap::<TenantId, Vec<Entry>>::new();
        for denial in &told {
            // One that was erased meanwhile has no journal to write in.
            if self.tenant(denial.tenant).await?.is_some() {
                entries.entry(denial.tenant).or_default().push(denial.entry(layer));
            }
        }
        let tx = self.0.isolation.begin_operator(&OperatorScope::system("denials")).await?;
        if let Some(step) = step
            && !step.take(&tx).await?
        {
            tx.rollback().await?; // another server tells them
            return Ok(0);
        }
        match entries.is_empty() {
            true => tx.commit_unrecorded("how far a log was read").await?,
            false => tx.commit_bookkeeping("how far a log was read", entries).await?,
        }
        told.iter().for_each(|denial| denial.say(layer));
        Ok(told.len())
    }
}

impl Denial {
    fn is_crossing(&self) -> bool {
        self.other.is_some_and(|other| other != self.tenant)
    }

    fn entry(&self, layer: &'static str) -> Entry {
        let after = json!({ "layer": layer, "user": self.user, "what": self.what, "from": self.from,
            "times": self.times, "otherTenant": self.is_crossing() });
        Entry { after: Some(after), ..Entry::new("DataplaneAccessDenied", "layer", layer) }
    }

    fn say(&self, layer: &'static str) {
        let kind = if self.is_crossing() { "another_tenant" } else { "not_allowed" };
        metrics::counter!("tenantry_dataplane_denials_total", "layer" => layer, "kind" => kind).increment(self.times);
        if self.is_crossing() {
            tracing::error!(tenant = %self.tenant, layer, user = self.user, from = self.from, what = self.what, "a tenant's credential was used to reach for another tenant's things, and was refused");
        }
    }
}
