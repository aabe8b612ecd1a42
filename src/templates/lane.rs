//! One lane of a rollout: one connection to a cell, one tenant after the other; written down in the registry by the hundred.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    Templates,
    apply::{Outcome, Work},
    link::Link,
    plain::plain,
    rollout::Rollout,
    rollout_store::{self, Due, Lane, Report, TenantState},
    store,
    work::is_running,
};
use crate::{
    error::{Context as _, Result},
    journal::Entry,
    platform::random,
};

/// Why a batch is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    BrokenOff,
    CellAway,
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
            let is_last = batch.len() < self.0.rules.batch as usize;
            let (reports, end) = self.apply_all(&mut work, batch, stop).await;
            // Counting all tenants of a rollout behind each batch would cost a large one more than the batches.
            let may_turn = is_last || reports.iter().any(|report| report.state != TenantState::Applied);
            self.write_down(&work.rollout, reports).await?;
            if may_turn {
                self.advance(lane.rollout).await?;
            }
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
        rollout_store::look_up(&tx).await?;
        let now = tx.stamp().at;
        work.rollout = rollout_store::lock(&tx, lane.rollout).await?.context("find the rollout")?;
        let until = self.until(&work.rollout, now);
        if !is_running(&work.rollout) || !rollout_store::hold(&tx, lane, until).await? {
            tx.rollback().await?;
            return Ok(Vec::new());
        }
        let batch = rollout_store::take(&tx, &work.rollout, lane, now, self.0.rules.batch).await?;
        tx.commit_unrecorded("leases").await?;
        Ok(batch)
    }

    /// One after the other, for at most half of a lease; breaks off where one fails, so that it is known before more do.
    async fn apply_all(&self, work: &mut Work, batch: Vec<Due>, stop: &CancellationToken) -> (Vec<Report>, End) {
        let begun = Instant::now();
        let mut reports = Vec::with_capacity(batch.len());
        let mut end = End::Done;
        for group in work.groups(&batch) {
            let is_begun = end == End::Done && !self.is_over(begun, stop);
            let together = if is_begun { work.apply_together(group).await } else { Outcome::NotTried };
            let is_each = matches!(together, Outcome::NotTried);
            for due in group {
                if end == End::Done && is_each && self.is_over(begun, stop) {
                    end = End::BrokenOff;
                }
                let outcome = match end {
                    End::Done if is_each => work.apply(due).await,
                    End::Done => together.clone(),
                    End::BrokenOff => Outcome::NotTried,
                    End::CellAway => Outcome::Away("the cell does not answer".to_owned()),
                };
                match &outcome {
                    Outcome::Failed(_) => end = End::BrokenOff,
                    Outcome::Away(_) => end = End::CellAway,
                    _ => {}
                }
                reports.push(self.report(work, due, outcome));
            }
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

    fn is_over(&self, begun: Instant, stop: &CancellationToken) -> bool {
        stop.is_cancelled() || begun.elapsed() > self.0.rules.lease / 2
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
        rollout_store::look_up(&tx).await?;
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
