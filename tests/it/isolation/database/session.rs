use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};

use crate::support::TestApp;

/// One connection. Statements answer the SQLSTATE of what PostgreSQL refused.
pub struct Session(PgConnection);

impl Session {
    pub async fn superuser(app: &TestApp) -> Self {
        Self::connect(&app.database.superuser_url()).await
    }

    /// As the role that the server signs in as.
    pub async fn login(app: &TestApp) -> Self {
        Self::connect(&app.database.login_url()).await
    }

    async fn connect(url: &str) -> Self {
        let mut session = Self(PgConnection::connect(url).await.unwrap());
        session.run("set client_min_messages = error").await.unwrap();
        session
    }

    /// Statements, one after the other, without an answer.
    pub async fn run(&mut self, sql: &str) -> Result<u64, String> {
        let done = self.0.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await;
        done.map(|done| done.rows_affected()).map_err(|error| sqlstate(&error))
    }

    /// The first column of every row, which is text.
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<String>, String> {
        let rows = self.0.fetch_all(sqlx::raw_sql(AssertSqlSafe(sql))).await.map_err(|error| sqlstate(&error))?;
        Ok(rows.iter().map(|row| row.get::<Option<String>, _>(0).unwrap_or_default()).collect())
    }

    /// The first column of the first row.
    pub async fn text(&mut self, sql: &str) -> Result<String, String> {
        self.rows(sql).await.map(|rows| rows.into_iter().next().unwrap_or_default())
    }

    /// Begins a transaction as the server does for a tenant; without one, what the server never does.
    pub async fn enter(&mut self, tenant: Option<&str>) {
        let tenant = tenant.map(|tenant| format!("set local tenantry.tenant_id = '{tenant}';")).unwrap_or_default();
        self.run(&format!(
            "rollback; begin; set local role tenantry_tenant; {tenant} set local search_path = pg_catalog"
        ))
        .await
        .unwrap();
    }

    /// Tries one statement in a transaction of its own.
    pub async fn attempt(&mut self, tenant: Option<&str>, sql: &str) -> Result<Vec<String>, String> {
        self.enter(tenant).await;
        let answered = self.rows(sql).await;
        self.run("rollback").await.unwrap();
        answered
    }

    /// Tables of the schema that have a `tenant_id`.
    pub async fn tenant_tables(&mut self) -> Vec<String> {
        let sql = "select c.relname::text from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
            where c.relnamespace = 'tenantry'::regnamespace and c.relkind in ('r', 'p') order by 1";
        self.rows(sql).await.unwrap()
    }

    /// Everything in the schema that rows can be read from.
    pub async fn relations(&mut self) -> Vec<String> {
        let sql = "select relname::text from pg_class where relnamespace = 'tenantry'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f') order by 1";
        self.rows(sql).await.unwrap()
    }
}

fn sqlstate(error: &sqlx::Error) -> String {
    match error.as_database_error().and_then(|error| error.code()) {
        Some(code) => code.into_owned(),
        None => panic!("the connection failed: {error}"),
    }
}
