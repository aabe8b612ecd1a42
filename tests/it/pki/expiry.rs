//! Ends of authorities are listed, and told once each.

use chrono::{DateTime, Datelike as _, TimeDelta, Utc};
use rcgen::date_time_ymd;
use serde_json::{Value, json};

use super::{
    made::{Made, authority},
    service, trust,
};
use crate::support::{Client, TestApp};

const EXPIRING: &str = "query($id: ID, $days: Int!) { expiringCertificates(tenantId: $id, withinDays: $days) { tenantId daysLeft trustAnchor { subject } } }";
const AUDIT: &str = "{ audit(first: 100) { edges { node { event after } } } }";

/// One that ends at the beginning of a day about a year after the server's now, and when that is.
fn ending(app: &TestApp) -> (Made, DateTime<Utc>) {
    let year = app.app.clock.now().year() + 1;
    let made = authority("ending", |made| made.not_after = date_time_ymd(year, 6, 1));
    (made, format!("{year}-06-01T00:00:00Z").parse().unwrap())
}

/// What the journal has of ends: the event and the threshold of each, the oldest first.
async fn told(client: &Client) -> Vec<(String, i64)> {
    let audit = client.ok(AUDIT, json!({})).await;
    let told = |edge: &Value| {
        let (event, after) = (edge["node"]["event"].as_str().unwrap(), &edge["node"]["after"]);
        let after: Value = after.as_str().map_or_else(|| after.clone(), |text| serde_json::from_str(text).unwrap());
        event.starts_with("TrustAnchorExpir").then(|| (event.to_owned(), after["thresholdDays"].as_i64().unwrap()))
    };
    audit["audit"]["edges"].as_array().unwrap().iter().rev().filter_map(told).collect()
}

#[tokio::test]
async fn each_threshold_is_told_once_by_however_many_servers() {
    let app = TestApp::with("[worker]\ninterval = \"1h\"").await;
    let replica = app.replica("[worker]\ninterval = \"1h\"").await;
    let tenant = app.tenant("ends").await;
    let (made, end) = ending(&app);
    trust(&service(&app, &tenant).await, &[&made]).await;
    let look = async || {
        let (here, there) = tokio::join!(app.app.pki.tell_of_ends(), replica.app.pki.tell_of_ends());
        (here.unwrap() + there.unwrap(), told(&service(&app, &tenant).await).await)
    };
    let expiring = |days: i64| ("TrustAnchorExpiring".to_owned(), days);
    let mut expected = Vec::new();
    for (before, told) in [
        (TimeDelta::days(31), None),
        (TimeDelta::days(30), Some(expiring(30))),
        (TimeDelta::days(8), None),
        (TimeDelta::days(7), Some(expiring(7))),
        (TimeDelta::days(1), Some(expiring(1))),
        (TimeDelta::zero(), Some(("TrustAnchorExpired".to_owned(), 0))),
        (TimeDelta::days(-10), None),
    ] {
        app.advance(end - before - app.app.clock.now() + TimeDelta::seconds(1));
        let count = usize::from(told.is_some());
        expected.extend(told);
        assert_eq!(look().await, (count, expected.clone()), "{before} before");
        assert_eq!(look().await, (0, expected.clone()), "{before} before, again");
    }
}

#[tokio::test]
async fn who_was_not_looked_at_for_long_is_told_what_is_nearest() {
    let app = TestApp::with("[worker]\ninterval = \"1h\"").await;
    let tenant = app.tenant("late").await;
    let (made, end) = ending(&app);
    trust(&service(&app, &tenant).await, &[&made]).await;
    app.advance(end - TimeDelta::days(5) - app.app.clock.now());
    assert_eq!(app.app.pki.tell_of_ends().await.unwrap(), 1);
    assert_eq!(told(&service(&app, &tenant).await).await, [("TrustAnchorExpiring".to_owned(), 7)]);
    // By the schedule as well.
    app.advance(TimeDelta::days(6));
    app.run_due().await;
    assert_eq!(told(&service(&app, &tenant).await).await.len(), 2);
}

#[tokio::test]
async fn the_calendar_has_the_next_end_first() {
    let app = TestApp::start().await;
    let (tenant, other) = (app.tenant("calendar").await, app.tenant("other").await);
    let (client, neighbour) = (service(&app, &tenant).await, service(&app, &other).await);
    let (made, end) = ending(&app);
    let later = authority("later", |made| made.not_after = date_time_ymd(app.app.clock.now().year() + 1, 7, 1));
    trust(&client, &[&later, &made]).await;
    trust(&neighbour, &[&made]).await;
    let days = (end - app.app.clock.now()).num_days();
    let subjects = |found: &Value| -> Vec<String> {
        let found = found["expiringCertificates"].as_array().unwrap();
        found.iter().map(|one| one["trustAnchor"]["subject"].as_str().unwrap().to_owned()).collect()
    };
    let found = client.ok(EXPIRING, json!({ "days": days + 60 })).await;
    assert_eq!(subjects(&found), ["CN=ending,O=Acme", "CN=later,O=Acme"]);
    assert_eq!(found["expiringCertificates"][0]["daysLeft"], days);
    assert_eq!(subjects(&client.ok(EXPIRING, json!({ "days": days + 1 })).await), ["CN=ending,O=Acme"]);
    assert!(subjects(&client.ok(EXPIRING, json!({ "days": days - 1 })).await).is_empty());
    let admin = app.admin().await;
    assert_eq!(subjects(&admin.ok(EXPIRING, json!({ "days": days + 1 })).await).len(), 2);
    assert_eq!(subjects(&admin.ok(EXPIRING, json!({ "id": other.id, "days": days + 60 })).await).len(), 1);
    assert_eq!(client.refused(EXPIRING, json!({ "days": 4000 })).await, "invalid_input");
}
