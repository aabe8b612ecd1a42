//! OpenFeature's Remote Evaluation Protocol, by hand and by OpenFeature's own SDKs.

use std::process::Command;

use serde_json::{Value, json};

use super::{SET, define, define_switch, set};
use crate::support::{Answer, Client, TestApp};

const ALL: &str = "/ofrep/v1/evaluate/flags";

async fn post(client: &Client, path: &str, body: impl Into<reqwest::Body>, tag: Option<&str>) -> Answer {
    let mut request = client.post(path).header("content-type", "application/json").body(body);
    if let Some(tag) = tag {
        request = request.header("if-none-match", tag);
    }
    client.send(request).await
}

async fn all(client: &Client, tag: Option<&str>) -> Answer {
    post(client, ALL, json!({ "context": { "targetingKey": "u1" } }).to_string(), tag).await
}

fn tag(answer: &Answer) -> String {
    answer.headers["etag"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn openfeatures_own_sdks_evaluate_flags() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    let austria = json!([{ "attribute": "country", "operator": "EQ", "values": ["AT"] }]);
    define_switch(
        &admin,
        "sdk-boolean",
        json!({ "rules": [{ "key": "austria", "value": true, "conditions": austria }] }),
    )
    .await;
    let flags = [
        ("string", "STRING", json!("hello")),
        ("number", "NUMBER", json!(2.5)),
        ("object", "JSON", json!({ "a": [1, "b"] })),
    ];
    for (name, kind, value) in &flags {
        define(&admin, json!({ "key": format!("sdk-{name}"), "type": kind, "defaultValue": value })).await;
    }
    let token = app.service_token(&acme, "auth:flag:read").await;
    let script = format!("{}/tests/clients/flags.mjs", env!("CARGO_MANIFEST_DIR"));
    let base = app.url("");
    let run = move || Command::new("node").args([script, base, token]).output();
    let output = tokio::task::spawn_blocking(run).await.unwrap().expect("node is installed: see scripts/bootstrap.sh");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    println!("{stdout}");
    let told: Value = serde_json::from_str(stdout.trim()).unwrap();
    let server = &told["server"];
    let boolean = &server["boolean"];
    assert_eq!(
        json!([boolean["value"], boolean["reason"], boolean["variant"], boolean["flagMetadata"]["rule"]]),
        json!([true, "TARGETING_MATCH", "on", "austria"])
    );
    for (name, _, value) in &flags {
        assert_eq!(json!([server[name]["value"], server[name]["reason"]]), json!([value, "STATIC"]), "{name}");
    }
    assert_eq!(json!([server["unknown"]["value"], server["unknown"]["errorCode"]]), json!([true, "FLAG_NOT_FOUND"]));
    assert_eq!(server["mismatch"]["errorCode"], json!("TYPE_MISMATCH"));
    let web = &told["web"];
    assert_eq!(
        json!([web["statuses"], web["first"]["value"], web["second"]["value"]]),
        json!([[200, 304, 304], true, true])
    );
    assert_eq!(web["string"]["value"], json!("hello"));
}

#[tokio::test]
async fn one_flag_is_answered_with_its_reason() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    define_switch(&admin, "beta", json!({})).await;
    set(&admin, &acme, "beta", json!(true)).await;
    let service = app.service(&acme, "auth:flag:read").await;
    let one = post(&service, &format!("{ALL}/beta"), "{}", None).await;
    assert_eq!((one.status, one.headers["cache-control"].to_str().unwrap()), (200, "no-store"));
    let metadata = one.body["metadata"].clone();
    let expected =
        json!({ "key": "beta", "value": true, "reason": "TARGETING_MATCH", "variant": "on", "metadata": metadata });
    assert_eq!(one.body, expected);
    assert!(metadata["version"].is_string());
    let unknown = post(&service, &format!("{ALL}/nope"), "{}", None).await;
    assert_eq!(
        (unknown.status, &unknown.body["errorCode"], &unknown.body["key"]),
        (404, &json!("FLAG_NOT_FOUND"), &json!("nope"))
    );
}

#[tokio::test]
async fn an_unchanged_answer_is_not_sent_again_and_a_changed_one_is() {
    let app = TestApp::start().await;
    let (acme, other, admin) = (app.tenant("acme").await, app.tenant("other").await, app.admin().await);
    define_switch(&admin, "beta", json!({})).await;
    let service = app.service(&acme, "auth:flag:read").await;
    let first = all(&service, None).await;
    assert_eq!((first.status, &first.body["flags"][0]["value"]), (200, &json!(false)), "{}", first.text);
    let known = tag(&first);
    let unchanged = all(&service, Some(&format!("\"x\", W/{known}"))).await;
    assert_eq!((unchanged.status, unchanged.text.as_str(), tag(&unchanged)), (304, "", known.clone()));
    // Another context, another tenant: another answer.
    let elsewhere = post(&service, ALL, "{}", Some(&known)).await;
    assert_eq!(elsewhere.status, 200);
    assert_eq!(all(&app.service(&other, "auth:flag:read").await, Some(&known)).await.status, 200);
    // A value that begins and ends by itself.
    let now = app.app.clock.now();
    let (start, end) = (now + chrono::TimeDelta::minutes(5), now + chrono::TimeDelta::minutes(10));
    let input = json!({ "key": "beta", "tenantId": acme.id, "value": true, "startsAt": start, "endsAt": end });
    admin.ok(SET, json!({ "input": input })).await;
    let mut known = known;
    for (minutes, expected) in [(0, false), (6, true), (5, false)] {
        app.advance(chrono::TimeDelta::minutes(minutes));
        let changed = all(&service, Some(&known)).await;
        assert_eq!((changed.status, &changed.body["flags"][0]["value"]), (200, &json!(expected)), "{}", changed.text);
        known = tag(&changed);
        assert_eq!(all(&service, Some(&known)).await.status, 304);
    }
    // What the registry says of the tenant counts, too.
    let label =
        "mutation($id: ID!) { updateTenant(input: {id: $id, labels: [{key: \"a\", value: \"b\"}]}) { tenant { id } } }";
    admin.ok(label, json!({ "id": acme.id })).await;
    assert_eq!(all(&service, Some(&known)).await.status, 200);
}

#[tokio::test]
async fn who_may_not_is_told_so() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    define_switch(&admin, "beta", json!({})).await;
    for path in [ALL.to_owned(), format!("{ALL}/beta")] {
        let stranger = post(&app.anonymous(), &path, "{}", None).await;
        assert_eq!((stranger.status, stranger.headers["www-authenticate"].to_str().unwrap()), (401, "Bearer"));
        let reader = post(&app.service(&acme, "auth:tenant:read").await, &path, "{}", None).await;
        assert_eq!((reader.status, &reader.body["errorCode"]), (403, &json!("GENERAL")), "{}", reader.text);
        let operator = post(&admin, &path, "{}", None).await;
        assert_eq!(
            (operator.status, &operator.body["errorCode"]),
            (400, &json!("INVALID_CONTEXT")),
            "{}",
            operator.text
        );
    }
    let service = app.service(&acme, "auth:flag:read").await;
    let suspend = "mutation($id: ID!, $mode: SuspensionMode!) { suspendTenant(input: {id: $id, mode: $mode, reason: BILLING}) { tenant { id } } }";
    admin.ok(suspend, json!({ "id": acme.id, "mode": "GRACEFUL" })).await;
    assert_eq!(all(&service, None).await.status, 200, "reads go on");
    admin.ok(suspend, json!({ "id": acme.id, "mode": "HARD" })).await;
    assert_eq!(all(&service, None).await.status, 403);
}

#[tokio::test]
async fn what_is_no_request_is_told_what_is_wrong_with_it() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    define_switch(&app.admin().await, "beta", json!({})).await;
    let service = app.service(&acme, "auth:flag:read").await;
    let large = json!({ "context": { "a": "x".repeat(70_000) } }).to_string();
    let deep = format!("{{\"context\":{}{}}}", "{\"a\":".repeat(500), "}".repeat(500));
    let cases: Vec<(Vec<u8>, u16, &str, &str)> = vec![
        (b"{".to_vec(), 400, "PARSE_ERROR", "line 1"),
        (b"[]".to_vec(), 400, "PARSE_ERROR", "object"),
        (b"{\"context\":\"\xff\"}".to_vec(), 400, "PARSE_ERROR", "UTF-8"),
        (deep.into_bytes(), 400, "PARSE_ERROR", "no JSON"),
        (b"{\"context\":[]}".to_vec(), 400, "INVALID_CONTEXT", "context"),
        (b"{\"context\":{\"targetingKey\":7}}".to_vec(), 400, "INVALID_CONTEXT", "targetingKey"),
        (large.into_bytes(), 400, "INVALID_CONTEXT", "larger"),
    ];
    for path in [ALL.to_owned(), format!("{ALL}/beta")] {
        for (body, status, code, details) in &cases {
            let refused = post(&service, &path, body.clone(), None).await;
            assert_eq!(
                (refused.status, &refused.body["errorCode"]),
                (*status, &json!(code)),
                "{path} {}",
                refused.text
            );
            assert!(refused.body["errorDetails"].as_str().unwrap().contains(details), "{}", refused.text);
            assert_eq!(refused.body["key"].is_string(), path.ends_with("beta"));
        }
        let plain = service.send(service.post(&path).header("content-type", "text/plain").body("{}")).await;
        assert_eq!((plain.status, &plain.body["errorCode"]), (415, &json!("PARSE_ERROR")));
        let empty = post(&service, &path, "", None).await;
        assert_eq!(empty.status, 200, "{}", empty.text);
    }
}
