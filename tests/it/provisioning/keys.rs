//! Data keys as the first layer of a tenant's environment, and what of the data plane they seal.

use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use tenantry::{
    error::Kind,
    keys::MasterKey,
    provisioning::{Layer as _, Verdict, layers::KeysLayer},
};

use super::{ON, active, clusters::texts, create, events, observed, probes::verify};
use crate::support::{
    Tenant, TestApp,
    again::{alone, is_inner, missing},
    moto::Moto,
    softhsm,
    transit::{Mood, TransitServer},
};

fn on() -> String {
    ON.replace("[\"placement\"", "[\"keys\", \"placement\"")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_keys_are_the_first_layer_and_the_last_to_go_for_ever() {
    let app = TestApp::with(&on()).await;
    let admin = app.admin().await;
    let tenant = create(&admin, "keyed", "STANDARD").await;
    let seen = active(&admin, tenant).await;
    assert_eq!(observed(&seen)[0], ("keys", "PRESENT"));
    assert_eq!(seen["layers"][0]["essential"], true);
    app.app.provisioning.remove_all(tenant).await.unwrap();
    let removal = app.app.provisioning.removal(tenant).await.unwrap();
    assert_eq!(removal.removed["keys"].0["data keys"], 1, "{removal:?}");
    assert_eq!(removal.residue, [""; 0]);
    let told = events(&app, tenant).await;
    let gone = told.iter().rposition(|event| event == "LayerRemoved").unwrap();
    let shredded = told.iter().position(|event| event == "TenantKeyShredded").unwrap();
    let before = told[..shredded].iter().filter(|event| *event == "LayerRemoved").count();
    assert!(shredded < gone && before == 4, "all else goes first: {told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_layer_of_keys_can_be_repeated_and_run_by_two_and_makes_no_keys_again() {
    let app = TestApp::start().await;
    let tenant = app.created_tenant("keyed").await.id;
    let layer = KeysLayer::new(app.app.tenant_keys.clone());
    let site = app.app.provisioning.site_of(tenant).await.unwrap();
    assert!(layer.remove(&site).await.unwrap().is_nothing(), "nothing is there to remove");
    assert_eq!(layer.plan(&site).await.unwrap().len(), 1);
    assert!(matches!(layer.verify(&site).await.unwrap(), Verdict::Drifted(_)));
    let (one, other) = tokio::join!(layer.ensure(&site), layer.ensure(&site));
    assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
    assert!(layer.ensure(&site).await.unwrap().changes.is_empty(), "it is there already");
    assert_eq!(layer.verify(&site).await.unwrap(), Verdict::InPlace);
    assert_eq!(layer.residue(&site).await.unwrap().len(), 1);
    assert!(!layer.remove(&site).await.unwrap().is_nothing(), "something is removed");
    assert!(layer.remove(&site).await.unwrap().is_nothing(), "nothing is left to remove");
    assert_eq!(layer.residue(&site).await.unwrap(), [""; 0]);
    assert_eq!(layer.ensure(&site).await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_are_sealed_with_the_tenants_key_follow_its_rotation_and_end_with_it() {
    const FETCH: &str = "{ dataplaneCredentials { layer secret } }";
    let app = TestApp::with(&on()).await;
    let admin = app.admin().await;
    let id = create(&admin, "served", "STANDARD").await;
    active(&admin, id).await;
    let tenant = Tenant { id, slug: "served".to_owned(), canary: String::new() };
    let service = app.service(&tenant, "auth:dataplane:read").await;
    let first = service.ok(FETCH, json!({})).await;
    let registry = app.database.superuser().await;
    let versions = "select coalesce(key_version::text, 'platform') from tenantry.dataplane_credentials";
    assert_eq!(texts(&registry, versions).await, ["1"]);

    let rotate = "mutation($id: ID!) { rotateTenantKey(input: {tenantId: $id, level: DATA}) { key { version } } }";
    admin.ok(rotate, json!({ "id": id })).await;
    app.app.tenant_keys.reconcile(id).await.unwrap();
    assert_eq!(texts(&registry, versions).await, ["2"], "it is sealed anew");
    assert_eq!(service.ok(FETCH, json!({})).await, first, "and is the same");

    // As a release from before left it: sealed by the platform.
    let master = MasterKey::open(&app.app.config.master_key_file()).unwrap();
    let secret = first["dataplaneCredentials"][0]["secret"].as_str().unwrap();
    let before = master.seal(&format!("dataplane:{id}:role:0"), secret.as_bytes());
    let digits: String = before.iter().map(|byte| format!("{byte:02x}")).collect();
    let put = format!("update tenantry.dataplane_credentials set key_version = null, sealed = '\\x{digits}'");
    registry.execute_unprepared(&put).await.unwrap();
    assert_eq!(service.ok(FETCH, json!({})).await, first);
    admin.ok(rotate, json!({ "id": id })).await;
    app.app.tenant_keys.reconcile(id).await.unwrap();
    assert_eq!(texts(&registry, versions).await, ["3"]);
    assert_eq!(service.ok(FETCH, json!({})).await, first);

    // Everything the platform has, its own key included, opens nothing of it any more.
    let sealed = "select encode(sealed, 'hex') from tenantry.dataplane_credentials";
    assert!(!texts(&registry, sealed).await.is_empty());
    app.app.tenant_keys.shred(id).await.unwrap();
    assert_eq!(service.refused(FETCH, json!({})).await, "not_found");
    assert_eq!(texts(&registry, versions).await, ["3"], "the row is there, and shut");
}

/// Of a server that makes nothing but keys.
fn only_keys(settings: &str) -> String {
    let layers = ON.replace("[\"placement\", \"role\", \"database\", \"schema\"]", "[\"keys\"]");
    format!("{layers}\n{settings}").replace("[cells]", "[cells]\nown = false")
}

/// What of the layer's attempts came to `outcome`.
fn tried<'a>(probes: &'a Value, outcome: &str) -> Vec<&'a str> {
    let layers = probes["layers"].as_array().unwrap();
    let keys = layers.iter().find(|one| one["layer"] == "keys").unwrap();
    let attempts = keys["attempts"].as_array().unwrap().iter().filter(|attempt| attempt["outcome"] == outcome);
    attempts.map(|attempt| attempt["what"].as_str().unwrap()).collect()
}

const WITH_ITS_OWN: &str = "open the other tenant's data key with its own wrapping key";
const IN_ITS_NAME: &str = "open the other tenant's data key in its own name";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_tenants_key_opens_what_anothers_has_wrapped_wherever_keys_are() {
    let transit = TransitServer::start().await;
    let moto = Moto::start().await;
    let mut settings = transit.settings();
    let mut providers = vec!["transit"];
    if let Some(moto) = &moto {
        settings += &moto.settings()[moto.settings().find("[keys.kms]").unwrap()..];
        providers.push("kms");
    } else {
        missing("moto_server (scripts/moto)");
    }
    let app = TestApp::with(&only_keys(&settings)).await;
    let admin = app.admin().await;
    // A second run finds what the first has left at a provider that keeps it.
    for _ in 0..2 {
        let probes = verify(&admin).await;
        assert_eq!(probes["outcome"], "REFUSED", "{probes:#}");
        let mut refused = tried(&probes, "REFUSED");
        refused.sort_unstable();
        let mut expected = vec![
            "open the other tenant's secret in its own name".to_owned(),
            "open the other tenant's secret with its own data key".to_owned(),
            format!("{WITH_ITS_OWN} (local)"),
        ];
        expected
            .extend(providers.iter().flat_map(|at| [WITH_ITS_OWN, IN_ITS_NAME].map(|what| format!("{what} ({at})"))));
        expected.sort_unstable();
        assert_eq!(refused, expected);
        assert_eq!(transit.keys(), [""; 0], "nothing is left there");
    }

    transit.set(Mood::Careless);
    let probes = verify(&admin).await;
    let open = [WITH_ITS_OWN, IN_ITS_NAME].map(|what| format!("{what} (transit)"));
    assert_eq!(
        (&probes["outcome"], tried(&probes, "LET_THROUGH")),
        (&json!("LET_THROUGH"), open.iter().map(|s| &**s).collect())
    );
    transit.set(Mood::Sealed);
    let probes = verify(&admin).await;
    assert_eq!(tried(&probes, "INCONCLUSIVE"), ["open the other tenant's data key (transit)"], "{probes:#}");
    assert_eq!(
        app.anonymous().get("/readyz").await.body["isolation"],
        json!({ "open": ["keys"], "notShown": ["keys"] })
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_tenants_key_opens_what_anothers_has_wrapped_in_an_hsm() {
    if is_inner() {
        let app = TestApp::with(&only_keys(&softhsm::settings())).await;
        let probes = verify(&app.admin().await).await;
        let refused = tried(&probes, "REFUSED");
        for what in [WITH_ITS_OWN, IN_ITS_NAME] {
            assert!(refused.contains(&&*format!("{what} (pkcs11)")), "{probes:#}");
        }
        assert_eq!(probes["outcome"], "REFUSED", "{probes:#}");
        return;
    }
    let Some(environment) = softhsm::token() else { return missing("SoftHSM (softhsm2)") };
    alone("provisioning::keys::no_tenants_key_opens_what_anothers_has_wrapped_in_an_hsm", &[environment]);
}
