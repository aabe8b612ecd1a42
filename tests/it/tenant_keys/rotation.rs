//! Rotation of both levels while everything goes on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::TimeDelta;
use sea_orm::ConnectionTrait as _;
use serde_json::json;

use super::{ROTATE, events, key, move_to, put, rotate, scope, secret, secret_after_rest, text, until};
use crate::support::{
    Tenant, TestApp, folder,
    transit::{Mood, TransitServer},
};

#[tokio::test]
async fn a_rotated_data_key_seals_from_now_on_and_the_one_of_before_goes_once_nothing_needs_it() {
    let app = TestApp::start().await;
    let (tenant, admin) = (app.tenant("rotated").await, app.admin().await);
    for number in 0..250 {
        let name = format!("secret {number}");
        app.app.tenant_keys.put_secret(&scope(&tenant), &name, name.as_bytes()).await.unwrap();
    }
    let elsewhere = app.app.tenant_keys.seal(&scope(&tenant), "elsewhere", b"old").await.unwrap();
    let rotated = rotate(&admin, &tenant, "DATA").await;
    assert_eq!((&rotated["version"], &rotated["versions"]), (&json!(2), &json!([1, 2])));
    assert_eq!(app.app.tenant_keys.seal(&scope(&tenant), "now", b"new").await.unwrap().version, 2);
    for _ in 0..500 {
        app.run_due().await;
        if text(&app, "select min(key_version)::text from tenantry.tenant_secrets").await == "2" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(text(&app, "select count(*)::text from tenantry.tenant_secrets where key_version = 2").await, "250");
    // Whoever has read what it sealed may still open that.
    assert_eq!(key(&admin, &tenant).await["versions"], json!([1, 2]));
    assert_eq!(
        app.app.tenant_keys.unseal(&scope(&tenant), "elsewhere", &elsewhere.bytes).await.unwrap().as_slice(),
        b"old"
    );
    app.advance(TimeDelta::minutes(61));
    until(&app, &tenant, |key| key["versions"] == json!([2])).await;
    assert!(app.app.tenant_keys.unseal(&scope(&tenant), "elsewhere", &elsewhere.bytes).await.is_err());
    for number in [0, 100, 249] {
        let name = format!("secret {number}");
        let found = app.app.tenant_keys.secret(&scope(&tenant), &name).await.unwrap().unwrap();
        assert_eq!(found.as_slice(), name.as_bytes());
    }
    let journal = events(&app.admin().await, &tenant).await;
    let journal: Vec<_> = journal.into_iter().map(|(event, _)| event).collect();
    assert_eq!(journal, ["TenantKeyCreated", "TenantKeyRotated", "TenantKeyRetired"]);
}

#[tokio::test]
async fn a_data_key_that_something_refers_to_is_never_deleted() {
    let app = TestApp::start().await;
    let (tenant, admin) = (app.tenant("referred").await, app.admin().await);
    put(&app, &tenant, "kept").await;
    let database = app.database.superuser().await;
    let refused = database.execute_unprepared("delete from tenantry.tenant_keys").await.unwrap_err();
    assert!(refused.to_string().contains("foreign key"), "{refused}");
    rotate(&admin, &tenant, "DATA").await;
    until(&app, &tenant, |key| key["version"] == json!(2)).await;
    assert_eq!(secret(&app, &tenant).await, "kept");
}

#[tokio::test]
async fn a_repeated_rotation_is_one_rotation() {
    let app = TestApp::start().await;
    let (tenant, admin) = (app.tenant("repeated").await, app.admin().await);
    for (level, version, generation) in [("DATA", 2, 1), ("WRAPPING", 2, 2)] {
        let variables = json!({ "id": tenant.id, "level": level });
        let first = admin.graphql_once(level, ROTATE, variables.clone()).await;
        let again = admin.graphql_once(level, ROTATE, variables).await;
        assert_eq!(first.code(), "none", "{}", first.text);
        for answer in [first, again] {
            let key = &answer.data()["rotateTenantKey"]["key"];
            assert_eq!((&key["version"], &key["generation"]), (&json!(version), &json!(generation)), "{}", answer.text);
        }
    }
}

/// Reads and writes without a pause on both replicas while `change` goes on; answers how many there were, none of which failed.
async fn meanwhile(apps: [&TestApp; 2], tenant: &Tenant, change: impl AsyncFnOnce()) -> usize {
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    for (number, app) in apps.into_iter().cycle().take(6).enumerate() {
        let (keys, scope, stop, count) = (app.app.tenant_keys.clone(), scope(tenant), stop.clone(), count.clone());
        tasks.spawn(async move {
            let name = format!("of {number}");
            let mut turn = 0;
            while !stop.load(Ordering::Relaxed) {
                let text = format!("{name}, {turn}");
                keys.put_secret(&scope, &name, text.as_bytes()).await.unwrap();
                let found = keys.secret(&scope, &name).await.unwrap().unwrap();
                assert_eq!(found.as_slice(), text.as_bytes());
                assert!(keys.secret(&scope, "dsn").await.unwrap().is_some());
                (turn, _) = (turn + 1, count.fetch_add(1, Ordering::Relaxed));
            }
        });
    }
    change().await;
    stop.store(true, Ordering::Relaxed);
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    count.load(Ordering::Relaxed)
}

#[tokio::test]
async fn readers_and_writers_on_two_replicas_do_not_notice_rotations() {
    let transit = TransitServer::start().await;
    // Nothing stays in memory, so that every opening asks who wraps.
    let settings = transit.settings().replace("[keys]\n", "[keys]\ncache_ttl = \"0s\"\n");
    let first = TestApp::with(&settings).await;
    let second = first.replica(&settings).await;
    let (tenant, admin) = (first.tenant("busy").await, first.admin().await);
    move_to(&admin, &tenant, "ENTERPRISE").await;
    put(&first, &tenant, "read all the time").await;
    let count = meanwhile([&first, &second], &tenant, async || {
        for round in 2..=5 {
            rotate(&admin, &tenant, "DATA").await;
            rotate(&admin, &tenant, "WRAPPING").await;
            until(&second, &tenant, |key| key["behind"] == json!(0) && key["generation"] == json!(round)).await;
        }
        for tier in ["STANDARD", "ENTERPRISE"] {
            move_to(&admin, &tenant, tier).await;
            first.advance(TimeDelta::minutes(1));
            let wanted = if tier == "STANDARD" { "local" } else { "transit" };
            until(&first, &tenant, |key| key["behind"] == json!(0) && key["provider"] == json!(wanted)).await;
        }
    })
    .await;
    println!("{count} writes and twice as many reads during eight rotations and two moves");
    assert!(count > 20, "{count}");
    assert_eq!(key(&admin, &tenant).await["version"], json!(5));
    // Of all wrapping keys that there were, the last is left.
    let last = |keys: &[String]| keys.len() == 1 && keys[0].ends_with("-7");
    for _ in 0..500 {
        if last(&transit.keys()) {
            break;
        }
        first.run_due().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(last(&transit.keys()), "{:?}", transit.keys());
    assert_eq!(first.app.tenant_keys.verify(tenant.id).await.unwrap(), []);
}

#[tokio::test]
async fn an_interrupted_rotation_of_the_wrapping_key_is_resumed() {
    let transit = TransitServer::start().await;
    let app = TestApp::with(&transit.settings()).await;
    let (tenant, admin) = (app.tenant("interrupted").await, app.admin().await);
    move_to(&admin, &tenant, "ENTERPRISE").await;
    put(&app, &tenant, "kept").await;
    rotate(&admin, &tenant, "DATA").await;
    transit.set(Mood::NoEncryption);
    let rotated = rotate(&admin, &tenant, "WRAPPING").await;
    assert_eq!((&rotated["generation"], &rotated["behind"]), (&json!(2), &json!(2)), "begun, and not done");
    assert_eq!(secret_after_rest(&app, &tenant).await, "kept");
    // Another server goes on where this one stopped.
    let other = app.replica(&transit.settings()).await;
    assert_eq!(
        secret_after_rest(&other, &tenant).await,
        "kept",
        "what the key of before wraps opens without encryption"
    );
    transit.set(Mood::Well);
    app.advance(TimeDelta::minutes(6));
    until(&other, &tenant, |key| key["behind"] == json!(0)).await;
    for _ in 0..500 {
        if transit.keys() == [format!("tenantry-{}-2", tenant.id)] {
            break;
        }
        app.advance(TimeDelta::minutes(3));
        other.run_due().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(transit.keys(), [format!("tenantry-{}-2", tenant.id)]);
    for app in [&app, &other] {
        assert_eq!(secret(app, &tenant).await, "kept");
        assert_eq!(app.app.tenant_keys.verify(tenant.id).await.unwrap(), []);
    }
    let journal = events(&admin, &tenant).await;
    let rewrapped: Vec<_> =
        journal.iter().filter(|(event, _)| event == "TenantKeyRewrapped").map(|(_, after)| after.clone()).collect();
    let of = |version| json!({ "version": version, "generation": 2, "provider": "transit" });
    assert_eq!(rewrapped, [of(1), of(2)], "each once");
}

#[tokio::test]
async fn a_tenant_that_moves_tiers_is_wrapped_by_its_new_tier_s_provider() {
    let transit = TransitServer::start().await;
    let app = TestApp::with(&transit.settings()).await;
    let (tenant, stays, admin) = (app.tenant("moving").await, app.tenant("staying").await, app.admin().await);
    for tenant in [&tenant, &stays] {
        put(&app, tenant, "moves along").await;
    }
    assert_eq!((key(&admin, &tenant).await["provider"].clone(), transit.keys().len()), (json!("local"), 0));
    move_to(&admin, &tenant, "ENTERPRISE").await;
    app.advance(TimeDelta::minutes(1));
    let moved = until(&app, &tenant, |key| key["provider"] == "transit" && key["behind"] == json!(0)).await;
    assert_eq!(moved["generation"], 2);
    assert!(
        text(
            &app,
            &format!(
                "select convert_from(wrapped, 'utf8') from tenantry.tenant_keys where tenant_id = '{}'",
                tenant.id
            )
        )
        .await
        .starts_with("vault:v1:")
    );
    assert_eq!(
        (secret(&app, &tenant).await, secret(&app, &stays).await),
        ("moves along".to_owned(), "moves along".to_owned())
    );
    move_to(&admin, &tenant, "STANDARD").await;
    app.advance(TimeDelta::minutes(1));
    until(&app, &tenant, |key| key["provider"] == "local" && key["behind"] == json!(0)).await;
    for _ in 0..500 {
        if transit.keys().is_empty() {
            break;
        }
        app.run_due().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(transit.keys(), Vec::<String>::new(), "the key that was left is destroyed");
    assert_eq!(secret(&app, &tenant).await, "moves along");
    assert_eq!(key(&admin, &stays).await["generation"], 1);
}

#[tokio::test]
async fn a_new_master_key_takes_over_without_downtime() {
    // The suite's own opens the signing key that the template has.
    let file = |name: &str| folder().join(name).display().to_string();
    let (old, new, suite) = (file("old.master"), file("new.master"), file("master.key"));
    let settings = |key: &str, next: &[&String], previous: &[&String]| {
        format!(
            "[keys]\nmaster_key_file = \"{key}\"\nnext_master_key_files = {next:?}\nprevious_master_key_files = {previous:?}"
        )
    };
    drop(TestApp::with(&settings(&new, &[&suite], &[])).await); // makes the file
    let before = TestApp::with(&settings(&old, &[&suite, &new], &[])).await;
    let (tenant, admin) = (before.tenant("inherited").await, before.admin().await);
    put(&before, &tenant, "kept").await;
    assert_eq!(key(&admin, &tenant).await["generation"], 1);
    let alone = before.replica(&settings(&new, &[&suite], &[])).await;
    assert_ne!(alone.app.tenant_keys.verify(tenant.id).await.unwrap(), [], "before anybody has both");
    let after = before.replica(&settings(&new, &[&suite], &[&old])).await;
    assert_eq!(secret(&after, &tenant).await, "kept");
    for _ in 0..500 {
        // A replica that is not changed yet may come first, and name its own key again: the next round is the other's.
        after.app.tenant_keys.notice_drift().await.unwrap();
        after.run_due().await;
        if alone.app.tenant_keys.verify(tenant.id).await.unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(secret(&alone, &tenant).await, "kept", "the old file may go");
    // One that is not changed yet opens what the new key wraps, and leaves it as it is.
    let generation = key(&admin, &tenant).await["generation"].clone();
    before.app.tenant_keys.notice_drift().await.unwrap();
    before.run_due().await;
    for replica in [&before, &after, &alone] {
        assert_eq!(replica.app.tenant_keys.verify(tenant.id).await.unwrap(), []);
    }
    assert_eq!(key(&admin, &tenant).await["generation"], generation);
}
