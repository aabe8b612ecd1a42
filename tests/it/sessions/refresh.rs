//! Refresh tokens work once.

use chrono::TimeDelta;
use futures::future::join_all;
use serde_json::json;

use super::{at, member, refresh, signed, status, try_refresh};
use crate::support::TestApp;

#[tokio::test]
async fn a_token_that_was_used_ends_the_session() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let anna = member(&app, &acme, "anna@example.com", &["viewer"]).await;
    let next = refresh(&app, &acme, &anna.refresh_token).await;
    assert_ne!(next.refresh_token, anna.refresh_token);
    assert_eq!((next.session.as_str(), status(&next.client).await), (anna.session.as_str(), 200));
    app.advance(TimeDelta::seconds(10));
    assert_eq!(try_refresh(&app, &anna.refresh_token).await.code(), "unauthenticated");
    assert_eq!(
        try_refresh(&app, &next.refresh_token).await.code(),
        "unauthenticated",
        "whoever has the newest is out, too"
    );
    assert_eq!(status(&next.client).await, 401);
    let audit = "{ audit(first: 20) { edges { node { event after } } } }";
    let entries = app.full_service(&acme).await.ok(audit, json!({})).await["audit"]["edges"].to_string();
    assert!(entries.contains("SessionEnded") && entries.contains("TOKEN_REUSED"), "{entries}");
}

#[tokio::test]
async fn an_answer_that_was_lost_is_given_again_and_begins_no_second_line() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let anna = member(&app, &acme, "anna@example.com", &["viewer"]).await;
    let first = refresh(&app, &acme, &anna.refresh_token).await;
    let again = refresh(&app, &acme, &anna.refresh_token).await;
    assert_eq!(first.refresh_token, again.refresh_token, "there is one token that is good");
    // Once that one is used, the one before is no longer answered: at once, not after its seconds.
    let second = refresh(&app, &acme, &first.refresh_token).await;
    assert_eq!(try_refresh(&app, &anna.refresh_token).await.code(), "unauthenticated");
    assert_eq!(try_refresh(&app, &second.refresh_token).await.code(), "unauthenticated");
}

/// A thief who is quick enough to be answered as well holds what the client holds: the session ends when both have used it.
#[tokio::test]
async fn a_thief_within_the_seconds_is_noticed_at_the_next_refresh() {
    for thief_is_first in [true, false] {
        let app = TestApp::start().await;
        let acme = app.tenant("acme").await;
        let anna = member(&app, &acme, "anna@example.com", &["viewer"]).await;
        let (client, thief) =
            (refresh(&app, &acme, &anna.refresh_token).await, refresh(&app, &acme, &anna.refresh_token).await);
        let (one, other) = if thief_is_first { (thief, client) } else { (client, thief) };
        app.advance(TimeDelta::minutes(10));
        let last = refresh(&app, &acme, &one.refresh_token).await;
        app.advance(TimeDelta::minutes(1));
        assert_eq!(try_refresh(&app, &other.refresh_token).await.code(), "unauthenticated");
        assert_eq!((status(&last.client).await, status(&other.client).await), (401, 401));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_that_are_asked_at_once_give_one_next_token() {
    let first = TestApp::start().await;
    let second = first.replica("").await;
    let acme = first.tenant("acme").await;
    let mut anna = member(&first, &acme, "anna@example.com", &["viewer"]).await;
    for _ in 0..5 {
        let asked = (0..8).map(|index| try_refresh(if index % 2 == 0 { &first } else { &second }, &anna.refresh_token));
        let answers = join_all(asked).await;
        let mut tokens: Vec<_> = answers
            .iter()
            .map(|answer| answer.data()["refreshSession"]["tokens"]["refreshToken"].as_str().unwrap().to_owned())
            .collect();
        tokens.dedup();
        assert_eq!(tokens.len(), 1);
        anna = signed(&first, &acme, &answers[0].data()["refreshSession"]);
        assert_eq!(status(&at(&anna, &second, &acme)).await, 200);
    }
}

#[tokio::test]
async fn what_is_no_refresh_token_is_worth_nothing_and_harms_nobody() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let anna = member(&app, &acme, "anna@example.com", &["viewer"]).await;
    let mut forged = anna.refresh_token.clone().into_bytes();
    let last = forged.len() - 10;
    forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();
    for token in ["", "x", &forged, anna.client.token().unwrap()] {
        assert_eq!(try_refresh(&app, token).await.code(), "unauthenticated");
    }
    // It is no bearer token either.
    assert_eq!(status(&anna.client.with_token(&anna.refresh_token)).await, 401);
    refresh(&app, &acme, &anna.refresh_token).await;
}
