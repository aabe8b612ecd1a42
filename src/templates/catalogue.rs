//! What PostgreSQL's catalogue says of a schema, without the schema's own name: two schemas of one template say the same.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256};
use serde::Deserialize;

use crate::{error::Result, platform::db::CellTx};

/// Values: the schema, the tenant's role. What belongs to a schema is found by `pg_depend`, which has an index for it.
/// `pg_catalog` alone is in the search path, so that all other names are printed with their schema.
const OBSERVE: &str = "
    with home as (select oid from pg_namespace where nspname = $1),
    mine as (select d.classid, d.objid from home join pg_depend d on d.refclassid = 'pg_namespace'::regclass and d.refobjid = home.oid),
    relation as (select c.* from mine join pg_class c on mine.classid = 'pg_class'::regclass and c.oid = mine.objid),
    routine as (select p.* from mine join pg_proc p on mine.classid = 'pg_proc'::regclass and p.oid = mine.objid),
    kind as (select t.* from mine join pg_type t on mine.classid = 'pg_type'::regclass and t.oid = mine.objid and t.typtype in ('e', 'd', 'r')),
    found (kind, name, definition) as (
      select case relkind when 'r' then 'table' when 'p' then 'table' when 'v' then 'view' when 'm' then 'materialised view'
          when 'S' then 'sequence' when 'c' then 'composite type' else 'relation' end,
        relname, concat_ws(' ', relkind, relpersistence, pg_get_userbyid(relowner), relrowsecurity, relforcerowsecurity, relacl, reloptions,
          pg_get_expr(relpartbound, oid), case when relkind in ('v', 'm') then pg_get_viewdef(oid) end)
      from relation where relkind in ('r', 'p', 'v', 'm', 'S', 'c', 'f')
      union all select 'column', relname || '.' || attname, concat_ws(' ', format_type(atttypid, atttypmod),
        case when attnotnull then 'not null' end, attidentity, attgenerated, pg_get_expr(adbin, adrelid), attacl,
        (select collname from pg_collation l where l.oid = attcollation))
      from relation r join pg_attribute a on a.attrelid = r.oid and attnum > 0 and not attisdropped
        left join pg_attrdef on adrelid = attrelid and adnum = attnum where relkind in ('r', 'p', 'c', 'f')
      union all select 'constraint', relname || '.' || conname, pg_get_constraintdef(c.oid) || case when convalidated then '' else ' not valid' end
      from relation r join pg_constraint c on conrelid = r.oid and contype <> 'n'
      union all select 'index', i.relname, pg_get_indexdef(indexrelid) || case when indisvalid then '' else ' invalid' end
      from relation r join pg_index on indrelid = r.oid join pg_class i on i.oid = indexrelid
      where not exists (select from pg_constraint where conindid = indexrelid and contype in ('p', 'u', 'x'))
      union all select 'trigger', relname || '.' || tgname, pg_get_triggerdef(t.oid) || ' ' || tgenabled::text
      from relation r join pg_trigger t on tgrelid = r.oid and not tgisinternal
      union all select 'policy', relname || '.' || polname, concat_ws(' ', polcmd, polpermissive,
        (select string_agg(coalesce(rolname, 'public'), ',' order by rolname) from unnest(polroles) o left join pg_roles on pg_roles.oid = o),
        pg_get_expr(polqual, polrelid), '/', pg_get_expr(polwithcheck, polrelid))
      from relation r join pg_policy on polrelid = r.oid
      union all select 'rule', relname || '.' || rulename, pg_get_ruledef(w.oid)
      from relation r join pg_rewrite w on ev_class = r.oid and rulename <> '_RETURN'
      union all select 'function', proname || '(' || pg_get_function_identity_arguments(oid) || ')',
        concat_ws(' ', pg_get_userbyid(proowner), proacl, case when prokind = 'a' then 'aggregate' else pg_get_functiondef(oid) end)
      from routine
      union all select 'type', typname, concat_ws(' ', typtype, pg_get_userbyid(typowner), typacl, format_type(nullif(typbasetype, 0), typtypmod),
        typnotnull, typdefault, (select string_agg(enumlabel, ',' order by enumsortorder) from pg_enum where enumtypid = kind.oid),
        (select string_agg(conname || ' ' || pg_get_constraintdef(c.oid), ',' order by conname) from pg_constraint c where contypid = kind.oid))
      from kind
    )
    select coalesce(jsonb_agg(jsonb_build_object('kind', kind, 'name', replace(name, $1 || '.', ''),
      'definition', replace(replace(definition, $1 || '.', ''), $2, 'TENANT'))), '[]')::text from found";

#[derive(Debug, Deserialize)]
struct Row {
    kind: String,
    name: String,
    definition: String,
}

/// Kind and name, and what the catalogue says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Objects(BTreeMap<(String, String), String>);

impl Objects {
    /// Reads a schema in the transaction, whose search path has to be `pg_catalog` alone.
    pub(super) async fn read(tx: &mut CellTx, schema: &str, role: &str) -> Result<Self> {
        let rows: Vec<Row> = tx.json(OBSERVE, &[schema, role]).await?;
        Ok(Self(rows.into_iter().map(|row| ((row.kind, row.name), row.definition)).collect()))
    }

    /// SHA-256 over all of it, in hexadecimal digits.
    pub(super) fn hash(&self) -> String {
        let mut context = Context::new(&SHA256);
        for ((kind, name), definition) in &self.0 {
            for part in [kind, name, definition] {
                context.update(&(part.len() as u64).to_be_bytes());
                context.update(part.as_bytes());
            }
        }
        context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// How this differs from what the template makes, one sentence each. Of a table that is missing, or that is not of the
    /// template, only the table is named.
    pub(super) fn differences(&self, template: &Self) -> Vec<String> {
        let missing =
            template.0.keys().filter(|key| !self.0.contains_key(*key)).map(|key| (key, template, "is missing"));
        let foreign =
            self.0.keys().filter(|key| !template.0.contains_key(*key)).map(|key| (key, self, "is not of the template"));
        let other = self.0.iter().filter(|(key, own)| template.0.get(*key).is_some_and(|theirs| theirs != *own));
        let other = other.map(|((kind, name), _)| format!("{kind} {name} is not as in the template"));
        let one_sided = missing.chain(foreign).filter(|((_, name), side, _)| {
            let absent = if std::ptr::eq(*side, self) { template } else { self };
            !name
                .split_once('.')
                .is_some_and(|(relation, _)| side.has_relation(relation) && !absent.has_relation(relation))
        });
        one_sided.map(|((kind, name), _, what)| format!("{kind} {name} {what}")).chain(other).collect()
    }

    fn has_relation(&self, name: &str) -> bool {
        ["table", "view", "materialised view", "composite type", "relation"]
            .iter()
            .any(|kind| self.0.contains_key(&((*kind).to_owned(), name.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(of: &[(&str, &str, &str)]) -> Objects {
        Objects(
            of.iter()
                .map(|(kind, name, text)| (((*kind).to_owned(), (*name).to_owned()), (*text).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn differences_are_told_once_each() {
        let template = objects(&[
            ("table", "items", "r"),
            ("column", "items.id", "bigint"),
            ("column", "items.note", "text"),
            ("table", "old", "r"),
            ("column", "old.id", "bigint"),
        ]);
        let own = objects(&[
            ("table", "items", "r"),
            ("column", "items.id", "integer"),
            ("table", "more", "r"),
            ("column", "more.id", "bigint"),
        ]);
        let told = own.differences(&template);
        assert_eq!(
            told,
            [
                "column items.note is missing",
                "table old is missing",
                "table more is not of the template",
                "column items.id is not as in the template"
            ]
        );
        assert_eq!(own.differences(&own.clone()), [""; 0]);
        assert!(own.hash() != template.hash() && own.hash() == own.clone().hash());
    }
}
