//! What tenants have used: each accepted event is counted exactly once, and what was accepted is in the totals at once.
//!
//! *Owns*: `usage_dimensions`, `usage_keys`, `usage_inbox`, `usage_events`, `usage_quarters`, `usage_days`, `usage_members`,
//! `usage_points`, `usage_closings`, `usage_corrections`. *Rules*: an event is checked by itself (`event.rs`), and a bad one keeps no good one from being counted; events of
//! many requests are taken in one transaction, in which their keys are claimed (`intake.rs`); totals are made of them later
//! (`folding.rs`), and kept by the day (`days.rs`); what is read is both (`total.rs`, `store.rs`), in one statement. What was used may fire alerts (`alerts`), and
//! costs what prices say (`costs`); what a closed period comes to stays (`periods`), and what a month will come to is forecast (`forecast`).
//!
//! *Emits*: UsageDimensionDefined, UsageDimensionUpdated, UsageClosingBegun, UsageClosed; `tenantry_usage_events_total{outcome}`, `tenantry_usage_batch_events`,
//! `tenantry_usage_removed_rows_total`, `tenantry_usage_fold_failures_total`, `tenantry_usage_stream_failures_total`.

mod activity;
pub mod alerts;
mod cloud_event;
mod consumer;
pub mod costs;
mod days;
mod defining;
mod dimension;
mod event;
mod folding;
pub mod forecast;
pub mod graphql;
pub mod http;
mod intake;
mod label;
mod lines;
pub mod periods;
mod quantity;
mod recording;
mod retention;
mod store;
mod tally;
mod total;
mod value_path;
mod window;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use moka::sync::Cache;
use tokio::sync::Semaphore;

use self::intake::Intake;
pub use self::{
    activity::{Feature, Sessions},
    days::Arranged,
    dimension::{Aggregation, Dimension, Dimensions, Rounding},
    event::RawEvent,
    intake::Patience,
    recording::{Outcome, Recorded, Refusal},
    total::Total,
    window::{Bounds, Window},
};
use crate::{config, isolation::Isolation, platform::ids::TenantId, quotas::Quotas, tenancy::Tenancy};

/// What following days will be, for rules that look ahead: by tenant, dimension, today and the month's end. None of too little history.
type FollowingDays = Cache<(TenantId, i16, DateTime<Utc>, DateTime<Utc>), Arc<Option<forecast::Days>>>;

/// Of some hundred bytes each.
const FOLLOWING_DAYS: u64 = 10_000;
/// Each takes a processor for some milliseconds.
const FORECASTS: usize = 2;

/// The handle of this capability. Clones share it.
#[derive(Clone, Debug)]
pub struct Usage {
    isolation: Isolation,
    tenancy: Tenancy,
    quotas: Quotas,
    intake: Arc<Intake>,
    rules: Arc<config::Usage>,
    /// Models that are fitted at once for who asks.
    forecasts: Arc<Semaphore>,
    following_days: FollowingDays,
}

impl Usage {
    pub fn new(isolation: Isolation, tenancy: Tenancy, quotas: Quotas, rules: config::Usage) -> Self {
        tenancy.snapshots().keep_of_platform::<Dimensions>();
        let intake = Arc::new(Intake::new(isolation.clone(), rules.clone()));
        let forecasts = Arc::new(Semaphore::new(FORECASTS));
        let following_days = Cache::new(FOLLOWING_DAYS);
        Self { isolation, tenancy, quotas, intake, rules: Arc::new(rules), forecasts, following_days }
    }
}
