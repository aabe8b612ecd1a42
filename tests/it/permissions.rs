//! The table of permissions, tried: every field by every role and scope, and what the published schema says of it.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::{Value, json};
use tenantry::{
    access::{Audience, PERMISSIONS, Permission, Role, Scope, permission},
    edge,
};

use crate::{
    isolation::operation::{Operation, Route, Schema, Verb, anything, reached},
    support::{Client, Received, Socket, TestApp},
};

/// Who is shut out by the tenant's network rules, from sockets as well.
const ELSEWHERE: &str = "elsewhere";

/// An operator inside a tenant, with all that can be taken there.
const INSIDE: &str = "inside";

/// A column of the table.
struct Caller {
    name: &'static str,
    client: Client,
    socket: Option<Socket>,
    /// That went over the socket.
    operations: usize,
}

#[tokio::test]
async fn every_field_is_open_to_whom_the_golden_file_says_and_to_nobody_else() {
    let (app, schema) = (TestApp::start().await, Schema::published());
    app.probe().await;
    let mut callers = callers(&app).await;
    let mut lines = Vec::new();
    for route in routes(&schema) {
        let operation = schema.operation(&route, &anything, None, 0);
        let field = schema.end(&route);
        let mut cells = vec![schema.name(&route), asked(permission(&field.parent, &field.name)).to_owned()];
        for caller in &mut callers {
            let answer = match route.verb {
                Verb::Subscription => subscribe(&app, caller, &operation).await,
                Verb::Query | Verb::Mutation => send(caller, &operation).await,
            };
            cells.push(match answer.as_str() {
                "forbidden" => "-".to_owned(),
                "unauthenticated" => "401".to_owned(),
                _ => answer,
            });
        }
        lines.push(cells);
    }
    for permission in PERMISSIONS.iter().filter(|permission| is_path(permission)) {
        let mut cells = vec![permission.field.replacen('.', " ", 1), asked(Some(permission)).to_owned()];
        for caller in &callers {
            cells.push(send_path(caller, permission).await);
        }
        lines.push(cells);
    }
    assert_eq!(beyond_the_rules(&callers, &lines), [""; 0], "allowed without the scope that is asked for");
    let head =
        ["field", "scope"].into_iter().chain(callers.iter().map(|caller| caller.name)).map(str::to_owned).collect();
    compare(&table(head, lines));
}

/// Who of the callers with one scope was allowed what asks for another: no golden file can say that this is meant.
fn beyond_the_rules(callers: &[Caller], lines: &[Vec<String>]) -> Vec<String> {
    let mut found = Vec::new();
    for cells in lines {
        let [field, asked, answers @ ..] = cells.as_slice() else { continue };
        for (caller, answer) in callers.iter().zip(answers) {
            let has_one_scope = caller.name.contains(':');
            let may =
                ["any valid token", "no token"].contains(&asked.as_str()) || *asked == format!("auth:{}", caller.name);
            if has_one_scope && !may && answer == "yes" {
                found.push(format!("{field} asks for {asked}, and {} has it", caller.name));
            }
        }
    }
    found
}

/// Whether it is about a path of REST, `METHOD./path`, and not about a field.
fn is_path(permission: &Permission) -> bool {
    permission.field.contains("./")
}

/// `yes`, or the status of the refusal.
async fn send_path(caller: &Caller, permission: &Permission) -> String {
    let (method, path) = permission.field.split_once('.').unwrap();
    let path: Vec<_> = path.split('/').map(|part| if part.starts_with('{') { "example" } else { part }).collect();
    let request = caller.client.request(method.parse().unwrap(), &path.join("/"));
    let request = if method == "GET" { request } else { request.json(&json!({})) };
    let answer = caller.client.send(request).await;
    match answer.status {
        401 => "401".to_owned(),
        403 => "-".to_owned(),
        status => {
            assert!(status < 500, "{} {}", permission.field, answer.text);
            "yes".to_owned()
        }
    }
}

/// Every root field, and fields below that have a line in the table of permissions.
fn routes(schema: &Schema) -> Vec<Route> {
    let mut routes = schema.routes();
    routes.retain(|route| {
        route.fields.len() == 1 || permission(&schema.end(route).parent, &schema.end(route).name).is_some()
    });
    // Keys are rotated last, whatever that does to tokens.
    routes.sort_by_key(|route| (route.verb, schema.end(route).name.contains("SigningKey"), route.fields.len()));
    routes
}

/// Operators of one role each, services with one scope each, one with all, an operator inside the same tenant, a service with all of a tenant
/// whose network rules let it in from elsewhere only, a stranger.
async fn callers(app: &TestApp) -> Vec<Caller> {
    let tenant = app.tenant("permitted").await;
    let mut callers = Vec::new();
    for role in Role::ALL {
        callers.push((role.name(), app.operator(role).await));
    }
    for scope in Scope::ALL.into_iter().filter(|scope| scope.for_tenants()) {
        callers.push((scope.name().trim_start_matches("auth:"), app.service(&tenant, scope.name()).await));
    }
    callers.push(("all", app.full_service(&tenant).await));
    callers.push((INSIDE, crate::impersonation::begin(app, &app.admin().await, &tenant).await.client));
    let fenced = app.tenant("fenced").await;
    let fence = "mutation($id: ID!) { setNetworkRules(input: {tenantId: $id, allowed: [{name: \"office\", network: \"203.0.113.0/24\"}]}) {
        networkRules { version } } }";
    app.admin().await.ok(fence, json!({ "id": fenced.id })).await;
    callers.push((ELSEWHERE, app.full_service(&fenced).await));
    callers.push(("none", app.anonymous()));
    callers.into_iter().map(|(name, client)| Caller { name, client, socket: None, operations: 0 }).collect()
}

/// `yes`, or the code of the refusal.
async fn send(caller: &Caller, operation: &Operation) -> String {
    let answer = caller.client.graphql(&operation.query, operation.variables.clone()).await;
    classified(operation, answer.code(), &answer.body)
}

/// The same over a WebSocket. A stream that is let in says nothing by itself, so a query sent behind it tells when the
/// answer would have come.
async fn subscribe(app: &TestApp, caller: &mut Caller, operation: &Operation) -> String {
    if caller.client.token().is_none() || caller.name == ELSEWHERE {
        return refused_socket(app, &caller.client).await;
    }
    if caller.socket.is_none() {
        caller.socket = Some(app.socket(&caller.client).await);
    }
    let socket = caller.socket.as_mut().unwrap();
    // Of its own, as what was sent for the operation before may still be answered.
    caller.operations += 1;
    let (stream, probes) = (format!("stream-{}", caller.operations), ["first", "second"]);
    socket.subscribe(&stream, &operation.query, operation.variables.clone()).await;
    for probe in probes.map(|probe| format!("{probe}-{}", caller.operations)) {
        socket.subscribe(&probe, "{viewer{subject}}", json!({})).await;
        loop {
            let Received::Message(message) = socket.next().await else {
                panic!("the socket was closed on {}", operation.query)
            };
            let (id, kind) = (message["id"].as_str().unwrap_or_default(), message["type"].as_str());
            match kind {
                Some("error") if id == stream => {
                    let body = json!({ "errors": message["payload"] });
                    let code = body["errors"][0]["extensions"]["code"].as_str().unwrap_or("none");
                    return classified(operation, code, &body);
                }
                Some("next") if id == stream => {
                    let code =
                        message["payload"]["errors"][0]["extensions"]["code"].as_str().unwrap_or("none").to_owned();
                    socket.send(json!({ "id": stream, "type": "complete" })).await;
                    return classified(operation, &code, &message["payload"]);
                }
                Some("complete") if id == probe => break,
                _ => {}
            }
        }
    }
    socket.send(json!({ "id": stream, "type": "complete" })).await;
    "yes".to_owned()
}

async fn refused_socket(app: &TestApp, client: &Client) -> String {
    let mut socket = Socket::open(app.address, client).await;
    let authorization = client.token().map(|token| format!("Bearer {token}"));
    socket.send(json!({ "type": "connection_init", "payload": { "Authorization": authorization } })).await;
    match socket.next().await {
        Received::Closed { reason, .. } => reason,
        Received::Message(message) => panic!("a stranger was let in: {message}"),
    }
}

fn classified(operation: &Operation, code: &str, body: &Value) -> String {
    if matches!(code, "forbidden" | "unauthenticated") {
        return code.to_owned();
    }
    assert!(code != "internal" && code != "unavailable", "{} {body}", operation.query);
    assert!(reached(body), "not an operation of the schema: {} {} {body}", operation.query, operation.variables);
    "yes".to_owned()
}

/// What a field asks for, in the golden file and at the end of its description in the schema.
fn asked(permission: Option<&Permission>) -> String {
    match permission {
        None => "(not in the table of permissions)".to_owned(),
        Some(Permission { audience: Audience::Public, .. }) => "no token".to_owned(),
        Some(Permission { scope: None, .. }) => "any valid token".to_owned(),
        Some(Permission { scope: Some(scope), audience: Audience::Platform, .. }) => format!("{scope}, operators only"),
        Some(Permission { scope: Some(scope), .. }) => scope.name().to_owned(),
    }
}

fn table(head: Vec<String>, lines: Vec<Vec<String>>) -> String {
    let mut text = "# Who may use each field, found out by using it (tests/it/permissions.rs).\n\
        # Columns: the roles of operators; services of a tenant with one scope each, and with all; an administrator inside that tenant; a service of\n\
        # a tenant whose network rules keep it out; no token.\n\
        # yes: allowed   -: forbidden   401: unauthenticated   Fields below another need what that asks for, too.\n\n"
        .to_owned();
    let widths: Vec<usize> = (0..head.len())
        .map(|column| lines.iter().chain([&head]).map(|cells| cells[column].len()).max().unwrap_or(0))
        .collect();
    for cells in [&head].into_iter().chain(&lines) {
        let padded: Vec<_> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text += padded.join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// With the golden file, or writes it where that was asked for.
fn compare(found: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden/permissions.txt");
    #[expect(clippy::disallowed_methods, reason = "a switch of the suite, not of the server")]
    let update = std::env::var("TENANTRY_UPDATE_GOLDEN").is_ok();
    if update {
        std::fs::write(&path, found).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let differences = differences(&golden, found);
    assert!(
        differences.is_empty(),
        "rights have changed. If each line is meant (- golden file, + now), run\n  \
         TENANTRY_UPDATE_GOLDEN=1 cargo test --test it permissions\nand commit {}:\n{}",
        path.display(),
        differences.join("\n")
    );
}

fn differences(golden: &str, found: &str) -> Vec<String> {
    let missing =
        golden.lines().filter(|line| !found.lines().any(|other| other == *line)).map(|line| format!("- {line}"));
    let added =
        found.lines().filter(|line| !golden.lines().any(|other| other == *line)).map(|line| format!("+ {line}"));
    missing.chain(added).collect()
}

#[test]
fn the_schema_says_of_every_field_what_it_asks_for() {
    let schema = Schema::published();
    let mut wrong = BTreeMap::new();
    for route in routes(&schema) {
        let field = schema.end(&route);
        let sentence = match permission(&field.parent, &field.name) {
            None => "a line in src/access/permission.rs".to_owned(),
            Some(Permission { audience: Audience::Public, .. }) => "No token is needed.".to_owned(),
            Some(Permission { scope: None, .. }) => "Any valid token.".to_owned(),
            Some(Permission { scope: Some(scope), audience: Audience::Platform, .. }) => {
                format!("Scope: `{scope}`, operators only.")
            }
            Some(Permission { scope: Some(scope), .. }) => format!("Scope: `{scope}`."),
        };
        if !field.description.as_deref().unwrap_or_default().trim_end().ends_with(&sentence) {
            wrong.insert(
                schema.name(&route),
                format!("should end with {sentence:?}, not {:?}", field.description.as_deref().unwrap_or_default()),
            );
        }
    }
    assert!(wrong.is_empty(), "descriptions in the schema: {wrong:#?}");
}

#[test]
fn every_permission_is_about_a_field_that_exists_and_has_one_line() {
    let schema = Schema::published();
    for permission in PERMISSIONS {
        let (parent, field) = permission.field.split_once('.').unwrap();
        assert!(
            is_path(permission) || schema.0.find_field(parent, field).is_some(),
            "src/access/permission.rs names {}, which the schema does not have",
            permission.field
        );
        assert_eq!(
            PERMISSIONS.iter().filter(|other| other.field == permission.field).count(),
            1,
            "{} has two lines",
            permission.field
        );
    }
}

#[test]
fn the_schema_file_is_the_schema() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schema.graphql");
    let file = std::fs::read_to_string(&path).unwrap_or_default();
    let differences = differences(&file, &edge::schema::sdl());
    assert!(
        file.trim_end() == edge::schema::sdl().trim_end(),
        "schema.graphql is not the schema of this code: run make schema\n{}",
        differences.join("\n")
    );
}
