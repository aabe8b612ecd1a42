//! The oracle behind the suite works, and there is something for it to see.

use std::{collections::BTreeSet, panic::AssertUnwindSafe};

use chrono::TimeDelta;
use futures::FutureExt as _;
use serde_json::{Value, json};
use tenantry::{
    edge::admission::catalogue::{Argument, FieldId},
    platform::clock::Clock,
};

use super::{
    neighbours::Neighbours,
    operation::{Schema, Verb, anything},
};

#[tokio::test]
async fn what_leaks_is_noticed_wherever_it_is_received() {
    let neighbours = Neighbours::start().await;
    let (leak, service) = (&neighbours.a.canary, &neighbours.service);
    let caught = async |received: &mut (dyn Future<Output = ()> + Unpin)| {
        AssertUnwindSafe(received).catch_unwind().await.is_err()
    };
    // B writes A's canary into its own name, and is told it again.
    let rename =
        "mutation($id: ID!, $name: String) { updateTenant(input: {id: $id, name: $name}) { tenant { name } } }";
    let by_body = caught(&mut Box::pin(async {
        drop(service.graphql(rename, json!({ "id": neighbours.b.id, "name": leak })).await)
    }))
    .await;
    assert!(by_body, "in a body");
    let echo = service.request(reqwest::Method::GET, "/livez").header("x-request-id", leak);
    assert!(caught(&mut Box::pin(async { drop(service.send(echo).await) })).await, "in a header");
    let mut socket = neighbours.app.socket(service).await;
    socket.subscribe("name", "{ tenant { name } }", json!({})).await;
    assert!(caught(&mut Box::pin(async { drop(socket.next().await) })).await, "in a message");
    // Its own, and all that operators see, is none.
    service.check(&neighbours.b.canary);
    neighbours.admin.check(leak);
}

#[tokio::test]
async fn a_service_finds_its_own_data_in_every_field_that_it_may_read() {
    let (neighbours, schema) = (Neighbours::start().await, Schema::published());
    let (mut selected, mut answered, mut canaries) = (BTreeSet::new(), BTreeSet::new(), 0);
    for route in schema.routes() {
        if route.verb != Verb::Query || !route.fields.iter().all(|id| schema.for_services(schema.0.field(*id))) {
            continue;
        }
        let known = |field: &str, argument: &Argument| match field {
            "member.id" => json!(neighbours.b_member),
            _ => known(field, argument),
        };
        let operation = schema.operation(&route, &known, None, 3);
        let answer = neighbours.service.graphql(&operation.query, operation.variables).await;
        assert_eq!((answer.status, answer.code()), (200, "none"), "{} {}", schema.name(&route), answer.text);
        canaries += answer.text.matches(&neighbours.b.canary).count();
        selected.extend(operation.selected);
        let root = schema.0.field(route.fields[0]).parent.clone();
        note(&schema, &root, answer.data(), &mut answered);
    }
    let name = |id: &FieldId| format!("{}.{}", schema.0.field(*id).parent, schema.0.field(*id).name);
    let silent: Vec<_> = selected.difference(&answered).map(name).collect();
    println!(
        "fields: {} selected, {} of them without a value: {silent:?}; B's canary {canaries} times",
        selected.len(),
        silent.len()
    );
    assert!(canaries >= 30, "B's canary was received {canaries} times only");
    assert!(
        answered.len() >= 90 && answered.len() * 5 >= selected.len() * 4,
        "{} of {} fields had a value",
        answered.len(),
        selected.len()
    );
}

/// What a tenant can name without having made it.
fn known(field: &str, argument: &Argument) -> Value {
    let hours_from_now = |hours| json!(Clock::default().now() + TimeDelta::hours(hours));
    match &*argument.name {
        "key" => json!("max_users"),
        "dimension" => json!("metered"),
        "label" => json!("label"),
        "currency" => json!("EUR"),
        "from" => hours_from_now(-12),
        "to" => hours_from_now(12),
        _ => anything(field, argument),
    }
}

/// Notes which fields have a value.
fn note(schema: &Schema, type_name: &str, value: &Value, answered: &mut BTreeSet<FieldId>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| note(schema, type_name, item, answered)),
        Value::Object(members) => {
            for (key, member) in members.iter().filter(|(_, member)| !member.is_null()) {
                let Some(id) = schema.0.find_field(type_name, key) else { continue };
                answered.insert(id);
                note(schema, &schema.0.field(id).named, member, answered);
            }
        }
        _ => {}
    }
}
