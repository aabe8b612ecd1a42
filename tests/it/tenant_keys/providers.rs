//! The same life of a tenant's keys with each provider.

use chrono::TimeDelta;
use serde_json::json;
use tenantry::{config::KeyProvider, error::Kind, tenant_keys::Shredded};

use super::{ROTATE, move_to, put, rotate, scope, secret, until};
use crate::support::{
    TestApp,
    again::{alone, is_inner, missing},
    moto::Moto,
    softhsm,
    transit::TransitServer,
};

/// Makes, rotates, moves and destroys the keys of a tenant of `tier`, with servers that begin anew in between.
async fn live(settings: &str, tier: &str, provider: KeyProvider) {
    let app = TestApp::with(settings).await;
    let (tenant, neighbour, admin) = (app.tenant("living").await, app.tenant("neighbour").await, app.admin().await);
    for tenant in [&tenant, &neighbour] {
        move_to(&admin, tenant, tier).await;
        put(&app, tenant, &format!("of {}", tenant.slug)).await;
    }
    let own = usize::from(provider != KeyProvider::Local);
    for (level, version, generation) in [("DATA", 2, 1), ("WRAPPING", 2, 2), ("DATA", 3, 2)] {
        let rotated = rotate(&admin, &tenant, level).await;
        let expected = (&json!(version), &json!(generation), &json!(provider.name()));
        assert_eq!((&rotated["version"], &rotated["generation"], &rotated["provider"]), expected, "{rotated}");
        until(&app, &tenant, |key| key["behind"] == json!(0)).await;
        let anew = app.replica(settings).await;
        assert_eq!(anew.app.tenant_keys.verify(tenant.id).await.unwrap(), []);
        assert_eq!(secret(&anew, &tenant).await, "of living");
    }
    move_to(&admin, &tenant, if tier == "STANDARD" { "PREMIUM" } else { "STANDARD" }).await;
    app.advance(TimeDelta::minutes(1));
    until(&app, &tenant, |key| key["behind"] == json!(0) && (key["provider"] == "local")).await;
    move_to(&admin, &tenant, tier).await;
    app.advance(TimeDelta::minutes(1));
    until(&app, &tenant, |key| key["behind"] == json!(0) && key["provider"] == provider.name()).await;
    let anew = app.replica(settings).await;
    assert_eq!(secret(&anew, &tenant).await, "of living");
    // Versions 1 and 2 have been replaced for less than `retire_after`.
    // Two servers at once, and again.
    let (shredded, other) = tokio::join!(app.app.tenant_keys.shred(tenant.id), anew.app.tenant_keys.shred(tenant.id));
    let shredded = shredded.unwrap();
    assert_eq!((shredded.data_keys, &other.unwrap()), (3, &shredded));
    assert!(shredded.wrapping_keys >= 2 * own, "{shredded:?}");
    assert_eq!(app.app.tenant_keys.shred(tenant.id).await.unwrap(), shredded);
    assert_eq!(app.app.tenant_keys.secret(&scope(&tenant), "dsn").await.unwrap_err().kind(), Kind::NotFound);
    let anew = app.replica(settings).await;
    assert_eq!(secret(&anew, &neighbour).await, "of neighbour");
    assert_eq!(anew.app.tenant_keys.shred(neighbour.id).await.unwrap(), Shredded { data_keys: 1, wrapping_keys: own });
}

#[tokio::test]
async fn keys_live_with_the_master_key() {
    live("", "STANDARD", KeyProvider::Local).await;
}

#[tokio::test]
async fn keys_live_with_transit() {
    let transit = TransitServer::start().await;
    live(&transit.settings(), "ENTERPRISE", KeyProvider::Transit).await;
    assert_eq!(transit.keys(), Vec::<String>::new(), "none is left there");
}

#[tokio::test]
async fn keys_live_with_aws_kms() {
    let Some(moto) = Moto::start().await else { return missing("moto_server (scripts/moto)") };
    live(&moto.settings(), "ENTERPRISE", KeyProvider::Kms).await;
}

#[tokio::test]
async fn aws_kms_refuses_what_is_signed_with_another_secret() {
    let Some(moto) = Moto::start().await else { return missing("moto_server (scripts/moto)") };
    let app = TestApp::with(&moto.settings_with("not-the-secret")).await;
    let (tenant, admin) = (app.tenant("forged").await, app.admin().await);
    move_to(&admin, &tenant, "ENTERPRISE").await;
    let refused = admin.graphql(ROTATE, json!({ "id": tenant.id, "level": "DATA" })).await;
    assert_eq!(refused.code(), "unavailable");
    assert!(refused.text.contains("`kms`") && !refused.text.contains("not-the-secret"), "{}", refused.text);
    let providers = app.app.tenant_keys.providers();
    let (_, outage) = providers.iter().find(|(provider, _)| *provider == KeyProvider::Kms).unwrap();
    assert!(outage.as_ref().unwrap().reason.starts_with("refuses"), "{outage:?}");
}

#[tokio::test]
async fn keys_live_inside_an_hsm() {
    if is_inner() {
        return live(&softhsm::settings(), "PREMIUM", KeyProvider::Pkcs11).await;
    }
    let Some(environment) = softhsm::token() else { return missing("SoftHSM (softhsm2)") };
    alone("tenant_keys::providers::keys_live_inside_an_hsm", &[environment]);
}
