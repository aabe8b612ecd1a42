//! Sessions on PostgreSQL. A [`Tx`] is a transaction bound to a role and, for tenants, to one tenant id; there is no other
//! way to a connection, and no statement runs outside one.
//!
//! *Rules*: the login role has no rights of its own, so what forgets to open a session fails. Role and tenant are set with
//! `SET LOCAL`, in the same round trip as `BEGIN`. Only `isolation` and start-up code call [`Db::begin`].

mod cell;
mod copy;
pub mod embedded;
mod failure;
mod hearing;
mod listen;
mod migrate;
mod owner;
mod place;
mod program;
mod tx;

use std::{
    str::FromStr as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use sqlx::{
    AssertSqlSafe, PgPool, Postgres, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
};

pub use self::{
    cell::{CellAddress, CellDb, CellLimits, CellSession, CellTx, Refusal, ScriptFailure},
    failure::{sqlstate, violated_constraint},
    hearing::Hearing,
    listen::{Heard, Listener, SEPARATOR, Told},
    migrate::{is_current, migrate},
    owner::{Owner, OwnerConnection},
    place::Place,
    tx::{Bound, Tx, column},
};
use crate::{
    config,
    error::{Error, Result},
    platform::{ids::TenantId, secret::Secret},
};

/// Whose rows a transaction may touch. PostgreSQL holds it to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Rows of this tenant, and the shared catalogues to read.
    Tenant(TenantId),
    /// The same, but nothing can be written.
    TenantReadOnly(TenantId),
    /// Rows of all tenants, as the platform itself.
    Operator,
    /// The same, but nothing can be written.
    OperatorReadOnly,
}

/// A pool of connections as the login role. Clones share it.
#[derive(Clone, Debug)]
pub struct Db {
    pool: PgPool,
    limits: String,
    statements: Arc<AtomicU64>,
}

impl Db {
    /// Connects lazily: the first session finds out whether the server is there.
    pub fn connect(url: &Secret, settings: &config::Database) -> Result<Self> {
        let options = connect_options(url)?;
        let pool = PgPoolOptions::new()
            .max_connections(settings.max_connections)
            .acquire_timeout(settings.acquire_timeout)
            .test_before_acquire(false) // released connections are tested, and `begin` tries another
            .connect_lazy_with(options);
        let limits = format!(
            "SET LOCAL statement_timeout = {}; SET LOCAL idle_in_transaction_session_timeout = {}",
            settings.statement_timeout.as_millis(),
            settings.idle_in_transaction_timeout.as_millis()
        );
        Ok(Self { pool, limits, statements: Arc::default() })
    }

    /// Opens a transaction bound to `session`, in one round trip.
    ///
    /// It is opened in a task of its own: a `begin` that is dropped half-way would leave its connection inside a
    /// transaction that nobody ends, and hand it to the next borrower like that. Here the task goes on, and the
    /// transaction that nobody took is rolled back.
    ///
    /// A server that was started again leaves a pool of dead connections. Nothing has been done on one that fails to begin,
    /// so the next is taken, until all that may be dead have been seen.
    pub async fn begin(&self, session: Session) -> Result<Tx> {
        let statement = self.begin_statement(session);
        let (pool, connections) = (self.pool.clone(), self.pool.size());
        let begin = Box::pin(async move {
            for _ in 0..connections {
                match begin_once(&pool, &statement).await {
                    Err(error) if failure::is_lost(&error) => {}
                    begun => return begun,
                }
            }
            begin_once(&pool, &statement).await
        });
        self.statements.fetch_add(1, Ordering::Relaxed);
        let begun = tokio::spawn(begin).await.map_err(Error::internal)?;
        let begun = begun.map_err(|error| Error::from(failure::sqlx_failed(error)))?;
        Ok(Tx::new(begun, session, self.statements.clone()))
    }

    /// Every part is a constant, a number or a UUID: nothing that could end a literal.
    fn begin_statement(&self, session: Session) -> String {
        let limits = &self.limits;
        match session {
            Session::Tenant(tenant) => format!(
                "BEGIN; SET LOCAL ROLE tenantry_tenant; SET LOCAL tenantry.tenant_id = '{tenant}'; SET LOCAL search_path = pg_catalog; {limits}"
            ),
            Session::TenantReadOnly(tenant) => format!(
                "BEGIN READ ONLY; SET LOCAL ROLE tenantry_tenant; SET LOCAL tenantry.tenant_id = '{tenant}'; SET LOCAL search_path = pg_catalog; {limits}"
            ),
            Session::Operator => {
                format!("BEGIN; SET LOCAL ROLE tenantry_operator; SET LOCAL search_path = pg_catalog; {limits}")
            }
            Session::OperatorReadOnly => {
                format!(
                    "BEGIN READ ONLY; SET LOCAL ROLE tenantry_operator; SET LOCAL search_path = pg_catalog; {limits}"
                )
            }
        }
    }

    /// Round trips so far, but for the ends of transactions: sessions that were opened, and statements in them.
    pub fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    /// Connections that exist, and those of them that nobody uses: for metrics.
    pub fn connections(&self) -> (u32, usize) {
        (self.pool.size(), self.pool.num_idle())
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that takes a connection")]
async fn begin_once(pool: &PgPool, statement: &str) -> sqlx::Result<Transaction<'static, Postgres>> {
    pool.begin_with(AssertSqlSafe(statement.to_owned())).await
}

fn connect_options(url: &Secret) -> Result<PgConnectOptions> {
    let options = PgConnectOptions::from_str(url.expose()).map_err(|error| {
        Error::invalid("database.url", "is no PostgreSQL address such as postgres://user@host/database").because(error)
    })?;
    Ok(sqlx::ConnectOptions::disable_statement_logging(options.application_name("tenantry")))
}
