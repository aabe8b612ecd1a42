//! What a tenant may have, how much of it is used, and promises of more.
//!
//! *Owns*: `quota_keys`, `quota_overrides`, `quota_boosts`, `quota_usage`, `quota_reservations`. *Rules*: a limit is the
//! catalogue's default, then the plan's, then the contract's, with boosts on top (`limit.rs`); whether something fits is decided
//! in `ledger.rs`, on rows that are locked, against limits as new as the rows; an answer is given after its commit.
//!
//! *Emits*: QuotaDefined, QuotaRedefined, QuotaSet, QuotaCleared, QuotaBoosted, QuotaBoostEnded, QuotaLimitPassed.

mod allowance;
mod allowing;
mod batch;
mod ceiling;
mod defining;
mod desk;
pub mod graphql;
mod key;
mod ledger;
mod limit;
mod page;
mod store;
mod usage;
mod window;

use std::sync::Arc;

use futures::FutureExt as _;

use self::desk::Desk;
pub use self::{
    allowance::{Allowances, Boost, Override},
    allowing::{NewBoost, NewOverride},
    batch::{Answer, Standing},
    key::{Enforcement, Kind, Period, QuotaKey, QuotaKeys},
    ledger::{Reservation, State},
    limit::{Limit, Source, Step},
    page::PageQuotas,
    usage::{Line, Preview, Quota},
};
use crate::{config, isolation::Isolation, tenancy::Tenancy};

/// The handle of this capability. Clones share it.
#[derive(Clone, Debug)]
pub struct Quotas {
    isolation: Isolation,
    tenancy: Tenancy,
    desk: Arc<Desk>,
    rules: Arc<config::Quotas>,
}

impl Quotas {
    pub fn new(isolation: Isolation, tenancy: Tenancy, rules: config::Quotas) -> Self {
        tenancy.snapshots().keep_of_platform::<QuotaKeys>();
        tenancy.snapshots().keep_of_tenants::<Allowances>();
        tenancy.check_plans_with(|tx, tenant, plan| usage::outgrown(tx, tenant, plan).boxed());
        let desk = Arc::new(Desk::new(isolation.clone(), tenancy.clone(), rules.clone()));
        Self { isolation, tenancy, desk, rules: Arc::new(rules) }
    }
}
