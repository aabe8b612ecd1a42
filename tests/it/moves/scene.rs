//! A tenant with rows on one PostgreSQL, and another PostgreSQL for it to come to.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait as _, DatabaseConnection};
use serde_json::{Value, json};
use tenantry::platform::ids::TenantId;

use crate::{
    provisioning::{
        ON, active,
        clusters::{self, Cluster, connect, register, stem, texts},
        create, eventually,
    },
    support::{Client, TestApp},
};

pub(super) const MOVE: &str =
    "mutation($input: MoveTenantInput!) { moveTenant(input: $input) { move { id phase } cell reason steps } }";
pub(crate) const CONFIRM: &str = "mutation($id: ID!) { confirmMove(input: { tenantId: $id }) { move { phase } } }";
pub(super) const CANCEL: &str = "mutation($id: ID!) { cancelMove(input: { tenantId: $id }) { move { phase } } }";
pub(super) const ROLL_BACK: &str =
    "mutation($id: ID!) { rollbackMove(input: { tenantId: $id }) { move { id phase } } }";
const PROGRESS: &str = "query($id: ID!) { tenant(id: $id) { isolationTier placement { tier reason }
    move { phase problem attempts rowsCopied changesApplied pauseMs sourceTier targetTier keepUntil finishedAt } } }";
const CREDENTIALS: &str =
    "query($id: ID!) { dataplaneCredentials(tenantId: $id) { layer details { name value } secret } }";

/// Cells of clusters alone, and moves that do not wait long.
pub(crate) fn settings() -> String {
    ON.replace("[cells]", "[cells]\nown = false")
}

pub(crate) struct Scene {
    pub(crate) app: TestApp,
    pub(super) source: Cluster,
    pub(super) target: Cluster,
    pub(crate) tenant: TenantId,
}

impl Scene {
    /// A tenant of this tier on the cell `source`, and a cell `target` of that tier.
    pub(crate) async fn new(tier: &str, target_tier: &str) -> Self {
        Self::with(&settings(), (Cluster::start(), tier), (Cluster::start(), target_tier)).await
    }

    pub(super) async fn with(
        settings: &str,
        (source, tier): (Cluster, &str),
        (target, target_tier): (Cluster, &str),
    ) -> Self {
        let app = TestApp::with(settings).await;
        let admin = app.admin().await;
        register(&admin, "source", tier, &source.url("postgres", "postgres")).await;
        let tenant = create(&admin, "moving", tier).await;
        active(&admin, tenant).await;
        register(&admin, "target", target_tier, &target.url("postgres", "postgres")).await;
        Self { app, source, target, tenant }
    }

    pub(crate) async fn start_move(&self, input: Value) -> Value {
        let mut input = input;
        input["tenantId"] = json!(self.tenant);
        self.app.admin().await.ok(MOVE, json!({ "input": input })).await
    }

    pub(super) async fn progress(&self) -> Value {
        progress(&self.app.admin().await, self.tenant).await
    }

    pub(crate) async fn reached(&self, phase: &str) -> Value {
        reached(&self.app.admin().await, self.tenant, phase).await
    }

    /// What of the cluster is the tenant's.
    pub(super) async fn of_tenant(&self, cluster: &Cluster) -> Vec<String> {
        clusters::of_tenant(&inventory(cluster).await, self.tenant)
    }
}

pub(super) async fn progress(admin: &Client, tenant: TenantId) -> Value {
    admin.ok(PROGRESS, json!({ "id": tenant })).await["tenant"].clone()
}

pub(super) async fn reached(admin: &Client, tenant: TenantId, phase: &str) -> Value {
    eventually(&format!("the move is {phase}"), async || {
        let seen = progress(admin, tenant).await["move"].clone();
        let ended = ["CONFIRMED", "CANCELLED", "FAILED"].iter().any(|end| seen["phase"] == *end);
        assert!(!ended || seen["phase"] == phase, "{seen}");
        (seen["phase"] == phase).then_some(seen)
    })
    .await
}

/// What there is of tenants, with what moves make.
pub(super) async fn inventory(cluster: &Cluster) -> Vec<String> {
    let mut found = clusters::inventory(cluster).await;
    let db = cluster.connect("postgres", "postgres").await;
    found.extend(texts(&db, "select 'slot ' || slot_name from pg_replication_slots order by 1").await);
    let databases = "select datname from pg_database where datallowconn and datname not like 'template%' order by 1";
    for database in texts(&db, databases).await {
        let db = cluster.connect(&database, "postgres").await;
        found.extend(texts(&db, "select 'publication ' || pubname from pg_publication order by 1").await);
        db.close().await.unwrap();
    }
    db.close().await.unwrap();
    found
}

/// What a service of the tenant gets for one layer now: the details by name, with the `secret`. None while there is nothing.
pub(crate) async fn credential(admin: &Client, tenant: TenantId, layer: &str) -> Option<BTreeMap<String, String>> {
    let got = admin.graphql(CREDENTIALS, json!({ "id": tenant })).await;
    let all = got.data()["dataplaneCredentials"].as_array()?;
    let one = all.iter().find(|one| one["layer"] == layer)?;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let details = one["details"].as_array().unwrap().iter();
    let mut found: BTreeMap<_, _> = details.map(|detail| (text(&detail["name"]), text(&detail["value"]))).collect();
    found.insert("secret".to_owned(), text(&one["secret"]));
    Some(found)
}

/// Where a service of the tenant gets in now.
pub(super) async fn address(admin: &Client, tenant: TenantId) -> Option<String> {
    credential(admin, tenant, "role").await.map(|one| url(&one))
}

/// Of a credential for PostgreSQL.
pub(super) fn url(credential: &BTreeMap<String, String>) -> String {
    let [database, host, port, user, secret] =
        ["database", "host", "port", "user", "secret"].map(|name| &credential[name]);
    let host = host.replace('/', "%2F");
    format!("postgres:///{database}?host={host}&port={port}&user={user}&password={secret}")
}

/// A connection as a service of the tenant.
pub(crate) async fn service(admin: &Client, tenant: TenantId) -> DatabaseConnection {
    connect(&address(admin, tenant).await.unwrap()).await.unwrap()
}

/// All kinds of things that a schema can have, as the tenant itself makes them.
pub(super) async fn furnish(db: &DatabaseConnection, rows: usize) {
    let statements = format!(
        "create type mood as enum ('glad', 'sad');
         create domain amount as numeric(12, 2) check (value >= 0);
         create table kinds (kind text primary key, mood mood not null default 'glad');
         insert into kinds values ('plain', 'glad'), ('fancy', 'sad');
         create table items (id bigint generated always as identity primary key, kind text not null references kinds,
           price amount, twice numeric generated always as (price * 2) stored, tags text[] not null default '{{}}', facts jsonb, at timestamptz not null default now());
         create index items_kind on items (kind) where price > 5;
         create table written (client integer not null, n bigint not null, value bigint not null, primary key (client, n));
         create table log (what text, details json);
         create function note() returns trigger language plpgsql as $$ begin
           insert into log values (tg_op, json_build_object('n', new.n)); return new; end $$;
         create trigger noted after insert on written for each row execute function note();
         create table secrets (owner text primary key, secret text);
         insert into secrets values (current_user, 'mine'), ('other', 'theirs');
         alter table secrets enable row level security; alter table secrets force row level security;
         create policy own on secrets using (owner = current_user);
         create sequence tickets; select nextval('tickets') from generate_series(1, 41);
         insert into items (kind, price, tags, facts) select case when n % 3 = 0 then 'fancy' else 'plain' end, n % 100, array['a\\b', 'c,d'],
           jsonb_build_object('n', n, 'text', E'tab\\there \\\\ \"quoted\" ü') from generate_series(1, {rows}) n;
         insert into log select 'row ' || n % 3, '{{}}' from generate_series(1, 9) n;
         create view dear as select * from items where price > 90;
         create materialized view sums as select kind, count(*) as items, sum(price) as price from items group by kind;
         grant select on kinds to public; comment on table items is 'what there is';
         alter table written replica identity default; create statistics items_more on kind, price from items"
    );
    db.execute_unprepared(&statements).await.unwrap();
}

/// Everything in the tenant's schema: see [`contents_of`].
pub(super) async fn contents(cluster: &Cluster, database: &str, tenant: TenantId) -> Vec<String> {
    contents_of(cluster, database, &stem(tenant)).await
}

/// Everything in a schema but what is made anew by itself: definitions, rows, and what sequences give next. Nothing where there is none.
pub(super) async fn contents_of(cluster: &Cluster, database: &str, schema: &str) -> Vec<String> {
    let db = cluster.connect(database, "postgres").await;
    if texts(&db, &format!("select 1::text from pg_namespace where nspname = '{schema}'")).await.is_empty() {
        return Vec::new();
    }
    let mut found = texts(
        &db,
        &format!(
            "select line from (
               select format('relation %s %s %s %s %s %s %s', relname, relkind, relowner::regrole, relrowsecurity, relforcerowsecurity, relacl, relreplident) as line
                 from pg_class where relnamespace = '{schema}'::regnamespace
               union all select format('column %s.%s %s %s %s %s', attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated)
                 from pg_attribute join pg_class on pg_class.oid = attrelid where relnamespace = '{schema}'::regnamespace and attnum > 0
               union all select format('constraint %s %s %s', conname, pg_get_constraintdef(oid), convalidated) from pg_constraint where connamespace = '{schema}'::regnamespace
               union all select format('index %s', pg_get_indexdef(indexrelid)) from pg_index join pg_class on pg_class.oid = indrelid where relnamespace = '{schema}'::regnamespace
               union all select format('trigger %s %s', pg_get_triggerdef(pg_trigger.oid), tgenabled) from pg_trigger join pg_class on pg_class.oid = tgrelid
                 where relnamespace = '{schema}'::regnamespace and not tgisinternal
               union all select format('policy %s %s %s', polrelid::regclass, polname, pg_get_expr(polqual, polrelid)) from pg_policy join pg_class on pg_class.oid = polrelid
                 where relnamespace = '{schema}'::regnamespace
               union all select format('function %s %s %s', oid::regprocedure, proowner::regrole, prosrc) from pg_proc where pronamespace = '{schema}'::regnamespace
               union all select format('sequence %s %s', sequencename, last_value) from pg_sequences where schemaname = '{schema}'
               union all select format('schema %s %s %s', nspname, (select array_agg(x::text order by x::text) from unnest(nspacl) x), obj_description(oid, 'pg_namespace')) from pg_namespace where nspname = '{schema}'
             ) as found order by 1"
        ),
    )
    .await;
    let tables = format!(
        "select quote_ident(relname) from pg_class where relnamespace = '{schema}'::regnamespace and relkind in ('r', 'm') order by 1"
    );
    for table in texts(&db, &tables).await {
        let rows = format!(
            "select count(*) || ' ' || coalesce(md5(string_agg(t::text, E'\\n' order by t::text)), '') from only {schema}.{table} t"
        );
        found.push(format!("rows of {table}: {}", texts(&db, &rows).await[0]));
    }
    db.close().await.unwrap();
    found
}
