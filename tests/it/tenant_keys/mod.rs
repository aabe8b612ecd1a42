//! Tenants' data keys, who wraps them, and what becomes of what they sealed.

mod leaks;
mod outage;
mod providers;
mod rotation;

use std::time::Duration;

use chrono::TimeDelta;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use serde_json::{Value, json};
use tenantry::{
    config::KeyProvider,
    error::Kind,
    isolation::TenantScope,
    keys::version_of,
    tenant_keys::{KeyProblem, Shredded},
};

use crate::support::{
    Client, Tenant, TestApp,
    transit::{Mood, TransitServer},
};

pub(super) const ROTATE: &str =
    "mutation($id: ID!, $level: KeyLevel!) { rotateTenantKey(input: {tenantId: $id, level: $level}) {
    key { version versions provider generation behind rotatedAt shreddedAt } } }";
pub(super) const KEY: &str =
    "query($id: ID) { tenant(id: $id) { encryptionKey { version versions provider generation behind } } }";
const MOVE: &str = "mutation($id: ID!, $tier: IsolationTier!) { updateTenant(input: {id: $id, isolationTier: $tier}) { tenant { id } } }";

pub(super) fn scope(tenant: &Tenant) -> TenantScope {
    TenantScope::system("test", tenant.id)
}

/// Keeps a secret called `dsn`.
pub(super) async fn put(app: &TestApp, tenant: &Tenant, secret: &str) {
    app.app.tenant_keys.put_secret(&scope(tenant), "dsn", secret.as_bytes()).await.unwrap();
}

pub(super) async fn secret(app: &TestApp, tenant: &Tenant) -> String {
    let found = app.app.tenant_keys.secret(&scope(tenant), "dsn").await.unwrap().unwrap();
    String::from_utf8(found.to_vec()).unwrap()
}

/// The same where the provider has just failed and is left alone for a second.
pub(super) async fn secret_after_rest(app: &TestApp, tenant: &Tenant) -> String {
    for _ in 0..100 {
        match app.app.tenant_keys.secret(&scope(tenant), "dsn").await {
            Err(error) if error.kind() == Kind::Unavailable => tokio::time::sleep(Duration::from_millis(50)).await,
            found => return String::from_utf8(found.unwrap().unwrap().to_vec()).unwrap(),
        }
    }
    panic!("the provider does not come back");
}

/// Shows that the secret opens without its provider, which is in this mood.
pub(super) async fn opens_from_memory(app: &TestApp, tenant: &Tenant, transit: &TransitServer, mood: Mood) {
    for _ in 0..20 {
        if let Ok(found) = app.app.tenant_keys.secret(&scope(tenant), "dsn").await {
            return assert_eq!(found.unwrap().as_slice(), b"in memory");
        }
        // A server that was not heard of for a moment has forgotten, and learns once more.
        transit.set(Mood::Well);
        app.advance(TimeDelta::seconds(2));
        assert_eq!(secret_after_rest(app, tenant).await, "in memory");
        transit.set(mood);
    }
    panic!("memory opens nothing");
}

pub(super) async fn move_to(admin: &Client, tenant: &Tenant, tier: &str) {
    admin.ok(MOVE, json!({ "id": tenant.id, "tier": tier })).await;
}

pub(super) async fn key(admin: &Client, tenant: &Tenant) -> Value {
    admin.ok(KEY, json!({ "id": tenant.id })).await["tenant"]["encryptionKey"].clone()
}

pub(super) async fn rotate(admin: &Client, tenant: &Tenant, level: &str) -> Value {
    admin.ok(ROTATE, json!({ "id": tenant.id, "level": level })).await["rotateTenantKey"]["key"].clone()
}

/// Waits until the schedule has brought the tenant's keys to where `done` finds them.
pub(super) async fn until(app: &TestApp, tenant: &Tenant, done: impl Fn(&Value) -> bool) -> Value {
    let admin = app.admin().await;
    let mut last = Value::Null;
    for _ in 0..1000 {
        app.run_due().await;
        last = key(&admin, tenant).await;
        if done(&last) {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the keys do not get there: {last}");
}

/// Events of this subject in the tenant's journal, the first first.
pub(super) async fn events(admin: &Client, tenant: &Tenant) -> Vec<(String, Value)> {
    let query = "query($id: ID) { audit(tenantId: $id, first: 100, filter: {subjectKind: \"tenantKey\"}) { edges { node { event after } } } }";
    let found = admin.ok(query, json!({ "id": tenant.id })).await["audit"]["edges"].clone();
    let event = |edge: &Value| (edge["node"]["event"].as_str().unwrap().to_owned(), edge["node"]["after"].clone());
    found.as_array().unwrap().iter().rev().map(event).collect()
}

pub(super) async fn text(app: &TestApp, sql: &str) -> String {
    let database = app.database.superuser().await;
    let row = database.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap();
    row.and_then(|row| row.try_get_by_index::<Option<String>>(0).unwrap()).unwrap_or_default()
}

#[tokio::test]
async fn a_sealed_secret_opens_for_its_tenant_and_purpose_only() {
    let app = TestApp::start().await;
    let (own, other) = (app.tenant("own").await, app.tenant("other").await);
    let keys = &app.app.tenant_keys;
    let sealed = keys.seal(&scope(&own), "ldap", b"bind password").await.unwrap();
    assert_eq!((sealed.version, version_of(&sealed.bytes)), (1, Some(1)));
    assert_eq!(keys.unseal(&scope(&own), "ldap", &sealed.bytes).await.unwrap().as_slice(), b"bind password");
    for (tenant, purpose) in [(&own, "ldap2"), (&other, "ldap")] {
        keys.ensure(tenant.id).await.unwrap();
        let refused = keys.unseal(&scope(tenant), purpose, &sealed.bytes).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Internal, "{purpose}");
    }
    // Another tenant's row is not there for a session of this one, whatever it asks.
    put(&app, &other, "secret of other").await;
    assert_eq!(keys.secret(&scope(&own), "dsn").await.unwrap(), None);
    let newer = [&[2], 7_i64.to_be_bytes().as_slice(), &sealed.bytes[9..]].concat();
    for bytes in [newer.as_slice(), &[], b"\x01abc", &sealed.bytes[..20]] {
        assert!(keys.unseal(&scope(&own), "ldap", bytes).await.is_err());
    }
}

#[tokio::test]
async fn a_secret_is_replaced_and_forgotten_and_its_name_has_rules() {
    let app = TestApp::start().await;
    let tenant = app.tenant("secretive").await;
    let keys = &app.app.tenant_keys;
    put(&app, &tenant, "one").await;
    put(&app, &tenant, "two").await;
    assert_eq!(secret(&app, &tenant).await, "two");
    assert!(keys.remove_secret(&scope(&tenant), "dsn").await.unwrap());
    assert!(!keys.remove_secret(&scope(&tenant), "dsn").await.unwrap());
    assert_eq!(keys.secret(&scope(&tenant), "dsn").await.unwrap(), None);
    let (long, large) = ("n".repeat(201), vec![0; 64 * 1024 + 1]);
    for (name, secret, field) in
        [("", &b""[..], "name"), (&long, b"", "name"), ("a\nb", b"", "name"), ("a", &large, "secret")]
    {
        let refused = keys.put_secret(&scope(&tenant), name, secret).await.unwrap_err();
        assert_eq!((refused.kind(), refused.field()), (Kind::InvalidInput, Some(field)));
    }
    let query =
        "query($id: ID) { audit(tenantId: $id, filter: {subjectKind: \"tenantSecret\"}) { edges { node { event } } } }";
    let found = app.admin().await.ok(query, json!({ "id": tenant.id })).await["audit"]["edges"].clone();
    let found: Vec<_> = found.as_array().unwrap().iter().map(|edge| edge["node"]["event"].clone()).collect();
    assert_eq!(found, ["TenantSecretRemoved", "TenantSecretSet", "TenantSecretSet"]);
}

#[tokio::test]
async fn replicas_that_seal_first_at_once_make_one_key_between_them() {
    let first = TestApp::start().await;
    let second = first.replica("").await;
    let tenant = first.tenant("raced").await;
    let seals = (0..16).map(|number| {
        let keys = [&first, &second][number % 2].app.tenant_keys.clone();
        let scope = scope(&tenant);
        tokio::spawn(async move { keys.seal(&scope, "race", format!("secret {number}").as_bytes()).await.unwrap() })
    });
    for (number, sealed) in futures::future::join_all(seals).await.into_iter().enumerate() {
        let sealed = sealed.unwrap();
        assert_eq!(sealed.version, 1);
        for app in [&first, &second] {
            let opened = app.app.tenant_keys.unseal(&scope(&tenant), "race", &sealed.bytes).await.unwrap();
            assert_eq!(opened.as_slice(), format!("secret {number}").as_bytes());
        }
    }
    let made = events(&first.admin().await, &tenant).await;
    assert_eq!(made.len(), 1, "{made:?}");
    assert_eq!(made[0].0, "TenantKeyCreated");
    assert_eq!(made[0].1, json!({ "level": "DATA", "version": 1, "generation": 1, "provider": "local" }));
}

#[tokio::test]
async fn ensure_verify_and_shred_can_be_repeated_and_nothing_opens_after_shredding() {
    let app = TestApp::start().await;
    let replica = app.replica("").await;
    let (tenant, untouched, without) =
        (app.tenant("ended").await, app.tenant("goes-on").await, app.tenant("without").await);
    let (keys, admin) = (&app.app.tenant_keys, app.admin().await);
    assert_eq!(keys.verify(tenant.id).await.unwrap(), [KeyProblem::Missing]);
    assert_eq!(key(&admin, &tenant).await, Value::Null);
    for _ in 0..2 {
        keys.ensure(tenant.id).await.unwrap();
        assert_eq!(keys.verify(tenant.id).await.unwrap(), []);
    }
    rotate(&admin, &tenant, "DATA").await;
    put(&app, &tenant, "soon unreadable").await;
    put(&app, &untouched, "stays").await;
    assert_eq!(secret(&replica, &tenant).await, "soon unreadable");
    let sealed = keys.seal(&scope(&tenant), "kept", b"elsewhere").await.unwrap();
    for _ in 0..2 {
        assert_eq!(keys.shred(tenant.id).await.unwrap(), Shredded { data_keys: 2, wrapping_keys: 0 });
    }
    assert_eq!(keys.verify(tenant.id).await.unwrap(), [KeyProblem::Destroyed]);
    let gone = |error: tenantry::error::Error| assert_eq!(error.kind(), Kind::NotFound, "{error}");
    gone(keys.unseal(&scope(&tenant), "kept", &sealed.bytes).await.unwrap_err());
    gone(keys.seal(&scope(&tenant), "kept", b"more").await.unwrap_err());
    gone(keys.ensure(tenant.id).await.unwrap_err());
    gone(keys.secret(&scope(&tenant), "dsn").await.unwrap_err());
    assert_eq!(admin.refused(ROTATE, json!({ "id": tenant.id, "level": "DATA" })).await, "not_found");
    // The other replica had the key in memory: it goes with the notification.
    for attempt in 0.. {
        match replica.app.tenant_keys.secret(&scope(&tenant), "dsn").await {
            Err(error) => {
                gone(error);
                break;
            }
            Ok(_) if attempt < 500 => tokio::time::sleep(Duration::from_millis(10)).await,
            Ok(_) => panic!("the other replica goes on opening"),
        }
    }
    assert_eq!(text(&app, "select count(wrapped)::text from tenantry.tenant_keys where version > 0 and tenant_id <> (select tenant_id from tenantry.tenants where slug = 'goes-on')").await, "0");
    assert_eq!(secret(&app, &untouched).await, "stays");
    let shredded: Vec<_> =
        events(&admin, &tenant).await.into_iter().filter(|(event, _)| event == "TenantKeyShredded").collect();
    assert_eq!(shredded, [("TenantKeyShredded".to_owned(), json!({ "dataKeys": 2, "wrappingKeys": 0 }))]);
    // A tenant that never had a key gets none either.
    assert_eq!(keys.shred(without.id).await.unwrap(), Shredded::default());
    gone(keys.seal(&scope(&without), "kept", b"more").await.unwrap_err());
}

#[tokio::test]
async fn a_service_sees_how_its_own_key_stands_and_rotates_none() {
    let app = TestApp::start().await;
    let (own, other) = (app.tenant("own").await, app.tenant("other").await);
    for tenant in [&own, &other] {
        app.app.tenant_keys.ensure(tenant.id).await.unwrap();
    }
    let service = app.full_service(&own).await;
    let seen = service.ok(KEY, json!({})).await["tenant"]["encryptionKey"].clone();
    assert_eq!(seen, json!({ "version": 1, "versions": [1], "provider": "local", "generation": 1, "behind": 0 }));
    assert_eq!(service.ok(KEY, json!({ "id": other.id })).await["tenant"], Value::Null);
    assert_eq!(service.refused(ROTATE, json!({ "id": own.id, "level": "DATA" })).await, "forbidden");
    let admin = app.admin().await;
    assert_eq!(admin.refused(ROTATE, json!({ "id": uuid::Uuid::nil(), "level": "DATA" })).await, "not_found");
}

#[tokio::test]
async fn a_key_leaves_memory_after_its_time() {
    let app = TestApp::with("[keys]\ncache_ttl = \"1m\"").await;
    let tenant = app.tenant("forgetful").await;
    put(&app, &tenant, "opens with the key in memory").await;
    // What wraps it no longer opens, so only memory does. A server forgets when it was not heard of for a moment: then there is another round.
    const BREAK_OR_MEND: &str =
        "update tenantry.tenant_keys set wrapped = set_byte(wrapped, 0, get_byte(wrapped, 0) # 255)";
    let database = app.database.superuser().await;
    let mut rounds = 0..20;
    loop {
        assert_eq!(secret(&app, &tenant).await, "opens with the key in memory");
        database.execute_unprepared(BREAK_OR_MEND).await.unwrap();
        if app.app.tenant_keys.secret(&scope(&tenant), "dsn").await.is_ok() {
            break;
        }
        rounds.next().expect("memory opens it");
        database.execute_unprepared(BREAK_OR_MEND).await.unwrap();
    }
    app.advance(TimeDelta::seconds(61));
    let refused = app.app.tenant_keys.secret(&scope(&tenant), "dsn").await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Internal);
    let [problem] = &*app.app.tenant_keys.verify(tenant.id).await.unwrap() else { panic!("it opens") };
    assert!(matches!(problem, KeyProblem::NotOpened { version: 1, .. }), "{problem}");
    let providers = app.app.tenant_keys.providers();
    assert_eq!(providers, [(KeyProvider::Local, None)], "a broken row is no outage");
}
