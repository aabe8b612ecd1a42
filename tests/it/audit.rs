//! The journal: written with the change, chained, signed, and readable without gaps.

use std::time::Duration;

use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use crate::support::{Client, Received, Socket, Tenant, TestApp};

const VERIFY: &str = "query($id: ID) { verifyAudit(tenantId: $id) { valid entries checkpoints lastSequence signedUpTo problems { sequence kind } } }";

async fn rename(client: &Client, tenant: &Tenant, name: &str) {
    let update =
        "mutation($id: ID!, $name: String!) { updateTenant(input: {id: $id, name: $name}) { tenant { version } } }";
    client.ok(update, json!({ "id": tenant.id, "name": name })).await;
}

#[tokio::test]
async fn every_change_says_who_did_what_from_where() {
    let app = TestApp::start().await;
    let (admin, tenant) = (app.admin().await, app.tenant("acme").await);
    rename(&admin, &tenant, "New name").await;
    let query = "query($id: ID) { audit(tenantId: $id, first: 1) { edges { node { event sequence actor { kind name } subject { kind id } before after requestId address hash } } } }";
    let entry = admin.ok(query, json!({ "id": tenant.id })).await["audit"]["edges"][0]["node"].clone();
    assert_eq!(
        (&entry["event"], &entry["actor"]["name"], &entry["subject"]["id"]),
        (&json!("TenantUpdated"), &json!("cli:test"), &json!(tenant.id))
    );
    assert_eq!(
        (&entry["before"]["name"], &entry["after"]["name"], &entry["address"]),
        (&json!(tenant.canary), &json!("New name"), &json!("127.0.0.1"))
    );
    assert_eq!(
        entry["before"].as_object().unwrap().len(),
        3,
        "only what changed: name, version, updatedAt: {}",
        entry["before"]
    );
    assert!(
        entry["requestId"].as_str().is_some_and(|id| !id.is_empty()) && entry["hash"].as_str().unwrap().len() == 64
    );
}

#[tokio::test]
async fn the_chain_verifies_and_checkpoints_are_signed() {
    let app = TestApp::with("[journal]\ncheckpoint_entries = 3\n").await;
    let (admin, tenant) = (app.admin().await, app.tenant("acme").await);
    for index in 0..4 {
        rename(&admin, &tenant, &format!("name {index}")).await;
    }
    app.advance(chrono::TimeDelta::minutes(2)); // past the interval, so that what is left is signed, too
    app.run_due().await;
    let report = admin.ok(VERIFY, json!({ "id": tenant.id })).await["verifyAudit"].clone();
    let entries = report["entries"].as_i64().unwrap();
    assert!(entries >= 6 && report["checkpoints"].as_i64().unwrap() >= 1, "{report}");
    assert_eq!(
        (&report["valid"], &report["signedUpTo"], &report["problems"]),
        (&json!(true), &json!(entries), &json!([]))
    );
    assert_eq!(admin.ok(VERIFY, json!({})).await["verifyAudit"]["valid"], true, "the platform's own chain");
}

#[tokio::test]
async fn any_edit_removal_reordering_or_cut_is_found() {
    let edits = [
        (
            "an edit",
            "update tenantry.journal set after = '{\"name\": \"forged\"}' where sequence = 3 and tenant_id = '$'",
        ),
        ("another actor", "update tenantry.journal set actor = 'nobody' where sequence = 2 and tenant_id = '$'"),
        (
            "another time",
            "update tenantry.journal set at = at + interval '1 second' where sequence = 2 and tenant_id = '$'",
        ),
        ("a removal", "delete from tenantry.journal where sequence = 3 and tenant_id = '$'"),
        (
            "a cut at the end",
            "delete from tenantry.journal where sequence >= 5 and tenant_id = '$'; update tenantry.journal_heads h set sequence = 4, hash = (select hash from tenantry.journal j where j.tenant_id = h.tenant_id and j.sequence = 4) where tenant_id = '$'",
        ),
        (
            "an exchange",
            "update tenantry.journal set sequence = case sequence when 3 then 900 else sequence end where tenant_id = '$'; update tenantry.journal set sequence = 3 where sequence = 4 and tenant_id = '$'; update tenantry.journal set sequence = 4 where sequence = 900 and tenant_id = '$'",
        ),
        (
            "a forged checkpoint",
            "update tenantry.journal_checkpoints set signature = decode(repeat('00', 256), 'hex') where tenant_id = '$'",
        ),
    ];
    let app = TestApp::with("[journal]\ncheckpoint_entries = 2\n").await;
    let admin = app.admin().await;
    let db = app.database.superuser().await;
    for (index, (name, sql)) in edits.into_iter().enumerate() {
        let tenant = app.tenant(&format!("tenant-{index}")).await;
        for round in 0..4 {
            rename(&admin, &tenant, &format!("name {round}")).await;
        }
        app.run_due().await;
        assert_eq!(admin.ok(VERIFY, json!({ "id": tenant.id })).await["verifyAudit"]["valid"], true);
        let sql = sql.replace('$', &tenant.id.to_string());
        db.execute_unprepared(&format!(
            "set session_replication_role = replica; {sql}; set session_replication_role = origin"
        ))
        .await
        .unwrap();
        let report = admin.ok(VERIFY, json!({ "id": tenant.id })).await["verifyAudit"].clone();
        assert_eq!(report["valid"], false, "{name}: {report}");
        assert!(!report["problems"].as_array().unwrap().is_empty(), "{name}");
    }
}

#[tokio::test]
async fn no_role_edits_or_removes_an_entry() {
    let app = TestApp::start().await;
    app.tenant("acme").await;
    let db = app.database.superuser().await;
    for statement in [
        "update tenantry.journal set actor = 'x'",
        "delete from tenantry.journal",
        "truncate tenantry.journal",
        "delete from tenantry.journal_checkpoints",
        "truncate tenantry.journal_checkpoints cascade",
    ] {
        let changed = db.execute_unprepared(statement).await;
        let touched = changed.as_ref().map_or(0, sea_orm::ExecResult::rows_affected);
        assert!(changed.is_err() || (statement.contains("checkpoints") && touched == 0), "{statement}: {changed:?}");
    }
}

#[tokio::test]
async fn entries_are_filtered_paged_and_exported() {
    let app = TestApp::start().await;
    let (admin, tenant) = (app.admin().await, app.tenant("acme").await);
    for index in 0..7 {
        rename(&admin, &tenant, &format!("=cmd|{index}")).await;
    }
    let service = app.full_service(&tenant).await;
    let list = "query($filter: AuditFilter, $after: String) { audit(first: 3, after: $after, order: OLDEST_FIRST, filter: $filter) { edges { cursor node { event sequence } } pageInfo { hasNextPage endCursor } } }";
    let (mut after, mut sequences) = (Value::Null, Vec::new());
    loop {
        let page = service.ok(list, json!({ "after": after })).await["audit"].clone();
        sequences
            .extend(page["edges"].as_array().unwrap().iter().map(|edge| edge["node"]["sequence"].as_i64().unwrap()));
        after = page["pageInfo"]["endCursor"].clone();
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
    }
    assert_eq!(sequences, (1..=sequences.len() as i64).collect::<Vec<_>>());
    assert!(sequences.len() >= 9);
    let export =
        "query($format: AuditExportFormat!) { exportAudit(input: {format: $format}) { content entries hasMore } }";
    let csv = service.ok(export, json!({ "format": "CSV" })).await["exportAudit"].clone();
    let mut reader = csv::Reader::from_reader(csv["content"].as_str().unwrap().as_bytes());
    assert_eq!(
        reader
            .records()
            .map(|record| record.unwrap())
            .filter(|record| record.iter().any(|cell| cell.starts_with('=')))
            .count(),
        0,
        "no cell is a formula"
    );
    let json_export = service.ok(export, json!({ "format": "JSON" })).await["exportAudit"].clone();
    let parsed: Value = serde_json::from_str(json_export["content"].as_str().unwrap()).unwrap();
    assert_eq!(
        (parsed.as_array().unwrap().len() as i64, &json_export["hasMore"]),
        (json_export["entries"].as_i64().unwrap(), &json!(false))
    );
}

#[tokio::test]
async fn events_arrive_on_every_replica_and_a_stream_resumes_without_gap() {
    let app = TestApp::start().await;
    let replica = app.replica("").await;
    let (admin, tenant) = (app.admin().await, app.tenant("acme").await);
    let service = app.full_service(&tenant).await;
    let subscribe = "subscription($after: String) { tenantEvents(after: $after) { cursor event sequence } }";
    let mut stream = replica.socket(&service).await;
    stream.subscribe("1", subscribe, json!({})).await;
    let first = first_event(&mut stream, &admin, &tenant).await;
    assert_eq!(first["event"], "TenantUpdated");
    drop(stream);
    for index in 0..5 {
        rename(&admin, &tenant, &format!("missed {index}")).await;
    }
    let mut stream = app.socket(&service).await;
    stream.subscribe("2", subscribe, json!({ "after": first["cursor"] })).await;
    rename(&admin, &tenant, "last").await;
    let start = first["sequence"].as_i64().unwrap();
    for expected in start + 1..=start + 6 {
        assert_eq!(stream.event().await["data"]["tenantEvents"]["sequence"], expected);
    }
}

#[tokio::test]
async fn a_feed_over_all_tenants_waits_for_open_transactions_and_skips_nothing() {
    let app = TestApp::start().await;
    let (admin, a, b) = (app.admin().await, app.tenant("a-tenant").await, app.tenant("b-tenant").await);
    let mut stream = app.socket(&admin).await;
    stream.subscribe("1", "subscription { tenantEvents { tenantId event entry { after } } }", json!({})).await;
    first_event(&mut stream, &admin, &b).await;
    let db = app.database.superuser().await;
    let open = begin(&db).await;
    // A transaction that began first writes into A's journal, and commits last.
    open.execute_unprepared(&format!(
        "insert into tenantry.journal (tenant_id, sequence, entry_id, at, event, actor_kind, actor, subject_kind, subject_id, previous_hash, hash) \
         select tenant_id, sequence + 1000, gen_random_uuid(), now(), 'Late', 'SYSTEM', 'test', 'tenant', 'x', hash, hash from tenantry.journal where tenant_id = '{}' and sequence = 1",
        a.id
    ))
    .await
    .unwrap();
    rename(&admin, &b, "meanwhile").await;
    while let Some(Received::Message(early)) = stream.next_within(Duration::from_millis(500)).await {
        assert!(!early.to_string().contains("meanwhile"), "rows behind an open transaction wait: {early}");
    }
    open.commit().await.unwrap();
    let (mut late, mut meanwhile) = (false, false);
    while !(late && meanwhile) {
        let event = stream.event().await["data"]["tenantEvents"].clone();
        late |= event["event"] == "Late";
        meanwhile |= event["tenantId"] == json!(b.id) && event["entry"]["after"]["name"] == "meanwhile";
    }
}

/// The protocol does not say when a subscription has begun: changes are made until the first one arrives.
async fn first_event(stream: &mut Socket, admin: &Client, tenant: &Tenant) -> Value {
    for attempt in 0..50 {
        rename(admin, tenant, &format!("attempt {attempt}")).await;
        if let Some(Received::Message(message)) = stream.next_within(Duration::from_millis(200)).await {
            assert_eq!(message["type"], "next", "{message}");
            return message["payload"]["data"]["tenantEvents"].clone();
        }
    }
    panic!("no event arrived");
}

#[expect(clippy::disallowed_methods, reason = "plays another program that keeps its transaction open")]
async fn begin(db: &sea_orm::DatabaseConnection) -> sea_orm::DatabaseTransaction {
    sea_orm::TransactionTrait::begin(db).await.unwrap()
}
