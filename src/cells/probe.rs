//! What a PostgreSQL says of itself before it becomes a cell.

use serde::Deserialize;

use super::{Extension, ServerFacts};
use crate::{
    error::{Error, Kind, Result},
    platform::db::{CellDb, CellTx},
    tenancy::IsolationTier,
};

const OLDEST: i32 = 150_000;

/// `pg_control_system` tells one cluster from every other; where it may not be called, the address has to do.
const PROBE: &str = "
    select jsonb_build_object(
      'version', current_setting('server_version_num')::int,
      'superuser', r.rolsuper,
      'makesRoles', r.rolsuper or r.rolcreaterole,
      'makesDatabases', r.rolsuper or r.rolcreatedb,
      'makesSchemas', has_database_privilege(current_database(), 'CREATE'),
      'ownsDatabase', pg_has_role(d.datdba, 'USAGE'),
      'inRecovery', pg_is_in_recovery(),
      'isRegistry', to_regnamespace('tenantry') is not null,
      'mark', shobj_description(d.oid, 'pg_database'),
      'identity', d.oid::text || '@' || case when has_function_privilege('pg_control_system()', 'EXECUTE')
        then (select system_identifier::text from pg_control_system())
        else concat(inet_server_addr(), ':', inet_server_port(), '/', pg_postmaster_start_time()) end,
      'extensions', (select coalesce(jsonb_agg(jsonb_build_object('name', e.name, 'available', e.default_version, 'installed', e.installed_version,
          'creatable', r.rolsuper or v.trusted) order by e.name), '[]')
        from pg_available_extensions e left join pg_available_extension_versions v on v.name = e.name and v.version = e.default_version
        where e.name in ('age', 'vector', 'pg_trgm', 'pgcrypto', 'postgis')),
      'denialsHidden', case
        when current_setting('logging_collector') <> 'on' or current_setting('log_destination') !~ 'jsonlog'
          then 'its server writes no log of JSON: set logging_collector = on, log_destination = ''jsonlog'''
        when not (has_function_privilege('pg_current_logfile(text)', 'EXECUTE') and has_function_privilege('pg_stat_file(text, boolean)', 'EXECUTE')
            and has_function_privilege('pg_read_binary_file(text, bigint, bigint, boolean)', 'EXECUTE'))
          then 'its login may not read the server''s log: grant execute on pg_current_logfile(text), pg_stat_file(text, boolean), pg_read_binary_file(text, bigint, bigint, boolean)'
        end
    )::text
    from pg_roles r, pg_database d where r.rolname = current_user and d.datname = current_database()";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Probe {
    version: i32,
    makes_roles: bool,
    makes_databases: bool,
    makes_schemas: bool,
    owns_database: bool,
    in_recovery: bool,
    is_registry: bool,
    mark: Option<String>,
    pub(super) identity: String,
    extensions: Vec<Extension>,
    denials_hidden: Option<String>,
}

impl Probe {
    /// Connects and asks.
    pub(super) async fn of(db: &CellDb) -> Result<Self> {
        let mut tx = db.begin().await.map_err(|error| error.at("url"))?;
        let probe = Self::ask(&mut tx).await.map_err(|error| error.at("url"))?;
        tx.commit().await?;
        Ok(probe)
    }

    pub(super) async fn ask(tx: &mut CellTx) -> Result<Self> {
        tx.json(PROBE, &[]).await
    }

    /// Refuses what cannot be a cell of this tier in this region, naming what to change.
    pub(super) fn check(&self, region: &str, tier: IsolationTier) -> Result<()> {
        let problem = [
            (self.version < OLDEST, "is older than PostgreSQL 15"),
            (self.in_recovery, "is a replica that takes no writes; give the address of the primary"),
            (self.is_registry, "holds the registry; give a database of its own, on the same server if you like"),
            (!self.makes_roles, "has a login that may make no roles; alter role … createrole"),
            (!self.makes_schemas, "has a login that may make no schemas; grant create on database …"),
            (
                tier != IsolationTier::Standard && !self.makes_databases,
                "has a login that may make no databases, which this tier needs; alter role … createdb",
            ),
        ];
        if let Some((_, problem)) = problem.iter().find(|(is, _)| *is) {
            return Err(Error::invalid("url", format!("the database {problem}")));
        }
        match self.region() {
            Some(other) if other != region => Err(Error::new(
                Kind::ResidencyViolation,
                format!("the database is marked as being in {other}; a cell's region is where it is"),
            )
            .at("region")),
            _ => Ok(()),
        }
    }

    /// The region that an earlier registration left.
    fn region(&self) -> Option<&str> {
        self.mark.as_deref()?.strip_prefix(MARK)
    }

    pub(super) fn facts(&self) -> ServerFacts {
        ServerFacts {
            version: self.version,
            makes_databases: self.makes_databases,
            extensions: self.extensions.clone(),
            denials_hidden: self.denials_hidden.clone(),
        }
    }

    /// Marks the database, and takes from everybody what tenants must not have in it.
    pub(super) async fn prepare(&self, db: &CellDb, region: &str) -> Result<()> {
        if !self.owns_database {
            return Ok(());
        }
        let mut tx: CellTx = db.begin().await?;
        tx.execute("SELECT pg_advisory_xact_lock(7310579703012353)").await?;
        let database = db.address().database.replace('"', "\"\"");
        tx.execute(&format!(
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC; REVOKE CREATE ON DATABASE \"{database}\" FROM PUBLIC;
             COMMENT ON DATABASE \"{database}\" IS '{MARK}{region}'"
        ))
        .await?;
        tx.commit().await
    }
}

/// A region has small letters, digits and '-' alone: nothing that could end a literal.
const MARK: &str = "tenantry cell in ";
