//! What a tenant was given beside its plan: so much of a quota, a feature, or a resource, for a while or for good.
//!
//! *Owns*: `entitlement_grants`. *Rules*: which grant burns first stands in `grant.rs`, and how much of each in `burn.rs`, both on
//! plain values. Times are compared when a grant is used, so nothing has to happen for one to begin or to end.
//!
//! This folder has no operations: `quotas` and `flags` let grants count, `entitlements` gives and takes them.

mod burn;
mod grant;
mod held;
mod store;

pub use self::{
    burn::{Share, apportion},
    grant::{Grant, Kind},
    held::Held,
    store::{add_burnt, due, end, find, insert, list, live, lock, of_quotas, of_quotas_of_several},
};
use crate::tenancy::Tenancy;

/// From now on grants of features and resources are kept in memory. For the house's construction.
pub fn remember(tenancy: &Tenancy) {
    tenancy.snapshots().keep_of_tenants::<Held>();
}
