//! What is malformed, too large or against a rule is refused with what and why, and changes nothing.

use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use serde_json::{Value, json};
use tenantry::config::Config;

use crate::{
    binary::Binary,
    support::{Client, TestApp, database},
};

const CREATE: &str = "mutation($input: CreateTenantInput!) { createTenant(input: $input) { tenant { id } } }";

/// Rows that a request could have changed, and entries.
async fn everything(app: &TestApp) -> String {
    let sql = "select concat_ws(' ', (select count(*) from tenantry.tenants), (select sum(version) from tenantry.tenants),
        (select count(*) from tenantry.journal), (select count(*) from tenantry.idempotency_keys), (select sum(version) from tenantry.plans))";
    let row = app
        .database
        .superuser()
        .await
        .query_one_raw(Statement::from_string(DbBackend::Postgres, sql))
        .await
        .unwrap()
        .unwrap();
    row.try_get_by_index(0).unwrap()
}

fn json_post(client: &Client, body: impl Into<reqwest::Body>) -> RequestBuilder {
    client.post("/graphql").header("content-type", "application/json").body(body)
}

/// Sends, and answers status, code, field and message of the first error.
async fn refusal(client: &Client, request: RequestBuilder) -> (u16, String, String, String) {
    let answer = client.send(request).await;
    let error = &answer.body["errors"][0];
    assert!(error.is_object(), "{} {:.500}", answer.status, answer.text);
    assert!(error["extensions"]["requestId"].is_string(), "{}", answer.text);
    assert!(answer.body["data"].is_null(), "{}", answer.text);
    let field = error["extensions"]["field"].as_str().unwrap_or_default().to_owned();
    (answer.status, answer.code().to_owned(), field, error["message"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_malformed_request_is_told_what_is_wrong_with_it() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    app.tenant("present").await;
    let before = everything(&app).await;
    let create =
        json!({ "query": "mutation { createTenant(input: {slug: \"evil\", name: \"Evil\"}) { tenant { id } } }" })
            .to_string();
    let typed = |content_type: &str| admin.post("/graphql").header("content-type", content_type).body(create.clone());
    let plain = |query: &str| json_post(&admin, json!({ "query": query }).to_string());
    let encoded =
        "/graphql?query=mutation%7BcreateTenant(input:%7Bslug:%22evil%22,name:%22Evil%22%7D)%7Btenant%7Bid%7D%7D%7D";
    let cases: Vec<(&str, RequestBuilder, u16, &str, &str)> = vec![
        ("no JSON", json_post(&admin, "{\"query\": "), 400, "body", "is no JSON: line 1, column"),
        ("nothing", json_post(&admin, ""), 400, "body", "is no JSON"),
        ("text", json_post(&admin, "\"{ viewer { subject } }\""), 400, "body", "must be a JSON object"),
        ("a batch", json_post(&admin, format!("[{create},{create}]")), 400, "body", "batches are not taken"),
        ("an empty batch", json_post(&admin, "[]"), 400, "body", "batches are not taken"),
        (
            "no UTF-8",
            json_post(&admin, b"{\"query\": \"{ viewer { subject\xff } }\"}".to_vec()),
            400,
            "body",
            "is no JSON",
        ),
        ("half a surrogate", json_post(&admin, "{\"query\": \"\\ud800\"}"), 400, "body", "is no JSON"),
        (
            "deep JSON",
            json_post(&admin, format!("{{\"variables\": {}1", "[".repeat(100_000))),
            400,
            "body",
            "is no JSON",
        ),
        ("no query", json_post(&admin, "{}"), 400, "query", "is missing"),
        ("query as a number", json_post(&admin, "{\"query\": 7}"), 400, "query", "must be text"),
        (
            "variables as a list",
            json_post(&admin, "{\"query\": \"{ viewer { subject } }\", \"variables\": []}"),
            400,
            "variables",
            "must be a JSON object",
        ),
        (
            "operationName as a list",
            json_post(&admin, "{\"query\": \"{ viewer { subject } }\", \"operationName\": []}"),
            400,
            "operationName",
            "must be text",
        ),
        ("no GraphQL", plain("{ viewer { "), 200, "query", ""),
        ("an empty document", plain(""), 200, "query", ""),
        ("text/plain", typed("text/plain"), 415, "Content-Type", "must be application/json"),
        ("a form", typed("application/x-www-form-urlencoded"), 415, "Content-Type", "must be application/json"),
        ("multipart", typed("multipart/form-data; boundary=x"), 415, "Content-Type", "must be application/json"),
        ("application/graphql", typed("application/graphql"), 415, "Content-Type", "must be application/json"),
        (
            "another character set",
            typed("application/json; charset=utf-16"),
            415,
            "Content-Type",
            "must be application/json",
        ),
        (
            "no content type",
            admin.post("/graphql").body(create.clone()),
            415,
            "Content-Type",
            "must be application/json",
        ),
        (
            "an impossible Accept",
            typed("application/json").header("accept", "text/html"),
            406,
            "Accept",
            "must allow application/graphql-response+json",
        ),
        ("GET with a mutation", admin.request(Method::GET, encoded), 405, "method", "must be POST"),
        (
            "GET with a query",
            admin.request(Method::GET, "/graphql?query=%7Bviewer%7Bsubject%7D%7D"),
            405,
            "method",
            "must be POST",
        ),
        (
            "PUT",
            admin.request(Method::PUT, "/graphql").header("content-type", "application/json").body(create.clone()),
            405,
            "method",
            "must be POST",
        ),
        (
            "a key with spaces",
            typed("application/json").header("idempotency-key", "a b"),
            400,
            "Idempotency-Key",
            "1 to 200 printable",
        ),
        (
            "a long key",
            typed("application/json").header("idempotency-key", "k".repeat(201)),
            400,
            "Idempotency-Key",
            "1 to 200 printable",
        ),
        (
            "two keys",
            typed("application/json").header("idempotency-key", "a").header("idempotency-key", "b"),
            400,
            "idempotency-key",
            "must be sent once",
        ),
    ];
    let mut wrong = Vec::new();
    for (name, request, status, field, rule) in cases {
        let told = refusal(&admin, request).await;
        if told.0 != status
            || told.1 != "invalid_input"
            || told.2 != field
            || !told.3.contains(rule)
            || told.3.is_empty()
        {
            wrong.push(format!("{name}: {told:?} instead of {status} {field}: {rule}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(everything(&app).await, before);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_quickly() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let document = format!("{{ viewer {{ subject }} }} # {}", "x".repeat(10 << 20));
    let document = json!({ "query": document }).to_string();
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let request = json_post(&admin, document.clone());
        let began = Instant::now();
        let sent = request.send().await;
        best = best.min(began.elapsed());
        // The answer comes while the client still sends; it may not live to read it.
        let Ok(answer) = sent else { continue };
        assert_eq!(answer.status(), 413);
        let body: Value = answer.json().await.expect("a body that is too large is answered like any other error");
        assert_eq!(
            (&body["errors"][0]["extensions"]["code"], &body["errors"][0]["extensions"]["field"]),
            (&json!("invalid_input"), &json!("body")),
            "{body}"
        );
    }
    assert!(best < Duration::from_secs(1), "{best:?}");
    // What is sent in pieces has no length to refuse it by.
    let pieces = futures::stream::iter((0..64).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 64 << 10])));
    let body = http_body_util::StreamBody::new(futures::StreamExt::map(pieces, |piece| {
        piece.map(|bytes| hyper::body::Frame::data(bytes::Bytes::from(bytes)))
    }));
    if let Ok(answer) =
        admin.post("/graphql").header("content-type", "application/json").body(reqwest::Body::wrap(body)).send().await
    {
        assert_eq!(answer.status(), 413);
    }
    let long = format!("{{ viewer {{ subject }} }} # {}", "x".repeat(100_000));
    assert_eq!(admin.refused(&long, json!({})).await, "invalid_input");
}

#[tokio::test]
async fn a_value_against_a_rule_is_named_with_its_rule() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    app.tenant("present").await;
    let before = everything(&app).await;
    let with = |field: &str, value: Value| {
        let mut input = json!({ "slug": "fine", "name": "Fine" });
        input[field] = value;
        input
    };
    let contact = |email: &str| json!({ "technicalContacts": [{ "name": "Desk", "email": email }] });
    let cases = [
        (with("slug", json!("Fine")), "slug", "must not have capital letters"),
        (with("slug", json!("f".repeat(64))), "slug", "must have 3 to 63 characters, not 64"),
        (with("slug", json!("fi")), "slug", "must have 3 to 63 characters, not 2"),
        (with("slug", json!("admin")), "slug", "is a reserved word"),
        (with("slug", json!("fi_ne")), "slug", "must have small letters, digits and '-' only"),
        (with("slug", json!("-fine")), "slug", "must begin and end with a letter or a digit"),
        (with("slug", json!("xn--fine")), "slug", "internationalised"),
        (with("slug", json!("fine\0")), "slug", "must have small letters"),
        (with("slug", json!("ﬁne")), "slug", "must have small letters"),
        (with("name", json!(" ")), "name", "must not be empty"),
        (with("name", json!("n".repeat(201))), "name", "at most 200 characters"),
        (with("name", json!("a\u{0}b")), "name", "control characters"),
        (with("externalId", json!("")), "externalId", "must not be empty"),
        (with("plan", json!("platinum")), "plan", "names no plan of the catalogue"),
        (with("region", json!("EU West")), "region", "small letters, digits or '-'"),
        (with("labels", json!([{ "key": "a b", "value": "c" }])), "labels", "a label's key has"),
        (with("sections", json!({ "secrets": {} })), "sections", "must be one of"),
        (with("profile", contact("nobody")), "profile.technicalContacts[0].email", ""),
        (with("profile", json!({ "locale": "?" })), "profile.locale", ""),
        (with("profile", json!({ "timeZone": "Mars/Olympus" })), "profile.timeZone", ""),
    ];
    let mut wrong = Vec::new();
    for (input, field, rule) in cases {
        let request = admin.post("/graphql").json(&json!({ "query": CREATE, "variables": { "input": input } }));
        let (_, code, named, told) = refusal(&admin, request).await;
        if code != "invalid_input" || !named.starts_with(field) || !told.contains(rule) {
            wrong.push(format!("{field}: {code} {named}: {told}, not {rule}"));
        }
    }
    for input in [
        json!(7),
        json!(null),
        json!({ "slug": "fine" }),
        with("name", json!(7)),
        with("colour", json!("red")),
        with("isolationTier", json!("GOLD")),
        with("labels", json!("a=b")),
    ] {
        let request = admin.post("/graphql").json(&json!({ "query": CREATE, "variables": { "input": input } }));
        let (_, code, _, told) = refusal(&admin, request).await;
        // The engine's own errors: they name variable and type, and no part of Rust.
        if code != "invalid_input" || told.is_empty() || told.contains("::") {
            wrong.push(format!("{input}: {code}: {told}"));
        }
    }
    for query in [
        "{ viewer { password } }",
        "{ tenat { id } }",
        "query($x: Tenant) { viewer { subject } }",
        "query($x: Nothing) { viewer { subject } }",
        "{ tenant(id: 1.5) { id } }",
        "{ tenant(nonsense: 1) { id } }",
        "{ viewer }",
    ] {
        let (_, code, _, told) = refusal(&admin, admin.post("/graphql").json(&json!({ "query": query }))).await;
        if code != "invalid_input" || told.is_empty() || told.contains("Did you mean") || told.contains("::") {
            wrong.push(format!("{query}: {code}: {told}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(everything(&app).await, before);
}

#[tokio::test]
async fn a_bad_tenant_file_is_refused_over_the_api_too() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let before = everything(&app).await;
    let laughs: String =
        (1..12).map(|n| format!("    l{n}: &l{n} [{}]\n", format!("*l{}, ", n - 1).repeat(9))).collect();
    for (document, format, field) in [
        ("tenant: { slug: fine, colour: red }".to_owned(), "YAML", "tenant.colour"),
        ("tenant: { slug: fine, sla: { uptimes: 99 } }".to_owned(), "YAML", "tenant.sla.uptimes"),
        ("colour: red".to_owned(), "YAML", "colour"),
        ("- a".to_owned(), "YAML", "document"),
        ("- slug: fine".to_owned(), "YAML", "document"),
        ("tenant: [id, Fine, fine]".to_owned(), "YAML", "tenant"),
        ("tenant: { slug: fine, sla: [99.9, 24x7] }".to_owned(), "YAML", "tenant.sla"),
        (
            "tenant: { slug: fine, sla: { support_response: [15m, 1h, 8h] } }".to_owned(),
            "YAML",
            "tenant.sla.support_response",
        ),
        (
            "tenant: { slug: fine, sla: { credits: [{ below: 99, percent: 10 }, [98, 20]] } }".to_owned(),
            "YAML",
            "tenant.sla.credits[1]",
        ),
        ("tenant: { slug: fine, profile: [Fine Ltd, Fine] }".to_owned(), "YAML", "tenant.profile"),
        (
            "tenant: { slug: fine, profile: { billing_address: [[Street 1], Wien, null, null, AT] } }".to_owned(),
            "YAML",
            "tenant.profile.billing_address",
        ),
        ("tenant: { slug: fine, contacts: [[], [], []] }".to_owned(), "YAML", "tenant.contacts"),
        (
            "tenant: { slug: fine, contacts: { technical: [[Ada, ada@example.com]] } }".to_owned(),
            "YAML",
            "tenant.contacts.technical[0]",
        ),
        ("tenant: { slug: fine, labels: [[a, b]] }".to_owned(), "YAML", "tenant.labels"),
        ("[tenant]\nslug = \"fine\"\nsla = [99.9]".to_owned(), "TOML", "tenant.sla"),
        ("".to_owned(), "YAML", "document"),
        ("tenant: { slug: Fine }".to_owned(), "YAML", "tenant.slug"),
        ("tenant: { slug: fine, region: EU }".to_owned(), "YAML", "tenant.region"),
        ("[tenant]\nslug = 7".to_owned(), "TOML", "tenant.slug"),
        (format!("tenant:\n  slug: laughs\n  settings:\n    l0: &l0 [ha]\n{laughs}"), "YAML", "document"),
        (format!("tenant:\n  slug: deep\n  settings: {}", "[".repeat(100_000)), "YAML", "document"),
        (format!("tenant:\n  slug: deep\n  settings: {}", "[".repeat(3_900)), "YAML", "document"),
        (format!("tenant:\n  slug: deep\n  settings: {}a", "- ".repeat(100_000)), "YAML", "document"),
        (format!("tenant:\n  slug: deep\n  settings:\n    {}a", "? ".repeat(100_000)), "YAML", "document"),
        (format!("[tenant]\nslug = \"deep\"\nsettings = {}", "[".repeat(100_000)), "TOML", "document"),
        (format!("a = {{ {} = 1 }}", vec!["a"; 50_000].join(".")), "TOML", "document"),
        ("x".repeat(300_000), "YAML", "document"),
    ] {
        let apply = "mutation($document: String!, $format: DocumentFormat!) { applyTenant(input: {document: $document, format: $format}) { created } }";
        let began = Instant::now();
        let request = admin
            .post("/graphql")
            .json(&json!({ "query": apply, "variables": { "document": document, "format": format } }));
        let (_, code, named, told) = refusal(&admin, request).await;
        assert_eq!((code.as_str(), named.as_str()), ("invalid_input", field), "{document:.100}: {told}");
        assert!(told.len() < 1_000, "{told}");
        assert!(began.elapsed() < Duration::from_secs(5), "{document:.100}: {:?}", began.elapsed());
    }
    assert_eq!(everything(&app).await, before);
}

#[test]
fn a_bad_setting_is_named_with_its_value_and_rule() {
    for (toml, named) in [
        ("[auth]\nleeway = \"5m\"", &["auth.leeway", "300s", "at most 30s"][..]),
        ("[auth]\nkey_bits = 1024", &["auth.key_bits", "1024", "must be 2048, 3072 or 4096"]),
        ("[auth]\naudience = \"\"", &["auth.audience", "\"\"", "must not be empty"]),
        ("[auth]\ntoken_ttl = \"48h\"", &["auth.token_ttl", "must be between 1s and auth.max_token_ttl"]),
        ("[auth]\nkey_overlap = \"1h\"", &["auth.key_overlap", "3600s", "at least auth.max_token_ttl"]),
        ("[tenancy]\ndeletion_grace = \"1day\"", &["tenancy.deletion_grace", "86400s", "must lie within"]),
        ("[tenancy]\nactivation = \"soon\"", &["tenancy.activation", "soon", "must be automatic or held"]),
        ("[server]\nlisten = \"everywhere\"", &["server.listen", "everywhere"]),
        ("[server]\nrequest_timeout = \"soon\"", &["server.request_timeout", "soon", "is no duration such as 30s"]),
        ("[server]\nbody_bytes = -1", &["server.body_bytes", "-1"]),
        ("[server]\ntrusted_proxies = [\"10.0.0.0/99\"]", &["server.trusted_proxies", "10.0.0.0/99"]),
        ("[graphql]\npage_size = 0", &["graphql.page_size", "0", "must be between 1 and 1000"]),
        ("[telemetry]\nlog_format = \"xml\"", &["telemetry.log_format", "xml", "must be json, text or empty"]),
        ("[database]\nmax_connections = 1", &["database.max_connections", "1", "must be at least 2"]),
        ("[server]\nportt = 80", &["server", "portt"]),
        ("[sever]\nlisten = \"127.0.0.1:1\"", &["sever"]),
    ] {
        let told = Config::from_toml(&[toml]).unwrap_err().to_string();
        assert!(named.iter().all(|named| told.contains(named)), "{toml}: {told}");
    }
}

#[tokio::test]
async fn a_bad_setting_stops_the_binary_wherever_it_stands() {
    let binary = Binary::as_login(&database().await.login_url());
    let file = binary.file("bad.toml", "[server]\nportt = 80\n");
    let said = binary.run(&["--config", &file, "doctor"]).await.failed();
    assert!(said.contains("portt") && said.contains("server"), "{said}");
    let said = binary.clone().set("SERVER__PORTT", "80").run(&["doctor"]).await.failed();
    assert!(said.contains("portt"), "{said}");
    let said = binary.clone().set("SEVER__LISTEN", "127.0.0.1:1").run(&["doctor"]).await.failed();
    assert!(said.contains("sever"), "{said}");
    let said = binary.clone().set("AUTH__LEEWAY", "5m").run(&["serve"]).await.failed();
    assert!(said.contains("auth.leeway = 300s: must be at most 30s"), "{said}");
    let said = binary.run(&["--config", "missing.toml", "doctor"]).await.failed();
    assert!(said.contains("missing.toml"), "{said}");
    let broken = binary.file("broken.toml", "[server\n");
    let said = binary.run(&["--config", &broken, "doctor"]).await.failed();
    assert!(said.contains("broken.toml"), "{said}");
}
