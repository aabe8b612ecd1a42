use migration::{BOOTSTRAP, Migrator};
use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, Statement};
use sea_orm_migration::MigratorTrait as _;

use super::Tx;
use crate::{
    error::{Context as _, Error, Result},
    platform::secret::Secret,
};

/// Held while one replica sets up or migrates, so that several can start at once.
const LOCK: i64 = 0x7465_6e61_6e74_7279;

/// Makes roles and schema, lets `login` (name and, for a new role, password) in, and applies what is pending.
/// `owner_url` connects as a role that may create roles.
pub async fn migrate(owner_url: &Secret, login: &str, password: Option<&Secret>) -> Result<()> {
    let db = connect(owner_url).await?;
    db.execute_unprepared(&format!("SELECT pg_advisory_lock({LOCK})")).await.map_err(Error::unavailable)?;
    let done = set_up(&db, login, password).await;
    let _ = db.close().await; // ends the connection, and the lock with it
    done
}

/// Whether the database has the schema of this binary, asked by the login role: the owner leaves the name of the last
/// migration as the schema's comment.
pub async fn is_current(tx: &Tx) -> Result<bool> {
    let sql =
        "select obj_description(oid, 'pg_namespace') as mark from pg_catalog.pg_namespace where nspname = 'tenantry'";
    let Some(row) = tx.row(sql, []).await? else { return Ok(false) };
    let found: Option<String> = row.try_get("", "mark")?;
    Ok(found.as_deref() == Some(mark().as_str()))
}

fn mark() -> String {
    let last = Migrator::migrations().last().map(|migration| migration.name().to_owned());
    format!("schema={}", last.unwrap_or_default())
}

pub(super) async fn connect(owner_url: &Secret) -> Result<DatabaseConnection> {
    let mut options = ConnectOptions::new(owner_url.expose());
    options.max_connections(1).sqlx_logging(false);
    Database::connect(options).await.map_err(Error::unavailable)
}

async fn set_up(db: &DatabaseConnection, login: &str, password: Option<&Secret>) -> Result<()> {
    db.execute_unprepared(BOOTSTRAP).await.context("create roles and schema")?;
    let exists = db
        .query_one_raw(Statement::from_sql_and_values(
            db.get_database_backend(),
            "SELECT 1 FROM pg_roles WHERE rolname = $1",
            [login.into()],
        ))
        .await
        .context("look for the login role")?
        .is_some();
    let login = quoted_identifier(login);
    if !exists {
        let password =
            password.map(|password| format!(" PASSWORD {}", quoted_literal(password.expose()))).unwrap_or_default();
        db.execute_unprepared(&format!(
            "CREATE ROLE {login} LOGIN NOINHERIT NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION{password}"
        ))
        .await
        .context("create the login role")?;
    }
    db.execute_unprepared(&format!("GRANT tenantry_tenant, tenantry_operator TO {login}"))
        .await
        .context("let the login role in")?;
    become_owner(db).await?;
    Migrator::up(db, None).await.context("apply migrations")?;
    db.execute_unprepared(&format!("COMMENT ON SCHEMA tenantry IS {}", quoted_literal(&mark())))
        .await
        .context("mark the schema")?;
    Ok(())
}

pub(super) async fn become_owner(db: &DatabaseConnection) -> Result<()> {
    db.execute_unprepared("SET ROLE tenantry_owner; SET search_path = tenantry").await.context("become the owner")?;
    Ok(())
}

fn quoted_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quoted_literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
