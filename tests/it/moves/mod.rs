//! Tenants are moved between cells and tiers, with all that they have.

mod clients;
mod faults;
mod graph;
mod journey;
mod kills;
mod layers;
mod rollback;
pub(crate) mod scene;
mod tier;
mod vectors;
mod volume;

/// Whether `make soak` asks for the long forms.
#[expect(clippy::disallowed_methods, reason = "the suite is told by its environment")]
pub(crate) fn soak() -> bool {
    std::env::var_os("TENANTRY_SOAK").is_some()
}
