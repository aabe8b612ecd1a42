//! Pages of tenants: what capabilities have of them is read together, and is what each has by itself.

use std::sync::Arc;

use serde_json::{Value, json};
use tenantry::platform::ids::TenantId;
use tenantry::quotas::Allowances;

use crate::{
    provisioning::eventually,
    support::{Client, Tenant, TestApp},
};

/// Nothing but the test asks the database.
const QUIET: &str = "[worker]\ninterval = \"1h\"";
const FIELDS: &str = "id parent { id }
    quotas { key limit planLimit used reserved remaining overLimit resetsAt version override { limit reason } boosts { amount } }
    some: quotas(keys: [\"max_users\", \"requests_per_day\"]) { key limit used }
    flags { key enabled value variant reason source version setting { value } }";

async fn page(admin: &Client, first: usize) -> Vec<Value> {
    let query = format!("query($first: Int!) {{ tenants(first: $first) {{ edges {{ node {{ {FIELDS} }} }} }} }}");
    let found = admin.ok(&query, json!({ "first": first })).await;
    found["tenants"]["edges"].as_array().unwrap().iter().map(|edge| edge["node"].clone()).collect()
}

/// Tenants that differ in everything that quotas and flags depend on.
async fn different_tenants(app: &TestApp, admin: &Client) -> Vec<Tenant> {
    let mut tenants = Vec::new();
    for slug in ["plain", "agreed", "boosted", "using", "flagged", "far-east"] {
        tenants.push(app.tenant(slug).await);
    }
    let [plain, agreed, boosted, using, flagged, east] = &tenants[..] else { panic!("six tenants") };
    let set = "mutation($id: ID!) { setQuota(input: {tenantId: $id, key: \"max_users\", limit: 7, reason: \"contract\"}) { quota { limit } } }";
    admin.ok(set, json!({ "id": agreed.id })).await;
    let boost = "mutation($id: ID!, $end: DateTime!) { boostQuota(input: {tenantId: $id, key: \"max_users\", amount: 3, expiresAt: $end, reason: \"launch\"}) { boost { id } } }";
    let end = app.app.clock.now() + chrono::TimeDelta::days(1);
    admin.ok(boost, json!({ "id": boosted.id, "end": end })).await;
    let zone = "mutation($id: ID!) { updateTenant(input: {id: $id, profile: {timeZone: \"Pacific/Kiritimati\"}}) { tenant { id } } }";
    admin.ok(zone, json!({ "id": east.id })).await;
    let used = "mutation($id: ID, $key: String!, $used: Int!) { setQuotaUsage(input: {tenantId: $id, key: $key, used: $used}) { quota { used } } }";
    for (tenant, count) in [(using, 11), (east, 12)] {
        for key in ["max_users", "requests_per_day", "requests_per_month"] {
            admin.ok(used, json!({ "id": tenant.id, "key": key, "used": count })).await;
        }
    }
    let reserve = "mutation($id: ID) { reserveQuota(input: {tenantId: $id, lines: [{key: \"requests_per_day\", amount: 2}]}) { reservation { id } } }";
    admin.ok(reserve, json!({ "id": using.id })).await;
    let flag = "mutation($key: String!) { defineFlag(input: {key: $key, type: BOOLEAN, defaultValue: false, lifecycle: PERMANENT, enabled: true}) { flag { key } } }";
    for key in ["new-console", "old-console"] {
        admin.ok(flag, json!({ "key": key })).await;
    }
    let value = "mutation($id: ID) { setFlag(input: {tenantId: $id, key: \"new-console\", value: true}) { setting { version } } }";
    admin.ok(value, json!({ "id": flagged.id })).await;
    let parent =
        "mutation($id: ID!, $parent: ID) { setParentTenant(input: {id: $id, parentId: $parent}) { tenant { id } } }";
    admin.ok(parent, json!({ "id": agreed.id, "parent": plain.id })).await;
    tenants
}

#[tokio::test]
async fn a_page_says_of_each_tenant_what_it_says_by_itself() {
    let app = TestApp::with(QUIET).await;
    let admin = app.admin().await;
    let tenants = different_tenants(&app, &admin).await;
    // A replica that knows none of them reads all; here memory has them.
    let cold = app.replica(QUIET).await;
    for client in [&admin, &Client::operator(cold.url(""), admin.token().unwrap().to_owned(), app.canaries.clone())] {
        let mut both = by_page_and_alone(client, &tenants).await;
        if both.0 != both.1 {
            both = by_page_and_alone(client, &tenants).await; // a minute began in between, and with it another period
        }
        assert_eq!(both.0.len(), tenants.len());
        assert_eq!(both.0, both.1);
    }
    let using = &page(&admin, 50).await[3];
    let of_key =
        |key: &str| using["quotas"].as_array().unwrap().iter().find(|quota| quota["key"] == key).unwrap().clone();
    assert_eq!((&of_key("requests_per_day")["used"], &of_key("requests_per_day")["reserved"]), (&json!(11), &json!(2)));
}

async fn by_page_and_alone(client: &Client, tenants: &[Tenant]) -> (Vec<Value>, Vec<Value>) {
    let of_page = page(client, 50).await;
    let mut alone = Vec::new();
    for tenant in tenants {
        let query = format!("query($id: ID!) {{ tenant(id: $id) {{ {FIELDS} }} }}");
        alone.push(client.ok(&query, json!({ "id": tenant.id })).await["tenant"].clone());
    }
    (of_page, alone)
}

#[tokio::test]
async fn a_change_shows_on_the_next_page() {
    let app = TestApp::with(QUIET).await;
    let admin = app.admin().await;
    let tenants = different_tenants(&app, &admin).await;
    let before = page(&admin, 50).await;
    let set = "mutation($id: ID!) { setQuota(input: {tenantId: $id, key: \"max_users\", limit: 99, reason: \"more\"}) { quota { version } } }";
    let set = admin.ok(set, json!({ "id": tenants[0].id })).await;
    let after = page(&admin, 50).await;
    assert_eq!(after[0]["some"][0]["limit"], 99);
    assert_eq!(after[0]["quotas"][0]["version"], set["setQuota"]["quota"]["version"]);
    assert_ne!(after[0]["quotas"][0]["version"], before[0]["quotas"][0]["version"]);
    assert_eq!(after[1], before[1]);
}

#[tokio::test]
async fn a_page_asks_the_database_as_often_as_a_single_row() {
    let app = TestApp::with(QUIET).await;
    let admin = app.admin().await;
    for number in 0..30 {
        app.created_tenant(&format!("tenant-{number}")).await;
    }
    let cold = app.replica(QUIET).await;
    let admin = Client::operator(cold.url(""), admin.token().unwrap().to_owned(), app.canaries.clone());
    page(&admin, 1).await;
    // The least of several: the server has other things to ask once in a while.
    let statements = async |first: usize| {
        let mut least = u64::MAX;
        for _ in 0..5 {
            let before = cold.app.db.statements();
            assert_eq!(page(&admin, first).await.len(), first);
            least = least.min(cold.app.db.statements() - before);
        }
        least
    };
    let (one, all) = (statements(1).await, statements(30).await);
    assert_eq!(one, all);
    assert!((4..=20).contains(&all), "{all} statements: parents, quotas and flags each read what they need");
}

#[tokio::test]
async fn several_tenants_are_known_as_each_is_by_itself_and_not_kept() {
    let app = TestApp::with(QUIET).await;
    let admin = app.admin().await;
    let tenants = different_tenants(&app, &admin).await;
    let cold = app.replica(QUIET).await;
    let (snapshots, scope) = (cold.app.tenancy.snapshots(), tenantry::isolation::OperatorScope::system("test"));
    let mut ids: Vec<_> = tenants.iter().map(|tenant| tenant.id).collect();
    ids.push(TenantId::generate());
    let several = snapshots.get_several::<Allowances>(&scope, &ids).await.unwrap();
    assert_eq!(several.len(), tenants.len(), "who is not there is missing");
    for tenant in &tenants {
        assert!(snapshots.cached(tenant.id).is_none(), "{} is kept", tenant.slug);
        let alone = snapshots.get(tenant.id).await.unwrap().unwrap();
        assert_eq!((&several[&tenant.id].tenant, several[&tenant.id].version), (&alone.tenant, alone.version));
    }
    let again = snapshots.get_several::<Allowances>(&scope, &ids).await.unwrap();
    let known = snapshots.cached(tenants[0].id).unwrap();
    assert!(Arc::ptr_eq(&again[&tenants[0].id], &known), "what memory has is not read");
}

#[tokio::test]
async fn what_nobody_has_asked_for_since_it_was_read_is_not_read_again_when_it_changes() {
    let app = TestApp::with(QUIET).await;
    let admin = app.admin().await;
    let (one, other) = (app.tenant("one").await, app.tenant("other").await);
    let replica = app.replica(QUIET).await;
    let snapshots = replica.app.tenancy.snapshots();
    let rename = async |id, name: &str| {
        let update = "mutation($input: UpdateTenantInput!) { updateTenant(input: $input) { tenant { id } } }";
        admin.ok(update, json!({ "input": { "id": id, "name": name } })).await;
    };
    let until_read = async |id, name: &str| {
        eventually("it is read again", async || {
            snapshots.peek(id).is_some_and(|known| known.tenant.name == name).then_some(())
        })
        .await;
    };
    snapshots.get(one.id).await.unwrap();
    rename(one.id, "Once").await;
    until_read(one.id, "Once").await;
    rename(one.id, "Twice").await;
    // What was heard first is read first.
    snapshots.get(other.id).await.unwrap();
    rename(other.id, "Other").await;
    until_read(other.id, "Other").await;
    assert!(snapshots.peek(one.id).is_none(), "nobody has asked for it since");
    assert_eq!(snapshots.get(one.id).await.unwrap().unwrap().tenant.name, "Twice");
}
