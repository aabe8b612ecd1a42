//! One lane of a rollout: one connection to a cell, one tenant after the other, one round trip each; written down in the
//! registry by the hundred.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    Templates,
    mark::{self, Mark, Seen},
    migration::Migration,
    refusal::{Meaning, meaning},
    rollout::Rollout,
    rollout_store::{self, Due, Lane, Report, Span, TenantState},
    script::{self, FLUSH, Place, ROLLBACK},
    store,
    work::is_running,
};
use crate::{
    cells::stem,
    error::{Context as _, Error, Kind, Result},
    journal::Entry,
    platform::{
        db::{CellDb, CellSession, ScriptFailure},
        random,
    },
};

/// What became of one try.
enum Outcome {
    Applied,
    Again(String),
    Failed(String),
    /// The cell does not answer: nobody's fault, and no try.
    Away(String),
    NotTried,
}

/// Why a batch is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    BrokenOff,
    CellAway,
}

/// Scripts of one connection. PostgreSQL keeps the plans of each function for as long as the session lives, dropped or not, and goes
/// through all of them whenever a definition changes: after some thousand tenants that is most of its work.
const SCRIPTS_OF_SESSION: u32 = 200;

/// What a lane works with.
struct Work {
    rollout: Rollout,
    /// All up to the target.
    migrations: Vec<Migration>,
    db: CellDb,
    /// The open connection, and to which database.
    session: Option<(String, CellSession)>,
    /// How many scripts have run on it.
    scripts: u32,
    /// Whether something was committed that may not be on disk yet.
    is_unflushed: bool,
    /// How long a script may take as seen from here: a cell that hangs says nothing.
    patience: Duration,
}

impl Templates {
    /// Works on the lane until nothing is due on its cell, the rollout does not run any more, or the server stops.
    pub(super) async fn work(&self, lane: Lane, stop: &CancellationToken) {
        if let Err(error) = self.work_on(lane, stop).await {
            tracing::warn!(rollout = %lane.rollout, cell = %lane.cell, %error, cause = error.cause().map(tracing::field::display), "a lane of a rollout was broken off; it goes on soon");
        }
        let released = async {
            let tx = self.begin().await?;
            rollout_store::release(&tx, lane).await?;
            tx.commit_unrecorded("a lease").await
        };
        if let Err(error) = released.await {
            tracing::warn!(%error, "a lane cannot be given back; its lease ends by itself");
        }
    }

    async fn work_on(&self, lane: Lane, stop: &CancellationToken) -> Result<()> {
        let mut work = self.prepare(lane).await?;
        while !stop.is_cancelled() {
            let batch = self.take(lane, &mut work).await?;
            if batch.is_empty() {
                return Ok(());
            }
            let (reports, end) = self.apply_all(&mut work, batch, stop).await;
            self.write_down(&work.rollout, reports).await?;
            self.advance(lane.rollout).await?;
            if end == End::CellAway {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn prepare(&self, lane: Lane) -> Result<Work> {
        let tx = self.begin().await?;
        let rollout = rollout_store::find(&tx, lane.rollout).await?.context("find the rollout")?;
        let migrations = store::migrations(&tx, &rollout.template, 1, rollout.target).await?;
        tx.commit_unrecorded("a read").await?;
        let db = self.0.cells.open(&*self.0.cells.get(lane.cell).await?)?;
        let patience = self.0.rules.lease + Duration::from_millis(rollout.rules.statement_timeout_ms.into());
        Ok(Work { rollout, migrations, db, session: None, scripts: 0, is_unflushed: false, patience })
    }

    /// The next tenants, while the lane is held and the rollout runs.
    async fn take(&self, lane: Lane, work: &mut Work) -> Result<Vec<Due>> {
        let tx = self.begin().await?;
        let now = tx.stamp().at;
        work.rollout = rollout_store::find(&tx, lane.rollout).await?.context("find the rollout")?;
        let until = self.until(&work.rollout, now);
        if !is_running(&work.rollout) || !rollout_store::hold(&tx, lane, until).await? {
            tx.rollback().await?;
            return Ok(Vec::new());
        }
        let batch = rollout_store::take(&tx, &work.rollout, lane, Span { now, until }, self.0.rules.batch).await?;
        tx.commit_unrecorded("leases").await?;
        Ok(batch)
    }

    /// One after the other, for at most half of a lease; breaks off where one fails, so that it is known before more do.
    async fn apply_all(&self, work: &mut Work, batch: Vec<Due>, stop: &CancellationToken) -> (Vec<Report>, End) {
        let begun = Instant::now();
        let mut reports = Vec::with_capacity(batch.len());
        let mut end = End::Done;
        for due in batch {
            if end == End::Done && (stop.is_cancelled() || begun.elapsed() > self.0.rules.lease / 2) {
                end = End::BrokenOff;
            }
            let outcome = match end {
                End::Done => work.apply(&due).await,
                End::BrokenOff => Outcome::NotTried,
                End::CellAway => Outcome::Away("the cell does not answer".to_owned()),
            };
            match &outcome {
                Outcome::Failed(_) => end = End::BrokenOff,
                Outcome::Away(_) => end = End::CellAway,
                _ => {}
            }
            reports.push(self.report(work, &due, outcome));
        }
        // What is not on disk may be lost by the cell, and is not to be told.
        if let Err(error) = work.flush().await {
            for report in reports.iter_mut().filter(|report| report.state == TenantState::Applied) {
                report.state = TenantState::Pending;
                report.problem = error.message().to_owned();
            }
        }
        (reports, end)
    }

    fn report(&self, work: &Work, due: &Due, outcome: Outcome) -> Report {
        let (rules, now) = (&work.rollout.rules, self.0.isolation.clock().now());
        let chance = u64::from_le_bytes(random::bytes());
        let attempts = due.attempts + 1;
        let report =
            |state, attempts, problem, due_at| Report { tenant: due.tenant_id, state, attempts, problem, due_at };
        match outcome {
            Outcome::NotTried => report(TenantState::Pending, due.attempts, String::new(), now),
            Outcome::Applied => report(TenantState::Applied, attempts, String::new(), now),
            Outcome::Failed(problem) => report(TenantState::Failed, attempts, problem, now),
            Outcome::Again(problem) if attempts >= i32::from(rules.attempts) => {
                report(TenantState::Failed, attempts, format!("{problem}; it was tried {attempts} times"), now)
            }
            Outcome::Again(problem) => {
                report(TenantState::Pending, attempts, problem, now + rules.pause(attempts, chance))
            }
            Outcome::Away(problem) => report(TenantState::Pending, due.attempts, problem, now + rules.pause(6, chance)),
        }
    }

    /// Writes the reports, the versions, and what is worth an entry in each tenant's journal; all or nothing.
    async fn write_down(&self, rollout: &Rollout, reports: Vec<Report>) -> Result<()> {
        let tx = self.begin().await?;
        let now = tx.stamp().at;
        let news = rollout_store::save(&tx, rollout.rollout_id, &reports, now).await?;
        let applied: Vec<_> =
            reports.iter().filter(|one| one.state == TenantState::Applied).map(|one| one.tenant).collect();
        rollout_store::note_versions(&tx, rollout, &applied, now).await?;
        let entries: BTreeMap<_, _> = reports
            .iter()
            .filter(|report| report.state != TenantState::Pending && news.contains(&report.tenant))
            .map(|report| (report.tenant, entry(rollout, report)))
            .collect();
        count(&reports);
        if entries.is_empty() {
            return tx.commit_unrecorded("nothing came to its end").await;
        }
        tx.commit_for_each(&entries).await
    }
}

fn count(reports: &[Report]) {
    for (state, outcome) in
        [(TenantState::Applied, "applied"), (TenantState::Failed, "failed"), (TenantState::Pending, "again")]
    {
        let number = reports.iter().filter(|report| report.state == state).count() as u64;
        metrics::counter!("tenantry_schema_migrations_total", "outcome" => outcome).increment(number);
    }
}

fn entry(rollout: &Rollout, report: &Report) -> Entry {
    let mut after = json!({ "template": rollout.template, "version": rollout.target, "rollout": rollout.rollout_id });
    let event = if report.state == TenantState::Applied {
        "SchemaMigrated"
    } else {
        after["error"] = json!(report.problem);
        "SchemaMigrationFailed"
    };
    Entry { after: Some(after), ..Entry::new(event, "schema", report.tenant) }
}

impl Work {
    /// Brings one tenant from the version that was seen last to the target; from another, where it has that by now.
    async fn apply(&mut self, due: &Due) -> Outcome {
        let mut from = due.version;
        for _ in 0..3 {
            if from >= self.rollout.target {
                return Outcome::Applied;
            }
            let failure = match self.try_from(due, from).await {
                Ok(()) => return Outcome::Applied,
                Err(failure) => failure,
            };
            let refusal = match failure {
                ScriptFailure::Refused(refusal) => refusal,
                ScriptFailure::Broken(error) => return self.away(&error),
            };
            match meaning(&refusal, &self.migrations) {
                Meaning::Again(problem) => return self.rolled_back(Outcome::Again(problem)).await,
                Meaning::Failed(problem) => {
                    tracing::warn!(tenant = %due.tenant_id, problem, cause = %refusal.cause, "a migration failed");
                    return self.rolled_back(Outcome::Failed(problem)).await;
                }
                Meaning::OtherMark => match self.version_of(due).await {
                    Ok(Ok(version)) => from = version,
                    Ok(Err(outcome)) => return outcome,
                    Err(error) => return self.away(&error),
                },
            }
        }
        Outcome::Again("somebody else is at the tenant's schema".to_owned())
    }

    async fn try_from(&mut self, due: &Due, from: i32) -> Result<(), ScriptFailure> {
        let name = stem(due.tenant_id);
        let mark = |version| Mark { template: self.rollout.template.clone(), version };
        let (before, after) = ((from > 0).then(|| mark(from)), mark(self.rollout.target));
        let missing = &self.migrations[usize::try_from(from).unwrap_or_default()..];
        let place = Place { schema: &name, role: &name };
        let script = script::transaction(place, (before.as_ref(), &after), missing, &self.rollout.rules);
        let patience = self.patience;
        self.scripts += 1;
        let session = self.session(&due.database_name).await.map_err(ScriptFailure::Broken)?;
        let timed = tokio::time::timeout(patience, session.script(&script)).await;
        timed.unwrap_or_else(|_| Err(ScriptFailure::Broken(Error::unavailable("a cell does not answer"))))?;
        self.is_unflushed = true;
        Ok(())
    }

    fn away(&mut self, error: &Error) -> Outcome {
        self.session = None;
        Outcome::Away(error.message().to_owned())
    }

    /// The version that the schema says it is at, or what that means where it says something else.
    async fn version_of(&mut self, due: &Due) -> Result<Result<i32, Outcome>> {
        let template = self.rollout.template.clone();
        let session = self.session(&due.database_name).await?;
        if let Err(ScriptFailure::Broken(error)) = session.script(ROLLBACK).await {
            return Err(error);
        }
        let seen: Seen = session.json(mark::READ, &[&stem(due.tenant_id)]).await?;
        Ok(match seen.mark() {
            _ if !seen.exists => Err(Outcome::Again("the tenant has no schema yet".to_owned())),
            None => Ok(0),
            Some(mark) if mark.template == template => Ok(mark.version),
            Some(mark) => Err(Outcome::Failed(format!("the schema is made of the template {}", mark.template))),
        })
    }

    async fn rolled_back(&mut self, outcome: Outcome) -> Outcome {
        if let Some((_, session)) = &mut self.session
            && session.script(ROLLBACK).await.is_err()
        {
            self.session = None;
        }
        outcome
    }

    /// Of a database that was left, what was committed is on disk, too.
    async fn session(&mut self, database: &str) -> Result<&mut CellSession> {
        let is_worn = self.scripts > SCRIPTS_OF_SESSION;
        if self.session.as_ref().is_some_and(|(open, _)| open != database || is_worn) {
            if let Err(error) = self.flush().await {
                self.is_unflushed = true; // said again at the end of the batch
                return Err(error);
            }
            self.session = None;
        }
        if self.session.is_none() {
            self.session = Some((database.to_owned(), self.db.session(database).await?));
            self.scripts = 1; // the one that it is opened for
        }
        let (_, session) = self.session.as_mut().context("it was opened above")?;
        Ok(session)
    }

    async fn flush(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_unflushed) {
            return Ok(());
        }
        let (_, session) = self.session.as_mut().ok_or_else(lost)?;
        match session.script(FLUSH).await {
            Ok(()) => Ok(()),
            Err(ScriptFailure::Broken(error)) => {
                self.session = None;
                Err(error)
            }
            Err(ScriptFailure::Refused(refusal)) => {
                self.session = None;
                Err(lost().because(refusal.cause))
            }
        }
    }
}

fn lost() -> Error {
    Error::new(
        Kind::Unavailable,
        "the connection to the cell was lost before all was known to be on disk; it is looked at again",
    )
}
