//! The labels of the tenant's graph: tables that Apache AGE makes, at the target as at the source, under the numbers that ids in the graph
//! begin with. What a tenant has changed of a label but its indexes, keys and triggers is refused, before a row is copied.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{ends::Ends, source::Table};
use crate::{
    cells::{literal, quoted},
    error::{Error, Result},
    platform::db::CellSession,
};

/// Values: those of `home!`. Asked only where the extension is. What `create_graph` makes is left out.
const LABELS: &str = concat!(
    "with ",
    home!(),
    " select coalesce(jsonb_agg(jsonb_build_object('name', c.relname, 'id', ag_catalog._label_id(nspname, c.relname),
      'isEdge', p.relname = '_ag_label_edge') order by c.relname), '[]')::text
    from home join pg_class c on c.relnamespace = home.oid and c.relkind = 'r' join pg_inherits i on i.inhrelid = c.oid
      join pg_class p on p.oid = i.inhparent and p.relnamespace = home.oid
    where nspname = $3 and p.relname in ('_ag_label_vertex', '_ag_label_edge')"
);
/// Value: the graph. What its labels are like; indexes, keys and triggers are not part of it.
const LIKENESS: &str = "
    with label as (select c.oid, c.relname, c.relacl, c.relnamespace from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where nspname = $1 and relkind = 'r')
    select coalesce(jsonb_agg(line), '[]')::text from (
      select format('column %s of label %s is %s, not null: %s, default: %s', attname, relname, format_type(atttypid, atttypmod), attnotnull,
          pg_get_expr(adbin, adrelid)) as line
        from label join pg_attribute on attrelid = label.oid left join pg_attrdef on adrelid = attrelid and adnum = attnum
        where attnum > 0 and not attisdropped
      union all select format('constraint %s of label %s is %s', conname, relname, pg_get_constraintdef(c.oid))
        from label join pg_constraint c on conrelid = label.oid where contype = 'c'
      union all select format('label %s inherits from %s.%s', label.relname, p.relnamespace::regnamespace, p.relname)
        from label join pg_inherits on inhrelid = label.oid join pg_class p on p.oid = inhparent
      union all select format('rights on label %s are %s', relname, relacl) from label where relacl is not null
    ) as found";
/// Value: the graph. The names that `pg_dump` gives to indexes and keys, of those that are there.
const MADE: &str = "
    select coalesce(jsonb_agg(name), '[]')::text from (
      select i.relname as name from pg_class i join pg_namespace n on n.oid = i.relnamespace where nspname = $1 and relkind = 'i'
      union all select format('%s %s', t.relname, conname) from pg_constraint c join pg_class t on t.oid = conrelid
        join pg_namespace n on n.oid = t.relnamespace where nspname = $1
    ) as found";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Label {
    name: String,
    /// 0 for a table that is none.
    id: u16,
    is_edge: bool,
}

/// Of a graph that goes along.
pub(super) async fn labels(session: &mut CellSession, ends: &Ends, uses: &[String]) -> Result<Vec<Label>> {
    if !uses.iter().any(|extension| extension == "age") {
        return Ok(Vec::new());
    }
    let labels: Vec<Label> = session.json(LABELS, &[&ends.stem, &ends.vectors, &ends.graph]).await?;
    match labels.iter().find(|label| label.id == 0) {
        None => Ok(labels),
        Some(other) => {
            let rule =
                format!("{} is in the graph's schema, and no label of the graph; that cannot be moved", other.name);
            Err(Error::invalid("tenantId", rule))
        }
    }
}

/// What makes them in a graph that has none. Each takes the next number of a sequence.
pub(super) fn make(ends: &Ends, labels: &[Label]) -> String {
    let (graph, numbers) = (literal(&ends.graph), literal(&format!("{}._label_id_seq", quoted(&ends.graph))));
    let each = labels.iter().map(|Label { name, id, is_edge }| {
        let make = if *is_edge { "create_elabel" } else { "create_vlabel" };
        format!(
            "SELECT pg_catalog.setval({numbers}::regclass, {}); SELECT ag_catalog.{make}({graph}, {});\n",
            id - 1,
            literal(name)
        )
    });
    each.collect()
}

/// Refuses labels that are more than what their making makes of them.
pub(super) async fn check_alike(ends: &Ends, source: &mut CellSession, target: &mut CellSession) -> Result<()> {
    let there: BTreeSet<String> = source.json(LIKENESS, &[&ends.graph]).await?;
    let here: BTreeSet<String> = target.json(LIKENESS, &[&ends.graph]).await?;
    match there.symmetric_difference(&here).next() {
        None => Ok(()),
        Some(line) => {
            let at = if there.contains(line) { "at the source alone" } else { "at the target alone" };
            Err(Error::invalid("tenantId", format!("{at}, {line}; a graph cannot be moved with that")))
        }
    }
}

/// Indexes and keys that came with the labels.
pub(super) async fn made(target: &mut CellSession, ends: &Ends) -> Result<BTreeSet<String>> {
    target.json(MADE, &[&ends.graph]).await
}

/// Labels' rows are told apart by their ids, and most have no index on them: one for the time of the move.
pub(super) fn help(ends: &Ends, tables: &[Table]) -> String {
    named(ends, tables).map(|(index, table)| format!("CREATE INDEX {index} ON {} (id);\n", table.place)).collect()
}

pub(super) fn end_help(ends: &Ends, tables: &[Table]) -> Vec<String> {
    let graph = quoted(&ends.graph);
    named(ends, tables).map(|(index, _)| format!("DROP INDEX IF EXISTS {graph}.{index}")).collect()
}

fn named<'a>(ends: &'a Ends, tables: &'a [Table]) -> impl Iterator<Item = (String, &'a Table)> {
    let labels = tables.iter().filter(|table| table.place.schema == ends.graph);
    labels.enumerate().map(|(number, table)| (quoted(&format!("{}_{number}", ends.own())), table))
}
