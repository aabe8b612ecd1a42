//! The tenant's schema for tables with vectors (pgvector), in the database where its other tables are. Types and operators are
//! everybody's, in a schema where nobody makes anything; tables and indexes are the tenant's own.

use async_trait::async_trait;
use serde_json::{Map, json};

use super::{
    super::{Availability, Ensured, Layer, Names, ProbeTenant, Probed, Removed, Site, Verdict, quoted},
    postgres::{
        EXTENSIONS, Extension, NAMESPACE, Namespace, alone, close_logins, database_exists, db_of,
        intrusion::{self, SchemaKind},
        mend, search_all, search_own_databases, sentences,
    },
};
use crate::{cells::Cells, error::Result, isolation::Attempt, platform::db::CellTx};

const VECTOR: Extension = Extension {
    name: "vector",
    title: "pgvector (vector)",
    schema: EXTENSIONS,
    closed: &[],
    closed_to_neighbours: &[],
    known: &[],
    is_preloaded: false,
};
/// With an index that finds what is near: what is asked of it goes by the rights of its table.
const KIND: SchemaKind = SchemaKind {
    title: "schema of vectors",
    of: Names::vectors,
    furnish: "
        create table if not exists \"B\".items (id int primary key, place extensions.vector(3));
        insert into \"B\".items values (1, '[1,0,0]') on conflict do nothing;
        create index if not exists items_near on \"B\".items using hnsw (place extensions.vector_l2_ops)",
    attempts: &[
        (
            "find what is near in a table",
            "select id from \"B\".items order by place operator(extensions.<->) '[0,2,0]' limit 1",
        ),
        (
            "plant a function beside the types",
            "create function extensions.planted() returns int language sql as 'select 1'",
        ),
    ],
};

const TABLES: &str =
    "select to_jsonb(count(*))::text from pg_depend d join pg_class c on c.oid = d.objid where d.refclassid = 'pg_namespace'::regclass
      and d.refobjid = to_regnamespace($1) and d.classid = 'pg_class'::regclass and c.relkind in ('r', 'p')";
const RESIDUE: &str =
    "select coalesce(jsonb_agg('schema ' || nspname), '[]')::text from pg_namespace where nspname = $1";

#[derive(Debug)]
pub struct VectorsLayer {
    cells: Cells,
}

impl VectorsLayer {
    pub fn new(cells: Cells) -> Self {
        Self { cells }
    }

    async fn begin(&self, site: &Site) -> Result<CellTx> {
        let (placement, _) = site.placed()?;
        db_of(&self.cells, site)?.begin_in(&placement.database_name).await
    }

    async fn is_there(&self, site: &Site) -> Result<bool> {
        let (placement, _) = site.placed()?;
        database_exists(&db_of(&self.cells, site)?, &placement.database_name).await
    }

    async fn look(&self, tx: &mut CellTx, site: &Site) -> Result<Vec<String>> {
        let home: Namespace = tx.json(NAMESPACE, &[&site.names.vectors()]).await?;
        let mut found = sentences(&VECTOR.differences(tx, site.tenant.isolation_tier).await?);
        found.extend(sentences(&home.differences(&site.names.vectors(), site.names.stem())));
        Ok(found)
    }
}

#[async_trait]
impl Layer for VectorsLayer {
    fn name(&self) -> &'static str {
        "vectors"
    }

    fn extension(&self) -> Option<&'static str> {
        Some(VECTOR.name)
    }

    async fn availability(&self, site: &Site) -> Result<Availability> {
        let (_, cell) = site.placed()?;
        if !self.is_there(site).await? {
            return Ok(Availability::Here);
        }
        let mut tx = self.begin(site).await?;
        let found = VECTOR.availability(&mut tx, (site.tenant.isolation_tier, cell)).await?;
        tx.commit().await?;
        Ok(found)
    }

    async fn plan(&self, site: &Site) -> Result<Vec<String>> {
        if site.placement.is_none() || !self.is_there(site).await? {
            return Ok(sentences(&Namespace::default().differences(&site.names.vectors(), site.names.stem())));
        }
        let mut tx = self.begin(site).await?;
        let found = self.look(&mut tx, site).await?;
        tx.commit().await?;
        Ok(found)
    }

    async fn ensure(&self, site: &Site) -> Result<Ensured> {
        let schema = site.names.vectors();
        let mut tx = self.begin(site).await?;
        alone(&mut tx, &site.names).await?;
        let mut changes = VECTOR.ensure(&mut tx, site.tenant.isolation_tier).await?;
        let home: Namespace = tx.json(NAMESPACE, &[&schema]).await?;
        let differences = home.differences(&schema, site.names.stem());
        mend(&mut tx, &differences).await?;
        tx.commit().await?;
        changes.extend(sentences(&differences));
        let mut facts = Map::new();
        facts.insert("schema".to_owned(), json!(schema));
        facts.insert("types".to_owned(), json!(EXTENSIONS));
        Ok(Ensured { changes, facts })
    }

    async fn verify(&self, site: &Site) -> Result<Verdict> {
        let mut tx = self.begin(site).await?;
        let found = self.look(&mut tx, site).await?;
        tx.commit().await?;
        Ok(Verdict::of(found))
    }

    /// The extension stays: it is the database's.
    async fn remove(&self, site: &Site) -> Result<Removed> {
        if site.placement.is_none() || !self.is_there(site).await? {
            return Ok(Removed::default());
        }
        close_logins(&db_of(&self.cells, site)?, &site.names).await?;
        let schema = site.names.vectors();
        let mut tx = self.begin(site).await?;
        alone(&mut tx, &site.names).await?;
        let home: Namespace = tx.json(NAMESPACE, &[&schema]).await?;
        let tables: u64 = tx.json(TABLES, &[&schema]).await?;
        tx.execute(&format!("DROP SCHEMA IF EXISTS {} CASCADE", quoted(&schema))).await?;
        tx.commit().await?;
        Ok(Removed::of([("schemas", u64::from(home.exists)), ("tables", tables)]))
    }

    fn probed(&self) -> Probed {
        Probed::InCells
    }

    async fn probe_isolation(&self, intruder: &ProbeTenant, victim: &ProbeTenant) -> Result<Vec<Attempt>> {
        intrusion::into_schema(&db_of(&self.cells, &intruder.site)?, KIND, intruder, victim).await
    }

    async fn residue(&self, site: &Site) -> Result<Vec<String>> {
        let schema = site.names.vectors();
        let mut found = search_all(&self.cells, RESIDUE, &schema).await?;
        found.extend(search_own_databases(&self.cells, &site.names, RESIDUE, &schema).await?);
        Ok(found)
    }
}
