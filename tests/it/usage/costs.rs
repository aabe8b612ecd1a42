//! What usage costs, recounted; and who may know what.

use std::collections::BTreeMap;

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::{Value, json};
use tenantry::access::Role;

use super::{DEFINE, record, service};
use crate::support::{Client, Tenant, TestApp};

const SET_PRICE: &str = "mutation($input: SetPriceInput!) { setPrice(input: $input) {
    price { id plan currency effectiveFrom components } } }";
const SET_UNIT_COST: &str = "mutation($input: SetUnitCostInput!) { setUnitCost(input: $input) {
    unitCost { dimension currency effectiveFrom cost } } }";
const PRICES: &str = "{ prices { plan currency effectiveFrom components } }";
const COSTS: &str =
    "query($input: CostsInput!) { costs(input: $input) { currency total lines { kind dimension quantity units amount }
    windows { begin end amount lines { kind dimension quantity units amount groups { labels quantity amount } } } } }";
const MARGINS: &str = "query($input: CostsInput!) { margins(input: $input) { currency revenue platformCost margin
    windows { begin revenue platformCost margin dimensions { dimension revenue platformCost margin } } } }";
const UNIT_COSTS: &str = "{ unitCosts { dimension currency effectiveFrom cost } }";

pub(super) async fn at(app: &TestApp, time: &str) {
    let time: DateTime<Utc> = time.parse().unwrap();
    app.advance(time - app.app.clock.now());
    app.run_due().await;
}

/// A tenant that was made in February 2027; prices are set then, too.
pub(super) async fn app_in_february() -> (TestApp, Tenant) {
    let app = TestApp::start().await;
    at(&app, "2027-02-20T00:00:00Z").await;
    let tenant = app.tenant("priced").await;
    (app, tenant)
}

pub(super) async fn set_price(app: &TestApp, plan: Option<&str>, from: &str, components: Value) {
    let input = json!({ "plan": plan, "currency": "EUR", "effectiveFrom": from, "components": components });
    app.admin().await.ok(SET_PRICE, json!({ "input": input })).await;
}

fn march(window: &str, zone: &str) -> Value {
    json!({ "from": "2027-03-01T12:00:00Z", "to": "2027-03-31T12:00:00Z", "window": window, "timeZone": zone, "currency": "EUR" })
}

async fn costs(client: &Client, input: &Value) -> Value {
    client.ok(COSTS, json!({ "input": input })).await["costs"].clone()
}

pub(super) fn number(value: &Value) -> Decimal {
    value.as_str().unwrap().parse().unwrap()
}

/// As `kind dimension quantity units amount`.
fn lines(of: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let line =
        |line: &Value| ["kind", "dimension", "quantity", "units", "amount"].map(|field| text(&line[field])).join(" ");
    of["lines"].as_array().unwrap().iter().map(line).collect()
}

pub(super) fn used(key: &str, dimension: &str, quantity: &str, time: &str) -> Value {
    json!({ "key": key, "dimension": dimension, "quantity": quantity, "timestamp": time })
}

/// Calls at 100 different times of March, of which some are whole units and most are not.
fn calls() -> Vec<(DateTime<Utc>, Decimal)> {
    let begin: DateTime<Utc> = "2027-02-28T23:00:00Z".parse().unwrap();
    let call = |number: i64| {
        let seconds = (number * 2_654_435_761) % (31 * 24 * 3600 - 3600);
        (begin + TimeDelta::seconds(seconds), Decimal::new((number * 7_919_317) % 9_000_000, 3))
    };
    (0..100).map(call).collect()
}

/// What calls cost in Vienna's March by the end of a day, counted here: by the thousand, 20 included, then 30 at 0.333, 50 at 0.125 with a
/// fee of 2, and the rest at 0.0101.
fn recounted(calls: &[(DateTime<Utc>, Decimal)], zone: Tz, last: NaiveDate) -> Decimal {
    let of_days = calls.iter().filter(|(at, _)| at.with_timezone(&zone).date_naive() <= last);
    let units = (of_days.map(|(_, quantity)| *quantity).sum::<Decimal>() / Decimal::from(1000)).ceil();
    let mut cost = Decimal::ZERO;
    for unit in 1..=i64::try_from(units.mantissa() / 10_i128.pow(units.scale())).unwrap() {
        cost += match unit {
            ..=20 => Decimal::ZERO,
            21..=50 => Decimal::new(333, 3),
            51..=100 => Decimal::new(125, 3),
            101.. => Decimal::new(101, 4),
        };
        cost += if unit == 51 { Decimal::from(2) } else { Decimal::ZERO };
    }
    cost.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero)
}

fn price_of_calls() -> Value {
    let tiers = json!([{ "upTo": "30", "unitPrice": "0.333" }, { "upTo": "80", "unitPrice": "0.125", "flatPrice": "2" }, { "unitPrice": "0.0101" }]);
    json!({ "usage": { "dimension": "api_calls", "included": "20", "rate": { "graduated": { "tiers": tiers } } } })
}

#[tokio::test]
async fn costs_equal_a_recount_and_days_add_up_to_their_month() {
    let (app, tenant) = app_in_february().await;
    let components = json!([{ "flat": { "amount": "49" } }, { "seat": { "dimension": "users", "unitPrice": "5", "included": "1" } }, price_of_calls(),
        { "usage": { "dimension": "storage", "rate": { "perUnit": { "unitPrice": "0.62" } } } }]);
    set_price(&app, None, "2027-02-28T12:00:00Z", components).await;
    at(&app, "2027-04-01T00:00:00Z").await;
    let client = service(&app, &tenant).await;
    let calls = calls();
    let mut events: Vec<_> = calls
        .iter()
        .enumerate()
        .map(|(place, (at, quantity))| used(&format!("c{place}"), "api_calls", &quantity.to_string(), &at.to_rfc3339()))
        .collect();
    for (key, who, time) in
        [("u1", "ada", "02T10"), ("u2", "bob", "02T11"), ("u3", "ada", "05T10"), ("u4", "eve", "28T01")]
    {
        events.push(
            json!({ "key": key, "dimension": "users", "subject": who, "timestamp": format!("2027-03-{time}:00:00Z") }),
        );
    }
    // 10 GB from the tenth day of Vienna's on: 22 days of 31, less the hour that it lost.
    events.push(used("s", "storage", "10", "2027-03-09T23:00:00Z"));
    for events in events.chunks(50) {
        assert_eq!(record(&client, json!(events)).await["accepted"], events.len());
    }
    let zone: Tz = "Europe/Vienna".parse().unwrap();
    let ask = async || {
        let days = costs(&client, &march("DAY", "Europe/Vienna")).await;
        let month = costs(&client, &march("MONTH", "Europe/Vienna")).await;
        (days, month)
    };
    let before = ask().await;
    app.fold_usage().await;
    let (days, month) = ask().await;
    assert_eq!(before, (days.clone(), month.clone()), "from events that wait and from totals");
    let days = days["windows"].as_array().unwrap().clone();
    assert_eq!((days.len(), month["windows"].as_array().unwrap().len()), (31, 1));
    // The day on which clocks change has 23 hours.
    assert_eq!(
        (&days[27]["begin"], &days[27]["end"]),
        (&json!("2027-03-27T23:00:00+00:00"), &json!("2027-03-28T22:00:00+00:00"))
    );
    let first = NaiveDate::from_ymd_opt(2027, 3, 1).unwrap();
    let mut sums = BTreeMap::<String, Decimal>::new();
    for (place, day) in days.iter().enumerate() {
        let date = first + Days::new(place as u64);
        let yesterday = recounted(&calls, zone, date - Days::new(1));
        let expected = recounted(&calls, zone, date) - yesterday;
        let of_calls = day["lines"].as_array().unwrap().iter().find(|line| line["dimension"] == "api_calls");
        assert_eq!(of_calls.map_or(Decimal::ZERO, |line| number(&line["amount"])), expected, "{date}");
        for line in day["lines"].as_array().unwrap() {
            for field in ["quantity", "units", "amount"] {
                *sums.entry(format!("{}{} {field}", line["kind"], line["dimension"])).or_default() +=
                    number(&line[field]);
            }
        }
        let sum: Decimal = day["lines"].as_array().unwrap().iter().map(|line| number(&line["amount"])).sum();
        assert_eq!(number(&day["amount"]), sum, "{date}");
    }
    let whole = &month["windows"][0];
    for line in whole["lines"].as_array().unwrap() {
        for field in ["quantity", "units", "amount"] {
            let sum = sums[&format!("{}{} {field}", line["kind"], line["dimension"])];
            assert_eq!(sum, number(&line[field]), "{line} {field}");
        }
    }
    let of_month = recounted(&calls, zone, NaiveDate::from_ymd_opt(2027, 3, 31).unwrap());
    assert!(of_month > Decimal::from(17), "all tiers are reached: {of_month}");
    // 10 GB in 527 of the month's 743 hours.
    let lines = lines(whole);
    assert_eq!((&*lines[0], &*lines[1]), ("FLAT - 0 0 49.00", "SEAT users 3 3 10.00"));
    assert!(lines[2].ends_with(&format!(" {of_month}")), "{lines:?}");
    assert!(lines[3].starts_with("USAGE storage 7.09") && lines[3].ends_with(" 4.40"), "{lines:?}");
    assert_eq!(number(&whole["amount"]), of_month + "63.40".parse::<Decimal>().unwrap());
    assert_eq!((&month["total"], &month["currency"]), (&whole["amount"], &json!("EUR")));
}

#[tokio::test]
async fn what_was_used_before_another_price_is_priced_by_the_one_before() {
    let (app, tenant) = app_in_february().await;
    let tiers = |first: &str| json!({ "usage": { "dimension": "graph_queries", "rate": { "graduated": { "tiers": [{ "upTo": "31", "unitPrice": first }, { "unitPrice": "0.1" }] } } } });
    set_price(&app, None, "2027-03-01T00:00:00Z", json!([{ "flat": { "amount": "31" } }, tiers("1")])).await;
    at(&app, "2027-03-10T00:00:00Z").await;
    // From the eleventh on: 21 of 31 days.
    set_price(&app, None, "2027-03-11T00:00:00Z", json!([{ "flat": { "amount": "62" } }, tiers("2")])).await;
    at(&app, "2027-03-31T00:00:00Z").await;
    let client = service(&app, &tenant).await;
    let events = json!([
        used("a", "graph_queries", "1500", "2027-03-10T23:59:59Z"),
        used("b", "graph_queries", "2200", "2027-03-11T00:00:00Z"),
        used("c", "graph_queries", "50", "2027-03-29T00:00:00Z"),
    ]);
    assert_eq!(record(&client, events).await["accepted"], 3);
    app.fold_usage().await;
    let month = costs(&client, &march("MONTH", "UTC")).await;
    // 10 of the 15 at 1 and 5 at 0.1; 21 of the 23 at 2 and 2 at 0.1; fees of 10 and of 42.
    assert_eq!(lines(&month), ["FLAT - 0 0 52.00", "USAGE graph_queries 3750 38 52.70"]);
    assert_eq!(month["total"], "104.70");
    let days = costs(&client, &march("DAY", "UTC")).await;
    assert_eq!(days["total"], "104.70");
    assert_eq!(lines(&days["windows"][9]), ["FLAT - 0 0 1.00", "USAGE graph_queries 1500 15 10.50"]);
    assert_eq!(lines(&days["windows"][10]), ["FLAT - 0 0 2.00", "USAGE graph_queries 2200 22 42.10"]);
    assert_eq!(lines(&days["windows"][28]), ["FLAT - 0 0 2.00", "USAGE graph_queries 50 1 0.10"]);
    // What was told of a month that is over stays.
    at(&app, "2027-04-02T00:00:00Z").await;
    let (client, admin) = (service(&app, &tenant).await, app.admin().await);
    for from in ["2027-03-31T23:45:00Z", "2027-04-01T11:45:00Z"] {
        let input = json!({ "currency": "EUR", "effectiveFrom": from, "components": [] });
        assert_eq!(field_of(&admin, SET_PRICE, input).await, json!("effectiveFrom"));
    }
    set_price(&app, None, "2027-04-01T12:00:00Z", json!([])).await;
    assert_eq!(costs(&client, &march("MONTH", "UTC")).await["total"], "104.70");
}

#[tokio::test]
async fn another_plan_has_its_price_from_the_change_on() {
    let (app, tenant) = app_in_february().await;
    let admin = app.admin().await;
    let plan = admin.ok("query($id: ID) { tenant(id: $id) { plan { key } } }", json!({ "id": tenant.id })).await;
    let plan = plan["tenant"]["plan"]["key"].as_str().unwrap().to_owned();
    let plans = admin.ok("{ plans { key } }", json!({})).await;
    let other = plans["plans"]
        .as_array()
        .unwrap()
        .iter()
        .map(|plan| plan["key"].as_str().unwrap())
        .find(|key| **key != *plan)
        .unwrap()
        .to_owned();
    let per_unit = |price: &str| json!([{ "usage": { "dimension": "llm_tokens", "rate": { "perUnit": { "unitPrice": price } } } }]);
    set_price(&app, None, "2027-03-01T00:00:00Z", per_unit("100")).await;
    set_price(&app, Some(&plan), "2027-03-01T00:00:00Z", per_unit("1")).await;
    set_price(&app, Some(&other), "2027-03-01T00:00:00Z", per_unit("3")).await;
    at(&app, "2027-03-15T10:07:00Z").await;
    let change = "mutation($id: ID!, $plan: String!) { changePlan(input: {id: $id, plan: $plan}) { tenant { id } } }";
    app.admin().await.ok(change, json!({ "id": tenant.id, "plan": other })).await;
    at(&app, "2027-03-16T00:00:00Z").await;
    let client = service(&app, &tenant).await;
    let events = json!([
        used("a", "llm_tokens", "1000", "2027-03-15T09:59:00Z"),
        used("b", "llm_tokens", "2000", "2027-03-15T10:14:00Z"),
    ]);
    assert_eq!(record(&client, events).await["accepted"], 2);
    // The quarter of an hour in which it changed is the new plan's.
    assert_eq!(lines(&costs(&client, &march("DAY", "UTC")).await), ["USAGE llm_tokens 3000 3 7.00"]);
}

#[tokio::test]
async fn groups_share_the_amount_of_their_dimension() {
    let (app, tenant) = app_in_february().await;
    let define = json!({ "key": "renders", "unit": "frames", "aggregation": "SUM", "unitSize": 10, "rounding": "UP", "groupBy": ["model"] });
    app.admin().await.ok(DEFINE, json!({ "input": define })).await;
    let volume = json!({ "volume": { "tiers": [{ "upTo": "5", "unitPrice": "1" }, { "unitPrice": "0.5" }] } });
    set_price(&app, None, "2027-03-01T00:00:00Z", json!([{ "usage": { "dimension": "renders", "rate": volume } }]))
        .await;
    at(&app, "2027-03-03T00:00:00Z").await;
    let client = service(&app, &tenant).await;
    let event = |key: &str, model: &str, quantity: i64, day: i64| json!({ "key": key, "dimension": "renders", "quantity": quantity, "labels": { "model": model }, "timestamp": format!("2027-03-0{day}T10:00:00Z") });
    record(&client, json!([event("1", "a", 12, 1), event("2", "b", 24, 1), event("3", "a", 60, 2)])).await;
    let days = costs(&client, &march("DAY", "UTC")).await;
    let groups = |place: usize| days["windows"][place]["lines"][0]["groups"].clone();
    let group = |model: &str, quantity: &str, amount: &str| json!({ "labels": { "model": model }, "quantity": quantity, "amount": amount });
    assert_eq!(groups(0), json!([group("a", "12", "1.33"), group("b", "24", "2.67")]));
    // 10 units are 5 by then, of which 4 were told the day before.
    assert_eq!(
        (lines(&days["windows"][1]), groups(1)),
        (vec!["USAGE renders 60 6 1.00".to_owned()], json!([group("a", "60", "1.00")]))
    );
    assert_eq!(days["total"], "5.00");
}

#[tokio::test]
async fn margins_are_operators_alone_who_may_set_prices() {
    let (app, tenant) = app_in_february().await;
    set_price(&app, None, "2027-03-01T00:00:00Z", json!([{ "flat": { "amount": "31" } }, { "usage": { "dimension": "api_calls", "rate": { "perUnit": { "unitPrice": "2" } } } }])).await;
    let admin = app.admin().await;
    for (dimension, from, cost) in [
        ("api_calls", "2027-03-01T00:00:00Z", "0.0005"),
        ("api_calls", "2027-03-02T00:00:00Z", "0.001"),
        ("graph_queries", "2027-03-01T00:00:00Z", "0.01"),
    ] {
        let input = json!({ "dimension": dimension, "currency": "EUR", "effectiveFrom": from, "cost": cost });
        let set = admin.ok(SET_UNIT_COST, json!({ "input": input })).await["setUnitCost"]["unitCost"].clone();
        assert_eq!(
            set,
            json!({ "dimension": dimension, "currency": "EUR", "effectiveFrom": from.replace('Z', "+00:00"), "cost": cost })
        );
    }
    at(&app, "2027-03-03T12:00:00Z").await;
    let (client, admin) = (service(&app, &tenant).await, app.admin().await);
    let events = json!([
        used("a", "api_calls", "1500", "2027-03-01T10:00:00Z"),
        used("b", "api_calls", "3000", "2027-03-02T10:00:00Z"),
        used("c", "graph_queries", "77", "2027-03-02T10:00:00Z"),
    ]);
    record(&client, events).await;
    let mut input = march("DAY", "UTC");
    input["tenantId"] = json!(tenant.id);
    let margins = admin.ok(MARGINS, json!({ "input": input })).await["margins"].clone();
    let told =
        |window: &Value| ["revenue", "platformCost", "margin"].map(|field| window[field].as_str().unwrap().to_owned());
    assert_eq!(told(&margins), ["13.00", "4.52", "8.48"]);
    assert_eq!(told(&margins["windows"][0]), ["5.00", "0.75", "4.25"]);
    assert_eq!(told(&margins["windows"][1]), ["7.00", "3.77", "3.23"]);
    let of_queries = margins["windows"][1]["dimensions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|margin| margin["dimension"] == "graph_queries");
    assert_eq!(told(of_queries.unwrap()), ["0", "0.77", "-0.77"]);
    assert_eq!(admin.ok(UNIT_COSTS, json!({})).await["unitCosts"].as_array().unwrap().len(), 3);
    // Nobody else is told.
    let (full, support) = (app.full_service(&tenant).await, app.operator(Role::Support).await);
    for client in [&client, &full, &support] {
        assert_eq!(client.refused(MARGINS, json!({ "input": input })).await, "forbidden");
        assert_eq!(client.refused(UNIT_COSTS, json!({})).await, "forbidden");
        let input = json!({ "dimension": "api_calls", "currency": "EUR", "effectiveFrom": "2027-04-01T00:00:00Z", "cost": "1" });
        assert_eq!(client.refused(SET_UNIT_COST, json!({ "input": input })).await, "forbidden");
        let input = json!({ "currency": "EUR", "effectiveFrom": "2027-04-01T00:00:00Z", "components": [] });
        assert_eq!(client.refused(SET_PRICE, json!({ "input": input })).await, "forbidden");
    }
    assert!(!full.ok(PRICES, json!({})).await.to_string().contains("0.0005"));
}

#[tokio::test]
async fn another_tenant_sees_nothing_of_costs() {
    let (app, tenant) = app_in_february().await;
    let other = app.tenant("stranger").await;
    set_price(
        &app,
        None,
        "2027-03-01T00:00:00Z",
        json!([{ "usage": { "dimension": "api_calls", "rate": { "perUnit": { "unitPrice": "2" } } } }]),
    )
    .await;
    at(&app, "2027-03-03T12:00:00Z").await;
    let (client, stranger) = (service(&app, &tenant).await, service(&app, &other).await);
    record(&client, json!([used("a", "api_calls", "1500", "2027-03-01T10:00:00Z")])).await;
    assert_eq!(costs(&client, &march("MONTH", "UTC")).await["total"], "4.00");
    assert_eq!(costs(&stranger, &march("MONTH", "UTC")).await["total"], "0.00");
    let mut named = march("MONTH", "UTC");
    named["tenantId"] = json!(tenant.id);
    assert_eq!(stranger.refused(COSTS, json!({ "input": named })).await, "not_found");
    assert_eq!(costs(&app.admin().await, &named).await["total"], "4.00");
    assert_eq!(
        app.service(&tenant, "auth:usage:write").await.refused(COSTS, json!({ "input": named })).await,
        "forbidden"
    );
    // What has no price in a currency costs nothing in it.
    let mut yen = march("MONTH", "UTC");
    yen["currency"] = json!("JPY");
    assert_eq!(costs(&client, &yen).await["total"], "0");
}

pub(super) async fn field_of(client: &Client, query: &str, input: Value) -> Value {
    let answer = client.graphql(query, json!({ "input": input })).await;
    assert_eq!(answer.code(), "invalid_input", "{}", answer.text);
    answer.body["errors"][0]["extensions"]["field"].clone()
}

#[tokio::test]
async fn bad_prices_and_questions_are_refused_by_field() {
    let (app, tenant) = app_in_february().await;
    let (admin, client) = (app.admin().await, service(&app, &tenant).await);
    let with = |field: &str, value: Value| {
        let mut input = json!({ "currency": "EUR", "effectiveFrom": "2027-03-01T00:00:00Z", "components": [] });
        input[field] = value;
        input
    };
    let rate =
        |rate: Value| json!([{ "flat": { "amount": "1" } }, { "usage": { "dimension": "api_calls", "rate": rate } }]);
    let tiers = |tiers: Value| rate(json!({ "volume": { "tiers": tiers } }));
    let bad = [
        ("currency", with("currency", json!("EURO"))),
        ("currency", with("currency", json!("eur"))),
        ("plan", with("plan", json!("no-such-plan"))),
        ("effectiveFrom", with("effectiveFrom", json!("2027-01-31T00:00:00Z"))),
        ("effectiveFrom", with("effectiveFrom", json!("2027-03-01T00:00:01Z"))),
        ("components", with("components", json!({}))),
        (
            "components",
            with(
                "components",
                json!([]).as_array().map(|_| json!(vec![json!({ "flat": { "amount": "1" } }); 101])).unwrap(),
            ),
        ),
        ("components.0", with("components", json!([{ "fee": { "amount": "1" } }]))),
        ("components.0.flat.amount", with("components", json!([{ "flat": { "amount": 1 } }]))),
        ("components.0.flat.amount", with("components", json!([{ "flat": { "amount": "-1" } }]))),
        ("components.0.flat.extra", with("components", json!([{ "flat": { "amount": "1", "extra": "1" } }]))),
        ("components.1", with("components", json!([{ "flat": { "amount": "1" } }, { "flat": { "amount": "2" } }]))),
        (
            "components.0.seat.dimension",
            with("components", json!([{ "seat": { "dimension": "seats", "unitPrice": "2" } }])),
        ),
        (
            "components.1.usage.rate.perUnit.unitPrice",
            with("components", rate(json!({ "perUnit": { "unitPrice": "NaN" } }))),
        ),
        ("components.1.usage.rate.volume.tiers", with("components", tiers(json!([])))),
        (
            "components.1.usage.rate.volume.tiers.0.upTo",
            with("components", tiers(json!([{ "upTo": "5", "unitPrice": "1" }]))),
        ),
        (
            "components.1.usage.rate.volume.tiers.0.upTo",
            with("components", tiers(json!([{ "unitPrice": "1" }, { "unitPrice": "1" }]))),
        ),
        (
            "components.1.usage.rate.volume.tiers.1.upTo",
            with(
                "components",
                tiers(
                    json!([{ "upTo": "5", "unitPrice": "1" }, { "upTo": "5", "unitPrice": "1" }, { "unitPrice": "1" }]),
                ),
            ),
        ),
    ];
    for (field, input) in bad {
        assert_eq!(field_of(&admin, SET_PRICE, input.clone()).await, json!(field), "{input}");
    }
    admin.ok(SET_PRICE, json!({ "input": with("plan", Value::Null) })).await;
    let again = admin.graphql(SET_PRICE, json!({ "input": with("plan", Value::Null) })).await;
    assert_eq!((again.code(), &again.body["errors"][0]["extensions"]["field"]), ("conflict", &json!("effectiveFrom")));
    let cost = |field: &str, value: Value| {
        let mut input = json!({ "dimension": "api_calls", "currency": "EUR", "effectiveFrom": "2027-03-01T00:00:00Z", "cost": "1" });
        input[field] = value;
        input
    };
    for (field, value) in [
        ("dimension", "no_such"),
        ("currency", "E"),
        ("effectiveFrom", "2027-01-31T00:00:00Z"),
        ("cost", "-1"),
        ("cost", "1e3"),
    ] {
        assert_eq!(field_of(&admin, SET_UNIT_COST, cost(field, json!(value))).await, json!(field));
    }
    for (field, value) in
        [("timeZone", "Vienna"), ("currency", "XXX"), ("to", "2027-03-01T12:00:00Z"), ("from", "2020-01-01T00:00:00Z")]
    {
        let mut input = march("DAY", "UTC");
        input[field] = json!(value);
        assert_eq!(field_of(&client, COSTS, input).await, json!(field));
    }
    assert_eq!(field_of(&admin, COSTS, march("DAY", "UTC")).await, json!("tenantId"));
}
