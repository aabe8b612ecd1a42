//! Servers that are slow, talk nonsense or too much: they cost the sign-ins of their own tenant, for a while, and nobody else's.

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::json;
use tenantry::error::Kind;

use super::{
    app, configure, hasty, input, permit, refused,
    servers::{Manner, Server},
    service, sign_in, tenant_of,
};
use crate::support::{
    TestApp,
    slapd::{Authority, Slapd},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_hangs_costs_its_own_tenant_alone() {
    let (app, authority) = (hasty().await, Authority::new("suite"));
    let (slapd, hanging) = (Slapd::start(&authority), Server::start(Manner::Hang).await);
    let (tenant, _) = tenant_of(&app, "quick", &slapd, &authority).await;
    let slow = app.tenant("slow").await;
    let client = service(&app, &slow).await;
    configure(&client, input(&[hanging.ldaps()], &authority, json!({}))).await;
    sign_in(&app, &tenant, "bob", "of-bob").await.unwrap();
    let began = Instant::now();
    let waiting = join_all((0..40).map(|_| refused(&app, &slow, "ada", "of-ada")));
    let quick = async {
        let mut longest = Duration::ZERO;
        for _ in 0..10 {
            let began = Instant::now();
            sign_in(&app, &tenant, "bob", "of-bob").await.unwrap();
            longest = longest.max(began.elapsed());
        }
        longest
    };
    let (refused_all, longest) = tokio::join!(waiting, quick);
    println!("beside 40 sign-ins that hang ({:?} in all), another tenant's takes at most {longest:?}", began.elapsed());
    assert!(refused_all.iter().all(|kind| *kind == Kind::Unavailable));
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    assert!(hanging.connections() <= 4, "{} were let through", hanging.connections());
    // It rests now: nobody waits.
    let (before, began) = (hanging.connections(), Instant::now());
    assert_eq!(refused(&app, &slow, "ada", "of-ada").await, Kind::Unavailable);
    assert!(began.elapsed() < Duration::from_millis(500) && hanging.connections() == before);
    app.advance(chrono::TimeDelta::seconds(31));
    assert_eq!(refused(&app, &slow, "ada", "of-ada").await, Kind::Unavailable);
    assert_eq!(hanging.connections(), before + 1, "one is tried again");
}

/// What is no LDAP, or not what was asked for, or would take a careless reader's memory or stack.
fn nonsense() -> Vec<(&'static str, Vec<u8>)> {
    let mut deep = Vec::new();
    for _ in 0..40_000 {
        let length = (deep.len() as u32).to_be_bytes();
        deep.splice(0..0, [&[0x30, 0x84][..], &length].concat());
    }
    vec![
        ("HTTP", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        ("zeroes", vec![0; 100]),
        ("a length of 4 GiB", vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]),
        ("no definite length", vec![0x30, 0x80, 2, 1, 1, 0, 0]),
        ("a message without content", vec![0x30, 0]),
        ("a bind response that is empty", vec![0x30, 5, 2, 1, 1, 0x61, 0]),
        ("a bind response without texts", vec![0x30, 8, 2, 1, 1, 0x61, 3, 0x0a, 1, 0]),
        ("text that is not UTF-8", vec![0x30, 0x0e, 2, 1, 1, 0x61, 9, 0x0a, 1, 0, 4, 1, 0xff, 4, 1, 0xff]),
        ("an answer to another question", vec![0x30, 0x0c, 2, 1, 9, 0x61, 7, 0x0a, 1, 0, 4, 0, 4, 0]),
        ("an answer of another kind", vec![0x30, 0x0c, 2, 1, 1, 0x65, 7, 0x0a, 1, 0, 4, 0, 4, 0]),
        ("an entry in place of a result", vec![0x30, 9, 2, 1, 1, 0x64, 4, 4, 0, 0x30, 0]),
        ("a number of no message", vec![0x30, 0x0d, 2, 2, 0xff, 0xff, 0x61, 7, 0x0a, 1, 0, 4, 0, 4, 0]),
        ("controls that are none", vec![0x30, 0x10, 2, 1, 1, 0x61, 7, 0x0a, 1, 0, 4, 0, 4, 0, 0xa0, 2, 4, 0]),
        ("elements deep in each other", deep),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_is_an_error_at_once_and_harms_nobody() {
    let (app, authority) = (hasty().await, Authority::new("suite"));
    let tenant = app.tenant("nonsense").await;
    let client = service(&app, &tenant).await;
    permit(&app, &tenant, true, false).await;
    for (what, answer) in nonsense() {
        let server = Server::start(Manner::Say(answer)).await;
        for input in [
            input(&[server.ldap()], &authority, json!({ "startTls": false })), // to the bind
            input(&[server.ldap()], &authority, json!({})),                    // to StartTLS
            input(&[server.ldaps()], &authority, json!({})),                   // to TLS
        ] {
            configure(&client, input).await;
            assert_eq!(refused(&app, &tenant, "ada", "of-ada").await, Kind::Unavailable, "{what}");
        }
        assert_eq!(server.connections(), 3, "{what}");
    }
    // The server that asked is as it was.
    let slapd = Slapd::start(&authority);
    configure(&client, input(&[slapd.ldaps()], &authority, json!({}))).await;
    sign_in(&app, &tenant, "ada", "of-ada").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_account_that_is_refused_is_no_reason_to_try_others() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let (first, second) = (Slapd::start(&authority), Server::start(Manner::Hang).await);
    let tenant = app.tenant("refused").await;
    let client = service(&app, &tenant).await;
    let wrong = json!({ "bindSecret": "another" });
    configure(&client, input(&[first.ldaps(), second.ldaps()], &authority, wrong)).await;
    for _ in 0..5 {
        assert_eq!(refused(&app, &tenant, "ada", "of-ada").await, Kind::Unavailable);
    }
    assert_eq!(second.connections(), 0, "a wrong secret is not shown around");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_at_addresses_that_are_not_public_are_never_connected_to() {
    // Nothing is allowed here.
    let (app, authority) = (TestApp::start().await, Authority::new("suite"));
    let tenant = app.tenant("inside").await;
    let client = service(&app, &tenant).await;
    let inside = Server::start(Manner::Hang).await;
    let port = inside.address.port();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "10.0.0.1",
        "192.168.1.1",
        "172.20.0.1",
        "169.254.169.254",
        "100.100.100.200",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[64:ff9b::7f00:1]",
    ] {
        let sent = input(&[format!("ldaps://{host}:{port}")], &authority, json!({}));
        let answer = client.graphql(super::CONFIGURE, json!({ "input": sent })).await;
        let error = &answer.body["errors"][0];
        assert_eq!(
            (answer.code(), &error["extensions"]["field"]),
            ("invalid_input", &json!("servers.0")),
            "{host} {}",
            answer.text
        );
    }
    // A name says where it leads when it is used.
    configure(&client, input(&[format!("ldaps://localhost:{port}")], &authority, json!({}))).await;
    assert_eq!(refused(&app, &tenant, "ada", "of-ada").await, Kind::Unavailable);
    let told = super::steps(&super::test(&client, None).await);
    assert!(told.len() == 1 && told[0].starts_with("NAME_LOOKUP the server's address is private"), "{told:?}");
    assert_eq!(inside.connections(), 0);
}
