use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement, Value};
use sea_query_sqlx::SqlxValues;
use sqlx::{Arguments as _, AssertSqlSafe, Executor as _, Postgres, Transaction, postgres::PgArguments, query::Query};
use tokio::sync::{Mutex, MutexGuard};

use super::{Session, failure::sqlx_failed};
use crate::error::{Error, Result};

/// A transaction bound to a [`Session`]. SeaORM's entities and raw statements run on it alike. Dropped, it is rolled back.
///
/// What waits for the database is boxed here: a driver's futures are kilobytes, and would be part of every future that may wait for one.
#[derive(Debug)]
pub struct Tx {
    transaction: Mutex<Transaction<'static, Postgres>>,
    session: Session,
    /// The pool's count of statements.
    statements: Arc<AtomicU64>,
}

impl Tx {
    pub(super) fn new(
        transaction: Transaction<'static, Postgres>,
        session: Session,
        statements: Arc<AtomicU64>,
    ) -> Self {
        Self { transaction: Mutex::new(transaction), session, statements }
    }

    async fn connection(&self) -> MutexGuard<'_, Transaction<'static, Postgres>> {
        self.statements.fetch_add(1, Ordering::Relaxed);
        self.transaction.lock().await
    }

    pub fn session(&self) -> Session {
        self.session
    }

    /// Runs one statement with its values and answers how many rows it changed.
    pub async fn execute(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> Result<u64, DbErr> {
        Ok(self.execute_raw(statement(sql, values)).await?.rows_affected())
    }

    /// Runs one statement and answers its rows.
    pub async fn rows(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> Result<Vec<QueryResult>, DbErr> {
        self.query_all_raw(statement(sql, values)).await
    }

    /// Runs one statement and answers its first row.
    pub async fn row(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> Result<Option<QueryResult>, DbErr> {
        self.query_one_raw(statement(sql, values)).await
    }

    /// The same of values that are encoded already.
    pub async fn rows_of(&self, sql: &'static str, bound: Bound) -> Result<Vec<QueryResult>, DbErr> {
        let mut transaction = self.connection().await;
        let rows = Box::pin(sqlx::query_with(sql, bound.0).fetch_all(&mut **transaction)).await;
        rows.map(|rows| rows.into_iter().map(Into::into).collect()).map_err(sqlx_failed)
    }

    pub async fn commit(self) -> Result<()> {
        let committed = Box::pin(self.transaction.into_inner().commit()).await;
        committed.map_err(|error| Error::from(sqlx_failed(error)))
    }

    pub async fn rollback(self) -> Result<()> {
        let ended = Box::pin(self.transaction.into_inner().rollback()).await;
        ended.map_err(|error| Error::from(sqlx_failed(error)))
    }
}

/// One column of rows that a statement takes as arrays.
pub fn column<R, T>(rows: &[R], of: impl Fn(&R) -> T) -> Value
where
    Vec<T>: Into<Value>,
{
    rows.iter().map(of).collect::<Vec<_>>().into()
}

fn statement(sql: &str, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
}

/// Values that are encoded where they are: arrays of thousands are not made into a [`Value`] for each element first.
#[derive(Debug, Default)]
pub struct Bound(PgArguments);

impl Bound {
    /// The next one.
    pub fn and<'t, T: sqlx::Encode<'t, Postgres> + sqlx::Type<Postgres> + 't>(mut self, value: T) -> Result<Self> {
        self.0.add(value).map_err(|error| Error::internal(error.to_string()))?;
        Ok(self)
    }
}

fn query(statement: Statement) -> Query<'static, Postgres, SqlxValues> {
    let values = statement.values.unwrap_or_else(|| sea_orm::sea_query::Values(Vec::new()));
    sqlx::query_with(AssertSqlSafe(statement.sql), SqlxValues(values))
}

#[async_trait]
impl ConnectionTrait for Tx {
    fn get_database_backend(&self) -> DbBackend {
        DbBackend::Postgres
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let mut transaction = self.connection().await;
        let done = query(statement).execute(&mut **transaction).await;
        done.map(Into::into).map_err(sqlx_failed)
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let mut transaction = self.connection().await;
        let done = transaction.execute(AssertSqlSafe(sql)).await;
        done.map(Into::into).map_err(sqlx_failed)
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let mut transaction = self.connection().await;
        let row = query(statement).fetch_optional(&mut **transaction).await;
        row.map(|row| row.map(Into::into)).map_err(sqlx_failed)
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let mut transaction = self.connection().await;
        let rows = query(statement).fetch_all(&mut **transaction).await;
        rows.map(|rows| rows.into_iter().map(Into::into).collect()).map_err(sqlx_failed)
    }
}
