//! How a tenant is served: its outages, and the availability that was reached beside the one promised.
//!
//! *Owns*: `outages`. *Rules*: a month is a calendar month in UTC; maintenance is no downtime, outages that overlap count
//! once; what was reached is never rounded up; a report made by mistake is withdrawn, and stays to be seen.
//!
//! *Emits*: OutageReported, OutageEnded, OutageWithdrawn.

mod attainment;
pub mod graphql;
mod month;
mod outage;
mod report;
mod store;

pub use self::{
    attainment::SlaAttainment,
    month::Month,
    outage::{NewOutage, Outage, OutageKind},
};
use crate::{isolation::Isolation, tenancy::Tenancy};

/// The handle of this capability. Clones share it.
#[derive(Clone, Debug)]
pub struct Health {
    isolation: Isolation,
    tenancy: Tenancy,
}

impl Health {
    pub fn new(isolation: Isolation, tenancy: Tenancy) -> Self {
        Self { isolation, tenancy }
    }
}
