//! Tenants' schemas are made of a template, and every further migration reaches all of them, once each.

mod cells;
mod command;
mod kills;
mod plain;
mod registration;
mod rollout;
mod schemas;

use sea_orm::{ConnectionTrait as _, DatabaseConnection};
use serde_json::{Value, json};
use tenantry::platform::ids::TenantId;

use crate::{
    provisioning::{clusters::texts, eventually},
    support::Client,
};

/// Environments with their tables, and tenants ACTIVE as soon as they are ready.
const ON: &str = "
    [provisioning]
    layers = [\"placement\", \"role\", \"database\", \"schema\", \"template\"]
    first_retry = \"50ms\"
    longest_retry = \"200ms\"
    [cells]
    acquire_timeout = \"2s\"
    check_interval = \"1s\"
    [templates]
    lease = \"1s\"
    [tenancy]
    activation = \"automatic\"
";

const ITEMS: (&str, &str) =
    ("V0001__items.sql", "create table items (id bigint primary key, note text);\ncreate table applied (version int);");
const COLOUR: (&str, &str) =
    ("V0002__colour.sql", "alter table items add column colour text;\ninsert into applied values (2);");

const REGISTER: &str = "mutation($input: RegisterSchemaTemplateInput!) { registerSchemaTemplate(input: $input) {
    template { name version released isDefault plans migrations { version name checksum } } } }";
const ROLL_OUT: &str = "mutation($input: RolloutTemplateInput!) { rolloutTemplate(input: $input) { rollout { id } plan { to waves tenants { version tenants } } } }";
const LOOK: &str = "{ schemaTemplates(name: \"shop\") { version released tenants { version tenants }
    drift { tenantId drift } rollouts { id state reason wave to rate endsAt finishedAt tenants { all pending applied failed skipped }
      waves { all pending applied failed } troubles { tenantId hasFailed attempts problem } } } }";

fn template(name: &str, files: &[(&str, &str)]) -> Value {
    let files: Vec<_> = files.iter().map(|(name, sql)| json!({ "name": name, "sql": sql })).collect();
    json!({ "input": { "name": name, "files": files } })
}

async fn register(admin: &Client, files: &[(&str, &str)]) -> Value {
    admin.ok(REGISTER, template("shop", files)).await["registerSchemaTemplate"]["template"].clone()
}

/// Begins a rollout of `shop`, with more on its input; answers its id.
async fn roll_out(admin: &Client, more: Value) -> String {
    let mut input = json!({ "template": "shop", "statementTimeoutMs": 5000 });
    input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let begun = admin.ok(ROLL_OUT, json!({ "input": input })).await;
    begun["rolloutTemplate"]["rollout"]["id"].as_str().unwrap().to_owned()
}

/// The template `shop` and its last rollout.
async fn look(admin: &Client) -> (Value, Value) {
    let shop = admin.ok(LOOK, json!({})).await["schemaTemplates"][0].clone();
    let rollout = shop["rollouts"][0].clone();
    (shop, rollout)
}

async fn until_state(admin: &Client, state: &str) -> Value {
    eventually(&format!("the rollout is {state}"), async || {
        let (_, rollout) = look(admin).await;
        (rollout["state"] == state).then_some(rollout)
    })
    .await
}

async fn steer(admin: &Client, verb: &str, id: &str) -> Value {
    let mutation = format!("mutation($id: ID!) {{ {verb}Rollout(input: {{id: $id}}) {{ rollout {{ state }} }} }}");
    admin.ok(&mutation, json!({ "id": id })).await[format!("{verb}Rollout")]["rollout"]["state"].clone()
}

/// Tenants that have a schema of `shop` at version 1 on the only cell, and of which the registry knows no more than a rollout
/// needs: many, in a moment.
struct Fleet {
    salt: String,
    registry: DatabaseConnection,
    cell: DatabaseConnection,
}

impl Fleet {
    async fn seed(salt: &str, registry: DatabaseConnection, cell: DatabaseConnection, count: u32) -> Self {
        let make = format!(
            "do $$ declare name text; begin for i in 1..{count} loop
               name := 't_' || md5('{salt}' || i);
               execute format('create role %1$I; create schema %1$I; grant usage, create on schema %1$I to %1$I;
                 create table %1$I.items (id bigint primary key, note text); alter table %1$I.items owner to %1$I;
                 create table %1$I.applied (version int); alter table %1$I.applied owner to %1$I;
                 comment on schema %1$I is ''tenantry template shop 1''', name);
               if i % 20 = 0 then commit; end if;
             end loop; end $$"
        );
        cell.execute_unprepared(&make).await.unwrap();
        let note = format!(
            "begin; insert into tenantry.placements (tenant_id, cell_id, tier, region, database_name, reason, placed_at)
               select md5('{salt}' || i)::uuid, cell_id, 'STANDARD', region, address ->> 'database', 'seeded', now()
               from tenantry.cells, generate_series(1, {count}) i;
             insert into tenantry.tenant_templates (tenant_id, template, version, migrated_at)
               select md5('{salt}' || i)::uuid, 'shop', 1, now() from generate_series(1, {count}) i; commit"
        );
        registry.execute_unprepared(&note).await.unwrap();
        Self { salt: salt.to_owned(), registry, cell }
    }

    async fn tenant(&self, number: u32) -> TenantId {
        let id = texts(&self.cell, &format!("select md5('{}' || {number})::uuid::text", self.salt)).await;
        id[0].parse().unwrap()
    }

    /// The schema of the tenant of this number, as SQL has it.
    async fn schema(&self, number: u32) -> String {
        format!("t_{}", self.tenant(number).await.uuid().simple())
    }

    /// Does `sql`, in which `SCHEMA` stands for the tenant's.
    async fn run(&self, number: u32, sql: &str) {
        let sql = sql.replace("SCHEMA", &self.schema(number).await);
        self.cell.execute_unprepared(&sql).await.unwrap();
    }

    /// How many schemas are at which version, as they say themselves.
    async fn versions(&self) -> Vec<String> {
        let versions = "select substring(description from 'shop (.*)') || ': ' || count(*) from pg_description
            where classoid = 'pg_namespace'::regclass and description like 'tenantry template shop %' group by description order by 1";
        texts(&self.cell, versions).await
    }

    /// What each schema says of what was applied, all together: version, schemas that have it once, schemas that have it more often.
    async fn applied(&self) -> Vec<String> {
        let all =
            "select string_agg(format('select %L as schema, version from %I.applied', nspname, nspname), ' union all ')
            from pg_namespace where nspname like 't\\_%'";
        let all = texts(&self.cell, all).await.remove(0);
        let count = format!(
            "select format('%s: %s once, %s more often', version, count(*) filter (where times = 1), count(*) filter (where times > 1))
             from (select schema, version, count(*) as times from ({all}) all_of_them group by 1, 2) x group by version order by version"
        );
        texts(&self.cell, &count).await
    }
}
