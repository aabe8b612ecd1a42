//! How fast a tenant may ask, and how much at once.

mod check;
mod concurrency;
mod replicas;

use chrono::TimeDelta;
use reqwest::header::HeaderMap;
use serde_json::json;
use tenantry::{
    isolation::{Conditions, TenantScope},
    quotas::NewOverride,
};

use crate::support::{Answer, Client, Received, Tenant, TestApp};

const VIEWER: &str = "{ viewer { subject } }";

async fn limit(app: &TestApp, tenant: &Tenant, key: &str, limit: i64) {
    let wanted = NewOverride {
        key: key.to_owned(),
        limit: Some(limit),
        enforcement: None,
        grace_percent: None,
        expires_at: None,
        reason: "a test".to_owned(),
    };
    let scope = TenantScope::system("test", tenant.id);
    app.app.quotas.set(&scope, wanted, &Conditions::default()).await.unwrap();
}

async fn ask(client: &Client) -> Answer {
    client.graphql(VIEWER, json!({})).await
}

/// Until one is refused; each limit of these tests is reached well before.
async fn exhaust(client: &Client) -> Answer {
    for _ in 0..50 {
        let answer = ask(client).await;
        if answer.status != 200 {
            return answer;
        }
    }
    panic!("no request was refused");
}

/// A field with a list of strings that have whole numbers as parameters (RFC 9651, sections 3.1 and 4.2); one item.
fn item(headers: &HeaderMap, name: &str) -> (String, Vec<(String, i64)>) {
    let text = headers[name].to_str().unwrap();
    let mut parts = text.split(';');
    let value = parts.next().unwrap().strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap();
    assert!(value.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\'), "{text}");
    let parameters = parts.map(|part| {
        let (key, number) = part.trim_start_matches(' ').split_once('=').unwrap();
        assert!(key.bytes().all(|byte| byte.is_ascii_lowercase()), "{text}");
        assert!(number.len() <= 15 && number.bytes().all(|byte| byte.is_ascii_digit()), "{text}");
        (key.to_owned(), number.parse().unwrap())
    });
    (value.to_owned(), parameters.collect())
}

fn parameters(list: &[(&str, i64)]) -> Vec<(String, i64)> {
    list.iter().map(|(key, number)| ((*key).to_owned(), *number)).collect()
}

#[tokio::test]
async fn a_service_over_its_rate_is_refused_told_when_to_come_back_and_let_in_then() {
    let app = TestApp::start().await;
    let tenant = app.tenant("hasty").await;
    let service = app.full_service(&tenant).await;
    limit(&app, &tenant, "requests_per_second", 2).await;
    let first = ask(&service).await;
    assert_eq!(first.status, 200);
    let policy = ("requests_per_second".to_owned(), parameters(&[("q", 2), ("w", 1)]));
    assert_eq!(item(&first.headers, "ratelimit-policy"), policy);
    assert_eq!(
        item(&first.headers, "ratelimit"),
        ("requests_per_second".to_owned(), parameters(&[("r", 1), ("t", 1)]))
    );
    assert!(!first.headers.contains_key("retry-after"));

    let refused = exhaust(&service).await;
    assert_eq!((refused.status, refused.code()), (429, "rate_limited"));
    let extensions = &refused.body["errors"][0]["extensions"];
    assert_eq!(extensions["retryable"], json!(true));
    assert_eq!(
        (&extensions["details"]["key"], &extensions["details"]["limit"]),
        (&json!("requests_per_second"), &json!(2))
    );
    assert_eq!(item(&refused.headers, "ratelimit-policy"), policy);
    assert_eq!(
        item(&refused.headers, "ratelimit"),
        ("requests_per_second".to_owned(), parameters(&[("r", 0), ("t", 1)]))
    );
    assert_eq!(refused.headers["retry-after"], "1");

    app.advance(TimeDelta::seconds(1));
    assert_eq!(ask(&service).await.status, 200);
}

#[tokio::test]
async fn a_refusal_is_429_in_both_media_types_and_before_the_document_is_read() {
    let app = TestApp::start().await;
    let tenant = app.tenant("typed").await;
    let service = app.full_service(&tenant).await;
    limit(&app, &tenant, "requests_per_second", 1).await;
    exhaust(&service).await;
    for accept in ["application/json", "application/graphql-response+json"] {
        let request = service.post("/graphql").header("accept", accept).header("content-type", "application/json");
        let answer = service.send(request.body("no json")).await;
        assert_eq!((answer.status, answer.code()), (429, "rate_limited"), "{accept}");
        assert!(answer.headers["content-type"].to_str().unwrap().starts_with(accept));
        app.advance(TimeDelta::milliseconds(-1)); // nothing comes back in between
    }
}

#[tokio::test]
async fn who_has_no_limit_is_told_of_none_and_operators_have_none() {
    let app = TestApp::start().await;
    let (free, held) = (app.tenant("free").await, app.tenant("held").await);
    let answer = ask(&app.full_service(&free).await).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.headers.contains_key("ratelimit") && !answer.headers.contains_key("ratelimit-policy"));

    limit(&app, &held, "requests_per_second", 0).await;
    limit(&app, &held, "concurrent_requests", 0).await;
    let admin = app.admin().await;
    for _ in 0..20 {
        let answer = admin.graphql("query($id: ID) { tenant(id: $id) { slug } }", json!({ "id": held.id })).await;
        assert_eq!((answer.status, &answer.data()["tenant"]["slug"]), (200, &json!("held")));
        assert!(!answer.headers.contains_key("ratelimit"));
    }
    let refused = ask(&app.full_service(&held).await).await;
    assert_eq!((refused.status, refused.code()), (429, "rate_limited"));
    assert_eq!(refused.headers["retry-after"], "1");
}

#[tokio::test]
async fn a_noisy_tenant_is_refused_and_a_quiet_one_is_not() {
    let app = TestApp::start().await;
    let (noisy, quiet) = (app.tenant("noisy").await, app.tenant("quiet").await);
    for tenant in [&noisy, &quiet] {
        limit(&app, tenant, "requests_per_second", 20).await;
    }
    let (loud, calm) = (app.full_service(&noisy).await, app.full_service(&quiet).await);
    let mut refused = 0;
    for round in 0..10 {
        let answers = futures::future::join_all((0..40).map(|_| ask(&loud))).await;
        refused += answers.iter().filter(|answer| answer.status == 429).count();
        assert_eq!(ask(&calm).await.status, 200, "{round}");
    }
    assert!(refused >= 100, "{refused} of 400 were refused");
}

#[tokio::test]
async fn a_token_that_is_worth_nothing_any_more_takes_nothing_from_its_tenant() {
    let app = TestApp::start().await;
    let tenant = app.tenant("renewed").await;
    let old = app.full_service(&tenant).await;
    let admin = app.admin().await;
    for change in ["suspendTenant(input: {id: $id, reason: SECURITY, mode: HARD})", "resumeTenant(input: {id: $id})"] {
        admin
            .ok(&format!("mutation($id: ID!) {{ {change} {{ tenant {{ status }} }} }}"), json!({ "id": tenant.id }))
            .await;
    }
    limit(&app, &tenant, "requests_per_second", 1).await;
    for _ in 0..5 {
        assert_eq!(ask(&old).await.code(), "unauthenticated");
    }
    assert_eq!(ask(&app.full_service(&tenant).await).await.status, 200);
}

#[tokio::test]
async fn a_limit_that_is_raised_holds_from_the_next_request_on() {
    let app = TestApp::start().await;
    let tenant = app.tenant("raised").await;
    let service = app.full_service(&tenant).await;
    limit(&app, &tenant, "requests_per_second", 1).await;
    exhaust(&service).await;
    limit(&app, &tenant, "requests_per_second", 1000).await;
    assert_eq!(ask(&service).await.status, 200);
}

#[tokio::test]
async fn operations_on_a_socket_are_held_to_the_same_rate() {
    let app = TestApp::start().await;
    let tenant = app.tenant("socketed").await;
    let service = app.full_service(&tenant).await;
    limit(&app, &tenant, "requests_per_second", 1).await;
    let mut socket = app.socket(&service).await;
    let mut codes = Vec::new();
    for number in 0..3 {
        socket.subscribe(&number.to_string(), VIEWER, json!({})).await;
        loop {
            let Received::Message(message) = socket.next().await else { panic!("closed") };
            match message["type"].as_str() {
                Some("complete") => break codes.push("none".to_owned()),
                Some("error") => {
                    break codes.push(message["payload"][0]["extensions"]["code"].as_str().unwrap().to_owned());
                }
                _ => {}
            }
        }
    }
    assert_eq!(codes, ["none", "rate_limited", "rate_limited"]);
}
