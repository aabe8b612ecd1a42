//! Usage that comes by a stream of NATS JetStream.

use async_nats::{HeaderMap, jetstream};
use futures::StreamExt as _;
use serde_json::json;

use super::USAGE;
use crate::{
    binary::Binary,
    provisioning::eventually,
    support::{self, Client, TestApp, nats::NatsServer},
};

async fn stream(nats: &NatsServer) -> jetstream::Context {
    let client = async_nats::connect(format!("nats://{}", nats.address)).await.unwrap();
    let api = jetstream::new(client);
    for (name, subject) in [("USAGE", "usage.>"), ("REFUSED", "refused")] {
        let wanted = jetstream::stream::Config {
            name: name.to_owned(),
            subjects: vec![subject.to_owned()],
            ..Default::default()
        };
        api.create_stream(wanted).await.unwrap();
    }
    api
}

async fn publish(api: &jetstream::Context, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) {
    let mut map = HeaderMap::new();
    headers.iter().for_each(|(name, value)| map.insert(*name, *value));
    api.publish_with_headers("usage.events", map, body.into().into()).await.unwrap().await.unwrap();
}

/// What is counted of the dimension in the days around now.
async fn counted(client: &Client, dimension: &str) -> (i64, String) {
    let now = tenantry::platform::clock::Clock::default().now();
    let [from, to] = [-40, 1].map(|days| (now + chrono::TimeDelta::days(days)).to_rfc3339());
    let input = json!({ "dimension": dimension, "window": "MONTH", "from": from, "to": to });
    let totals = client.ok(USAGE, json!({ "input": input })).await["usage"].as_array().unwrap().clone();
    let sum = |field: &str| {
        totals.iter().map(|total| total[field].to_string().trim_matches('"').parse::<f64>().unwrap()).sum::<f64>()
    };
    (sum("events") as i64, sum("quantity").to_string())
}

/// What nobody has acknowledged, and what was not delivered.
async fn left(api: &jetstream::Context) -> (usize, u64) {
    let stream = api.get_stream("USAGE").await.unwrap();
    let info = stream.consumer_info("tenantry").await.unwrap();
    (info.num_ack_pending, info.num_pending)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_counted_in_each_form_and_what_is_refused_is_told() {
    let nats = NatsServer::open();
    let api = stream(&nats).await;
    let settings = format!("[usage_stream]\nurl = \"nats://{}\"\nrefused = \"refused\"", nats.address);
    let app = TestApp::with(&settings).await;
    let tenant = app.tenant("streamed").await;
    let client = app.service(&tenant, "auth:usage:read").await;
    let metered = json!({ "tenant_id": tenant.id, "dimension": "api_calls", "quantity": 1 });
    let cloud = json!({ "specversion": "1.0", "id": "1", "source": "/gateway", "type": "api_calls", "tenantid": tenant.id, "data": { "quantity": 10 } });
    // Without a key two are two; with one of the publisher, or of the event, they are one.
    publish(&api, &[], metered.to_string()).await;
    publish(&api, &[], metered.to_string()).await;
    let mut keyed = metered.clone();
    (keyed["quantity"], keyed["idempotency_key"]) = (json!(100), json!("k"));
    publish(&api, &[], keyed.to_string()).await;
    publish(&api, &[], keyed.to_string()).await;
    publish(&api, &[("Nats-Msg-Id", "k")], metered.to_string()).await;
    publish(&api, &[], cloud.to_string()).await;
    publish(&api, &[("content-type", "application/cloudevents+json")], cloud.to_string()).await;
    let id = tenant.id.to_string();
    let binary = [
        ("ce-specversion", "1.0"),
        ("ce-id", "2"),
        ("ce-source", "/gateway"),
        ("ce-type", "api_calls"),
        ("ce-tenantid", id.as_str()),
    ];
    publish(&api, &binary, r#"{ "quantity": 1000 }"#).await;
    let bad = [
        ("event", "{".to_owned()),
        ("body", String::new()),
        ("tenantId", r#"{ "dimension": "api_calls" }"#.to_owned()),
        ("tenantId", r#"{ "dimension": "api_calls", "tenant_id": "00000000-0000-4000-8000-000000000000" }"#.to_owned()),
        ("dimension", json!({ "tenant_id": tenant.id, "dimension": "nothing" }).to_string()),
        ("quantity", json!({ "tenant_id": tenant.id, "dimension": "api_calls", "quantity": "NaN" }).to_string()),
    ];
    for (field, body) in &bad[..1] {
        publish(&api, &[("trace", field)], body.clone()).await;
    }
    for (field, body) in &bad[2..] {
        publish(&api, &[("trace", field)], body.clone()).await;
    }
    publish(&api, &[("trace", "event")], vec![b'x', 0xff]).await;
    eventually("all is counted or refused", async || (left(&api).await == (0, 0)).then_some(())).await;
    assert_eq!(counted(&client, "api_calls").await, (5, "1112".to_owned()));
    let refused = api.get_stream("REFUSED").await.unwrap();
    let reader = refused.create_consumer(jetstream::consumer::pull::Config::default()).await.unwrap();
    let told: Vec<_> = reader.fetch().max_messages(20).messages().await.unwrap().collect().await;
    assert_eq!(told.len(), 6);
    for message in told {
        let message = message.unwrap();
        let headers = message.headers.as_ref().unwrap();
        let (field, trace) = (headers.get("Tenantry-Field").unwrap().as_str(), headers.get("trace").unwrap().as_str());
        assert!(field == trace || (field, trace) == ("body", "event"), "{field} {trace}");
        assert!(
            !headers.get("Tenantry-Message").unwrap().as_str().is_empty()
                && !headers.get("Tenantry-Code").unwrap().as_str().is_empty()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_counted_once_though_servers_and_nats_are_killed() {
    const EVENTS: usize = 6_000;
    let mut nats = NatsServer::open();
    let api = stream(&nats).await;
    let database = support::database().await;
    let binary = Binary::on(&database).set("USAGE_STREAM__URL", format!("nats://{}", nats.address));
    let mut servers = [binary.serve().await, binary.serve().await];
    let admin = servers[0].admin().await;
    let made = admin
        .ok("mutation { createTenant(input: {slug: \"torrent\", name: \"t\"}) { tenant { id } } }", json!({}))
        .await;
    let id = made["createTenant"]["tenant"]["id"].clone();
    let publishing = tokio::spawn({
        let (api, id) = (api.clone(), id.clone());
        async move {
            let mut sent = 0;
            while sent < EVENTS {
                // Without keys: only their place in the stream tells them apart.
                let body = json!({ "tenant_id": id, "dimension": "api_calls", "quantity": 1 }).to_string();
                let mut acknowledgements = Vec::new();
                for _ in 0..200.min(EVENTS - sent) {
                    acknowledgements.push(api.publish("usage.events", body.clone().into()).await);
                }
                for acknowledgement in acknowledgements {
                    // What NATS has not acknowledged may be there; it is not sent again, and is not counted on.
                    if let Ok(acknowledgement) = acknowledgement
                        && acknowledgement.await.is_ok()
                    {
                        sent += 1;
                    }
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            sent
        }
    });
    for round in 0..3 {
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        let dead = std::mem::replace(&mut servers[round % 2], binary.serve().await);
        dead.kill().await;
    }
    assert_eq!(publishing.await.unwrap(), EVENTS);
    nats.stop();
    nats.start_again();
    let in_stream = eventually("the stream is there again", async || {
        api.get_stream("USAGE").await.ok().map(|stream| stream.cached_info().state.messages)
    })
    .await;
    eventually_within("all is counted", async || left(&api).await == (0, 0)).await;
    let total = |admin: &Client| {
        let (admin, id) = (admin.clone(), id.clone());
        async move {
            let now = tenantry::platform::clock::Clock::default().now();
            let [from, to] = [-1, 1].map(|days| (now + chrono::TimeDelta::days(days)).to_rfc3339());
            let input = json!({ "tenantId": id, "dimension": "api_calls", "window": "DAY", "from": from, "to": to });
            let totals = admin.ok(USAGE, json!({ "input": input })).await["usage"].clone();
            totals.as_array().unwrap().iter().map(|total| total["events"].as_u64().unwrap()).sum::<u64>()
        }
    };
    assert_eq!(total(&servers[0].admin().await).await, in_stream);
    assert!(in_stream >= EVENTS as u64);
}

/// A message that a dead server had is delivered again after half a minute.
async fn eventually_within(what: &str, is_so: impl AsyncFn() -> bool) {
    for _ in 0..1800 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}
