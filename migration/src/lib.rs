//! Migrations of the registry database: expand first, contract in a later release. See `README.md` beside this crate
//! for the checklist of a tenant table.

use sea_orm_migration::prelude::*;

mod m20261121_000001_tenants;
mod m20261121_000002_journal;
mod m20261121_000003_oauth;
mod m20261121_000004_health;
mod m20261121_000005_flags;
mod m20261121_000006_quotas;
mod m20261121_000007_rates;
mod m20261121_000008_hierarchy;
mod m20261121_000010_entitlements;
mod m20261121_000011_partners;
mod m20261125_000009_quota_leases;
mod m20261125_000012_tenant_keys;
mod m20261125_000013_provisioning;
mod m20261125_000014_layers;
mod m20261125_000015_templates;
mod m20261125_000017_listeners;
mod m20261125_000019_extensions;
mod m20261125_000020_moves;
mod m20261125_000021_isolation_probes;
mod m20261125_000022_planes;
mod m20261126_000023_isolation_open;
mod m20261126_000024_usage;
mod m20261126_000025_isolation_not_here;
mod m20261126_000026_planes_told;
mod m20261126_000027_lanes_taken;
mod m20261126_000028_usage_alerts;
mod m20261126_000029_moves_rolled_back;
mod m20261127_000030_prices;
mod m20261127_000031_analytics;
mod m20261127_000032_usage_periods;
mod m20261127_000033_usage_by_day;
mod m20261127_000034_members;
mod m20261127_000035_sessions;
mod m20261127_000036_totp;
mod m20261127_000037_pki;
mod m20261127_000038_revocation_lists;
mod m20261127_000039_directories;
mod m20261127_000040_directory_syncs;
mod m20261127_000041_network_rules;
mod m20261127_000043_impersonations;
mod m20261127_000044_operators;

/// Roles, schema and extension: needs a role that may create roles; safe to repeat.
pub const BOOTSTRAP: &str = include_str!("sql/bootstrap.sql");

/// Applies the migrations in order, as `tenantry_owner` with `search_path = tenantry`.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261121_000001_tenants::Migration),
            Box::new(m20261121_000002_journal::Migration),
            Box::new(m20261121_000003_oauth::Migration),
            Box::new(m20261121_000004_health::Migration),
            Box::new(m20261121_000005_flags::Migration),
            Box::new(m20261121_000006_quotas::Migration),
            Box::new(m20261121_000007_rates::Migration),
            Box::new(m20261121_000008_hierarchy::Migration),
            Box::new(m20261125_000009_quota_leases::Migration),
            Box::new(m20261121_000010_entitlements::Migration),
            Box::new(m20261121_000011_partners::Migration),
            Box::new(m20261125_000012_tenant_keys::Migration),
            Box::new(m20261125_000013_provisioning::Migration),
            Box::new(m20261125_000014_layers::Migration),
            Box::new(m20261125_000015_templates::Migration),
            Box::new(m20261125_000017_listeners::Migration),
            Box::new(m20261125_000019_extensions::Migration),
            Box::new(m20261125_000020_moves::Migration),
            Box::new(m20261125_000021_isolation_probes::Migration),
            Box::new(m20261125_000022_planes::Migration),
            Box::new(m20261126_000023_isolation_open::Migration),
            Box::new(m20261126_000024_usage::Migration),
            Box::new(m20261126_000025_isolation_not_here::Migration),
            Box::new(m20261126_000026_planes_told::Migration),
            Box::new(m20261126_000027_lanes_taken::Migration),
            Box::new(m20261126_000028_usage_alerts::Migration),
            Box::new(m20261126_000029_moves_rolled_back::Migration),
            Box::new(m20261127_000030_prices::Migration),
            Box::new(m20261127_000031_analytics::Migration),
            Box::new(m20261127_000032_usage_periods::Migration),
            Box::new(m20261127_000033_usage_by_day::Migration),
            Box::new(m20261127_000041_network_rules::Migration),
            Box::new(m20261127_000034_members::Migration),
            Box::new(m20261127_000035_sessions::Migration),
            Box::new(m20261127_000036_totp::Migration),
            Box::new(m20261127_000037_pki::Migration),
            Box::new(m20261127_000038_revocation_lists::Migration),
            Box::new(m20261127_000039_directories::Migration),
            Box::new(m20261127_000040_directory_syncs::Migration),
            Box::new(m20261127_000044_operators::Migration),
            Box::new(m20261127_000043_impersonations::Migration),
        ]
    }
}
