//! Subscriptions over the WebSocket.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    answer::{difference, without_request_ids},
    neighbours::{Form, Neighbours},
    operation::{Position, Route, Schema, Verb, anything},
};
use crate::support::{Received, Socket};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_subscription_tells_a_tenant_anything_of_another() {
    let (neighbours, schema) = (Neighbours::with_entries(250).await, Schema::published());
    let mut asked = Asked {
        socket: neighbours.app.socket(&neighbours.service).await,
        neighbours: &neighbours,
        schema: &schema,
        count: 0,
        streams: 0,
    };
    let mut positions = 0;
    for route in schema.routes().into_iter().filter(|route| route.verb == Verb::Subscription) {
        for position in schema.positions(schema.end(&route)) {
            positions += 1;
            for form in Form::ALL {
                asked.compare(&route, &position, form).await;
            }
        }
    }
    println!("subscriptions: {positions} positions, {} operations, {} of them with events", asked.count, asked.streams);
    assert!(positions >= 2 && asked.count >= 40 && asked.streams >= 2, "{positions} {} {}", asked.count, asked.streams);
}

struct Asked<'a> {
    socket: Socket,
    neighbours: &'a Neighbours,
    schema: &'a Schema,
    count: usize,
    /// Those that were answered with an event.
    streams: usize,
}

impl Asked<'_> {
    async fn compare(&mut self, route: &Route, position: &Position, form: Form) {
        let [first, second] = form.phantoms();
        let (first, second) = (self.ask(route, position, &first).await, self.ask(route, position, &second).await);
        for name in self.neighbours.names.iter().filter(|name| name.form == form) {
            let foreign = self.ask(route, position, &name.text).await;
            let difference = difference(&foreign, [&first, &second]);
            assert!(
                difference.is_none(),
                "{} tells B of A's {} at `{position}`: answer{}",
                self.schema.name(route),
                name.what,
                difference.unwrap()
            );
        }
    }

    /// The first message, while things happen in A and then in B.
    async fn ask(&mut self, route: &Route, position: &Position, text: &str) -> Value {
        let operation = self.schema.operation(route, &anything, Some((position, text)), 3);
        self.count += 1;
        let id = format!("s{}", self.count);
        self.socket.subscribe(&id, &operation.query, operation.variables).await;
        for attempt in 0..50 {
            self.neighbours.happen_in_a().await;
            self.neighbours.happen_in_b().await;
            if attempt > 0 {
                // Followers of environments wait for more than a change of labels.
                self.neighbours.environments_are_taken_away().await;
                self.neighbours.alerts_fire().await;
            }
            while let Some(received) = self.socket.next_within(Duration::from_millis(100)).await {
                let Received::Message(message) = received else { panic!("the socket was closed: {received:?}") };
                self.neighbours.nothing_of_a_in(&message.to_string(), text);
                if message["id"] != json!(id) {
                    continue; // of an operation before
                }
                self.streams += usize::from(message["type"] == "next");
                self.socket.send(json!({ "id": id, "type": "complete" })).await;
                let told = json!({ "type": message["type"], "payload": message["payload"] })
                    .to_string()
                    .replace(text, "<sent>");
                return without_request_ids(serde_json::from_str(&told).unwrap());
            }
        }
        panic!("{} says nothing of what happens in B: {}", self.schema.name(route), operation.query)
    }
}

#[tokio::test]
async fn a_query_over_the_socket_tells_as_little() {
    let neighbours = Neighbours::start().await;
    let mut socket = neighbours.app.socket(&neighbours.service).await;
    let mut answers = Vec::new();
    for id in [neighbours.a.id.to_string(), Form::Id.phantoms()[0].clone()] {
        for query in [
            "query($id: ID) { tenant(id: $id) { id } }",
            "query($id: ID) { audit(tenantId: $id) { edges { cursor } } }",
        ] {
            socket.subscribe("q", query, json!({ "id": id })).await;
            loop {
                let Received::Message(message) = socket.next().await else { panic!("the socket was closed") };
                neighbours.nothing_of_a_in(&message.to_string(), "");
                if message["type"] != "next" {
                    break;
                }
                answers.push(without_request_ids(message));
            }
        }
    }
    assert_eq!(answers.len(), 4, "{answers:?}");
    assert_eq!(answers[..2], answers[2..]);
}
