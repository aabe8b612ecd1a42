//! What `/readyz` and the report say of isolation while a server is down.

use redis::cmd;
use serde_json::{Value, json};
use tenantry::probes::Round;

use super::probes::{run_with, settings, verify};
use crate::support::{TestApp, redis::RedisServer};

const OPEN: &str = "{ isolationReport { probes { outcome open { layer cell what } } } }";

async fn ready(app: &TestApp) -> Value {
    let answer = app.anonymous().get("/readyz").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    json!([answer.body["checks"]["isolation"], answer.body["isolation"]])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_open_is_told_until_it_is_shut_and_what_could_not_be_looked_at_as_well() {
    let mut redis = RedisServer::forgetful();
    let settings = settings(", \"redis\"", &format!("[redis]\nurl = \"{}\"\n", redis.url()));
    let app = TestApp::with(&settings).await;
    let other = app.replica(&settings).await;
    let admin = app.admin().await;
    assert_eq!(ready(&app).await, json!([true, { "open": [], "notShown": [] }]));

    let mut owner = redis.connect().await;
    run_with(&app, async |round: &mut Round| {
        let user = format!("{}_a", round.intruder.site.names.stem());
        cmd("ACL").arg("SETUSER").arg(user).arg("~*").exec_async(&mut owner).await.unwrap();
    })
    .await;
    assert_eq!(ready(&app).await, json!([false, { "open": ["redis"], "notShown": [] }]));

    redis.stop();
    assert_eq!(verify(&admin).await["outcome"], "INCONCLUSIVE");
    let expected = json!([false, { "open": ["redis"], "notShown": ["redis"] }]);
    assert_eq!(ready(&app).await, expected, "a server that is down shuts nothing");
    other.app.probes.run_due().await.unwrap();
    assert_eq!(ready(&other).await, expected, "other replicas say the same");
    let report = admin.ok(OPEN, json!({})).await["isolationReport"]["probes"].clone();
    let open = report["open"].as_array().unwrap();
    assert!(
        open.contains(&json!({ "layer": "redis", "cell": null, "what": "read a key" })) && !open.is_empty(),
        "{report:#}"
    );

    redis.start_again();
    assert_eq!(verify(&admin).await["outcome"], "REFUSED");
    assert_eq!(ready(&app).await, json!([true, { "open": [], "notShown": [] }]));
    let report = admin.ok(OPEN, json!({})).await["isolationReport"]["probes"].clone();
    assert_eq!(report["open"], json!([]));
}
