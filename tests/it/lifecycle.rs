//! A tenant's life: the table, the trigger, the API, and how fast access ends.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use sea_orm::{ActiveEnum as _, ConnectionTrait as _, Iterable as _};
use serde_json::{Value, json};
use tenantry::tenancy::{
    Status,
    lifecycle::{TRANSITIONS, Target},
};

use crate::support::{Client, Received, Tenant, TestApp};

const ACTIONS: [(&str, &str); 7] = [
    ("activateTenant", ""),
    ("suspendTenant", ", reason: REQUEST, mode: HARD"),
    ("resumeTenant", ""),
    ("archiveTenant", ""),
    ("unarchiveTenant", ""),
    ("deleteTenant", ""),
    ("cancelTenantDeletion", ""),
];

const STATE: &str = "id slug name status region version allowedTransitions accessEpoch labels { key value } suspension { mode reason note since drainUntil } suspendAt resumeAt deletedAt eraseAt createdAt";

async fn act(client: &Client, tenant: &Tenant, action: (&str, &str)) -> crate::support::Answer {
    let (field, extra) = action;
    let mutation = format!("mutation($id: ID!) {{ {field}(input: {{id: $id{extra}}}) {{ tenant {{ {STATE} }} }} }}");
    client.graphql(&mutation, json!({ "id": tenant.id })).await
}

async fn state(client: &Client, tenant: &Tenant) -> Value {
    client.ok(&format!("query($id: ID) {{ tenant(id: $id) {{ {STATE} }} }}"), json!({ "id": tenant.id })).await["tenant"].clone()
}

#[tokio::test]
async fn the_databases_trigger_allows_exactly_the_transitions_of_the_table() {
    let app = TestApp::start().await;
    let tenant = app.created_tenant("acme").await;
    let db = app.database.superuser().await;
    for from in Status::iter() {
        for to in Status::iter().filter(|to| *to != from) {
            for before in [Status::Created, Status::Active, Status::Suspended, Status::Archived] {
                let resolve = |target: &Target| match target {
                    Target::To(status) => *status == to,
                    Target::Return => before == to,
                };
                let expected = TRANSITIONS.iter().any(|(start, target)| *start == from && resolve(target));
                let archived_from =
                    if matches!(before, Status::Active | Status::Suspended) { before } else { Status::Active };
                let fits = from != Status::Archived || archived_from == before;
                if !fits {
                    continue;
                }
                let (from_name, to_name, before_name) = (from.to_value(), to.to_value(), before.to_value());
                let gone = |status: Status| matches!(status, Status::Deleted | Status::Erased);
                let set = |status: Status| if gone(status) { format!("'{before_name}'") } else { "null".to_owned() };
                let suspension = r#"'{"mode":"HARD","reason":"POLICY","note":"","since":"2026-01-01T00:00:00Z","drainUntil":"2026-01-01T00:00:00Z"}'"#;
                let prepare = format!(
                    "set session_replication_role = replica; update tenantry.tenants set status = '{from_name}', archived_from = '{}', \
                     deleted_from = {}, suspension = {suspension}; set session_replication_role = origin",
                    archived_from.to_value(),
                    set(from),
                );
                let go = format!(
                    "update tenantry.tenants set status = '{to_name}', deleted_from = {}, version = version + 1",
                    set(to)
                );
                db.execute_unprepared(&prepare).await.unwrap();
                let went = db.execute_unprepared(&go).await;
                assert_eq!(
                    went.is_ok(),
                    expected,
                    "{from_name} to {to_name}, with {before_name} before ({tenant:?}): {went:?}"
                );
            }
        }
    }
}

/// What the states must do, written down a second time.
#[derive(Clone, Debug)]
struct Model {
    status: &'static str,
    archived_from: &'static str,
    deleted_from: &'static str,
}

impl Model {
    fn step(&mut self, action: &str) -> bool {
        let before = self.status;
        match (action, before) {
            ("activateTenant", "CREATED") | ("resumeTenant", "SUSPENDED") => self.status = "ACTIVE",
            ("suspendTenant", "ACTIVE") => self.status = "SUSPENDED",
            ("archiveTenant", "ACTIVE" | "SUSPENDED") => (self.archived_from, self.status) = (before, "ARCHIVED"),
            ("unarchiveTenant", "ARCHIVED") => self.status = self.archived_from,
            ("deleteTenant", "CREATED" | "ACTIVE" | "SUSPENDED" | "ARCHIVED") => {
                (self.deleted_from, self.status) = (before, "DELETED")
            }
            ("cancelTenantDeletion", "DELETED") => self.status = self.deleted_from,
            _ => return false,
        }
        true
    }
}

#[tokio::test]
async fn any_sequence_of_steps_leads_where_the_table_says_and_a_refused_one_changes_nothing() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]));
    let sequences = proptest::collection::vec(0..ACTIONS.len(), 25);
    for round in 0..6 {
        let tenant = app.created_tenant(&format!("tenant-{round}")).await;
        let mut model = Model { status: "CREATED", archived_from: "", deleted_from: "" };
        let mut present = state(&admin, &tenant).await;
        let mut kept: Vec<(&str, Value)> = Vec::new();
        for index in sequences.new_tree(&mut runner).unwrap().current() {
            let (action, before) = (ACTIONS[index], present.clone());
            let allowed = model.step(action.0);
            let answer = act(&admin, &tenant, action).await;
            present = state(&admin, &tenant).await;
            assert_eq!(present["status"], model.status, "after {action:?} from {}: {}", before["status"], answer.text);
            if allowed {
                assert_eq!(present["version"].as_i64().unwrap(), before["version"].as_i64().unwrap() + 1);
                remember_and_compare(&mut kept, action.0, &before, &present);
            } else {
                assert_eq!(answer.code(), "invalid_transition", "{action:?} from {}", before["status"]);
                let details = &answer.body["errors"][0]["extensions"]["details"];
                assert_eq!(
                    (&details["status"], &details["allowed"]),
                    (&before["status"], &before["allowedTransitions"])
                );
                assert_eq!(present, before, "a refused step changed something");
            }
        }
    }
}

/// A reversal restores what was there, but for what counts changes.
fn remember_and_compare(kept: &mut Vec<(&'static str, Value)>, action: &str, before: &Value, after: &Value) {
    let reversal = match action {
        "archiveTenant" => return kept.push(("unarchiveTenant", before.clone())),
        "deleteTenant" => return kept.push(("cancelTenantDeletion", before.clone())),
        "unarchiveTenant" | "cancelTenantDeletion" => action,
        _ => return,
    };
    let (expected, original) = kept.pop().unwrap();
    assert_eq!(expected, reversal);
    let bare = |state: &Value| {
        let mut state = state.clone();
        for counter in ["version", "accessEpoch"] {
            state.as_object_mut().unwrap().remove(counter);
        }
        state
    };
    assert_eq!(bare(after), bare(&original), "{reversal} did not restore what was there");
}

#[tokio::test]
async fn a_gracefully_suspended_tenant_reads_and_does_not_write() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let (admin, service) = (app.admin().await, app.full_service(&tenant).await);
    assert_eq!(act(&admin, &tenant, ("suspendTenant", ", reason: BILLING, mode: GRACEFUL")).await.status, 200);
    assert_eq!(service.ok("{ tenant { status } }", json!({})).await["tenant"]["status"], "SUSPENDED");
    let update = "mutation($id: ID!) { updateTenant(input: {id: $id, name: \"new\"}) { tenant { name } } }";
    assert_eq!(service.refused(update, json!({ "id": tenant.id })).await, "tenant_suspended");
    let audited = state(&admin, &tenant).await;
    assert_eq!(audited["version"], 3, "the refused write changed nothing");
    assert_eq!(act(&admin, &tenant, ("resumeTenant", "")).await.status, 200);
    assert_eq!(service.ok(update, json!({ "id": tenant.id })).await["updateTenant"]["tenant"]["name"], "new");
}

#[tokio::test]
async fn a_hard_suspension_ends_every_token_for_good_and_archival_all_access() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let (admin, service) = (app.admin().await, app.full_service(&tenant).await);
    let read = "{ tenant { status } }";
    service.ok(read, json!({})).await;
    act(&admin, &tenant, ("suspendTenant", ", reason: SECURITY, mode: HARD")).await;
    assert_eq!(service.refused(read, json!({})).await, "tenant_suspended");
    act(&admin, &tenant, ("resumeTenant", "")).await;
    assert_eq!(
        service.refused(read, json!({})).await,
        "unauthenticated",
        "tokens of the epoch before are worth nothing"
    );
    let renewed = app.full_service(&tenant).await;
    renewed.ok(read, json!({})).await;
    act(&admin, &tenant, ("archiveTenant", "")).await;
    assert_eq!(renewed.refused(read, json!({})).await, "tenant_archived");
    assert_eq!(state(&admin, &tenant).await["status"], "ARCHIVED", "operators still read");
    act(&admin, &tenant, ("deleteTenant", "")).await;
    assert_eq!(renewed.refused(read, json!({})).await, "unauthenticated");
}

#[tokio::test]
async fn a_graceful_suspension_can_be_made_hard_and_not_the_other_way() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let admin = app.admin().await;
    act(&admin, &tenant, ("suspendTenant", ", reason: BILLING, mode: GRACEFUL")).await;
    let harder = act(&admin, &tenant, ("suspendTenant", ", reason: BILLING, mode: HARD")).await;
    assert_eq!(harder.data()["suspendTenant"]["tenant"]["suspension"]["mode"], "HARD", "{}", harder.text);
    assert_eq!(
        act(&admin, &tenant, ("suspendTenant", ", reason: BILLING, mode: GRACEFUL")).await.code(),
        "invalid_transition"
    );
}

#[tokio::test]
async fn a_planned_suspension_begins_and_ends_at_its_times() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let admin = app.admin().await;
    let now = app.app.clock.now();
    let plan = "mutation($id: ID!, $begin: DateTime, $end: DateTime) { suspendTenant(input: {id: $id, reason: REQUEST, mode: HARD, note: \"move\", beginAt: $begin, endAt: $end}) { tenant { status suspendAt } } }";
    let times = json!({ "id": tenant.id, "begin": now + TimeDelta::hours(1), "end": now + TimeDelta::hours(2) });
    assert_eq!(admin.ok(plan, times).await["suspendTenant"]["tenant"]["status"], "ACTIVE");
    app.run_due().await;
    assert_eq!(state(&admin, &tenant).await["status"], "ACTIVE");
    app.advance(TimeDelta::minutes(61));
    app.run_due().await;
    let admin = app.admin().await; // the operator's token has expired meanwhile
    let suspended = state(&admin, &tenant).await;
    assert_eq!((&suspended["status"], &suspended["suspension"]["note"]), (&json!("SUSPENDED"), &json!("move")));
    app.advance(TimeDelta::minutes(60));
    app.run_due().await;
    let admin = app.admin().await;
    let resumed = state(&admin, &tenant).await;
    assert_eq!(
        (&resumed["status"], &resumed["suspendAt"], &resumed["resumeAt"]),
        (&json!("ACTIVE"), &Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn a_deleted_tenant_comes_back_within_its_grace_and_not_after() {
    let app = TestApp::start().await;
    let (admin, tenant) = (app.admin().await, app.tenant("acme").await);
    let delete = "mutation($id: ID!, $days: Int) { deleteTenant(input: {id: $id, graceDays: $days}) { tenant { status eraseAt } } }";
    for days in [6, 91, -1] {
        assert_eq!(admin.refused(delete, json!({ "id": tenant.id, "days": days })).await, "invalid_input");
    }
    admin.ok(delete, json!({ "id": tenant.id, "days": 7 })).await;
    app.advance(TimeDelta::days(7) - TimeDelta::minutes(1));
    assert_eq!(
        act(&app.admin().await, &tenant, ("cancelTenantDeletion", "")).await.data()["cancelTenantDeletion"]["tenant"]["status"],
        "ACTIVE"
    );
    app.admin().await.ok(delete, json!({ "id": tenant.id, "days": 7 })).await;
    app.advance(TimeDelta::days(7));
    assert_eq!(act(&app.admin().await, &tenant, ("cancelTenantDeletion", "")).await.code(), "invalid_transition");
}

#[tokio::test]
async fn every_replica_hears_of_a_suspension_within_a_second_and_closes_the_tenants_streams() {
    let app = TestApp::start().await;
    let replica = app.replica("").await;
    let tenant = app.tenant("acme").await;
    let there = replica.full_service(&tenant).await;
    there.ok("{ tenant { status } }", json!({})).await;
    let mut stream = replica.socket(&there).await;
    stream.subscribe("1", "subscription { tenantEvents { entry { event } } }", json!({})).await;
    let began = Instant::now();
    act(&app.admin().await, &tenant, ("suspendTenant", ", reason: POLICY, mode: HARD")).await;
    let committed = Instant::now();
    while there.graphql("{ tenant { status } }", json!({})).await.code() != "tenant_suspended" {
        assert!(began.elapsed() < Duration::from_secs(60), "the replica never heard");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let refused_after = committed.elapsed();
    assert!(refused_after < Duration::from_secs(1), "{refused_after:?}");
    let closed = loop {
        match stream.next().await {
            Received::Closed { code, reason } => break (code, reason),
            Received::Message(_) => {}
        }
    };
    assert_eq!(closed, (4403, "tenant_suspended".to_owned()));
    assert!(committed.elapsed() < Duration::from_secs(1), "the stream was closed after {:?}", committed.elapsed());
    let measured = replica.metric("tenantry_access_cut_seconds_count").await;
    assert!(measured.is_some_and(|count| count >= 1.0), "the figure is in /metrics");
}
