//! What is journaled of planes' jobs, in the tenant's journal: with the names that AWS SaaS Builder Toolkit has for what its control plane asks
//! and application planes answer (`DetailType` of its event manager).

use serde_json::{Value, json};

use super::{Job, JobKind, layer_of};
use crate::journal::Entry;

fn entry(event: &'static str, job: &Job, sbt: Option<&str>, more: Value) -> Entry {
    let mut after = json!({ "layer": layer_of(&job.plane), "plane": job.plane, "job": job.job_id, "kind": job.kind });
    if let Some(sbt) = sbt {
        after["sbt"] = sbt.into();
    }
    for (name, value) in more.as_object().into_iter().flatten() {
        after[name] = value.clone();
    }
    Entry { after: Some(after), ..Entry::new(event, "provisioningJob", job.job_id) }
}

pub(super) fn issued(job: &Job) -> Entry {
    let sbt = match job.kind {
        JobKind::Provision => Some("onboardingRequest"),
        JobKind::Deprovision => Some("offboardingRequest"),
        JobKind::Activate => Some("activateRequest"),
        JobKind::Deactivate => Some("deactivateRequest"),
        JobKind::Relocate => None,
    };
    entry("PlaneJobIssued", job, sbt, json!({ "attempt": job.attempt, "deadline": job.deadline }))
}

pub(super) fn progressed(job: &Job) -> Entry {
    let more = json!({ "percent": job.percent, "message": job.message, "deadline": job.deadline });
    entry("PlaneJobProgressed", job, None, more)
}

/// Outputs are kept with the job alone.
pub(super) fn succeeded(job: &Job) -> Entry {
    let sbt = match job.kind {
        JobKind::Provision => Some("provisionSuccess"),
        JobKind::Deprovision => Some("deprovisionSuccess"),
        JobKind::Activate => Some("activateSuccess"),
        JobKind::Deactivate => Some("deactivateSuccess"),
        JobKind::Relocate => None,
    };
    entry("PlaneJobSucceeded", job, sbt, json!({ "message": job.message }))
}

pub(super) fn failed(job: &Job) -> Entry {
    entry("PlaneJobFailed", job, failure(job.kind), json!({ "message": job.message }))
}

pub(super) fn expired(job: &Job) -> Entry {
    entry("PlaneJobExpired", job, failure(job.kind), json!({ "deadline": job.deadline }))
}

pub(super) fn withdrawn(job: &Job) -> Entry {
    entry("PlaneJobWithdrawn", job, None, json!({}))
}

/// The plane was asked as often as is asked, and did not say that it took away what it had to.
pub(super) fn unconfirmed(job: &Job) -> Entry {
    let layer = layer_of(&job.plane);
    let after = json!({ "layer": layer, "plane": job.plane, "attempts": job.attempt, "error": job.failure() });
    Entry { after: Some(after), ..Entry::new("LayerRemovalUnconfirmed", "layer", layer) }
}

fn failure(kind: JobKind) -> Option<&'static str> {
    match kind {
        JobKind::Provision => Some("provisionFailure"),
        JobKind::Deprovision => Some("deprovisionFailure"),
        JobKind::Activate => Some("activateFailure"),
        JobKind::Deactivate => Some("deactivateFailure"),
        JobKind::Relocate => None,
    }
}
