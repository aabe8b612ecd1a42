//! The tenant's graph (Apache AGE), in the database where its tables are: a schema of the cell's login, with labels that are
//! tables of the tenant's role.
//!
//! AGE's own functions are C, and not all look at rights: some read any graph whose name they are given, some read files of the
//! server. Those are taken from everybody before the first tenant comes.

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, json};

use super::{
    super::{Availability, Ensured, Layer, Names, ProbeTenant, Probed, Removed, Site, Verdict, literal, quoted},
    postgres::{
        Difference, Extension, NAMESPACE, Namespace, alone, close_logins, database_exists, db_of,
        intrusion::{self, SchemaKind},
        mend, search_all, search_own_databases, sentences,
    },
};
use crate::{cells::Cells, error::Result, isolation::Attempt, platform::db::CellTx};

const AGE: Extension = Extension {
    name: "age",
    title: "Apache AGE (age)",
    schema: "ag_catalog",
    closed: &["load_labels_from_file", "load_edges_from_file", "create_graph", "drop_graph", "alter_graph"],
    // Variable-length paths, startNode(), endNode() and vertex_stats() of Cypher are made of these: they are to be had in a
    // database of one's own only.
    closed_to_neighbours: &[
        "age_vle",
        "age_startnode",
        "age_endnode",
        "age_vertex_stats",
        "age_graph_stats",
        "age_delete_global_graphs",
        "create_complete_graph",
        "age_create_barbell_graph",
    ],
    known: &["1.5.0"],
    is_preloaded: true,
};

const KIND: SchemaKind = SchemaKind {
    title: "graph",
    of: Names::graph,
    furnish: "
        select * from ag_catalog.cypher('B', $$ create (a:Person {name: 'told'})-[:KNOWS]->(b:Person) return 1 $$) as (a ag_catalog.agtype)",
    attempts: &[
        ("match nodes", "select * from ag_catalog.cypher('B', $$ match (a) return a $$) as (a ag_catalog.agtype)"),
        ("create a node", "select * from ag_catalog.cypher('B', $$ create (a:Planted) return a $$) as (a ag_catalog.agtype)"),
        ("delete nodes", "select * from ag_catalog.cypher('B', $$ match (a) detach delete a $$) as (a ag_catalog.agtype)"),
        ("follow paths", "select * from ag_catalog.cypher('B', $$ match (a)-[*1..2]->(b) return b $$) as (a ag_catalog.agtype)"),
        ("read a label", "select * from \"B\".\"Person\""),
        ("read the entry", "select * from ag_catalog.ag_graph where name = 'B'"),
        ("drop all", "select ag_catalog.drop_graph('B', true)"),
        ("change the name", "select ag_catalog.alter_graph('B', 'RENAME', 'taken')"),
        ("make a label", "select ag_catalog.create_vlabel('B', 'Planted')"),
        ("drop a label", "select ag_catalog.drop_label('B', 'Person', false)"),
        ("read a file into a label", "select ag_catalog.load_labels_from_file('B', 'Person', '/etc/passwd')"),
    ],
};

/// Values: the graph, the tenant's role.
const LABELS: &str = "
    select jsonb_build_object(
      'isKnown', exists (select from ag_catalog.ag_graph where name = $1),
      'strange', (select coalesce(jsonb_agg(c.relname order by c.relname), '[]') from pg_class c join pg_roles r on r.oid = c.relowner
        where c.relnamespace = to_regnamespace($1) and r.rolname <> $2
          and (c.relkind = 'r' or c.relkind = 'S' and not exists (select from pg_depend d
            where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')))))::text";
const TABLES: &str =
    "select to_jsonb(count(*))::text from pg_depend d join pg_class c on c.oid = d.objid where d.refclassid = 'pg_namespace'::regclass
      and d.refobjid = to_regnamespace($1) and d.classid = 'pg_class'::regclass and c.relkind in ('r', 'p')";
const MAY_MAKE: &str = "
    select to_jsonb(coalesce(has_schema_privilege(to_regnamespace('ag_catalog'), 'USAGE')
      and has_table_privilege(to_regclass('ag_catalog.ag_graph'), 'SELECT')
      and has_function_privilege(to_regprocedure('ag_catalog.create_graph(name)'), 'EXECUTE')
      and has_function_privilege(to_regprocedure('ag_catalog.drop_graph(name,boolean)'), 'EXECUTE'), true))::text";
const RESIDUE: &str =
    "select coalesce(jsonb_agg('graph ' || nspname), '[]')::text from pg_namespace where nspname = $1";

#[derive(Debug)]
pub struct GraphLayer {
    cells: Cells,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Labels {
    is_known: bool,
    /// What in the graph's schema does not belong to the tenant's role.
    strange: Vec<String>,
}

impl GraphLayer {
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

    /// Asked only where the extension is.
    async fn see(tx: &mut CellTx, names: &Names) -> Result<(Namespace, Labels)> {
        let graph = names.graph();
        Ok((tx.json(NAMESPACE, &[&graph]).await?, tx.json(LABELS, &[&graph, names.stem()]).await?))
    }

    async fn look(tx: &mut CellTx, site: &Site) -> Result<Vec<String>> {
        let ground = AGE.differences(tx, site.tenant.isolation_tier).await?;
        let (home, labels) = if ground.iter().any(|difference| difference.what.starts_with("make")) {
            (Namespace::default(), Labels::default())
        } else {
            Self::see(tx, &site.names).await?
        };
        let mut found = sentences(&ground);
        found.extend(sentences(&differences(&home, &labels, &site.names)));
        Ok(found)
    }
}

fn differences(home: &Namespace, labels: &Labels, names: &Names) -> Vec<Difference> {
    let (graph, role) = (names.graph(), names.stem());
    if home.exists != labels.is_known {
        return vec![Difference::for_a_person(format!("what is left of graph {graph} is no graph; drop its schema"))];
    }
    let mut found = Vec::new();
    if !home.exists {
        let statement = format!("SELECT ag_catalog.create_graph({})", literal(&graph));
        found.push(Difference::mended_by(format!("make graph {graph}"), statement));
    }
    let rights = home.differences(&graph, role);
    found.extend(rights.into_iter().filter(|difference| home.exists || !difference.what.starts_with("make")));
    if !home.exists || !labels.strange.is_empty() {
        found.push(Difference::mended_by(format!("give the labels of graph {graph} to {role}"), give(&graph, role)));
    }
    found
}

/// Sequences of a column go with their table.
fn give(graph: &str, role: &str) -> String {
    let (schema, role) = (literal(graph), literal(role));
    format!(
        "DO $$ DECLARE thing record; BEGIN
           FOR thing IN SELECT c.relname, c.relkind FROM pg_class c WHERE c.relnamespace = to_regnamespace({schema})
             AND c.relowner <> (SELECT oid FROM pg_roles WHERE rolname = {role})
             AND (c.relkind = 'r' OR c.relkind = 'S' AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
               AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')))
           LOOP EXECUTE format('ALTER %s %I.%I OWNER TO %I',
             CASE thing.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, {schema}, thing.relname, {role}); END LOOP; END $$"
    )
}

#[async_trait]
impl Layer for GraphLayer {
    fn name(&self) -> &'static str {
        "graph"
    }

    fn extension(&self) -> Option<&'static str> {
        Some(AGE.name)
    }

    async fn availability(&self, site: &Site) -> Result<Availability> {
        let (_, cell) = site.placed()?;
        if !self.is_there(site).await? {
            return Ok(Availability::Here);
        }
        let mut tx = self.begin(site).await?;
        let mut found = AGE.availability(&mut tx, (site.tenant.isolation_tier, cell)).await?;
        if found == Availability::Here && !tx.json::<bool>(MAY_MAKE, &[]).await? {
            let why = "its login may not make graphs: it needs select on ag_catalog.ag_graph, and execute on create_graph and drop_graph";
            found = Availability::NotHere(format!("not available on this cell: {why}"));
        }
        tx.commit().await?;
        Ok(found)
    }

    async fn plan(&self, site: &Site) -> Result<Vec<String>> {
        if site.placement.is_none() || !self.is_there(site).await? {
            return Ok(sentences(&differences(&Namespace::default(), &Labels::default(), &site.names)));
        }
        let mut tx = self.begin(site).await?;
        let found = Self::look(&mut tx, site).await?;
        tx.commit().await?;
        Ok(found)
    }

    async fn ensure(&self, site: &Site) -> Result<Ensured> {
        let mut tx = self.begin(site).await?;
        alone(&mut tx, &site.names).await?;
        let mut changes = AGE.ensure(&mut tx, site.tenant.isolation_tier).await?;
        let (home, labels) = Self::see(&mut tx, &site.names).await?;
        let differences = differences(&home, &labels, &site.names);
        mend(&mut tx, &differences).await?;
        tx.commit().await?;
        changes.extend(sentences(&differences));
        let mut facts = Map::new();
        facts.insert("graph".to_owned(), json!(site.names.graph()));
        Ok(Ensured { changes, facts })
    }

    async fn verify(&self, site: &Site) -> Result<Verdict> {
        let mut tx = self.begin(site).await?;
        let found = Self::look(&mut tx, site).await?;
        tx.commit().await?;
        Ok(Verdict::of(found))
    }

    /// The extension stays: it is the database's.
    async fn remove(&self, site: &Site) -> Result<Removed> {
        if site.placement.is_none() || !self.is_there(site).await? {
            return Ok(Removed::default());
        }
        close_logins(&db_of(&self.cells, site)?, &site.names).await?;
        let graph = site.names.graph();
        let mut tx = self.begin(site).await?;
        alone(&mut tx, &site.names).await?;
        let home: Namespace = tx.json(NAMESPACE, &[&graph]).await?;
        let tables: u64 = tx.json(TABLES, &[&graph]).await?;
        if home.exists {
            let (_, labels) = Self::see(&mut tx, &site.names).await?;
            let drop = if labels.is_known {
                format!("SELECT ag_catalog.drop_graph({}, true)", literal(&graph))
            } else {
                format!("DROP SCHEMA {} CASCADE", quoted(&graph))
            };
            tx.execute(&drop).await?;
        }
        tx.commit().await?;
        Ok(Removed::of([("graphs", u64::from(home.exists)), ("tables", tables)]))
    }

    fn probed(&self) -> Probed {
        Probed::InCells
    }

    async fn probe_isolation(&self, intruder: &ProbeTenant, victim: &ProbeTenant) -> Result<Vec<Attempt>> {
        intrusion::into_schema(&db_of(&self.cells, &intruder.site)?, KIND, intruder, victim).await
    }

    async fn residue(&self, site: &Site) -> Result<Vec<String>> {
        let graph = site.names.graph();
        let mut found = search_all(&self.cells, RESIDUE, &graph).await?;
        found.extend(search_own_databases(&self.cells, &site.names, RESIDUE, &graph).await?);
        Ok(found)
    }
}
