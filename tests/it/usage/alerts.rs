//! Alerts fire once for a rule, a threshold and a period, wherever and whenever it is looked.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tenantry::platform::db::embedded;
use tokio::{task::JoinSet, time::sleep};

use super::{app_at_noon, record, service};
use crate::{
    binary::Binary,
    support::{Client, Received, TestApp},
};

const SET: &str = "mutation($input: SetAlertRuleInput!) { setAlertRule(input: $input) {
    rule { key dimension labels period thresholds { percent quantity } limit version } } }";
const DELETE: &str =
    "mutation($input: DeleteAlertRuleInput!) { deleteAlertRule(input: $input) { rule { key version } } }";
const RULES: &str = "query($id: ID) { alertRules(tenantId: $id) { key version thresholds { percent quantity } } }";
const ALERTS: &str = "query($id: ID, $first: Int, $after: String) { usageAlerts(tenantId: $id, first: $first, after: $after) {
    edges { cursor node { id rule ruleVersion dimension labels period periodBegin periodEnd threshold { percent quantity } quantity total limit
      percent firedAt } } pageInfo { hasNextPage endCursor } } }";
const WATCH: &str = "subscription($id: ID, $after: String) { usageAlerts(tenantId: $id, after: $after) {
    cursor alert { id rule threshold { percent quantity } total } } }";

async fn set(client: &Client, input: Value) -> Value {
    client.ok(SET, json!({ "input": input })).await["setAlertRule"]["rule"].clone()
}

/// All that has fired, the newest first.
async fn alerts(client: &Client) -> Vec<Value> {
    let page = client.ok(ALERTS, json!({ "first": 100 })).await;
    page["usageAlerts"]["edges"].as_array().unwrap().iter().map(|edge| edge["node"].clone()).collect()
}

/// As `rule threshold total`, in the order of the text.
fn told(alerts: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut told: Vec<_> = alerts
        .iter()
        .map(|alert| {
            let threshold = &alert["threshold"];
            let threshold = match threshold["percent"].as_str() {
                Some(percent) => format!("{percent}%"),
                None => text(&threshold["quantity"]),
            };
            format!("{} {threshold} {}", text(&alert["rule"]), text(&alert["total"]))
        })
        .collect();
    told.sort();
    told
}

/// Waits until so many have fired.
async fn fired(client: &Client, count: usize) -> Vec<Value> {
    for _ in 0..200 {
        let alerts = alerts(client).await;
        if alerts.len() >= count {
            assert_eq!(alerts.len(), count, "{alerts:?}");
            return alerts;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("{count} alerts never fired: {:?}", alerts(client).await)
}

/// Nothing waits to be looked at any more; what has fired is what fires.
async fn all_is_looked_at(app: &TestApp) {
    app.fold_usage().await;
    app.app.usage.fire_alerts().await.unwrap();
    // What the schedule had taken by then may still be on its way.
    sleep(Duration::from_millis(300)).await;
}

fn calls(key: &str, quantity: &str) -> Value {
    json!([{ "key": key, "dimension": "api_calls", "quantity": quantity }])
}

async fn at(app: &TestApp, time: &str) {
    let time: DateTime<Utc> = time.parse().unwrap();
    app.advance(time - app.app.clock.now());
    app.run_due().await;
}

#[tokio::test]
async fn each_threshold_fires_once_and_says_what_the_figures_were() {
    let app = app_at_noon().await;
    let tenant = app.tenant("alerted").await;
    let client = service(&app, &tenant).await;
    let rule =
        set(&client, json!({ "key": "calls", "dimension": "api_calls", "period": "MONTH", "limit": "1000" })).await;
    assert_eq!(
        rule["thresholds"],
        json!([{ "percent": "80", "quantity": null }, { "percent": "95", "quantity": null }, { "percent": "100", "quantity": null }])
    );
    record(&client, calls("a", "799.999999999")).await;
    all_is_looked_at(&app).await;
    assert!(alerts(&client).await.is_empty());
    record(&client, calls("b", "160.000000001")).await;
    let first = fired(&client, 2).await;
    assert_eq!(told(&first), ["calls 80% 960", "calls 95% 960"]);
    let alert = first.iter().find(|alert| alert["threshold"]["percent"] == "95").unwrap();
    let expected = [
        ("ruleVersion", json!(1)),
        ("dimension", json!("api_calls")),
        ("labels", json!({})),
        ("period", json!("MONTH")),
        ("periodBegin", json!("2026-11-01T00:00:00+00:00")),
        ("periodEnd", json!("2026-12-01T00:00:00+00:00")),
        ("quantity", json!("950")),
        ("limit", json!("1000")),
        ("percent", json!("96")),
    ];
    for (field, value) in expected {
        assert_eq!(alert[field], value, "{field}");
    }
    // It falls, and rises again: nothing anew.
    let back =
        json!([{ "key": "c", "dimension": "api_calls", "quantity": "-900", "adjustmentReason": "counted by mistake" }]);
    assert_eq!(record(&client, back).await["accepted"], 1);
    all_is_looked_at(&app).await;
    record(&client, calls("d", "930")).await;
    all_is_looked_at(&app).await;
    assert_eq!(alerts(&client).await, first);
    // Another rule now: what has fired fires no more, what is new and reached does at once, and the old snapshots stay.
    let changed = json!({ "key": "calls", "dimension": "api_calls", "period": "MONTH", "limit": "500", "expectedVersion": 1,
        "thresholds": [{ "percent": "95" }, { "percent": "150" }, { "quantity": "990" }, { "quantity": "991" }] });
    assert_eq!(set(&client, changed.clone()).await["version"], 2);
    let second = fired(&client, 4).await;
    assert_eq!(told(&second), ["calls 150% 990", "calls 80% 960", "calls 95% 960", "calls 990 990"]);
    for alert in &first {
        assert!(second.contains(alert), "{alert}");
    }
    assert_eq!(client.refused(SET, json!({ "input": changed })).await, "conflict");
    let entries = "query { audit(first: 100) { edges { node { event } } } }";
    let entries = client.with_token(app.service_token(&tenant, "auth:audit:read").await).ok(entries, json!({})).await;
    let count = |event: &str| entries.to_string().matches(event).count();
    assert_eq!((count("UsageAlertFired"), count("AlertRuleSet")), (4, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_cross_a_threshold_at_two_servers_fire_one_alert() {
    let app = app_at_noon().await;
    let replica = app.replica("").await;
    let tenant = app.tenant("crowded").await;
    let clients = [service(&app, &tenant).await, replica.service(&tenant, "auth:usage:read auth:usage:write").await];
    let input =
        json!({ "key": "calls", "dimension": "api_calls", "period": "DAY", "thresholds": [{ "quantity": "32" }] });
    set(&clients[0], input).await;
    let mut sending = JoinSet::new();
    for number in 0..64 {
        let client = clients[number % 2].clone();
        sending.spawn(async move { record(&client, calls(&number.to_string(), "1")).await["accepted"].clone() });
    }
    while let Some(accepted) = sending.join_next().await {
        assert_eq!(accepted.unwrap(), 1);
    }
    fired(&clients[0], 1).await;
    // Whoever looks again, at once and at both.
    let looks = (0..8).map(|number| [&app, &replica][number % 2].app.usage.clone());
    let mut looking: JoinSet<_> = looks.map(|usage| async move { usage.fire_alerts().await.unwrap() }).collect();
    while looking.join_next().await.is_some() {}
    all_is_looked_at(&replica).await;
    for client in &clients {
        assert_eq!(alerts(client).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_misses_no_alert_and_gets_none_twice_at_whatever_server() {
    let app = app_at_noon().await;
    let replica = app.replica("").await;
    let tenant = app.tenant("following").await;
    let client = service(&app, &tenant).await;
    let thresholds: Vec<_> = (1..=10).map(|threshold| json!({ "quantity": threshold.to_string() })).collect();
    set(&client, json!({ "key": "calls", "dimension": "api_calls", "period": "DAY", "thresholds": thresholds })).await;
    let mut heard: Vec<String> = Vec::new();
    let mut cursor = Value::Null;
    for number in 0..5 {
        let at = [&app, &replica][number % 2];
        let mut socket = at.socket(&client).await;
        socket.subscribe("a", WATCH, json!({ "after": cursor })).await;
        if number == 0 {
            // A stream without a cursor begins once it is there.
            sleep(Duration::from_millis(500)).await;
        }
        // One while somebody listens, and one that fires while nobody does.
        record(&client, calls(&format!("{number}-heard"), "1")).await;
        let expected = if number == 0 { 1 } else { 2 };
        for _ in 0..expected {
            let event = socket.event().await["data"]["usageAlerts"].clone();
            cursor = event["cursor"].clone();
            heard.push(event["alert"]["threshold"]["quantity"].as_str().unwrap().to_owned());
        }
        drop(socket);
        record(&client, calls(&format!("{number}-unheard"), "1")).await;
        fired(&client, 2 * (number + 1)).await;
    }
    let mut socket = replica.socket(&client).await;
    socket.subscribe("a", WATCH, json!({ "after": cursor })).await;
    heard.push(
        socket.event().await["data"]["usageAlerts"]["alert"]["threshold"]["quantity"].as_str().unwrap().to_owned(),
    );
    assert_eq!(heard, (1..=10).map(|threshold| threshold.to_string()).collect::<Vec<_>>());
    assert_eq!(socket.next_within(Duration::from_millis(500)).await, None);
    // The list has the same, page by page.
    let (mut listed, mut after) = (Vec::new(), Value::Null);
    loop {
        let page = client.ok(ALERTS, json!({ "first": 3, "after": after })).await["usageAlerts"].clone();
        for edge in page["edges"].as_array().unwrap() {
            listed.push(edge["node"]["threshold"]["quantity"].as_str().unwrap().to_owned());
        }
        after = page["pageInfo"]["endCursor"].clone();
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
    }
    heard.reverse();
    assert_eq!(listed, heard);
}

#[tokio::test]
async fn what_was_marked_by_a_server_that_is_no_more_fires_at_another() {
    let app = TestApp::with("[worker]\ninterval = \"1h\"").await;
    let tenant = app.tenant("marked").await;
    let client = service(&app, &tenant).await;
    let input =
        json!({ "key": "calls", "dimension": "api_calls", "period": "DAY", "thresholds": [{ "quantity": "5" }] });
    set(&client, input).await;
    app.app.usage.fire_alerts().await.unwrap();
    record(&client, calls("a", "5")).await;
    // In totals, and not looked at.
    assert!(app.app.usage.fold().await.unwrap());
    assert!(alerts(&client).await.is_empty());
    let _other = app.replica("").await;
    fired(&client, 1).await;
    assert_eq!(app.app.usage.fire_alerts().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_after_the_acknowledgement_loses_no_alert() {
    let binary = Binary::private().set("WORKER__INTERVAL", "100ms");
    let first = binary.serve().await;
    let token = binary.run(&["token", "--role", "admin"]).await.ok().trim().to_owned();
    let url = embedded::url_of_running(&binary.path("data/postgres"), "tenantry", "tenantry_login").unwrap();
    let other = Binary::as_login(&url)
        .set("WORKER__INTERVAL", "100ms")
        .set("KEYS__MASTER_KEY_FILE", binary.path("data/master.key").display().to_string());
    let admin = first.with_token(&token);
    let make = "mutation { createTenant(input: {slug: \"killed\", name: \"Killed\"}) { tenant { id } } }";
    let tenant = admin.ok(make, json!({})).await["createTenant"]["tenant"]["id"].clone();
    let of = json!({ "id": tenant, "first": 100 });
    let listed =
        async |client: &Client| client.ok(ALERTS, of.clone()).await["usageAlerts"]["edges"].as_array().unwrap().len();
    for round in 1..=4_usize {
        let key = format!("round_{round}");
        // Each rule's threshold is reached by the round's own event, which is acknowledged by a server that dies at once.
        let threshold = (10 * round).to_string();
        let rule = json!({ "tenantId": tenant, "key": key, "dimension": "api_calls", "period": "MONTH", "thresholds": [{ "quantity": threshold }] });
        set(&admin, rule).await;
        let dying = other.serve().await;
        let event = json!([{ "tenantId": tenant, "key": key, "dimension": "api_calls", "quantity": 10 }]);
        assert_eq!(record(&dying.with_token(&token), event).await["accepted"], 1);
        dying.kill().await;
        let mut found = 0;
        for _ in 0..200 {
            found = listed(&admin).await;
            if found >= round {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(found, round);
    }
    sleep(Duration::from_millis(500)).await;
    assert_eq!(listed(&admin).await, 4);
}

#[tokio::test]
async fn the_next_period_fires_again_and_late_events_fire_in_theirs() {
    let app = app_at_noon().await;
    let tenant = app.tenant("daily").await;
    let client = service(&app, &tenant).await;
    let input = json!({ "key": "calls", "dimension": "api_calls", "period": "DAY", "thresholds": [{ "quantity": "5" }, { "quantity": "9" }] });
    set(&client, input).await;
    let before =
        json!([{ "key": "before", "dimension": "api_calls", "quantity": 50, "timestamp": "2026-11-25T10:00:00Z" }]);
    record(&client, before).await;
    record(&client, calls("a", "5")).await;
    let begins = |alerts: &[Value]| {
        alerts.iter().map(|alert| alert["periodBegin"].as_str().unwrap()[..10].to_owned()).collect::<Vec<_>>()
    };
    // What was over when the rule was made fires nothing.
    assert_eq!(begins(&fired(&client, 1).await), ["2026-11-26"]);
    app.advance(TimeDelta::days(1));
    let client = service(&app, &tenant).await;
    record(&client, calls("b", "5")).await;
    assert_eq!(begins(&fired(&client, 2).await), ["2026-11-27", "2026-11-26"]);
    let late = json!([{ "key": "late", "dimension": "api_calls", "quantity": 4, "timestamp": "2026-11-26T23:00:00Z" }]);
    record(&client, late).await;
    let all = fired(&client, 3).await;
    assert_eq!(begins(&all), ["2026-11-26", "2026-11-27", "2026-11-26"]);
    assert_eq!((&all[0]["total"], &all[0]["threshold"]["quantity"]), (&json!("9"), &json!("9")));
}

#[tokio::test]
async fn months_are_those_of_the_tenants_zone_also_where_clocks_change() {
    let app = app_at_noon().await;
    let tenant = app.tenant("vienna").await;
    let zone = "mutation($id: ID!) { updateTenant(input: {id: $id, profile: {timeZone: \"Europe/Vienna\"}}) { tenant { id } } }";
    app.admin().await.ok(zone, json!({ "id": tenant.id })).await;
    at(&app, "2027-03-31T21:58:00Z").await;
    let client = service(&app, &tenant).await;
    let input =
        json!({ "key": "calls", "dimension": "api_calls", "period": "MONTH", "thresholds": [{ "quantity": "5" }] });
    set(&client, input).await;
    record(
        &client,
        json!([
            { "key": "first", "dimension": "api_calls", "quantity": 4, "timestamp": "2027-02-28T23:00:00Z" },
            { "key": "february", "dimension": "api_calls", "quantity": 4, "timestamp": "2027-02-28T22:59:59Z" },
        ]),
    )
    .await;
    all_is_looked_at(&app).await;
    assert!(alerts(&client).await.is_empty());
    // In Vienna it is April already, and in UTC it is not.
    app.advance(TimeDelta::minutes(4));
    record(&client, calls("april", "4")).await;
    all_is_looked_at(&app).await;
    assert!(alerts(&client).await.is_empty());
    let late =
        json!([{ "key": "march", "dimension": "api_calls", "quantity": 1, "timestamp": "2027-03-31T21:59:59Z" }]);
    record(&client, late).await;
    let alert = fired(&client, 1).await.remove(0);
    assert_eq!(
        (&alert["periodBegin"], &alert["periodEnd"]),
        (&json!("2027-02-28T23:00:00+00:00"), &json!("2027-03-31T22:00:00+00:00"))
    );
    record(&client, calls("more", "1")).await;
    assert_eq!(fired(&client, 2).await[0]["periodBegin"], "2027-03-31T22:00:00+00:00");
}

#[tokio::test]
async fn per_cents_are_of_the_quota_where_the_rule_has_no_limit_and_labels_narrow_what_counts() {
    let app = app_at_noon().await;
    let tenant = app.tenant("limited").await;
    let (client, admin) = (service(&app, &tenant).await, app.admin().await);
    let limit = "mutation($id: ID!) { setQuota(input: {tenantId: $id, key: \"llm_tokens\", limit: 200, reason: \"contract\"}) { quota { limit } } }";
    admin.ok(limit, json!({ "id": tenant.id })).await;
    set(&client, json!({ "key": "tokens", "dimension": "llm_tokens", "period": "MONTH" })).await;
    record(&client, json!([{ "key": "t", "dimension": "llm_tokens", "quantity": 191 }])).await;
    let alert = fired(&client, 2).await.remove(0);
    assert_eq!((&alert["limit"], &alert["percent"]), (&json!("200"), &json!("95.5")));
    let define = "mutation { defineUsageDimension(input: {key: \"renders\", unit: \"frames\", aggregation: SUM, groupBy: [\"model\", \"zone\"]}) { dimension { key } } }";
    admin.ok(define, json!({})).await;
    for (key, labels) in [("all_renders", json!({})), ("a_renders", json!({ "model": "a" }))] {
        set(&client, json!({ "key": key, "dimension": "renders", "labels": labels, "period": "DAY", "thresholds": [{ "quantity": "10" }, { "quantity": "25" }] })).await;
    }
    let event =
        |key: &str, labels: Value| json!({ "key": key, "dimension": "renders", "quantity": 9, "labels": labels });
    record(
        &client,
        json!([
            event("1", json!({ "model": "a", "zone": "x" })),
            event("2", json!({ "model": "a" })),
            event("3", json!({}))
        ]),
    )
    .await;
    let of_renders: Vec<_> =
        fired(&client, 5).await.into_iter().filter(|alert| alert["dimension"] == "renders").collect();
    assert_eq!(told(&of_renders), ["a_renders 10 18", "all_renders 10 27", "all_renders 25 27"]);
    let of_a = of_renders.iter().find(|alert| alert["rule"] == "a_renders").unwrap();
    assert_eq!(of_a["labels"], json!({ "model": "a" }));
    // Who was there is counted over all groups, each once.
    let define = "mutation { defineUsageDimension(input: {key: \"seen\", unit: \"people\", aggregation: UNIQUE_COUNT, groupBy: [\"model\"]}) { dimension { key } } }";
    admin.ok(define, json!({})).await;
    set(&client, json!({ "key": "seen", "dimension": "seen", "period": "MONTH", "thresholds": [{ "quantity": "2" }, { "quantity": "3" }] })).await;
    let person = |key: &str, who: &str, model: &str| json!({ "key": key, "dimension": "seen", "subject": who, "labels": { "model": model } });
    record(&client, json!([person("4", "ada", "a"), person("5", "ada", "b"), person("6", "bob", "b")])).await;
    let of_people: Vec<_> = fired(&client, 6).await.into_iter().filter(|alert| alert["dimension"] == "seen").collect();
    assert_eq!(told(&of_people), ["seen 2 2"]);
}

#[tokio::test]
async fn a_bad_rule_is_refused_by_field() {
    let app = app_at_noon().await;
    let tenant = app.tenant("careless").await;
    let client = service(&app, &tenant).await;
    let good = json!({ "key": "good", "dimension": "api_calls", "period": "DAY", "limit": "10" });
    let with = |field: &str, value: Value| {
        let mut input = good.clone();
        input[field] = value;
        input
    };
    let many: Vec<_> = (1..=11).map(|threshold| json!({ "quantity": threshold })).collect();
    let bad = [
        ("key", with("key", json!("Bad"))),
        ("key", with("key", json!("k".repeat(64)))),
        ("dimension", with("dimension", json!("no_such"))),
        ("dimension", with("dimension", json!("storage"))),
        ("labels.model", with("labels", json!({ "model": "a" }))),
        ("limit", with("limit", json!("0"))),
        ("limit", with("limit", json!("-5"))),
        ("limit", with("limit", json!("NaN"))),
        ("limit", with("limit", Value::Null)),
        ("thresholds", with("thresholds", json!([]))),
        ("thresholds", with("thresholds", json!(many))),
        ("thresholds.1", with("thresholds", json!([{ "percent": 80 }, { "percent": "80.0" }]))),
        ("thresholds.0.percent", with("thresholds", json!([{ "percent": 0 }]))),
        ("thresholds.0.percent", with("thresholds", json!([{ "percent": "1000.1" }]))),
        ("thresholds.1.quantity", with("thresholds", json!([{ "quantity": 1 }, { "quantity": "-1" }]))),
        ("thresholds.0.quantity", with("thresholds", json!([{ "quantity": "1e9" }]))),
    ];
    for (field, input) in bad {
        let answer = client.graphql(SET, json!({ "input": input })).await;
        let told = &answer.body["errors"][0]["extensions"]["field"];
        assert_eq!((answer.code(), told), ("invalid_input", &json!(field)), "{}", answer.text);
    }
    set(&client, good.clone()).await;
    for (field, value) in [("dimension", json!("graph_queries")), ("period", json!("MONTH"))] {
        let answer = client.graphql(SET, json!({ "input": with(field, value) })).await;
        assert_eq!(answer.body["errors"][0]["extensions"]["field"], field, "{}", answer.text);
    }
    for number in 1..20 {
        set(&client, with("key", json!(format!("rule_{number}")))).await;
    }
    assert_eq!(client.refused(SET, json!({ "input": with("key", json!("one_more")) })).await, "conflict");
    assert_eq!(client.refused(DELETE, json!({ "input": { "key": "good", "expectedVersion": 7 } })).await, "conflict");
    assert_eq!(client.ok(DELETE, json!({ "input": { "key": "good" } })).await["deleteAlertRule"]["rule"]["version"], 1);
    assert_eq!(client.refused(DELETE, json!({ "input": { "key": "good" } })).await, "not_found");
    assert_eq!(client.ok(RULES, json!({})).await["alertRules"].as_array().unwrap().len(), 19);
    for query in [ALERTS, RULES] {
        assert_eq!(app.admin().await.refused(query, json!({ "first": 1 })).await, "invalid_input");
        assert_eq!(app.service(&tenant, "auth:usage:write").await.refused(query, json!({})).await, "forbidden");
    }
    assert_eq!(app.service(&tenant, "auth:usage:read").await.refused(SET, json!({ "input": good })).await, "forbidden");
}

#[tokio::test]
async fn another_tenant_sees_nothing_of_rules_and_alerts() {
    let app = app_at_noon().await;
    let (tenant, other) = (app.tenant("own").await, app.tenant("stranger").await);
    let (client, stranger) = (service(&app, &tenant).await, service(&app, &other).await);
    let mut socket = app.socket(&stranger).await;
    socket.subscribe("a", WATCH, json!({})).await;
    let input =
        json!({ "key": "calls", "dimension": "api_calls", "period": "DAY", "thresholds": [{ "quantity": "1" }] });
    set(&client, input.clone()).await;
    record(&client, calls("a", "1")).await;
    fired(&client, 1).await;
    assert!(alerts(&stranger).await.is_empty());
    assert_eq!(stranger.ok(RULES, json!({})).await["alertRules"], json!([]));
    for query in [ALERTS, RULES] {
        assert_eq!(stranger.refused(query, json!({ "id": tenant.id, "first": 5 })).await, "not_found");
    }
    let mut foreign = input;
    foreign["tenantId"] = json!(tenant.id);
    assert_eq!(stranger.refused(SET, json!({ "input": foreign })).await, "not_found");
    assert_eq!(socket.next_within(Duration::from_millis(500)).await, None::<Received>);
    // An operator sees whom it names.
    let seen = app.admin().await.ok(ALERTS, json!({ "id": tenant.id, "first": 5 })).await;
    assert_eq!(seen["usageAlerts"]["edges"].as_array().unwrap().len(), 1);
}
