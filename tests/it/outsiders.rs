//! Clients that nobody here wrote: npm's `graphql-ws`, graphql-http's audit of servers, GraphiQL in a real browser.

use std::process::Command;

use crate::support::TestApp;

/// What the audit may find: only the three MAYs about documents in URLs, which are refused by design.
const REFUSED_MAYS: i64 = 3;

/// Runs a script of this repository against a fresh server, with an operator's token.
async fn run(script: &str) -> (Option<i32>, String) {
    let app = TestApp::start().await;
    let (base, token) = (app.url(""), app.operator_token(tenantry::access::Role::Admin).await);
    let script = format!("{}/{script}", env!("CARGO_MANIFEST_DIR"));
    let output =
        tokio::task::spawn_blocking(move || Command::new("node").args([script, base, token]).output()).await.unwrap();
    let output = output.expect("node is installed: see scripts/bootstrap.sh");
    (
        output.status.code(),
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
    )
}

#[tokio::test]
async fn the_audit_of_graphql_over_http_finds_every_must_and_should_kept() {
    let (code, output) = run("tests/clients/audit.mjs").await;
    println!("{output}");
    assert_eq!(code, Some(0), "{output}");
    let counts: serde_json::Value = output.lines().rev().find_map(|line| serde_json::from_str(line).ok()).unwrap();
    let count = |name: &str| counts[name].as_i64().unwrap();
    assert_eq!((count("error"), count("warn"), count("notice")), (0, 0, REFUSED_MAYS), "{output}");
    assert!(count("ok") >= 57, "{output}");
}

#[tokio::test]
async fn the_stock_websocket_client_follows_events() {
    let (code, output) = run("tests/clients/subscribe.mjs").await;
    assert_eq!(code, Some(0), "{output}");
}

/// Where there is no Chromium the script says 77, and this is said here; CI installs one.
#[tokio::test]
async fn graphiql_works_in_a_browser_without_any_other_host() {
    let (code, output) = run("console/check.mjs").await;
    if code == Some(77) {
        println!("not tried: {output}");
        return;
    }
    assert_eq!(code, Some(0), "{output}");
}
