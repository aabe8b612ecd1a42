//! Active users, sessions and features, counted again from the events that were sent.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde_json::{Value, json};

use super::app_at_noon;
use crate::support::{Client, TestApp};

const ACTIVITY: &str = "query($input: AnalyticsInput!, $pause: Int) { analytics(input: $input) {
    activeUsers(dimension: \"opened\") { begin count }
    asUsers: activeUsers { begin count }
    sessions(dimension: \"opened\", pauseMinutes: $pause) { begin count meanSeconds p50Seconds p90Seconds p95Seconds p99Seconds }
    features(dimension: \"opened\", label: \"feature\") { begin value events users } } }";
const RECORD: &str = "mutation($events: [UsageEventInput!]!) { recordUsage(input: {events: $events}) { accepted } }";
const DEFINE: &str = "mutation { defineUsageDimension(input: {key: \"opened\", unit: \"times\", aggregation: SUM, groupBy: [\"feature\"]}) { dimension { key } } }";

#[derive(Clone, Debug)]
struct Event {
    at: DateTime<Utc>,
    /// Empty: nobody's.
    subject: String,
    feature: Option<String>,
}

struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % most
    }
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Around the night in which Vienna's clocks go back, on whole five minutes, so that pauses of exactly the length happen.
fn events(seed: u64) -> Vec<Event> {
    let mut random = Random(seed);
    let begin = at("2026-10-23T18:00:00Z");
    let event = |_| {
        let subject = match random.below(12) {
            0 => String::new(),
            number => format!("user {number}"),
        };
        let feature = match random.below(5) {
            0 => None,
            number => Some(format!("feature {number}")),
        };
        // In bursts, and some of them over midnights.
        let minutes = random.below(84) * 60 + random.below(12) * 5;
        Event { at: begin + TimeDelta::minutes(minutes.cast_signed()), subject, feature }
    };
    (0..600).map(event).collect()
}

/// The date in Vienna, by the offset that held: independent of any time zone database.
fn date(of: DateTime<Utc>) -> NaiveDate {
    let hours = if of < at("2026-10-25T01:00:00Z") { 2 } else { 1 };
    (of + TimeDelta::hours(hours)).date_naive()
}

fn asked_days() -> [NaiveDate; 3] {
    [24, 25, 26].map(|day| NaiveDate::from_ymd_opt(2026, 10, day).unwrap())
}

fn users(events: &[Event]) -> Vec<i64> {
    let seen = |day: &NaiveDate| {
        let of_day = events.iter().filter(|event| date(event.at) == *day && !event.subject.is_empty());
        of_day.map(|event| &event.subject).collect::<BTreeSet<_>>().len() as i64
    };
    asked_days().iter().map(seen).collect()
}

/// Seconds of the sessions that begin on each day.
fn sessions(events: &[Event], pause: TimeDelta) -> Vec<Vec<i64>> {
    let mut times: BTreeMap<&str, Vec<DateTime<Utc>>> = BTreeMap::new();
    for event in events.iter().filter(|event| !event.subject.is_empty()) {
        times.entry(&event.subject).or_default().push(event.at);
    }
    let mut found: BTreeMap<NaiveDate, Vec<i64>> = BTreeMap::new();
    for times in times.values_mut() {
        times.sort();
        let (mut begin, mut last) = (times[0], times[0]);
        for at in times.iter().skip(1).copied().chain([DateTime::<Utc>::MAX_UTC]) {
            if at - last >= pause {
                found.entry(date(begin)).or_default().push((last - begin).num_seconds());
                begin = at;
            }
            last = at;
        }
    }
    asked_days().iter().map(|day| found.remove(day).unwrap_or_default()).collect()
}

fn features(events: &[Event]) -> BTreeSet<(usize, String, i64, i64)> {
    let mut found = BTreeSet::new();
    for (place, day) in asked_days().iter().enumerate() {
        let names: BTreeSet<_> = events.iter().filter_map(|event| event.feature.clone()).collect();
        for name in names {
            let of: Vec<_> =
                events.iter().filter(|event| date(event.at) == *day && event.feature.as_ref() == Some(&name)).collect();
            let users: BTreeSet<_> = of.iter().map(|event| &event.subject).filter(|name| !name.is_empty()).collect();
            if !of.is_empty() {
                found.insert((place, name, of.len() as i64, users.len() as i64));
            }
        }
    }
    found
}

/// `batch` makes the keys of one call others than those of the next.
async fn send(client: &Client, batch: &str, events: &[Event]) {
    let mut sent = Vec::new();
    for (number, event) in events.iter().enumerate() {
        let labels = event.feature.as_ref().map_or(json!({}), |feature| json!({ "feature": feature }));
        let mut opened = json!({ "key": format!("opened {batch} {number}"), "dimension": "opened", "timestamp": event.at, "labels": labels });
        if !event.subject.is_empty() {
            opened["subject"] = json!(event.subject);
            sent.push(json!({ "key": format!("user {batch} {number}"), "dimension": "users", "quantity": 1, "subject": event.subject, "timestamp": event.at }));
        }
        sent.push(opened);
    }
    for part in sent.chunks(700) {
        assert_eq!(client.ok(RECORD, json!({ "events": part })).await["recordUsage"]["accepted"], part.len());
    }
}

fn numbers(list: &Value, name: &str) -> Vec<i64> {
    list.as_array().unwrap().iter().map(|told| told[name].as_i64().unwrap()).collect()
}

async fn is_as_counted(client: &Client, events: &[Event], pause: i64) {
    let input = json!({ "window": "DAY", "from": "2026-10-24T10:00:00Z", "to": "2026-10-26T10:00:00Z", "timeZone": "Europe/Vienna" });
    let told = client.ok(ACTIVITY, json!({ "input": input, "pause": pause })).await["analytics"].clone();
    assert_eq!(numbers(&told["activeUsers"], "count"), users(events));
    assert_eq!(numbers(&told["asUsers"], "count"), users(events));
    let counted = sessions(events, TimeDelta::minutes(pause));
    assert_eq!(numbers(&told["sessions"], "count"), counted.iter().map(|day| day.len() as i64).collect::<Vec<_>>());
    for (told, mut day) in told["sessions"].as_array().unwrap().iter().zip(counted) {
        day.sort_unstable();
        let mean = day.iter().sum::<i64>() as f64 / day.len() as f64;
        assert!((told["meanSeconds"].as_f64().unwrap() - mean).abs() < 1e-6, "{told} {mean}");
        for (name, share) in [("p50Seconds", 50), ("p90Seconds", 90), ("p95Seconds", 95), ("p99Seconds", 99)] {
            let rank = (day.len() * share).div_ceil(100);
            assert_eq!(told[name].as_f64().unwrap(), day[rank - 1] as f64, "{name} {told}");
        }
    }
    let begins = ["2026-10-23T22:00:00+00:00", "2026-10-24T22:00:00+00:00", "2026-10-25T23:00:00+00:00"];
    let place = |told: &Value| begins.iter().position(|begin| told["begin"] == *begin).unwrap();
    let feature = |told: &Value| {
        let number = |name: &str| told[name].as_i64().unwrap();
        (place(told), told["value"].as_str().unwrap().to_owned(), number("events"), number("users"))
    };
    let told = told["features"].as_array().unwrap().iter().map(feature).collect::<BTreeSet<_>>();
    assert_eq!(told, features(events));
}

#[tokio::test]
async fn users_sessions_and_features_are_those_of_the_events_over_a_change_of_clocks() {
    let app = app_at_noon().await;
    app.admin().await.ok(DEFINE, json!({})).await;
    for seed in [1, 26, 4711] {
        let (tenant, events) = (app.tenant(&format!("active-{seed}")).await, events(seed));
        let client = app.service(&tenant, "auth:usage:read auth:usage:write").await;
        // Half of it is in totals, half of it waits.
        let (first, second) = events.split_at(events.len() / 2);
        send(&client, "first", first).await;
        fold(&app).await;
        is_as_counted(&client, first, 30).await;
        send(&client, "second", second).await;
        for pause in [30, 5, 90] {
            is_as_counted(&client, &events, pause).await;
        }
        fold(&app).await;
        is_as_counted(&client, &events, 30).await;
        // A week is from Monday to Monday.
        let input = json!({ "window": "WEEK", "from": "2026-10-24T10:00:00Z", "to": "2026-10-24T11:00:00Z", "timeZone": "Europe/Vienna" });
        let told = client.ok(ACTIVITY, json!({ "input": input, "pause": 30 })).await["analytics"].clone();
        let sunday = NaiveDate::from_ymd_opt(2026, 10, 25).unwrap();
        let of_week: BTreeSet<_> = events
            .iter()
            .filter(|event| date(event.at) <= sunday && !event.subject.is_empty())
            .map(|event| &event.subject)
            .collect();
        assert_eq!(told["activeUsers"][0]["begin"], "2026-10-18T22:00:00+00:00");
        assert_eq!(told["activeUsers"][0]["count"], of_week.len());
    }
}

async fn fold(app: &TestApp) {
    app.fold_usage().await;
}
