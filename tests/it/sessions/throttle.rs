//! Guessing is slow, and nobody is locked out by others.

use chrono::TimeDelta;
use futures::future::join_all;
use serde_json::json;

use super::{SIGN_IN, member};
use crate::{
    members::{PASSWORD, join},
    support::{Answer, TestApp},
};

/// From an address of one's own: this server trusts what the suite says of where it comes from.
async fn from(app: &TestApp, address: &str, email: &str, password: &str) -> Answer {
    let nobody = app.anonymous();
    let input = json!({ "tenant": "acme", "email": email, "password": password });
    let body = json!({ "query": SIGN_IN, "variables": { "input": input } });
    nobody.send(nobody.post("/graphql").header("x-forwarded-for", address).json(&body)).await
}

async fn start() -> TestApp {
    TestApp::with("server.trusted_proxies = [\"127.0.0.1/32\"]").await
}

#[tokio::test]
async fn who_guesses_has_to_wait_longer_and_longer() {
    let app = start().await;
    let acme = app.tenant("acme").await;
    join(&app, &app.full_service(&acme).await, "anna@example.com", &["viewer"]).await;
    for _ in 0..6 {
        assert_eq!(from(&app, "198.51.100.1", "anna@example.com", "wrong").await.code(), "unauthenticated");
    }
    // From then on each failure doubles the wait, from one second on.
    for waited in [1, 2, 4] {
        app.advance(TimeDelta::seconds(waited));
        assert_eq!(from(&app, "198.51.100.1", "anna@example.com", "wrong").await.code(), "unauthenticated");
    }
    for expected in [8, 16, 32] {
        let limited = from(&app, "198.51.100.1", "anna@example.com", PASSWORD).await;
        assert_eq!(limited.code(), "rate_limited", "{}", limited.text);
        let wait = limited.body["errors"][0]["extensions"]["details"]["retryAfterSeconds"].as_i64().unwrap();
        assert!((expected - 3..=expected).contains(&wait), "{wait} of {expected}");
        app.advance(TimeDelta::seconds(wait));
        assert_eq!(from(&app, "198.51.100.1", "anna@example.com", "wrong").await.code(), "unauthenticated");
    }
    // What nobody tried for an hour is forgotten.
    app.advance(TimeDelta::hours(1));
    assert_eq!(from(&app, "198.51.100.1", "anna@example.com", PASSWORD).await.code(), "none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_guesses_at_once_are_no_more_than_one_after_the_other() {
    let first = start().await;
    let second = first.replica("server.trusted_proxies = [\"127.0.0.1/32\"]").await;
    let acme = first.tenant("acme").await;
    join(&first, &first.full_service(&acme).await, "anna@example.com", &["viewer"]).await;
    let tries = (0..40)
        .map(|index| from(if index % 2 == 0 { &first } else { &second }, "198.51.100.1", "anna@example.com", "wrong"));
    let answers = join_all(tries).await;
    let looked_at = answers.iter().filter(|answer| answer.code() == "unauthenticated").count();
    assert!((6..=9).contains(&looked_at), "{looked_at} of 40 guesses were looked at");
}

#[tokio::test]
async fn whatever_strangers_do_the_member_comes_in_from_where_it_is_known() {
    let app = start().await;
    let acme = app.tenant("acme").await;
    join(&app, &app.full_service(&acme).await, "anna@example.com", &["viewer"]).await;
    assert_eq!(from(&app, "192.0.2.1", "anna@example.com", PASSWORD).await.code(), "none");
    // From many addresses, so that the account itself is slowed down.
    for index in 0..26 {
        app.advance(TimeDelta::minutes(1));
        from(&app, &format!("198.51.100.{index}"), "anna@example.com", "wrong").await;
    }
    assert_eq!(from(&app, "198.51.100.99", "anna@example.com", PASSWORD).await.code(), "rate_limited");
    assert_eq!(from(&app, "192.0.2.1", "anna@example.com", PASSWORD).await.code(), "none");
    // Somebody else at the same address slows it down by two seconds at most.
    for _ in 0..30 {
        from(&app, "192.0.2.1", "anna@example.com", "wrong").await;
        app.advance(TimeDelta::seconds(2));
    }
    assert_eq!(from(&app, "192.0.2.1", "anna@example.com", PASSWORD).await.code(), "none");
}

#[tokio::test]
async fn one_address_does_not_try_all_accounts() {
    let app = start().await;
    let acme = app.tenant("acme").await;
    member(&app, &acme, "anna@example.com", &["viewer"]).await;
    let mut refused = 0;
    for index in 0..60 {
        let answer = from(&app, "198.51.100.1", &format!("nobody-{index}@example.com"), "wrong").await;
        refused += usize::from(answer.code() == "rate_limited");
    }
    assert!(refused >= 3, "{refused} of 60");
    assert_eq!(from(&app, "198.51.100.2", "anna@example.com", PASSWORD).await.code(), "none", "from elsewhere");
}

#[tokio::test]
async fn accounts_and_tenants_that_there_are_not_are_slowed_down_alike() {
    let app = start().await;
    let acme = app.tenant("acme").await;
    join(&app, &app.full_service(&acme).await, "anna@example.com", &["viewer"]).await;
    for (email, tenant) in
        [("anna@example.com", "acme"), ("nobody@example.com", "acme"), ("anna@example.com", "nowhere")]
    {
        let ask = async || {
            let nobody = app.anonymous();
            let input = json!({ "tenant": tenant, "email": email, "password": "wrong" });
            let body = json!({ "query": SIGN_IN, "variables": { "input": input } });
            nobody.send(nobody.post("/graphql").header("x-forwarded-for", "203.0.113.9").json(&body)).await
        };
        for waited in [0, 0, 0, 0, 0, 0, 1, 2, 4, 8] {
            app.advance(TimeDelta::seconds(waited));
            assert_eq!(ask().await.code(), "unauthenticated", "{tenant} {email}");
        }
        assert_eq!(ask().await.code(), "rate_limited", "{tenant} {email}");
    }
}
