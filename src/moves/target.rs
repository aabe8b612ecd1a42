//! The end that the tenant comes to: empty tables, then rows, then what stands on them, and how it is opened.

use serde::Deserialize;

use super::{
    ends::{Ends, run},
    graph,
    source::{Identity, Sequence, Table},
};
use crate::{
    cells::{literal, quoted},
    error::{Error, Kind, Result},
    platform::db::{CellSession, ScriptFailure},
};

/// How far the target is: a row beside the tenant's schema, changed in the transactions that change the schema.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Progress {
    /// Up to where the source's stream was carried over; none before the rows are copied.
    pub(super) lsn: Option<String>,
    /// The source's snapshot that was copied.
    pub(super) snapshot: Option<String>,
    /// Whether keys, indexes and all that comes after rows are there.
    pub(super) built: bool,
}

const EXISTS: &str = "select to_jsonb(to_regclass(format('%I.progress', $1)) is not null)::text";

fn progress_table(ends: &Ends) -> String {
    format!("{}.progress", quoted(&ends.own()))
}

/// Makes the table in which progress is kept; the tenant's role may change its row.
pub(super) async fn keep_progress(owner: &mut CellSession, ends: &Ends) -> Result<()> {
    let (schema, table, role) = (quoted(&ends.own()), progress_table(ends), quoted(&ends.stem));
    run(
        owner,
        &format!(
            "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended({}, 0));
             CREATE SCHEMA IF NOT EXISTS {schema}; GRANT USAGE ON SCHEMA {schema} TO {role};
             CREATE TABLE IF NOT EXISTS {table} (lsn pg_lsn, snapshot text, built boolean not null);
             GRANT SELECT, INSERT, UPDATE ON {table} TO {role}; COMMIT",
            literal(&ends.own())
        ),
    )
    .await
}

/// None before there are tables.
pub(super) async fn progress(session: &mut CellSession, ends: &Ends) -> Result<Option<Progress>> {
    if !session.json::<bool>(EXISTS, &[&ends.own()]).await? {
        return Ok(None);
    }
    let table = progress_table(ends);
    let query = format!("select coalesce((select to_jsonb(p) from {table} p), 'null')::text");
    session.json(&query, &[]).await
}

/// Progress as it stays until the transaction ends: what a server that died was doing may go on in its place for a while.
///
/// Errors: `unavailable` while that is so.
pub(super) async fn lock_progress(mover: &mut CellSession, ends: &Ends) -> Result<Option<Progress>> {
    let query = format!(
        "select coalesce((select to_jsonb(p) from (select * from {} for update) p), 'null')::text",
        progress_table(ends)
    );
    mover.json(&query, &[]).await
}

/// Makes the empty tables, once, as the tenant's role.
pub(super) async fn define(mover: &mut CellSession, ends: &Ends, before_rows: &str) -> Result<()> {
    let progress = progress_table(ends);
    let script = format!("BEGIN;\n{before_rows}\n; INSERT INTO {progress} (built) VALUES (false); COMMIT");
    definitions(mover, &script).await
}

/// Makes what comes after rows, once.
pub(super) async fn build(mover: &mut CellSession, ends: &Ends, after_rows: &str) -> Result<()> {
    let progress = progress_table(ends);
    run(mover, "BEGIN").await?;
    if lock_progress(mover, ends).await?.is_some_and(|progress| progress.built) {
        return run(mover, "COMMIT").await;
    }
    definitions(mover, &format!("{after_rows}\n; UPDATE {progress} SET built = true; COMMIT")).await
}

/// A definition that the target does not take will not be taken another time.
async fn definitions(mover: &mut CellSession, script: &str) -> Result<()> {
    mover.script(script).await.map_err(|failure| match failure {
        ScriptFailure::Broken(error) => error,
        ScriptFailure::Refused(refusal) => {
            let rule = format!(
                "the target's PostgreSQL does not take a definition of the tenant's schema (code {}); does it have the source's version and extensions?",
                refusal.code
            );
            let is_passing = ["40", "53", "55", "57", "58"].iter().any(|class| refusal.code.starts_with(class));
            let kind = if is_passing { Kind::Unavailable } else { Kind::Conflict };
            Error::new(kind, rule).because(refusal.cause)
        }
    })
}

/// The statement that ends the copy: all rows of `snapshot` are there, and the stream is carried over from `lsn` on.
pub(super) fn note_copied(ends: &Ends, snapshot: &str, lsn: &str) -> String {
    format!("UPDATE {} SET snapshot = {}, lsn = {}", progress_table(ends), literal(snapshot), literal(lsn))
}

/// Statements of one batch, if nobody else has carried over further in between.
pub(super) async fn carry_over(
    mover: &mut CellSession,
    ends: &Ends,
    (from, to): (&str, &str),
    statements: &[String],
) -> Result<()> {
    let table = progress_table(ends);
    run(mover, "BEGIN").await?;
    let query = format!("select to_jsonb(lsn = {}::pg_lsn)::text from {table} for update", literal(from));
    if !mover.json::<bool>(&query, &[]).await? {
        run(mover, "ROLLBACK").await?;
        return Err(Error::new(Kind::Unavailable, "another server carries the same changes over"));
    }
    for part in statements.chunks(1000) {
        run(mover, &part.join(";\n")).await?;
    }
    run(mover, &format!("UPDATE {table} SET lsn = {}; COMMIT", literal(to))).await
}

/// Row-level security holds the tables' owner, too, and so whoever carries over: it is off until the switch.
pub(super) async fn unprotect(mover: &mut CellSession, tables: &[Table]) -> Result<()> {
    protection(mover, tables, "DISABLE").await
}

/// What is set when no more changes come: protection, sequences, what told rows apart before; and what helped to find them goes.
pub(super) async fn finish(
    mover: &mut CellSession,
    ends: &Ends,
    (tables, sequences, identities): (&[Table], &[Sequence], &[Identity]),
) -> Result<()> {
    let set: Vec<_> = sequences
        .iter()
        .map(|sequence| {
            let name = literal(&sequence.place.to_string());
            format!("SELECT setval({name}::regclass, {}::bigint, {})", literal(&sequence.value), sequence.called)
        })
        .chain(
            identities
                .iter()
                .map(|Identity { table, before }| format!("ALTER TABLE {table} REPLICA IDENTITY {before}")),
        )
        .chain(graph::end_help(ends, tables))
        .collect();
    if !set.is_empty() {
        run(mover, &set.join(";\n")).await?;
    }
    protection(mover, tables, "ENABLE").await
}

async fn protection(mover: &mut CellSession, tables: &[Table], verb: &str) -> Result<()> {
    let set: Vec<_> = tables
        .iter()
        .filter(|table| table.protected)
        .map(|table| format!("ALTER TABLE {} {verb} ROW LEVEL SECURITY", table.place))
        .collect();
    if set.is_empty() { Ok(()) } else { run(mover, &set.join(";\n")).await }
}

/// Nobody of the tenant comes in before the switch, whatever credential of before it still has.
pub(super) async fn shut(owner: &mut CellSession, ends: &Ends) -> Result<()> {
    let [a, b] = &ends.logins;
    run(owner, &format!("ALTER ROLE {} NOLOGIN; ALTER ROLE {} NOLOGIN", quoted(a), quoted(b))).await
}

/// The comment of the tenant's schema, which says what template it is made of.
pub(super) async fn comment(owner: &mut CellSession, ends: &Ends, comment: Option<&str>) -> Result<()> {
    let text = comment.map_or_else(|| "NULL".to_owned(), literal);
    run(owner, &format!("COMMENT ON SCHEMA {} IS {text}", quoted(&ends.stem))).await
}

/// What a move needed besides the tenant's things goes.
pub(super) async fn clear(ends: &Ends) -> Result<()> {
    const END: &str =
        "select coalesce(jsonb_agg(pg_terminate_backend(pid)), '[]')::text from pg_stat_activity where usename = $1";
    const THERE: &str = "select to_jsonb(exists (select from pg_roles where rolname = $1))::text";
    const DATABASE: &str = "select to_jsonb(exists (select from pg_database where datname = $1))::text";
    let mut beside = ends.target_db.session(&ends.target_db.address().database).await?;
    let mover = ends.mover();
    let is_there: bool = beside.json(THERE, &[&mover]).await?;
    if is_there {
        run(&mut beside, &format!("ALTER ROLE {} NOLOGIN", quoted(&mover))).await?;
        let _: Vec<bool> = beside.json(END, &[&mover]).await?;
    }
    if beside.json::<bool>(DATABASE, &[&ends.target_database]).await? {
        let mut owner = ends.target_session().await?;
        run(&mut owner, &format!("DROP SCHEMA IF EXISTS {} CASCADE", quoted(&ends.own()))).await?;
        if is_there {
            run(&mut owner, &format!("DROP OWNED BY {}", quoted(&mover))).await?;
        }
    }
    run(&mut beside, &format!("DROP ROLE IF EXISTS {}", quoted(&mover))).await
}
