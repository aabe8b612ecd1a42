//! A provider that is away.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use serde_json::json;
use tenantry::{config::KeyProvider, error::Kind, tenant_keys::Shredded};

use super::{ROTATE, events, key, move_to, opens_from_memory, put, rotate, scope, secret, secret_after_rest, until};
use crate::{
    binary::Binary,
    support::{
        TestApp, database,
        transit::{Mood, TOKEN, TransitServer},
    },
};

#[tokio::test]
async fn an_outage_is_bounded_named_and_touches_nobody_who_does_not_need_the_provider() {
    let transit = TransitServer::start().await;
    let settings = transit.settings().replace("10s", "2s"); // more than a loaded machine holds anybody up
    let app = TestApp::with(&settings).await;
    let cold = app.replica(&settings).await;
    let (tenant, standard, admin) = (app.tenant("outage").await, app.tenant("standard").await, app.admin().await);
    move_to(&admin, &tenant, "ENTERPRISE").await;
    put(&app, &tenant, "in memory").await;
    put(&app, &standard, "elsewhere").await;
    for mood in [Mood::Silent, Mood::Sealed] {
        transit.set(mood);
        app.advance(TimeDelta::seconds(2));
        let began = Instant::now();
        let refused = cold.app.tenant_keys.secret(&scope(&tenant), "dsn").await.unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        assert_eq!(refused.kind(), Kind::Unavailable);
        assert!(refused.message().contains("`transit`") && !refused.message().contains(TOKEN), "{refused}");
        // While it rests, nobody waits.
        let began = Instant::now();
        for _ in 0..20 {
            assert_eq!(
                cold.app.tenant_keys.secret(&scope(&tenant), "dsn").await.unwrap_err().kind(),
                Kind::Unavailable
            );
        }
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        opens_from_memory(&app, &tenant, &transit, mood).await;
        put(&app, &tenant, "in memory").await;
        for app in [&app, &cold] {
            assert_eq!(secret(app, &standard).await, "elsewhere");
        }
        let failing = cold.app.tenant_keys.providers();
        let (_, outage) = failing.iter().find(|(provider, _)| *provider == KeyProvider::Transit).unwrap();
        let outage = outage.as_ref().unwrap_or_else(|| panic!("{mood:?}"));
        assert!(outage.since <= app.app.clock.now() && outage.reason.starts_with("cannot be reached"), "{outage:?}");
        let refused = admin.graphql(ROTATE, json!({ "id": tenant.id, "level": "DATA" })).await;
        assert_eq!(refused.code(), "unavailable");
        assert!(refused.text.contains("`transit`"), "{}", refused.text);
    }
    transit.set(Mood::Well);
    app.advance(TimeDelta::seconds(2));
    assert_eq!(secret_after_rest(&cold, &tenant).await, "in memory");
    assert!(cold.app.tenant_keys.providers().iter().all(|(_, outage)| outage.is_none()));
    assert_eq!(rotate(&admin, &tenant, "DATA").await["version"], 2);
}

#[tokio::test]
async fn a_rotation_inside_the_provider_disturbs_nothing() {
    let transit = TransitServer::start().await;
    let app = TestApp::with(&transit.settings()).await;
    let (tenant, admin) = (app.tenant("inside").await, app.admin().await);
    move_to(&admin, &tenant, "ENTERPRISE").await;
    put(&app, &tenant, "kept").await;
    #[expect(clippy::disallowed_methods, reason = "an operator of the provider")]
    let operator = reqwest::Client::new();
    let url = format!("http://{}/v1/transit/keys/{}/rotate", transit.address, transit.keys()[0]);
    assert!(operator.post(url).header("x-vault-token", TOKEN).send().await.unwrap().status().is_success());
    rotate(&admin, &tenant, "DATA").await;
    let other = app.replica(&transit.settings()).await;
    assert_eq!(secret(&other, &tenant).await, "kept");
    assert_eq!(other.app.tenant_keys.verify(tenant.id).await.unwrap(), []);
}

#[tokio::test]
async fn many_requests_that_need_one_key_ask_for_it_once() {
    let transit = TransitServer::start().await;
    let app = TestApp::with(&transit.settings()).await;
    let (tenant, admin) = (app.tenant("crowded").await, app.admin().await);
    move_to(&admin, &tenant, "ENTERPRISE").await;
    put(&app, &tenant, "asked for").await;
    let cold = app.replica(&transit.settings()).await;
    let before = transit.calls("decrypt");
    let reads = (0..50).map(|_| {
        let (keys, scope) = (cold.app.tenant_keys.clone(), scope(&tenant));
        tokio::spawn(async move { keys.secret(&scope, "dsn").await.unwrap().unwrap() })
    });
    for read in futures::future::join_all(reads).await {
        assert_eq!(read.unwrap().as_slice(), b"asked for");
    }
    assert_eq!(transit.calls("decrypt") - before, 1);
}

#[tokio::test]
async fn shredding_holds_at_once_and_the_provider_s_key_goes_when_it_is_back() {
    let transit = TransitServer::start().await;
    let app = TestApp::with(&transit.settings()).await;
    let (tenant, admin) = (app.tenant("shredded").await, app.admin().await);
    move_to(&admin, &tenant, "ENTERPRISE").await;
    put(&app, &tenant, "unreadable").await;
    transit.set(Mood::Sealed);
    let refused = app.app.tenant_keys.shred(tenant.id).await.unwrap_err();
    assert_eq!((refused.kind(), refused.message().contains("`transit`")), (Kind::Unavailable, true));
    assert_eq!(app.app.tenant_keys.secret(&scope(&tenant), "dsn").await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(transit.keys().len(), 1);
    transit.set(Mood::Well);
    for _ in 0..500 {
        if transit.keys().is_empty() {
            break;
        }
        app.advance(TimeDelta::minutes(6));
        app.run_due().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(transit.keys(), Vec::<String>::new());
    assert_eq!(app.app.tenant_keys.shred(tenant.id).await.unwrap(), Shredded { data_keys: 1, wrapping_keys: 1 });
    let journal = events(&admin, &tenant).await;
    assert_eq!(journal.iter().filter(|(event, _)| event == "TenantKeyShredded").count(), 1);
}

#[tokio::test]
async fn a_first_key_that_could_not_be_made_is_made_at_the_next_try() {
    let transit = TransitServer::start().await;
    let app = TestApp::with(&transit.settings()).await;
    let (tenant, admin) = (app.tenant("patient").await, app.admin().await);
    move_to(&admin, &tenant, "ENTERPRISE").await;
    transit.set(Mood::NoEncryption);
    let refused = app.app.tenant_keys.ensure(tenant.id).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Unavailable);
    assert_eq!(transit.keys().len(), 1, "the wrapping key is there, and known");
    transit.set(Mood::Well);
    app.advance(TimeDelta::seconds(2));
    app.app.tenant_keys.ensure(tenant.id).await.unwrap();
    assert_eq!(transit.keys(), [format!("tenantry-{}-1", tenant.id)]);
    // Or elsewhere, where the tier has moved meanwhile.
    let other = app.tenant("undecided").await;
    move_to(&admin, &other, "ENTERPRISE").await;
    transit.set(Mood::NoEncryption);
    app.app.tenant_keys.ensure(other.id).await.unwrap_err();
    move_to(&admin, &other, "STANDARD").await;
    app.app.tenant_keys.ensure(other.id).await.unwrap();
    assert_eq!(key(&admin, &other).await["provider"], "local");
    transit.set(Mood::Well);
    app.advance(TimeDelta::minutes(1));
    until(&app, &other, |key| key["behind"] == json!(0)).await;
}

#[tokio::test]
async fn the_metrics_say_since_when_a_provider_fails() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let database = database().await;
    let server = Binary::on(&database)
        .set("KEYS__ENTERPRISE", "transit")
        .set("KEYS__TRANSIT__ADDRESS", format!("http://{dead}"))
        .set("KEYS__TRANSIT__TOKEN", TOKEN)
        .serve()
        .await;
    let admin = server.admin().await;
    let create = "mutation { createTenant(input: {slug: \"metered\", name: \"Metered\", isolationTier: ENTERPRISE}) { tenant { id } } }";
    let id = admin.ok(create, json!({})).await["createTenant"]["tenant"]["id"].clone();
    let metric = async || {
        let text = admin.get("/metrics").await.text;
        let found = text
            .lines()
            .find_map(|line| line.strip_prefix("tenantry_key_provider_failing_since_seconds{provider=\"transit\"} "));
        found.unwrap_or_else(|| panic!("{text}")).parse::<f64>().unwrap()
    };
    assert_eq!(metric().await, 0.0);
    assert_eq!(admin.refused(ROTATE, json!({ "id": id, "level": "DATA" })).await, "unavailable");
    assert!(metric().await > 1.7e9);
    let log = server.log();
    assert!(log.contains("the key provider fails") && !log.contains(TOKEN), "{log}");
}
