use sea_orm::{ConnectionTrait as _, DatabaseConnection, QueryResult, Statement, Value};

use super::migrate::{become_owner, connect};
use crate::{
    error::{Error, Result},
    platform::secret::Secret,
};

/// Where statements run that change tables themselves. A server need not have it.
#[derive(Clone, Debug)]
pub struct Owner {
    pub(super) url: Secret,
}

impl Owner {
    /// A connection as the schema's owner. Its statements rather fail than keep others waiting for their locks.
    pub async fn connect(&self) -> Result<OwnerConnection> {
        let db = connect(&self.url).await?;
        become_owner(&db).await?;
        db.execute_unprepared("SET lock_timeout = '2s'").await?;
        Ok(OwnerConnection(db))
    }
}

/// Each statement is a transaction of its own.
#[derive(Debug)]
pub struct OwnerConnection(DatabaseConnection);

impl OwnerConnection {
    pub async fn row(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> Result<QueryResult> {
        let statement = Statement::from_sql_and_values(self.0.get_database_backend(), sql, values);
        self.0.query_one_raw(statement).await?.ok_or_else(|| Error::internal("no row"))
    }

    pub async fn close(self) -> Result<()> {
        Ok(self.0.close().await?)
    }
}
