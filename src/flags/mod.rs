//! Feature flags: what a tenant is given, decided from memory.
//!
//! *Owns*: `flags`, `flag_segments`, `flag_values`, `flag_change_requests`. *Rules*: definitions and segments are the
//! platform's, values are a tenant's; what a flag is for a tenant is decided by `evaluate.rs` and nowhere else, on plain values;
//! answers come from the snapshots and name the versions they were decided on; a definition that cannot be evaluated (a
//! circle, a segment that is not there, a value of another type) is refused when it is written.
//!
//! *Emits*: FlagDefined, FlagUpdated, FlagArchived, FlagRestored, FlagSegmentDefined, FlagSegmentRemoved; FlagSet, FlagCleared,
//! FlagChangeRequested, FlagChangeApproved, FlagChangeRejected.

mod bucket;
mod change_request;
mod check;
mod condition;
mod define;
mod evaluate;
mod flag;
pub mod graphql;
pub mod http;
mod known;
mod segment;
mod set;
mod setting;
mod store;
mod view;

pub use self::{
    bucket::BUCKETS,
    change_request::{ChangeRequest, ChangeStatus},
    condition::{Attribute, Condition, Facts, Operator},
    define::{Archive, NewSegment},
    evaluate::{Evaluator, Reason, Source, Subject, Verdict},
    flag::{Approval, Flag, Kind, Lifecycle},
    known::{Definitions, Settings},
    segment::Segment,
    set::{Answer, NewSetting, Outcome},
    setting::Setting,
    view::View,
};
use crate::{isolation::Isolation, tenancy::Tenancy};

/// The handle of this capability. Clones share it.
#[derive(Clone, Debug)]
pub struct Flags {
    isolation: Isolation,
    tenancy: Tenancy,
}

impl Flags {
    pub fn new(isolation: Isolation, tenancy: Tenancy) -> Self {
        tenancy.snapshots().keep_of_platform::<Definitions>();
        tenancy.snapshots().keep_of_tenants::<Settings>();
        Self { isolation, tenancy }
    }
}
