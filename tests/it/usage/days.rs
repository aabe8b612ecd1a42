//! Events lie by the day, and go by the day.

use chrono::{NaiveDate, TimeDelta};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use serde_json::{Value, json};

use super::{Asked, app_at_noon, record, service};
use crate::support::TestApp;

/// What each partition has of a tenant's events: its name and how many.
async fn kept(app: &TestApp) -> Vec<(String, i64)> {
    let sql = "select tableoid::regclass::text as part, sum(events)::bigint as events, bool_and(cardinality(keys) = events) as whole
        from tenantry.usage_events group by 1 order by 1";
    let rows = app.database.superuser().await.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await;
    let part = |row: &sea_orm::QueryResult| {
        assert!(row.try_get::<bool>("", "whole").unwrap());
        let name: String = row.try_get("", "part").unwrap();
        (name.trim_start_matches("tenantry.").to_owned(), row.try_get("", "events").unwrap())
    };
    rows.unwrap().iter().map(part).collect()
}

async fn make_day(app: &TestApp, day: NaiveDate) {
    let sql = format!("set role tenantry_owner; select tenantry.make_usage_day('{day}')");
    app.database.superuser().await.execute_unprepared(&sql).await.unwrap();
}

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn events() -> Value {
    let event = |key: &str, time: &str, quantity: i64| json!({ "key": key, "dimension": "api_calls", "quantity": quantity, "timestamp": time });
    json!([
        event("1", "2026-11-24T23:59:59.999999Z", 1),
        event("2", "2026-11-25T00:00:00Z", 2),
        event("3", "2026-11-25T23:59:59.999999Z", 4),
        event("4", "2026-11-26T00:00:00Z", 8),
        event("5", "2026-11-26T11:00:00Z", 16),
    ])
}

#[tokio::test]
async fn events_of_several_days_are_kept_each_with_its_day_and_all_are_found() {
    let app = app_at_noon().await;
    let tenant = app.tenant("daily").await;
    let client = service(&app, &tenant).await;
    for day in ["2026-11-25", "2026-11-26"].map(day) {
        make_day(&app, day).await;
    }
    assert_eq!(record(&client, events()).await["accepted"], 5);
    let minutes = async |from: &str, to: &str| {
        let asked = Asked { dimension: "api_calls", window: "MINUTE", from, to, zone: "UTC" };
        asked.quantities(&client).await.into_iter().map(|(_, quantity)| quantity).collect::<Vec<_>>()
    };
    let asked = async || {
        (
            minutes("2026-11-24T23:00:00Z", "2026-11-25T00:00:00Z").await,
            minutes("2026-11-24T23:59:00Z", "2026-11-26T00:01:00Z").await,
            minutes("2026-11-26T00:00:00Z", "2026-11-27T00:00:00Z").await,
        )
    };
    let of = |quantities: &[&str]| quantities.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let expected = (of(&["1"]), of(&["1", "2", "4", "8"]), of(&["8", "16"]));
    super::before_and_after_folding(&app, asked, expected).await;
    let parts = [("usage_events_20261125", 2), ("usage_events_20261126", 2), ("usage_events_rest", 1)];
    assert_eq!(kept(&app).await, parts.map(|(part, events)| (part.to_owned(), events)));
    // Other days need not be there.
    app.answers_without(&["usage_events_20261125"], async || {
        for _ in 0..2 {
            assert_eq!(minutes("2026-11-26T00:00:00Z", "2026-11-26T12:00:00Z").await, of(&["8", "16"]));
        }
    })
    .await;
}

#[tokio::test]
async fn days_are_made_ahead_by_any_number_of_servers_and_dropped_with_their_age() {
    let app = TestApp::with("[usage]\nkeep_events = \"40days\"").await;
    let (replica, owner) =
        (app.replica("[usage]\nkeep_events = \"40days\"").await, app.database.place().owner().unwrap());
    app.advance(TimeDelta::days(100));
    let both = tokio::join!(app.app.usage.arrange_days(&owner), replica.app.usage.arrange_days(&owner));
    let (one, other) = (both.0.unwrap(), both.1.unwrap());
    assert_eq!(one.made + other.made, 8, "today and seven days");
    assert!(one.dropped + other.dropped >= 8, "what the template of this test had is old now");
    let again = app.app.usage.arrange_days(&owner).await.unwrap();
    assert_eq!((again.made, again.dropped), (0, 0));
    let tenant = app.tenant("aged").await;
    let event = |key: &str| json!([{ "key": key, "dimension": "api_calls", "quantity": 3 }]);
    assert_eq!(record(&service(&app, &tenant).await, event("old")).await["accepted"], 1);
    app.fold_usage().await;
    let today = app.app.clock.now().date_naive();
    let name = format!("usage_events_{}", today.format("%Y%m%d"));
    assert_eq!(kept(&app).await, [(name.clone(), 1)]);
    let totals = async || {
        let (from, to) = ((app.app.clock.now() - TimeDelta::days(60)).to_rfc3339(), app.app.clock.now().to_rfc3339());
        let asked = Asked { dimension: "api_calls", window: "DAY", from: &from, to: &to, zone: "UTC" };
        asked.of(&service(&app, &tenant).await).await.iter().map(|total| total["quantity"].clone()).collect::<Vec<_>>()
    };
    // As long as a moment of the day is kept, all of it is.
    app.advance(TimeDelta::days(40));
    app.app.usage.arrange_days(&owner).await.unwrap();
    while app.app.usage.remove_old().await.unwrap() {}
    assert_eq!(kept(&app).await, [(name, 1)]);
    app.advance(TimeDelta::days(1));
    assert!(app.app.usage.arrange_days(&owner).await.unwrap().dropped >= 1);
    assert!(kept(&app).await.is_empty());
    assert_eq!(totals().await, ["3"]);
}

#[tokio::test]
async fn events_that_no_partition_has_are_removed_row_by_row() {
    let app = TestApp::with("[usage]\nkeep_events = \"40days\"").await;
    app.advance(TimeDelta::days(100));
    let tenant = app.tenant("beside").await;
    let event = json!([{ "key": "k", "dimension": "api_calls", "quantity": 3 }]);
    assert_eq!(record(&service(&app, &tenant).await, event).await["accepted"], 1);
    app.fold_usage().await;
    assert_eq!(kept(&app).await, [("usage_events_rest".to_owned(), 1)]);
    // What is among the rest stays there: the day gets no partition of its own any more.
    let owner = app.database.place().owner().unwrap();
    assert_eq!(app.app.usage.arrange_days(&owner).await.unwrap().made, 7);
    app.advance(TimeDelta::days(41));
    app.app.usage.remove_old().await.unwrap();
    assert_eq!(kept(&app).await.len(), 1);
    app.advance(TimeDelta::days(1));
    app.app.usage.remove_old().await.unwrap();
    assert!(kept(&app).await.is_empty());
}

#[tokio::test]
async fn no_transaction_makes_totals_of_more_than_it_can_in_its_time() {
    let app = app_at_noon().await;
    let tenant = app.tenant("much").await;
    // 120 batches of 1,000 events, as requests would have left them.
    let sql = format!(
        "insert into tenantry.usage_inbox (tenant_id, batch_id, received_at, first_at, last_at, events, keys, dimensions, times, quantities, groups, subjects, reasons)
         select '{}', gen_random_uuid(), at, at, at, 1000, array(select gen_random_uuid() from generate_series(1, 1000) where batch > 0),
             array_fill(2::int2, array[1000]), array_fill(at, array[1000]), array_fill(1::numeric, array[1000]), array_fill(''::text, array[1000]),
             array_fill(''::text, array[1000]), array_fill(''::text, array[1000])
         from generate_series(1, 120) batch, (select timestamptz '2026-11-26T09:00:00Z' as at) fixed",
        tenant.id
    );
    let superuser = app.database.superuser().await;
    superuser.execute_unprepared(&sql).await.unwrap();
    app.fold_usage().await;
    let by_transaction =
        "select sum(events)::bigint as events from tenantry.usage_events group by xmin::text order by 1 desc";
    let rows = superuser.query_all_raw(Statement::from_string(DbBackend::Postgres, by_transaction)).await.unwrap();
    let taken: Vec<i64> = rows.iter().map(|row| row.try_get("", "events").unwrap()).collect();
    assert_eq!(taken.iter().sum::<i64>(), 120_000);
    assert_eq!(taken[0], 50_000, "{taken:?}");
    let day = Asked {
        dimension: "api_calls",
        window: "DAY",
        from: "2026-11-26T00:00:00Z",
        to: "2026-11-27T00:00:00Z",
        zone: "UTC",
    };
    assert_eq!(day.of(&service(&app, &tenant).await).await[0]["quantity"], "120000");
}
