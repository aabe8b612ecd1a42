//! What a tenant may have: limits, reservations, plans.

use chrono::TimeDelta;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use serde_json::{Value, json};

use crate::support::{Client, TestApp};

const RESERVE: &str = "mutation($input: ReserveQuotaInput!) { reserveQuota(input: $input) {
    reservation { id state expiresAt lines { key amount committed } } quotas { key limit used reserved remaining resetsAt } } }";
const COMMIT: &str = "mutation($input: CommitReservationInput!) { commitReservation(input: $input) {
    reservation { id state lines { key amount committed } } quotas { key used reserved } } }";
const RELEASE: &str = "mutation($input: ReleaseReservationInput!) { releaseReservation(input: $input) { reservation { state } quotas { key used reserved } } }";
const QUOTAS: &str = "query($keys: [String!], $id: ID) { quotas(keys: $keys, tenantId: $id) { key limit planLimit used reserved remaining overLimit resetsAt
    enforcement gracePercent override { limit reason setBy version expiresAt } boosts { id amount } version } }";
const SET: &str =
    "mutation($input: SetQuotaInput!) { setQuota(input: $input) { quota { key limit override { version } } } }";
const BOOST: &str =
    "mutation($input: BoostQuotaInput!) { boostQuota(input: $input) { boost { id amount approvedBy } } }";

fn lines(lines: &[(&str, i64)]) -> Value {
    lines.iter().map(|(key, amount)| json!({ "key": key, "amount": amount })).collect()
}

async fn reserve(client: &Client, wanted: &[(&str, i64)]) -> Value {
    client.ok(RESERVE, json!({ "input": { "lines": lines(wanted) } })).await["reserveQuota"].clone()
}

#[tokio::test]
async fn every_answer_names_the_versions_it_was_decided_on() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let service = app.full_service(&acme).await;
    let line = json!({ "lines": lines(&[("max_users", 1)]) });
    let answers = async || {
        let preview =
            "query($input: PreviewQuotaInput!) { previewQuota(input: $input) { lines { standing { version } } } }";
        let preview = service.ok(preview, json!({ "input": line })).await;
        let reserve = "mutation($input: ReserveQuotaInput!) { reserveQuota(input: $input) { quotas { version } } }";
        let reserved = service.ok(reserve, json!({ "input": line })).await;
        let check = "mutation { checkRate(input: {key: \"requests_per_second\"}) { version } }";
        let checked = service.ok(check, json!({})).await;
        let listed = quota(&service, "max_users").await["version"].clone();
        [
            preview["previewQuota"]["lines"][0]["standing"]["version"].clone(),
            reserved["reserveQuota"]["quotas"][0]["version"].clone(),
            checked["checkRate"]["version"].clone(),
            listed,
        ]
    };
    let before = answers().await;
    limit(&app, &acme, "max_users", 50).await;
    let after = answers().await;
    // The platform's journal may grow meanwhile, by the schedule; the tenant's own does not.
    let of_tenant = |version: &Value| version.as_str().unwrap().split_once('.').unwrap().0.parse::<i64>().unwrap();
    let [before, after] = [before, after].map(|versions| versions.each_ref().map(of_tenant));
    for versions in [before, after] {
        assert!(versions.iter().all(|version| *version == versions[0]), "{versions:?}");
    }
    assert_eq!(after[0], before[0] + 1);
}

async fn quota(client: &Client, key: &str) -> Value {
    client.ok(QUOTAS, json!({ "keys": [key] })).await["quotas"][0].clone()
}

#[tokio::test]
async fn a_reservation_is_held_then_committed_with_what_was_really_used() {
    let app = TestApp::start().await;
    let service = app.full_service(&app.tenant("acme").await).await;
    let held = reserve(&service, &[("max_clusters", 2), ("max_users", 3)]).await;
    assert_eq!(held["reservation"]["state"], "HELD");
    assert_eq!(
        held["quotas"][0],
        json!({ "key": "max_clusters", "limit": 2, "used": 0, "reserved": 2, "remaining": 0, "resetsAt": null })
    );
    let answer = service
        .graphql(RESERVE, json!({ "input": { "lines": lines(&[("max_users", 1), ("max_clusters", 1)]) } }))
        .await;
    let extensions = &answer.body["errors"][0]["extensions"];
    assert_eq!(answer.code(), "quota_exceeded", "{}", answer.text);
    assert_eq!(extensions["field"], "lines[1]");
    let details =
        json!({ "key": "max_clusters", "limit": 2, "used": 0, "reserved": 2, "requested": 1, "resetsAt": null });
    assert_eq!(extensions["details"], details);
    assert_eq!(quota(&service, "max_users").await["reserved"], 3, "all or nothing");
    let id = held["reservation"]["id"].clone();
    let input = json!({ "input": { "reservationId": id, "lines": lines(&[("max_clusters", 1)]) } });
    let committed = service.ok(COMMIT, input.clone()).await["commitReservation"].clone();
    assert_eq!(
        committed["quotas"],
        json!([{ "key": "max_clusters", "used": 1, "reserved": 0 }, { "key": "max_users", "used": 3, "reserved": 0 }])
    );
    assert_eq!(service.ok(COMMIT, input).await["commitReservation"], committed, "repeated");
    let release = json!({ "input": { "reservationId": id } });
    assert_eq!(service.refused(RELEASE, release).await, "conflict");
}

#[tokio::test]
async fn an_expired_reservation_frees_itself_even_before_the_schedule_runs() {
    let app = TestApp::with("worker.interval = \"1h\"").await;
    let tenant = app.tenant("acme").await;
    let service = app.full_service(&tenant).await;
    let input = json!({ "input": { "lines": lines(&[("max_clusters", 2)]), "expiresInSeconds": 60 } });
    let held = service.ok(RESERVE, input.clone()).await["reserveQuota"]["reservation"]["id"].clone();
    assert_eq!(service.refused(RESERVE, input.clone()).await, "quota_exceeded");
    app.advance(TimeDelta::seconds(61));
    let late = json!({ "input": { "reservationId": held } });
    assert_eq!(service.refused(COMMIT, late.clone()).await, "conflict");
    service.ok(RESERVE, input).await;
    assert_eq!(service.refused(COMMIT, late).await, "conflict");
    assert_eq!(quota(&service, "max_clusters").await["reserved"], 2);
    app.advance(TimeDelta::seconds(61));
    app.run_due().await;
    assert_eq!(quota(&service, "max_clusters").await["reserved"], 0);
}

#[tokio::test]
async fn an_idempotency_key_reserves_once() {
    let app = TestApp::start().await;
    let service = app.full_service(&app.tenant("acme").await).await;
    let input = json!({ "input": { "lines": lines(&[("max_users", 2)]) } });
    let (first, again) = tokio::join!(
        service.graphql_once("k1", RESERVE, input.clone()),
        service.graphql_once("k1", RESERVE, input.clone())
    );
    assert_eq!(first.data(), again.data(), "{} {}", first.text, again.text);
    assert_eq!(service.graphql_once("k1", RESERVE, input).await.data(), first.data());
    assert_eq!(quota(&service, "max_users").await["reserved"], 2);
    let other = json!({ "input": { "lines": lines(&[("max_users", 3)]) } });
    assert_eq!(service.graphql_once("k1", RESERVE, other).await.code(), "conflict");
}

#[tokio::test]
async fn a_limit_below_what_is_used_stops_growth_and_takes_nothing_away() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let (admin, service) = (app.admin().await, app.full_service(&tenant).await);
    let held = reserve(&service, &[("max_users", 8)]).await["reservation"]["id"].clone();
    service.ok(COMMIT, json!({ "input": { "reservationId": held } })).await;
    let set = |limit: Value| json!({ "input": { "tenantId": tenant.id, "key": "max_users", "limit": limit, "reason": "contract" } });
    admin.ok(SET, set(json!(5))).await;
    let lowered = quota(&service, "max_users").await;
    assert_eq!(
        (&lowered["limit"], &lowered["planLimit"], &lowered["used"], &lowered["overLimit"], &lowered["remaining"]),
        (&json!(5), &json!(10), &json!(8), &json!(true), &json!(0))
    );
    assert_eq!(
        service.refused(RESERVE, json!({ "input": { "lines": lines(&[("max_users", 1)]) } })).await,
        "quota_exceeded"
    );
    admin.ok(SET, set(Value::Null)).await;
    reserve(&service, &[("max_users", 1_000_000)]).await;
    let clear = json!({ "input": { "tenantId": tenant.id, "key": "max_users", "clear": true, "expectedVersion": 2 } });
    assert_eq!(admin.ok(SET, clear).await["setQuota"]["quota"]["limit"], 10);
    assert_eq!(service.refused(SET, set(json!(500))).await, "forbidden", "a tenant does not set its own limits");
}

#[tokio::test]
async fn boosts_and_overrides_revert_by_themselves() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let limit = async || {
        app.admin().await.ok(QUOTAS, json!({ "keys": ["max_users"], "id": tenant.id })).await["quotas"][0]["limit"]
            .clone()
    };
    let admin = app.admin().await;
    let in_hours = |hours: i64| (app.app.clock.now() + TimeDelta::hours(hours)).to_rfc3339();
    let set = json!({ "input": { "tenantId": tenant.id, "key": "max_users", "limit": 100, "reason": "trial", "expiresAt": in_hours(2) } });
    admin.ok(SET, set).await;
    let boost = json!({ "input": { "tenantId": tenant.id, "key": "max_users", "amount": 7, "reason": "launch", "expiresAt": in_hours(1) } });
    let made = admin.ok(BOOST, boost.clone()).await["boostQuota"]["boost"]["id"].clone();
    admin.ok(BOOST, boost).await;
    assert_eq!(limit().await, 114);
    let end = "mutation($input: EndQuotaBoostInput!) { endQuotaBoost(input: $input) { boost { endedAt } } }";
    let input = json!({ "input": { "tenantId": tenant.id, "boostId": made } });
    admin.ok(end, input.clone()).await;
    assert_eq!(limit().await, 107);
    assert_eq!(admin.refused(end, input).await, "not_found");
    app.advance(TimeDelta::minutes(61));
    assert_eq!(limit().await, 100);
    app.run_due().await;
    app.advance(TimeDelta::minutes(60));
    assert_eq!(limit().await, 10);
    let events = app.admin().await.ok("query($id: ID) { audit(tenantId: $id, filter: {events: [\"QuotaBoostEnded\"]}) { edges { node { event } } } }", json!({ "id": tenant.id })).await;
    assert_eq!(events["audit"]["edges"].as_array().unwrap().len(), 2, "{events}");
}

#[tokio::test]
async fn a_period_begins_anew_in_the_tenants_time_zone() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let admin = app.admin().await;
    let zone =
        "mutation($id: ID!) { updateTenant(input: {id: $id, profile: {timeZone: \"Asia/Tokyo\"}}) { tenant { id } } }";
    admin.ok(zone, json!({ "id": tenant.id })).await;
    let used = "mutation($input: SetQuotaUsageInput!) { setQuotaUsage(input: $input) { quota { used resetsAt } } }";
    let set =
        admin.ok(used, json!({ "input": { "tenantId": tenant.id, "key": "requests_per_day", "used": 12 } })).await;
    let resets: chrono::DateTime<chrono::Utc> =
        set["setQuotaUsage"]["quota"]["resetsAt"].as_str().unwrap().parse().unwrap();
    assert_eq!(resets.format("%H:%M").to_string(), "15:00", "midnight in Tokyo");
    app.advance(resets - app.app.clock.now() - TimeDelta::seconds(5));
    let read = async || {
        app.admin().await.ok(QUOTAS, json!({ "keys": ["requests_per_day"], "id": tenant.id })).await["quotas"][0]["used"].clone()
    };
    assert_eq!(read().await, 12);
    app.advance(TimeDelta::seconds(10));
    assert_eq!(read().await, 0);
}

#[tokio::test]
async fn a_smaller_plan_is_refused_with_what_is_in_the_way_or_forced() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let (admin, service) = (app.admin().await, app.full_service(&tenant).await);
    let change = "mutation($id: ID!, $plan: String!, $force: Boolean) { changePlan(input: {id: $id, plan: $plan, force: $force}) { tenant { planKey quotas(keys: [\"max_users\"]) { limit overLimit } } } }";
    admin.ok(change, json!({ "id": tenant.id, "plan": "enterprise", "force": false })).await;
    reserve(&service, &[("max_users", 150)]).await;
    let answer = admin.graphql(change, json!({ "id": tenant.id, "plan": "starter", "force": false })).await;
    let extensions = &answer.body["errors"][0]["extensions"];
    assert_eq!(extensions["code"], "quota_exceeded", "{}", answer.text);
    assert_eq!(
        extensions["details"]["inTheWay"],
        json!([{ "key": "max_users", "limit": 10, "used": 0, "reserved": 150 }])
    );
    let file = format!("tenant:\n  slug: acme\n  name: {}\n  plan: starter\n", tenant.canary);
    let apply = "mutation($file: String!) { applyTenant(input: {document: $file}) { created } }";
    assert_eq!(admin.refused(apply, json!({ "file": file })).await, "quota_exceeded", "nor by a file");
    let forced = admin.ok(change, json!({ "id": tenant.id, "plan": "starter", "force": true })).await;
    assert_eq!(
        forced["changePlan"]["tenant"],
        json!({ "planKey": "starter", "quotas": [{ "limit": 10, "overLimit": true }] })
    );
    assert_eq!(
        service.refused(RESERVE, json!({ "input": { "lines": lines(&[("max_users", 1)]) } })).await,
        "quota_exceeded"
    );
}

#[tokio::test]
async fn bad_input_names_the_field_and_holds_nothing() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let foreign = app.full_service(&app.tenant("beta").await).await;
    let (admin, service) = (app.admin().await, app.full_service(&tenant).await);
    let many: Vec<_> = (0..21).map(|_| ("max_users", 1)).collect();
    let cases = [
        (json!({ "lines": [] }), "lines"),
        (json!({ "lines": lines(&many) }), "lines"),
        (json!({ "lines": lines(&[("max_users", 0)]) }), "lines[0].amount"),
        (json!({ "lines": lines(&[("max_users", -5)]) }), "lines[0].amount"),
        (json!({ "lines": lines(&[("max_users", 1), ("max_users", 1)]) }), "lines[1].key"),
        (json!({ "lines": lines(&[("max_users", 1), ("unheard", 1)]) }), "lines[1].key"),
        (json!({ "lines": lines(&[("requests_per_second", 1)]) }), "lines[0].key"),
        (json!({ "lines": lines(&[("max_users", 1)]), "expiresInSeconds": 0 }), "expiresInSeconds"),
        (json!({ "lines": lines(&[("max_users", 1)]), "expiresInSeconds": 86_401 }), "expiresInSeconds"),
    ];
    for (input, field) in cases {
        let answer = service.graphql(RESERVE, json!({ "input": input })).await;
        let extensions = &answer.body["errors"][0]["extensions"];
        assert_eq!(
            (&extensions["code"], &extensions["field"]),
            (&json!("invalid_input"), &json!(field)),
            "{}",
            answer.text
        );
    }
    let largest = i64::MAX;
    admin
        .ok(SET, json!({ "input": { "tenantId": tenant.id, "key": "max_domains", "limit": null, "reason": "none" } }))
        .await;
    reserve(&service, &[("max_domains", largest)]).await;
    let answer = service.graphql(RESERVE, json!({ "input": { "lines": lines(&[("max_domains", 1)]) } })).await;
    assert_eq!(answer.code(), "invalid_input", "overflow: {}", answer.text);
    let held = reserve(&service, &[("max_users", 2)]).await["reservation"]["id"].clone();
    for id in [held.clone(), json!("01a1fda2-7079-775d-968f-cdc8372b2275"), json!("nonsense")] {
        assert_eq!(foreign.refused(COMMIT, json!({ "input": { "reservationId": id } })).await, "not_found");
        assert_eq!(foreign.refused(RELEASE, json!({ "input": { "reservationId": id } })).await, "not_found");
    }
    for amount in [3, -1] {
        let input = json!({ "input": { "reservationId": held, "lines": lines(&[("max_users", amount)]) } });
        assert_eq!(service.refused(COMMIT, input).await, "invalid_input");
    }
    let found = quota(&service, "max_users").await;
    assert_eq!((&found["used"], &found["reserved"]), (&json!(0), &json!(2)));
    let past = json!({ "input": { "tenantId": tenant.id, "key": "max_users", "amount": 1, "reason": "x", "expiresAt": "2020-01-01T00:00:00Z" } });
    assert_eq!(admin.refused(BOOST, past).await, "invalid_input");
    let negative = json!({ "input": { "tenantId": tenant.id, "key": "max_users", "limit": -1, "reason": "x" } });
    assert_eq!(admin.refused(SET, negative).await, "invalid_input");
}

#[tokio::test]
async fn operators_add_quotas_and_a_soft_limit_is_recorded_when_it_is_passed() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let (admin, service) = (app.admin().await, app.full_service(&tenant).await);
    let define = "mutation($input: DefineQuotaInput!) { defineQuota(input: $input) { definition { key version } } }";
    let input = json!({ "input": { "key": "reports", "unit": "reports", "kind": "PERIOD", "period": "MONTH", "enforcement": "SOFT", "defaultLimit": 3 } });
    admin.ok(define, input.clone()).await;
    assert_eq!(admin.refused(define, input).await, "conflict");
    for amount in [2, 2, 2] {
        reserve(&service, &[("reports", amount)]).await;
    }
    let events = admin.ok("query($id: ID) { audit(tenantId: $id, filter: {events: [\"QuotaLimitPassed\"]}) { edges { node { after } } } }", json!({ "id": tenant.id })).await;
    let events = events["audit"]["edges"].as_array().unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!((&events[0]["node"]["after"]["limit"], &events[0]["node"]["after"]["reserved"]), (&json!(3), &json!(4)));
}

/// Reserves one of a quota until a server does so from memory; answers the ids.
async fn tickets(client: &Client, key: &str, most: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..most {
        let id = reserve(client, &[(key, 1)]).await["reservation"]["id"].as_str().unwrap().to_owned();
        ids.push(id);
    }
    assert!(ids.iter().filter(|id| id.len() > 36).count() > most / 2, "nothing is promised from memory: {ids:?}");
    ids
}

async fn limit(app: &TestApp, tenant: &crate::support::Tenant, key: &str, limit: i64) {
    let input = json!({ "tenantId": tenant.id, "key": key, "limit": limit, "reason": "test" });
    app.admin().await.ok(SET, json!({ "input": input })).await;
}

fn named(id: &str) -> Value {
    json!({ "input": { "reservationId": id } })
}

#[tokio::test]
async fn what_a_server_promises_from_memory_is_good_on_every_other_when_it_is_gone() {
    let app = TestApp::with("worker.interval = \"1h\"").await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    limit(&app, &acme, "max_users", 1000).await;
    let dying = app.replica("worker.interval = \"1h\"").await;
    let ids = tickets(&dying.service(&acme, "auth:quota:read auth:quota:write").await, "max_users", 20).await;
    let leased: Vec<&String> = ids.iter().filter(|id| id.len() > 36).collect();
    drop(dying);
    let service = app.full_service(&acme).await;
    let committed = service.ok(COMMIT, named(leased[0])).await["commitReservation"].clone();
    assert_eq!(committed["reservation"]["id"], json!(leased[0]));
    assert_eq!(committed["reservation"]["state"], "COMMITTED");
    assert_eq!(committed["quotas"][0]["used"], 1);
    let again = service.ok(COMMIT, named(leased[0])).await["commitReservation"].clone();
    assert_eq!(again["quotas"][0], committed["quotas"][0], "a ticket counts once");
    assert_eq!(service.refused(RELEASE, named(leased[0])).await, "conflict");
    for _ in 0..2 {
        assert_eq!(
            service.ok(RELEASE, named(leased[1])).await["releaseReservation"]["reservation"]["state"],
            "RELEASED"
        );
    }
    assert_eq!(service.refused(COMMIT, named(leased[1])).await, "conflict");
    let neighbour = app.full_service(&other).await;
    assert_eq!(neighbour.refused(COMMIT, named(leased[2])).await, "not_found");
    // After the last expiry nothing is held, though nobody closed the lease.
    app.advance(TimeDelta::minutes(6));
    assert_eq!(service.refused(COMMIT, named(leased[2])).await, "conflict");
    app.run_due().await;
    let left = quota(&service, "max_users").await;
    assert_eq!((&left["used"], &left["reserved"]), (&json!(1), &json!(0)));
}

#[tokio::test]
async fn a_lease_is_nobodys_reservation_and_a_ticket_cannot_be_made_up() {
    let app = TestApp::with("worker.interval = \"1h\"").await;
    let acme = app.tenant("acme").await;
    limit(&app, &acme, "max_users", 1000).await;
    let service = app.full_service(&acme).await;
    let ids = tickets(&service, "max_users", 10).await;
    let row = column(
        &app,
        "select reservation_id::text as it from tenantry.quota_reservations where lease_until is not null",
    )
    .await;
    let before = quota(&service, "max_users").await;
    assert_eq!(service.refused(COMMIT, named(&row[0])).await, "not_found", "the lease itself");
    let ticket = ids.last().unwrap();
    let mut changed = ticket.clone();
    changed.replace_range(30..31, if &ticket[30..31] == "A" { "B" } else { "A" });
    assert_eq!(service.refused(COMMIT, named(&changed)).await, "not_found");
    assert_eq!(quota(&service, "max_users").await, before, "nothing changed");
}

#[tokio::test]
async fn two_servers_with_leases_admit_exactly_the_limit() {
    let app = TestApp::with("worker.interval = \"1h\"").await;
    let acme = app.tenant("acme").await;
    limit(&app, &acme, "max_users", 300).await;
    let replica = app.replica("worker.interval = \"1h\"").await;
    let clients = [app.full_service(&acme).await, replica.full_service(&acme).await];
    let (mut granted, mut leased, mut asked) = (0, 0, tokio::task::JoinSet::new());
    for number in 0..400 {
        let client = clients[number % 2].clone();
        asked.spawn(async move {
            client.graphql(RESERVE, json!({ "input": { "lines": lines(&[("max_users", 1)]) } })).await
        });
        if asked.len() < 16 {
            continue;
        }
        let answer = asked.join_next().await.unwrap().unwrap();
        if answer.body["errors"].is_null() {
            granted += 1;
            leased +=
                usize::from(answer.body["data"]["reserveQuota"]["reservation"]["id"].as_str().unwrap().len() > 36);
        } else {
            assert_eq!(answer.code(), "quota_exceeded", "{}", answer.text);
        }
    }
    while let Some(answer) = asked.join_next().await {
        granted += usize::from(answer.unwrap().body["errors"].is_null());
    }
    assert_eq!(granted, 300, "{leased} of them from memory");
    assert!(leased > 50, "{leased} from memory");
}

#[tokio::test]
async fn what_another_server_has_leased_and_nobody_took_is_recalled_before_anything_is_refused() {
    let app = TestApp::with("worker.interval = \"1h\"").await;
    let acme = app.tenant("acme").await;
    limit(&app, &acme, "max_users", 1000).await;
    let replica = app.replica("worker.interval = \"1h\"").await;
    let (here, there) = (app.full_service(&acme).await, replica.full_service(&acme).await);
    tickets(&there, "max_users", 20).await;
    let more = "select (reserved > 20)::text as it from tenantry.quota_usage";
    assert_eq!(column(&app, more).await, ["true"], "a lease holds more than was promised");
    let all = json!({ "input": { "lines": lines(&[("max_users", 980)]) } });
    here.ok(RESERVE, all).await;
    let one = json!({ "input": { "lines": lines(&[("max_users", 1)]) } });
    for client in [&here, &there] {
        assert_eq!(client.refused(RESERVE, one.clone()).await, "quota_exceeded");
    }
}

#[tokio::test]
async fn a_limit_that_is_lowered_ends_what_is_promised_from_memory_and_what_is_idle_comes_back() {
    let app = TestApp::with("worker.interval = \"1h\"").await;
    let acme = app.tenant("acme").await;
    limit(&app, &acme, "max_users", 1000).await;
    let service = app.full_service(&acme).await;
    let ids = tickets(&service, "max_users", 20).await;
    assert_eq!(quota(&service, "max_users").await["reserved"], 20, "what is idle is not shown as held");
    limit(&app, &acme, "max_users", 20).await;
    let input = json!({ "input": { "lines": lines(&[("max_users", 1)]) } });
    assert_eq!(service.refused(RESERVE, input.clone()).await, "quota_exceeded");
    service.ok(RELEASE, named(&ids[0])).await;
    service.ok(RESERVE, input).await;
    app.advance(TimeDelta::seconds(6));
    app.run_due().await;
    let held = "select reserved::text as it from tenantry.quota_usage where quota_key = 'max_users'";
    assert_eq!(column(&app, held).await, ["20"], "nothing idle is leased any more");
}

#[tokio::test]
async fn expired_reservations_of_a_tenant_with_many_do_not_hold_up_another_tenants() {
    let app = TestApp::with("worker.interval = \"1h\"").await;
    let (noisy, quiet) = (app.tenant("noisy").await, app.tenant("quiet").await);
    limit(&app, &noisy, "max_users", 100_000).await;
    let service = app.full_service(&quiet).await;
    reserve(&service, &[("max_users", 1)]).await;
    // Older than the quiet one's, and more than one run of the schedule takes.
    let fill = format!(
        "insert into tenantry.quota_usage (tenant_id, quota_key, quota_window, reserved) values ('{0}', 'max_users', '', 10400);
         insert into tenantry.quota_reservations (tenant_id, reservation_id, subject, state, holds, created_at, expires_at)
         select '{0}', gen_random_uuid(), 'x', 'HELD', jsonb_build_array(jsonb_build_object('counter',
           jsonb_build_object('tenant', '{0}', 'key', 'max_users', 'window', ''), 'amount', 1)), now(), now() + interval '4 minutes'
         from generate_series(1, 10400)",
        noisy.id
    );
    app.database.superuser().await.execute_unprepared(&fill).await.unwrap();
    app.advance(TimeDelta::minutes(6));
    assert_eq!(app.app.quotas.expire_due().await.unwrap(), 10_000, "as many as one run takes");
    assert_eq!(quota(&service, "max_users").await["reserved"], 0);
    let left = format!("select reserved::text as it from tenantry.quota_usage where tenant_id = '{}'", noisy.id);
    assert_eq!(column(&app, &left).await, ["401"]);
}

#[tokio::test]
async fn a_reservation_that_ends_is_found_without_reading_all_that_are_held() {
    let app = TestApp::with("worker.interval = \"1h\"").await;
    let (acme, others) = (app.tenant("acme").await, app.tenant("others").await);
    let service = app.full_service(&acme).await;
    // Statistics of a moment ago, when nearly nothing was held.
    let fill = |state, ended, rows| {
        format!(
            "insert into tenantry.quota_reservations (tenant_id, reservation_id, subject, state, holds, created_at, expires_at, ended_at)
             select '{}', gen_random_uuid(), 'x', '{state}', '[]', now(), now() + interval '1 hour', {ended} from generate_series(1, {rows});",
            others.id
        )
    };
    let superuser = app.database.superuser().await;
    let reservations = "alter table tenantry.quota_reservations set (autovacuum_enabled = off)";
    superuser.execute_unprepared(reservations).await.unwrap();
    superuser.execute_unprepared(&fill("RELEASED", "now()", 20_000)).await.unwrap();
    superuser.execute_unprepared("analyze tenantry.quota_reservations").await.unwrap();
    superuser.execute_unprepared(&fill("HELD", "null", 5_000)).await.unwrap();
    for _ in 0..10 {
        let reserved = reserve(&service, &[("max_users", 1)]).await;
        let id = reserved["reservation"]["id"].as_str().unwrap();
        service.ok(RELEASE, named(id)).await;
    }
    // A connection tells what it has read when it ends, at the latest.
    let database = app.database.clone();
    drop((service, app));
    assert_eq!(database.connections_left().await, 0);
    let read = "select sum(idx_tup_read)::bigint as read from pg_stat_all_indexes where relname = 'quota_reservations'";
    let row = superuser.query_one_raw(Statement::from_string(DbBackend::Postgres, read)).await.unwrap().unwrap();
    let read: i64 = row.try_get("", "read").unwrap();
    assert!(read < 1000, "{read} entries of indexes were read for 20 statements");
}

/// The column `it`, read by a superuser.
async fn column(app: &TestApp, sql: &str) -> Vec<String> {
    let statement = Statement::from_string(DbBackend::Postgres, sql);
    let rows = app.database.superuser().await.query_all_raw(statement).await.unwrap();
    rows.iter().map(|row| row.try_get("", "it").unwrap()).collect()
}

const CUT_LISTENERS: &str = "select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name = 'tenantry listener' and pid <> pg_backend_pid()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_servers_lease_ends_when_the_limit_changes_and_a_deaf_server_promises_nothing() {
    let app = TestApp::with("worker.interval = \"1h\"").await;
    let acme = app.tenant("acme").await;
    limit(&app, &acme, "max_users", 1000).await;
    let replica = app.replica("worker.interval = \"1h\"").await;
    let there = replica.full_service(&acme).await;
    tickets(&there, "max_users", 20).await;
    limit(&app, &acme, "max_users", 10).await;
    let one = json!({ "input": { "lines": lines(&[("max_users", 1)]) } });
    assert_eq!(there.refused(RESERVE, one.clone()).await, "quota_exceeded", "the other server goes on promising");
    limit(&app, &acme, "max_users", 1000).await;
    let (superuser, mut deaf) = (app.database.superuser().await, 0);
    let is_deaf = || !replica.app.tenancy.snapshots().is_listening();
    let until = async |deaf| {
        for _ in 0..2000 {
            if is_deaf() == deaf {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    // A loaded machine listens again before it has decided: then there is another round.
    for round in 0..200 {
        if round >= 20 && deaf > 0 {
            break;
        }
        until(false).await;
        tickets(&there, "max_users", 4).await; // it promises from memory again
        superuser.execute_unprepared(CUT_LISTENERS).await.unwrap();
        if round % 2 == 0 {
            // At once, whether the cut is noticed by now or not.
            limit(&app, &acme, "max_users", 10).await;
            assert_eq!(there.refused(RESERVE, one.clone()).await, "quota_exceeded", "round {round}");
            limit(&app, &acme, "max_users", 1000).await;
            continue;
        }
        until(true).await;
        let answer = reserve(&there, &[("max_users", 1)]).await;
        if is_deaf() {
            deaf += 1;
            assert_eq!(answer["reservation"]["id"].as_str().unwrap().len(), 36, "promised from memory while deaf");
        }
    }
    assert!(deaf > 0, "nothing was decided while the server was deaf");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_used_is_answered_from_memory_and_is_never_older_than_what_was_acknowledged() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    limit(&app, &acme, "max_users", 1000).await;
    let replica = app.replica("").await;
    let (here, there) = (app.full_service(&acme).await, replica.full_service(&acme).await);
    let tables = ["quota_usage", "quota_reservations", "quota_keys", "tenants", "journal_heads", "journal"];
    for server in [&app, &replica] {
        let client = server.full_service(&acme).await;
        let ask = async || assert_eq!(quota(&client, "max_users").await["used"], 0);
        server.answers_without(&tables, ask).await;
    }
    let both = async |part: &str, expected: i64, what: &str| {
        for client in [&there, &here] {
            assert_eq!(quota(client, "max_users").await[part], expected, "{what}");
        }
    };
    for round in 0..10 {
        let (one, other) = if round % 2 == 0 { (&here, &there) } else { (&there, &here) };
        let input = json!({ "key": "max_users", "used": round });
        one.ok(
            "mutation($input: SetQuotaUsageInput!) { setQuotaUsage(input: $input) { quota { used } } }",
            json!({ "input": input }),
        )
        .await;
        both("used", round, "set").await;
        // Of its own expiry, so that it is not drawn from a lease, which others see as held.
        let input = json!({ "input": { "lines": lines(&[("max_users", 7)]), "expiresInSeconds": 60 } });
        let held = one.ok(RESERVE, input).await;
        both("reserved", 7, "reserved").await;
        other.ok(RELEASE, named(held["reserveQuota"]["reservation"]["id"].as_str().unwrap())).await;
        both("reserved", 0, "released").await;
    }
}
