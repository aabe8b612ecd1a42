//! Headers that name something: the tenant, and keys that another tenant has used.

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use super::{
    answer::told,
    neighbours::{Form, Neighbours},
    operation::{Schema, Verb, anything},
};

const HEADER: &str = "x-tenant-id";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_header_x_tenant_id_opens_no_tenant_but_the_tokens_own() {
    let (neighbours, schema) = (Neighbours::start().await, Schema::published());
    let own = neighbours.b.id.to_string();
    let phantom = &Form::Id.phantoms()[0];
    let (mut fields, a) = (0, neighbours.a.id.to_string());
    for route in schema.routes().into_iter().filter(|route| route.fields.len() == 1 && route.verb != Verb::Subscription)
    {
        let operation = schema.operation(&route, &anything, None, 1);
        let ask = async |named: &str| {
            let body = json!({ "query": operation.query, "variables": operation.variables });
            let answer =
                neighbours.service.send(neighbours.service.post("/graphql").header(HEADER, named).json(&body)).await;
            neighbours.nothing_of_a_in(&answer.text, "");
            (answer.code().to_owned(), told(&answer, named))
        };
        let foreign = ask(&a).await;
        assert_eq!(foreign.0, "tenant_mismatch", "{}", schema.name(&route));
        for other in [phantom, &neighbours.a.slug, "", "00000000-0000-0000-0000-000000000000"] {
            assert_eq!(ask(other).await, foreign, "{} with {other:?}", schema.name(&route));
        }
        assert_ne!(ask(&own).await.0, "tenant_mismatch", "{}", schema.name(&route));
        fields += 1;
    }
    assert!(fields >= 25, "only {fields} fields were tried");
}

#[tokio::test]
async fn a_tenant_header_is_sent_once_and_the_token_decides() {
    let neighbours = Neighbours::start().await;
    let read = json!({ "query": "{ tenant { id } }" });
    let (a, b) = (neighbours.a.id.to_string(), neighbours.b.id.to_string());
    let request = neighbours.service.post("/graphql").header(HEADER, &b).header(HEADER, &a).json(&read);
    assert_eq!(neighbours.service.send(request).await.code(), "invalid_input");
    let answer =
        neighbours.service.send(neighbours.service.post("/graphql").header(HEADER, b.to_uppercase()).json(&read)).await;
    assert_eq!(answer.body["data"]["tenant"]["id"], json!(b));
}

/// How an upgrade with this tenant header ends.
async fn upgrade(neighbours: &Neighbours, named: &str) -> String {
    let mut request = format!("ws://{}/graphql", neighbours.app.address).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().unwrap());
    request.headers_mut().insert(HEADER, named.parse().unwrap());
    let (mut stream, _) = connect_async(request).await.unwrap();
    let init = json!({ "type": "connection_init", "payload": { "token": neighbours.service.token() } });
    stream.send(Message::text(init.to_string())).await.unwrap();
    match stream.next().await.unwrap().unwrap() {
        Message::Text(text) => serde_json::from_str::<Value>(&text).unwrap()["type"].as_str().unwrap().to_owned(),
        Message::Close(Some(frame)) => format!("{} {}", u16::from(frame.code), frame.reason),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_socket_whose_upgrade_names_another_tenant_is_refused() {
    let neighbours = Neighbours::start().await;
    assert_eq!(upgrade(&neighbours, &neighbours.b.id.to_string()).await, "connection_ack");
    for other in [&neighbours.a.id.to_string(), &Form::Id.phantoms()[0], "nonsense"] {
        assert_eq!(upgrade(&neighbours, other).await, "4403 tenant_mismatch", "{other}");
    }
}

#[tokio::test]
async fn an_idempotency_key_of_another_tenant_is_a_new_key() {
    let neighbours = Neighbours::start().await;
    let send = async |key: &str, id: String| {
        let query = "mutation($id: ID!) { updateTenant(input: {id: $id}) { tenant { id } } }";
        let answer = neighbours.service.graphql_once(key, query, json!({ "id": id })).await;
        neighbours.nothing_of_a_in(&answer.text, &id);
        told(&answer, &id)
    };
    let (own, other) = (neighbours.b.id.to_string(), neighbours.a.id.to_string());
    assert_eq!(
        send("annexed-keys-3", other.clone()).await,
        send("nobodys-key-3", Form::Id.phantoms()[0].clone()).await
    );
    let first = send("annexed-keys-3", own.clone()).await;
    assert_eq!(first["body"]["data"]["updateTenant"]["tenant"]["id"], json!("<sent>"));
    assert_eq!(send("nobodys-key-7", own).await, first);
}
