//! How tenants use the platform: what they ask of this server, how often it fails and how long it takes; and, of the events that they
//! send, who was active, for how long, with what.
//!
//! *Owns*: `request_quarters`, `request_callers`. *Rules*: each answered request of a tenant's service is counted in memory
//! (`requests.rs`), which is bounded and nobody waits for; what was counted is added to the tables every `analytics.flush` and when the
//! server stops (`flushing.rs`), and what servers add is one figure. Latencies are kept in buckets that add up (`latencies.rs`). These are
//! statistics: a server that is killed loses those of one interval, and no bill is made of them. Events are `usage`'s, and are asked for
//! there.
//!
//! *Emits*: `tenantry_analytics_other_requests_total`, `tenantry_analytics_dropped_requests_total`, `tenantry_analytics_flush_failures_total`,
//! `tenantry_analytics_removed_rows_total`.

mod figures;
mod flushing;
pub mod graphql;
pub mod http;
mod latencies;
mod requests;
mod retention;
mod store;
mod window;

use std::sync::Arc;

use tokio::sync::Mutex;

use self::requests::Batch;
pub use self::{
    figures::{Callers, Grouping, RequestFigures},
    latencies::Latencies,
    requests::{Finished, OK, OTHER, Requests},
    window::AnalyticsWindow,
};
use crate::{config, isolation::Isolation, platform::clock::Clock, tenancy::Tenancy, usage::Usage};

/// The handle of this capability. Clones share it.
#[derive(Clone, Debug)]
pub struct Analytics {
    isolation: Isolation,
    tenancy: Tenancy,
    usage: Usage,
    requests: Arc<Requests>,
    /// Taken from memory, and not yet in the tables. Who holds it, flushes.
    waiting: Arc<Mutex<Batch>>,
    rules: Arc<config::Analytics>,
}

impl Analytics {
    pub fn new(isolation: Isolation, tenancy: Tenancy, usage: Usage, rules: config::Analytics) -> Self {
        Self { isolation, tenancy, usage, requests: Arc::default(), waiting: Arc::default(), rules: Arc::new(rules) }
    }

    pub fn clock(&self) -> &Clock {
        self.isolation.clock()
    }

    /// Where answered requests are counted.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }
}
