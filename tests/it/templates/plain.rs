//! Migrations that run without a fence: what a tenant has made of its schema is not run by them.

use sea_orm::ConnectionTrait as _;
use serde_json::json;

use super::{ITEMS, ON, register, roll_out, until_state};
use crate::{
    provisioning::{
        active,
        clusters::{connect, stem, texts},
        create,
    },
    support::TestApp,
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
