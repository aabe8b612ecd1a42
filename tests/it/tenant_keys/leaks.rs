//! Nothing secret in logs, errors, the journal, answers, or a dump of the database.

use std::{path::PathBuf, process::Command};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use serde_json::json;
use tenantry::tenant_keys::TenantKeys;

use super::{KEY, ROTATE, move_to, put, rotate, scope, secret, until};
use crate::support::{
    TestApp,
    again::{alone, is_inner},
    folder,
    transit::{Mood, TOKEN, TransitServer},
};

const SECRET: &str = "postgres://tenant:swordfish-3141@db/tenant";

/// The data keys that are wrapped with the master key, opened by hand: form, nonce, ciphertext, bound to tenant and version.
async fn data_keys(app: &TestApp) -> Vec<Vec<u8>> {
    let master = std::fs::read_to_string(app.app.config.master_key_file()).unwrap();
    let master = STANDARD.decode(master.trim()).unwrap();
    let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &master).unwrap());
    let sql = "select tenant_id::text, version, wrapped from tenantry.tenant_keys join tenantry.tenant_wrapping_keys using (tenant_id, generation) where provider = 'local'";
    let rows =
        app.database.superuser().await.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap();
    let open = |row: &sea_orm::QueryResult| {
        let (tenant, version): (String, i64) = (row.try_get_by_index(0).unwrap(), row.try_get_by_index(1).unwrap());
        let wrapped: Vec<u8> = row.try_get_by_index(2).unwrap();
        assert_eq!((wrapped[0], wrapped.len()), (1, 1 + 12 + 32 + 16));
        let (nonce, mut text) = (Nonce::try_assume_unique_for_key(&wrapped[1..13]).unwrap(), wrapped[13..].to_vec());
        let bound = format!("tenant-key:{tenant}:{version}");
        cipher.open_in_place(nonce, Aad::from(bound.as_bytes()), &mut text).unwrap().to_vec()
    };
    let mut keys: Vec<_> = rows.iter().map(open).collect();
    keys.push(master);
    keys
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Each form in which someone may have written these bytes.
fn forms(bytes: &[u8]) -> Vec<Vec<u8>> {
    let base64 = |text: String| text.trim_end_matches('=').as_bytes().to_vec();
    let list = format!("{bytes:?}");
    vec![
        bytes.to_vec(),
        hex(bytes).into_bytes(),
        hex(bytes).to_uppercase().into_bytes(),
        base64(STANDARD.encode(bytes)),
        base64(URL_SAFE_NO_PAD.encode(bytes)),
        list.trim_matches(['[', ']']).as_bytes().to_vec(),
    ]
}

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|part| part == needle)
}

fn dump(app: &TestApp) -> Vec<u8> {
    // The distribution's newest, past its wrapper that looks for clusters.
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = installed.map(|version| version.path().join("bin/pg_dump")).filter(|program| program.exists()).max();
    let program = newest.unwrap_or_else(|| PathBuf::from("pg_dump"));
    let output = Command::new(program).arg(app.database.superuser_url()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn facts() -> PathBuf {
    folder().join("facts")
}

/// Does all that can be done with keys, and fails in all ways that it can, with a log that says everything. Answers what must be found
/// nowhere, and what was received.
async fn everything() -> (Vec<Vec<u8>>, Vec<u8>) {
    tracing_subscriber::fmt().with_env_filter("trace").with_ansi(false).init();
    let transit = TransitServer::start().await;
    let app = TestApp::with(&transit.settings()).await;
    let (tenant, enterprise, admin) = (app.tenant("leaky").await, app.tenant("enterprise").await, app.admin().await);
    move_to(&admin, &enterprise, "ENTERPRISE").await;
    let mut received = String::new();
    for tenant in [&tenant, &enterprise] {
        put(&app, tenant, SECRET).await;
        assert_eq!(secret(&app, tenant).await, SECRET);
        rotate(&admin, tenant, "DATA").await;
        rotate(&admin, tenant, "WRAPPING").await;
        until(&app, tenant, |key| key["behind"] == json!(0)).await;
        received += &admin.graphql(KEY, json!({ "id": tenant.id })).await.text;
    }
    let keys: &TenantKeys = &app.app.tenant_keys;
    let sealed = keys.seal(&scope(&tenant), "a", SECRET.as_bytes()).await.unwrap();
    let wrong = keys.unseal(&scope(&tenant), "b", &sealed.bytes).await.unwrap_err();
    tracing::error!(error = %wrong, ?wrong, ?keys, ?sealed, config = ?app.app.config, "shown on purpose");
    transit.set(Mood::Sealed);
    received += &admin.graphql(ROTATE, json!({ "id": enterprise.id, "level": "DATA" })).await.text;
    let away = keys.verify(enterprise.id).await.unwrap();
    tracing::error!(?away, "shown on purpose");
    let audit =
        "query($id: ID) { audit(tenantId: $id, first: 100) { edges { node { event subject { id } before after } } } }";
    for id in [tenant.id, enterprise.id] {
        received += &admin.graphql(audit, json!({ "id": id })).await.text;
    }
    received += &admin.get("/metrics").await.text;
    let mut received = received.into_bytes();
    received.extend(dump(&app));
    let mut hidden = data_keys(&app).await;
    assert_eq!(hidden.len(), 3, "two versions of one tenant, and the master key");
    hidden.extend(transit.material());
    (hidden, received)
}

#[tokio::test]
async fn no_key_and_no_secret_is_in_logs_errors_the_journal_answers_or_a_dump() {
    const NAME: &str = "tenant_keys::leaks::no_key_and_no_secret_is_in_logs_errors_the_journal_answers_or_a_dump";
    if is_inner() {
        #[expect(clippy::disallowed_methods, reason = "the suite talks to itself")]
        let facts = PathBuf::from(std::env::var("TENANTRY_TEST_FACTS").unwrap());
        let (hidden, received) = everything().await;
        let hidden: Vec<_> = hidden.iter().map(|bytes| hex(bytes)).collect();
        std::fs::write(facts.with_extension("hidden"), hidden.join("\n")).unwrap();
        std::fs::write(facts.with_extension("received"), received).unwrap();
        return;
    }
    let log = alone(NAME, &[("TENANTRY_TEST_FACTS", facts().display().to_string())]);
    let received = std::fs::read(facts().with_extension("received")).unwrap();
    assert!(log.contains("shown on purpose") && log.contains(" TRACE "), "the log says everything");
    assert!(contains(&received, b"TenantKeyRewrapped") && contains(&received, b"COPY tenantry.tenant_keys"));
    let hidden = std::fs::read_to_string(facts().with_extension("hidden")).unwrap();
    let bytes =
        |line: &str| (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap()).collect();
    let mut needles: Vec<Vec<u8>> = hidden.lines().map(bytes).collect();
    needles.extend([SECRET.as_bytes().to_vec(), b"swordfish-3141".to_vec(), TOKEN.as_bytes().to_vec()]);
    assert!(needles.len() >= 7, "{}", needles.len());
    for (number, needle) in needles.iter().enumerate() {
        for (form, needle) in forms(needle).iter().enumerate() {
            assert!(!contains(log.as_bytes(), needle), "secret {number} is in the log, in form {form}");
            assert!(!contains(&received, needle), "secret {number} was received or dumped, in form {form}");
        }
    }
}
