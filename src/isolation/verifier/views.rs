use serde::Deserialize;

use super::{
    Finding,
    facts::{Facts, Query},
    rule,
};
use crate::error::Result;

/// Views in schema `tenantry`, and those anywhere that read one of its relations, be it through another view: the outermost
/// decides with whose rights all of them read.
const VIEWS: Query = Query("views.views", "
    select format('%I.%I', n.nspname, v.relname) as view, v.relkind = 'm' as materialised,
        coalesce((
            select option_value::bool from pg_options_to_table(v.reloptions) where option_name = 'security_invoker'
        ), false) as invoker
    from (
        with recursive reader as (
            select oid from relation
            union
            select w.ev_class from reader
            join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = reader.oid and d.classid = 'pg_rewrite'::regclass
            join pg_rewrite w on w.oid = d.objid
        ) select oid from reader
    ) reader
    join pg_class v on v.oid = reader.oid and v.relkind in ('v', 'm')
    join pg_namespace n on n.oid = v.relnamespace
    order by 1");

pub(super) const QUERIES: &[Query] = &[VIEWS];

#[derive(Deserialize)]
struct View {
    view: String,
    materialised: bool,
    invoker: bool,
}

pub(super) fn check(facts: &Facts) -> Result<Vec<Finding>> {
    Ok(facts.rows::<View>(&VIEWS)?.iter().filter_map(judge).collect())
}

fn judge(view: &View) -> Option<Finding> {
    let name = &view.view;
    if view.materialised {
        let remedy = format!("drop materialized view {name};");
        return Some(rule::MATERIALISED_VIEW.broken(name, "keeps a copy of rows without policies", remedy));
    }
    let remedy = format!("alter view {name} set (security_invoker = true);");
    (!view.invoker).then(|| rule::VIEW_INVOKER.broken(name, "reads as its owner, not as who asks", remedy))
}
