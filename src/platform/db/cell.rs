//! Sessions on a PostgreSQL database that is a cell, as the login that makes roles, schemas and databases there.
//!
//! A transaction that is not committed takes its connection with it: nothing half done, and nothing of a dropped request,
//! ever meets the next borrower. Nor does a connection on which a script has run: it may have met code of a tenant's own, which can
//! prepare statements under any name. For the same reason no prepared statement outlives a script.

use std::{str::FromStr as _, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection, PgPool, Postgres, Row as _,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgDatabaseError, PgErrorPosition, PgPoolOptions},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{failure, program};
use crate::{
    error::{Error, Kind, Result},
    platform::secret::Secret,
};

/// How many connections to one cell, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct CellLimits {
    pub connections: u32,
    pub acquire_timeout: Duration,
    pub idle_timeout: Duration,
    pub statement_timeout: Duration,
}

/// Where clients find a database: nothing secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellAddress {
    /// Host name, or the folder of a Unix socket.
    pub host: String,
    pub port: u16,
    pub database: String,
}

/// Connections to one cell. Clones share them.
#[derive(Clone, Debug)]
pub struct CellDb {
    pool: PgPool,
    options: Arc<PgConnectOptions>,
    url: Secret,
    /// Connections to other databases of the same server: as many again.
    beside: Arc<Semaphore>,
    limits: CellLimits,
}

impl CellDb {
    /// Connects lazily, and closes what was idle for long.
    pub fn connect(url: &Secret, limits: CellLimits) -> Result<Self> {
        let rule = "is no PostgreSQL address such as postgres://user:password@host/database";
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.expose().starts_with(scheme)) {
            return Err(Error::invalid("url", rule));
        }
        let options =
            PgConnectOptions::from_str(url.expose()).map_err(|error| Error::invalid("url", rule).because(error))?;
        let options = options.application_name("tenantry-cell").disable_statement_logging();
        let pool = PgPoolOptions::new()
            .min_connections(0)
            .max_connections(limits.connections)
            .acquire_timeout(limits.acquire_timeout)
            .idle_timeout(limits.idle_timeout)
            .connect_lazy_with(options.clone());
        let beside = Arc::new(Semaphore::new(limits.connections as usize));
        Ok(Self { pool, options: Arc::new(options), url: url.clone(), beside, limits })
    }

    pub fn address(&self) -> CellAddress {
        let host = match self.options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => self.options.get_host().to_owned(),
        };
        let database = self.options.get_database().unwrap_or(self.options.get_username()).to_owned();
        CellAddress { host, port: self.options.get_port(), database }
    }

    /// Opens a transaction in the cell's own database.
    #[expect(clippy::disallowed_methods, reason = "the one place that takes a cell's connection; see CellTx::drop")]
    pub async fn begin(&self) -> Result<CellTx> {
        let taken = self.pool.acquire().await.map_err(unreachable)?;
        CellTx::on(Connection::Pooled(taken), None).begin(self.limits).await
    }

    /// Opens a transaction in another database of the same server, on a connection that is closed behind it.
    pub async fn begin_in(&self, database: &str) -> Result<CellTx> {
        if self.address().database == database {
            return self.begin().await;
        }
        let permit = self.beside.clone().acquire_owned().await.map_err(Error::internal)?;
        let options = (*self.options).clone().database(database);
        let connected = tokio::time::timeout(self.limits.acquire_timeout, options.connect()).await;
        let connected = connected.map_err(Error::unavailable)?.map_err(unreachable)?;
        CellTx::on(Connection::Own(Box::new(connected)), Some(permit)).begin(self.limits).await
    }

    /// Runs one statement that PostgreSQL takes outside of transactions only: making and dropping databases.
    #[expect(clippy::disallowed_methods, reason = "the one place that takes a cell's connection; see CellTx::drop")]
    pub async fn run(&self, statement: &str) -> Result<()> {
        let taken = self.pool.acquire().await.map_err(unreachable)?;
        let mut guard = CellTx::on(Connection::Pooled(taken), None);
        guard.execute(statement).await?;
        guard.give_back();
        Ok(())
    }

    /// A connection of the caller's own for a row of scripts in `database`, each with its own `BEGIN` and `COMMIT`. Nothing but
    /// PostgreSQL's own catalogue is found without a schema's name, whatever a script before has left behind.
    pub async fn session(&self, database: &str) -> Result<CellSession> {
        let options = (*self.options).clone().database(database).options([("search_path", "pg_catalog,pg_temp")]);
        let connected = tokio::time::timeout(self.limits.acquire_timeout, options.connect()).await;
        Ok(CellSession { connection: connected.map_err(Error::unavailable)?.map_err(unreachable)? })
    }

    /// The same as another login of the same server, with what that login begins with.
    pub async fn session_as(&self, database: &str, user: &str, password: &Secret) -> Result<CellSession> {
        let options = (*self.options).clone().database(database).username(user).password(password.expose());
        let options = options.options([("search_path", "pg_catalog,pg_temp")]);
        let connected = tokio::time::timeout(self.limits.acquire_timeout, options.connect()).await;
        Ok(CellSession { connection: connected.map_err(Error::unavailable)?.map_err(unreachable)? })
    }

    /// Whether the server lets `user` in; where it does not, with which SQLSTATE.
    pub async fn try_session_as(
        &self,
        database: &str,
        user: &str,
        password: &Secret,
    ) -> Result<Result<CellSession, String>> {
        let options = (*self.options).clone().database(database).username(user).password(password.expose());
        let options = options.options([("search_path", "pg_catalog,pg_temp")]);
        let connected = tokio::time::timeout(self.limits.acquire_timeout, options.connect()).await;
        match connected.map_err(Error::unavailable)? {
            Ok(connection) => Ok(Ok(CellSession { connection })),
            Err(sqlx::Error::Database(answer)) => Ok(Err(answer.code().unwrap_or_default().into_owned())),
            Err(error) => Err(unreachable(error)),
        }
    }

    /// What a program of PostgreSQL's own needs to connect to `database`, as environment variables of libpq: nothing secret
    /// is an argument that others could read.
    pub fn environment(&self, database: &str) -> Vec<(&'static str, Secret)> {
        let address = self.address();
        let mut variables = vec![
            ("PGHOST", Secret::new(address.host)),
            ("PGPORT", Secret::new(address.port.to_string())),
            ("PGDATABASE", Secret::new(database)),
            ("PGUSER", Secret::new(self.options.get_username())),
            ("PGCONNECT_TIMEOUT", Secret::new(self.limits.acquire_timeout.as_secs().max(2).to_string())),
        ];
        variables.extend(program::variables(&self.url));
        variables
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// A connection to a cell for scripts, one round trip each. Dropped, it is closed, and PostgreSQL rolls back.
#[derive(Debug)]
pub struct CellSession {
    pub(super) connection: PgConnection,
}

impl CellSession {
    pub async fn script(&mut self, statements: &str) -> Result<(), ScriptFailure> {
        script(&mut self.connection, statements).await
    }

    /// As [`CellTx::json`], of a statement without a name: what a script before has prepared under one is not met.
    pub async fn json<T: DeserializeOwned>(&mut self, query: &str, values: &[&str]) -> Result<T> {
        json(&mut self.connection, query, values, false).await
    }
}

/// Why a script did not run to its end.
#[derive(Debug)]
pub enum ScriptFailure {
    /// PostgreSQL refused a statement of it; an open transaction can only be rolled back.
    Refused(Box<Refusal>),
    /// The connection is of no more use, and what became of the script is not known.
    Broken(Error),
}

/// What PostgreSQL refused. Its own text is not told: it may show what is in the cell.
#[derive(Debug)]
pub struct Refusal {
    /// SQLSTATE.
    pub code: String,
    /// Where, within the text that a function of the script executed: that text, and the character, from 1 on.
    pub place: Option<(String, usize)>,
    /// The call stack as PostgreSQL tells it, with the texts that were executed.
    pub context: String,
    pub cause: sqlx::Error,
}

async fn script(connection: &mut PgConnection, statements: &str) -> Result<(), ScriptFailure> {
    let Err(error) = connection.execute(AssertSqlSafe(statements)).await else { return Ok(()) };
    if failure::is_lost(&error) {
        return Err(ScriptFailure::Broken(refused(error)));
    }
    let sqlx::Error::Database(answer) = &error else { return Err(ScriptFailure::Broken(refused(error))) };
    let Some(answer) = answer.try_downcast_ref::<PgDatabaseError>() else {
        return Err(ScriptFailure::Broken(refused(error)));
    };
    let place = match answer.position() {
        Some(PgErrorPosition::Internal { position, query }) => Some((query.to_owned(), position)),
        _ => None,
    };
    let (code, context) = (answer.code().to_owned(), answer.r#where().unwrap_or_default().to_owned());
    Err(ScriptFailure::Refused(Box::new(Refusal { code, place, context, cause: error })))
}

async fn json<T: DeserializeOwned>(
    connection: &mut PgConnection,
    query: &str,
    values: &[&str],
    is_kept: bool,
) -> Result<T> {
    let mut query = sqlx::query(AssertSqlSafe(query)).persistent(is_kept);
    for value in values {
        query = query.bind((*value).to_owned());
    }
    let row = connection.fetch_one(query).await.map_err(refused)?;
    let text: String = row.try_get(0).map_err(refused)?;
    serde_json::from_str(&text).map_err(Error::internal)
}

/// A transaction in a cell. Dropped, its connection is closed, and PostgreSQL rolls back.
#[derive(Debug)]
pub struct CellTx {
    connection: Option<Connection>,
    /// Whether code of a tenant's own may have run on the connection.
    has_run_script: bool,
    _beside: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
enum Connection {
    Pooled(PoolConnection<Postgres>),
    Own(Box<PgConnection>),
}

impl CellTx {
    fn on(connection: Connection, beside: Option<OwnedSemaphorePermit>) -> Self {
        Self { connection: Some(connection), has_run_script: false, _beside: beside }
    }

    async fn begin(mut self, limits: CellLimits) -> Result<Self> {
        let begin = format!(
            "BEGIN; SET LOCAL search_path = pg_catalog; SET LOCAL statement_timeout = {0}; SET LOCAL lock_timeout = {0}",
            limits.statement_timeout.as_millis()
        );
        self.execute(&begin).await?;
        Ok(self)
    }

    /// Runs statements without values, in one round trip.
    pub async fn execute(&mut self, statements: &str) -> Result<()> {
        self.connection()?.execute(AssertSqlSafe(statements)).await.map(drop).map_err(refused)
    }

    /// Runs a query with texts as values that answers one row of one text: JSON.
    pub async fn json<T: DeserializeOwned>(&mut self, query: &str, values: &[&str]) -> Result<T> {
        let is_kept = !self.has_run_script;
        json(self.connection()?, query, values, is_kept).await
    }

    /// Runs statements without values, in one round trip, and tells what of them was refused.
    pub async fn script(&mut self, statements: &str) -> Result<(), ScriptFailure> {
        self.has_run_script = true;
        let connection = self.connection().map_err(ScriptFailure::Broken)?;
        connection.clear_cached_statements().await.map_err(|error| ScriptFailure::Broken(refused(error)))?;
        script(connection, statements).await
    }

    pub async fn commit(self) -> Result<()> {
        self.end("COMMIT").await
    }

    /// Takes back what was done, and keeps the connection.
    pub async fn rollback(self) -> Result<()> {
        self.end("ROLLBACK").await
    }

    async fn end(mut self, statement: &str) -> Result<()> {
        self.execute(statement).await?;
        match self.connection.take() {
            Some(Connection::Own(connection)) => connection.close().await.map_err(refused),
            Some(Connection::Pooled(pooled)) if self.has_run_script => pooled.close().await.map_err(refused),
            pooled => {
                drop(pooled);
                Ok(())
            }
        }
    }

    fn give_back(mut self) {
        drop(self.connection.take());
    }

    fn connection(&mut self) -> Result<&mut PgConnection> {
        match &mut self.connection {
            Some(Connection::Pooled(pooled)) => Ok(&mut *pooled),
            Some(Connection::Own(own)) => Ok(own),
            None => Err(Error::internal("a cell's transaction is used after its end")),
        }
    }
}

impl Drop for CellTx {
    fn drop(&mut self) {
        if let Some(Connection::Pooled(pooled)) = self.connection.take() {
            drop(pooled.detach());
        }
    }
}

fn unreachable(error: sqlx::Error) -> Error {
    let sentence = match &error {
        sqlx::Error::Database(answer) => match answer.code().as_deref() {
            Some("28P01" | "28000") => "the cell's PostgreSQL does not take the login".to_owned(),
            Some("3D000") => "the cell's PostgreSQL has no such database".to_owned(),
            code => format!("the cell's PostgreSQL refuses connections ({})", code.unwrap_or("no code")),
        },
        sqlx::Error::PoolTimedOut => {
            "the cell's PostgreSQL does not answer, or all connections to it are in use".to_owned()
        }
        _ => "the cell's PostgreSQL cannot be reached".to_owned(),
    };
    Error::new(Kind::Unavailable, sentence).because(error)
}

/// The code alone is told: PostgreSQL's text may show what is in the cell.
pub(super) fn refused(error: sqlx::Error) -> Error {
    if failure::is_lost(&error) {
        return Error::new(Kind::Unavailable, "the connection to the cell's PostgreSQL was lost").because(error);
    }
    let code = match &error {
        sqlx::Error::Database(answer) => answer.code().map(|code| code.into_owned()),
        _ => None,
    };
    let known: Error = failure::sqlx_failed(error).into();
    match code {
        None => known,
        Some(code) => {
            let kind = if known.kind() == Kind::Unavailable { Kind::Unavailable } else { Kind::Internal };
            Error::new(kind, format!("the cell's PostgreSQL refused a statement with code {code}")).because(known)
        }
    }
}
