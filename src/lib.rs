//! Tenantry, the tenant control plane. `ARCHITECTURE.md` beside `src` says how the folders fit together.

// The futures of the merged root objects lie in each other, one for each member.
#![recursion_limit = "256"]

pub mod access;
pub mod analytics;
pub mod app;
pub mod audit;
pub mod cells;
pub mod cli;
pub mod config;
pub mod directory;
pub mod edge;
pub mod entitlements;
pub mod error;
pub mod flags;
pub mod grants;
pub mod health;
pub mod impersonation;
pub mod isolation;
pub mod journal;
pub mod keys;
pub mod members;
pub mod moves;
pub mod oauth;
pub mod operators;
pub mod pki;
pub mod platform;
pub mod probes;
pub mod provisioning;
pub mod quotas;
pub mod rates;
pub mod sessions;
pub mod templates;
pub mod tenancy;
pub mod tenant_keys;
pub mod usage;
pub mod worker;
