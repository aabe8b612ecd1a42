//! One plane of one tenant: asked, waited for, and written down. Each of these is one transaction, and none is open while a plane works.

use serde_json::{Value, json};

use super::{
    super::{
        Provisioning, journal as layers,
        layer::Removed,
        state::{Observed, Record, Wanted, pause},
        step::{Outcome, settle_record},
        store::{self as records, Lease},
        work::{chance, fresh},
    },
    ApplicationPlane, Job, JobKind, JobState, Told,
    job::{News, Next, known, next},
    journal, layer_of, store,
    turn::noted,
};
use crate::{
    error::{Error, Kind, Result},
    isolation::OperatorTx,
    journal::Entry,
    platform::ids::PlaneJobId,
};

/// A plane, what is wanted of it, and what is known.
pub(super) struct PlaneStep<'a> {
    pub(super) lease: &'a Lease,
    pub(super) plane: &'a ApplicationPlane,
    pub(super) wanted: Wanted,
    pub(super) is_essential: bool,
    pub(super) position: i16,
    /// The last one.
    pub(super) job: Option<&'a Job>,
    pub(super) record: Option<&'a Record>,
    /// What there is to be known of the tenant.
    pub(super) told: &'a Told,
}

impl Provisioning {
    pub(super) async fn step_plane(&self, step: &PlaneStep<'_>) -> Result<Outcome> {
        let now = self.0.isolation.clock().now();
        let record = self.record_of(step);
        let most = self.0.rules.plane_removal_attempts;
        let news = News { tenant: step.told, follows: &step.plane.follows };
        match (next(step.wanted, step.job, noted(&record), news, (now, most)), step.job) {
            (Next::Ask { kind, attempt }, _) => self.ask(step, record, kind, attempt).await,
            (Next::WaitForAnswer(until), _) => self.note_waiting(step, record, until).await,
            (Next::WaitToAsk(_), _) => Ok(Outcome::Waiting),
            (Next::NoteFailure, Some(job)) => self.note_failed_job(step, record, job).await,
            (Next::Settled(JobKind::Provision), Some(job)) => self.note_provided(step, record, job).await,
            (Next::Settled(JobKind::Deprovision), Some(job)) => self.note_let_go(step, record, job).await,
            (Next::Unconfirmed, Some(job)) => self.note_unconfirmed(step, record, job).await,
            (Next::Nothing | Next::NoteFailure | Next::Settled(_) | Next::Unconfirmed, _) => Ok(Outcome::Done),
        }
    }

    /// The layer as it was noted, with what is wanted now.
    fn record_of(&self, step: &PlaneStep<'_>) -> Record {
        let now = self.0.isolation.clock().now();
        let known = step.record.cloned();
        let mut record = known.unwrap_or_else(|| fresh(&layer_of(&step.plane.name), step.wanted, now));
        (record.wanted, record.position, record.essential) = (step.wanted, step.position, step.is_essential);
        record
    }

    async fn ask(&self, step: &PlaneStep<'_>, mut record: Record, kind: JobKind, attempt: i32) -> Result<Outcome> {
        let tx = self.begin().await?;
        self.stand(&tx, step.lease).await?;
        let now = tx.stamp().at;
        let mut entries = Vec::new();
        if let Some(open) = step.job.filter(|job| job.state == JobState::Open) {
            if !is_as_seen(&tx, open).await? {
                return self.look_later(tx).await;
            }
            let withdrawn = Job { state: JobState::Withdrawn, closed_at: Some(now), ..open.clone() };
            store::save_job(&tx, &withdrawn).await?;
            entries.push(journal::withdrawn(&withdrawn));
        }
        let job = Job {
            tenant_id: step.lease.tenant_id,
            job_id: PlaneJobId::generate(),
            plane: step.plane.name.clone(),
            kind,
            state: JobState::Open,
            attempt,
            issued_at: now,
            deadline: now + step.plane.deadline,
            latest: now + step.plane.longest,
            patience_seconds: step.plane.deadline.num_seconds(),
            percent: None,
            message: String::new(),
            outputs: json!({}),
            told: known(step.job).after(kind, step.told),
            closed_at: None,
        };
        if !store::insert_job(&tx, &job).await? {
            return self.look_later(tx).await;
        }
        self.turn(&mut record, Observed::Waiting);
        if attempt == 1 {
            settle_record(&mut record);
        }
        (record.attempts, record.next_attempt_at) = (attempt.saturating_sub(1), Some(job.deadline));
        metrics::counter!("tenantry_plane_jobs_total", "plane" => step.plane.name.clone()).increment(1);
        entries.push(journal::issued(&job));
        self.save(tx, step.lease, &record, entries).await?;
        Ok(Outcome::Waiting)
    }

    async fn note_waiting(
        &self,
        step: &PlaneStep<'_>,
        mut record: Record,
        until: chrono::DateTime<chrono::Utc>,
    ) -> Result<Outcome> {
        self.turn(&mut record, Observed::Waiting);
        record.next_attempt_at = Some(until);
        self.save_if_new(step, &record).await?;
        Ok(Outcome::Waiting)
    }

    /// It has said so, or its deadline has passed: the same for the tenant, and asked for again.
    async fn note_failed_job(&self, step: &PlaneStep<'_>, mut record: Record, job: &Job) -> Result<Outcome> {
        let tx = self.begin().await?;
        self.stand(&tx, step.lease).await?;
        if !is_as_seen(&tx, job).await? {
            return self.look_later(tx).await;
        }
        let (now, mut job, mut entries) = (tx.stamp().at, job.clone(), Vec::new());
        if job.state == JobState::Open {
            (job.state, job.closed_at) = (JobState::Expired, Some(now));
            store::save_job(&tx, &job).await?;
            entries.push(journal::expired(&job));
        }
        let error = Error::new(Kind::Unavailable, job.failure());
        tracing::warn!(tenant = %job.tenant_id, layer = record.layer, %error, attempts = job.attempt, "an application plane failed; it is asked again");
        metrics::counter!("tenantry_plane_failures_total", "plane" => job.plane.clone()).increment(1);
        if record.last_error != error.message() {
            entries.push(layers::failed(&record.layer, &error));
        }
        if record.essential && job.attempt == 1 && !job.kind.is_news() {
            entries.push(match record.wanted {
                Wanted::Present => layers::provisioning_failed(job.tenant_id, &record.layer),
                Wanted::Absent => layers::removal_failed(job.tenant_id, &record.layer),
            });
        }
        self.turn(&mut record, Observed::Unknown);
        record.attempts = job.attempt;
        record.last_error = error.message().to_owned();
        let rules = &self.0.rules;
        record.next_attempt_at = Some(now + pause(job.attempt, rules.first_retry, rules.longest_retry, chance()));
        self.save(tx, step.lease, &record, entries).await?;
        if job.kind == JobKind::Deprovision && job.attempt >= rules.plane_removal_attempts {
            return self.note_unconfirmed(step, record, &job).await;
        }
        Ok(Outcome::Waiting)
    }

    async fn note_provided(&self, step: &PlaneStep<'_>, mut record: Record, job: &Job) -> Result<Outcome> {
        let is_news = record.observed != Observed::Present;
        self.turn(&mut record, Observed::Present);
        settle_record(&mut record);
        record.verified_at = job.closed_at;
        // What is told later may be answered without saying all again.
        if !job.kind.is_news() || job.outputs.as_object().is_some_and(|outputs| !outputs.is_empty()) {
            record.facts = json!({ "outputs": job.outputs });
        }
        if !is_news {
            self.save_if_new(step, &record).await?;
            return Ok(Outcome::Done);
        }
        let told: Vec<_> = Some(job.message.clone()).filter(|message| !message.is_empty()).into_iter().collect();
        self.note(step, &record, layers::ready(&record.layer, &told)).await
    }

    async fn note_let_go(&self, step: &PlaneStep<'_>, mut record: Record, job: &Job) -> Result<Outcome> {
        if record.observed == Observed::Absent {
            return Ok(Outcome::Done);
        }
        let removed = Removed::of([("confirmations", 1)]);
        self.end(&mut record, json!({ "removed": removed }));
        tracing::debug!(tenant = %job.tenant_id, layer = record.layer, "an application plane has let go of a tenant");
        self.note(step, &record, layers::removed(&record.layer, &removed)).await
    }

    /// Nobody knows what is left there; the tenant's removal goes on, and says so.
    async fn note_unconfirmed(&self, step: &PlaneStep<'_>, mut record: Record, job: &Job) -> Result<Outcome> {
        if record.observed == Observed::Absent {
            return Ok(Outcome::Done);
        }
        tracing::error!(tenant = %job.tenant_id, layer = record.layer, attempts = job.attempt, "an application plane does not confirm that it has let go of a tenant; what it has must be taken away by hand");
        let why = record.last_error.clone();
        self.end(&mut record, json!({ "removed": {}, "unconfirmed": true }));
        record.last_error = why;
        self.note(step, &record, journal::unconfirmed(job)).await
    }

    fn end(&self, record: &mut Record, facts: Value) {
        self.turn(record, Observed::Absent);
        settle_record(record);
        (record.verified_at, record.facts) = (None, facts);
    }

    async fn note(&self, step: &PlaneStep<'_>, record: &Record, entry: Entry) -> Result<Outcome> {
        let tx = self.begin().await?;
        self.stand(&tx, step.lease).await?;
        self.save(tx, step.lease, record, vec![entry]).await?;
        Ok(Outcome::Done)
    }

    async fn save_if_new(&self, step: &PlaneStep<'_>, record: &Record) -> Result<()> {
        if step.record == Some(record) {
            return Ok(());
        }
        let tx = self.begin().await?;
        self.stand(&tx, step.lease).await?;
        records::save(&tx, step.lease.tenant_id, record).await?;
        tx.commit_unrecorded("what was seen is as before").await
    }

    /// A tenant that has had its whole environment keeps being provided, whatever plane is new to it.
    async fn save(&self, tx: OperatorTx, lease: &Lease, record: &Record, entries: Vec<Entry>) -> Result<()> {
        records::save(&tx, lease.tenant_id, record).await?;
        tx.commit_for(lease.tenant_id, entries).await
    }

    /// Somebody was faster: who answers a job has the tenant looked at again.
    async fn look_later(&self, tx: OperatorTx) -> Result<Outcome> {
        tx.rollback().await?;
        Ok(Outcome::Waiting)
    }
}

/// Whether nobody has answered the job since it was read; nobody does until the transaction ends.
async fn is_as_seen(tx: &OperatorTx, job: &Job) -> Result<bool> {
    Ok(store::lock_job(tx, job.tenant_id, job.job_id, &job.plane).await?.as_ref() == Some(job))
}
