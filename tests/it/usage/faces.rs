//! The same events by every door.

use serde_json::{Value, json};

use super::{Asked, app_at_noon, service};
use crate::support::{Answer, Client};

const METER: &str = "/api/v1/billing/meter";
const EVENTS: &str = "/api/v1/usage/events";
const DAY: Asked<'_> = Asked {
    dimension: "api_calls",
    window: "DAY",
    from: "2026-11-26T00:00:00Z",
    to: "2026-11-27T00:00:00Z",
    zone: "UTC",
};

async fn send(client: &Client, path: &str, content_type: &str, body: impl Into<String>) -> Answer {
    client.send(client.post(path).header("content-type", content_type).body(body.into())).await
}

#[tokio::test]
async fn the_meter_takes_one_event_or_a_list() {
    let app = app_at_noon().await;
    let tenant = app.tenant("meter").await;
    let client = service(&app, &tenant).await;
    let event = json!({ "tenant_id": tenant.id, "dimension": "api_calls", "quantity": 1500, "timestamp": "2026-11-26T10:30:00Z" });
    let answer = send(&client, METER, "application/json", event.to_string()).await;
    assert_eq!((answer.status, &answer.body), (200, &json!({ "status": "accepted" })));
    // With a key, of the event or of the request, it counts once.
    let keyed = r#"{ "dimension": "api_calls", "quantity": 0.1, "idempotency_key": "k" }"#;
    for status in ["accepted", "duplicate"] {
        assert_eq!(send(&client, METER, "application/json; charset=utf-8", keyed).await.body["status"], status);
    }
    for status in ["accepted", "duplicate"] {
        let request = client.post(METER).header("idempotency-key", "of the request").json(&event);
        assert_eq!(client.send(request).await.body["status"], status);
    }
    let list = r#"[{ "dimension": "api_calls", "quantity": "0.2", "idempotency_key": "l" }, { "dimension": "api_calls", "quantity": 1, "who": 1 },
        7, { "dimension": "api_calls", "quantity": 0.2, "idempotency_key": "k" }, { "dimension": "nothing", "quantity": 1 }]"#;
    let answer = send(&client, METER, "application/json", list).await;
    let told: Vec<_> = answer.body["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|told| json!([told["index"], told["status"], told["field"]]))
        .collect();
    assert_eq!(
        (answer.status, &answer.body["accepted"], told),
        (
            200,
            &json!(1),
            vec![
                json!([1, "refused", "event"]),
                json!([2, "refused", "event"]),
                json!([3, "duplicate", null]),
                json!([4, "refused", "dimension"])
            ]
        )
    );
    assert_eq!(DAY.of(&client).await[0]["quantity"], "3000.3");
}

#[tokio::test]
async fn what_the_meter_cannot_take_is_told_by_status_and_field() {
    let app = app_at_noon().await;
    let tenant = app.tenant("refusing").await;
    let other = app.tenant("stranger").await;
    let client = service(&app, &tenant).await;
    for (status, code, field, body) in [
        (400, "invalid_input", "event", "{".to_owned()),
        (400, "invalid_input", "event", "{}".to_owned()),
        (400, "invalid_input", "event", "7".to_owned()),
        (400, "invalid_input", "body", "[".to_owned()),
        (400, "invalid_input", "quantity", r#"{ "dimension": "api_calls", "quantity": true }"#.to_owned()),
        (400, "invalid_input", "quantity", r#"{ "dimension": "api_calls", "quantity": 1e3 }"#.to_owned()),
        (
            404,
            "not_found",
            "tenantId",
            json!({ "tenant_id": other.id, "dimension": "api_calls", "quantity": 1 }).to_string(),
        ),
    ] {
        let answer = send(&client, METER, "application/json", body.clone()).await;
        let found = &answer.body["errors"][0]["extensions"];
        assert_eq!(
            (answer.status, answer.code(), &found["field"]),
            (status, code, &json!(field)),
            "{body}: {}",
            answer.text
        );
    }
    for path in [METER, EVENTS] {
        assert_eq!(send(&client, path, "text/plain", "{}").await.status, 415);
        let reader = app.service(&tenant, "auth:usage:read").await;
        assert_eq!(send(&reader, path, "application/json", "{}").await.code(), "forbidden");
        assert_eq!(send(&app.anonymous(), path, "application/json", "{}").await.status, 401);
    }
    let not_text = client.post(METER).header("content-type", "application/json").body(vec![0xff, 0xfe]);
    assert_eq!(client.send(not_text).await.status, 400);
}

#[tokio::test]
async fn cloud_events_are_read_in_every_mode() {
    let app = app_at_noon().await;
    let tenant = app.tenant("clouds").await;
    let client = service(&app, &tenant).await;
    let event = |id: &str, source: &str| json!({ "specversion": "1.0", "id": id, "source": source, "type": "api_calls", "time": "2026-11-26T09:00:00Z", "data": { "quantity": 2 } });
    let structured = "application/cloudevents+json; charset=UTF-8";
    for status in ["accepted", "duplicate"] {
        assert_eq!(send(&client, EVENTS, structured, event("1", "/a").to_string()).await.body["status"], status);
    }
    // The same id of another source is another event.
    let batch = json!([event("1", "/a"), event("1", "/b"), { "specversion": "1.0" }]).to_string();
    let answer = send(&client, EVENTS, "application/cloudevents-batch+json", batch).await;
    assert_eq!(
        (answer.status, &answer.body["accepted"], &answer.body["duplicates"], &answer.body["refused"]),
        (200, &json!(1), &json!(1), &json!(1))
    );
    let binary = |id: &str| {
        let request = client.post(EVENTS).header("content-type", "application/json").header("ce-specversion", "1.0");
        request
            .header("ce-id", id.to_owned())
            .header("ce-source", "/a")
            .header("ce-type", "api_calls")
            .body("{\"quantity\": 0.5}")
    };
    assert_eq!(client.send(binary("1")).await.body["status"], "duplicate");
    assert_eq!(client.send(binary("2")).await.body["status"], "accepted");
    assert_eq!(DAY.of(&client).await[0]["quantity"], "4.5");
}

#[tokio::test]
async fn lines_are_counted_one_by_one_and_broken_ones_told() {
    let app = app_at_noon().await;
    let tenant = app.tenant("lines").await;
    let client = service(&app, &tenant).await;
    let mut body = b"{\"dimension\": \"api_calls\", \"quantity\": 1, \"idempotency_key\": \"1\"}\r\n\n{\"dimension\": \"api_calls\", \"quan\n\xff\xfe\n".to_vec();
    body.extend(b"{\"dimension\": \"api_calls\", \"quantity\": 1, \"idempotency_key\": \"2\"}");
    let request = client.post(EVENTS).header("content-type", "application/x-ndjson").body(body);
    let answer = client.send(request).await;
    assert_eq!(
        (answer.status, &answer.body["accepted"], &answer.body["refused"]),
        (200, &json!(2), &json!(2)),
        "{}",
        answer.text
    );
    let told: Vec<&Value> = answer.body["results"].as_array().unwrap().iter().map(|told| &told["index"]).collect();
    assert_eq!(told, [1, 2]);
    assert_eq!(DAY.of(&client).await[0]["quantity"], "2");
}

#[tokio::test]
async fn more_than_the_server_takes_is_told_to_come_again_and_nothing_is_lost() {
    let app = crate::support::TestApp::with("[usage]\nlanes = 1\nbatch_events = 50\nwaiting_events = 100").await;
    let tenant = app.tenant("flood").await;
    let client = service(&app, &tenant).await;
    let (mut accepted, mut told_to_wait) = (0, 0);
    let request = async |number: usize| {
        let events: Vec<_> = (0..50)
            .map(|event| json!({ "dimension": "api_calls", "quantity": 1, "idempotency_key": format!("{number}-{event}") }))
            .collect();
        send(&client, METER, "application/json", json!(events).to_string()).await
    };
    let answers = futures::future::join_all((0..60).map(&request)).await;
    for answer in answers {
        if answer.status == 200 {
            accepted += answer.body["accepted"].as_i64().unwrap();
        } else {
            assert_eq!((answer.status, answer.code()), (503, "unavailable"), "{}", answer.text);
            assert_eq!(answer.headers["retry-after"], "1");
            told_to_wait += 1;
        }
    }
    assert!(told_to_wait > 0, "nothing was too much");
    let now = app.app.clock.now();
    let (from, to) = ((now - chrono::TimeDelta::days(1)).to_rfc3339(), (now + chrono::TimeDelta::days(1)).to_rfc3339());
    let counted = async || {
        let totals = Asked { from: &from, to: &to, ..DAY }.of(&client).await;
        totals.iter().map(|total| total["events"].as_i64().unwrap()).sum::<i64>()
    };
    assert_eq!(counted().await, accepted);
    // Sent again, all of it is counted, and nothing twice.
    for number in 0..60 {
        assert_eq!(request(number).await.status, 200);
    }
    assert_eq!(counted().await, 3000);
}

#[tokio::test]
async fn a_quantity_is_found_in_the_data_where_the_dimension_says() {
    let app = app_at_noon().await;
    let tenant = app.tenant("described").await;
    let (client, admin) = (service(&app, &tenant).await, app.admin().await);
    let define = |key: &str, path: &str| json!({ "input": { "key": key, "unit": "tokens", "aggregation": "SUM", "valuePath": path } });
    admin.ok(super::DEFINE, define("completions", "$.response.usage['total tokens']")).await;
    let refused = admin.graphql(super::DEFINE, define("wrong", "$..usage")).await;
    assert_eq!(
        (refused.code(), &refused.body["errors"][0]["extensions"]["field"]),
        ("invalid_input", &json!("valuePath"))
    );
    let data = r#"{ "response": { "usage": { "total tokens": 100000000000000.000000001 } }, "model": "m" }"#;
    let cloud =
        format!(r#"{{ "specversion": "1.0", "id": "1", "source": "/llm", "type": "completions", "data": {data} }}"#);
    assert_eq!(send(&client, EVENTS, "application/cloudevents+json", cloud).await.body["status"], "accepted");
    let metered = format!(r#"{{ "dimension": "completions", "data": {data} }}"#);
    assert_eq!(send(&client, METER, "application/json", metered).await.body["status"], "accepted");
    // What the event says itself goes before.
    let said = format!(r#"{{ "dimension": "completions", "quantity": 5, "data": {data} }}"#);
    assert_eq!(send(&client, EVENTS, "application/x-ndjson", said).await.body["accepted"], 1);
    let event = json!({ "key": "g", "dimension": "completions", "data": { "response": { "usage": { "total tokens": "0.5" } } } });
    assert_eq!(super::record(&client, json!([event])).await["accepted"], 1);
    for (data, field) in
        [(r#"{ "response": {} }"#, "data"), (r#"{ "response": { "usage": { "total tokens": true } } }"#, "quantity")]
    {
        let answer =
            send(&client, METER, "application/json", format!(r#"{{ "dimension": "completions", "data": {data} }}"#))
                .await;
        assert_eq!(
            (answer.code(), &answer.body["errors"][0]["extensions"]["field"]),
            ("invalid_input", &json!(field)),
            "{}",
            answer.text
        );
    }
    let day = Asked { dimension: "completions", ..DAY };
    assert_eq!(day.of(&client).await[0]["quantity"], "200000000000005.500000002");
}

/// npm's `cloudevents`, in binary and structured mode and in a batch.
#[tokio::test]
async fn the_stock_sdk_of_cloud_events_is_understood() {
    let app = crate::support::TestApp::start().await;
    let tenant = app.tenant("stock").await;
    let client = service(&app, &tenant).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/cloudevents.mjs");
    let arguments = [script.to_owned(), app.url(""), client.token().unwrap().to_owned(), tenant.id.to_string()];
    let output = tokio::task::spawn_blocking(move || std::process::Command::new("node").args(arguments).output());
    let output = output.await.unwrap().expect("node is installed: see scripts/bootstrap.sh");
    let told = String::from_utf8_lossy(&output.stdout);
    let told: Value =
        serde_json::from_str(&told).unwrap_or_else(|_| panic!("{told}{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(told["emitted"], json!([{ "status": "accepted" }, { "status": "accepted" }]));
    let status = |place: usize| json!([told["answers"][place]["status"], told["answers"][place]["body"]["status"]]);
    assert_eq!(
        [status(0), status(1), status(2)],
        [json!([200, "accepted"]), json!([200, "duplicate"]), json!([200, "duplicate"])]
    );
    let batch = &told["answers"][3]["body"];
    assert_eq!(
        (&batch["accepted"], &batch["duplicates"], &batch["refused"]),
        (&json!(1), &json!(1), &json!(0)),
        "{batch}"
    );
    let now = app.app.clock.now();
    let [from, to] = [-1, 1].map(|days| (now + chrono::TimeDelta::days(days)).to_rfc3339());
    let totals = Asked { from: &from, to: &to, ..DAY }.quantities(&client).await;
    assert_eq!(totals.iter().map(|(_, quantity)| quantity.parse::<i64>().unwrap()).sum::<i64>(), 113);
}
