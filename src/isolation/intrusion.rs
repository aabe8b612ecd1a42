//! What a session that is bound to one tenant gets to see of others' rows: tried on every tenant table that the catalogue has, so
//! that a new one is covered without being listed. Everything is rolled back.

use sea_orm::ConnectionTrait as _;

use super::{Attempt, Isolation};
use crate::{
    error::{Error, Result},
    platform::{
        db::{Session, Tx, sqlstate},
        ids::TenantId,
    },
};

/// A policy or a missing grant.
const INSUFFICIENT_PRIVILEGE: &str = "42501";

const TABLES: &str = "
    select c.relname::text as name, has_any_column_privilege('tenantry_tenant', c.oid, 'INSERT') as inserts
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
    where n.nspname = 'tenantry' and c.relkind in ('r', 'p') order by c.relname";

struct Table {
    /// Quoted, with its schema.
    name: String,
    /// Whether tenants' sessions may add rows of their own.
    inserts: bool,
    /// Whether there is a row of anybody.
    has_rows: bool,
}

impl Isolation {
    /// Tries in sessions of `intruder` to read, add, change and delete rows of others. Neither is a tenant: what is looked for are
    /// rows of anybody, and what is added would be `victim`'s. On a table without rows only the adding is tried.
    #[expect(clippy::disallowed_methods, reason = "rolled back, and bound to tenants that there are not")]
    pub async fn try_rows(&self, intruder: TenantId, victim: TenantId) -> Result<Vec<Attempt>> {
        let operator = self.db.begin(Session::OperatorReadOnly).await?;
        let tables = tables(&operator).await?;
        operator.rollback().await?;
        let session = self.db.begin(Session::Tenant(intruder)).await?;
        let mut attempts = Vec::new();
        for table in &tables {
            attempts.push(add(&session, table, intruder, victim).await?);
            if table.has_rows {
                attempts.extend(reach(&session, table, intruder).await?);
            }
        }
        session.rollback().await?;
        Ok(attempts)
    }
}

async fn tables(tx: &Tx) -> Result<Vec<Table>> {
    let mut tables = Vec::new();
    for row in tx.rows(TABLES, []).await? {
        let name: String = row.try_get("", "name")?;
        let name = format!("tenantry.\"{}\"", name.replace('"', "\"\""));
        let has_rows = matches!(attempt(tx, &format!("select from {name} limit 1")).await?, Answer::Done(1..));
        tables.push(Table { inserts: row.try_get("", "inserts")?, name, has_rows });
    }
    Ok(tables)
}

/// Policies are asked before constraints: a row that breaks a constraint has passed the policy.
async fn add(session: &Tx, table: &Table, intruder: TenantId, victim: TenantId) -> Result<Attempt> {
    let row_of = |tenant: TenantId| format!("insert into {} (tenant_id) values ('{tenant}')", table.name);
    let what = format!("add another tenant's row to {}", table.name);
    let has_passed = |answer: &Answer| match answer {
        Answer::Done(_) => true,
        Answer::Failed(code) => code.starts_with("23"),
    };
    let theirs = attempt(session, &row_of(victim)).await?;
    if has_passed(&theirs) {
        return Ok(Attempt::let_through(what));
    }
    if !theirs.is_refusal() {
        return Ok(Attempt::inconclusive(what, theirs.told()));
    }
    if table.inserts {
        let own = attempt(session, &row_of(intruder)).await?;
        if !has_passed(&own) {
            return Ok(Attempt::inconclusive(what, format!("its own is not added either: {}", own.told())));
        }
    }
    Ok(Attempt::refused(what))
}

/// Of a table in which somebody has rows. One row at most is touched, and left as it was.
async fn reach(session: &Tx, table: &Table, intruder: TenantId) -> Result<Vec<Attempt>> {
    let name = &table.name;
    let one = format!("ctid = (select ctid from {name} where tenant_id <> '{intruder}' limit 1)");
    let statements = [
        (
            format!("read another tenant's rows of {name}"),
            format!("select from {name} where tenant_id <> '{intruder}' limit 1"),
        ),
        (
            format!("change another tenant's row of {name}"),
            format!("update {name} set tenant_id = tenant_id where {one}"),
        ),
        (format!("delete another tenant's row of {name}"), format!("delete from {name} where {one}")),
    ];
    let mut attempts = Vec::with_capacity(statements.len());
    for (what, statement) in statements {
        let answer = attempt(session, &statement).await?;
        attempts.push(match &answer {
            Answer::Done(0) => Attempt::refused(what),
            Answer::Done(_) => Attempt::let_through(what),
            Answer::Failed(_) if answer.is_refusal() => Attempt::refused(what),
            // Its constraints and triggers speak of a row that was reached.
            Answer::Failed(code) if code.starts_with("23") || code.starts_with("TY") => Attempt::let_through(what),
            Answer::Failed(_) => Attempt::inconclusive(what, answer.told()),
        });
    }
    Ok(attempts)
}

/// What PostgreSQL said to a statement.
enum Answer {
    /// How many rows.
    Done(u64),
    /// SQLSTATE.
    Failed(String),
}

impl Answer {
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Failed(code) if code == INSUFFICIENT_PRIVILEGE)
    }

    fn told(&self) -> String {
        match self {
            Self::Done(_) => "PostgreSQL did it".to_owned(),
            Self::Failed(code) => format!("PostgreSQL answers with code {code}"),
        }
    }
}

/// Runs a statement and takes it back.
async fn attempt(tx: &Tx, statement: &str) -> Result<Answer> {
    tx.execute_unprepared("savepoint attempt").await?;
    let done = tx.execute_unprepared(statement).await;
    let answer = match done {
        Ok(done) => Answer::Done(done.rows_affected()),
        Err(error) => match sqlstate(&error) {
            Some(code) => Answer::Failed(code),
            None => return Err(Error::from(error)),
        },
    };
    tx.execute_unprepared("rollback to savepoint attempt; release savepoint attempt").await?;
    Ok(answer)
}
