//! Application planes: programs of the platform's operators that make a part of tenants' environments outside of Tenantry, and
//! say when it is done. To the reconciler each is a layer, `plane:<name>`, that stands on all others.
//!
//! *Owns*: `application_planes`, `plane_jobs`. *Rules*: what a plane is asked for is a job with a deadline, and one job at a time is
//! open for a tenant and a plane; only the plane's own client answers it, once, and before its deadline; nobody waits for a plane but by
//! `due_at` of the tenant; a plane that never answers holds up neither other tenants nor, in the end, the removal of its own.
//!
//! *Emits*: ApplicationPlaneRegistered, ApplicationPlaneChanged, ApplicationPlaneRetired; PlaneJobIssued, PlaneJobProgressed,
//! PlaneJobSucceeded, PlaneJobFailed, PlaneJobExpired, PlaneJobWithdrawn.

mod catalogue;
mod duration;
pub mod graphql;
mod job;
mod journal;
mod list;
mod plane;
mod report;
mod step;
mod store;
mod told;
mod turn;
mod watch;

pub use self::{
    catalogue::{Change, NewPlane},
    job::{Job, JobKind, JobState, Outcome},
    plane::ApplicationPlane,
    report::Report,
    told::{Interest, Told},
};
pub(super) use self::{
    plane::{is_of_plane, layer_of},
    store::latest_jobs,
};
