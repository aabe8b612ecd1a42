//! The planes' part of a tenant's turn: which of them are asked, and in which order.

use std::sync::Arc;

use super::{
    super::{
        Provisioning,
        plan::PlannedLayer,
        state::{Record, Wanted},
        step::Outcome,
        store::{self as layers, Lease},
    },
    ApplicationPlane, Job, Told, duration,
    job::{JobKind, News, Next, Noted, next},
    layer_of,
    step::PlaneStep,
    store,
};
use crate::{cells::Cells, error::Result, isolation::OperatorTx, tenancy::Tenant};

/// What is known of the planes, and of what they have of one tenant.
pub(super) struct Known {
    planes: Vec<ApplicationPlane>,
    jobs: Vec<Job>,
    records: Vec<Record>,
    /// What there is to be known of the tenant.
    told: Told,
}

impl Known {
    /// Not from memory: who was enlisted with a new plane must not be looked at without it.
    async fn read(tx: &OperatorTx, tenant: &Tenant) -> Result<Self> {
        let planes = store::planes(tx).await?;
        if planes.is_empty() {
            return Ok(Self { planes, jobs: Vec::new(), records: Vec::new(), told: Told::default() });
        }
        let (jobs, records) = (store::latest_jobs(tx, tenant.id).await?, layers::records(tx, tenant.id).await?);
        let told = Told::of(tenant, Cells::placement_in(tx, tenant.id).await?.as_ref());
        Ok(Self { planes, jobs, records, told })
    }

    fn job(&self, plane: &ApplicationPlane) -> Option<&Job> {
        self.jobs.iter().find(|job| job.plane == plane.name)
    }

    fn record(&self, plane: &ApplicationPlane) -> Option<&Record> {
        let layer = layer_of(&plane.name);
        self.records.iter().find(|record| record.layer == layer)
    }
}

impl Provisioning {
    /// Asks the planes, or those of them whose turn it is, and notes what they have answered. Nobody waits here: what is not answered yet is
    /// looked at again when it is, or when its deadline has passed.
    pub(in super::super) async fn work_with_planes(&self, lease: &Lease, tenant: &Arc<Tenant>) -> Result<Outcome> {
        let tx = self.begin().await?;
        let known = Known::read(&tx, tenant).await?;
        tx.commit_unrecorded("a read").await?;
        let (serving, leaving): (Vec<_>, Vec<_>) =
            known.planes.iter().partition(|plane| plane.wanted_for(Wanted::Present, tenant) == Wanted::Present);
        match lease.wanted {
            Wanted::Present => {
                // A tenant waits for no plane that serves it no more.
                for plane in leaving {
                    self.step_plane(&self.of_plane(lease, tenant, &known, plane)).await?;
                }
                self.ask_together(lease, tenant, &known, &serving).await
            }
            Wanted::Absent => {
                let all: Vec<_> = known.planes.iter().rev().collect();
                self.ask_together(lease, tenant, &known, &all).await
            }
        }
    }

    /// Those of one position at once; behind who holds the tenant back nobody is asked.
    async fn ask_together(
        &self,
        lease: &Lease,
        tenant: &Arc<Tenant>,
        known: &Known,
        planes: &[&ApplicationPlane],
    ) -> Result<Outcome> {
        for together in planes.chunk_by(|one, other| one.position == other.position) {
            let mut waits = false;
            for plane in together {
                let outcome = self.step_plane(&self.of_plane(lease, tenant, known, plane)).await?;
                let holds = lease.wanted == Wanted::Absent || plane.is_essential;
                waits |= holds && outcome == Outcome::Waiting;
            }
            if waits {
                return Ok(Outcome::Waiting);
            }
        }
        Ok(Outcome::Done)
    }

    fn of_plane<'a>(
        &self,
        lease: &'a Lease,
        tenant: &'a Tenant,
        known: &'a Known,
        plane: &'a ApplicationPlane,
    ) -> PlaneStep<'a> {
        let wanted = plane.wanted_for(lease.wanted, tenant);
        PlaneStep {
            lease,
            plane,
            wanted,
            is_essential: plane.is_essential && wanted == lease.wanted,
            // Behind all layers of this binary.
            position: i16::try_from(self.layers().len()).unwrap_or(i16::MAX).saturating_add(plane.position),
            job: known.job(plane),
            record: known.record(plane),
            told: &known.told,
        }
    }

    /// The planes' part of a dry run.
    pub(in super::super) async fn plan_of_planes(&self, tenant: &Tenant) -> Result<Vec<PlannedLayer>> {
        let tx = self.begin().await?;
        let known = Known::read(&tx, tenant).await?;
        tx.commit_unrecorded("a read").await?;
        let now = self.0.isolation.clock().now();
        let mut planned = Vec::new();
        for plane in &known.planes {
            let wanted = plane.wanted_for(Wanted::Present, tenant);
            let noted = known.record(plane).map(noted).unwrap_or_default();
            let news = News { tenant: &known.told, follows: &plane.follows };
            let next = next(wanted, known.job(plane), noted, news, (now, self.0.rules.plane_removal_attempts));
            if wanted == Wanted::Absent && matches!(next, Next::Nothing | Next::Settled(_) | Next::Unconfirmed) {
                continue;
            }
            planned.push(PlannedLayer {
                layer: layer_of(&plane.name),
                essential: plane.is_essential && wanted == Wanted::Present,
                unavailable: None,
                steps: sentence(plane, next).into_iter().collect(),
            });
        }
        Ok(planned)
    }
}

pub(super) fn noted(record: &Record) -> Noted {
    Noted { attempts: record.attempts, next_attempt_at: record.next_attempt_at }
}

fn sentence(plane: &ApplicationPlane, next: Next) -> Option<String> {
    let (name, within) = (&plane.name, duration::write(plane.deadline));
    let what = match next {
        Next::Nothing | Next::Settled(_) | Next::Unconfirmed => return None,
        Next::Ask { kind: JobKind::Provision, attempt } => {
            let again = if attempt == 1 { "" } else { " again" };
            format!("ask the application plane {name}{again}, which has {within} to answer")
        }
        Next::Ask { kind: JobKind::Deprovision, .. } => {
            format!("ask the application plane {name} to take away what the tenant has there, within {within}")
        }
        Next::Ask { kind: JobKind::Relocate, .. } => {
            format!(
                "tell the application plane {name} where the tenant is by now, and wait for its answer within {within}"
            )
        }
        Next::Ask { kind: JobKind::Activate, .. } => {
            format!(
                "tell the application plane {name} that the tenant is in use again, and wait for its answer within {within}"
            )
        }
        Next::Ask { kind: JobKind::Deactivate, .. } => {
            format!(
                "tell the application plane {name} that the tenant is out of use, and wait for its answer within {within}"
            )
        }
        Next::WaitForAnswer(until) => format!("wait for the application plane {name}, which was asked, until {until}"),
        Next::WaitToAsk(at) => format!("ask the application plane {name} again at {at}"),
        Next::NoteFailure => format!("note that the application plane {name} has failed, and ask it again"),
    };
    Some(what)
}
