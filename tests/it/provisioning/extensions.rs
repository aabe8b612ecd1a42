//! Vectors and graphs: made where the cell's PostgreSQL has pgvector and Apache AGE, each tenant's own, and required by plans.

use chrono::TimeDelta;
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use tenantry::{
    provisioning::{Names, Verdict},
    tenancy::IsolationTier,
};

use super::{
    ON, active,
    clusters::{Cluster, inventory, of_tenant, register, stem, texts},
    create, events, eventually, look, observed,
};
use crate::support::{Client, TestApp, again::missing};

fn on() -> String {
    ON.replace("\"schema\"]", "\"schema\", \"vectors\", \"graph\"]")
}

fn without_own() -> String {
    on().replace("[cells]", "[cells]\nown = false")
}

/// What everybody may do with its own.
const VECTORS: &str = "
    create table \"T_vectors\".items (id int, place vector(3));
    create index on \"T_vectors\".items using hnsw (place vector_l2_ops);
    insert into \"T_vectors\".items values (1, '[1,0,0]'), (2, '[0,1,0]')";
const NEAREST: &str = "select id::text from items order by place <-> '[0,2,0]' limit 1";

fn graph(stem: &str) -> String {
    Names::of(Names::owner(stem).unwrap()).graph()
}

fn cypher(graph: &str, query: &str) -> String {
    format!("select a::text from cypher('{graph}', $$ {query} $$) as (a agtype)")
}

/// What A's login tries on B's graph and vectors: `A`, `B` are stems, `gA`, `gB` graphs. All is refused.
const ATTEMPTS: &[&str] = &[
    "select * from \"B_vectors\".items",
    "create table \"B_vectors\".planted (id int)",
    "drop schema \"B_vectors\" cascade",
    "create table \"A_vectors\".child () inherits (\"B_vectors\".items)",
    "create function extensions.planted() returns int language sql as 'select 1'",
    "create operator extensions.<-> (leftarg = text, rightarg = text, function = textcat)",
    "drop extension vector",
    "alter extension age set schema \"A\"",
    "create extension age",
    "select * from cypher('gB', $$ match (a) return a $$) as (a agtype)",
    "select * from cypher('gB', $$ create (a:Planted) return a $$) as (a agtype)",
    "select * from cypher('gB', $$ match (a) detach delete a $$) as (a agtype)",
    "select * from cypher('gB', $$ match (a)-[*1..2]->(b) return b $$) as (a agtype)",
    "select * from \"gB\".\"Person\"",
    "select * from \"gB\"._ag_label_vertex",
    "drop schema \"gB\" cascade",
    "drop schema \"gA\" cascade",
    "grant usage on schema \"gA\" to public with grant option; select 1/0",
    "select * from ag_graph",
    "select * from ag_label",
    "insert into ag_graph values (1, 'planted', 'public')",
    "delete from ag_label",
    "select create_graph('planted')",
    "select drop_graph('gB', true)",
    "select alter_graph('gB', 'RENAME', 'taken')",
    "select create_vlabel('gB', 'Planted')",
    "select create_elabel('gB', 'Planted')",
    "select drop_label('gB', 'Person', false)",
    "select load_labels_from_file('gA', 'Person', '/etc/passwd')",
    "select load_edges_from_file('gA', 'KNOWS', '/etc/passwd')",
    "select create_complete_graph('gB', 3, 'e', 'v')",
    // These read any graph, past all rights, before they are taken from everybody.
    "select age_startnode('\"gB\"'::agtype, '{\"id\": 1125899906842625, \"label\": \"KNOWS\", \"end_id\": 844424930131969, \"start_id\": 844424930131969, \"properties\": {}}::edge'::agtype)",
    "select age_endnode('\"gB\"'::agtype, '{\"id\": 1125899906842625, \"label\": \"KNOWS\", \"end_id\": 844424930131969, \"start_id\": 844424930131969, \"properties\": {}}::edge'::agtype)",
    "select age_vertex_stats('\"gB\"'::agtype, '{\"id\": 844424930131969, \"label\": \"Person\", \"properties\": {}}::vertex'::agtype)",
    "select * from age_vle('\"gB\"'::agtype, null, null, '{\"id\": 1125899906842625, \"label\": \"KNOWS\", \"end_id\": 844424930131969, \"start_id\": 844424930131969, \"properties\": {}}::edge'::agtype, '1'::agtype, '2'::agtype, '1'::agtype)",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_tenant_has_vectors_and_a_graph_of_its_own_and_reaches_nobody_elses() {
    let Some(cluster) = Cluster::with_extensions() else { return missing("scripts/postgres-extensions") };
    let app = TestApp::with(&without_own()).await;
    let admin = app.admin().await;
    let cell = register(&admin, "able", "STANDARD", &cluster.url("postgres", "postgres")).await;
    let told = cell["extensions"].as_array().unwrap();
    let creatable = told.iter().filter(|found| ["age", "vector"].contains(&found["name"].as_str().unwrap()));
    assert!(creatable.clone().count() == 2 && creatable.clone().all(|found| found["creatable"] == true), "{cell}");

    let tenants = [
        create(&admin, "intruder", "STANDARD").await,
        create(&admin, "victim", "STANDARD").await,
        create(&admin, "large", "ENTERPRISE").await,
    ];
    let mut logins = Vec::new();
    for (tenant, database) in tenants.iter().zip(["postgres".to_owned(), "postgres".to_owned(), stem(tenants[2])]) {
        let seen = active(&admin, *tenant).await;
        let there = observed(&seen);
        assert!(there.contains(&("vectors", "PRESENT")) && there.contains(&("graph", "PRESENT")), "{seen}");
        let stem = stem(*tenant);
        let login = cluster.connect(&database, &format!("{stem}_a")).await;
        login.execute_unprepared(&VECTORS.replace('T', &stem)).await.unwrap();
        assert_eq!(texts(&login, NEAREST).await, ["2"], "its own it has");
        let make = format!("create (a:Person {{name: 'of {stem}'}})-[:KNOWS]->(b:Person) return a.name");
        assert_eq!(texts(&login, &cypher(&graph(&stem), &make)).await, [format!("of {stem}")]);
        let find = "match (a:Person)-[:KNOWS]->(b) return a.name";
        assert_eq!(texts(&login, &cypher(&graph(&stem), find)).await, [format!("of {stem}")]);
        logins.push((stem, login));
    }

    let [(a, intruder), (b, victim), (large, roomy)] = &logins[..] else { panic!("three") };
    let visitor = cluster.connect("postgres", &format!("{large}_a")).await;
    for (who, login, own) in [("a neighbour", intruder, a), ("who has its own database", &visitor, large)] {
        for attempt in ATTEMPTS {
            let statement = attempt.replace("gA", &graph(own)).replace("gB", &graph(b));
            let statement = statement.replace("\"A", &format!("\"{own}")).replace("\"B", &format!("\"{b}"));
            let refused = login.execute_unprepared(&statement).await;
            let Err(error) = refused else { panic!("{who} may: {attempt}") };
            assert!(!error.to_string().contains("of t_"), "a refusal shows what is there: {attempt}: {error}");
        }
    }
    assert_eq!(texts(victim, &cypher(&graph(b), "match (a) return count(a)")).await, ["2"], "B's is untouched");
    // That there are graphs can be seen, as there are schemas; not whose they are.
    let names = texts(intruder, "select nspname::text from pg_namespace where nspname like 'g\\_%'").await;
    assert!(names.contains(&graph(b)) && names.iter().all(|name| !name.contains(&b[2..])), "{names:?}");
    // Alone in its database, a tenant has all of Cypher, and still no files of the server.
    let paths = "match (a:Person)-[*1..2]->(b) return a.name";
    assert_eq!(texts(roomy, &cypher(&graph(large), paths)).await, [format!("of {large}")]);
    let file = format!("select load_labels_from_file('{}', 'Person', '/etc/passwd')", graph(large));
    assert!(roomy.execute_unprepared(&file).await.is_err());

    for tenant in tenants {
        app.app.provisioning.remove_all(tenant).await.unwrap();
        assert_eq!(app.app.provisioning.residue(tenant).await.unwrap(), [""; 0]);
        assert_eq!(of_tenant(&inventory(&cluster).await, tenant), [""; 0]);
    }
    let superuser = cluster.connect("postgres", "postgres").await;
    assert_eq!(texts(&superuser, "select name::text from ag_catalog.ag_graph").await, [""; 0]);
}

/// Each is done to tenant `T` with graph `G`, and opens something.
const TAMPERING: &[(&str, &str)] = &[
    ("vectors", "grant usage on schema \"T_vectors\" to public"),
    ("vectors", "grant create on schema extensions to public"),
    ("vectors", "drop schema \"T_vectors\""),
    ("graph", "grant usage on schema \"G\" to public"),
    ("graph", "grant execute on function ag_catalog.age_startnode(ag_catalog.agtype, ag_catalog.agtype) to public"),
    ("graph", "grant execute on function ag_catalog.load_edges_from_file(name, name, text) to public"),
    ("graph", "alter table \"G\"._ag_label_vertex owner to postgres"),
    (
        "graph",
        "do $$ begin execute format('alter database %I reset session_preload_libraries', current_database()); end $$",
    ),
    ("graph", "select ag_catalog.drop_graph('G', true)"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_opens_vectors_or_a_graph_is_found_and_mended() {
    let Some(cluster) = Cluster::with_extensions() else { return missing("scripts/postgres-extensions") };
    let app = TestApp::with(&without_own()).await;
    let admin = app.admin().await;
    register(&admin, "able", "STANDARD", &cluster.url("postgres", "postgres")).await;
    let tenant = create(&admin, "tampered", "STANDARD").await;
    active(&admin, tenant).await;
    let superuser = cluster.connect("postgres", "postgres").await;
    let mut drifts = 0;
    for (layer, statement) in TAMPERING {
        let done = statement.replace('T', &stem(tenant)).replace('G', &graph(&stem(tenant)));
        superuser.execute_unprepared(&done).await.unwrap();
        super::mended(&app, tenant, layer, drifts).await;
        drifts = events(&app, tenant).await.iter().filter(|event| *event == "LayerDrifted").count();
        let site = app.app.provisioning.site_of(tenant).await.unwrap();
        for found in app.app.provisioning.layers().iter().filter(|layer| layer.serves(IsolationTier::Standard)) {
            let verdict = found.verify(&site).await.unwrap();
            assert_eq!(verdict, Verdict::InPlace, "{}: {statement}", found.name());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_on_a_cell_without_the_extensions_is_active_without_them_and_is_told_why() {
    let app = TestApp::with(&on()).await;
    let admin = app.admin().await;
    let tenant = create(&admin, "plain", "STANDARD").await;
    let seen = active(&admin, tenant).await;
    for (name, title) in [("vectors", "pgvector (vector)"), ("graph", "Apache AGE (age)")] {
        let layer = seen["layers"].as_array().unwrap().iter().find(|layer| layer["name"] == name).unwrap();
        assert!(layer["observed"] == "UNAVAILABLE" && layer["essential"] == false, "{layer}");
        assert_eq!(layer["lastError"], format!("not available on this cell: the PostgreSQL of own has no {title}"));
    }
    app.app.provisioning.remove_all(tenant).await.unwrap();
    assert_eq!(app.app.provisioning.residue(tenant).await.unwrap(), [""; 0]);
}

/// The login may make roles and databases, and no extensions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_cells_login_is_no_superuser_a_person_is_told_what_to_do() {
    let Some(cluster) = Cluster::with_extensions() else { return missing("scripts/postgres-extensions") };
    let app = TestApp::with(&without_own()).await;
    let admin = app.admin().await;
    let superuser = cluster.connect("postgres", "postgres").await;
    let make = "create role cell login createrole createdb; alter database postgres owner to cell";
    superuser.execute_unprepared(make).await.unwrap();
    register(&admin, "modest", "STANDARD", &cluster.url("postgres", "cell")).await;
    let tenant = create(&admin, "plain", "STANDARD").await;
    let why = |seen: &Value, name: &str| {
        let layers = seen["layers"].as_array().unwrap().clone();
        let layer = layers.into_iter().find(|layer| layer["name"] == name).unwrap();
        (layer["observed"].as_str().unwrap().to_owned(), layer["lastError"].as_str().unwrap().to_owned())
    };
    let seen = active(&admin, tenant).await;
    for (name, word) in [("vectors", "make extension vector"), ("graph", "make extension age")] {
        let (state, sentence) = why(&seen, name);
        assert!(
            state == "UNAVAILABLE" && sentence.contains("its superuser has to do") && sentence.contains(word),
            "{seen}"
        );
    }
    // Vectors need no more than the extension in its place.
    let prepare = "create schema extensions authorization cell; create extension vector schema extensions";
    superuser.execute_unprepared(prepare).await.unwrap();
    app.advance(TimeDelta::minutes(75));
    let admin = app.admin().await;
    eventually("vectors are there", async || {
        (why(&look(&admin, tenant).await, "vectors").0 == "PRESENT").then_some(())
    })
    .await;
    app.run_due().await;
    let cells = admin.ok("{ cells { extensions { name installed creatable } } }", json!({})).await;
    let vector = cells["cells"][0]["extensions"].as_array().unwrap().iter().find(|found| found["name"] == "vector");
    let vector = vector.unwrap();
    assert!(vector["installed"].is_string() && vector["creatable"] == false, "what the cell has is known: {cells}");
}

async fn plan(admin: &Client, key: &str, tier: &str, layers: &[&str]) -> crate::support::Answer {
    let create = "mutation($input: CreatePlanInput!) { createPlan(input: $input) { plan { key requiredLayers } } }";
    let sla = json!({ "uptime": "99.5", "supportHours": "8x5", "supportResponse": { "critical": "1h", "high": "4h", "normal": "1day" } });
    let input = json!({ "key": key, "name": key, "isolationTier": tier, "requiredLayers": layers, "sla": sla });
    admin.graphql(create, json!({ "input": input })).await
}

async fn of_plan(admin: &Client, slug: &str, plan: &str) -> crate::support::Answer {
    let create = "mutation($input: CreateTenantInput!) { createTenant(input: $input) { tenant { id } } }";
    admin.graphql(create, json!({ "input": { "slug": slug, "name": slug, "plan": plan } })).await
}

const CHANGE: &str = "mutation($id: ID!, $plan: String!) { changePlan(input: {id: $id, plan: $plan, force: true}) { tenant { planKey } } }";

#[track_caller]
fn refused(answer: &crate::support::Answer, field: &str, rule: &str) {
    let error = &answer.body["errors"][0];
    let is_so = error["extensions"]["code"] == "invalid_input" && error["extensions"]["field"] == field;
    assert!(is_so && error["message"].as_str().unwrap().contains(rule), "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_requires_what_no_cell_has_is_refused_to_new_tenants_and_old_ones() {
    let app = TestApp::with(&on()).await;
    let admin = app.admin().await;
    refused(&plan(&admin, "odd", "STANDARD", &["vektors"]).await, "requiredLayers", "there are vectors, graph");
    refused(&plan(&admin, "odd", "STANDARD", &["role"]).await, "requiredLayers", "cannot be required");
    let made = plan(&admin, "clever", "STANDARD", &["vectors", "graph"]).await;
    assert_eq!(made.data()["createPlan"]["plan"]["requiredLayers"], json!(["vectors", "graph"]));
    let lacks = "requires vector, age, which no cell in eu-central-1 has for this tier: own has no vector, age";
    refused(&of_plan(&admin, "eager", "clever").await, "plan", lacks);
    let settled = create(&admin, "settled", "STANDARD").await;
    active(&admin, settled).await;
    let change = admin.graphql(CHANGE, json!({ "id": settled, "plan": "clever" })).await;
    refused(&change, "plan", "requires vector, age, which is not available on the tenant's cell");
    assert_eq!(look(&admin, settled).await["status"], "ACTIVE");
    let bare = TestApp::with(ON).await;
    let none = plan(&bare.admin().await, "clever", "STANDARD", &["vectors"]).await;
    refused(&none, "requiredLayers", "this server makes none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_of_a_plan_that_requires_vectors_are_placed_where_there_are_some() {
    let Some(able) = Cluster::with_extensions() else { return missing("scripts/postgres-extensions") };
    let plain = Cluster::start();
    let app = TestApp::with(&without_own()).await;
    let admin = app.admin().await;
    register(&admin, "a-plain", "STANDARD", &plain.url("postgres", "postgres")).await;
    register(&admin, "b-able", "STANDARD", &able.url("postgres", "postgres")).await;
    assert!(plan(&admin, "clever", "STANDARD", &["vectors"]).await.body["errors"].is_null());
    let anywhere = create(&admin, "anywhere", "STANDARD").await;
    assert!(active(&admin, anywhere).await["placement"]["reason"].as_str().unwrap().starts_with("a-plain"));
    // The second would go to the other by load alone.
    for number in 0..2 {
        let answer = of_plan(&admin, &format!("clever-{number}"), "clever").await;
        let tenant = answer.data()["createTenant"]["tenant"]["id"].as_str().unwrap().parse().unwrap();
        let seen = active(&admin, tenant).await;
        let reason = seen["placement"]["reason"].as_str().unwrap();
        assert!(reason.starts_with("b-able") && reason.ends_with("it has vector, which the plan requires"), "{reason}");
        let layers = seen["layers"].as_array().unwrap();
        let is_essential = |name: &str| layers.iter().find(|layer| layer["name"] == name).unwrap()["essential"].clone();
        assert_eq!((is_essential("vectors"), is_essential("graph")), (json!(true), json!(false)));
        let freed = admin.ok(CHANGE, json!({ "id": tenant, "plan": "starter" })).await;
        assert_eq!(freed["changePlan"]["tenant"]["planKey"], "starter");
        let back = admin.ok(CHANGE, json!({ "id": tenant, "plan": "clever" })).await;
        assert_eq!(back["changePlan"]["tenant"]["planKey"], "clever");
    }
    let change = admin.graphql(CHANGE, json!({ "id": anywhere, "plan": "clever" })).await;
    refused(&change, "plan", "move the tenant to one that has it");
}
