//! What a tenant's services get to reach their data.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use super::{
    ON, active,
    clusters::{Cluster, connect, register, stem, texts},
    create,
};
use crate::support::{Client, Tenant, TestApp};

const FETCH: &str = "{ dataplaneCredentials { layer details { name value } secret issuedAt validUntil } }";

struct Login {
    user: String,
    url: String,
    secret: String,
    valid_until: DateTime<Utc>,
}

async fn fetch(service: &Client) -> Login {
    let got = service.ok(FETCH, json!({})).await;
    let all = got["dataplaneCredentials"].as_array().unwrap();
    assert_eq!(all.len(), 1, "{got}");
    let credential: &Value = &all[0];
    assert_eq!(credential["layer"], "role");
    let detail = |name: &str| {
        let details = credential["details"].as_array().unwrap();
        details.iter().find(|detail| detail["name"] == name).unwrap()["value"].as_str().unwrap().to_owned()
    };
    let secret = credential["secret"].as_str().unwrap().to_owned();
    let host = detail("host").replace('/', "%2F");
    let url = format!(
        "postgres:///{}?host={host}&port={}&user={}&password={secret}",
        detail("database"),
        detail("port"),
        detail("user")
    );
    Login {
        user: detail("user"),
        url,
        secret,
        valid_until: credential["validUntil"].as_str().unwrap().parse().unwrap(),
    }
}

async fn start(cluster: &Cluster) -> (TestApp, Tenant) {
    let app = TestApp::with(&ON.replace("[cells]", "[cells]\nown = false")).await;
    let admin = app.admin().await;
    register(&admin, "asking", "STANDARD", &cluster.url("postgres", "postgres")).await;
    let id = create(&admin, "served", "STANDARD").await;
    active(&admin, id).await;
    (app, Tenant { id, slug: "served".to_owned(), canary: String::new() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_gets_a_login_of_its_tenant_that_is_renewed_before_it_ends() {
    let cluster = Cluster::start().asking_for_passwords();
    let (app, tenant) = start(&cluster).await;
    let service = app.service(&tenant, "auth:dataplane:read").await;
    let first = fetch(&service).await;
    let db = connect(&first.url).await.unwrap();
    assert_eq!(texts(&db, "select current_user::text").await, [stem(tenant.id)]);
    assert_eq!(texts(&db, "select current_setting('search_path')").await, [stem(tenant.id)]);
    db.execute_unprepared("create table notes (text text); insert into notes values ('kept')").await.unwrap();
    assert!(connect(&first.url.replace(&first.secret, "guessed")).await.is_err(), "the password counts");
    assert_eq!(fetch(&service).await.secret, first.secret, "it stays while it is fresh");

    app.advance(TimeDelta::hours(7));
    app.run_due().await;
    let service = app.service(&tenant, "auth:dataplane:read").await;
    let second = fetch(&service).await;
    assert_ne!((&second.user, &second.secret), (&first.user, &first.secret));
    for login in [&first, &second] {
        let db = connect(&login.url).await.unwrap();
        assert_eq!(texts(&db, "select text from notes").await, ["kept"], "both open until the first ends");
    }
    let superuser = cluster.connect("postgres", "postgres").await;
    for login in [&first, &second] {
        let ends = format!("select to_json(rolvaliduntil)::text from pg_authid where rolname = '{}'", login.user);
        let ends: DateTime<Utc> = serde_json::from_str(&texts(&superuser, &ends).await[0]).unwrap();
        assert!((ends - login.valid_until).num_milliseconds().abs() <= 1, "{ends} {}", login.valid_until);
    }
    let kept = app.database.superuser().await;
    let journal = texts(&kept, "select string_agg(concat(before, after), ' ') from tenantry.journal").await;
    let sealed = texts(
        &kept,
        "select string_agg(concat(details, encode(sealed, 'escape')), ' ') from tenantry.dataplane_credentials",
    )
    .await;
    assert!(journal[0].contains("validUntil"));
    for text in [&journal[0], &sealed[0]] {
        assert!(!text.contains(&first.secret) && !text.contains(&second.secret), "a secret is never kept in the clear");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_has_ended_opens_nothing_and_a_suspended_tenant_gets_none() {
    let cluster = Cluster::start().asking_for_passwords();
    let (app, tenant) = start(&cluster).await;
    // PostgreSQL has no other clock than the machine's: the server's is set back.
    app.advance(TimeDelta::hours(-13));
    let service = app.service(&tenant, "auth:dataplane:read").await;
    let ended = fetch(&service).await;
    assert!(connect(&ended.url).await.is_err());
    app.advance(TimeDelta::hours(13));
    let service = app.service(&tenant, "auth:dataplane:read").await;
    let fresh = fetch(&service).await;
    connect(&fresh.url).await.unwrap();
    let suspend =
        "mutation($id: ID!) { suspendTenant(input: {id: $id, mode: GRACEFUL, reason: BILLING}) { tenant { status } } }";
    app.admin().await.ok(suspend, json!({ "id": tenant.id })).await;
    assert_eq!(service.refused(FETCH, json!({})).await, "tenant_suspended");
}
