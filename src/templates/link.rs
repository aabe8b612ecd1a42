//! The connection of a lane to its cell: opened when it is needed, changed when it is worn, and asked to put on disk what was
//! committed on it before anybody is told.

use std::time::Duration;

use super::{
    mark::{self, Seen},
    rollout::Rules,
    script::{self, FLUSH, ROLLBACK},
};
use crate::{
    error::{Context as _, Error, Kind, Result},
    platform::db::{CellDb, CellSession, ScriptFailure},
};

/// What a connection may bear. PostgreSQL keeps the plans of each function for as long as the session lives, dropped or not, and
/// goes through all of them whenever a definition changes: after some thousand tenants that is most of its work.
const WORN: u32 = 2_000;
const WEAR_OF_FENCED: u32 = 10;
const WEAR_OF_PLAIN: u32 = 1;

#[derive(Debug)]
pub(super) struct Link {
    db: CellDb,
    /// How long a script may take as seen from here: a cell that hangs says nothing.
    patience: Duration,
    open: Option<Open>,
    /// Whether something was committed that may not be on disk yet.
    is_unflushed: bool,
}

#[derive(Debug)]
struct Open {
    database: String,
    session: CellSession,
    wear: u32,
    /// Whether it has what scripts without a fence need.
    is_prepared: bool,
}

impl Link {
    pub(super) fn new(db: CellDb, patience: Duration) -> Self {
        Self { db, patience, open: None, is_unflushed: false }
    }

    /// Runs a [`super::script::transaction`].
    pub(super) async fn fenced(&mut self, database: &str, script: &str) -> Result<(), ScriptFailure> {
        let open = self.open(database).await.map_err(ScriptFailure::Broken)?;
        open.is_prepared = false;
        open.wear += WEAR_OF_FENCED;
        self.run(script).await
    }

    /// Runs one [`script::plain_transaction`] or several, of so many tenants.
    pub(super) async fn plain(
        &mut self,
        database: &str,
        script: &str,
        rules: &Rules,
        tenants: u32,
    ) -> Result<(), ScriptFailure> {
        let open = self.open(database).await.map_err(ScriptFailure::Broken)?;
        open.wear += WEAR_OF_PLAIN * tenants;
        if !std::mem::replace(&mut open.is_prepared, true) {
            self.run(&script::preparation(rules)).await?;
        }
        self.run(script).await
    }

    /// How long the cell may be silent.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Takes back what a refused script has left, or closes the connection.
    pub(super) async fn roll_back(&mut self) {
        let Some(open) = &mut self.open else { return };
        open.is_prepared = false;
        if open.session.script(ROLLBACK).await.is_err() {
            self.open = None;
        }
    }

    /// What the schema says of itself.
    pub(super) async fn seen(&mut self, database: &str, schema: &str) -> Result<Seen> {
        self.roll_back().await;
        self.open(database).await?.session.json(mark::READ, &[schema]).await
    }

    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// What is not on disk may be lost by the cell.
    pub(super) async fn flush(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_unflushed) {
            return Ok(());
        }
        let open = self.open.as_mut().ok_or_else(lost)?;
        let error = match open.session.script(FLUSH).await {
            Ok(()) => return Ok(()),
            Err(ScriptFailure::Broken(error)) => error,
            Err(ScriptFailure::Refused(refusal)) => lost().because(refusal.cause),
        };
        self.open = None;
        Err(error)
    }

    async fn run(&mut self, script: &str) -> Result<(), ScriptFailure> {
        let open = self.open.as_mut().ok_or_else(|| ScriptFailure::Broken(lost()))?;
        self.is_unflushed = true; // of several transactions those before one that is refused are committed
        let timed = tokio::time::timeout(self.patience, open.session.script(script)).await;
        timed.unwrap_or_else(|_| Err(ScriptFailure::Broken(Error::unavailable("a cell does not answer"))))
    }

    /// Of a database that was left, what was committed is on disk, too.
    async fn open(&mut self, database: &str) -> Result<&mut Open> {
        if self.open.as_ref().is_some_and(|open| open.database != database || open.wear >= WORN) {
            if let Err(error) = self.flush().await {
                self.is_unflushed = true; // said again at the end of the batch
                return Err(error);
            }
            self.open = None;
        }
        if self.open.is_none() {
            if self.is_unflushed {
                return Err(lost()); // until the batch has ended, and that was said
            }
            let session = self.db.session(database).await?;
            self.open = Some(Open { database: database.to_owned(), session, wear: 0, is_prepared: false });
        }
        self.open.as_mut().context("it was opened above")
    }
}

fn lost() -> Error {
    Error::new(
        Kind::Unavailable,
        "the connection to the cell was lost before all was known to be on disk; it is looked at again",
    )
}
