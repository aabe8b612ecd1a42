//! The whole suite in one binary: each test has its own database, cloned from a migrated template, and its own server.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

mod aborts;
mod analytics;
mod architecture;
mod audit;
mod bad_input;
mod binary;
mod bombs_over_http;
mod cli;
mod crash;
mod directory;
mod entitlements;
mod flags;
mod half_sent;
mod health;
mod hierarchy;
mod impersonation;
mod isolation;
mod lifecycle;
mod members;
mod memory;
mod moves;
mod network_rules;
mod oauth;
mod operators;
mod outsiders;
mod pages;
mod partners;
mod permissions;
mod pgbouncer;
mod pki;
mod provisioning;
mod quota_storm;
mod quotas;
mod rates;
mod repeats;
mod sessions;
mod smoke;
mod telemetry;
mod templates;
mod tenant_keys;
mod tenants;
mod tokens;
mod unsafe_database;
mod usage;
mod verifier;
