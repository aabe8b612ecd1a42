//! What is journaled of provisioning. Beside its own name each entry has the one that AWS SaaS Builder Toolkit uses for the
//! same, so that an application plane that knows those needs no table.

use serde_json::{Value, json};

use super::layer::Removed;
use crate::{error::Error, journal::Entry, platform::ids::TenantId};

fn entry(event: &'static str, tenant: TenantId, after: Value) -> Entry {
    Entry { after: Some(after), ..Entry::new(event, "tenant", tenant) }
}

fn of_layer(event: &'static str, layer: &str, after: Value) -> Entry {
    let mut after = after;
    after["layer"] = layer.into();
    Entry { after: Some(after), ..Entry::new(event, "layer", layer) }
}

pub(super) fn requested(tenant: TenantId, layers: &str) -> Entry {
    entry("ProvisioningRequested", tenant, json!({ "sbt": "onboardingRequest", "layers": layers }))
}

pub(super) fn started(layer: &str) -> Entry {
    of_layer("LayerStarted", layer, json!({ "sbt": "provisionRequest" }))
}

pub(super) fn ready(layer: &str, changes: &[String]) -> Entry {
    of_layer("LayerReady", layer, json!({ "changes": changes }))
}

pub(super) fn unavailable(layer: &str, why: &str) -> Entry {
    of_layer("LayerUnavailable", layer, json!({ "reason": why }))
}

pub(super) fn drifted(layer: &str, differences: &[String]) -> Entry {
    of_layer("LayerDrifted", layer, json!({ "differences": differences }))
}

pub(super) fn failed(layer: &str, error: &Error) -> Entry {
    of_layer("LayerFailed", layer, json!({ "error": error.message() }))
}

pub(super) fn removed(layer: &str, removed: &Removed) -> Entry {
    of_layer("LayerRemoved", layer, json!({ "removed": removed }))
}

pub(super) fn succeeded(tenant: TenantId) -> Entry {
    entry("ProvisioningSucceeded", tenant, json!({ "sbt": "provisionSuccess" }))
}

pub(super) fn provisioning_failed(tenant: TenantId, layer: &str) -> Entry {
    entry("ProvisioningFailed", tenant, json!({ "sbt": "provisionFailure", "layer": layer }))
}

pub(super) fn removal_requested(tenant: TenantId) -> Entry {
    entry("DeprovisioningRequested", tenant, json!({ "sbt": "offboardingRequest" }))
}

/// With what application planes did not confirm, where there is such.
pub(super) fn removal_succeeded(tenant: TenantId, unconfirmed: &[String]) -> Entry {
    let mut after = json!({ "sbt": "deprovisionSuccess" });
    if !unconfirmed.is_empty() {
        after["unconfirmed"] = unconfirmed.into();
    }
    entry("DeprovisioningSucceeded", tenant, after)
}

pub(super) fn removal_failed(tenant: TenantId, layer: &str) -> Entry {
    entry("DeprovisioningFailed", tenant, json!({ "sbt": "deprovisionFailure", "layer": layer }))
}
