//! May this tenant do that, how much of it is left, and why.
//!
//! *Owns*: `resource_kinds`, `resources`, `plan_allow_lists`, `tenant_allow_lists`. *Rules*: what allows a resource stands in
//! `allow_list.rs`, on plain values; answers come from the snapshots, with one read of the counter where something is counted, and name
//! the versions they were decided on; a grant is checked and recorded here, and counted where the thing is decided
//! (`quotas`, `flags`). A chain of `explain` names the journal entry behind each of its links; a service is shown no name of an
//! operator and nothing of the platform's journal but when. A new capability adds its kind to [`Subject`] and its chain to `explain`.
//!
//! *Emits*: EntitlementGranted, EntitlementRevoked, EntitlementExpired, AllowListSet; ResourceKindDefined, ResourceDefined,
//! PlanAllowListSet.

mod allow_list;
mod answer;
mod catalogue;
mod chain;
mod defining;
mod explain;
mod explain_flag;
mod granting;
pub mod graphql;
mod link;
mod listing;

pub use self::{
    allow_list::{AllowLists, Basis, Decision, TenantList},
    answer::{Entitlement, Source, Value},
    catalogue::{DefaultAccess, Items, PlanList, Resource, ResourceKind, Resources},
    defining::{NewPlanList, NewResource, NewResourceKind},
    explain::{Explanation, Subject},
    granting::NewGrant,
    link::{Actor, Link, Origin, Proof, Step},
    listing::NewTenantList,
};
use crate::{audit::Audit, flags::Flags, isolation::Isolation, quotas::Quotas, tenancy::Tenancy};

/// The handle of this capability. Clones share it.
#[derive(Clone, Debug)]
pub struct Entitlements {
    isolation: Isolation,
    tenancy: Tenancy,
    audit: Audit,
    quotas: Quotas,
    flags: Flags,
}

impl Entitlements {
    pub fn new(isolation: Isolation, tenancy: Tenancy, audit: Audit, quotas: Quotas, flags: Flags) -> Self {
        tenancy.snapshots().keep_of_platform::<Resources>();
        tenancy.snapshots().keep_of_tenants::<AllowLists>();
        Self { isolation, tenancy, audit, quotas, flags }
    }
}
