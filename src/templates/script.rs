//! The SQL that brings one tenant's schema from one version to another: one transaction, one round trip.
//!
//! Migrations run with the rights of the tenant's role and no others. They may meet code of the tenant's own (triggers, defaults,
//! views), and what that does must not become the cell's login, which made the connection. `SET ROLE` alone does not keep it
//! from that: any function could say `RESET ROLE`. So the migration runs inside a `SECURITY DEFINER` function that belongs to
//! the tenant's role, which PostgreSQL lets change neither role nor session authorization; it is made in the same transaction,
//! under a name that nobody can guess, and dropped in it. What PostgreSQL would run at `COMMIT`, outside of the function, is
//! run before (deferred constraints), closed (cursors) or refused (deferred triggers of the tenant's own, until PostgreSQL 18 run
//! as whoever commits). Migrations that meet no such code, whatever there is of it (see `plain`), run without all that.

use super::{mark::Mark, migration::Migration, rollout::Rules};
use crate::{
    cells::{literal, quoted},
    platform::random,
};

/// SQLSTATEs of Tenantry's own.
pub(super) const OTHER_MARK: &str = "TN001";
pub(super) const DEFERRED_CODE: &str = "TN002";

/// What a script works on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) schema: &'a str,
    /// Whose rights the migrations have.
    pub(super) role: &'a str,
}

/// Puts all that was committed before on disk.
pub(super) const FLUSH: &str = "
    BEGIN; SET LOCAL synchronous_commit = on; SELECT pg_catalog.pg_logical_emit_message(true, 'tenantry', ''); COMMIT";

/// Takes back a transaction, and of what code of a tenant's own has left in the session that which no rollback takes back.
pub(super) const ROLLBACK: &str = "ROLLBACK; DEALLOCATE ALL; SELECT pg_catalog.pg_advisory_unlock_all()";

/// The whole transaction: held to the mark that is there, so that nothing is done twice. It is on disk with the next [`FLUSH`].
pub(super) fn transaction(
    place: Place<'_>,
    marks: (Option<&Mark>, &Mark),
    migrations: &[Migration],
    rules: &Rules,
) -> String {
    format!("BEGIN;\nSET LOCAL synchronous_commit = off;\n{}{}COMMIT", limits(rules), body(place, marks, migrations))
}

/// What [`plain_transaction`] needs of the session; gone with the next [`ROLLBACK`] or [`transaction`].
pub(super) fn preparation(rules: &Rules) -> String {
    format!(
        "SET synchronous_commit = off;\nSET lock_timeout = {};\nSET statement_timeout = {};
PREPARE tenantry_lock(text) AS SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended($1, 0));
PREPARE tenantry_mark(text, text) AS SELECT CASE WHEN (
    SELECT description FROM pg_catalog.pg_description WHERE objoid = pg_catalog.to_regnamespace(pg_catalog.quote_ident($1))
      AND classoid = 'pg_catalog.pg_namespace'::regclass AND objsubid = 0) IS DISTINCT FROM $2
  THEN pg_catalog.concat('another mark')::int END",
        rules.lock_timeout_ms, rules.statement_timeout_ms
    )
}

/// As [`transaction`], of migrations in which no code of a tenant's own can run: with the rights of its role, and no fence.
/// Whatever it is refused for, [`transaction`] is there to say.
pub(super) fn plain_transaction(place: Place<'_>, (from, to): (Option<&Mark>, &Mark), migrations: &[String]) -> String {
    let (schema, name, role) = (quoted(place.schema), literal(place.schema), quoted(place.role));
    let from = from.map_or_else(|| "NULL".to_owned(), |mark| literal(&mark.comment()));
    format!(
        "BEGIN;\nEXECUTE tenantry_lock({name});\nEXECUTE tenantry_mark({name}, {from});\nCOMMENT ON SCHEMA {schema} IS {};
SET LOCAL ROLE {role};\nSET LOCAL search_path = {schema}, pg_temp;\n{};\nCOMMIT",
        literal(&to.comment()),
        migrations.join(";\n")
    )
}

/// How long it may wait for a lock, and take.
pub(super) fn limits(rules: &Rules) -> String {
    format!(
        "SET LOCAL search_path = pg_catalog, pg_temp;\nSET LOCAL lock_timeout = {};\nSET LOCAL statement_timeout = {};\n",
        rules.lock_timeout_ms, rules.statement_timeout_ms
    )
}

/// What is done within a transaction. The lock is the one that the layers of provisioning take, too.
pub(super) fn body(place: Place<'_>, (from, to): (Option<&Mark>, &Mark), migrations: &[Migration]) -> String {
    let (schema, name) = (quoted(place.schema), literal(place.schema));
    let from = from.map_or_else(|| "NULL".to_owned(), |mark| literal(&mark.comment()));
    let to = literal(&to.comment());
    format!(
        "SELECT pg_advisory_xact_lock(hashtextextended({name}, 0));
DO $tenantry$ BEGIN
  IF obj_description(to_regnamespace(quote_ident({name})), 'pg_namespace') IS DISTINCT FROM {from} THEN
    RAISE EXCEPTION USING ERRCODE = '{OTHER_MARK}'; END IF;
END $tenantry$;
COMMENT ON SCHEMA {schema} IS {to};
{}{}{CLEAN}",
        run(place, migrations),
        refuse_deferred(place.role)
    )
}

/// Tries the migrations in a transaction that is not to be committed.
pub(super) fn trial(place: Place<'_>, migrations: &[Migration]) -> String {
    format!("{}{CLEAN}", run(place, migrations))
}

/// Leaves nothing behind in the session.
const CLEAN: &str = "CLOSE ALL;\nDEALLOCATE ALL;\nUNLISTEN *;\nDISCARD TEMP;\nRESET ALL;\nSELECT pg_catalog.pg_advisory_unlock_all();\n";

/// Refuses what would run at `COMMIT`, as who commits.
fn refuse_deferred(role: &str) -> String {
    let role = literal(role);
    format!(
        "DO $tenantry$ BEGIN
  IF EXISTS (SELECT FROM pg_shdepend d JOIN pg_trigger t ON t.tgrelid = d.objid AND t.tgdeferrable
      WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = to_regrole(quote_ident({role})) AND d.classid = 'pg_class'::regclass
        AND (NOT t.tgisinternal OR EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = t.tgconstrindid
          AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)))) THEN
    RAISE EXCEPTION USING ERRCODE = '{DEFERRED_CODE}'; END IF;
END $tenantry$;
"
    )
}

/// Runs the migrations as the role, each in a function of its own: code that the first one meets could change it, as its owner,
/// before the second. Where names are looked up is set again behind each, as such code may have set it.
fn run(place: Place<'_>, migrations: &[Migration]) -> String {
    migrations.iter().map(|migration| run_one(place, migration)).collect()
}

fn run_one(Place { schema, role }: Place<'_>, migration: &Migration) -> String {
    let (schema, role, script) = (quoted(schema), quoted(role), literal(&migration.sql));
    let function = format!("{schema}.\"tenantry_{}\"", random::token().get(..16).unwrap_or_default());
    format!(
        "SET LOCAL check_function_bodies = off;
SET LOCAL ROLE {role};
CREATE FUNCTION {function}(script pg_catalog.text) RETURNS pg_catalog.void LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = {schema}, pg_temp AS 'BEGIN EXECUTE script; SET CONSTRAINTS ALL IMMEDIATE; END';
SET LOCAL ROLE NONE;
SELECT {function}({script}::pg_catalog.text);
SET LOCAL search_path = pg_catalog, pg_temp;
DROP FUNCTION {function}(pg_catalog.text);
"
    )
}
