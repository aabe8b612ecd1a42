//! What a plane is asked for, and what may be said to it: pure decisions on plain values.

use async_graphql::Enum;
use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{DeriveActiveEnum, EnumIter, FromQueryResult};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{super::state::Wanted, Interest, Report, Told};
use crate::{
    error::{Error, Result},
    platform::ids::{PlaneJobId, TenantId},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "ProvisioningJobKind")]
pub enum JobKind {
    /// Make the tenant's part.
    Provision,
    /// Take it away.
    Deprovision,
    /// The tenant's data is on another cell by now, or it has another tier: `dataRegion`, and `dataplaneCredentials` of its services.
    Relocate,
    /// The tenant is in use again.
    Activate,
    /// The tenant is out of use: suspended, archived or deleted. What it has stays.
    Deactivate,
}

impl JobKind {
    pub(super) fn towards(wanted: Wanted) -> Self {
        match wanted {
            Wanted::Present => Self::Provision,
            Wanted::Absent => Self::Deprovision,
        }
    }

    /// What is wanted of a plane that is asked for this.
    fn serves(self) -> Wanted {
        if self == Self::Deprovision { Wanted::Absent } else { Wanted::Present }
    }

    /// Whether it tells something of a tenant that the plane has.
    pub(super) fn is_news(self) -> bool {
        !matches!(self, Self::Provision | Self::Deprovision)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "ProvisioningJobState")]
pub enum JobState {
    /// It waits for an answer.
    Open,
    Succeeded,
    Failed,
    /// Its deadline passed without an answer.
    Expired,
    /// The opposite was wanted before it was answered.
    Withdrawn,
}

/// What a plane says of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[graphql(name = "ProvisioningOutcome")]
pub enum Outcome {
    /// It is done.
    Success,
    /// It cannot be done now; it is asked for again, later, as another job.
    Failure,
    /// It is being done, and needs more time: the deadline is put off.
    Progress,
}

/// A row of `plane_jobs`.
#[derive(Clone, Debug, PartialEq, FromQueryResult)]
pub struct Job {
    pub tenant_id: TenantId,
    pub job_id: PlaneJobId,
    pub plane: String,
    pub kind: JobKind,
    pub state: JobState,
    pub attempt: i32,
    pub issued_at: DateTime<Utc>,
    pub deadline: DateTime<Utc>,
    pub latest: DateTime<Utc>,
    pub patience_seconds: i64,
    pub percent: Option<i16>,
    pub message: String,
    pub outputs: Value,
    /// What the plane knows of the tenant once this is done.
    pub told: Told,
    pub closed_at: Option<DateTime<Utc>>,
}

/// What a report comes to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Accepted {
    /// The job as it is from now on.
    Changed(Box<Job>),
    /// It was said before.
    Repeated,
}

impl Job {
    /// Errors: `conflict` for a job that is closed and was answered otherwise, with what to do; `invalid_input` at `percent` where it would
    /// fall.
    pub(super) fn answer(&self, report: &Report, now: DateTime<Utc>) -> Result<Accepted> {
        match self.state {
            JobState::Open if now < self.deadline => {
                self.accept(report, now).map(|job| Accepted::Changed(Box::new(job)))
            }
            JobState::Open | JobState::Expired => Err(self.closed("its deadline passed before it was answered")),
            JobState::Withdrawn => Err(self.closed("it was withdrawn, as the opposite is wanted by now")),
            JobState::Succeeded | JobState::Failed if self.is_told_again(report) => Ok(Accepted::Repeated),
            JobState::Succeeded => Err(self.closed("it was answered with SUCCESS before, and its answer stands")),
            JobState::Failed => Err(self.closed("it was answered with FAILURE before, and its answer stands")),
        }
    }

    fn accept(&self, report: &Report, now: DateTime<Utc>) -> Result<Self> {
        let mut job = self.clone();
        job.message.clone_from(&report.message);
        match report.outcome {
            Outcome::Progress => {
                job.percent = report.percent.or(self.percent);
                if job.percent < self.percent {
                    let percent = self.percent.unwrap_or_default();
                    return Err(Error::invalid("percent", format!("must not fall: {percent} was reported before")));
                }
                job.deadline = self.deadline.max((now + TimeDelta::seconds(self.patience_seconds)).min(self.latest));
            }
            Outcome::Success => {
                (job.state, job.closed_at, job.percent) = (JobState::Succeeded, Some(now), Some(100));
                job.outputs = Value::Object(report.outputs.clone());
            }
            Outcome::Failure => (job.state, job.closed_at) = (JobState::Failed, Some(now)),
        }
        Ok(job)
    }

    fn is_told_again(&self, report: &Report) -> bool {
        match report.outcome {
            Outcome::Success => {
                self.state == JobState::Succeeded && self.outputs == Value::Object(report.outputs.clone())
            }
            Outcome::Failure => self.state == JobState::Failed,
            Outcome::Progress => false,
        }
    }

    fn closed(&self, why: &str) -> Error {
        let rule = format!("the job {} is closed: {why}; `provisioningJobs` has the jobs that are open", self.job_id);
        Error::conflict(rule).at("job").with(json!({ "state": self.state, "closedAt": self.closed_at }))
    }

    /// Why a job of this kind that came to nothing is tried again.
    pub(super) fn failure(&self) -> String {
        match self.state {
            JobState::Failed if self.message.is_empty() => format!("the application plane {} failed", self.plane),
            JobState::Failed => format!("the application plane {} failed: {}", self.plane, self.message),
            _ => format!("the application plane {} did not answer by its deadline", self.plane),
        }
    }
}

/// What is to be done with a plane for one tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It has nothing of the tenant's, and is to have nothing.
    Nothing,
    Ask {
        kind: JobKind,
        attempt: i32,
    },
    /// It has been asked, and may answer until then.
    WaitForAnswer(DateTime<Utc>),
    /// It failed a short while ago.
    WaitToAsk(DateTime<Utc>),
    /// The deadline has passed, or it has answered that it failed.
    NoteFailure,
    /// It has done what is wanted.
    Settled(JobKind),
    /// It has not taken away what it had to, as often as it was asked.
    Unconfirmed,
}

/// What was noted of the layer so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Noted {
    /// Failures in a row.
    pub(super) attempts: i32,
    pub(super) next_attempt_at: Option<DateTime<Utc>>,
}

/// What is to be known of a tenant, and what of that its plane wants to be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct News<'a> {
    pub(super) tenant: &'a Told,
    pub(super) follows: &'a [Interest],
}

/// `latest` is the last job of the tenant and the plane; a removal is asked for `most` times.
pub(super) fn next(
    wanted: Wanted,
    latest: Option<&Job>,
    noted: Noted,
    news: News<'_>,
    (now, most): (DateTime<Utc>, i32),
) -> Next {
    let kind = JobKind::towards(wanted);
    let first = |kind| Next::Ask { kind, attempt: 1 };
    let Some(job) = latest else {
        return if wanted == Wanted::Present { first(kind) } else { Next::Nothing };
    };
    if job.kind.serves() != wanted {
        return first(kind);
    }
    let told = known(Some(job)).news(news.tenant, news.follows).filter(|_| wanted == Wanted::Present);
    match job.state {
        // The opposite has come about since, and is told in its place.
        JobState::Open if told.is_some() && job.told.is_old(job.kind, news.tenant) => first(told.unwrap_or(kind)),
        JobState::Open if now < job.deadline => Next::WaitForAnswer(job.deadline),
        JobState::Succeeded => told.map_or(Next::Settled(kind), first),
        JobState::Withdrawn if job.kind.is_news() => told.map_or(Next::Settled(kind), first),
        JobState::Withdrawn => first(kind),
        JobState::Open => Next::NoteFailure,
        JobState::Failed | JobState::Expired if noted.attempts < job.attempt => Next::NoteFailure,
        JobState::Failed | JobState::Expired if job.kind.is_news() && told != Some(job.kind) => {
            told.map_or(Next::Settled(kind), first)
        }
        JobState::Failed | JobState::Expired if kind == JobKind::Deprovision && job.attempt >= most => {
            Next::Unconfirmed
        }
        JobState::Failed | JobState::Expired => match noted.next_attempt_at {
            Some(at) if now < at => Next::WaitToAsk(at),
            _ => Next::Ask { kind: job.kind, attempt: job.attempt.saturating_add(1) },
        },
    }
}

/// What a plane knows for certain of the tenant, by the last job.
pub(super) fn known(latest: Option<&Job>) -> Told {
    match latest {
        None => Told::default(),
        Some(job) if job.state == JobState::Succeeded => job.told.clone(),
        Some(job) => job.told.clone().without(job.kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn minutes(count: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::minutes(count)
    }

    fn job(kind: JobKind, state: JobState, attempt: i32) -> Job {
        Job {
            tenant_id: TenantId::PLATFORM,
            job_id: PlaneJobId::from_uuid(uuid::Uuid::nil()),
            plane: "shop".to_owned(),
            kind,
            state,
            attempt,
            issued_at: minutes(0),
            deadline: minutes(10),
            latest: minutes(25),
            patience_seconds: 600,
            percent: None,
            message: String::new(),
            outputs: json!({}),
            told: Told { place: None, in_use: Some(true) },
            closed_at: (state != JobState::Open).then(|| minutes(5)),
        }
    }

    fn report(outcome: Outcome) -> Report {
        Report { outcome, message: String::new(), percent: None, outputs: serde_json::Map::new() }
    }

    #[test]
    fn what_is_wanted_and_the_last_job_say_what_is_next() {
        use JobKind::{Deprovision, Provision};
        use JobState::{Expired, Failed, Open, Succeeded, Withdrawn};
        let noted = |attempts, next| Noted { attempts, next_attempt_at: next };
        let tenant = Told { place: None, in_use: Some(true) };
        let news = News { tenant: &tenant, follows: &[Interest::Moves, Interest::Activation] };
        let then = |wanted, job: Option<&Job>, noted, now| next(wanted, job, noted, news, (minutes(now), 3));
        let (present, absent, none) = (Wanted::Present, Wanted::Absent, noted(0, None));
        assert_eq!(then(present, None, none, 1), Next::Ask { kind: Provision, attempt: 1 });
        assert_eq!(then(absent, None, none, 1), Next::Nothing);
        let open = job(Provision, Open, 1);
        assert_eq!(then(present, Some(&open), none, 9), Next::WaitForAnswer(minutes(10)));
        assert_eq!(then(present, Some(&open), none, 10), Next::NoteFailure);
        for state in [Open, Succeeded, Failed, Expired, Withdrawn] {
            let first = Next::Ask { kind: Deprovision, attempt: 1 };
            assert_eq!(then(absent, Some(&job(Provision, state, 4)), none, 1), first, "{state:?}");
        }
        for state in [Failed, Expired] {
            let failed = job(Provision, state, 2);
            assert_eq!(then(present, Some(&failed), noted(1, None), 11), Next::NoteFailure);
            assert_eq!(then(present, Some(&failed), noted(2, Some(minutes(12))), 11), Next::WaitToAsk(minutes(12)));
            let again = Next::Ask { kind: Provision, attempt: 3 };
            assert_eq!(then(present, Some(&failed), noted(2, Some(minutes(12))), 12), again);
            assert_eq!(then(present, Some(&failed), noted(2, None), 11), again, "nothing is left to wait for");
            let last = job(Deprovision, state, 3);
            assert_eq!(then(absent, Some(&last), noted(2, None), 11), Next::NoteFailure);
            assert_eq!(then(absent, Some(&last), noted(3, Some(minutes(60))), 11), Next::Unconfirmed);
        }
        let gone = job(Deprovision, Succeeded, 1);
        assert_eq!(then(absent, Some(&gone), none, 11), Next::Settled(Deprovision));
        assert_eq!(then(present, Some(&gone), none, 11), Next::Ask { kind: Provision, attempt: 1 });
    }

    #[test]
    fn what_has_come_about_since_is_told_until_it_is_known_and_the_opposite_in_its_place() {
        use JobKind::{Activate, Deactivate, Deprovision, Provision};
        let (used, unused) = (Told { place: None, in_use: Some(true) }, Told { place: None, in_use: Some(false) });
        let both = [Interest::Moves, Interest::Activation];
        let then = |latest: &Job, tenant: &Told, follows: &[Interest], attempts| {
            let noted = Noted { attempts, next_attempt_at: None };
            next(Wanted::Present, Some(latest), noted, News { tenant, follows }, (minutes(1), 3))
        };
        let first = |kind| Next::Ask { kind, attempt: 1 };
        let made = job(Provision, JobState::Succeeded, 1);
        assert_eq!(then(&made, &used, &both, 0), Next::Settled(Provision));
        assert_eq!(then(&made, &unused, &both, 0), first(Deactivate));
        assert_eq!(then(&made, &unused, &[Interest::Moves], 0), Next::Settled(Provision));
        let told = |kind, state, told: &Told| Job { told: told.clone(), ..job(kind, state, 1) };
        let open = told(Deactivate, JobState::Open, &unused);
        assert_eq!(then(&open, &unused, &both, 0), Next::WaitForAnswer(minutes(10)));
        assert_eq!(then(&open, &used, &both, 0), first(Activate), "whether or not it did the other");
        assert_eq!(then(&told(Deactivate, JobState::Succeeded, &unused), &unused, &both, 0), Next::Settled(Provision));
        for state in [JobState::Failed, JobState::Expired] {
            let failed = told(Deactivate, state, &unused);
            assert_eq!(then(&failed, &unused, &both, 0), Next::NoteFailure);
            assert_eq!(then(&failed, &unused, &both, 1), Next::Ask { kind: Deactivate, attempt: 2 });
            assert_eq!(then(&failed, &used, &both, 1), first(Activate));
            assert_eq!(then(&failed, &unused, &[], 1), Next::Settled(Provision), "it does not want to know");
        }
        assert_eq!(then(&told(Deactivate, JobState::Withdrawn, &unused), &used, &both, 0), first(Activate));
        // A plane that lets go of a tenant is told nothing of it.
        let news = News { tenant: &unused, follows: &both };
        let gone = next(Wanted::Absent, Some(&made), Noted::default(), news, (minutes(1), 3));
        assert_eq!(gone, first(Deprovision));
    }

    #[test]
    fn an_answer_is_taken_once_and_before_the_deadline() {
        let open = job(JobKind::Provision, JobState::Open, 1);
        let Accepted::Changed(done) = open.answer(&report(Outcome::Success), minutes(9)).unwrap() else { panic!() };
        assert_eq!((done.state, done.closed_at), (JobState::Succeeded, Some(minutes(9))));
        assert_eq!(done.answer(&report(Outcome::Success), minutes(90)).unwrap(), Accepted::Repeated);
        for other in [Outcome::Failure, Outcome::Progress] {
            let refused = done.answer(&report(other), minutes(9)).unwrap_err();
            assert_eq!((refused.kind(), refused.field()), (Kind::Conflict, Some("job")));
        }
        let others = [("address", json!("https://other.example"))].map(|(name, value)| (name.to_owned(), value));
        let different = Report { outputs: others.into_iter().collect(), ..report(Outcome::Success) };
        assert_eq!(done.answer(&different, minutes(9)).unwrap_err().kind(), Kind::Conflict);
        let late = open.answer(&report(Outcome::Success), minutes(10)).unwrap_err();
        assert!(late.message().contains("deadline"), "{late}");
        for state in [JobState::Expired, JobState::Withdrawn] {
            let closed = job(JobKind::Provision, state, 1);
            assert_eq!(closed.answer(&report(Outcome::Success), minutes(1)).unwrap_err().kind(), Kind::Conflict);
        }
    }

    #[test]
    fn a_sign_of_life_puts_the_deadline_off_within_bounds_and_percent_never_falls() {
        let mut open = job(JobKind::Provision, JobState::Open, 1);
        for (now, percent, deadline) in [(5, Some(10), 15), (14, Some(10), 24), (20, Some(80), 25), (24, Some(90), 25)]
        {
            let told = Report { percent, ..report(Outcome::Progress) };
            let Accepted::Changed(job) = open.answer(&told, minutes(now)).unwrap() else { panic!() };
            assert_eq!((job.deadline, job.percent), (minutes(deadline), percent), "at {now}");
            open = *job;
        }
        let falling = Report { percent: Some(50), ..report(Outcome::Progress) };
        assert_eq!(open.answer(&falling, minutes(24)).unwrap_err().field(), Some("percent"));
        assert!(open.answer(&report(Outcome::Success), minutes(25)).is_err());
    }
}
