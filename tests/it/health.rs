//! Outages, and the service level that was reached beside the one promised.

use std::ops::Range;

use chrono::{DateTime, Datelike as _, Months, NaiveTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::support::{Client, Tenant, TestApp};

const REPORT: &str = "mutation($input: ReportOutageInput!) { reportOutage(input: $input) { outage { id kind beganAt endedAt summary reportedBy withdrawnAt version } } }";
const END: &str =
    "mutation($input: EndOutageInput!) { endOutage(input: $input) { outage { id endedAt version updatedAt } } }";
const WITHDRAW: &str =
    "mutation($input: WithdrawOutageInput!) { withdrawOutage(input: $input) { outage { id withdrawnAt version } } }";
const ATTAINMENT: &str = "query($id: ID, $month: String) { tenant(id: $id) { createdAt slaAttainment(month: $month) { month from until promised attained downtimeSeconds met creditPercent } } }";
const OUTAGES: &str = "query($id: ID, $first: Int, $after: String) { tenant(id: $id) { outages(first: $first, after: $after) { edges { cursor node { id summary withdrawnAt } } pageInfo { hasNextPage endCursor } } } }";
const OVERRIDE: &str =
    "mutation($id: ID!, $sla: SlaInput) { updateTenant(input: {id: $id, sla: $sla}) { tenant { version } } }";

fn now(app: &TestApp) -> DateTime<Utc> {
    app.app.clock.now()
}

/// The first moment of the month that is so many months after the present one.
fn month_after(app: &TestApp, months: u32) -> DateTime<Utc> {
    let first = now(app).date_naive().with_day(1).unwrap();
    (first + Months::new(months)).and_time(NaiveTime::MIN).and_utc()
}

fn name(month: DateTime<Utc>) -> String {
    month.format("%Y-%m").to_string()
}

/// Moves the clock there; tokens from before are no longer good.
fn go_to(app: &TestApp, at: DateTime<Utc>) {
    app.advance(at - now(app));
}

async fn report(admin: &Client, tenant: &Tenant, kind: &str, began: DateTime<Utc>, lasts: Option<TimeDelta>) -> Value {
    let input = json!({ "id": tenant.id, "kind": kind, "beganAt": began, "endedAt": lasts.map(|time| began + time), "summary": tenant.canary });
    admin.ok(REPORT, json!({ "input": input })).await["reportOutage"]["outage"].clone()
}

async fn attainment(client: &Client, tenant: &Tenant, month: Option<&str>) -> Value {
    client.ok(ATTAINMENT, json!({ "id": tenant.id, "month": month })).await["tenant"]["slaAttainment"].clone()
}

async fn code_and_field(client: &Client, query: &str, variables: Value) -> (String, String) {
    let answer = client.graphql(query, variables).await;
    let field = answer.body["errors"][0]["extensions"]["field"].as_str().unwrap_or_default().to_owned();
    (answer.code().to_owned(), field)
}

/// Availability of a month, found by looking at each of its minutes.
fn by_the_minute(month: DateTime<Utc>, outages: &[Range<DateTime<Utc>>]) -> (String, i64) {
    let end = month + Months::new(1);
    let minutes = (0..).map(|minute| month + TimeDelta::minutes(minute)).take_while(|at| *at < end);
    let (mut up, mut all) = (0_i64, 0_i64);
    for at in minutes {
        all += 1;
        up += i64::from(!outages.iter().any(|outage| outage.contains(&at)));
    }
    let places = up * 1_000_000 / all;
    (format!("{}.{:04}", places / 10_000, places % 10_000), (all - up) * 60)
}

#[tokio::test]
async fn overlapping_outages_count_once_and_maintenance_does_not_and_the_contract_sets_the_promise() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let month = month_after(&app, 1);
    go_to(&app, month + TimeDelta::days(40));
    let admin = app.admin().await;
    let at = |day: i64, hour: i64| month + TimeDelta::days(day) + TimeDelta::hours(hour);
    let two_hours = Some(TimeDelta::hours(2));
    report(&admin, &tenant, "OUTAGE", at(2, 10), two_hours).await;
    report(&admin, &tenant, "OUTAGE", at(2, 11), two_hours).await;
    report(&admin, &tenant, "MAINTENANCE", at(4, 2), two_hours).await;
    let (attained, down) = by_the_minute(month, &[at(2, 10)..at(2, 13)]);
    assert_eq!(down, 3 * 3600);
    let measured = |promised: &str, attained: &str, down: i64, met: bool, credit: &str| {
        json!({
            "month": name(month), "from": month, "until": month + Months::new(1), "promised": promised,
            "attained": attained, "downtimeSeconds": down, "met": met, "creditPercent": credit,
        })
    };
    let times = |mut value: Value| {
        for field in ["from", "until"] {
            value[field] = json!(value[field].as_str().unwrap().parse::<DateTime<Utc>>().unwrap());
        }
        value
    };
    // The starter plan promises 99.5 and no credits.
    let plans = attainment(&admin, &tenant, Some(&name(month))).await;
    assert_eq!(times(plans), measured("99.5", &attained, down, true, "0"));
    let credits = json!([{ "below": "99.95", "percent": "10" }, { "below": "99", "percent": "25" }]);
    admin.ok(OVERRIDE, json!({ "id": tenant.id, "sla": { "uptime": "99.95", "credits": credits } })).await;
    let contracts = attainment(&admin, &tenant, Some(&name(month))).await;
    assert_eq!(times(contracts), measured("99.95", &attained, down, false, "10"));
    // Worse than the lower step: its credit, and not both.
    report(&admin, &tenant, "OUTAGE", at(9, 0), Some(TimeDelta::hours(8))).await;
    let (attained, down) = by_the_minute(month, &[at(2, 10)..at(2, 13), at(9, 0)..at(9, 8)]);
    let worse = attainment(&admin, &tenant, Some(&name(month))).await;
    assert_eq!(times(worse), measured("99.95", &attained, down, false, "25"));
}

#[tokio::test]
async fn an_outage_counts_until_now_while_it_lasts_and_no_longer_once_it_has_ended() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let began = month_after(&app, 1) + TimeDelta::days(1);
    go_to(&app, began + TimeDelta::hours(1));
    let outage = report(&app.admin().await, &tenant, "OUTAGE", began, None).await;
    assert_eq!(
        (&outage["endedAt"], &outage["version"], &outage["reportedBy"]),
        (&json!(null), &json!(1), &json!("cli:test"))
    );
    for hours in [1, 2] {
        let found = attainment(&app.admin().await, &tenant, None).await;
        let down = found["downtimeSeconds"].as_i64().unwrap();
        assert!((hours * 3600..hours * 3600 + 60).contains(&down), "{found}");
        app.advance(TimeDelta::hours(1));
    }
    let end = began + TimeDelta::minutes(90);
    let admin = app.admin().await;
    let input = json!({ "input": { "id": tenant.id, "outageId": outage["id"], "endedAt": end } });
    let ended = admin.ok(END, input.clone()).await["endOutage"]["outage"].clone();
    assert_eq!(ended["endedAt"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap(), end);
    assert_eq!(ended["version"], 2);
    app.advance(TimeDelta::minutes(10));
    let found = attainment(&admin, &tenant, None).await;
    assert_eq!(found["downtimeSeconds"], 90 * 60, "{found}");
    assert_eq!(admin.refused(END, input).await, "conflict", "it has ended");
}

#[tokio::test]
async fn a_month_begins_and_ends_in_utc_and_service_begins_with_the_tenant() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let (before, first, second, third) =
        (month_after(&app, 0) - Months::new(1), month_after(&app, 0), month_after(&app, 1), month_after(&app, 2));
    go_to(&app, third + TimeDelta::days(1));
    let admin = app.admin().await;
    // An hour on either side of midnight, written in another zone.
    let began = (third - TimeDelta::hours(1)).with_timezone(&chrono::FixedOffset::east_opt(7200).unwrap());
    let input = json!({ "id": tenant.id, "kind": "OUTAGE", "summary": "over midnight", "beganAt": began, "endedAt": began + TimeDelta::hours(2) });
    admin.ok(REPORT, json!({ "input": input })).await;
    let (attained, down) = by_the_minute(second, &[third - TimeDelta::hours(1)..third]);
    let found = attainment(&admin, &tenant, Some(&name(second))).await;
    assert_eq!((&found["attained"], &found["downtimeSeconds"]), (&json!(attained), &json!(down)), "{found}");
    let present = attainment(&admin, &tenant, None).await;
    assert_eq!((&present["month"], &present["downtimeSeconds"]), (&json!(name(third)), &json!(3600)));
    // An hour of a day and of what the test took since.
    let time = |field: &str| present[field].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    let total = (time("until") - time("from")).num_microseconds().unwrap();
    let reached = (total - 3_600_000_000) as f64 / total as f64 * 100.0;
    let told: f64 = present["attained"].as_str().unwrap().parse().unwrap();
    assert!(told <= reached && reached < told + 0.000_11, "{present}");
    let made = admin.ok(ATTAINMENT, json!({ "id": tenant.id, "month": name(first) })).await["tenant"].clone();
    assert_eq!(made["slaAttainment"]["from"], made["createdAt"]);
    assert_eq!((&made["slaAttainment"]["attained"], &made["slaAttainment"]["met"]), (&json!("100.0000"), &json!(true)));
    let none = attainment(&admin, &tenant, Some(&name(before))).await;
    for field in ["from", "until", "attained", "met", "creditPercent"] {
        assert_eq!(none[field], json!(null), "{none}");
    }
    for month in
        [name(third + Months::new(1)), "2026-13".to_owned(), "2026-1".to_owned(), "november".to_owned(), String::new()]
    {
        let refused = code_and_field(&admin, ATTAINMENT, json!({ "id": tenant.id, "month": month })).await;
        assert_eq!(refused, ("invalid_input".to_owned(), "month".to_owned()), "{month}");
    }
}

#[tokio::test]
async fn a_service_reads_its_own_outages_and_no_others_and_writes_none() {
    let app = TestApp::start().await;
    let (own, other, admin) = (app.tenant("acme").await, app.tenant("other").await, app.admin().await);
    let began = now(&app) - TimeDelta::hours(1);
    for tenant in [&own, &other] {
        report(&admin, tenant, "OUTAGE", began, Some(TimeDelta::minutes(1))).await;
    }
    let service = app.service(&own, "auth:tenant:read auth:health:read").await;
    let listed = service.ok(OUTAGES, json!({})).await["tenant"]["outages"]["edges"].clone();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["node"]["summary"]), (1, &json!(own.canary)));
    assert_eq!(attainment(&service, &own, None).await["promised"], "99.5");
    for query in [OUTAGES, ATTAINMENT] {
        assert_eq!(service.ok(query, json!({ "id": other.id })).await["tenant"], json!(null));
        let narrow = app.service(&own, "auth:tenant:read").await;
        assert_eq!(narrow.refused(query, json!({})).await, "forbidden");
    }
    let full = app.full_service(&own).await;
    let input = json!({ "id": own.id, "kind": "OUTAGE", "beganAt": began, "summary": "mine" });
    assert_eq!(full.refused(REPORT, json!({ "input": input })).await, "forbidden");
    let named = json!({ "input": { "id": own.id, "outageId": listed[0]["node"]["id"] } });
    assert_eq!(full.refused(END, named.clone()).await, "forbidden");
    assert_eq!(full.refused(WITHDRAW, named).await, "forbidden");
}

#[tokio::test]
async fn bad_input_names_the_field_and_an_outage_of_another_tenant_is_not_there() {
    let app = TestApp::start().await;
    let (tenant, other, admin) = (app.tenant("acme").await, app.tenant("other").await, app.admin().await);
    let at = |minutes: i64| json!(now(&app) + TimeDelta::minutes(minutes));
    let good = json!({ "id": tenant.id, "kind": "OUTAGE", "beganAt": at(-10), "endedAt": at(-5), "summary": "away" });
    let cases = [
        ("beganAt", at(5)),
        ("beganAt", json!("-004800-01-01T00:00:00Z")),
        ("endedAt", at(5)),
        ("endedAt", at(-11)),
        ("endedAt", good["beganAt"].clone()),
        ("summary", json!("")),
        ("summary", json!(" \n\t")),
        ("summary", json!("a\u{0}b")),
        ("summary", json!("x".repeat(2_001))),
    ];
    for (field, value) in cases {
        let mut input = good.clone();
        input[field] = value;
        let refused = code_and_field(&admin, REPORT, json!({ "input": input })).await;
        assert_eq!(refused, ("invalid_input".to_owned(), field.to_owned()), "{input:.300}");
    }
    for id in [json!(uuid::Uuid::nil()), json!("nonsense"), json!("0190c0de-0000-4000-8000-000000000000")] {
        let mut input = good.clone();
        input["id"] = id;
        assert_eq!(admin.refused(REPORT, json!({ "input": input })).await, "not_found", "{input}");
    }
    assert_eq!(admin.ok(OUTAGES, json!({ "id": tenant.id })).await["tenant"]["outages"]["edges"], json!([]));
    let theirs = report(&admin, &other, "OUTAGE", now(&app) - TimeDelta::hours(1), None).await;
    for id in [&theirs["id"], &json!("nonsense"), &json!(tenant.id)] {
        let named = json!({ "input": { "id": tenant.id, "outageId": id } });
        assert_eq!(admin.refused(END, named.clone()).await, "not_found");
        assert_eq!(admin.refused(WITHDRAW, named).await, "not_found");
    }
    for (minutes, field) in [(5, "endedAt"), (-61, "endedAt")] {
        let input = json!({ "id": other.id, "outageId": theirs["id"], "endedAt": at(minutes) });
        let refused = code_and_field(&admin, END, json!({ "input": input })).await;
        assert_eq!(refused, ("invalid_input".to_owned(), field.to_owned()), "{input}");
    }
    for after in [
        "nonsense",
        "eyJiIjpbLTkyMjMzNzIwMzY4NTQ3NzU4MDgsIjAxOTBjMGRlLTAwMDAtNDAwMC04MDAwLTAwMDAwMDAwMDAwMCJdfQ",
        "eyJiIjpbLTYwMDAwMDAwMDAwMDAwMDAwMCwiMDE5MGMwZGUtMDAwMC00MDAwLTgwMDAtMDAwMDAwMDAwMDAwIl19",
    ] {
        let refused = code_and_field(&admin, OUTAGES, json!({ "id": tenant.id, "after": after })).await;
        assert_eq!(refused, ("invalid_input".to_owned(), "after".to_owned()), "{after}");
    }
    let many = code_and_field(&admin, OUTAGES, json!({ "id": tenant.id, "first": 101 })).await;
    assert_eq!(many, ("invalid_input".to_owned(), "first".to_owned()));
}

#[tokio::test]
async fn a_repeated_report_is_one_outage_and_a_stale_version_is_a_conflict() {
    let app = TestApp::start().await;
    let (tenant, admin) = (app.tenant("acme").await, app.admin().await);
    let input = json!({ "input": { "id": tenant.id, "kind": "OUTAGE", "beganAt": now(&app) - TimeDelta::hours(1), "summary": "away" } });
    let first = admin.graphql_once("report", REPORT, input.clone()).await;
    let again = admin.graphql_once("report", REPORT, input).await;
    assert_eq!((first.code(), first.data()), ("none", again.data()));
    let other = json!({ "input": { "id": tenant.id, "kind": "OUTAGE", "beganAt": now(&app), "summary": "another" } });
    assert_eq!(admin.graphql_once("report", REPORT, other).await.code(), "conflict");
    let id = first.data()["reportOutage"]["outage"]["id"].clone();
    let versioned = |version: i64| json!({ "input": { "id": tenant.id, "outageId": id, "expectedVersion": version } });
    let stale = code_and_field(&admin, END, versioned(2)).await;
    assert_eq!(stale, ("conflict".to_owned(), "expectedVersion".to_owned()));
    let ended = admin.graphql_once("end", END, versioned(1)).await;
    assert_eq!(ended.data()["endOutage"]["outage"]["version"], 2, "{}", ended.text);
    assert_eq!(admin.graphql_once("end", END, versioned(1)).await.data(), ended.data(), "the first answer again");
    let stale = code_and_field(&admin, WITHDRAW, versioned(1)).await;
    assert_eq!(stale, ("conflict".to_owned(), "expectedVersion".to_owned()));
    let withdrawn = admin.ok(WITHDRAW, versioned(2)).await;
    assert_eq!(withdrawn["withdrawOutage"]["outage"]["version"], 3);
    // Each was recorded once, with what it was done to.
    let entries = "query($id: ID) { audit(tenantId: $id, filter: {subjectKind: \"outage\"}) { edges { node { event subject { id } before after } } } }";
    let entries = admin.ok(entries, json!({ "id": tenant.id })).await["audit"]["edges"].clone();
    let events: Vec<_> = entries.as_array().unwrap().iter().map(|edge| edge["node"]["event"].clone()).collect();
    assert_eq!(events, ["OutageWithdrawn", "OutageEnded", "OutageReported"]);
    assert!(entries.as_array().unwrap().iter().all(|edge| edge["node"]["subject"]["id"] == id), "{entries}");
    assert_eq!(
        (&entries[2]["node"]["before"], &entries[2]["node"]["after"]["summary"]),
        (&json!(null), &json!("away"))
    );
    assert_eq!(entries[1]["node"]["before"]["endedAt"], json!(null));
    let time = |value: &Value| value.as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    assert_eq!(
        time(&entries[1]["node"]["after"]["endedAt"]),
        time(&ended.data()["endOutage"]["outage"]["updatedAt"]),
        "now, where no other end is told"
    );
}

#[tokio::test]
async fn a_withdrawn_report_stays_in_the_list_and_counts_for_nothing() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let month = month_after(&app, 1);
    go_to(&app, month + TimeDelta::days(2));
    let admin = app.admin().await;
    let mut ids = Vec::new();
    // Reported in another order than they began in.
    for hour in [1, 3, 2] {
        let outage =
            report(&admin, &tenant, "OUTAGE", month + TimeDelta::hours(hour), Some(TimeDelta::minutes(30))).await;
        ids.push(outage["id"].clone());
    }
    assert_eq!(attainment(&admin, &tenant, None).await["downtimeSeconds"], 5_400);
    let named = json!({ "input": { "id": tenant.id, "outageId": ids[1] } });
    let withdrawn = admin.ok(WITHDRAW, named.clone()).await;
    assert_eq!(attainment(&admin, &tenant, None).await["downtimeSeconds"], 3_600);
    assert_eq!(admin.ok(WITHDRAW, named.clone()).await, withdrawn, "once more changes nothing");
    assert_eq!(admin.refused(END, named).await, "conflict");
    let (mut seen, mut after) = (Vec::new(), Value::Null);
    for more in [true, true, false] {
        let page = admin.ok(OUTAGES, json!({ "id": tenant.id, "first": 1, "after": after })).await["tenant"]["outages"]
            .clone();
        assert_eq!(page["pageInfo"]["hasNextPage"], more);
        assert_eq!(page["edges"].as_array().unwrap().len(), 1);
        let node = &page["edges"][0]["node"];
        assert_eq!(node["withdrawnAt"].is_string(), node["id"] == ids[1]);
        seen.push(node["id"].clone());
        after = page["pageInfo"]["endCursor"].clone();
    }
    assert_eq!(seen, [ids[1].clone(), ids[2].clone(), ids[0].clone()], "what began last comes first");
}
