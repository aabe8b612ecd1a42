//! The private PostgreSQL as a cell: tenants' logins are asked for their passwords, and what is refused to them is known.

use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use tenantry::platform::db::embedded;

use super::{
    active,
    clusters::{connect, stem, texts},
    create, eventually,
};
use crate::binary::Binary;

const VERIFY: &str = "mutation { verifyIsolation { probes { outcome layers { layer outcome reason } } } }";
const ATTEST: &str = "query($id: ID!) { tenant(id: $id) { isolationAttestation } }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_of_a_fresh_server_is_shown_to_be_kept_apart_and_what_it_tries_is_journaled() {
    let binary = Binary::private()
        .set("PROVISIONING__LAYERS", "keys,placement,role,database,schema,template,vectors,graph")
        .set("TENANCY__ACTIVATION", "automatic")
        .set("WORKER__INTERVAL", "100ms");
    let server = binary.serve().await;
    let admin = server.admin().await;
    let cells = admin.ok("{ cells { name denialsVisible denialsHiddenReason } }", json!({})).await;
    assert_eq!(cells["cells"], json!([{ "name": "own", "denialsVisible": true, "denialsHiddenReason": null }]));
    let (a, b) = (create(&admin, "intruder", "STANDARD").await, create(&admin, "victim", "STANDARD").await);
    for tenant in [a, b] {
        active(&admin, tenant).await;
    }
    let probes = admin.ok(VERIFY, json!({})).await["verifyIsolation"]["probes"].clone();
    assert_eq!(probes["outcome"], "REFUSED", "{probes:#}");
    let probed: Vec<_> =
        probes["layers"].as_array().unwrap().iter().map(|one| one["layer"].as_str().unwrap()).collect();
    assert!(["registry", "keys", "role", "schema"].iter().all(|layer| probed.contains(layer)), "{probed:?}");
    let statement = admin.ok(ATTEST, json!({ "id": a })).await["tenant"]["isolationAttestation"].clone();
    assert_eq!(statement.as_str().unwrap().split('.').count(), 3, "{statement}");

    let url = |database: &str, user: &str| {
        embedded::url_of_running(&binary.path("data/postgres"), database, user).expect("it runs")
    };
    let owner = connect(&url("tenantry", "postgres")).await.unwrap();
    // As somebody who has one tenant's password, and is in the folder of the socket.
    let password = format!("alter role \"{}_a\" password 'stolen'", stem(a));
    owner.execute_unprepared(&password).await.unwrap();
    let own = format!("{}&password=stolen", url("tenantry_cell", &format!("{}_a", stem(a))));
    let intruder = connect(&own).await.unwrap();
    let theirs = format!("{}&password=stolen", url("tenantry_cell", &format!("{}_a", stem(b))));
    assert!(connect(&theirs).await.is_err(), "another tenant's login has another password");
    assert!(connect(&url("tenantry_cell", &format!("{}_a", stem(a)))).await.is_err(), "none is none");

    let told = async |tenant| {
        let query = "query($id: ID!) { audit(tenantId: $id, first: 100) { edges { node { event after } } } }";
        let found: Value = admin.ok(query, json!({ "id": tenant })).await;
        let edges = found["audit"]["edges"].as_array().unwrap().clone();
        let crossing = |edge: &Value| edge["node"]["after"]["otherTenant"] == true;
        edges.into_iter().find(|edge| edge["node"]["event"] == "DataplaneAccessDenied" && crossing(edge))
    };
    let seen = eventually("what was refused is journaled", async || {
        // The first look finds out where the log ends, so it is tried again.
        intruder.execute_unprepared(&format!("select * from \"{}\".secrets", stem(b))).await.unwrap_err();
        told(a).await
    })
    .await;
    assert_eq!(seen["node"]["after"]["layer"], "role");
    assert_eq!(texts(&owner, "select count(*)::text from tenantry.cell_logs").await, ["1"]);
    assert!(server.stop().await.success());
}
