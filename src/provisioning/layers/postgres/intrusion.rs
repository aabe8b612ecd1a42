//! What a tenant's own login tries on another tenant's things in a cell. Each statement is rolled back, so that what is let through
//! leaves nothing behind, and harms nobody but the tenant that was made up to be the victim.

use std::collections::BTreeSet;

use super::super::super::{Names, ProbeTenant, literal, quoted};
use crate::{
    error::{Error, Result},
    isolation::Attempt,
    platform::{
        db::{CellDb, CellSession, ScriptFailure},
        random,
        secret::Secret,
    },
};

/// "insufficient privilege": the only code that counts as a refusal of a statement.
const INSUFFICIENT_PRIVILEGE: &str = "42501";
/// How many seconds a database may take to be shut.
const LOOKS: usize = 3;

/// What is tried on a schema of the victim's, `"B"`, in sentences and statements; `"A"` is the same of the intruder's, `"R"` its role.
const ON_SCHEMA: &[(&str, &str)] = &[
    ("read a table", "select * from \"B\".secrets"),
    ("add a row", "insert into \"B\".secrets values ('forged')"),
    ("change a row", "update \"B\".secrets set text = 'forged'"),
    ("delete a row", "delete from \"B\".secrets"),
    ("empty a table", "truncate \"B\".secrets"),
    ("lock a table", "lock table \"B\".secrets"),
    ("call a function", "select \"B\".told()"),
    ("draw from a sequence", "select nextval('\"B\".counter')"),
    ("drop a table", "drop table \"B\".secrets"),
    ("take a table", "alter table \"B\".secrets owner to \"R\""),
    ("move a table", "alter table \"B\".secrets set schema \"A\""),
    (
        "put a trigger on a table",
        "create trigger planted after insert on \"B\".secrets execute function pg_catalog.suppress_redundant_updates_trigger()",
    ),
    ("refer to a table", "create table \"A\".reference (id text references \"B\".secrets (text))"),
    ("look through a view", "create view \"A\".window_to_b as select * from \"B\".secrets"),
    ("create a table", "create table \"B\".planted (id int)"),
    ("create a function", "create function \"B\".planted() returns int language sql as 'select 1'"),
    ("grant itself a table", "grant all on \"B\".secrets to \"R\""),
    ("rename the schema", "alter schema \"B\" rename to \"B_taken\""),
    ("drop the schema", "drop schema \"B\" cascade"),
];

/// What is tried with the role itself.
const WITH_ROLE: &[(&str, &str)] = &[
    ("become the other tenant's role", "set role \"B\""),
    ("become the other tenant's login", "set role \"B_a\""),
    ("become the other tenant's login for good", "set session authorization \"B_a\""),
    ("join the other tenant's role", "grant \"B\" to \"A\""),
    ("let the other tenant's login in", "grant \"A\" to \"B_a\""),
    ("set the other tenant's password", "alter role \"B_a\" password 'mine'"),
    ("set what the other tenant's login begins with", "alter role \"B_a\" set search_path = \"A\""),
    ("drop the other tenant's login", "drop role \"B_b\""),
    ("drop what the other tenant owns", "drop owned by \"B\""),
    ("take what the other tenant owns", "reassign owned by \"B\" to \"A\""),
    ("be granted what the other tenant makes", "alter default privileges for role \"B\" grant all on tables to \"A\""),
    ("make a role", "create role \"A_planted\""),
    ("rise above policies", "alter role \"A\" bypassrls"),
    ("make a schema", "create schema \"A_planted\""),
    ("make a table in schema public", "create table public.\"A_planted\" (id int)"),
    ("read the server's files", "select pg_read_file('PG_VERSION')"),
    ("read all passwords", "select rolpassword from pg_authid"),
    ("switch triggers off", "set session_replication_role = replica"),
];

/// Lists that answer with what their reader may see: of the other tenant's, nothing.
const LISTS: &[(&str, &str)] = &[
    (
        "list tables",
        "select coalesce(jsonb_agg(table_name), '[]')::text from information_schema.tables where table_schema = $1",
    ),
    (
        "list columns",
        "select coalesce(jsonb_agg(column_name), '[]')::text from information_schema.columns where table_schema = $1",
    ),
    (
        "list schemas",
        "select coalesce(jsonb_agg(schema_name), '[]')::text from information_schema.schemata where schema_name = $1",
    ),
    ("read statistics", "select coalesce(jsonb_agg(tablename), '[]')::text from pg_stats where schemaname = $1"),
];

/// Of all tenants', not of the victim's alone: schemas of the database but the role's own and its graph, and databases of the server,
/// that it may enter.
const OPEN_SCHEMAS: &str = "
    select to_jsonb(count(*))::text from pg_namespace
    where nspname ~ '^[tg]_[0-9a-f]{32}' and not starts_with(nspname, $1) and nspname <> $2 and has_schema_privilege($1, oid, 'USAGE')";
const OPEN_DATABASES: &str = "
    select coalesce(jsonb_agg(datname), '[]')::text from pg_database
    where datname ~ '^t_[0-9a-f]{32}$' and datname <> $1 and has_database_privilege($1 || '_a', oid, 'CONNECT')";

/// With what the tenant's services get.
async fn session(db: &CellDb, tenant: &ProbeTenant) -> Result<CellSession> {
    let (placement, _) = tenant.site.placed()?;
    let credential = tenant.credential("role")?;
    db.session_as(&placement.database_name, &user(tenant)?, &credential.secret).await
}

fn user(tenant: &ProbeTenant) -> Result<String> {
    let user = tenant.credential("role")?.details.get("user");
    user.cloned().ok_or_else(|| Error::internal("a credential of PostgreSQL names its user"))
}

/// Becoming the other, more rights, other ways in.
pub(in super::super) async fn by_role(
    db: &CellDb,
    intruder: &ProbeTenant,
    victim: &ProbeTenant,
) -> Result<Vec<Attempt>> {
    let (a, b) = (intruder.site.names.stem(), victim.site.names.stem());
    let mut session = session(db, intruder).await?;
    let mut attempts = Vec::new();
    let control = format!("set role {}", quoted(a));
    if let Some(reason) = refusal_of_own(&mut session, &control).await? {
        return Ok(vec![Attempt::inconclusive("become its own role", reason)]);
    }
    for (what, statement) in WITH_ROLE {
        attempts.push(attempt(&mut session, what, &named(statement, a, b)).await?);
    }
    attempts.push(with_others_login(db, intruder, victim).await?);
    attempts.push(none_open("enter any tenant's database of this server", open_databases(db, a).await?));
    Ok(attempts)
}

/// Databases that stay open. PostgreSQL opens each to everybody as it is made, and Tenantry shuts it a moment later, still empty.
async fn open_databases(db: &CellDb, role: &str) -> Result<usize> {
    let look = async || {
        let mut tx = db.begin().await?;
        let open: BTreeSet<String> = tx.json(OPEN_DATABASES, &[role]).await?;
        tx.commit().await?;
        Ok::<_, Error>(open)
    };
    let mut open = look().await?;
    for _ in 0..LOOKS {
        if open.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let still = look().await?;
        open.retain(|database| still.contains(database));
    }
    Ok(open.len())
}

/// A server that takes any password on the way that Tenantry comes shows nothing of the way that tenants come.
async fn with_others_login(db: &CellDb, intruder: &ProbeTenant, victim: &ProbeTenant) -> Result<Attempt> {
    let what = "log in as the other tenant";
    let (own, theirs) = (intruder.site.placed()?.0, victim.site.placed()?.0);
    let password = &intruder.credential("role")?.secret;
    match db.try_session_as(&theirs.database_name, &user(victim)?, password).await? {
        Err(code) if ["28P01", "28000"].contains(&&*code) => Ok(Attempt::refused(what)),
        Err(code) => Ok(Attempt::inconclusive(what, format!("PostgreSQL answers with code {code}"))),
        Ok(_) => {
            let wrong = Secret::new(random::token());
            match db.try_session_as(&own.database_name, &user(intruder)?, &wrong).await? {
                Err(_) => Ok(Attempt::let_through(what)),
                Ok(_) => Ok(Attempt::inconclusive(
                    what,
                    "the cell asks nobody who comes on Tenantry's way for a password; see pg_hba.conf",
                )),
            }
        }
    }
}

/// A database of one's own is entered by nobody else.
pub(in super::super) async fn into_database(
    db: &CellDb,
    intruder: &ProbeTenant,
    victim: &ProbeTenant,
) -> Result<Vec<Attempt>> {
    let (what, theirs) = ("enter the other tenant's database", victim.site.placed()?.0);
    session(db, intruder).await?; // its own it enters
    let secret = &intruder.credential("role")?.secret;
    Ok(vec![match db.try_session_as(&theirs.database_name, &user(intruder)?, secret).await? {
        Ok(_) => Attempt::let_through(what),
        Err(code) if code == INSUFFICIENT_PRIVILEGE => Attempt::refused(what),
        Err(code) => Attempt::inconclusive(what, format!("PostgreSQL answers with code {code}")),
    }])
}

/// A kind of schema that tenants have.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct SchemaKind {
    /// For people.
    pub(in super::super) title: &'static str,
    /// What it is called.
    pub(in super::super) of: fn(&Names) -> String,
    /// What its owner puts into it besides a table, a sequence and a function; `"B"` is the schema.
    pub(in super::super) furnish: &'static str,
    /// What is tried on it besides what is tried on every schema.
    pub(in super::super) attempts: &'static [(&'static str, &'static str)],
}

/// Everything on a schema with a table, a sequence and a function in it.
pub(in super::super) async fn into_schema(
    db: &CellDb,
    kind: SchemaKind,
    intruder: &ProbeTenant,
    victim: &ProbeTenant,
) -> Result<Vec<Attempt>> {
    let role = intruder.site.names.stem();
    let (a, b) = (&*(kind.of)(&intruder.site.names), &*(kind.of)(&victim.site.names));
    let (own, theirs) = (intruder.site.placed()?.0, victim.site.placed()?.0);
    let mut intruding = match own.database_name == theirs.database_name {
        true => session(db, intruder).await?,
        false => {
            let what = format!("reach the other tenant's {}, which is in another database", kind.title);
            let secret = &intruder.credential("role")?.secret;
            match db.try_session_as(&theirs.database_name, &user(intruder)?, secret).await? {
                Err(code) if code == INSUFFICIENT_PRIVILEGE => return Ok(vec![Attempt::refused(what)]),
                Err(code) => {
                    return Ok(vec![Attempt::inconclusive(what, format!("PostgreSQL answers with code {code}"))]);
                }
                Ok(session) => session,
            }
        }
    };
    fill(&mut session(db, victim).await?, kind, b).await?;
    let mut attempts = Vec::new();
    if own.database_name == theirs.database_name {
        fill(&mut intruding, kind, a).await?;
        let what = "read its own table";
        if let Some(reason) = refusal_of_own(&mut intruding, &format!("select * from {}.secrets", quoted(a))).await? {
            return Ok(vec![Attempt::inconclusive(what, reason)]);
        }
    }
    for (what, statement) in ON_SCHEMA.iter().chain(kind.attempts) {
        let what = format!("{what} of the other tenant's {}", kind.title);
        let statement = named(statement, a, b).replace("\"R\"", &quoted(role));
        attempts.push(attempt(&mut intruding, &what, &statement).await?);
    }
    for (what, query) in LISTS {
        let seen: Vec<String> = intruding.json(query, &[b]).await?;
        let what = format!("{what} of the other tenant's");
        attempts.push(if seen.is_empty() { Attempt::refused(what) } else { Attempt::let_through(what) });
    }
    let mut tx = db.begin_in(&theirs.database_name).await?;
    let open: usize = tx.json(OPEN_SCHEMAS, &[role, &intruder.site.names.graph()]).await?;
    tx.commit().await?;
    attempts.push(none_open("use any tenant's schema of this database", open));
    Ok(attempts)
}

/// Something to get at.
async fn fill(session: &mut CellSession, kind: SchemaKind, name: &str) -> Result<()> {
    let (schema, text, furnish) = (quoted(name), literal(&random::token()), named(kind.furnish, "", name));
    let make = format!(
        "create table if not exists {schema}.secrets (text text primary key); insert into {schema}.secrets values ({text});
         create sequence if not exists {schema}.counter;
         create or replace function {schema}.told() returns text language sql as 'select ''told''';
         {furnish}"
    );
    session.script(&make).await.map_err(|failure| match failure {
        ScriptFailure::Broken(error) => error,
        ScriptFailure::Refused(refusal) => Error::new(
            crate::error::Kind::Unavailable,
            format!("a tenant's own schema refuses what is made in it with code {}", refusal.code),
        ),
    })
}

/// Why what must work does not; none where it does.
async fn refusal_of_own(session: &mut CellSession, statement: &str) -> Result<Option<String>> {
    match run(session, statement).await? {
        Ok(()) => Ok(None),
        Err(code) => Ok(Some(format!("what is its own is refused, too, with code {code}"))),
    }
}

async fn attempt(session: &mut CellSession, what: &str, statement: &str) -> Result<Attempt> {
    Ok(match run(session, statement).await? {
        Ok(()) => Attempt::let_through(what),
        Err(code) if code == INSUFFICIENT_PRIVILEGE => Attempt::refused(what),
        Err(code) => Attempt::inconclusive(what, format!("PostgreSQL answers with code {code}")),
    })
}

/// Runs a statement and takes it back; answers the SQLSTATE of what was refused.
async fn run(session: &mut CellSession, statement: &str) -> Result<Result<(), String>> {
    let done = session.script(&format!("begin; set local lock_timeout = '2s'; {statement}")).await;
    let back = session.script("rollback").await;
    match (done, back) {
        (Err(ScriptFailure::Broken(error)), _) | (_, Err(ScriptFailure::Broken(error))) => Err(error),
        (Err(ScriptFailure::Refused(refusal)), _) | (_, Err(ScriptFailure::Refused(refusal))) => Ok(Err(refusal.code)),
        (Ok(()), Ok(())) => Ok(Ok(())),
    }
}

fn none_open(what: &str, open: usize) -> Attempt {
    if open == 0 { Attempt::refused(what) } else { Attempt::let_through(what) }
}

/// In names, `"A` and `"B`, and in texts, `'B'`.
fn named(statement: &str, a: &str, b: &str) -> String {
    let named = statement.replace("\"A", &format!("\"{a}")).replace("\"B", &format!("\"{b}"));
    named.replace("'B'", &literal(b))
}
