//! A directory's settings: what is taken, shown, kept and told.

use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use serde_json::{Value, json};

use super::{CONFIGURE, app, configure, input, service, sign_in, tenant_of};
use crate::support::slapd::{Authority, BASE, READER_SECRET, Slapd};

const SHOW: &str = "query($id: ID) { directory(tenantId: $id) { version userFilter preset nestedGroups attributes { externalId name } } }";
const REMOVE: &str =
    "mutation($version: Int) { removeDirectory(input: {expectedVersion: $version}) { directory { version } } }";

fn servers() -> Vec<String> {
    vec!["ldaps://ldap.example.org".to_owned()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_a_rule_is_refused_with_field_and_rule_and_nothing_is_kept() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let client = service(&app, &app.tenant("rules").await).await;
    let mapping = |group: &str, roles: Value| json!({ "roleMappings": [{ "group": group, "roles": roles }] });
    let group = format!("cn=a,{BASE}");
    let twice = json!({ "roleMappings": [{ "group": group, "roles": ["a"] }, { "group": format!("CN=A, {BASE}"), "roles": ["b"] }] });
    for (more, field) in [
        (json!({ "servers": [] }), "servers"),
        (json!({ "servers": ["ldaps://a.example", "ldaps://A.example:636"] }), "servers.1"),
        (json!({ "servers": ["http://a.example"] }), "servers.0"),
        (json!({ "servers": vec!["ldaps://a.example"; 9] }), "servers"),
        (json!({ "servers": ["ldap://a.example"], "startTls": false }), "servers"),
        (json!({ "baseDn": "example" }), "baseDn"),
        (json!({ "bindDn": "" }), "bindDn"),
        (json!({ "bindDn": "cn=a\0" }), "bindDn"),
        (json!({ "bindSecret": null }), "bindSecret"),
        (json!({ "bindSecret": "" }), "bindSecret"),
        (json!({ "bindSecret": "x".repeat(1025) }), "bindSecret"),
        (json!({ "userFilter": "(uid=ada)" }), "userFilter"),
        (json!({ "userFilter": "(uid={login}" }), "userFilter"),
        (json!({ "userFilter": "({login}=a)" }), "userFilter"),
        (json!({ "groupFilter": "(cn={login})" }), "groupFilter"),
        (json!({ "groupFilter": "cn" }), "groupFilter"),
        (json!({ "groupBaseDn": "x" }), "groupBaseDn"),
        (json!({ "attributes": { "email": "mail)(x=*" } }), "attributes.email"),
        (json!({ "attributes": { "externalId": "" } }), "attributes.externalId"),
        (mapping("nothing", json!(["a"])), "roleMappings.0.group"),
        (mapping(&group, json!([])), "roleMappings.0.roles"),
        (mapping(&group, json!(["No Role"])), "roleMappings.0.roles.0"),
        (twice, "roleMappings.1.group"),
        (json!({ "defaultRoles": [""] }), "defaultRoles.0"),
        (json!({ "pageSize": 9 }), "pageSize"),
        (json!({ "mostDeactivations": -1 }), "mostDeactivations"),
        (json!({ "mostDeactivationsPercent": 101 }), "mostDeactivationsPercent"),
        (json!({ "syncIntervalMinutes": 4 }), "syncIntervalMinutes"),
    ] {
        let answer = client.graphql(CONFIGURE, json!({ "input": input(&servers(), &authority, more) })).await;
        let found = answer.body["errors"][0]["extensions"]["field"].as_str();
        assert_eq!((answer.code(), found), ("invalid_input", Some(field)), "{}", answer.text);
    }
    assert_eq!(client.ok(SHOW, json!({})).await["directory"], json!(null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_set_as_a_whole_versioned_once_and_removed() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let tenant = app.tenant("kept").await;
    let client = service(&app, &tenant).await;
    let sent = |more| json!({ "input": input(&servers(), &authority, more) });
    let first = client.graphql_once("once", CONFIGURE, sent(json!({ "preset": "ACTIVE_DIRECTORY" }))).await;
    let again = client.graphql_once("once", CONFIGURE, sent(json!({ "preset": "ACTIVE_DIRECTORY" }))).await;
    assert_eq!(first.data(), again.data());
    let shown = client.ok(SHOW, json!({})).await["directory"].clone();
    assert_eq!((&shown["version"], &shown["nestedGroups"]), (&json!(1), &json!("CHAIN")));
    assert_eq!(shown["attributes"], json!({ "externalId": "objectGUID", "name": "displayName" }));
    assert_eq!(client.refused(CONFIGURE, sent(json!({ "expectedVersion": 0 }))).await, "conflict");
    let shown = configure(&client, input(&servers(), &authority, json!({ "expectedVersion": 1 }))).await;
    assert_eq!((&shown["version"], &shown["preset"]), (&json!(2), &json!("STANDARD")));
    assert_eq!(shown["servers"], json!(["ldaps://ldap.example.org:636"]));
    let other = service(&app, &app.tenant("other").await).await;
    assert_eq!(other.refused(SHOW, json!({ "id": tenant.id })).await, "not_found");
    let reader = app.service(&tenant, "auth:directory:read").await;
    assert_eq!(reader.refused(CONFIGURE, sent(json!({}))).await, "forbidden");
    assert_eq!(client.refused(REMOVE, json!({ "version": 1 })).await, "conflict");
    client.ok(REMOVE, json!({ "version": 2 })).await;
    assert_eq!(client.ok(SHOW, json!({})).await["directory"], json!(null));
    assert_eq!(client.refused(REMOVE, json!({})).await, "not_found");
    let entries = client.ok("{ audit(first: 50) { edges { node { event before after } } } }", json!({})).await;
    let events = entries.to_string();
    assert!(events.contains("DirectoryConfigured") && events.contains("DirectoryRemoved"), "{events}");
    assert!(!events.contains(READER_SECRET), "{events}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secret_is_sealed_by_the_tenants_key_and_follows_its_rotation() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let slapd = Slapd::start(&authority);
    let (tenant, _) = tenant_of(&app, "sealed", &slapd, &authority).await;
    let superuser = app.database.superuser().await;
    let row = async || {
        let sql = "select key_version, encode(sealed_secret, 'hex') as sealed, directories::text as whole from tenantry.directories";
        let row = superuser.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap().unwrap();
        let text = |column| row.try_get::<String>("", column).unwrap();
        (row.try_get::<i64>("", "key_version").unwrap(), text("sealed"), text("whole"))
    };
    let (version, sealed, whole) = row().await;
    let plain: String = READER_SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    assert!(version == 1 && !sealed.contains(&plain) && !whole.contains(READER_SECRET));
    let rotate = "mutation($id: ID!) { rotateTenantKey(input: {tenantId: $id, level: DATA}) { key { version } } }";
    app.admin().await.ok(rotate, json!({ "id": tenant.id })).await;
    for _ in 0..10 {
        app.run_due().await;
        if row().await.0 == 2 {
            break;
        }
    }
    assert_eq!(row().await.0, 2, "sealed anew");
    sign_in(&app, &tenant, "ada", "of-ada").await.unwrap();
}
