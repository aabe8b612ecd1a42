//! What a plane says of a job: written down at once, and acted upon by who works on the tenant.

use serde_json::{Map, Value};

use super::{
    super::Provisioning,
    ApplicationPlane, Job, JobState, Outcome,
    job::Accepted,
    journal,
    store::{self, lock_job},
};
use crate::{
    access::Caller,
    error::{Error, Result},
    isolation::{Conditions, OperatorScope, OperatorTx},
    platform::ids::{PlaneJobId, TenantId},
};

/// An answer, or a sign of life.
#[derive(Clone, Debug)]
pub struct Report {
    pub outcome: Outcome,
    pub message: String,
    /// With PROGRESS alone.
    pub percent: Option<i16>,
    /// With SUCCESS alone.
    pub outputs: Map<String, Value>,
}

/// Characters of a message.
const LONGEST_MESSAGE: usize = 500;
/// Bytes of outputs as JSON.
const LARGEST_OUTPUTS: usize = 8 * 1024;

impl Provisioning {
    /// Takes an answer of the plane's own client: a first one, or the same again.
    ///
    /// Errors: `not_found` where plane, tenant and job do not belong together, or the caller does not answer for the plane; `conflict` at `job`
    /// where it is closed; `invalid_input` with the field and its rule.
    pub async fn report(
        &self,
        scope: &OperatorScope,
        (plane, tenant, id): (&str, TenantId, PlaneJobId),
        report: &Report,
        conditions: &Conditions,
    ) -> Result<Job> {
        check(report)?;
        let tx = self.0.isolation.begin_operator(scope).await?;
        let plane = own_plane(&tx, plane, scope.caller()).await?;
        if tx.first_answer::<PlaneJobId>(conditions).await?.is_some() {
            let job = lock_job(&tx, tenant, id, &plane.name).await?.ok_or_else(|| Error::not_found().at("job"))?;
            tx.commit_unrecorded("a read").await?;
            return Ok(job);
        }
        let now = tx.stamp().at;
        // The tenant before the job, as who works on the tenant does.
        if !store::look_at(&tx, tenant, now).await? {
            return Err(Error::not_found().at("job"));
        }
        let job = lock_job(&tx, tenant, id, &plane.name).await?.ok_or_else(|| Error::not_found().at("job"))?;
        let changed = match job.answer(report, now)? {
            Accepted::Changed(changed) => *changed,
            Accepted::Repeated => {
                tx.rollback().await?;
                return Ok(job);
            }
        };
        store::save_job(&tx, &changed).await?;
        tx.keep_answer(conditions, &id).await?;
        let entry = match changed.state {
            JobState::Succeeded => Some(journal::succeeded(&changed)),
            JobState::Failed => Some(journal::failed(&changed)),
            _ if changed.percent != job.percent => Some(journal::progressed(&changed)),
            _ => None,
        };
        metrics::counter!("tenantry_plane_reports_total", "plane" => plane.name, "outcome" => name_of(report.outcome))
            .increment(1);
        match entry {
            Some(entry) => tx.commit_for(tenant, [entry]).await?,
            // A hundred steps at most are told; that it goes on is seen by its deadline.
            None => tx.commit_unrecorded("a sign of life").await?,
        }
        self.0.nudge.notify_one();
        Ok(changed)
    }
}

/// The plane, to its own client; to all others there is none.
pub(super) async fn own_plane(tx: &OperatorTx, name: &str, caller: &Caller) -> Result<ApplicationPlane> {
    let plane = store::find_plane(tx, name).await?;
    let own = plane.filter(|plane| caller.subject.parse() == Ok(plane.client_id));
    own.ok_or_else(|| Error::not_found().at("plane"))
}

fn check(report: &Report) -> Result<()> {
    let is_text = |text: &str| !text.chars().any(|letter| letter.is_control() && letter != '\n');
    if report.message.chars().count() > LONGEST_MESSAGE || !is_text(&report.message) {
        let rule = format!("has {LONGEST_MESSAGE} characters at most, and no control characters");
        return Err(Error::invalid("message", rule));
    }
    match report.percent {
        Some(_) if report.outcome != Outcome::Progress => {
            return Err(Error::invalid("percent", "is for the outcome PROGRESS"));
        }
        Some(percent) if !(0..=99).contains(&percent) => {
            return Err(Error::invalid("percent", "must be between 0 and 99: what is done is a SUCCESS"));
        }
        _ => {}
    }
    if report.outputs.is_empty() {
        return Ok(());
    }
    if report.outcome != Outcome::Success {
        return Err(Error::invalid("outputs", "are for the outcome SUCCESS"));
    }
    let size = serde_json::to_string(&report.outputs).map_or(usize::MAX, |json| json.len());
    if size > LARGEST_OUTPUTS {
        return Err(Error::invalid("outputs", format!("have {LARGEST_OUTPUTS} bytes of JSON at most, not {size}")));
    }
    // PostgreSQL's jsonb has no such character.
    if Value::Object(report.outputs.clone()).to_string().contains("\\u0000") {
        return Err(Error::invalid("outputs", "must not have the character U+0000"));
    }
    Ok(())
}

fn name_of(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "success",
        Outcome::Failure => "failure",
        Outcome::Progress => "progress",
    }
}
