//! The end that the tenant leaves: what is there, what a move puts there, and how services are kept out.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    ends::{Ends, run},
    place::Place,
    position::parse_lsn,
};
use crate::{
    cells::{literal, quoted},
    error::{Error, Kind, Result},
    platform::db::CellSession,
};

/// Values: those of `home!`, and the role's logins. One sentence for each thing that a move does not carry.
const IN_THE_WAY: &str = concat!(
    "with ",
    home!(),
    ", role as (select oid from pg_roles where rolname = $1),
    relation as (select c.* from pg_class c join home on c.relnamespace = home.oid),
    label as (select c.oid from relation c join home on c.relnamespace = home.oid where nspname = $3 and relkind = 'r'
      and (relname in ('_ag_label_vertex', '_ag_label_edge') or exists (select from pg_inherits i join relation p on p.oid = i.inhparent
        where i.inhrelid = c.oid and p.relnamespace = home.oid and p.relname in ('_ag_label_vertex', '_ag_label_edge')))),
    part as (select oid from label union all select s.oid from relation s join home on s.relnamespace = home.oid where nspname = $3 and relkind = 'S'
      and (relname = '_label_id_seq' or exists (select from pg_depend d join label on d.refobjid = label.oid
        where d.classid = 'pg_class'::regclass and d.objid = s.oid and d.refclassid = 'pg_class'::regclass and d.deptype = 'a')))
    select coalesce(jsonb_agg(problem), '[]')::text from (
      select relname || ' belongs to another role than the tenant''s' from relation
        where relkind in ('r', 'p', 'v', 'm', 'S') and relowner <> (select oid from role)
      union all select relname || ' is unlogged; alter table … set logged' from relation where relkind in ('r', 'p') and relpersistence = 'u'
      union all select relname || ' is a foreign table' from relation where relkind = 'f'
      union all select tgname || ' on ' || relname || ' is a trigger that fires for replicas' from pg_trigger t join relation r on r.oid = t.tgrelid
        where tgenabled in ('A', 'R')
      union all select 'the tenant has large objects' where exists (select from pg_largeobject_metadata
        where lomowner in (select oid from pg_roles where rolname in ($1, $4, $5)))
      union all select pg_describe_object(d.classid, d.objid, 0) || ' is in the graph''s schema, and no part of the graph'
        from pg_depend d join home on d.refclassid = 'pg_namespace'::regclass and d.refobjid = home.oid
        where nspname = $3 and d.classid <> 'pg_statistic_ext'::regclass
          and not (d.classid = 'pg_class'::regclass and d.objid in (select oid from part))
    ) as found (problem)"
);
/// Values: those of `home!`. Columns that are computed are computed at the target, too.
const TABLES: &str = concat!(
    "with ",
    home!(),
    " select coalesce(jsonb_agg(jsonb_build_object('place', jsonb_build_object('schema', n.nspname, 'name', c.relname), 'identity', c.relreplident, 'protected', c.relrowsecurity,
      'keyed', case c.relreplident when 'i' then true
        when 'd' then exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary and i.indimmediate) else false end,
      'columns', (select coalesce(jsonb_agg(a.attname order by a.attnum), '[]') from pg_attribute a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = '')) order by n.nspname, c.relname), '[]')::text
    from pg_class c join home n on n.oid = c.relnamespace where c.relkind = 'r'"
);
/// Values: those of `home!`, and the role's logins. Another answer says that something was defined anew. What vacuuming, analysing and a move's own
/// work change is left out.
const FINGERPRINT: &str = concat!(
    "with ",
    home!(),
    ", relation as (select c.* from pg_class c join home on c.relnamespace = home.oid),
    line as (
      select format('c %s %s %s %s %s %s %s %s', oid, relname, relkind, relowner, relrowsecurity, relforcerowsecurity, relacl, reloptions) as text from relation
      union all select format('a %s %s %s', attrelid, attnum, a.xmin) from pg_attribute a join relation on relation.oid = attrelid where relkind <> 'i'
      union all select format('k %s %s', k.oid, k.xmin) from pg_constraint k join home on connamespace = home.oid
      union all select format('i %s %s', indexrelid, indrelid) from pg_index join relation on relation.oid = indrelid
      union all select format('t %s %s', t.oid, t.xmin) from pg_trigger t join relation on relation.oid = tgrelid
      union all select format('p %s %s', p.oid, p.xmin) from pg_proc p join home on pronamespace = home.oid
      union all select format('y %s %s', y.oid, y.xmin) from pg_type y join home on typnamespace = home.oid
      union all select format('l %s %s', l.oid, l.xmin) from pg_policy l join relation on relation.oid = polrelid
      union all select format('r %s %s', w.oid, w.xmin) from pg_rewrite w join relation on relation.oid = ev_class
      union all select format('d %s %s', d.oid, d.xmin) from pg_attrdef d join relation on relation.oid = adrelid
      union all select format('n %s', obj_description(oid, 'pg_namespace')) from home
      union all select format('s %s', nspname) from pg_namespace where nspname in ($2, $3)
      union all select format('o %s', oid) from pg_largeobject_metadata
        where lomowner in (select oid from pg_roles where rolname in ($1, $4, $5))
    )
    select to_jsonb(md5(coalesce(string_agg(text, E'\\n' order by text), '')))::text from line"
);
const SEQUENCES: &str = concat!(
    "with ",
    home!(),
    " select coalesce(jsonb_agg(jsonb_build_object('schema', nspname, 'name', relname) order by nspname, relname), '[]')::text
    from pg_class join home on home.oid = relnamespace where relkind = 'S'"
);
const VIEWS: &str = concat!(
    "with ",
    home!(),
    " select coalesce(jsonb_agg(jsonb_build_object('schema', nspname, 'name', relname) order by c.oid), '[]')::text
    from pg_class c join home on home.oid = c.relnamespace where relkind = 'm' and relispopulated"
);
const COMMENT: &str =
    "select coalesce(to_jsonb(obj_description(to_regnamespace(quote_ident($1)), 'pg_namespace')), 'null')::text";
const SLOT: &str = "
    select coalesce((select to_jsonb(confirmed_flush_lsn::text) from pg_replication_slots where slot_name = $1), 'null')::text";
const END_SLOT: &str = "
    select coalesce(jsonb_agg(pg_terminate_backend(active_pid)), '[]')::text from pg_replication_slots
    where slot_name = $1 and active_pid is not null";
const DROP_SLOT: &str = "
    select coalesce(jsonb_agg(pg_drop_replication_slot(slot_name)::text), '[]')::text from pg_replication_slots where slot_name = $1";
/// Values: two logins. How many sessions there were; they are ended.
const END_SESSIONS: &str = "
    select to_jsonb(count(pg_terminate_backend(pid)))::text from pg_stat_activity where usename in ($1, $2)";
const LOGINS: &str = "
    select coalesce(jsonb_agg(rolname), '[]')::text from pg_roles where rolname in ($1, $2)";

/// A table with rows of its own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Table {
    pub(super) place: Place,
    identity: String,
    /// Whether row-level security is on.
    pub(super) protected: bool,
    keyed: bool,
    pub(super) columns: Vec<String>,
}

/// What told rows of a table apart before the move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) table: Place,
    /// `DEFAULT` or `NOTHING`.
    pub(super) before: String,
}

/// What a sequence gives next.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Sequence {
    pub(super) place: Place,
    /// As text: it may be larger than a JSON number.
    pub(super) value: String,
    pub(super) called: bool,
}

pub(super) async fn in_the_way(session: &mut CellSession, ends: &Ends) -> Result<Vec<String>> {
    session.json(IN_THE_WAY, &[&ends.stem, &ends.vectors, &ends.graph, &ends.logins[0], &ends.logins[1]]).await
}

pub(super) async fn tables(session: &mut CellSession, ends: &Ends) -> Result<Vec<Table>> {
    session.json(TABLES, &[&ends.stem, &ends.vectors, &ends.graph]).await
}

pub(super) async fn fingerprint(session: &mut CellSession, ends: &Ends) -> Result<String> {
    let [a, b] = &ends.logins;
    session.json(FINGERPRINT, &[&ends.stem, &ends.vectors, &ends.graph, a, b]).await
}

/// Materialized views that have rows, in the order in which they were made.
pub(super) async fn filled_views(session: &mut CellSession, ends: &Ends) -> Result<Vec<Place>> {
    session.json(VIEWS, &[&ends.stem, &ends.vectors, &ends.graph]).await
}

pub(super) async fn comment(session: &mut CellSession, ends: &Ends) -> Result<Option<String>> {
    session.json(COMMENT, &[&ends.stem]).await
}

pub(super) async fn sequences(session: &mut CellSession, ends: &Ends) -> Result<Vec<Sequence>> {
    let places: Vec<Place> = session.json(SEQUENCES, &[&ends.stem, &ends.vectors, &ends.graph]).await?;
    let each: Vec<_> = places
        .iter()
        .map(|place| {
            let (schema, name) = (literal(&place.schema), literal(&place.name));
            format!("select jsonb_build_object('place', jsonb_build_object('schema', {schema}, 'name', {name}), 'value', last_value::text, 'called', is_called) as one from {place}")
        })
        .collect();
    if each.is_empty() {
        return Ok(Vec::new());
    }
    let query = format!("select jsonb_agg(one)::text from ({}) as found", each.join(" union all "));
    session.json(&query, &[]).await
}

/// What would be changed so that each row of each table can be told from others in the stream.
pub(super) fn identities(tables: &[Table]) -> Vec<Identity> {
    let unnamed = tables.iter().filter(|table| !table.keyed && table.identity != "f");
    let before = |table: &Table| if table.identity == "n" { "NOTHING" } else { "DEFAULT" }.to_owned();
    unnamed.map(|table| Identity { table: table.place.clone(), before: before(table) }).collect()
}

/// All columns tell a row from others, while the source is followed.
pub(super) async fn widen_identities(session: &mut CellSession, tables: &[Identity]) -> Result<()> {
    for Identity { table, .. } in tables {
        set_identity(session, table, "FULL").await?;
    }
    Ok(())
}

/// As it was before.
pub(super) async fn restore_identities(session: &mut CellSession, tables: &[Identity]) -> Result<()> {
    for Identity { table, before } in tables {
        set_identity(session, table, before).await?;
    }
    Ok(())
}

/// The table may be gone by now.
async fn set_identity(session: &mut CellSession, table: &Place, identity: &str) -> Result<()> {
    run(session, &format!("ALTER TABLE IF EXISTS {table} REPLICA IDENTITY {identity}")).await
}

/// Lets the source keep what is written from now on; answers where that begins. Repeated, it begins where it began first.
pub(super) async fn listen(session: &mut CellSession, ends: &Ends, tables: &[Table]) -> Result<u64> {
    let own = ends.own();
    if let Some(known) = session.json::<Option<String>>(SLOT, &[&own]).await? {
        return parse_lsn(&known);
    }
    let places: Vec<_> = tables.iter().map(|table| format!("ONLY {}", table.place)).collect();
    let of = if places.is_empty() { String::new() } else { format!(" FOR TABLE {}", places.join(", ")) };
    run(session, &format!("DROP PUBLICATION IF EXISTS {0}; CREATE PUBLICATION {0}{of}", quoted(&own))).await?;
    // It waits for transactions that are open, and no longer than that is bearable.
    run(session, "SET statement_timeout = '60s'").await?;
    let made: String = session
        .json("select to_jsonb(lsn::text)::text from pg_create_logical_replication_slot($1, 'pgoutput')", &[&own])
        .await?;
    run(session, "SET statement_timeout = 0").await?;
    parse_lsn(&made)
}

/// Whether the slot is there.
pub(super) async fn listens(session: &mut CellSession, ends: &Ends) -> Result<bool> {
    Ok(session.json::<Option<String>>(SLOT, &[&ends.own()]).await?.is_some())
}

/// Takes slot and publication away, whoever reads from them: a slot that nobody reads fills the disk.
pub(super) async fn stop_listening(session: &mut CellSession, ends: &Ends) -> Result<()> {
    let own = ends.own();
    for _ in 0..100 {
        let ended: Vec<bool> = session.json(END_SLOT, &[&own]).await?;
        if ended.is_empty() {
            let _: Vec<String> = session.json(DROP_SLOT, &[&own]).await?;
            return run(session, &format!("DROP PUBLICATION IF EXISTS {}", quoted(&own))).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(Error::new(Kind::Unavailable, "the source's replication slot is in use; it is tried again"))
}

/// No new sessions of the tenant, an end to those that there are, and a lock against whoever was just coming in: from its return
/// until the lock goes nobody writes, and afterwards nobody can come in.
pub(super) async fn keep_out(session: &mut CellSession, ends: &Ends, tables: &[Table]) -> Result<()> {
    let [a, b] = &ends.logins;
    run(session, &format!("ALTER ROLE {} NOLOGIN; ALTER ROLE {} NOLOGIN", quoted(a), quoted(b))).await?;
    end_sessions(session, ends).await?;
    // A vacuum that runs by itself yields after `deadlock_timeout`.
    run(
        session,
        "BEGIN; SELECT set_config('deadlock_timeout', '10ms', true) WHERE has_parameter_privilege('deadlock_timeout', 'SET');
         SET LOCAL lock_timeout = '2s'",
    )
    .await?;
    let places: Vec<_> = tables.iter().map(|table| format!("ONLY {}", table.place)).collect();
    if !places.is_empty() {
        run(session, &format!("LOCK TABLE {} IN SHARE MODE", places.join(", "))).await?;
    }
    end_sessions(session, ends).await
}

pub(super) async fn end_sessions(session: &mut CellSession, ends: &Ends) -> Result<()> {
    for _ in 0..1000 {
        let ended: i64 = session.json(END_SESSIONS, &[&ends.logins[0], &ends.logins[1]]).await?;
        if ended == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Err(Error::new(Kind::Unavailable, "sessions of the tenant do not end at the source; it is tried again"))
}

/// Services may come in again.
pub(super) async fn let_in(session: &mut CellSession, ends: &Ends) -> Result<()> {
    let there: Vec<String> = session.json(LOGINS, &[&ends.logins[0], &ends.logins[1]]).await?;
    let open: Vec<_> = there.iter().map(|login| format!("ALTER ROLE {} LOGIN", quoted(login))).collect();
    if open.is_empty() { Ok(()) } else { run(session, &open.join("; ")).await }
}
