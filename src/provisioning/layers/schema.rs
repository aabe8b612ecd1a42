//! The tenant's schema: in the cell's database for standard tenants, in their own for others. It belongs to the cell's login,
//! so the tenant can neither drop it nor let others in; the tenant's role may use it and create in it, and has no right on
//! anything else.

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, json};

use super::{
    super::{Ensured, Layer, Names, ProbeTenant, Probed, Removed, Site, Slot, Verdict, literal, quoted},
    postgres::{
        Difference, EXTENSIONS, Namespace, alone, close_logins, database_exists, db_of,
        intrusion::{self, SchemaKind},
        mend, search_all, search_own_databases, sentences,
    },
};
use crate::{cells::Cells, config, error::Result, isolation::Attempt, platform::db::CellTx};

/// Values: the schema and role, the two logins, the schemas of its graph and of its vectors. `elsewhere` is read from `pg_shdepend`, which has an index by role.
const OBSERVE: &str = "
    with role as (select oid, rolname from pg_roles where rolname in ($1, $2, $3)),
    home as (select oid, nspowner, nspacl from pg_namespace where nspname = $1),
    dependency as (
      select d.classid, d.objid, d.deptype, role.rolname, coalesce(c.relnamespace, p.pronamespace, t.typnamespace, n.oid) as namespace
      from role join pg_shdepend d on d.refclassid = 'pg_authid'::regclass and d.refobjid = role.oid
        and d.dbid = (select oid from pg_database where datname = current_database()) and d.deptype in ('o', 'a')
        and d.classid in ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_type'::regclass, 'pg_namespace'::regclass)
      left join pg_class c on d.classid = 'pg_class'::regclass and c.oid = d.objid
      left join pg_proc p on d.classid = 'pg_proc'::regclass and p.oid = d.objid
      left join pg_type t on d.classid = 'pg_type'::regclass and t.oid = d.objid
      left join pg_namespace n on d.classid = 'pg_namespace'::regclass and n.oid = d.objid
    )
    select jsonb_build_object(
      'exists', exists (select from home),
      'ours', exists (select from home where nspowner = (select oid from pg_roles where rolname = current_user)),
      'grants', (select coalesce(jsonb_agg(jsonb_build_object('to', coalesce(r.rolname, ''), 'what', g.privilege_type, 'option', g.is_grantable)), '[]')
        from home cross join aclexplode(coalesce(nspacl, acldefault('n', nspowner))) g left join pg_roles r on r.oid = g.grantee where g.grantee <> nspowner),
      'elsewhere', (select coalesce(jsonb_agg(jsonb_build_object('role', rolname, 'owns', deptype = 'o', 'object', pg_describe_object(classid, objid, 0),
          'revoke', case when deptype = 'o' then null
            when classid = 'pg_namespace'::regclass then format('REVOKE ALL ON SCHEMA %s FROM %I', objid::regnamespace, rolname)
            when classid = 'pg_class'::regclass then format('REVOKE ALL ON TABLE %s FROM %I', objid::regclass, rolname)
            when classid = 'pg_proc'::regclass then format('REVOKE ALL ON ROUTINE %s FROM %I', objid::regprocedure, rolname)
            when classid = 'pg_type'::regclass then format('REVOKE ALL ON TYPE %s FROM %I', objid::regtype, rolname) end)), '[]')
        from dependency join pg_namespace n on n.oid = namespace
        where namespace not in (select oid from home) and n.nspname not in ($4, $5) and not starts_with(n.nspname, 'pg_temp_') and not starts_with(n.nspname, 'pg_toast')),
      'settings', (select coalesce(jsonb_object_agg(role.rolname, s.setconfig), '{}') from role
        join pg_db_role_setting s on s.setrole = role.oid and s.setdatabase = (select oid from pg_database where datname = current_database())),
      'presets', (select coalesce(jsonb_agg(role.rolname), '[]') from role join pg_db_role_setting s on s.setrole = role.oid and s.setdatabase = 0)
    )::text";
/// Of a schema's relations, types of rows included. `pg_depend` has an index by schema, `pg_class` has none.
const COUNT: &str = "
    select jsonb_build_object('tables', count(*) filter (where relkind in ('r', 'p')), 'others', count(*) filter (where relkind not in ('r', 'p', 'i', 'I', 't')),
      'exists', to_regnamespace($1) is not null)::text
    from pg_depend d join pg_class on pg_class.oid = case d.classid when 'pg_class'::regclass then d.objid
      else (select typrelid from pg_type t where t.oid = d.objid) end
    where d.refclassid = 'pg_namespace'::regclass and d.refobjid = to_regnamespace($1) and d.classid in ('pg_class'::regclass, 'pg_type'::regclass)";
const RESIDUE: &str = "select coalesce(jsonb_agg(thing), '[]')::text from (
      select 'schema ' || nspname from pg_namespace where starts_with(nspname, $1)
      union all select 'publication ' || pubname from pg_publication where starts_with(pubname, $1)) as found (thing)";

const KIND: SchemaKind =
    SchemaKind { title: "schema", of: |names| names.stem().to_owned(), furnish: "", attempts: &[] };

#[derive(Debug)]
pub struct SchemaLayer {
    cells: Cells,
    statement_timeout: u128,
    layers: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Seen {
    #[serde(flatten)]
    home: Namespace,
    elsewhere: Vec<Elsewhere>,
    /// Of logins, in this database: `name=value`.
    settings: std::collections::BTreeMap<String, Vec<String>>,
    /// Roles with settings for all databases.
    presets: Vec<String>,
}

/// Something outside of the schema that a role of the tenant has.
#[derive(Debug, Deserialize)]
struct Elsewhere {
    role: String,
    owns: bool,
    object: String,
    revoke: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Count {
    exists: bool,
    tables: u64,
    others: u64,
}

impl SchemaLayer {
    pub fn new(cells: Cells, rules: &config::Provisioning) -> Self {
        Self { cells, statement_timeout: rules.tenant_statement_timeout.as_millis(), layers: rules.layers.clone() }
    }

    async fn begin(&self, site: &Site) -> Result<CellTx> {
        let (placement, _) = site.placed()?;
        db_of(&self.cells, site)?.begin_in(&placement.database_name).await
    }

    async fn see(tx: &mut CellTx, names: &Names) -> Result<Seen> {
        let values = [names.stem(), &names.login(Slot::A), &names.login(Slot::B), &names.graph(), &names.vectors()];
        tx.json(OBSERVE, &values).await
    }

    fn differences(&self, seen: &Seen, names: &Names, database: &str) -> Vec<Difference> {
        let mut found = seen.home.differences(names.stem(), names.stem());
        for thing in &seen.elsewhere {
            let Elsewhere { role, object, .. } = thing;
            match &thing.revoke {
                Some(revoke) if !thing.owns => {
                    found.push(Difference::mended_by(format!("take rights on {object} from {role}"), revoke.clone()));
                }
                _ => found
                    .push(Difference::for_a_person(format!("{role} owns {object}, which is outside of its schema"))),
            }
        }
        for slot in [Slot::A, Slot::B] {
            found.extend(self.setting_differences(seen, names, slot, database));
        }
        for role in &seen.presets {
            let statement = format!("ALTER ROLE {} RESET ALL", quoted(role));
            found.push(Difference::mended_by(format!("take away the settings that {role} has everywhere"), statement));
        }
        found
    }

    /// The tenant's schema, then what its other layers have: nothing in which anybody else could make anything. PostgreSQL passes over
    /// what is not there.
    fn search_path(&self, names: &Names) -> String {
        let mut schemas = vec![names.stem().to_owned()];
        if self.layers.iter().any(|layer| layer == "vectors") {
            schemas.extend([names.vectors(), EXTENSIONS.to_owned()]);
        }
        if self.layers.iter().any(|layer| layer == "graph") {
            schemas.push("ag_catalog".to_owned());
        }
        schemas.join(", ")
    }

    /// A login becomes the tenant's role as it begins, and finds the tenant's schema.
    fn setting_differences(&self, seen: &Seen, names: &Names, slot: Slot, database: &str) -> Option<Difference> {
        let login = names.login(slot);
        let mut wanted = [
            format!("role={}", names.stem()),
            format!("search_path={}", self.search_path(names)),
            format!("statement_timeout={}", self.statement_timeout),
        ];
        wanted.sort();
        let mut present = seen.settings.get(&login).cloned().unwrap_or_default();
        present.sort();
        if present == wanted {
            return None;
        }
        let place = format!("ALTER ROLE {} IN DATABASE {}", quoted(&login), quoted(database));
        let set = wanted.iter().filter_map(|setting| setting.split_once('='));
        let set: Vec<_> = set.map(|(name, value)| format!("{place} SET {name} = {}", listed(value))).collect();
        Some(Difference::mended_by(
            format!("set what {login} begins with"),
            format!("{place} RESET ALL; {}", set.join("; ")),
        ))
    }
}

#[async_trait]
impl Layer for SchemaLayer {
    fn name(&self) -> &'static str {
        "schema"
    }

    async fn plan(&self, site: &Site) -> Result<Vec<String>> {
        let Some(placement) = &site.placement else {
            return Ok(sentences(&self.differences(&Seen::default(), &site.names, "the cell")));
        };
        let db = db_of(&self.cells, site)?;
        if !database_exists(&db, &placement.database_name).await? {
            return Ok(sentences(&self.differences(&Seen::default(), &site.names, &placement.database_name)));
        }
        match self.verify(site).await? {
            Verdict::InPlace => Ok(Vec::new()),
            Verdict::Drifted(differences) | Verdict::Told(differences) => Ok(differences),
        }
    }

    async fn ensure(&self, site: &Site) -> Result<Ensured> {
        let (placement, _) = site.placed()?;
        let mut tx = self.begin(site).await?;
        alone(&mut tx, &site.names).await?;
        let seen = Self::see(&mut tx, &site.names).await?;
        let differences = self.differences(&seen, &site.names, &placement.database_name);
        mend(&mut tx, &differences).await?;
        tx.commit().await?;
        let mut facts = Map::new();
        facts.insert("database".to_owned(), json!(placement.database_name));
        facts.insert("schema".to_owned(), json!(site.names.stem()));
        Ok(Ensured { changes: sentences(&differences), facts })
    }

    async fn verify(&self, site: &Site) -> Result<Verdict> {
        let (placement, _) = site.placed()?;
        let mut tx = self.begin(site).await?;
        let seen = Self::see(&mut tx, &site.names).await?;
        tx.commit().await?;
        Ok(Verdict::of(sentences(&self.differences(&seen, &site.names, &placement.database_name))))
    }

    async fn remove(&self, site: &Site) -> Result<Removed> {
        let Some(placement) = &site.placement else { return Ok(Removed::default()) };
        let db = db_of(&self.cells, site)?;
        if !database_exists(&db, &placement.database_name).await? {
            return Ok(Removed::default());
        }
        close_logins(&db, &site.names).await?;
        let mut tx = self.begin(site).await?;
        alone(&mut tx, &site.names).await?;
        let count: Count = tx.json(COUNT, &[site.names.stem()]).await?;
        tx.execute(&format!("DROP SCHEMA IF EXISTS {} CASCADE", quoted(site.names.stem()))).await?;
        tx.commit().await?;
        Ok(Removed::of([
            ("schemas", u64::from(count.exists)),
            ("tables", count.tables),
            ("other relations", count.others),
        ]))
    }

    fn probed(&self) -> Probed {
        Probed::InCells
    }

    async fn probe_isolation(&self, intruder: &ProbeTenant, victim: &ProbeTenant) -> Result<Vec<Attempt>> {
        intrusion::into_schema(&db_of(&self.cells, &intruder.site)?, KIND, intruder, victim).await
    }

    async fn residue(&self, site: &Site) -> Result<Vec<String>> {
        let mut found = search_all(&self.cells, RESIDUE, site.names.stem()).await?;
        found.extend(search_own_databases(&self.cells, &site.names, RESIDUE, site.names.stem()).await?);
        Ok(found)
    }
}

/// A list is set element by element.
fn listed(value: &str) -> String {
    value.split(", ").map(literal).collect::<Vec<_>>().join(", ")
}
