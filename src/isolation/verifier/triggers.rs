use serde::Deserialize;

use super::{
    Finding,
    facts::{Facts, Query},
    rule,
};
use crate::error::Result;

/// What must stand guard: on the table and on its partitions, which statement triggers do not come to by themselves. The
/// numbers are sums of `pg_trigger.tgtype`: 1 each row, 2 before, 4 insert, 8 delete, 16 update, 32 truncate. Named columns
/// or a WHEN would let something by. Names of triggers do not matter.
const GUARDS: Query = Query("triggers.guards", "
    select coalesce(r.object, 'tenantry.' || guard.table_name) as table, guard.function_name as function, guard.events, (
            select quote_ident(t.tgname) from pg_trigger t join function f on f.oid = t.tgfoid
            where t.tgrelid = r.oid and f.proname = guard.function_name and t.tgtype = guard.kind and t.tgenabled in ('D', 'R') limit 1
        ) as disabled
    from (values
        ('tenants', 'tenants_guard', 'insert or update', 1 + 2 + 4 + 16),
        ('journal', 'refuse_change', 'update or delete', 1 + 2 + 8 + 16),
        ('journal', 'refuse_change', 'truncate', 2 + 32),
        ('journal_checkpoints', 'refuse_change', 'update or delete', 1 + 2 + 8 + 16),
        ('journal_checkpoints', 'refuse_change', 'truncate', 2 + 32)
    ) guard(table_name, function_name, events, kind)
    left join (relation r join pg_class root on root.oid = r.root and r.relkind in ('r', 'p')) on root.relname = guard.table_name
    where not exists (
        select from pg_trigger t join function f on f.oid = t.tgfoid
        where t.tgrelid = r.oid and f.proname = guard.function_name and t.tgtype & guard.kind = guard.kind and t.tgtype & 1 = guard.kind & 1
        and t.tgenabled in ('O', 'A') and t.tgqual is null and t.tgattr = ''::int2vector)
    order by 1, 3");

/// A PL/pgSQL trigger function without RETURN always fails, so whoever fires it changes nothing.
const YIELDING: Query = Query(
    "triggers.yielding",
    "
    select f.object from function f join pg_language l on l.oid = f.prolang
    where f.proname = 'refuse_change' and (l.lanname <> 'plpgsql' or f.prosrc ~* '\\mreturn\\M')",
);

const STRANGERS: Query = Query(
    "triggers.strangers",
    "
    select r.object as table, quote_ident(t.tgname) as trigger, p.oid::regprocedure::text as function
    from relation r
    join pg_trigger t on t.tgrelid = r.oid and not t.tgisinternal
    join pg_proc p on p.oid = t.tgfoid
    join pg_namespace n on n.oid = p.pronamespace
    where n.nspname not in ('tenantry', 'pg_catalog')",
);

const RULES: Query = Query(
    "triggers.rules",
    "
    select r.object as table, quote_ident(w.rulename) as name
    from relation r join pg_rewrite w on w.ev_class = r.oid
    where not (r.relkind in ('v', 'm') and w.rulename = '_RETURN')",
);

pub(super) const QUERIES: &[Query] = &[GUARDS, YIELDING, STRANGERS, RULES];

#[derive(Deserialize)]
struct Guard {
    table: String,
    function: String,
    events: String,
    /// A trigger that would do if it were enabled.
    disabled: Option<String>,
}

#[derive(Deserialize)]
struct Yielding {
    object: String,
}

#[derive(Deserialize)]
struct Stranger {
    table: String,
    trigger: String,
    function: String,
}

#[derive(Deserialize)]
struct RewriteRule {
    table: String,
    name: String,
}

pub(super) fn check(facts: &Facts) -> Result<Vec<Finding>> {
    let mut findings: Vec<_> = facts.rows::<Guard>(&GUARDS)?.iter().map(judge_guard).collect();
    findings.extend(facts.rows::<Yielding>(&YIELDING)?.iter().map(judge_yielding));
    findings.extend(facts.rows::<Stranger>(&STRANGERS)?.iter().map(judge_stranger));
    findings.extend(facts.rows::<RewriteRule>(&RULES)?.iter().map(judge_rewrite_rule));
    Ok(findings)
}

fn judge_guard(guard: &Guard) -> Finding {
    let Guard { table, function, events, disabled } = guard;
    let each = if events == "truncate" { "statement" } else { "row" };
    let remedy = match disabled {
        Some(trigger) => format!("alter table {table} enable trigger {trigger};"),
        None => format!(
            "create trigger guard_{each} before {events} on {table} for each {each} execute function tenantry.{function}();"
        ),
    };
    rule::TRIGGER_GUARD.broken(table, format!("nothing calls {function} before {events}"), remedy)
}

fn judge_yielding(function: &Yielding) -> Finding {
    let object = &function.object;
    let remedy = format!(
        "create or replace function {object} returns trigger language plpgsql set search_path = tenantry, pg_temp as $$ begin \
         raise exception '% is append-only', tg_table_name using errcode = 'TY002'; end $$;"
    );
    rule::TRIGGER_GUARD.broken(object, "may return, and let a change to the journal pass", remedy)
}

fn judge_stranger(stranger: &Stranger) -> Finding {
    let Stranger { table, trigger, function } = stranger;
    let remedy = format!("drop trigger {trigger} on {table};");
    rule::TRIGGER_FUNCTION.broken(
        format!("{table} {trigger}"),
        format!("runs {function} on each change, with the session's rights"),
        remedy,
    )
}

fn judge_rewrite_rule(rewrite: &RewriteRule) -> Finding {
    let RewriteRule { table, name } = rewrite;
    let problem = "rewrites statements before policies apply, with the rights of the table's owner";
    rule::REWRITE_RULE.broken(format!("{table} {name}"), problem, format!("drop rule {name} on {table};"))
}
