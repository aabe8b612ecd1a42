//! What a tenant may have, how much of it is used, and promises of more.
//!
//! *Owns*: `quota_keys`, `quota_overrides`, `quota_boosts`, `quota_usage`, `quota_reservations`, `quota_settlements`, `quota_burns`.
//! *Rules*: a limit is the catalogue's default, then the plan's, then the contract's, with boosts and grants on top (`limit.rs`); how
//! much of a grant a period burns is settled in `settle.rs`; whether something fits is decided
//! in `ledger.rs`, on rows that are locked, against limits as new as the rows; an answer is given after its commit,
//! or out of a lease that was committed (`leases.rs`).
//!
//! *Emits*: QuotaDefined, QuotaRedefined, QuotaSet, QuotaCleared, QuotaBoosted, QuotaBoostEnded, QuotaLimitPassed, GrantBurnt.

mod allowance;
mod allowing;
mod batch;
mod ceiling;
mod counted;
mod defining;
mod desk;
mod freeing;
mod granted;
pub mod graphql;
mod key;
mod known;
mod leases;
mod leasing;
mod ledger;
mod limit;
mod page;
mod reckoning;
mod settle;
mod settling;
mod store;
mod ticket;
mod usage;
mod window;

use std::sync::Arc;

use futures::FutureExt as _;

pub use self::{
    allowance::{Allowances, Boost, Override},
    allowing::{NewBoost, NewOverride},
    batch::{Answer, Standing},
    key::{Enforcement, Kind, Period, QuotaKey, QuotaKeys},
    ledger::{Reservation, State},
    limit::{Limit, Source, Step, steps},
    page::PageQuotas,
    reckoning::{Reckoned, Reckoning},
    usage::{Line, Preview, Quota},
};
use self::{desk::Desk, ticket::Stamp};
use crate::{config, isolation::Isolation, keys::MasterKey, tenancy::Tenancy};

/// The handle of this capability. Clones share it.
#[derive(Clone, Debug)]
pub struct Quotas {
    isolation: Isolation,
    tenancy: Tenancy,
    desk: Arc<Desk>,
    rules: Arc<config::Quotas>,
}

impl Quotas {
    pub fn new(isolation: Isolation, tenancy: Tenancy, master: &MasterKey, rules: config::Quotas) -> Self {
        tenancy.snapshots().keep_of_platform::<QuotaKeys>();
        tenancy.snapshots().keep_of_tenants::<Allowances>();
        tenancy.check_plans_with(|tx, tenant, plan| usage::outgrown(tx, tenant, plan).boxed());
        let stamp = Stamp::new(master.derive("quota tickets"));
        let desk = Arc::new(Desk::new(isolation.clone(), tenancy.clone(), stamp, rules.clone()));
        Self { isolation, tenancy, desk, rules: Arc::new(rules) }
    }
}
