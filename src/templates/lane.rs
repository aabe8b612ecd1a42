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
    link::Link,
    mark::Mark,
    migration::Migration,
    plain::plain,
    refusal::{Meaning, meaning},
    rollout::Rollout,
    rollout_store::{self, Due, Lane, Report, Span, TenantState},
    script::{self, Place},
    store,
    work::is_running,
};
use crate::{
    cells::stem,
    error::{Context as _, Error, Result},
    journal::Entry,
    platform::{db::ScriptFailure, random},
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

/// What a lane works with.
struct Work {
    rollout: Rollout,
    /// All up to the target.
    migrations: Vec<Migration>,
    /// Each of them as what runs without a fence, where it can.
    plain: Vec<Option<String>>,
    link: Link,
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
        let plain = migrations.iter().map(|migration| plain(&migration.sql)).collect();
        Ok(Work { rollout, migrations, plain, link: Link::new(db, patience) })
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
        if let Err(error) = work.link.flush().await {
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
            let refusal = match self.try_from(due, from).await {
                Ok(()) => return Outcome::Applied,
                Err(ScriptFailure::Refused(refusal)) => refusal,
                Err(ScriptFailure::Broken(error)) => return self.away(&error),
            };
            match meaning(&refusal, missing(&self.migrations, from)) {
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

    /// Without a fence, where none of what is missing needs one; what is refused there is tried behind it, where PostgreSQL
    /// tells what and why.
    async fn try_from(&mut self, due: &Due, from: i32) -> Result<(), ScriptFailure> {
        let name = stem(due.tenant_id);
        let mark = |version| Mark { template: self.rollout.template.clone(), version };
        let (before, after) = ((from > 0).then(|| mark(from)), mark(self.rollout.target));
        let (place, marks) = (Place { schema: &name, role: &name }, (before.as_ref(), &after));
        let (migrations, rules) = (missing(&self.migrations, from), &self.rollout.rules);
        let plain: Option<Vec<_>> = missing(&self.plain, from).iter().map(Option::as_deref).collect();
        if let Some(plain) = plain {
            let script = script::plain_transaction(place, marks, &plain, rules);
            match self.link.plain(&due.database_name, &script).await {
                Err(ScriptFailure::Refused(refusal)) if !matches!(meaning(&refusal, migrations), Meaning::Again(_)) => {
                    self.link.roll_back().await;
                }
                outcome => return outcome,
            }
        }
        let script = script::transaction(place, marks, migrations, rules);
        self.link.fenced(&due.database_name, &script).await
    }

    fn away(&mut self, error: &Error) -> Outcome {
        self.link.close();
        Outcome::Away(error.message().to_owned())
    }

    /// The version that the schema says it is at, or what that means where it says something else.
    async fn version_of(&mut self, due: &Due) -> Result<Result<i32, Outcome>> {
        let seen = self.link.seen(&due.database_name, &stem(due.tenant_id)).await?;
        Ok(match seen.mark() {
            _ if !seen.exists => Err(Outcome::Again("the tenant has no schema yet".to_owned())),
            None => Ok(0),
            Some(mark) if mark.template == self.rollout.template => Ok(mark.version),
            Some(mark) => Err(Outcome::Failed(format!("the schema is made of the template {}", mark.template))),
        })
    }

    async fn rolled_back(&mut self, outcome: Outcome) -> Outcome {
        self.link.roll_back().await;
        outcome
    }
}

/// Those behind version `from`.
fn missing<T>(all: &[T], from: i32) -> &[T] {
    &all[usize::try_from(from).unwrap_or_default()..]
}
