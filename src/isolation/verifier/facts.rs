use sea_orm::{ConnectionTrait, DbBackend, Statement};
use serde::de::DeserializeOwned;

use crate::error::{Context as _, Result};

/// `pg_get_expr` and `format_type` qualify what is not in `search_path`: the shapes that rules compare with are written
/// for this one. Compiling a catalogue query takes longer than running it.
const SETTINGS: &str = "select set_config('search_path', 'pg_catalog', true), set_config('jit', 'off', true)";

/// What every query may use. Relations are found through `pg_depend`, which has an index by schema; `pg_class` has none,
/// and in a cell with thousands of schemas it is large.
const COMMON: &str = "
with recursive relation as (
    select c.*, format('%I.%I', n.nspname, c.relname) as object, t.attnum as tenant_id, coalesce(pg_partition_root(c.oid), c.oid) as root,
        c.relname = 'seaql_migrations' as migrations
    from pg_namespace n
    join pg_depend d on d.refclassid = 'pg_namespace'::regclass and d.refobjid = n.oid and d.classid = 'pg_class'::regclass
    join pg_class c on c.oid = d.objid
    left join pg_attribute t on t.attrelid = c.oid and t.attname = 'tenant_id' and not t.attisdropped
    where n.nspname = 'tenantry' and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
), function as (
    select p.*, format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as object, n.nspname,
        exists (select from pg_depend e where e.classid = d.classid and e.objid = d.objid and e.deptype = 'e') as extension
    from pg_namespace n
    join pg_depend d on d.refclassid = 'pg_namespace'::regclass and d.refobjid = n.oid and d.classid = 'pg_proc'::regclass
    join pg_proc p on p.oid = d.objid
    where n.nspname = 'tenantry'
), principal as (
    select *, rolname = $1::text as is_login from pg_roles
    where rolname in ($1::text, 'tenantry_owner', 'tenantry_tenant', 'tenantry_operator')
)";

/// A connection that reads rows of the catalogue as plain values.
#[derive(Debug)]
pub(super) struct Facts<'a, C> {
    connection: &'a C,
    pub(super) login: &'a str,
}

impl<'a, C: ConnectionTrait> Facts<'a, C> {
    pub(super) async fn begin(connection: &'a C, login: &'a str) -> Result<Self> {
        connection.query_one_raw(Statement::from_string(DbBackend::Postgres, SETTINGS)).await?;
        Ok(Self { connection, login })
    }

    /// The rows of `select`, which may use the names in [`COMMON`] and `$1`, the login role.
    pub(super) async fn read<T: DeserializeOwned>(&self, select: &'static str) -> Result<Vec<T>> {
        let sql = format!("{COMMON} select coalesce(json_agg(fact), '[]')::text as facts, $1::text as login from ({select}) fact");
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [self.login.into()]);
        let row = self.connection.query_one_raw(statement).await?.context("read the catalogue")?;
        let facts: String = row.try_get("", "facts")?;
        serde_json::from_str(&facts).context("understand the catalogue")
    }
}

/// A text as SQL writes it where a name is meant.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
