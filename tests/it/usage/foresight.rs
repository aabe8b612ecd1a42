//! What a month will come to; budgets, limits that will be passed and days unlike others, each told once.

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::{
    costs::{app_in_february, at, field_of, number, set_price, used},
    record, service,
};
use crate::support::{Client, TestApp};

const FORECAST: &str = "query($input: ForecastInput!) { forecast(input: $input) { begin end soFar expected lower upper level model basis { days }
    cost { currency expected lower upper } } }";

async fn forecast(client: &Client, dimension: &str) -> Value {
    let input = json!({ "dimension": dimension, "currency": "EUR" });
    client.ok(FORECAST, json!({ "input": input })).await["forecast"].clone()
}

#[tokio::test]
async fn a_forecast_is_what_was_used_and_the_rest_from_daily_totals() {
    let (app, tenant) = app_in_february().await;
    set_price(&app, None, "2027-03-01T00:00:00Z", json!([{ "flat": { "amount": "9" } }, { "usage": { "dimension": "api_calls", "included": "5", "rate": { "perUnit": { "unitPrice": "2" } } } }])).await;
    at(&app, "2027-02-24T12:00:00Z").await;
    let client = service(&app, &tenant).await;
    let told = |forecast: &Value| {
        let text = |field: &str| forecast[field].as_str().unwrap_or("-").to_owned();
        [
            text("model"),
            forecast["basis"]["days"].to_string(),
            text("soFar"),
            text("expected"),
            text("lower"),
            text("upper"),
        ]
        .join(" ")
    };
    // Nothing is known: nothing is expected, and nobody knows how surely.
    assert_eq!(told(&forecast(&client, "api_calls").await), "RUN_RATE 0 0 0 0 -");
    // At noon, 600 a day: 600 more today, and 4 days of 1200.
    record(&client, json!([used("today", "api_calls", "600", "2027-02-24T09:00:00Z")])).await;
    assert!(told(&forecast(&client, "api_calls").await).starts_with("RUN_RATE 0 600 5999."));
    at(&app, "2027-03-02T12:00:00Z").await;
    let client = service(&app, &tenant).await;
    let events: Vec<_> =
        (25..=28).map(|day| format!("02-{day}")).chain((1..=1).map(|day| format!("03-0{day}"))).collect();
    let events: Vec<_> =
        events.iter().map(|day| used(day, "api_calls", "600", &format!("2027-{day}T09:00:00Z"))).collect();
    record(&client, json!(events)).await;
    app.fold_usage().await;
    // 600 on the first of March, half a day's and 29 days'.
    let few = forecast(&client, "api_calls").await;
    let expected = number(&few["expected"]);
    assert!(told(&few).starts_with("MEAN 6 600 ") && (expected - Decimal::from(18_300)).abs() < Decimal::ONE, "{few}");
    // Of 19 units 14 are not included.
    assert_eq!(few["cost"], json!({ "currency": "EUR", "expected": "28.00", "lower": "28.00", "upper": "28.00" }));
    assert_eq!(
        (&few["begin"], &few["end"]),
        (&json!("2027-03-01T00:00:00+00:00"), &json!("2027-04-01T00:00:00+00:00"))
    );
    at(&app, "2027-03-25T00:00:00Z").await;
    let client = service(&app, &tenant).await;
    // Weekdays 700, weekends 100: 2027-03-06 is a Saturday.
    let events: Vec<_> = (2..25)
        .map(|day| {
            let quantity = if matches!(day % 7, 6 | 0) { "100" } else { "700" };
            used(&format!("march {day}"), "api_calls", quantity, &format!("2027-03-{day:02}T09:00:00Z"))
        })
        .collect();
    record(&client, json!(events)).await;
    let many = forecast(&client, "api_calls").await;
    assert_eq!(
        (&many["model"], &many["basis"]["days"], &many["level"]),
        (&json!("WEEKLY_SMOOTHING"), &json!(29), &json!(0.95))
    );
    let so_far = number(&many["soFar"]);
    assert_eq!(so_far, Decimal::from(600 + 17 * 700 + 6 * 100));
    let (lower, expected, upper) = (number(&many["lower"]), number(&many["expected"]), number(&many["upper"]));
    assert!(so_far <= lower && lower <= expected && expected <= upper, "{many}");
    // Thursday and Friday, the weekend, and three days more.
    assert!((expected - so_far - Decimal::from(5 * 700 + 200)).abs() < Decimal::from(500), "{many}");
    for dimension in ["users", "storage", "discovered_resources"] {
        assert_eq!(forecast(&client, dimension).await["expected"], "0", "{dimension}");
    }
    let stranger = service(&app, &app.tenant("stranger").await).await;
    let input = json!({ "dimension": "api_calls", "tenantId": tenant.id });
    assert_eq!(stranger.refused(FORECAST, json!({ "input": input })).await, "not_found");
    for (field, value) in [("dimension", "no_such"), ("timeZone", "Vienna"), ("currency", "XXX")] {
        let mut input = json!({ "dimension": "api_calls" });
        input[field] = json!(value);
        assert_eq!(field_of(&client, FORECAST, input).await, json!(field));
    }
}

const SET_BUDGET: &str = "mutation($input: SetBudgetInput!) { setBudget(input: $input) {
    budget { key dimension currency amount thresholds version } } }";
const DELETE_BUDGET: &str =
    "mutation($input: DeleteBudgetInput!) { deleteBudget(input: $input) { budget { key version } } }";
const BUDGETS: &str = "query($id: ID) { budgets(tenantId: $id) { key version } }";
const ALERTS: &str = "query($id: ID) { usageAlerts(tenantId: $id, first: 100) { edges { node { kind rule dimension currency periodBegin periodEnd
    threshold { percent quantity } quantity total limit percent } } } }";

/// All that has fired, as `rule threshold total`, in the order of the text, when nothing waits any more.
async fn fired(app: &TestApp, client: &Client) -> Vec<String> {
    app.fold_usage().await;
    app.app.usage.fire_alerts().await.unwrap();
    // What the schedule had taken by then may still be on its way.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let alerts = client.ok(ALERTS, json!({})).await["usageAlerts"]["edges"].as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let told = |edge: &Value| {
        let alert = &edge["node"];
        format!("{} {}% {}", text(&alert["rule"]), text(&alert["threshold"]["percent"]), text(&alert["total"]))
    };
    let mut told: Vec<_> = alerts.iter().map(told).collect();
    told.sort();
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_fires_once_under_concurrent_usage() {
    let (app, tenant) = app_in_february().await;
    set_price(&app, None, "2027-03-01T00:00:00Z", json!([{ "flat": { "amount": "9" } }, { "usage": { "dimension": "api_calls", "rate": { "perUnit": { "unitPrice": "0.5" } } } }])).await;
    at(&app, "2027-03-10T12:00:00Z").await;
    let client = service(&app, &tenant).await;
    let calls = json!({ "key": "calls", "dimension": "api_calls", "currency": "EUR", "amount": "80" });
    let set = client.ok(SET_BUDGET, json!({ "input": calls })).await["setBudget"]["budget"].clone();
    assert_eq!(
        set,
        json!({ "key": "calls", "dimension": "api_calls", "currency": "EUR", "amount": "80", "thresholds": ["80", "95", "100"], "version": 1 })
    );
    let all = json!({ "key": "everything", "currency": "EUR", "amount": "100", "thresholds": ["9", "50", "88.5"] });
    client.ok(SET_BUDGET, json!({ "input": all })).await;
    // The base fee alone is 9 per cent.
    assert_eq!(fired(&app, &client).await, ["everything 9% 9.00"]);
    let _replica = app.replica("").await;
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..16 {
        let client = client.clone();
        clients.spawn(async move {
            for round in 0..10 {
                let event = json!([{ "key": format!("{number}-{round}"), "dimension": "api_calls", "quantity": 1000 }]);
                assert_eq!(record(&client, event).await["accepted"], 1);
            }
        });
    }
    clients.join_all().await;
    // 160 units at 0.5 are 80.
    let told = fired(&app, &client).await;
    let of: Vec<_> = told.iter().map(|alert| alert.rsplit_once(' ').unwrap().0).collect();
    assert_eq!(of, ["calls 100%", "calls 80%", "calls 95%", "everything 50%", "everything 88.5%", "everything 9%"]);
    assert_eq!(told[0], "calls 100% 80.00");
    let alerts = client.ok(ALERTS, json!({})).await["usageAlerts"]["edges"].as_array().unwrap().clone();
    let of_calls = alerts
        .iter()
        .map(|edge| &edge["node"])
        .find(|alert| alert["rule"] == "calls" && alert["threshold"]["percent"] == "100");
    let expected = json!({ "kind": "BUDGET", "rule": "calls", "dimension": "api_calls", "currency": "EUR", "periodBegin": "2027-03-01T00:00:00+00:00",
        "periodEnd": "2027-04-01T00:00:00+00:00", "threshold": { "percent": "100", "quantity": null }, "quantity": "80", "total": "80.00", "limit": "80",
        "percent": "100" });
    assert_eq!(of_calls.unwrap(), &expected);
    // A larger budget fires nothing anew; more usage neither.
    client.ok(SET_BUDGET, json!({ "input": { "key": "calls", "dimension": "api_calls", "currency": "EUR", "amount": "90", "expectedVersion": 1 } })).await;
    record(&client, json!([{ "key": "more", "dimension": "api_calls", "quantity": 50_000 }])).await;
    assert_eq!(fired(&app, &client).await, told);
    // The next month is another.
    at(&app, "2027-04-02T00:00:00Z").await;
    let client = service(&app, &tenant).await;
    record(&client, json!([{ "key": "april", "dimension": "api_calls", "quantity": 150_000 }])).await;
    assert_eq!(fired(&app, &client).await.len(), told.len() + 1 + 2);
    // Nobody else's.
    let stranger = service(&app, &app.tenant("stranger").await).await;
    assert_eq!(stranger.ok(BUDGETS, json!({})).await["budgets"], json!([]));
    assert_eq!(stranger.refused(BUDGETS, json!({ "id": tenant.id })).await, "not_found");
    let foreign = json!({ "tenantId": tenant.id, "key": "calls", "currency": "EUR", "amount": "1" });
    assert_eq!(stranger.refused(SET_BUDGET, json!({ "input": foreign })).await, "not_found");
    assert!(fired(&app, &stranger).await.is_empty());
}

#[tokio::test]
async fn a_bad_budget_is_refused_by_field() {
    let (app, tenant) = app_in_february().await;
    let client = service(&app, &tenant).await;
    let with = |field: &str, value: Value| {
        let mut input = json!({ "key": "good", "dimension": "api_calls", "currency": "EUR", "amount": "10" });
        input[field] = value;
        input
    };
    for (field, at, value) in [
        ("key", "key", json!("Bad")),
        ("dimension", "dimension", json!("no_such")),
        ("currency", "currency", json!("EURO")),
        ("amount", "amount", json!("0")),
        ("amount", "amount", json!("1e3")),
        ("thresholds", "thresholds", json!([])),
        ("thresholds.1", "thresholds", json!(["80", "0"])),
        ("thresholds.1", "thresholds", json!(["80", "80.0"])),
    ] {
        assert_eq!(field_of(&client, SET_BUDGET, with(at, value)).await, json!(field));
    }
    client.ok(SET_BUDGET, json!({ "input": with("amount", json!("10")) })).await;
    for (field, value) in [("dimension", Value::Null), ("currency", json!("USD"))] {
        assert_eq!(field_of(&client, SET_BUDGET, with(field, value)).await, json!(field));
    }
    assert_eq!(
        client.refused(DELETE_BUDGET, json!({ "input": { "key": "good", "expectedVersion": 7 } })).await,
        "conflict"
    );
    client.ok(DELETE_BUDGET, json!({ "input": { "key": "good" } })).await;
    assert_eq!(client.refused(DELETE_BUDGET, json!({ "input": { "key": "good" } })).await, "not_found");
    assert_eq!(
        app.service(&tenant, "auth:usage:read")
            .await
            .refused(SET_BUDGET, json!({ "input": with("key", json!("k")) }))
            .await,
        "forbidden"
    );
    assert_eq!(client.ok(BUDGETS, json!({})).await["budgets"], json!([]));
}

#[tokio::test]
async fn a_limit_that_will_be_passed_is_told_once_before_it_is() {
    let (app, tenant) = app_in_february().await;
    at(&app, "2027-03-11T12:00:00Z").await;
    let client = service(&app, &tenant).await;
    let rule = "mutation($input: SetAlertRuleInput!) { setAlertRule(input: $input) { rule { forecast version } } }";
    let input =
        json!({ "key": "ahead", "dimension": "api_calls", "period": "MONTH", "limit": "20000", "forecast": true });
    assert_eq!(client.ok(rule, json!({ "input": input })).await["setAlertRule"]["rule"]["forecast"], true);
    let days = |of: std::ops::Range<i64>| {
        let day = |day| used(&format!("day {day}"), "api_calls", "600", &format!("2027-03-{day:02}T09:00:00Z"));
        of.map(day).collect::<Vec<_>>()
    };
    // Six days are too few to tell, and ten at 600 a day come to 18,600.
    record(&client, json!(days(5..11))).await;
    assert!(fired(&app, &client).await.is_empty());
    at(&app, "2027-03-12T12:00:00Z").await;
    let client = service(&app, &tenant).await;
    record(&client, json!([days(1..5), days(11..12)].concat())).await;
    assert!(fired(&app, &client).await.is_empty());
    // 6,600 and 1,900 today, 300 by its end, and 600 a day: 20,200 by the end of the 31st, 19,600 by that of the 30th.
    record(&client, json!([used("much", "api_calls", "1900", "2027-03-12T10:00:00Z")])).await;
    assert_eq!(fired(&app, &client).await, ["ahead 100% 8500"]);
    let alerts = "{ usageAlerts { edges { node { kind rule expected passesAt total limit percent period } } } }";
    let alert = client.ok(alerts, json!({})).await["usageAlerts"]["edges"][0]["node"].clone();
    let expected = number(&alert["expected"]);
    assert!((expected - Decimal::from(20_200)).abs() < Decimal::ONE, "{alert}");
    assert_eq!((&alert["kind"], &alert["passesAt"]), (&json!("FORECAST"), &json!("2027-03-31T00:00:00+00:00")));
    // Once, whatever comes; the threshold itself is another.
    record(&client, json!([used("more", "api_calls", "3000", "2027-03-12T10:00:00Z")])).await;
    assert_eq!(fired(&app, &client).await, ["ahead 100% 8500"]);
    record(&client, json!([used("all", "api_calls", "9000", "2027-03-12T10:00:00Z")])).await;
    assert_eq!(
        fired(&app, &client).await,
        ["ahead 100% 20500", "ahead 100% 8500", "ahead 80% 20500", "ahead 95% 20500"]
    );
    let with = |field: &str, value: Value| {
        let mut input = input.clone();
        (input["key"], input[field]) = (json!("other"), value);
        input
    };
    assert_eq!(field_of(&client, rule, with("period", json!("DAY"))).await, json!("forecast"));
    let thresholds = json!({ "key": "other", "dimension": "api_calls", "period": "MONTH", "forecast": true, "thresholds": [{ "quantity": "5" }] });
    assert_eq!(field_of(&client, rule, thresholds).await, json!("limit"));
}

#[tokio::test]
async fn a_spike_and_a_silent_day_are_told_once() {
    let (app, tenant) = app_in_february().await;
    at(&app, "2027-03-21T12:00:00Z").await;
    let client = service(&app, &tenant).await;
    let rule = "mutation($input: SetAlertRuleInput!) { setAlertRule(input: $input) { rule { anomaly } } }";
    let input = json!({ "key": "odd", "dimension": "api_calls", "period": "DAY", "anomaly": true, "thresholds": [{ "quantity": "1000000" }] });
    assert_eq!(client.ok(rule, json!({ "input": input })).await["setAlertRule"]["rule"]["anomaly"], true);
    // 100 on each day of the four weeks before.
    let begin: DateTime<Utc> = "2027-02-21T10:00:00Z".parse().unwrap();
    let day = |day: i64| used(&format!("day {day}"), "api_calls", "100", &(begin + TimeDelta::days(day)).to_rfc3339());
    record(&client, json!((0..28).map(day).collect::<Vec<_>>())).await;
    record(&client, json!([used("usual", "api_calls", "160", "2027-03-21T11:00:00Z")])).await;
    assert!(fired(&app, &client).await.is_empty());
    record(&client, json!([used("one more", "api_calls", "1", "2027-03-21T11:00:00Z")])).await;
    assert_eq!(fired(&app, &client).await, ["odd 100% 161"]);
    record(&client, json!([used("more", "api_calls", "1000", "2027-03-21T11:00:00Z")])).await;
    assert_eq!(fired(&app, &client).await, ["odd 100% 161"]);
    // Monday is over, and nothing came for an hour more.
    at(&app, "2027-03-23T00:30:00Z").await;
    let client = service(&app, &tenant).await;
    assert_eq!(fired(&app, &client).await, ["odd 100% 161"]);
    at(&app, "2027-03-23T01:15:00Z").await;
    let client = service(&app, &tenant).await;
    for _ in 0..3 {
        assert_eq!(fired(&app, &client).await, ["odd 100% 0", "odd 100% 161"]);
        app.app.usage.mark_days_that_are_over().await.unwrap();
    }
    let alerts = "{ usageAlerts { edges { node { kind periodBegin total limit expected percent } } } }";
    let alerts = client.ok(alerts, json!({})).await["usageAlerts"]["edges"].clone();
    let of = |kind: &str, begin: &str, total: &str, limit: Value, percent: Value| json!({ "node": { "kind": kind, "periodBegin": begin, "total": total, "limit": limit, "expected": "100", "percent": percent } });
    assert_eq!(alerts[0], of("SILENCE", "2027-03-22T00:00:00+00:00", "0", Value::Null, Value::Null));
    assert_eq!(alerts[1], of("SPIKE", "2027-03-21T00:00:00+00:00", "161", json!("160"), json!("100.62")));
    let mut month = input;
    (month["period"], month["key"]) = (json!("MONTH"), json!("other"));
    assert_eq!(field_of(&client, rule, month).await, json!("anomaly"));
}
