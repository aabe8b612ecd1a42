//! Tenants get an environment of their own on a PostgreSQL, keep it, and leave nothing behind.

mod cell_changes;
mod cells;
pub(crate) mod clusters;
mod conformance;
mod credentials;
mod drift;
mod extensions;
mod intruder;
mod keys;
mod kills;
mod nats;
mod outage;
mod plane_kills;
mod plane_news;
mod planes;
mod private;
mod probe_kills;
mod probed_extensions;
mod probes;
pub(crate) mod proxy;
mod redis;
mod standing;
mod storage;
mod tcp_proxy;
mod tenants;
mod told_once;

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use serde_json::{Value, json};
use tenantry::platform::ids::TenantId;

use crate::support::{Client, TestApp};

/// Everything on, and a tenant ACTIVE as soon as it is ready.
pub(crate) const ON: &str = "
    [provisioning]
    layers = [\"placement\", \"role\", \"database\", \"schema\"]
    first_retry = \"50ms\"
    longest_retry = \"200ms\"
    [cells]
    acquire_timeout = \"2s\"
    [tenancy]
    activation = \"automatic\"
";

/// Asks again and again, at least for 20 seconds, until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Makes a tenant of this tier, and does not wait for its environment.
pub(crate) async fn create(client: &Client, slug: &str, tier: &str) -> TenantId {
    create_in(client, slug, tier, "eu-central-1", json!({})).await
}

pub(crate) async fn create_in(client: &Client, slug: &str, tier: &str, region: &str, sections: Value) -> TenantId {
    let create = "mutation($input: CreateTenantInput!) { createTenant(input: $input) { tenant { id } } }";
    let input = json!({ "slug": slug, "name": slug, "isolationTier": tier, "region": region, "sections": sections });
    let made = client.ok(create, json!({ "input": input })).await;
    made["createTenant"]["tenant"]["id"].as_str().unwrap().parse().unwrap()
}

const TENANT: &str = "query($id: ID!) { tenant(id: $id) { status placement { region reason tier }
    layers { name essential wanted observed attempts lastError nextAttemptAt verifiedAt } } }";

pub(crate) async fn look(client: &Client, tenant: TenantId) -> Value {
    client.ok(TENANT, json!({ "id": tenant })).await["tenant"].clone()
}

/// Waits until the tenant is ACTIVE.
pub(crate) async fn active(client: &Client, tenant: TenantId) -> Value {
    eventually("the tenant is ACTIVE", async || {
        let seen = look(client, tenant).await;
        (seen["status"] == "ACTIVE").then_some(seen)
    })
    .await
}

/// What is seen of each layer, by name.
pub(crate) fn observed(seen: &Value) -> Vec<(&str, &str)> {
    let layers = seen["layers"].as_array().unwrap();
    layers.iter().map(|layer| (layer["name"].as_str().unwrap(), layer["observed"].as_str().unwrap())).collect()
}

/// Lets the time of a verification come, until the layer was found to be different once more than `before`, and is mended.
pub(crate) async fn mended(app: &TestApp, tenant: TenantId, layer: &str, before: usize) {
    let journal = app.database.superuser().await;
    let told = format!(
        "select observed from tenantry.journal j join tenantry.provisioning_layers l on l.tenant_id = j.tenant_id
         where j.event = 'LayerDrifted' and l.layer = '{layer}' and j.tenant_id = '{tenant}'"
    );
    let mut polls = 0;
    eventually("it is noticed and mended", async || {
        // Again where a turn was just ending; not so often that no lease lasts.
        if polls % 300 == 0 {
            app.advance(TimeDelta::minutes(75));
        }
        polls += 1;
        let told = clusters::texts(&journal, &told).await;
        (told.len() > before && told[0] == "PRESENT").then_some(())
    })
    .await;
}

/// Events of the tenant's journal, the oldest first.
pub(crate) async fn events(app: &TestApp, tenant: TenantId) -> Vec<String> {
    let admin = app.admin().await;
    let query =
        "query($id: ID!) { audit(tenantId: $id, order: OLDEST_FIRST, first: 100) { edges { node { event } } } }";
    let found = admin.ok(query, json!({ "id": tenant })).await;
    let edges = found["audit"]["edges"].as_array().unwrap();
    edges.iter().map(|edge| edge["node"]["event"].as_str().unwrap().to_owned()).collect()
}
