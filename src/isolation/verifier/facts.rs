use std::collections::HashMap;

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use serde::{Deserialize as _, de::DeserializeOwned};
use serde_json::Value;

use crate::error::{Context as _, Result};

/// `pg_get_expr` and `format_type` qualify what is not in `search_path`: the shapes that rules compare with are written
/// for this one. Compiling the statement, and trying all orders of joins, takes longer than running it as written.
const SETTINGS: &str = "select set_config('search_path', 'pg_catalog', true), set_config('jit', 'off', true), set_config('join_collapse_limit', '1', true)";

/// What every query may use. Relations are found through `pg_depend`, which has an index by schema; `pg_class` has none,
/// and in a cell with thousands of schemas it is large.
const COMMON: &str = "
with recursive relation as materialized (
    select c.*, format('%I.%I', n.nspname, c.relname) as object, t.attnum as tenant_id, coalesce(pg_partition_root(c.oid), c.oid) as root,
        c.relname = 'seaql_migrations' as migrations
    from pg_namespace n
    join pg_depend d on d.refclassid = 'pg_namespace'::regclass and d.refobjid = n.oid and d.classid = 'pg_class'::regclass
    join pg_class c on c.oid = d.objid
    left join pg_attribute t on t.attrelid = c.oid and t.attname = 'tenant_id' and not t.attisdropped
    where n.nspname = 'tenantry' and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
), function as materialized (
    select p.*, format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as object, n.nspname,
        exists (select from pg_depend e where e.classid = d.classid and e.objid = d.objid and e.deptype = 'e') as extension
    from pg_namespace n
    join pg_depend d on d.refclassid = 'pg_namespace'::regclass and d.refobjid = n.oid and d.classid = 'pg_proc'::regclass
    join pg_proc p on p.oid = d.objid
    where n.nspname = 'tenantry'
), principal as materialized (
    select *, rolname = $1::text as is_login from pg_roles
    where rolname in ($1::text, 'tenantry_owner', 'tenantry_tenant', 'tenantry_operator')
)";

/// A name and a SELECT, which may use the names in [`COMMON`] and `$1`, the login role.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query(pub(super) &'static str, pub(super) &'static str);

/// The rows of all queries.
#[derive(Debug)]
pub(super) struct Facts {
    rows: HashMap<String, Value>,
    pub(super) login: String,
}

impl Facts {
    /// Reads everything in one statement: what the queries share is found once, and all see the same moment.
    pub(super) async fn read(connection: &impl ConnectionTrait, login: &str, queries: &[&[Query]]) -> Result<Self> {
        connection.query_one_raw(Statement::from_string(DbBackend::Postgres, SETTINGS)).await?;
        let columns: Vec<_> = queries
            .iter()
            .copied()
            .flatten()
            .map(|Query(name, select)| {
                format!("'{name}', (select coalesce(json_agg(fact), '[]') from ({select}) fact)")
            })
            .collect();
        let sql = format!("{COMMON} select json_build_object({})::text as facts", columns.join(", "));
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [login.into()]);
        let row = connection.query_one_raw(statement).await?.context("read the catalogue")?;
        let facts: String = row.try_get("", "facts")?;
        let rows = serde_json::from_str(&facts).context("understand the catalogue")?;
        Ok(Self { rows, login: login.to_owned() })
    }

    pub(super) fn rows<T: DeserializeOwned>(&self, query: &Query) -> Result<Vec<T>> {
        let rows = self.rows.get(query.0).context("find the rows of a query that is in no list")?;
        Vec::deserialize(rows).context("understand the catalogue")
    }
}

/// A text as SQL writes it where a name is meant.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
