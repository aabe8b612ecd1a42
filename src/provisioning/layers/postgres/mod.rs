//! What the layers in PostgreSQL share: how differences are mended, logins closed, things counted, leftovers found.

pub(super) mod denials;
mod extension;
pub(super) mod intrusion;
mod namespace;
mod scram;

use futures::{StreamExt as _, stream};

pub use self::scram::verifier;
pub(super) use self::{
    extension::{EXTENSIONS, Extension},
    namespace::{NAMESPACE, Namespace},
};
use super::super::{Names, Site, Slot, literal};
use crate::{
    cells::{Cell, CellState, Cells},
    error::{Error, Result},
    platform::db::{CellDb, CellTx},
};

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// What is to be done, as a sentence.
    pub(super) what: String,
    /// The statement that does it; none where only a person can.
    pub(super) statement: Option<String>,
}

impl Difference {
    pub(super) fn mended_by(what: impl Into<String>, statement: impl Into<String>) -> Self {
        Self { what: what.into(), statement: Some(statement.into()) }
    }

    pub(super) fn for_a_person(what: impl Into<String>) -> Self {
        Self { what: what.into(), statement: None }
    }
}

pub(super) fn sentences(differences: &[Difference]) -> Vec<String> {
    differences.iter().map(|difference| difference.what.clone()).collect()
}

/// Runs what mends `differences`, in one round trip of an open transaction.
pub(super) async fn mend(tx: &mut CellTx, differences: &[Difference]) -> Result<()> {
    if let Some(stuck) = differences.iter().find(|difference| difference.statement.is_none()) {
        return Err(Error::internal(stuck.what.clone()).at("cell"));
    }
    let statements: Vec<_> = differences.iter().filter_map(|difference| difference.statement.as_deref()).collect();
    if statements.is_empty() { Ok(()) } else { tx.execute(&statements.join(";\n")).await }
}

/// Workers on one tenant's things go one after the other, whatever became of their leases.
pub(super) async fn alone(tx: &mut CellTx, names: &Names) -> Result<()> {
    let key = literal(names.stem());
    tx.execute(&format!("SELECT pg_advisory_xact_lock(hashtextextended({key}, 0))")).await
}

/// No new sessions of the tenant, and an end to those that there are: what they hold cannot be dropped.
pub(super) async fn close_logins(db: &CellDb, names: &Names) -> Result<()> {
    const CLOSE: &str = "
        select coalesce(jsonb_agg(format('ALTER ROLE %I NOLOGIN', rolname)), '[]')::text from pg_roles
        where rolname in ($1, $2) and rolcanlogin";
    const END: &str = "
        select coalesce(jsonb_agg(pg_terminate_backend(pid)), '[]')::text from pg_stat_activity where usename in ($1, $2)";
    let (a, b) = (names.login(Slot::A), names.login(Slot::B));
    let mut tx = db.begin().await?;
    alone(&mut tx, names).await?;
    let close: Vec<String> = tx.json(CLOSE, &[&a, &b]).await?;
    if !close.is_empty() {
        tx.execute(&close.join(";")).await?;
    }
    tx.commit().await?;
    let mut tx = db.begin().await?;
    let _: Vec<bool> = tx.json(END, &[&a, &b]).await?;
    tx.commit().await
}

/// The cell's connections, where the tenant has a place.
pub(super) fn db_of(cells: &Cells, site: &Site) -> Result<CellDb> {
    cells.open(site.placed()?.1)
}

/// Asks every cell in use with one query of one text that answers a list of texts; `None` asks the cell's own database.
pub(super) async fn search_all(cells: &Cells, query: &'static str, stem: &str) -> Result<Vec<String>> {
    let all = cells.all().await?;
    let found: Vec<Result<Vec<String>>> = stream::iter(all.into_iter().filter(|cell| cell.state != CellState::Retired))
        .map(|cell| async move { search(cells, &cell, query, stem).await })
        .buffer_unordered(8)
        .collect()
        .await;
    Ok(found.into_iter().collect::<Result<Vec<_>>>()?.concat())
}

/// The same in the tenant's own database, on whichever cell that is.
pub(super) async fn search_own_databases(
    cells: &Cells,
    names: &Names,
    query: &'static str,
    value: &str,
) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for cell in cells.all().await?.iter().filter(|cell| cell.state != CellState::Retired) {
        let db = cells.open(cell)?;
        if database_exists(&db, names.stem()).await? {
            let mut tx = db.begin_in(names.stem()).await?;
            let there: Vec<String> = tx.json(query, &[value]).await?;
            tx.commit().await?;
            found.extend(there.into_iter().map(|thing| format!("{thing} in its database on cell {}", cell.name)));
        }
    }
    Ok(found)
}

async fn search(cells: &Cells, cell: &Cell, query: &str, stem: &str) -> Result<Vec<String>> {
    let mut tx = cells.open(cell)?.begin().await?;
    let found: Vec<String> = tx.json(query, &[stem]).await?;
    tx.commit().await?;
    Ok(found.into_iter().map(|thing| format!("{thing} on cell {}", cell.name)).collect())
}

/// Whether the cell's server has this database.
pub(super) async fn database_exists(db: &CellDb, database: &str) -> Result<bool> {
    if db.address().database == database {
        return Ok(true);
    }
    let mut tx = db.begin().await?;
    let query = "select to_jsonb(exists (select from pg_database where datname = $1))::text";
    let found = tx.json(query, &[database]).await?;
    tx.commit().await?;
    Ok(found)
}
