//! Everything that is not GraphQL: each path that a router in `src` names, with A's names in its path, query, headers and form.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    answer::{difference, told},
    neighbours::{Credentials, Form, Neighbours},
};
use crate::support::Answer;

/// Every path that stands in `.route("…")`, and the well-known ones.
fn paths() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = BTreeSet::new();
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") && !path.iter().any(|part| part == "tests") {
                let code = std::fs::read_to_string(&path).unwrap();
                let code = code.split("#[cfg(test)]").next().unwrap();
                for part in code.split(".route(").skip(1) {
                    let literal = part.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
                    paths.extend(literal.map(str::to_owned));
                }
                let known =
                    code.split('"').filter(|text| text.starts_with("/.well-known/") && !text.contains(['{', ' ']));
                paths.extend(known.map(str::to_owned));
            }
        }
    }
    paths
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_path_tells_a_tenant_anything_of_another() {
    let neighbours = Neighbours::start().await;
    let (paths, mut count) = (paths(), 0);
    assert!(paths.len() >= 9 && paths.contains("/graphql") && paths.contains("/oauth/token"), "{paths:?}");
    for path in &paths {
        for method in [Method::GET, Method::POST] {
            for form in Form::ALL {
                let [first, second] = form.phantoms();
                let (first, second) =
                    (ask(&neighbours, &method, path, &first).await, ask(&neighbours, &method, path, &second).await);
                for name in neighbours.names.iter().filter(|name| name.form == form) {
                    let foreign = ask(&neighbours, &method, path, &name.text).await;
                    let found = difference(&foreign, [&first, &second]);
                    assert!(found.is_none(), "{method} {path} tells B of A's {}: answer{}", name.what, found.unwrap());
                    count += 1;
                }
            }
        }
    }
    println!("paths: {}, {count} comparisons", paths.len());
    assert!(count >= 200, "{count}");
}

/// The name wherever a request can carry one at once: in the path's holes, the query, the form.
async fn ask(neighbours: &Neighbours, method: &Method, path: &str, text: &str) -> Value {
    let holes: Vec<_> = path.split('/').map(|part| if part.starts_with('{') { text } else { part }).collect();
    let members = ["id", "tenant", "tenantId", "tenant_id", "slug", "client_id", "token"]
        .map(|key| format!("{key}={text}"))
        .join("&");
    let request = neighbours.service.request(method.clone(), &format!("{}?{members}", holes.join("/")));
    let request = request
        .header("content-type", "application/x-www-form-urlencoded")
        .header("cookie", format!("tenant={text}"))
        .body(members);
    let answer = neighbours.service.send(request).await;
    neighbours.nothing_of_a_in(&answer.text, text);
    match path {
        // Counts of everything: only its names are looked at.
        "/metrics" => json!(answer.status),
        _ => told(&answer, text),
    }
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// A form, from a client that proves itself by the header.
async fn post(
    neighbours: &Neighbours,
    path: &str,
    proof: Option<&Credentials>,
    form: &BTreeMap<&str, String>,
) -> Answer {
    let body: Vec<_> = form.iter().map(|(key, value)| format!("{key}={}", escaped(value))).collect();
    let mut request = neighbours
        .b_machine
        .post(path)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body.join("&"));
    if let Some(proof) = proof {
        request = request
            .header("authorization", format!("Basic {}", STANDARD.encode(format!("{}:{}", proof.id, proof.secret))));
    }
    neighbours.b_machine.send(request).await
}

const PARAMETERS: [&str; 8] =
    ["client_assertion", "client_id", "client_secret", "grant_type", "resource", "scope", "tenant_id", "token"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_form_tells_a_client_anything_of_another_tenant() {
    let neighbours = Neighbours::start().await;
    let mut codes = BTreeMap::new();
    for path in paths().iter().filter(|path| path.starts_with("/oauth/")) {
        for parameter in PARAMETERS {
            // By the header, and by the form for what would be there twice.
            for by_header in [true, false] {
                let ask = async |text: &str| {
                    let mut form =
                        BTreeMap::from([("grant_type", "client_credentials".to_owned()), ("token", "none".to_owned())]);
                    if !by_header {
                        form.extend([
                            ("client_id", neighbours.b_client.id.clone()),
                            ("client_secret", neighbours.b_client.secret.clone()),
                        ]);
                    }
                    form.insert(parameter, text.to_owned());
                    let answer = post(&neighbours, path, by_header.then_some(&neighbours.b_client), &form).await;
                    neighbours.nothing_of_a_in(&answer.text, text);
                    (answer.status, told(&answer, text))
                };
                for form in Form::ALL {
                    let [first, second] = form.phantoms();
                    let (first, second) = (ask(&first).await.1, ask(&second).await.1);
                    for name in neighbours.names.iter().filter(|name| name.form == form) {
                        let (status, foreign) = ask(&name.text).await;
                        let found = difference(&foreign, [&first, &second]);
                        assert!(
                            found.is_none(),
                            "{path} tells B of A's {} in `{parameter}`: answer{}",
                            name.what,
                            found.unwrap()
                        );
                        *codes.entry(status).or_insert(0) += 1;
                    }
                }
            }
        }
    }
    println!("forms: {codes:?}");
    assert!(codes[&200] >= 50 && codes[&400] >= 50 && codes[&401] >= 20, "{codes:?}");
}

#[tokio::test]
async fn a_token_of_another_tenant_is_inactive_to_introspection_and_cannot_be_revoked() {
    let neighbours = Neighbours::start().await;
    let take = async |client: &Credentials| {
        let answer = post(
            &neighbours,
            "/oauth/token",
            Some(client),
            &BTreeMap::from([("grant_type", "client_credentials".to_owned())]),
        )
        .await;
        answer.body["access_token"].as_str().unwrap().to_owned()
    };
    let about = async |path: &str, client: &Credentials, token: &str| {
        let answer = post(&neighbours, path, Some(client), &BTreeMap::from([("token", token.to_owned())])).await;
        if client.id == neighbours.b_client.id {
            neighbours.nothing_of_a_in(&answer.text, "");
        }
        told(&answer, token)
    };
    let (a, b) = (&neighbours.a_client, &neighbours.b_client);
    let (own, foreign) = (take(b).await, take(a).await);
    let by_hand = neighbours.app.service_token(&neighbours.a, "auth:tenant:read").await;
    let operators = neighbours.admin.token().unwrap();

    let never = about("/oauth/introspect", b, "no.such.token").await;
    assert_eq!(never["body"], json!({ "active": false }));
    for token in [&foreign, &by_hand, operators] {
        assert_eq!(about("/oauth/introspect", b, token).await, never);
    }
    assert_eq!(about("/oauth/introspect", b, &own).await["body"]["active"], json!(true));
    assert_eq!(about("/oauth/introspect", a, &foreign).await["body"]["active"], json!(true));

    // A token that lives and is another's is refused (RFC 7009, section 2.1), whoever the other is. Who can send it could use
    // it, so the refusal tells nothing new; what is no token is answered as revoked.
    let refused = about("/oauth/revoke", b, &foreign).await;
    assert_eq!((&refused["status"], &refused["body"]["error"]), (&json!(400), &json!("invalid_grant")));
    for token in [&by_hand, operators] {
        assert_eq!(about("/oauth/revoke", b, token).await, refused);
    }
    for token in [&foreign, &by_hand] {
        assert_eq!(
            neighbours.a_service.with_token(token).ok("{ tenant { id } }", json!({})).await["tenant"]["id"],
            json!(neighbours.a.id)
        );
    }
    assert_eq!(about("/oauth/revoke", b, &own).await["status"], json!(200));
    assert_eq!(
        neighbours.service.with_token(&own).graphql("{ viewer { subject } }", json!({})).await.code(),
        "unauthenticated"
    );
}
