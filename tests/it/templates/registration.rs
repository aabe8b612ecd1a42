//! What can be registered, and what was.

use serde_json::json;

use super::{COLOUR, ITEMS, REGISTER, register, template};
use crate::{provisioning::clusters::texts, support::TestApp};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_registered_never_changes_and_only_grows() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let first = register(&admin, &[ITEMS]).await;
    assert_eq!((&first["version"], &first["released"], &first["isDefault"]), (&json!(1), &json!(1), &json!(true)));
    assert_eq!(register(&admin, &[ITEMS]).await, first, "the same again changes nothing");
    let second = register(&admin, &[COLOUR, ITEMS]).await;
    assert_eq!(
        (&second["version"], &second["released"]),
        (&json!(2), &json!(1)),
        "new tenants get what was rolled out"
    );
    assert_eq!(second["migrations"][1]["name"], COLOUR.0);
    for (files, field) in [
        (vec![ITEMS], COLOUR.0),
        (vec![(ITEMS.0, "create table other (id int)"), COLOUR], ITEMS.0),
        (vec![("V0001__renamed.sql", ITEMS.1), COLOUR], "V0001__renamed.sql"),
    ] {
        let answer = admin.graphql(REGISTER, template("shop", &files)).await;
        let found = &answer.body["errors"][0]["extensions"];
        assert_eq!((answer.code(), &found["field"]), ("conflict", &json!(field)), "{}", answer.text);
    }
    let told = "select count(*)::text from tenantry.journal where event = 'SchemaTemplateRegistered'";
    assert_eq!(texts(&app.database.superuser().await, told).await, ["2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_a_template_is_refused_by_file_line_and_rule() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    for (name, files, field, rule) in [
        ("Shop", vec![ITEMS], "name", "small letters"),
        ("shop", vec![], "files", "between 1 and"),
        ("shop", vec![("items.sql", "select 1")], "items.sql", "must be called like"),
        ("shop", vec![ITEMS, ("V3__x.sql", "select 1")], "V3__x.sql", "where 2 is next"),
        ("shop", vec![("V1__x.sql", "create table a (b int);\ncommit;")], "V1__x.sql:2", "controls transactions"),
        ("shop", vec![("V1__x.sql", "\n\nset role postgres")], "V1__x.sql:3", "settings of the session"),
        ("shop", vec![("V1__x.sql", "create schema b")], "V1__x.sql:1", "beyond the tenant's schema"),
        ("shop", vec![("V1__x.sql", "create index concurrently i on a (b)")], "V1__x.sql:1", "leave it out"),
        ("shop", vec![("V1__x.sql", "select '")], "V1__x.sql:1", "does not end"),
    ] {
        let answer = admin.graphql(REGISTER, template(name, &files)).await;
        let error = &answer.body["errors"][0];
        assert_eq!((answer.code(), &error["extensions"]["field"]), ("invalid_input", &json!(field)), "{}", answer.text);
        assert!(error["message"].as_str().unwrap().contains(rule), "{}", answer.text);
    }
    let mut other = template("shop", &[ITEMS]);
    other["input"]["plans"] = json!(["no-such-plan"]);
    assert_eq!(admin.graphql(REGISTER, other).await.body["errors"][0]["extensions"]["field"], "plans");
    let tenant = app.tenant("service").await;
    let service = app.full_service(&tenant).await;
    assert_eq!(service.refused(REGISTER, template("shop", &[ITEMS])).await, "forbidden");
}
