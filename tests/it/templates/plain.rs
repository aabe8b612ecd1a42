//! Migrations that run without a fence: what a tenant has made of its schema is not run by them.

use sea_orm::ConnectionTrait as _;
use serde_json::json;

use super::{Fleet, ITEMS, ON, look, register, roll_out, steer, until_state};
use crate::{
    provisioning::{
        active,
        clusters::{connect, stem, texts},
        create, eventually,
    },
    support::{Received, TestApp},
};

/// Whatever of it is run refuses the migration.
const OWN: &str = "
    create function met() returns trigger language plpgsql as $f$ begin raise exception 'met a trigger'; end $f$;
    create function met(anyelement) returns bool language plpgsql immutable as $f$ begin raise exception 'met a function'; end $f$;
    create domain text as pg_catalog.text check (met(value));
    create domain int as pg_catalog.int4 check (met(value));
    alter table items add own pg_catalog.int4, add other pg_catalog.text;
    insert into items (id, note) values (1, 'mine'), (2, 'mine');
    create trigger before_row before insert or update or delete on items for each row execute function met();
    create trigger after_all after insert or update or delete or truncate on items for each statement execute function met();
    create constraint trigger later after insert or update on items deferrable initially deferred for each row execute function met();
    create rule instead as on update to items do instead select met(1);
    alter table items alter own set default (set_config('role', 'none', false))::pg_catalog.int4;
    alter table items add constraint checked check (met(own)) not valid;
    alter table items enable row level security, force row level security;
    create policy asked on items using (met(id)) with check (met(id));
    create function quiet(anyelement) returns bool language sql immutable as 'select true';
    create index asked on items (quiet(own)) where quiet(other);
    create or replace function quiet(anyelement) returns bool language plpgsql immutable as $f$ begin raise exception 'met an index'; end $f$;
    create view seen as select met(id) from items;
    create statistics known (dependencies) on own, other from items;
    create table child () inherits (items);";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_tenant_has_made_is_run_by_a_plain_migration() {
    let app = TestApp::with(ON).await;
    let admin = app.admin().await;
    register(&admin, &[ITEMS]).await;
    let tenant = create(&admin, "maker", "STANDARD").await;
    active(&admin, tenant).await;
    let cell = connect(&app.database.cell_url_of("postgres")).await.unwrap();
    let schema = stem(tenant);
    let own = format!("begin; set local role {schema}; set local search_path = {schema}; {OWN}; commit");
    cell.execute_unprepared(&own).await.unwrap();
    let columns = "alter table items add column colour text not null default 'red', add column number int default 7, drop column other";
    let table = "create table kinds (id int primary key, name text not null default 'it''s' unique, tags text[])";
    register(&admin, &[ITEMS, ("V0002__columns.sql", columns), ("V0003__kinds.sql", table)]).await;
    roll_out(&admin, json!({ "waves": [100.0] })).await;
    until_state(&admin, "COMPLETED").await;
    let made = format!(
        "select format('%s %s %s %s', c.relname, c.relowner::regrole, a.attname, a.atttypid::regtype) from pg_attribute a join pg_class c on c.oid = attrelid
           where c.relnamespace = '{schema}'::regnamespace and (c.relname = 'kinds' or a.attname in ('colour', 'number', 'other'))
             and c.relkind = 'r' and attnum > 0 order by 1"
    );
    let expected = [
        format!("child {schema} colour text"),
        format!("child {schema} number integer"),
        format!("items {schema} colour text"),
        format!("items {schema} number integer"),
        format!("kinds {schema} id integer"),
        format!("kinds {schema} name text"),
        format!("kinds {schema} tags text[]"),
    ];
    assert_eq!(texts(&cell, &made).await, expected);
}

const COLUMN: (&str, &str) = ("V0002__colour.sql", "alter table items add column colour text");

/// Many share a round trip: what one of them is refused for is not the others' business, and nobody is told of twice.
#[tokio::test(flavor = "multi_thread")]
async fn tenants_that_share_a_round_trip_are_migrated_each_by_itself() {
    let app = TestApp::with(ON).await;
    let admin = app.admin().await;
    register(&admin, &[ITEMS]).await;
    let cell = connect(&app.database.cell_url_of("postgres")).await.unwrap();
    let fleet = Fleet::seed(&app.database.name, app.database.superuser().await, cell, 40).await;
    register(&admin, &[ITEMS, COLUMN]).await;
    fleet.run(1, "alter table SCHEMA.items add column colour text").await;
    fleet.run(2, "comment on schema SCHEMA is 'tenantry template shop 2'").await;
    fleet.run(3, "drop schema SCHEMA cascade").await;
    let holder = connect(&app.database.cell_url_of("postgres")).await.unwrap();
    holder.execute_unprepared(&format!("begin; select from {}.items", fleet.schema(4).await)).await.unwrap();
    let rules = json!({ "waves": [100.0], "failureRate": 50, "concurrency": 1, "lockTimeoutMs": 50, "attempts": 1000 });
    let id = roll_out(&admin, rules).await;
    let waiting = eventually("all but the one in use and the one that is gone are done", async || {
        let (_, rollout) = look(&admin).await;
        (rollout["tenants"]["pending"] == 2).then_some(rollout)
    })
    .await;
    let problems = waiting["troubles"].as_array().unwrap().iter().map(|trouble| trouble["problem"].as_str().unwrap());
    let mut problems: Vec<_> = problems.collect();
    problems.sort_unstable();
    let expected = [
        "V0002__colour.sql: a lock was not to be had within the lock timeout: its tables are in use",
        "V0002__colour.sql: something of this name is there already (42701)",
        "the tenant has no schema yet",
    ];
    assert_eq!(problems, expected, "{waiting}");
    assert_eq!((&waiting["tenants"]["applied"], &waiting["tenants"]["failed"]), (&json!(37), &json!(1)));
    holder.execute_unprepared("commit").await.unwrap();
    eventually("the one that was in use is done", async || {
        (look(&admin).await.1["tenants"]["applied"] == 38).then_some(())
    })
    .await;
    assert_eq!(steer(&admin, "cancel", &id).await, "CANCELLED");
    assert_eq!(fleet.versions().await, ["1: 1", "2: 38"]);
    let columns = "select count(*)::text from pg_attribute where attname = 'colour' and attnum > 0";
    assert_eq!(texts(&fleet.cell, columns).await, ["38"], "37 were given it, one had it");
    let told = "select format('%s %s', event, count(*)) from tenantry.journal
        where event like 'SchemaMigrat%' group by event order by event";
    assert_eq!(texts(&fleet.registry, told).await, ["SchemaMigrated 38", "SchemaMigrationFailed 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_is_told_as_it_goes_on_and_to_its_end() {
    let app = TestApp::with(ON).await;
    let admin = app.admin().await;
    register(&admin, &[ITEMS]).await;
    let cell = connect(&app.database.cell_url_of("postgres")).await.unwrap();
    let fleet = Fleet::seed(&app.database.name, app.database.superuser().await, cell, 20).await;
    register(&admin, &[ITEMS, COLUMN]).await;
    let holder = connect(&app.database.cell_url_of("postgres")).await.unwrap();
    holder.execute_unprepared(&format!("begin; select from {}.items", fleet.schema(4).await)).await.unwrap();
    let id = roll_out(&admin, json!({ "waves": [100.0], "lockTimeoutMs": 50, "attempts": 1000 })).await;
    let watch = "subscription($id: ID!) { rolloutProgress(rolloutId: $id) { state tenants { all applied pending } } }";
    let mut socket = app.socket(&admin).await;
    socket.subscribe("r", watch, json!({ "id": id })).await;
    let waiting = json!({ "state": "RUNNING", "tenants": { "all": 20, "applied": 19, "pending": 1 } });
    while socket.event().await["data"]["rolloutProgress"] != waiting {}
    holder.execute_unprepared("commit").await.unwrap();
    let done = json!({ "state": "COMPLETED", "tenants": { "all": 20, "applied": 20, "pending": 0 } });
    let mut told = waiting;
    while told["state"] == "RUNNING" {
        told = socket.event().await["data"]["rolloutProgress"].clone();
    }
    assert_eq!(told, done);
    assert_eq!(socket.next().await, Received::Message(json!({ "type": "complete", "id": "r" })));
    let unknown = json!({ "id": "0190aaaa-0000-7000-8000-000000000000" });
    socket.subscribe("u", watch, unknown).await;
    assert_eq!(socket.event().await["errors"][0]["extensions"]["code"], "not_found");
}
