//! What a tenant is: input rules, versions, idempotency, lists, plans, files.

use chrono::TimeDelta;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use serde_json::{Value, json};

use crate::support::TestApp;

const CREATE: &str = "mutation($input: CreateTenantInput!) { createTenant(input: $input) { tenant { id slug name plan { key } isolationTier region status version createdAt } } }";
const UPDATE: &str =
    "mutation($input: UpdateTenantInput!) { updateTenant(input: $input) { tenant { id name version slug } } }";

#[tokio::test]
async fn a_new_tenant_has_the_plans_tier_and_the_default_region() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let made = admin.ok(CREATE, json!({ "input": { "slug": "acme", "name": "Acme", "plan": "enterprise" } })).await["createTenant"]["tenant"].clone();
    assert_eq!(
        (&made["isolationTier"], &made["region"], &made["status"], &made["version"]),
        (&json!("ENTERPRISE"), &json!("eu-central-1"), &json!("CREATED"), &json!(1))
    );
    let id: uuid::Uuid = made["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(id.get_version_num(), 4);
    assert!(made["createdAt"].as_str().unwrap().ends_with("+00:00"), "times are in UTC: {}", made["createdAt"]);
    let premium =
        admin.ok(CREATE, json!({ "input": { "slug": "agency", "name": "Agency", "isolationTier": "PREMIUM" } })).await;
    assert_eq!(premium["createTenant"]["tenant"]["plan"]["key"], "enterprise");
}

#[tokio::test]
async fn bad_input_names_the_field_and_makes_nothing() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let long = "a".repeat(64);
    let cases: Vec<(Value, &str)> = vec![
        (json!({ "slug": "Acme", "name": "x" }), "slug"),
        (json!({ "slug": long, "name": "x" }), "slug"),
        (json!({ "slug": "ab", "name": "x" }), "slug"),
        (json!({ "slug": "www", "name": "x" }), "slug"),
        (json!({ "slug": "-acme", "name": "x" }), "slug"),
        (json!({ "slug": "ac_me", "name": "x" }), "slug"),
        (json!({ "slug": "xn--acme", "name": "x" }), "slug"),
        (json!({ "slug": "acme", "name": " " }), "name"),
        (json!({ "slug": "acme", "name": "x\u{0}y" }), "name"),
        (json!({ "slug": "acme", "name": "x", "plan": "gold" }), "plan"),
        (json!({ "slug": "acme", "name": "x", "region": "EU West" }), "region"),
        (json!({ "slug": "acme", "name": "x", "labels": [{ "key": "", "value": "y" }] }), "labels"),
        (json!({ "slug": "acme", "name": "x", "profile": { "timeZone": "Mars/Olympus" } }), "profile.timeZone"),
        (
            json!({ "slug": "acme", "name": "x", "profile": { "technicalContacts": [{ "name": "a", "email": "nobody" }] } }),
            "profile.technicalContacts[0].email",
        ),
        (
            json!({ "slug": "acme", "name": "x", "profile": { "billingAddress": { "lines": [], "country": "Austria" } } }),
            "profile.billingAddress.country",
        ),
        (json!({ "slug": "acme", "name": "x", "sla": { "uptime": "101" } }), "sla.uptime"),
        (json!({ "slug": "acme", "name": "x", "sections": { "unheard": {} } }), "sections"),
    ];
    for (input, field) in cases {
        let answer = admin.graphql(CREATE, json!({ "input": input })).await;
        let extensions = &answer.body["errors"][0]["extensions"];
        assert_eq!(
            (&extensions["code"], &extensions["field"], &extensions["retryable"]),
            (&json!("invalid_input"), &json!(field), &json!(false)),
            "{}",
            answer.text
        );
        assert!(extensions["requestId"].as_str().is_some_and(|id| !id.is_empty()));
    }
    let none = admin.ok("{ tenants { edges { node { slug } } } audit { edges { node { event } } } }", json!({})).await;
    assert_eq!(none["tenants"]["edges"], json!([]));
}

#[tokio::test]
async fn a_slug_belongs_to_one_tenant_only() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let input = json!({ "input": { "slug": "acme", "name": "Acme" } });
    admin.ok(CREATE, input.clone()).await;
    let again = admin.graphql(CREATE, input).await;
    assert_eq!((again.code(), &again.body["errors"][0]["extensions"]["field"]), ("conflict", &json!("slug")));
    assert!(!again.text.contains("constraint") && !again.text.contains("Key ("), "{}", again.text);
}

#[tokio::test]
async fn a_stale_version_is_a_conflict() {
    let app = TestApp::start().await;
    let (admin, tenant) = (app.admin().await, app.tenant("acme").await);
    let at =
        |version: i64, name: &str| json!({ "input": { "id": tenant.id, "name": name, "expectedVersion": version } });
    assert_eq!(admin.ok(UPDATE, at(2, "first")).await["updateTenant"]["tenant"]["version"], 3);
    let stale = admin.graphql(UPDATE, at(2, "second")).await;
    assert_eq!((stale.code(), &stale.body["errors"][0]["extensions"]["details"]["version"]), ("conflict", &json!(3)));
    assert_eq!(
        admin.ok("query($id: ID) { tenant(id: $id) { name } }", json!({ "id": tenant.id })).await["tenant"]["name"],
        "first"
    );
}

#[tokio::test]
async fn an_idempotency_key_gives_the_first_answer_again_for_a_day() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let input = json!({ "input": { "slug": "acme", "name": "Acme" } });
    let first = admin.graphql_once("key-1", CREATE, input.clone()).await;
    let again = admin.graphql_once("key-1", CREATE, input.clone()).await;
    assert_eq!((first.status, &first.body["data"]), (200, &again.body["data"]), "{}", again.text);
    let other = admin.graphql_once("key-1", CREATE, json!({ "input": { "slug": "other", "name": "Other" } })).await;
    assert_eq!(other.code(), "conflict", "{}", other.text);
    let listed = admin.ok("{ tenants { edges { node { slug } } } }", json!({})).await;
    assert_eq!(listed["tenants"]["edges"].as_array().unwrap().len(), 1);
    app.advance(TimeDelta::hours(25));
    let admin = app.admin().await;
    assert_eq!(
        admin.graphql_once("key-1", CREATE, input).await.code(),
        "conflict",
        "the slug is taken, so the request ran anew"
    );
}

#[tokio::test]
async fn what_has_expired_is_deleted_once_a_minute_by_the_clock() {
    let app = TestApp::with("[worker]\ninterval = \"1h\"").await; // nothing but this test runs what is due
    let database = app.database.superuser().await;
    let remembered = async || {
        let count = "select count(*) from tenantry.idempotency_keys";
        let row = database.query_one_raw(Statement::from_string(DbBackend::Postgres, count)).await.unwrap().unwrap();
        row.try_get_by_index::<i64>(0).unwrap()
    };
    let admin = app.admin().await;
    let made = admin.graphql_once("key-1", CREATE, json!({ "input": { "slug": "acme", "name": "Acme" } })).await;
    assert!(made.body["errors"].is_null(), "{}", made.text);
    app.run_due().await;
    assert_eq!(remembered().await, 1);
    app.advance(TimeDelta::hours(25));
    app.run_due().await;
    assert_eq!(remembered().await, 0);

    database.execute_unprepared("insert into tenantry.idempotency_keys (tenant_id, subject, key, request_hash, created_at) values (gen_random_uuid(), 's', 'k', '', '2001-01-01')").await.unwrap();
    app.advance(TimeDelta::seconds(30));
    app.run_due().await;
    assert_eq!(remembered().await, 1, "half a minute later it is not looked for");
    app.advance(TimeDelta::seconds(30));
    app.run_due().await;
    assert_eq!(remembered().await, 0);
}

#[tokio::test]
async fn concurrent_requests_with_one_idempotency_key_make_one_tenant() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let input = json!({ "input": { "slug": "acme", "name": "Acme" } });
    let answers = futures::future::join_all((0..8).map(|_| admin.graphql_once("key-2", CREATE, input.clone()))).await;
    for answer in &answers {
        assert_eq!(answer.body["data"], answers[0].body["data"], "{}", answer.text);
        assert!(answer.body["errors"].is_null(), "{}", answer.text);
    }
}

#[tokio::test]
async fn a_service_changes_its_own_name_and_not_what_is_the_operators() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let service = app.full_service(&tenant).await;
    service.ok(UPDATE, json!({ "input": { "id": tenant.id, "name": "Acme & Co" } })).await;
    for field in ["slug", "externalId", "region"] {
        let answer = service.graphql(UPDATE, json!({ "input": { "id": tenant.id, field: "taken-over" } })).await;
        assert_eq!(
            (answer.code(), &answer.body["errors"][0]["extensions"]["field"]),
            ("forbidden", &json!(field)),
            "{}",
            answer.text
        );
    }
}

#[tokio::test]
async fn lists_are_filtered_ordered_and_walked_page_by_page_without_gap() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    for index in 0..23 {
        let input = json!({ "slug": format!("tenant-{index:02}"), "name": format!("Name {}", 99 - index), "plan": if index % 2 == 0 { "pro" } else { "starter" },
            "region": if index < 5 { "us-east-1" } else { "eu-central-1" }, "labels": [{ "key": "sector", "value": if index % 3 == 0 { "health" } else { "trade" } }] });
        admin.ok(CREATE, json!({ "input": input })).await;
    }
    let list = "query($filter: TenantFilter, $order: TenantOrder! = CREATED_AT_ASC, $first: Int! = 4, $after: String) { tenants(filter: $filter, order: $order, first: $first, after: $after) { edges { cursor node { slug name } } pageInfo { hasNextPage hasPreviousPage endCursor } } }";
    for order in ["CREATED_AT_ASC", "CREATED_AT_DESC", "NAME_ASC", "NAME_DESC"] {
        let (mut after, mut slugs, mut names) = (Value::Null, Vec::new(), Vec::new());
        loop {
            let page = admin.ok(list, json!({ "order": order, "after": after })).await["tenants"].clone();
            for edge in page["edges"].as_array().unwrap() {
                slugs.push(edge["node"]["slug"].as_str().unwrap().to_owned());
                names.push(edge["node"]["name"].as_str().unwrap().to_owned());
            }
            after = page["pageInfo"]["endCursor"].clone();
            if page["pageInfo"]["hasNextPage"] == false {
                break;
            }
        }
        assert_eq!(slugs.len(), 23, "{order}");
        let mut sorted = if order.starts_with("NAME") { names.clone() } else { slugs.clone() };
        sorted.sort();
        if order.ends_with("DESC") {
            sorted.reverse();
        }
        assert_eq!(if order.starts_with("NAME") { names } else { slugs }, sorted, "{order}");
        assert_eq!(admin.refused(list, json!({ "order": if order.starts_with("NAME") { "CREATED_AT_ASC" } else { "NAME_ASC" }, "after": after })).await, "invalid_input");
    }
    for (filter, expected) in [
        (json!({ "plan": "pro" }), 12),
        (json!({ "region": "us-east-1" }), 5),
        (json!({ "labels": [{ "key": "sector", "value": "health" }] }), 8),
        (json!({ "text": "NAME 9" }), 10),
        (json!({ "text": "t-2" }), 3),
        (json!({ "text": "%_%" }), 0),
        (json!({ "status": ["CREATED"], "plan": "pro", "labels": [{ "key": "sector", "value": "health" }] }), 4),
        (json!({ "status": ["ACTIVE", "SUSPENDED"] }), 0),
        (json!({ "isolationTier": "STANDARD" }), 23),
    ] {
        let page = admin.ok(list, json!({ "filter": filter, "first": 100 })).await;
        assert_eq!(page["tenants"]["edges"].as_array().unwrap().len(), expected, "{filter}");
    }
    for (variables, field) in [
        (json!({ "first": 0 }), "first"),
        (json!({ "first": 101 }), "first"),
        (json!({ "after": "x" }), "after"),
        (json!({ "filter": { "text": "ab" } }), "filter.text"),
    ] {
        let answer = admin.graphql(list, variables).await;
        assert_eq!((answer.code(), &answer.body["errors"][0]["extensions"]["field"]), ("invalid_input", &json!(field)));
    }
}

#[tokio::test]
async fn a_listed_tenant_is_the_same_as_one_asked_for_by_itself() {
    let app = TestApp::start().await;
    let (a, b) = (app.tenant("acme").await, app.tenant("beta").await);
    let admin = app.admin().await;
    let suspend =
        "mutation($id: ID!) { suspendTenant(input: {id: $id, reason: BILLING, note: \"unpaid\"}) { tenant { id } } }";
    admin.ok(suspend, json!({ "id": b.id })).await;
    const ALL: &str = "fragment All on Tenant { id slug externalId name planKey isolationTier region status allowedTransitions
        suspension { mode reason note since drainUntil } suspendAt resumeAt deletedAt eraseAt accessEpoch
        profile { legalName displayName crmId partner billingAddress { lines } technicalContacts { name email phone } }
        labels { key value } slaOverrides { uptime } section(name: \"settings\") sla { uptime } plan { key } version createdAt updatedAt }";
    let list = admin.ok(&format!("{{ tenants {{ edges {{ node {{ ...All }} }} }} }} {ALL}"), json!({})).await;
    for (tenant, edge) in [&a, &b].iter().zip(list["tenants"]["edges"].as_array().unwrap()) {
        let alone = format!("query($id: ID!) {{ tenant(id: $id) {{ ...All }} }} {ALL}");
        assert_eq!(admin.ok(&alone, json!({ "id": tenant.id })).await["tenant"], edge["node"]);
    }
}

#[tokio::test]
async fn plans_are_a_catalogue_that_operators_extend() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let shipped = admin.ok("{ plans { key features sla { uptime } } }", json!({})).await;
    let keys: Vec<_> = shipped["plans"].as_array().unwrap().iter().map(|plan| plan["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["enterprise", "pro", "starter"]);
    let create = "mutation($input: CreatePlanInput!) { createPlan(input: $input) { plan { key version quotas { key limit } sla { uptime } } } }";
    let input = json!({ "key": "team", "name": "Team", "isolationTier": "STANDARD", "quotas": [{ "key": "max_users", "limit": 25 }],
        "sla": { "uptime": "99.7", "supportHours": "8x5", "supportResponse": { "critical": "4h", "high": "8h", "normal": "2days" } } });
    admin.ok(create, json!({ "input": input })).await;
    assert_eq!(admin.refused(create, json!({ "input": input })).await, "conflict");
    let update = "mutation { updatePlan(input: {key: \"team\", expectedVersion: 1, sla: {uptime: \"99.8\"}}) { plan { version sla { uptime supportHours } } } }";
    let plan = admin.ok(update, json!({})).await["updatePlan"]["plan"].clone();
    assert_eq!(
        (&plan["version"], &plan["sla"]["uptime"], &plan["sla"]["supportHours"]),
        (&json!(2), &json!("99.8"), &json!("8x5"))
    );
    assert_eq!(admin.refused(update, json!({})).await, "conflict");
    let made = admin.ok(CREATE, json!({ "input": { "slug": "acme", "name": "Acme", "plan": "starter" } })).await;
    let id = &made["createTenant"]["tenant"]["id"];
    let change = "mutation($id: ID!) { changePlan(input: {id: $id, plan: \"team\"}) { tenant { plan { key } sla { uptime } } } }";
    assert_eq!(admin.ok(change, json!({ "id": id })).await["changePlan"]["tenant"]["sla"]["uptime"], "99.8");
}

#[tokio::test]
async fn a_contracts_sla_stands_on_top_of_the_plans() {
    let app = TestApp::start().await;
    let (admin, tenant) = (app.admin().await, app.tenant("acme").await);
    let update = "mutation($id: ID!) { updateTenant(input: {id: $id, sla: {uptime: \"99.95\"}}) { tenant { sla { uptime supportHours } slaOverrides { uptime supportHours } } } }";
    let tenant = admin.ok(update, json!({ "id": tenant.id })).await["updateTenant"]["tenant"].clone();
    assert_eq!(tenant["sla"], json!({ "uptime": "99.95", "supportHours": "8x5" }));
    assert_eq!(tenant["slaOverrides"], json!({ "uptime": "99.95", "supportHours": null }));
}

#[tokio::test]
async fn a_registered_schema_holds_a_section_to_its_form() {
    let app = TestApp::start().await;
    let (admin, tenant) = (app.admin().await, app.tenant("acme").await);
    let register =
        "mutation($input: RegisterSettingsSchemaInput!) { registerSettingsSchema(input: $input) { section version } }";
    let schema =
        json!({ "type": "object", "properties": { "erp": { "enum": ["sap", "navision"] } }, "required": ["erp"] });
    admin.ok(register, json!({ "input": { "section": "integrations", "schema": schema } })).await;
    assert_eq!(
        admin.refused(register, json!({ "input": { "section": "integrations", "schema": { "type": 7 } } })).await,
        "invalid_input"
    );
    let set = |value: Value| json!({ "input": { "id": tenant.id, "sections": { "integrations": value } } });
    let refused = admin.graphql(UPDATE, set(json!({ "erp": "paper" }))).await;
    assert_eq!(
        (refused.code(), &refused.body["errors"][0]["extensions"]["field"]),
        ("invalid_input", &json!("integrations.erp")),
        "{}",
        refused.text
    );
    admin.ok(UPDATE, set(json!({ "erp": "sap" }))).await;
}

#[tokio::test]
async fn a_tenant_file_is_applied_once_and_then_differs_in_nothing() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let apply = "mutation($input: ApplyTenantInput!) { applyTenant(input: $input) { created tenant { id slug isolationTier plan { key } region version labels { key value } profile { technicalContacts { email } } sla { uptime } section(name: \"compliance\") } differences { path before after } } }";
    for (file, slug) in [("acme-retail.yaml", "tenant-100"), ("northshire-police.yaml", "northshire")] {
        let document =
            std::fs::read_to_string(format!("{}/tests/it/files/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let dry =
            admin.ok(apply, json!({ "input": { "document": document, "dryRun": true } })).await["applyTenant"].clone();
        assert_eq!((&dry["created"], &dry["tenant"]), (&json!(false), &Value::Null));
        assert!(!dry["differences"].as_array().unwrap().is_empty());
        let made = admin.ok(apply, json!({ "input": { "document": document } })).await["applyTenant"].clone();
        assert_eq!((&made["created"], &made["tenant"]["slug"]), (&json!(true), &json!(slug)));
        let again = admin.ok(apply, json!({ "input": { "document": document } })).await["applyTenant"].clone();
        assert_eq!(
            (&again["created"], &again["differences"], &again["tenant"]["version"]),
            (&json!(false), &json!([]), &json!(1)),
            "{again}"
        );
        let export = "query($id: ID, $format: DocumentFormat!) { exportTenant(id: $id, format: $format) }";
        for format in ["YAML", "TOML"] {
            let exported =
                admin.ok(export, json!({ "id": made["tenant"]["id"], "format": format })).await["exportTenant"].clone();
            let same =
                admin.ok(apply, json!({ "input": { "document": exported, "format": format } })).await["applyTenant"]
                    .clone();
            assert_eq!((&same["created"], &same["differences"]), (&json!(false), &json!([])), "{format}: {exported}");
        }
        let changed = document.replace("eu-west-1\n", "eu-north-1\n").replace("region: us-east-1", "region: us-west-2");
        let differs = admin.ok(apply, json!({ "input": { "document": changed } })).await["applyTenant"].clone();
        let paths: Vec<_> = differs["differences"]
            .as_array()
            .unwrap()
            .iter()
            .map(|difference| difference["path"].as_str().unwrap())
            .collect();
        assert_eq!((paths, &differs["tenant"]["version"]), (vec!["region"], &json!(2)));
    }
}

#[tokio::test]
async fn a_bad_tenant_file_names_what_is_wrong_and_changes_nothing() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let apply = "mutation($document: String!, $format: DocumentFormat! = YAML) { applyTenant(input: {document: $document, format: $format}) { created } }";
    let bomb = format!(
        "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n{}",
        "d: [*c,*c,*c,*c,*c,*c,*c,*c]\n"
    );
    for (document, field) in [
        ("tenant: {id: acme, slug: acme, colour: red}", "tenant.colour"),
        ("tenant: {id: acme, slug: Acme}", "tenant.slug"),
        ("tenant: {id: acme, tier: gold}", "tenant.tier"),
        ("tenant: {id: acme, plan: gold}", "tenant.plan"),
        ("tenant: {id: acme, labels: {a: [1]}}", "tenant.labels.a"),
        (
            "tenant: {id: acme, contacts: {technical: [{name: x, email: x}]}}",
            "tenant.profile.technicalContacts[0].email",
        ),
        ("tenant: {name: nobody}", "tenant.id"),
        ("tenant: [", "document"),
        ("other: {}", "other"),
        (bomb.as_str(), "a"),
    ] {
        let answer = admin.graphql(apply, json!({ "document": document })).await;
        assert_eq!(
            (answer.code(), &answer.body["errors"][0]["extensions"]["field"]),
            ("invalid_input", &json!(field)),
            "{document}: {}",
            answer.text
        );
    }
    assert_eq!(admin.ok("{ tenants { edges { node { id } } } }", json!({})).await["tenants"]["edges"], json!([]));
}
