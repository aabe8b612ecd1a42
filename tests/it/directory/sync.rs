//! People of a directory become members.

use std::{fmt::Write as _, time::Duration};

use serde_json::{Value, json};

use super::{
    app, configure, hasty, input,
    servers::{Manner, Server},
};
use crate::support::{
    Client, Tenant, TestApp,
    slapd::{Authority, BASE, Slapd, company, entry_of, group, person},
};

const SYNC: &str =
    "mutation($dryRun: Boolean!, $force: Boolean!) { syncDirectory(input: {dryRun: $dryRun, force: $force}) { sync {
    id state phase trigger dryRun } } }";
const SYNCS: &str = "query($first: Int) { directorySyncs(first: $first) { edges { node { id state phase trigger startedBy dryRun peopleRead
    changesWritten reason startedAt endedAt result { created updated unchanged deactivated skipped changes { kind email roles }
    skips { who why } } } } } }";
const MEMBERS: &str = "query($first: Int!) { members(first: $first) { edges { node { id email name roles status source externalId } } } }";
const SEATS: &str = "mutation($id: ID!, $limit: Int) { setQuota(input: {tenantId: $id, key: \"max_users\", limit: $limit, reason: \"test\"}) { quota { limit } } }";

async fn full(app: &TestApp, slug: &str) -> (Tenant, Client) {
    let tenant = app.tenant(slug).await;
    let client = app.full_service(&tenant).await;
    (tenant, client)
}

async fn begin(client: &Client, dry_run: bool, force: bool) -> Value {
    client.ok(SYNC, json!({ "dryRun": dry_run, "force": force })).await["syncDirectory"]["sync"].clone()
}

async fn last(client: &Client) -> Value {
    client.ok(SYNCS, json!({ "first": 1 })).await["directorySyncs"]["edges"][0]["node"].clone()
}

/// Waits for the end of the one that runs.
async fn ended(client: &Client) -> Value {
    for _ in 0..3000 {
        let sync = last(client).await;
        if sync["state"] != "RUNNING" {
            return sync;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it does not end: {}", last(client).await);
}

async fn sync(client: &Client, dry_run: bool, force: bool) -> Value {
    begin(client, dry_run, force).await;
    ended(client).await
}

fn counts(sync: &Value) -> [u64; 5] {
    ["created", "updated", "unchanged", "deactivated", "skipped"]
        .map(|field| sync["result"][field].as_u64().unwrap_or(999))
}

/// As `e-mail roles status`.
async fn members(client: &Client) -> Vec<String> {
    let listed = client.ok(MEMBERS, json!({ "first": 100 })).await;
    let line = |edge: &Value| {
        let member = &edge["node"];
        let roles: Vec<_> = member["roles"].as_array().unwrap().iter().map(|role| role.as_str().unwrap()).collect();
        format!("{} {} {}", member["email"].as_str().unwrap(), roles.join(","), member["status"].as_str().unwrap())
    };
    let mut lines: Vec<_> = listed["members"]["edges"].as_array().unwrap().iter().map(line).collect();
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_become_members_follow_their_groups_and_leave() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let mut slapd = Slapd::start(&authority);
    let (_, client) = full(&app, "follows").await;
    let settings = input(&[slapd.ldaps()], &authority, json!({ "mostDeactivationsPercent": 60 }));
    configure(&client, settings).await;
    let dry = sync(&client, true, false).await;
    // Eve is in no group that gives a role.
    assert_eq!((dry["state"].as_str(), counts(&dry)), (Some("DONE"), [2, 0, 0, 0, 1]), "{dry}");
    assert_eq!(dry["result"]["skips"], json!([{ "who": format!("uid=eve,ou=people,{BASE}"), "why": "NO_ROLE" }]));
    assert!(members(&client).await.is_empty(), "a dry run changes nothing");
    let first = sync(&client, false, false).await;
    assert_eq!((counts(&first), &first["peopleRead"]), ([2, 0, 0, 0, 1], &json!(3)), "{first}");
    assert_eq!(
        first["result"]["changes"][0],
        json!({ "kind": "CREATE", "email": "ada@example.org", "roles": ["admin", "member"] })
    );
    assert_eq!(members(&client).await, ["ada@example.org admin,member ACTIVE", "bob@example.org member ACTIVE"]);
    assert_eq!(counts(&sync(&client, false, false).await), [0, 0, 2, 0, 1]);
    // Ada has another name in the directory and another address, and is no engineer any more; Bob has left; Eve has come.
    let moved = [
        entry_of("cn=Ada L", "ada", "Ada L", "ada.l@example.org"),
        person("eve", "Eve Example"),
        group("staff", &["cn=Ada L,ou=people", "uid=eve,ou=people"]),
        group("admins", &["ou=groups"]),
    ];
    slapd.replace_entries(&moved.concat());
    assert_eq!(counts(&sync(&client, false, false).await), [1, 1, 0, 1, 0]);
    let now =
        ["ada.l@example.org member ACTIVE", "bob@example.org member DEACTIVATED", "eve@example.org member ACTIVE"];
    assert_eq!(members(&client).await, now);
    slapd.replace_entries(&company());
    assert_eq!(counts(&sync(&client, false, false).await), [0, 2, 0, 1, 1], "Bob is back, Eve has no role");
    let entries = client.ok("{ audit(first: 100) { edges { node { event } } } }", json!({})).await.to_string();
    for event in ["DirectorySyncStarted", "DirectorySynced", "MemberCreated", "MemberUpdated", "MemberDeactivated"] {
        assert!(entries.contains(event), "{event} {entries}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_deactivations_than_the_cap_change_nothing_unless_they_are_forced() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let mut slapd = Slapd::start(&authority);
    let (_, client) = full(&app, "capped").await;
    configure(&client, input(&[slapd.ldaps()], &authority, json!({}))).await;
    sync(&client, false, false).await;
    let before = members(&client).await;
    slapd.replace_entries(&[person("new", "New"), group("staff", &["uid=new,ou=people"])].concat());
    let refused = sync(&client, false, false).await;
    assert_eq!(refused["state"], "REFUSED");
    assert!(refused["reason"].as_str().unwrap().starts_with("2 of 2 members would be deactivated"), "{refused}");
    assert_eq!(members(&client).await, before);
    // A dry run tells it without being refused.
    assert_eq!(counts(&sync(&client, true, false).await), [1, 0, 0, 2, 0]);
    assert_eq!(counts(&sync(&client, false, true).await), [1, 0, 0, 2, 0]);
    assert_eq!(members(&client).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_people_are_read_by_pages_and_seats_are_respected() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let mut entries = String::new();
    let mut staff = Vec::new();
    for number in 0..5000 {
        entries.push_str(&person(&format!("p{number}"), &format!("Person {number}")));
        staff.push(format!("uid=p{number},ou=people"));
    }
    let staff: Vec<&str> = staff.iter().map(String::as_str).collect();
    write!(entries, "{}", group("staff", &staff)).unwrap();
    let slapd = Slapd::with_entries(&authority, &entries);
    let (tenant, client) = full(&app, "thousands").await;
    configure(&client, input(&[slapd.ldaps()], &authority, json!({}))).await;
    app.admin().await.ok(SEATS, json!({ "id": tenant.id, "limit": 4200 })).await;
    let began = std::time::Instant::now();
    let dry = sync(&client, true, false).await;
    println!("a dry run over 5,000 people takes {:?}", began.elapsed());
    assert_eq!((counts(&dry), &dry["peopleRead"]), ([5000, 0, 0, 0, 0], &json!(5000)), "{}", dry["reason"]);
    let began = std::time::Instant::now();
    let done = sync(&client, false, false).await;
    println!("4,200 members of 5,000 people are made in {:?}", began.elapsed());
    assert_eq!((done["state"].as_str(), counts(&done)), (Some("DONE"), [4200, 0, 0, 0, 800]), "{}", done["reason"]);
    assert_eq!(done["result"]["skips"][0]["why"], "NO_SEAT");
    app.admin().await.ok(SEATS, json!({ "id": tenant.id, "limit": 6000 })).await;
    let began = std::time::Instant::now();
    assert_eq!(counts(&sync(&client, false, false).await), [800, 0, 4200, 0, 0]);
    println!("the other 800 are made in {:?}", began.elapsed());
    let began = std::time::Instant::now();
    assert_eq!(counts(&sync(&client, false, false).await), [0, 0, 5000, 0, 0]);
    println!("5,000 unchanged people take {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_to_its_end_changes_nothing() {
    let (app, authority) = (hasty().await, Authority::new("suite"));
    let mut slapd = Slapd::start(&authority);
    let hanging = Server::start(Manner::Hang).await;
    let (_, client) = full(&app, "cut-off").await;
    configure(&client, input(&[slapd.ldaps()], &authority, json!({ "mostDeactivationsPercent": 100 }))).await;
    sync(&client, false, false).await;
    let before = members(&client).await;
    slapd.stop();
    let failed = sync(&client, false, true).await;
    assert_eq!((&failed["state"], &failed["reason"]), (&json!("FAILED"), &json!("no connection: refused")));
    slapd.start_again();
    let gone = json!({ "groupBaseDn": format!("ou=gone,{BASE}") });
    configure(&client, input(&[slapd.ldaps()], &authority, gone)).await;
    let failed = sync(&client, false, true).await;
    assert_eq!(failed["reason"], "the server answers with result code 32 (noSuchObject)");
    configure(&client, input(&[hanging.ldaps()], &authority, json!({}))).await;
    begin(&client, false, true).await;
    // One at a time.
    assert_eq!(client.refused(SYNC, json!({ "dryRun": true, "force": false })).await, "conflict");
    assert_eq!(ended(&client).await["state"], "FAILED");
    assert_eq!(members(&client).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_whose_server_died_is_given_up_by_the_next() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let slapd = Slapd::start(&authority);
    let (tenant, client) = full(&app, "died").await;
    configure(&client, input(&[slapd.ldaps()], &authority, json!({}))).await;
    let superuser = app.database.superuser().await;
    let running = format!(
        "insert into tenantry.directory_syncs (tenant_id, sync_id, is_dry_run, state, phase, trigger, started_by, started_at, seen_at)
         values ('{}', '01890000-0000-7000-8000-000000000000', false, 'RUNNING', 'WRITING', 'REQUEST', 'x', now(), now())",
        tenant.id
    );
    sea_orm::ConnectionTrait::execute_unprepared(&superuser, &running).await.unwrap();
    assert_eq!(client.refused(SYNC, json!({ "dryRun": true, "force": false })).await, "conflict");
    app.advance(chrono::TimeDelta::seconds(61));
    assert_eq!(last(&client).await["state"], "FAILED", "it is shown as what it is");
    assert_eq!(sync(&client, false, false).await["state"], "DONE");
    let all = client.ok(SYNCS, json!({ "first": 10 })).await["directorySyncs"]["edges"].clone();
    let of = |field: &str| all.as_array().unwrap().iter().map(|edge| edge["node"][field].clone()).collect::<Vec<_>>();
    let mut states: Vec<_> = of("state").iter().map(|state| state.as_str().unwrap().to_owned()).collect();
    states.sort();
    assert_eq!(states, ["DONE", "FAILED"]);
    assert!(of("reason").contains(&json!("the server that ran it stopped")), "{all}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_synchronised_at_its_interval_by_one_server() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let other = app.replica("[directory]\nallowed_networks = [\"127.0.0.0/8\"]").await;
    let slapd = Slapd::start(&authority);
    let (tenant, client) = full(&app, "scheduled").await;
    configure(&client, input(&[slapd.ldaps()], &authority, json!({ "syncIntervalMinutes": 60 }))).await;
    assert_eq!(app.app.directory.sync_due().await.unwrap(), 0, "an hour is not over");
    app.advance(chrono::TimeDelta::minutes(61));
    let client =
        client.with_token(app.service_token(&tenant, &tenantry::access::ScopeSet::for_tenants().to_string()).await);
    let (one, two) = tokio::join!(app.app.directory.sync_due(), other.app.directory.sync_due());
    // The schedules of both servers look, too.
    assert!(one.unwrap() + two.unwrap() <= 1);
    let done = ended(&client).await;
    assert_eq!(
        (&done["trigger"], &done["startedBy"], &done["state"]),
        (&json!("SCHEDULE"), &json!("directory-sync"), &json!("DONE")),
        "{done}"
    );
    let all = client.ok(SYNCS, json!({ "first": 10 })).await["directorySyncs"]["edges"].clone();
    assert_eq!(all.as_array().unwrap().len(), 1);
    assert_eq!(members(&client).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_maps_roles_with_scopes_that_it_has_not_or_that_are_not_there() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let (tenant, client) = full(&app, "maps").await;
    let servers = ["ldaps://ldap.example.org".to_owned()];
    let small = app.service(&tenant, "auth:directory:write").await;
    let sent = |roles: Value| json!({ "input": input(&servers, &authority, json!({ "roleMappings": [], "defaultRoles": roles })) });
    assert_eq!(small.refused(super::CONFIGURE, sent(json!(["owner"]))).await, "forbidden");
    assert_eq!(small.refused(super::CONFIGURE, sent(json!(["viewer"]))).await, "forbidden");
    let answer = client.graphql(super::CONFIGURE, sent(json!(["no_such_role"]))).await;
    assert_eq!(
        (answer.code(), answer.body["errors"][0]["extensions"]["field"].as_str()),
        ("invalid_input", Some("defaultRoles"))
    );
    client.ok(super::CONFIGURE, sent(json!(["owner"]))).await;
    // Nor does anybody say where those sign in who have more.
    let slapd = Slapd::with_entries(&authority, &person("boss", "The Boss"));
    let owner = json!({ "roleMappings": [], "defaultRoles": ["owner"] });
    configure(&client, input(&[slapd.ldaps()], &authority, owner)).await;
    assert_eq!(counts(&sync(&client, false, false).await), [1, 0, 0, 0, 0]);
    let admin = tenantry::members::Shipped::find("admin").unwrap().scopes().to_string();
    let admin = app.service(&tenant, &admin).await;
    assert_eq!(admin.refused(super::CONFIGURE, sent(json!(["viewer"]))).await, "forbidden");
}
