//! Tenants with a graph, which is in a schema beside their own.

use sea_orm::{ConnectionTrait as _, DatabaseConnection};
use serde_json::{Value, json};
use tenantry::{platform::ids::TenantId, provisioning::Names};

use super::{
    clients::Clients,
    scene::{CONFIRM, MOVE, Scene, contents, contents_of, service, settings},
};
use crate::{
    provisioning::{
        clusters::{Cluster, register, stem, texts},
        eventually, look, observed,
    },
    support::again::missing,
};

fn with_graph() -> String {
    settings().replace("\"schema\"]", "\"schema\", \"vectors\", \"graph\"]")
}

/// Values of all types; labels whose numbers have gaps; a vertex without a label.
const GRAPH: &str = r#"
    select nextval('"G"._label_id_seq');
    select * from cypher('G', $$ create (:Person {name: 'a', f: 1.0, e: 1.5e300, n: 3::numeric, l: [1, 2.5, null, true], s: 'q"u\\o\te\nü'})
      -[:KNOWS {since: 1}]->(:Person {name: 'b', m: {x: 1, y: {z: []}}}) $$) as (a agtype);
    select * from cypher('G', $$ create ({name: 'without a label'}) $$) as (a agtype);
    select * from cypher('G', $$ create (:select) $$) as (a agtype);
    create index person_properties on "G"."Person" using gin (properties);
    create unique index person_id on "G"."Person" (id);
    create statistics "G".known on start_id, end_id from "G"."KNOWS";"#;

/// Writes of `written` are drawn, too.
const DRAWN: &str = r#"
    create table written (client integer, n bigint, value bigint, primary key (client, n));
    create function drawn() returns trigger language plpgsql as $f$ begin
      case tg_op
        when 'INSERT' then execute format('select * from cypher(''G'', $c$ create (:Written {client: %s, n: %s, value: %s})-[:OF]->(:Client {client: %1$s}) $c$) as (a agtype)',
          new.client, new.n, new.value);
        when 'UPDATE' then execute format('select * from cypher(''G'', $c$ match (a:Written {client: %s, n: %s}) set a.value = %s $c$) as (a agtype)',
          new.client, new.n, new.value);
        else execute format('select * from cypher(''G'', $c$ match (a:Written {client: %s, n: %s}) detach delete a $c$) as (a agtype)', old.client, old.n);
      end case;
      return null; end $f$;
    create trigger drawn after insert or update or delete on written for each row execute function drawn();
    insert into written values (99, 1, 1);"#;

/// What the tenant itself makes.
pub(super) fn drawing(tenant: TenantId) -> String {
    of(tenant, GRAPH)
}

fn of(tenant: TenantId, statements: &str) -> String {
    let graph = name(tenant);
    statements.replace("\"G\"", &format!("\"{graph}\"")).replace("'G'", &format!("'{graph}'"))
}

fn name(tenant: TenantId) -> String {
    Names::of(tenant).graph()
}

/// Rows of one column, of vertices and edges with their ids.
async fn found(db: &DatabaseConnection, tenant: TenantId, query: &str) -> Vec<String> {
    let graph = name(tenant);
    let mut rows =
        texts(db, &format!("select format('%s', a) from cypher('{graph}', $$ {query} $$) as (a agtype)")).await;
    rows.sort_unstable();
    rows
}

async fn people(db: &DatabaseConnection, tenant: TenantId) -> Vec<String> {
    let paths = found(db, tenant, "match (a:Person)-[k:KNOWS]->(b) return [a, k, b]").await;
    [paths, found(db, tenant, "match (a) where a.name = 'without a label' return a").await].concat()
}

/// Both schemas, and under which numbers the graph knows its labels.
async fn everything(scene: &Scene, cluster: &Cluster, database: &str) -> Vec<String> {
    let graph = name(scene.tenant);
    let mut found = contents(cluster, database, scene.tenant).await;
    found.extend(contents_of(cluster, database, &graph).await);
    let db = cluster.connect(database, "postgres").await;
    let labels =
        "select format('label %s %s %s %s %s', name, id, kind, relation, seq_name) from ag_catalog.ag_label order by 1";
    found.extend(texts(&db, labels).await);
    db.close().await.unwrap();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graph_goes_with_its_tenant_to_a_database_of_its_own_and_back_while_services_write() {
    let (Some(source), Some(target)) = (Cluster::with_extensions(), Cluster::with_extensions()) else {
        return missing("scripts/postgres-extensions");
    };
    let scene = Scene::with(&with_graph(), (source, "STANDARD"), (target, "ENTERPRISE")).await;
    let (admin, tenant, own) = (scene.app.admin().await, scene.tenant, stem(scene.tenant));
    let standard = scene.of_tenant(&scene.source).await;
    let before = service(&admin, tenant).await;
    before.execute_unprepared(&of(tenant, &[GRAPH, DRAWN].concat())).await.unwrap();
    let known = people(&before, tenant).await;
    assert_eq!(known.len(), 2, "{known:?}");
    let clients = Clients::start(4, &admin, tenant);
    scene.start_move(json!({ "isolationTier": "ENTERPRISE" })).await;
    let moved = scene.reached("SWITCHED").await;
    assert!(moved["changesApplied"].as_i64().unwrap() > 0, "{moved}");
    let after = service(&admin, tenant).await;
    assert_eq!(texts(&after, "select current_database()::text").await.concat(), own);
    let at_switch = texts(&after, "select count(*)::text from written").await;
    eventually("services go on at the target", async || {
        (texts(&after, "select count(*)::text from written").await != at_switch).then_some(())
    })
    .await;
    clients.stop(&after).await;
    assert_eq!(people(&after, tenant).await, known);
    let drawn = found(
        &after,
        tenant,
        "match (a:Written)-[:OF]->(c:Client) where a.client = c.client return [a.client, a.n, a.value]",
    )
    .await;
    let mut written = texts(&after, "select format('[%s, %s, %s]', client, n, value) from written").await;
    written.sort_unstable();
    assert_eq!(drawn, written, "each acknowledged write is in the graph once");
    let ids = found(&after, tenant, "match (a:Written) return id(a)").await;
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "ids are given once: {ids:?}");
    after.execute_unprepared("set enable_seqscan = off").await.unwrap();
    let plan = format!(
        "explain select id from \"{}\".\"Person\" where properties @> '{{\"name\": \"a\"}}'::agtype",
        name(tenant)
    );
    assert!(texts(&after, &plan).await.concat().contains("person_properties"), "its index is there");
    admin.ok(CONFIRM, json!({ "id": tenant })).await;
    scene.reached("CONFIRMED").await;
    assert_eq!(scene.of_tenant(&scene.source).await, [""; 0]);
    eventually("its graph is as it should be there", async || {
        observed(&look(&admin, tenant).await).contains(&("graph", "PRESENT")).then_some(())
    })
    .await;

    let there = everything(&scene, &scene.target, &own).await;
    for line in ["label Person 4 v", "label KNOWS 5 e", "rows of \"Written\": ", "index CREATE UNIQUE INDEX person_id"]
    {
        assert!(there.iter().any(|found| found.starts_with(line)), "{line}: {there:#?}");
    }
    scene.start_move(json!({ "isolationTier": "STANDARD", "cell": "source" })).await;
    scene.reached("SWITCHED").await;
    assert_eq!(everything(&scene, &scene.source, "postgres").await, there);
    admin.ok(CONFIRM, json!({ "id": tenant })).await;
    scene.reached("CONFIRMED").await;
    assert_eq!(scene.of_tenant(&scene.target).await, [""; 0]);
    assert_eq!(scene.of_tenant(&scene.source).await, standard);
    let back = service(&admin, tenant).await;
    assert_eq!(people(&back, tenant).await, known);
    back.execute_unprepared("insert into written values (99, 2, 2)").await.unwrap();
    assert_eq!(found(&back, tenant, "match (a:Written {client: 99}) return a.n").await, ["1", "2"]);
    assert_eq!(scene.app.app.provisioning.remove_all(tenant).await.unwrap().residue, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_uses_a_graph_goes_to_no_cell_without_and_who_never_did_does() {
    let Some(source) = Cluster::with_extensions() else { return missing("scripts/postgres-extensions") };
    let scene = Scene::with(&with_graph(), (source, "STANDARD"), (Cluster::start(), "STANDARD")).await;
    let (admin, tenant) = (scene.app.admin().await, scene.tenant);
    let db = service(&admin, tenant).await;
    // Without a label: no table is new.
    found(&db, tenant, "create ({name: 'nobody'})").await;
    for (input, code, told) in [
        (json!({ "cell": "target" }), "conflict", "cell target has no age, which the tenant uses"),
        (json!({ "cell": "target", "dryRun": true }), "conflict", "cell target has no age, which the tenant uses"),
        (json!({}), "unavailable", "1 have not age, which the tenant uses"),
    ] {
        let mut input: Value = input;
        input["tenantId"] = json!(tenant);
        let refused = admin.graphql(MOVE, json!({ "input": input })).await;
        let error = &refused.body["errors"][0];
        assert_eq!((refused.code(), &error["extensions"]["field"]), (code, &json!("cell")), "{error}");
        assert!(error["message"].as_str().unwrap().contains(told), "{error}");
    }
    assert!(scene.progress().await["move"].is_null(), "no move was begun");
    assert_eq!(scene.of_tenant(&scene.target).await, [""; 0]);
    db.execute_unprepared(&of(tenant, "truncate only \"G\"._ag_label_vertex")).await.unwrap();
    scene.start_move(json!({})).await;
    scene.reached("SWITCHED").await;
    admin.ok(CONFIRM, json!({ "id": tenant })).await;
    scene.reached("CONFIRMED").await;
    assert_eq!(scene.of_tenant(&scene.source).await, [""; 0], "its empty graph, too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_move_would_lose_of_a_graph_is_refused_by_name() {
    let (Some(source), Some(target)) = (Cluster::with_extensions(), Cluster::with_extensions()) else {
        return missing("scripts/postgres-extensions");
    };
    let scene = Scene::with(&with_graph(), (source, "STANDARD"), (target, "STANDARD")).await;
    let (admin, tenant) = (scene.app.admin().await, scene.tenant);
    let db = service(&admin, tenant).await;
    found(&db, tenant, "create (:Person {name: 'a'})").await;
    let schema = format!("\"{}\"", name(tenant));
    let bare = Cluster::start();
    register(&admin, "bare", "STANDARD", &bare.url("postgres", "postgres")).await;
    let refused = admin.graphql(MOVE, json!({ "input": { "tenantId": tenant, "cell": "bare" } })).await;
    assert!(refused.text.contains("cell bare has no age, which the tenant uses"), "{}", refused.text);
    for (make, end, told) in [
        ("create table S.own (n int)", "drop table S.own", "own is in the graph's schema, and no part of the graph"),
        (
            "create function S.one() returns int language sql as 'select 1'",
            "drop function S.one",
            "one() is in the graph's schema",
        ),
        ("create type S.mood as enum ('glad')", "drop type S.mood", "mood is in the graph's schema"),
    ] {
        db.execute_unprepared(&make.replace('S', &schema)).await.unwrap();
        let refused = admin.graphql(MOVE, json!({ "input": { "tenantId": tenant } })).await;
        let error = &refused.body["errors"][0];
        assert_eq!((refused.code(), &error["extensions"]["field"]), ("invalid_input", &json!("tenantId")), "{error}");
        assert!(error["message"].as_str().unwrap().contains(told), "{error}");
        db.execute_unprepared(&end.replace('S', &schema)).await.unwrap();
    }
    let before = everything(&scene, &scene.source, "postgres").await;
    for (make, end, told) in [
        (
            "alter table S.\"Person\" add constraint named check (properties is not null)",
            "alter table S.\"Person\" drop constraint named",
            "constraint named of label Person",
        ),
        (
            "grant select on S.\"Person\" to public",
            "revoke select on S.\"Person\" from public",
            "rights on label Person",
        ),
        (
            "create table S.own () inherits (S._ag_label_vertex)",
            "drop table S.own",
            "own is in the graph's schema, and no label",
        ),
        // AGE lets nobody take a column from a label again.
        ("alter table S.\"Person\" add column age int default 7", "", "column age of label Person"),
    ] {
        db.execute_unprepared(&make.replace('S', &schema)).await.unwrap();
        scene.start_move(json!({})).await;
        let failed = scene.reached("FAILED").await;
        assert!(failed["problem"].as_str().unwrap().contains(told), "{failed}");
        assert_eq!(scene.of_tenant(&scene.target).await, [""; 0]);
        db.execute_unprepared(&end.replace('S', &schema)).await.unwrap();
    }
    // But for the column that it keeps.
    let but_person = |lines: Vec<String>| lines.into_iter().filter(|line| !line.contains("Person")).collect::<Vec<_>>();
    assert_eq!(but_person(everything(&scene, &scene.source, "postgres").await), but_person(before));
    assert_eq!(found(&db, tenant, "match (a:Person) return a.name").await, ["\"a\""]);
}
