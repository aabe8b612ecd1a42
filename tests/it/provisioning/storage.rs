//! Tenants' folders in an object storage.

use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use object_store::{
    ObjectStoreExt as _,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path,
};
use serde_json::{Value, json};

use super::{ON, active, clusters::stem, create, events, eventually};
use crate::support::{self, Client, Tenant, TestApp, moto::Moto};

fn on() -> String {
    ON.replace("\"schema\"]", "\"schema\", \"storage\"]")
}

fn files(folder: &std::path::Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_folder_is_made_healed_and_removed_with_all_that_is_in_it() {
    let place = support::folder().join("tenants-objects");
    let app = TestApp::with(&format!("{}\n[storage]\nurl = \"file://{}\"\n", on(), place.display())).await;
    let admin = app.admin().await;
    let (a, b) = tokio::join!(create(&admin, "full", "STANDARD"), create(&admin, "beside", "STANDARD"));
    for tenant in [a, b] {
        active(&admin, tenant).await;
    }
    let (own, beside) = (place.join(stem(a)), place.join(stem(b)));
    assert_eq!((files(&own).len(), files(&beside).len()), (1, 1), "each has its mark");

    for tampering in [std::fs::remove_dir_all as fn(PathBuf) -> std::io::Result<()>, |own| {
        std::fs::write(own.join(".tenantry"), "B's")
    }] {
        let before = events(&app, a).await.iter().filter(|event| *event == "LayerDrifted").count();
        tampering(own.clone()).unwrap();
        app.advance(TimeDelta::minutes(75));
        eventually("it is noticed and mended", async || {
            let drifts = events(&app, a).await.iter().filter(|event| *event == "LayerDrifted").count();
            let mended = std::fs::read_to_string(own.join(".tenantry")).is_ok_and(|text| text.contains(&a.to_string()));
            (drifts > before && mended).then_some(())
        })
        .await;
    }
    std::fs::create_dir_all(own.join("deep/er")).unwrap();
    for number in 0..1500 {
        std::fs::write(own.join(format!("deep/er/{number}")), "12").unwrap();
    }
    let removal = app.app.provisioning.remove_all(a).await.unwrap();
    let gone = serde_json::to_value(&removal.removed["storage"]).unwrap();
    let mark = json!({ "tenant": a }).to_string().len();
    assert_eq!(gone, json!({ "objects": 1501, "bytes": 3000 + mark }));
    assert_eq!(removal.residue, [""; 0]);
    assert!(!own.exists(), "no empty folder tells of it");
    assert_eq!(files(&beside).len(), 1, "nothing else went");
}

/// S3 with these credentials.
fn s3(moto: &Moto, credential: &Value) -> AmazonS3 {
    let secret: Value = serde_json::from_str(credential["secret"].as_str().unwrap()).unwrap();
    AmazonS3Builder::new()
        .with_bucket_name(detail(credential, "bucket"))
        .with_region(detail(credential, "region"))
        .with_endpoint(&moto.address)
        .with_allow_http(true)
        .with_access_key_id(detail(credential, "accessKeyId"))
        .with_secret_access_key(secret["secretAccessKey"].as_str().unwrap())
        .with_token(secret["sessionToken"].as_str().unwrap())
        .build()
        .unwrap()
}

fn detail<'a>(credential: &'a Value, name: &str) -> &'a str {
    let all = credential["details"].as_array().unwrap();
    all.iter().find(|detail| detail["name"] == name).unwrap()["value"].as_str().unwrap()
}

async fn fetch(app: &TestApp, tenant: &Tenant) -> Value {
    let query = "{ dataplaneCredentials { layer details { name value } secret issuedAt validUntil } }";
    let got = app.service(tenant, "auth:dataplane:read").await.ok(query, json!({})).await;
    let all = got["dataplaneCredentials"].as_array().unwrap();
    all.iter().find(|one| one["layer"] == "storage").unwrap().clone()
}

async fn tenant(admin: &Client, slug: &str) -> Tenant {
    let id = create(admin, slug, "STANDARD").await;
    active(admin, id).await;
    Tenant { id, slug: slug.to_owned(), canary: String::new() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_gets_a_session_of_s3_for_its_tenants_folder_alone_that_is_renewed_before_it_ends() {
    let Some(moto) = Moto::with_storage().await else {
        println!("moto could not be had here (scripts/moto says why): sessions of S3 are not tested");
        return;
    };
    let app = TestApp::with(&format!("{}\n{}", on(), moto.storage_settings(&moto.address))).await;
    let admin = app.admin().await;
    let (a, b) = tokio::join!(tenant(&admin, "intruder"), tenant(&admin, "victim"));
    let (first, others) = (fetch(&app, &a).await, fetch(&app, &b).await);
    let at = |name: &str| first[name].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    let life = at("validUntil") - at("issuedAt");
    assert!(life <= TimeDelta::seconds(3601) && life > TimeDelta::minutes(50), "{life}");

    // Each is tried under its own session's policy, which moto enforces for roles alone. It knows no conditions and checks no
    // copies, so both are left out here: that lists are limited to the folder a unit test of the policy shows.
    let object = |credential: &Value, name: &str| Path::from(format!("{}/{name}", detail(credential, "folder")));
    let (victim, intruder) = (s3(&moto, &others), s3(&moto, &first));
    moto.narrow_role(&moto.session_policy(&stem(b.id)).await).await;
    victim.put(&object(&others, "notes"), "B's".into()).await.unwrap();
    moto.narrow_role(&moto.session_policy(&stem(a.id)).await).await;
    intruder.put(&object(&first, "notes"), "A's".into()).await.unwrap();
    assert_eq!(intruder.get(&object(&first, "notes")).await.unwrap().bytes().await.unwrap(), "A's");
    let (theirs, beside) = (object(&others, "notes"), Path::from(format!("{}x/notes", detail(&first, "folder"))));
    let refused = [
        intruder.get(&theirs).await.map(drop),
        intruder.head(&theirs).await.map(drop),
        intruder.put(&theirs, "forged".into()).await.map(drop),
        intruder.delete(&theirs).await,
        intruder.put(&beside, "forged".into()).await.map(drop),
        intruder.put(&Path::from("notes"), "forged".into()).await.map(drop),
        intruder.put(&object(&first, ".tenantry"), "forged".into()).await.map(drop),
        intruder.delete(&object(&others, ".tenantry")).await,
    ];
    for (index, attempt) in refused.into_iter().enumerate() {
        // The library says of a deletion only in words that it was refused.
        let told = attempt.expect_err(&index.to_string());
        let denied = matches!(told, object_store::Error::PermissionDenied { .. });
        assert!(denied || told.to_string().contains("Access Denied"), "{index}: {told:?}");
    }
    moto.narrow_role(&moto.session_policy(&stem(b.id)).await).await;
    assert_eq!(victim.get(&theirs).await.unwrap().bytes().await.unwrap(), "B's");

    app.advance(TimeDelta::minutes(31));
    app.run_due().await;
    assert_ne!(fetch(&app, &a).await["secret"], first["secret"], "at half of its life there is another");
    let removal = app.app.provisioning.remove_all(a.id).await.unwrap();
    assert_eq!(serde_json::to_value(&removal.removed["storage"]).unwrap()["objects"], 2);
    assert_eq!(removal.residue, [""; 0]);
}
