//! What a closed period comes to stays, whatever comes at that moment and after it.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use chrono::{DurationRound as _, TimeDelta};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use super::{Asked, app_at_noon, record, service};
use crate::support::{Client, Tenant, TestApp};

const CLOSE: &str = "mutation($input: CloseUsageInput!) { closeUsage(input: $input) { closing { closedUntil closingUntil closedAt } } }";
const CLOSING: &str = "{ usageClosing { closedUntil closingUntil } }";
const CORRECTIONS: &str = "query($input: UsageCorrectionsInput!, $first: Int!, $after: String) {
    usageCorrections(input: $input, first: $first, after: $after) {
        edges { cursor node { dimension quantity bookedAt occurredAt labels subject reason } } pageInfo { hasNextPage endCursor } } }";
const CLOSED: Asked<'_> = Asked {
    dimension: "api_calls",
    window: "MONTH",
    from: "2026-10-15T00:00:00Z",
    to: "2026-11-26T00:00:00Z",
    zone: "UTC",
};

async fn close(admin: &Client, tenant: &Tenant, until: &str) -> Value {
    admin.ok(CLOSE, json!({ "input": { "tenantId": tenant.id, "until": until } })).await["closeUsage"]["closing"]
        .clone()
}

/// Booked until the end of the year, in pages of `first`.
async fn corrections(client: &Client, first: usize) -> Vec<Value> {
    let input = json!({ "from": "2026-01-01T00:00:00Z", "to": "2027-01-01T00:00:00Z" });
    let (mut found, mut after) = (Vec::new(), Value::Null);
    loop {
        let page = client.ok(CORRECTIONS, json!({ "input": input, "first": first, "after": after })).await;
        let page = &page["usageCorrections"];
        found.extend(page["edges"].as_array().unwrap().iter().map(|edge| edge["node"].clone()));
        if page["pageInfo"]["hasNextPage"] == false {
            return found;
        }
        after = page["pageInfo"]["endCursor"].clone();
    }
}

fn event(key: &str, quantity: i64, time: &str) -> Value {
    json!({ "key": key, "dimension": "api_calls", "quantity": quantity, "timestamp": time,
        "adjustmentReason": (quantity < 0).then_some("was counted twice") })
}

#[tokio::test]
async fn what_comes_for_a_closed_period_counts_in_the_open_one_and_is_listed() {
    let app = app_at_noon().await;
    let tenant = app.tenant("closed").await;
    let (client, admin) = (service(&app, &tenant).await, app.admin().await);
    let first = json!([event("1", 70, "2026-10-31T23:59:59Z"), event("2", 5, "2026-11-01T00:00:00Z")]);
    assert_eq!(record(&client, first).await["accepted"], 2);
    assert_eq!(client.ok(CLOSING, json!({})).await["usageClosing"], Value::Null);
    let closing = close(&admin, &tenant, "2026-11-01T00:00:00Z").await;
    assert_eq!(closing["closedUntil"], "2026-11-01T00:00:00+00:00");
    assert_eq!(client.ok(CLOSING, json!({})).await["usageClosing"]["closedUntil"], "2026-11-01T00:00:00+00:00");
    let late = json!([
        event("3", 9, "2026-10-31T23:59:59Z"),
        event("4", -2, "2026-10-30T00:00:00Z"),
        event("5", -1, "2026-11-20T00:00:00Z"),
        event("6", 1, "2026-11-20T00:00:00Z"),
        event("1", 70, "2026-10-31T23:59:59Z"),
    ]);
    let answer = record(&client, late).await;
    assert_eq!((&answer["accepted"], &answer["duplicates"]), (&json!(4), &json!(1)), "{answer}");
    let of = |begin: &str, quantity: &str| (begin.to_owned(), quantity.to_owned());
    let months = vec![of("2026-10-01T00:00:00+00:00", "70"), of("2026-11-01T00:00:00+00:00", "12")];
    super::before_and_after_folding(&app, async || CLOSED.quantities(&client).await, months).await;
    // It counts when it came.
    let today = Asked { window: "HOUR", from: "2026-11-26T12:00:00Z", to: "2026-11-26T13:00:00Z", ..CLOSED };
    assert_eq!(today.quantities(&client).await, [of("2026-11-26T12:00:00+00:00", "7")]);
    let told = |correction: &Value| {
        json!([
            correction["quantity"],
            correction["occurredAt"],
            correction["reason"],
            correction["bookedAt"] == correction["occurredAt"]
        ])
    };
    let expected = [
        json!(["-2", "2026-10-30T00:00:00+00:00", "was counted twice", false]),
        json!(["9", "2026-10-31T23:59:59+00:00", null, false]),
        json!(["-1", "2026-11-20T00:00:00+00:00", "was counted twice", true]),
    ];
    for first in [1, 2, 25] {
        let mut found: Vec<_> = corrections(&client, first).await.iter().map(told).collect();
        // Two were booked at one moment, in the order of their keys.
        found[..2].sort_by_key(ToString::to_string);
        assert_eq!(found, expected, "in pages of {first}");
    }
    // Also while they wait for totals, and of another tenant there are none.
    record(&client, json!([event("7", 3, "2026-10-31T00:00:00Z")])).await;
    assert_eq!(corrections(&client, 25).await.len(), 4);
    assert!(corrections(&service(&app, &app.tenant("open").await).await, 25).await.is_empty());
    assert_eq!(CLOSED.quantities(&client).await[0].1, "70");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_period_that_is_closed_amid_usage_comes_to_what_it_comes_to() {
    let app = TestApp::start().await;
    let replica = app.replica("").await;
    let tenant = app.tenant("amid").await;
    let admin = app.admin().await;
    let now = app.app.clock.now();
    let (mut until, from) =
        (now.duration_trunc(TimeDelta::minutes(15)).unwrap() - TimeDelta::days(2), now - TimeDelta::days(5));
    let clients = [service(&app, &tenant).await, replica.service(&tenant, "auth:usage:read auth:usage:write").await];
    let (is_over, sent) = (AtomicBool::new(false), AtomicI64::new(0));
    let sending = async |number: usize| {
        let (mut count, client) = (0, &clients[number % 2]);
        while !is_over.load(Ordering::Relaxed) {
            let times = [from, now - TimeDelta::hours(47), now];
            let events = times.map(|at| event(&format!("{number}-{count}-{at}"), 1, &at.to_rfc3339()));
            assert_eq!(record(client, json!(events)).await["accepted"], 3);
            sent.fetch_add(3, Ordering::Relaxed);
            count += 1;
        }
    };
    let mut closing = async || {
        let mut came_to = Vec::new();
        while sent.load(Ordering::Relaxed) < 60 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        for _ in 0..12 {
            until += TimeDelta::hours(1);
            close(&admin, &tenant, &until.to_rfc3339()).await;
            let before = async || {
                let span = (from.to_rfc3339(), until.to_rfc3339());
                let totals = Asked { window: "HOUR", from: &span.0, to: &span.1, ..CLOSED }.of(&clients[0]).await;
                totals
                    .iter()
                    .filter(|total| total["end"].as_str().unwrap() <= until.to_rfc3339().as_str())
                    .map(|total| total["events"].as_i64().unwrap())
                    .sum::<i64>()
            };
            let at_once = before().await;
            app.app.usage.fold().await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(30)).await;
            assert_eq!(before().await, at_once, "more came into what was closed until {until}");
            came_to.push(at_once);
        }
        is_over.store(true, Ordering::Relaxed);
        came_to
    };
    let (came_to, ..) = tokio::join!(closing(), sending(0), sending(1), sending(2), sending(3));
    assert!(came_to[0] > 0 && came_to.is_sorted(), "{came_to:?}");
    // What was acknowledged is counted, now or then.
    let span = (from.to_rfc3339(), (now + TimeDelta::days(1)).to_rfc3339());
    let all = Asked { window: "DAY", from: &span.0, to: &span.1, ..CLOSED }.of(&clients[0]).await;
    let counted: i64 = all.iter().map(|total| total["events"].as_i64().unwrap()).sum();
    assert_eq!(counted, sent.into_inner());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_closes_waits_for_what_was_let_in_before() {
    let app = app_at_noon().await;
    let tenant = app.tenant("waiting").await;
    let (client, admin) = (service(&app, &tenant).await, app.admin().await);
    // Somebody else claims the key, and does not say yet whether it will be counted.
    let database = app.database.superuser().await;
    let other = app.database.superuser().await;
    let key = "01999999-0000-7000-8000-000000000001";
    let claim = format!("begin; insert into tenantry.usage_keys values ('{}', '{key}', '2026-11-26')", tenant.id);
    other.execute_unprepared(&claim).await.unwrap();
    let recording = record(&client, json!([event(key, 7, "2026-10-31T10:00:00Z")]));
    let waits = async || {
        let waiting = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like '%usage_keys%' and datname = current_database()";
        crate::provisioning::eventually("the batch waits for the key", async || {
            let rows = database
                .query_all_raw(sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, waiting))
                .await
                .unwrap();
            (!rows.is_empty()).then_some(())
        })
        .await;
        let closing = async {
            close(&admin, &tenant, "2026-11-01T00:00:00Z").await;
            CLOSED.quantities(&client).await
        };
        let mut closing = std::pin::pin!(closing);
        let early = tokio::time::timeout(std::time::Duration::from_millis(400), closing.as_mut()).await;
        assert!(early.is_err(), "it was closed before what it waits for was counted: {early:?}");
        let told = client.ok(CLOSING, json!({})).await["usageClosing"].clone();
        assert_eq!(told, json!({ "closedUntil": null, "closingUntil": "2026-11-01T00:00:00+00:00" }));
        other.execute_unprepared("rollback").await.unwrap();
        closing.await
    };
    let (recorded, closed) = tokio::join!(recording, waits());
    assert_eq!(recorded["accepted"], 1);
    assert_eq!(closed, [("2026-10-01T00:00:00+00:00".to_owned(), "7".to_owned())]);
}

#[tokio::test]
async fn what_cannot_be_closed_says_why() {
    let app = app_at_noon().await;
    let tenant = app.tenant("unclosable").await;
    let admin = app.admin().await;
    close(&admin, &tenant, "2026-11-01T00:00:00Z").await;
    // Again is the same, and further goes.
    close(&admin, &tenant, "2026-11-01T00:00:00Z").await;
    close(&admin, &tenant, "2026-11-10T23:15:00Z").await;
    for (until, code) in [
        ("2026-11-01T00:00:00Z", "conflict"),
        ("2026-11-26T12:15:00Z", "invalid_input"),
        ("2026-11-25T12:00:01Z", "invalid_input"),
        ("9999-12-31T23:45:00Z", "invalid_input"),
    ] {
        let answer = admin.graphql(CLOSE, json!({ "input": { "tenantId": tenant.id, "until": until } })).await;
        assert_eq!(
            (answer.code(), &answer.body["errors"][0]["extensions"]["field"]),
            (code, &json!("until")),
            "{until}: {}",
            answer.text
        );
    }
}
