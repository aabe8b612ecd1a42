//! Passwords: what may be one, and who sets it.

use serde_json::json;

use super::{ACCEPT, DEACTIVATE, invite, join, refused};
use crate::support::TestApp;

const LINK: &str = "mutation($input: MemberActionInput!) { makePasswordLink(input: $input) { token } }";
const RESET: &str = "mutation($input: ResetPasswordInput!) { resetPassword(input: $input) { member { id version } } }";
const CHANGE: &str = "mutation($input: ChangePasswordInput!) { changePassword(input: $input) { member { id } } }";

#[tokio::test]
async fn a_password_is_long_and_none_that_was_stolen() {
    // Of `password1234` and of a longer one.
    let list = std::env::temp_dir().join(format!("tenantry-it-breached-{}", std::process::id()));
    let stolen = ["password1234", "correct horse battery staple"];
    let sha1 = |text: &str| {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<String>()
    };
    let mut lines = stolen.map(|text| format!("{}:3\r\n", sha1(text)));
    lines.sort();
    std::fs::write(&list, lines.concat()).unwrap();
    let app = TestApp::with(&format!("members.breached_passwords = \"{}\"", list.display())).await;
    let acme = app.tenant("acme").await;
    let service = app.full_service(&acme).await;
    let token = invite(&service, "anna@example.com", &["viewer"]).await.token;
    let accept = |password: &str| json!({ "token": token, "password": password });
    for password in
        ["", "elevenchars", "twelve\0chars", &"x".repeat(257), "password1234", "correct horse battery staple"]
    {
        let (code, field) = refused(&app.anonymous(), ACCEPT, accept(password)).await;
        assert_eq!((code.as_str(), field), ("invalid_input", json!("password")), "{password:?}");
    }
    // No rule of composition, and the link was not used up by what was refused.
    app.anonymous().ok(ACCEPT, json!({ "input": accept("aaaaaaaaaaaa") })).await;
    std::fs::remove_file(list).unwrap();
}

#[tokio::test]
async fn an_administrators_link_sets_a_password_once() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let (service, nobody) = (app.full_service(&acme).await, app.anonymous());
    let anna = join(&app, &service, "anna@example.com", &["viewer"]).await;
    // Tokens of services do not live as long as links.
    let make = async || {
        let service = app.full_service(&acme).await;
        let made = service.ok(LINK, json!({ "input": { "id": anna } })).await;
        made["makePasswordLink"]["token"].as_str().unwrap().to_owned()
    };
    let reset = |token: &str| json!({ "token": token, "password": "another sentence" });
    let (first, second) = (make().await, make().await);
    assert_eq!(refused(&nobody, RESET, reset(&first)).await, ("not_found".to_owned(), json!("token")));
    nobody.ok(RESET, json!({ "input": reset(&second) })).await;
    assert_eq!(refused(&nobody, RESET, reset(&second)).await.0, "not_found");
    // A link is good for what it was made for.
    let invitation = invite(&service, "ben@example.com", &["viewer"]).await.token;
    assert_eq!(refused(&nobody, RESET, reset(&invitation)).await.0, "not_found");
    let third = make().await;
    let accept = json!({ "token": third, "password": "another sentence" });
    assert_eq!(refused(&nobody, ACCEPT, accept).await.0, "not_found");
    app.advance(chrono::TimeDelta::hours(1));
    assert_eq!(refused(&nobody, RESET, reset(&third)).await.0, "not_found");
    let fourth = make().await;
    let service = app.full_service(&acme).await;
    service.ok(DEACTIVATE, json!({ "input": { "id": anna } })).await;
    assert_eq!(refused(&nobody, RESET, reset(&fourth)).await.0, "not_found");
    assert_eq!(refused(&service, LINK, json!({ "id": anna })).await.0, "conflict");
}

#[tokio::test]
async fn services_have_no_password() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let service = app.full_service(&acme).await;
    let input = json!({ "currentPassword": "x", "newPassword": "another sentence" });
    assert_eq!(refused(&service, CHANGE, input.clone()).await.0, "forbidden");
    assert_eq!(refused(&app.admin().await, CHANGE, input).await.0, "forbidden");
}
