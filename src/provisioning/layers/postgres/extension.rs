//! How an extension has to stand in a database so that tenants can use it, and reach nothing of each other's by it.

use serde::Deserialize;

use super::{
    super::super::{Availability, literal, quoted},
    Difference, mend, sentences,
};
use crate::{cells::Cell, error::Result, platform::db::CellTx, tenancy::IsolationTier};

/// The schema of extensions that can be put anywhere.
pub(in super::super) const EXTENSIONS: &str = "extensions";

/// Values: the extension, its schema, functions that nobody but the cell's login may have, separated by commas.
const OBSERVE: &str = "
    with home as (select oid, nspowner, nspacl from pg_namespace where nspname = $2),
    open as (select g.privilege_type as what from home cross join aclexplode(coalesce(nspacl, acldefault('n', nspowner))) g where g.grantee = 0)
    select jsonb_build_object(
      'superuser', r.rolsuper,
      'creatable', exists (select from pg_available_extensions a join pg_available_extension_versions v
        on v.name = a.name and v.version = a.default_version where a.name = $1 and (r.rolsuper or v.trusted)),
      'available', exists (select from pg_available_extensions where name = $1),
      'version', (select extversion from pg_extension where extname = $1),
      'schema', (select n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace where extname = $1),
      'hasHome', exists (select from home),
      'ownsHome', coalesce((select pg_has_role(nspowner, 'USAGE') from home), true),
      'isOpen', exists (select from open where what = 'USAGE'),
      'isWritable', exists (select from open where what = 'CREATE'),
      'loose', (select coalesce(jsonb_agg(p.oid::regprocedure::text order by p.oid), '[]') from home
        join pg_proc p on p.pronamespace = home.oid and p.proname = any (string_to_array($3, ','))
        where exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g where g.grantee = 0)),
      'database', current_database(),
      'preloads', (select split_part(setting, '=', 2) from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase, unnest(s.setconfig) as setting
        where d.datname = current_database() and s.setrole = 0 and setting like 'session_preload_libraries=%')
    )::text
    from pg_roles r where r.rolname = current_user";

/// What a layer asks of its extension.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Extension {
    pub(in super::super) name: &'static str,
    /// For people.
    pub(in super::super) title: &'static str,
    pub(in super::super) schema: &'static str,
    /// Functions that reach past the caller's rights: wherever tenants are.
    pub(in super::super) closed: &'static [&'static str],
    /// Those that do so towards other tenants of the same database.
    pub(in super::super) closed_to_neighbours: &'static [&'static str],
    /// Versions that were searched for such functions; empty: it has none. In a database without neighbours any version will do.
    pub(in super::super) known: &'static [&'static str],
    /// Whether sessions need its library before they name anything of it.
    pub(in super::super) is_preloaded: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    superuser: bool,
    creatable: bool,
    available: bool,
    version: Option<String>,
    schema: Option<String>,
    has_home: bool,
    owns_home: bool,
    is_open: bool,
    is_writable: bool,
    loose: Vec<String>,
    database: String,
    /// The libraries that sessions of this database begin with.
    preloads: Option<String>,
}

/// A difference, and whether the cell's login may mend it.
struct Step {
    difference: Difference,
    is_allowed: bool,
}

impl Extension {
    /// Whether tenants of `tier` can have it in this database, once `differences` are mended.
    pub(in super::super) async fn availability(
        &self,
        tx: &mut CellTx,
        (tier, cell): (IsolationTier, &Cell),
    ) -> Result<Availability> {
        let seen = self.see(tx, tier).await?;
        Ok(match self.obstacle(&seen, tier) {
            None => Availability::Here,
            Some(obstacle) => {
                Availability::NotHere(format!("not available on this cell: the PostgreSQL of {} {obstacle}", cell.name))
            }
        })
    }

    /// What is to be done so that the extension stands as it should.
    pub(in super::super) async fn differences(&self, tx: &mut CellTx, tier: IsolationTier) -> Result<Vec<Difference>> {
        let seen = self.see(tx, tier).await?;
        Ok(self.steps(&seen).into_iter().map(|step| step.difference).collect())
    }

    /// Does it, and says what. What comes with an extension is seen once it is there, so there are two looks.
    pub(in super::super) async fn ensure(&self, tx: &mut CellTx, tier: IsolationTier) -> Result<Vec<String>> {
        let mut done = Vec::new();
        if self.differences(tx, tier).await?.is_empty() {
            return Ok(done);
        }
        // Others come for their own tenants at the same moment.
        tx.execute("SELECT pg_advisory_xact_lock(7310579703012353)").await?;
        for _ in 0..2 {
            let found = self.differences(tx, tier).await?;
            mend(tx, &found).await?;
            done.extend(sentences(&found));
        }
        Ok(done)
    }

    async fn see(&self, tx: &mut CellTx, tier: IsolationTier) -> Result<Seen> {
        let neighbours = if tier == IsolationTier::Standard { self.closed_to_neighbours } else { &[] };
        let closed: Vec<_> = self.closed.iter().chain(neighbours).copied().collect();
        tx.json(OBSERVE, &[self.name, self.schema, &closed.join(",")]).await
    }

    fn obstacle(&self, seen: &Seen, tier: IsolationTier) -> Option<String> {
        let title = self.title;
        if !seen.available && seen.version.is_none() {
            return Some(format!("has no {title}"));
        }
        if let Some(version) = &seen.version
            && tier == IsolationTier::Standard
            && !self.known.is_empty()
            && !self.known.contains(&version.as_str())
        {
            let known = self.known.join(", ");
            return Some(format!(
                "has {title} {version}, of which it is not known what tenants reach; known is {known}"
            ));
        }
        let not_allowed: Vec<_> =
            self.steps(seen).into_iter().filter(|step| !step.is_allowed).map(|step| step.difference).collect();
        let sentences = sentences(&not_allowed);
        (!sentences.is_empty()).then(|| {
            format!("has {title}, and its superuser has to do what the cell's login may not: {}", sentences.join("; "))
        })
    }

    fn steps(&self, seen: &Seen) -> Vec<Step> {
        let (name, schema) = (self.name, quoted(self.schema));
        let mut steps = Vec::new();
        let mut step = |is_allowed: bool, what: String, statement: String| {
            let is_allowed = is_allowed || seen.superuser;
            steps.push(Step { difference: Difference::mended_by(what, statement), is_allowed });
        };
        match &seen.schema {
            None => {
                let place = if self.schema == EXTENSIONS {
                    format!("CREATE SCHEMA IF NOT EXISTS {schema}; CREATE EXTENSION {name} SCHEMA {schema}")
                } else {
                    format!("CREATE EXTENSION {name}")
                };
                step(seen.creatable && seen.owns_home, format!("make extension {name}"), place);
            }
            Some(other) if other != self.schema => step(
                false,
                format!("put extension {name} into schema {}", self.schema),
                format!("CREATE SCHEMA IF NOT EXISTS {schema}; ALTER EXTENSION {name} SET SCHEMA {schema}"),
            ),
            Some(_) => {}
        }
        // Who makes the extension has its schema.
        let owns_home = seen.owns_home && (seen.has_home || seen.schema.is_none());
        if !seen.is_open {
            let what = format!("let tenants use schema {}", self.schema);
            step(owns_home, what, format!("GRANT USAGE ON SCHEMA {schema} TO PUBLIC"));
        }
        if seen.is_writable {
            let what = format!("let nobody create in schema {}", self.schema);
            step(owns_home, what, format!("REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC"));
        }
        for function in &seen.loose {
            step(
                false,
                format!("take {function} from everybody"),
                format!("REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC"),
            );
        }
        let preloads: Vec<_> = seen
            .preloads
            .iter()
            .flat_map(|list| list.split(','))
            .map(|library| library.trim_matches([' ', '"']))
            .collect();
        if self.is_preloaded && !preloads.contains(&name) {
            let database = quoted(&seen.database);
            let libraries: Vec<_> = preloads.into_iter().chain([name]).map(literal).collect();
            let statement =
                format!("ALTER DATABASE {database} SET session_preload_libraries = {}", libraries.join(", "));
            step(false, format!("load {name} in every session"), statement);
        }
        steps
    }
}
