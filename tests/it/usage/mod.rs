//! What is counted, how often, and what totals say of it.

mod alerts;
mod consumer;
mod costs;
mod days;
mod dimensions;
mod faces;
mod foresight;
mod periods;
mod storm;
mod stream;

use chrono::TimeDelta;
use serde_json::{Value, json};
use tenantry::access::Role;

use crate::support::{Client, Tenant, TestApp};

const RECORD: &str = "mutation($input: RecordUsageInput!) { recordUsage(input: $input) {
    accepted duplicates refused results { index outcome code field message } } }";
const USAGE: &str =
    "query($input: UsageQueryInput!) { usage(input: $input) { begin end labels events quantity units } }";
const DEFINE: &str = "mutation($input: DefineUsageDimensionInput!) { defineUsageDimension(input: $input) {
    dimension { key aggregation unitSize rounding groupBy version } } }";

async fn record(client: &Client, events: Value) -> Value {
    client.ok(RECORD, json!({ "input": { "events": events } })).await["recordUsage"].clone()
}

/// A question about one window size; the tenant is the token's.
struct Asked<'a> {
    dimension: &'a str,
    window: &'a str,
    from: &'a str,
    to: &'a str,
    zone: &'a str,
}

impl Asked<'_> {
    async fn of(&self, client: &Client) -> Vec<Value> {
        let variables = json!({ "dimension": self.dimension, "window": self.window, "from": self.from, "to": self.to, "timeZone": self.zone });
        client.ok(USAGE, json!({ "input": variables })).await["usage"].as_array().unwrap().clone()
    }

    async fn quantities(&self, client: &Client) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        self.of(client).await.iter().map(|total| (text(&total["begin"]), text(&total["quantity"]))).collect()
    }
}

/// Times of events must be near the clock's, which these tests set to noon of 26 November 2026.
async fn app_at_noon() -> TestApp {
    let app = TestApp::start().await;
    let noon: chrono::DateTime<chrono::Utc> = "2026-11-26T12:00:00Z".parse().unwrap();
    app.advance(noon - app.app.clock.now());
    app
}

async fn service(app: &TestApp, tenant: &Tenant) -> Client {
    app.service(tenant, "auth:usage:read auth:usage:write").await
}

/// What is asked is answered the same from events that wait and from totals.
async fn before_and_after_folding<T: std::fmt::Debug + PartialEq>(
    app: &TestApp,
    ask: impl AsyncFn() -> T,
    expected: T,
) {
    assert_eq!(ask().await, expected, "before totals are made");
    app.fold_usage().await;
    assert_eq!(ask().await, expected, "of totals");
}

#[tokio::test]
async fn an_event_counts_once_however_often_it_is_sent() {
    let app = app_at_noon().await;
    let tenant = app.tenant("metered").await;
    let client = service(&app, &tenant).await;
    let event = |key: &str, quantity: &str| json!({ "key": key, "dimension": "api_calls", "quantity": quantity, "timestamp": "2026-11-26T09:10:00Z" });
    let first = record(&client, json!([event("a", "700"), event("b", "0.5"), event("a", "700")])).await;
    assert_eq!((&first["accepted"], &first["duplicates"], &first["refused"]), (&json!(2), &json!(1), &json!(0)));
    assert_eq!(first["results"][2]["outcome"], "DUPLICATE");
    let day = Asked {
        dimension: "api_calls",
        window: "DAY",
        from: "2026-11-26T00:00:00Z",
        to: "2026-11-27T00:00:00Z",
        zone: "UTC",
    };
    let expected = json!([{ "begin": "2026-11-26T00:00:00+00:00", "end": "2026-11-27T00:00:00+00:00", "labels": {}, "events": 2, "quantity": "700.5", "units": "1" }]);
    before_and_after_folding(&app, async || Value::from(day.of(&client).await), expected).await;
    // Also at another time, with another quantity, and when it has gone into totals.
    let later = json!([{ "key": "a", "dimension": "llm_tokens", "quantity": 1, "timestamp": "2026-11-20T00:00:00Z" }, event("c", "300")]);
    let second = record(&client, later).await;
    assert_eq!((&second["accepted"], &second["duplicates"]), (&json!(1), &json!(1)));
    let quantity = async || day.of(&client).await[0]["quantity"].clone();
    before_and_after_folding(&app, quantity, json!("1000.5")).await;
    // A month of another dimension has none of it.
    let other = Asked { dimension: "llm_tokens", window: "MONTH", ..day };
    assert!(other.of(&client).await.is_empty());
    // The same key of another tenant is another.
    let neighbour = app.tenant("neighbour").await;
    let theirs = record(&service(&app, &neighbour).await, json!([event("a", "1")])).await;
    assert_eq!(theirs["accepted"], 1);
}

#[tokio::test]
async fn windows_are_those_of_the_time_zone_and_late_events_count_in_theirs() {
    let app = app_at_noon().await;
    let tenant = app.tenant("zoned").await;
    let client = service(&app, &tenant).await;
    let at =
        |key: &str, time: &str| json!({ "key": key, "dimension": "graph_queries", "quantity": 1, "timestamp": time });
    // In Vienna the clocks go back on 25 October 2026: that day is 25 hours long.
    let events = json!([
        at("first", "2026-10-24T22:00:00Z"),
        at("before", "2026-10-24T21:59:59.999999Z"),
        at("twice", "2026-10-25T00:30:00Z"),
        at("again", "2026-10-25T01:30:00Z"),
        at("last", "2026-10-25T22:59:59Z"),
        at("next", "2026-10-25T23:00:00Z"),
    ]);
    assert_eq!(record(&client, events).await["accepted"], 6);
    let days = Asked {
        dimension: "graph_queries",
        window: "DAY",
        from: "2026-10-24T12:00:00Z",
        to: "2026-10-26T12:00:00Z",
        zone: "Europe/Vienna",
    };
    let of = |begin: &str, quantity: &str| (begin.to_owned(), quantity.to_owned());
    let expected = vec![
        of("2026-10-23T22:00:00+00:00", "1"),
        of("2026-10-24T22:00:00+00:00", "4"),
        of("2026-10-25T23:00:00+00:00", "1"),
    ];
    before_and_after_folding(&app, async || days.quantities(&client).await, expected).await;
    // It arrives when its day has long been in totals.
    assert_eq!(record(&client, json!([at("late", "2026-10-25T12:00:00Z")])).await["accepted"], 1);
    let day = async || days.quantities(&client).await[1].1.clone();
    before_and_after_folding(&app, day, "5".to_owned()).await;
    let hours = Asked {
        window: "HOUR",
        from: "2026-10-25T00:00:00Z",
        to: "2026-10-25T02:00:00Z",
        zone: "Asia/Kolkata",
        ..days
    };
    let expected = [of("2026-10-25T00:30:00+00:00", "1"), of("2026-10-25T01:30:00+00:00", "1")];
    assert_eq!(hours.quantities(&client).await, expected);
    let minutes =
        Asked { window: "MINUTE", from: "2026-10-24T21:59:00Z", to: "2026-10-24T22:01:00Z", zone: "UTC", ..hours };
    let expected = [of("2026-10-24T21:59:00+00:00", "1"), of("2026-10-24T22:00:00+00:00", "1")];
    assert_eq!(minutes.quantities(&client).await, expected);
    let months = Asked { window: "MONTH", from: "2026-10-01T00:00:00Z", to: "2026-11-01T00:00:00Z", ..minutes };
    assert_eq!(months.quantities(&client).await, [of("2026-10-01T00:00:00+00:00", "7")]);
}

#[tokio::test]
async fn each_aggregation_says_what_its_name_says() {
    let app = app_at_noon().await;
    let tenant = app.tenant("aggregated").await;
    let (client, admin) = (service(&app, &tenant).await, app.admin().await);
    for aggregation in ["MAX", "LAST"] {
        let input = json!({ "key": format!("by_{}", aggregation.to_lowercase()), "unit": "things", "aggregation": aggregation });
        admin.ok(DEFINE, json!({ "input": input })).await;
    }
    let event = |key: &str, dimension: &str, quantity: Option<i64>, subject: Option<&str>, time: &str| json!({ "key": key, "dimension": dimension, "quantity": quantity, "subject": subject, "timestamp": format!("2026-11-2{time}:00Z") });
    let events = json!([
        event("1", "by_max", Some(7), None, "5T10:00"),
        event("2", "by_max", Some(3), None, "5T11:00"),
        event("3", "by_max", Some(9), None, "6T11:00"),
        event("4", "by_last", Some(3), None, "5T11:00"),
        event("5", "by_last", Some(7), None, "5T10:00"),
        event("6", "by_last", Some(1), None, "6T00:00"),
        event("7", "users", None, Some("ada"), "5T10:00"),
        event("8", "users", None, Some("ada"), "5T10:00"),
        event("9", "users", Some(40), Some("bob"), "5T23:00"),
        event("10", "users", None, Some("ada"), "6T01:00"),
        event("11", "users", Some(2), None, "6T02:00"),
        event("12", "discovered_resources", None, Some("vm"), "5T10:00"),
        event("13", "discovered_resources", None, Some("vm"), "6T10:00"),
        event("14", "discovered_resources", Some(5), None, "6T10:30"),
        event("15", "discovered_resources", None, Some("disk"), "6T10:00"),
        // 10 GB for 6 hours, 20 GB for 24, and then nothing.
        event("16", "storage", Some(20), None, "5T06:00"),
        event("17", "storage", Some(10), None, "5T00:00"),
        event("18", "storage", Some(0), None, "6T06:00"),
    ]);
    let answer = record(&client, events).await;
    assert_eq!((&answer["accepted"], &answer["refused"]), (&json!(18), &json!(0)), "{answer}");
    let all = async || {
        let mut found = Vec::new();
        for dimension in ["by_max", "by_last", "users", "discovered_resources"] {
            for (window, from, to) in [
                ("DAY", "2026-11-25T00:00:00Z", "2026-11-27T00:00:00Z"),
                ("MONTH", "2026-11-25T00:00:00Z", "2026-11-27T00:00:00Z"),
            ] {
                let asked = Asked { dimension, window, from, to, zone: "UTC" };
                found.push(
                    asked
                        .quantities(&client)
                        .await
                        .into_iter()
                        .map(|(_, quantity)| quantity)
                        .collect::<Vec<_>>()
                        .join(" "),
                );
            }
        }
        found
    };
    let expected = ["7 9", "9", "3 1", "1", "2 2", "2", "1 5", "6"];
    before_and_after_folding(&app, all, expected.map(str::to_owned).to_vec()).await;
    // The clock goes on. The month until noon of the 26th has 612 hours: 6 of 10 GB and 24 of 20 GB.
    let averages = async || {
        let month = Asked {
            dimension: "storage",
            window: "MONTH",
            from: "2026-11-25T00:00:00Z",
            to: "2026-11-26T00:00:00Z",
            zone: "UTC",
        };
        let days = Asked { window: "DAY", ..month };
        let month: f64 = month.quantities(&client).await[0].1.parse().unwrap();
        (days.quantities(&client).await[0].1.clone(), (month * 1000.0).round())
    };
    before_and_after_folding(&app, averages, ("17.5".to_owned(), 882.0)).await;
    let minutes = Asked {
        dimension: "users",
        window: "MINUTE",
        from: "2026-11-25T10:00:00Z",
        to: "2026-11-25T10:01:00Z",
        zone: "UTC",
    };
    assert_eq!(minutes.of(&client).await[0]["quantity"], "1");
}

#[tokio::test]
async fn totals_are_kept_apart_by_the_labels_that_the_dimension_names() {
    let app = app_at_noon().await;
    let tenant = app.tenant("labelled").await;
    let (client, admin) = (service(&app, &tenant).await, app.admin().await);
    let input = json!({ "key": "renders", "unit": "frames", "aggregation": "SUM", "unitSize": 10, "rounding": "HALF_UP", "groupBy": ["model", "zone"] });
    let defined = admin.ok(DEFINE, json!({ "input": input })).await["defineUsageDimension"]["dimension"].clone();
    assert_eq!(defined["groupBy"], json!(["model", "zone"]));
    assert_eq!(admin.refused(DEFINE, json!({ "input": input })).await, "conflict");
    let event = |key: &str, labels: Value| json!({ "key": key, "dimension": "renders", "quantity": 5, "labels": labels, "timestamp": "2026-11-26T09:00:00Z" });
    let events = json!([
        event("1", json!({ "model": "a", "zone": "x", "other": "1" })),
        event("2", json!({ "zone": "x", "model": "a" })),
        event("3", json!({ "model": "b" })),
        event("4", json!({})),
    ]);
    assert_eq!(record(&client, events).await["accepted"], 4);
    let day = Asked {
        dimension: "renders",
        window: "DAY",
        from: "2026-11-26T00:00:00Z",
        to: "2026-11-27T00:00:00Z",
        zone: "UTC",
    };
    let groups = async || {
        let totals = day.of(&client).await;
        totals.iter().map(|total| json!([total["labels"], total["quantity"], total["units"]])).collect::<Vec<_>>()
    };
    let expected = vec![
        json!([{}, "5", "1"]),
        json!([{ "model": "a", "zone": "x" }, "10", "1"]),
        json!([{ "model": "b" }, "5", "1"]),
    ];
    before_and_after_folding(&app, groups, expected).await;
}

#[tokio::test]
async fn a_bad_event_is_refused_by_itself_and_says_why() {
    let app = app_at_noon().await;
    let tenant = app.tenant("careful").await;
    let other = app.tenant("foreign").await;
    let client = service(&app, &tenant).await;
    let good = |key: &str| json!({ "key": key, "dimension": "api_calls", "quantity": 1 });
    let with = |field: &str, value: Value| {
        let mut event = good(field);
        event[field] = value;
        event
    };
    let bad = [
        ("dimension", with("dimension", json!("no_such"))),
        ("dimension", with("dimension", json!("API_CALLS"))),
        ("quantity", with("quantity", json!("NaN"))),
        ("quantity", with("quantity", json!("Infinity"))),
        ("quantity", with("quantity", json!("-inf"))),
        ("quantity", with("quantity", json!("9".repeat(40)))),
        ("quantity", with("quantity", json!(1e300))),
        ("quantity", with("quantity", json!("0.0000000001"))),
        ("quantity", with("quantity", json!(-5))),
        ("quantity", with("quantity", json!(""))),
        ("quantity", json!({ "key": "q", "dimension": "storage" })),
        ("quantity", json!({ "key": "q", "dimension": "storage", "quantity": -1, "adjustmentReason": "wrong" })),
        ("timestamp", with("timestamp", json!("yesterday"))),
        ("timestamp", with("timestamp", json!("2026-11-26"))),
        ("timestamp", with("timestamp", json!("2026-09-01T00:00:00Z"))),
        ("timestamp", with("timestamp", json!("2026-11-26T13:00:00Z"))),
        ("timestamp", with("timestamp", json!("9999-12-31T23:59:59Z"))),
        ("key", with("key", json!(""))),
        ("key", with("key", json!("k".repeat(201)))),
        ("key", with("key", json!("a\u{0}b"))),
        ("subject", with("subject", json!("s".repeat(201)))),
        ("labels.model", with("labels", json!({ "model": 7 }))),
        ("tenantId", with("tenantId", json!(other.id))),
        ("tenantId", with("tenantId", json!("no id"))),
        ("tenantId", with("tenantId", json!("00000000-0000-0000-0000-000000000000"))),
    ];
    let mut events = vec![good("before")];
    events.extend(bad.iter().map(|(_, event)| event.clone()));
    events.push(good("after"));
    let answer = record(&client, json!(events)).await;
    assert_eq!((&answer["accepted"], &answer["refused"]), (&json!(2), &json!(bad.len())), "{answer}");
    for (index, (field, event)) in bad.iter().enumerate() {
        let told = &answer["results"][index + 1];
        assert_eq!((&told["outcome"], &told["field"]), (&json!("REFUSED"), &json!(field)), "{event}: {told}");
        assert!(told["message"].as_str().is_some_and(|message| !message.is_empty()));
    }
    // A refused event has not taken its key: mended, it counts.
    assert_eq!(record(&client, json!([good("quantity"), good("timestamp")])).await["accepted"], 2);
    // A correction says what it corrects.
    let correction =
        json!([{ "key": "correction", "dimension": "api_calls", "quantity": -3, "adjustmentReason": "counted twice" }]);
    assert_eq!(record(&client, correction).await["accepted"], 1);
    let day = Asked {
        dimension: "api_calls",
        window: "DAY",
        from: "2026-11-26T00:00:00Z",
        to: "2026-11-27T00:00:00Z",
        zone: "UTC",
    };
    assert_eq!(day.of(&client).await[0]["quantity"], "1");
    let theirs = Asked { ..day }.of(&service(&app, &other).await).await;
    assert!(theirs.is_empty(), "{theirs:?}");
}

#[tokio::test]
async fn questions_that_cannot_be_answered_say_why() {
    let app = app_at_noon().await;
    let tenant = app.tenant("asking").await;
    let client = service(&app, &tenant).await;
    let day = ("2026-11-25T00:00:00Z", "2026-11-26T00:00:00Z");
    for (field, dimension, window, (from, to), zone) in [
        ("dimension", "nothing", "DAY", day, "UTC"),
        ("timeZone", "users", "DAY", day, "Mars/Olympus"),
        ("to", "users", "DAY", (day.1, day.0), "UTC"),
        ("from", "users", "HOUR", ("2020-01-01T00:00:00Z", day.1), "UTC"),
        ("from", "users", "MINUTE", ("2026-11-24T00:00:00Z", day.1), "UTC"),
    ] {
        let variables = json!({ "dimension": dimension, "window": window, "from": from, "to": to, "timeZone": zone });
        let answer = client.graphql(USAGE, json!({ "input": variables })).await;
        assert_eq!(
            (answer.code(), &answer.body["errors"][0]["extensions"]["field"]),
            ("invalid_input", &json!(field)),
            "{}",
            answer.text
        );
    }
    let variables = json!({ "input": { "dimension": "users", "window": "DAY", "from": day.0, "to": day.1 } });
    assert_eq!(app.admin().await.refused(USAGE, variables.clone()).await, "invalid_input");
    let stranger = app.service(&tenant, "auth:usage:write").await;
    assert_eq!(stranger.refused(USAGE, variables).await, "forbidden");
    let reader = app.service(&tenant, "auth:usage:read").await;
    assert_eq!(reader.refused(RECORD, json!({ "input": { "events": [] } })).await, "forbidden");
    for (field, input) in [
        ("key", json!({ "key": "Bad", "unit": "u", "aggregation": "SUM" })),
        ("unit", json!({ "key": "good", "unit": "", "aggregation": "SUM" })),
        ("unitSize", json!({ "key": "good", "unit": "u", "aggregation": "SUM", "unitSize": 0 })),
        ("groupBy", json!({ "key": "good", "unit": "u", "aggregation": "SUM", "groupBy": ["a", "a"] })),
        ("groupBy", json!({ "key": "good", "unit": "u", "aggregation": "SUM", "groupBy": ["a", "b", "c", "d", "e"] })),
    ] {
        let answer = app.admin().await.graphql(DEFINE, json!({ "input": input })).await;
        assert_eq!(
            (answer.code(), &answer.body["errors"][0]["extensions"]["field"]),
            ("invalid_input", &json!(field)),
            "{}",
            answer.text
        );
    }
}

#[tokio::test]
async fn operators_record_for_many_tenants_at_once_and_not_for_those_that_there_are_not() {
    let app = app_at_noon().await;
    let (a, b) = (app.tenant("one").await, app.tenant("two").await);
    let billing = app.operator(Role::Billing).await;
    let event = |tenant: Value| json!({ "tenantId": tenant, "key": "same", "dimension": "api_calls", "quantity": 2 });
    let events = json!([
        event(json!(a.id)),
        event(json!(b.id)),
        event(json!("0193f0a4-7c2a-4bb0-9d7e-2f0c3a1b4c5d")),
        event(Value::Null)
    ]);
    let answer = record(&billing, events).await;
    assert_eq!((&answer["accepted"], &answer["refused"]), (&json!(2), &json!(2)), "{answer}");
    assert_eq!(answer["results"][2]["code"], "not_found");
    assert_eq!(answer["results"][3]["code"], "invalid_input");
    for tenant in [&a, &b] {
        let day = Asked {
            dimension: "api_calls",
            window: "DAY",
            from: "2026-11-26T00:00:00Z",
            to: "2026-11-27T00:00:00Z",
            zone: "UTC",
        };
        assert_eq!(day.of(&service(&app, tenant).await).await[0]["quantity"], "2");
    }
}

#[tokio::test]
async fn events_and_keys_are_kept_as_long_as_configured_and_totals_longer() {
    let app = TestApp::with("[usage]\nkeep_events = \"40days\"").await;
    let tenant = app.tenant("retained").await;
    let event = json!([{ "key": "k", "dimension": "api_calls", "quantity": 1 }]);
    let client = service(&app, &tenant).await;
    assert_eq!(record(&client, event.clone()).await["accepted"], 1);
    let counted = async || {
        let now = app.app.clock.now();
        let (from, to) = ((now - TimeDelta::days(60)).to_rfc3339(), (now + TimeDelta::days(1)).to_rfc3339());
        let asked = Asked { dimension: "api_calls", window: "DAY", from: &from, to: &to, zone: "UTC" };
        let client = service(&app, &tenant).await;
        asked.of(&client).await.iter().map(|total| total["events"].as_i64().unwrap()).sum::<i64>()
    };
    app.advance(TimeDelta::days(39));
    app.fold_usage().await;
    assert!(!app.app.usage.remove_old().await.unwrap());
    assert_eq!(record(&service(&app, &tenant).await, event.clone()).await["duplicates"], 1);
    // What waits for its total is not removed, however old.
    let waiting = json!([{ "key": "waiting", "dimension": "api_calls", "quantity": 1 }]);
    assert_eq!(record(&service(&app, &tenant).await, waiting).await["accepted"], 1);
    app.advance(TimeDelta::days(3));
    app.app.usage.remove_old().await.unwrap();
    assert_eq!(counted().await, 2);
    assert_eq!(record(&service(&app, &tenant).await, event).await["accepted"], 1);
    app.fold_usage().await;
    assert_eq!(counted().await, 3);
}
