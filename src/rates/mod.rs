//! How fast a tenant may ask, and how much at once: token buckets and permits, in memory.
//!
//! *Owns*: `rate_usage`. *Rules*: a bucket is a pure value (`bucket.rs`); each replica decides from its own memory and tells
//! the others what was taken (`exchange.rs`), within the bound of docs/decisions/0009; what a tenant may have is quotas' to
//! say, and what is unlimited costs no bucket; operators are never limited.
//!
//! *Emits*: nothing into the journal; `tenantry_rate_limited_total{key}`, `tenantry_rate_exchanges_total{outcome}`,
//! `tenantry_rate_exchange_alone`, `tenantry_rate_buckets`.

mod bucket;
mod buckets;
mod exchange;
pub mod graphql;
mod permits;
mod standing;

use std::sync::{Arc, atomic::AtomicBool};

use axum::http::{HeaderMap, HeaderValue, header};

pub use self::{
    bucket::Rate,
    permits::{Concurrent, Permit},
    standing::{RATE_LIMIT, RATE_LIMIT_POLICY, Standing},
};
use self::{buckets::Buckets, exchange::micros, permits::Permits};
use crate::{
    access::{Caller, Effect},
    config,
    error::{Error, Kind, Result},
    isolation::{Isolation, TenantScope, may_act},
    platform::ids::TenantId,
    quotas::{self, Quotas},
    tenancy::Tenancy,
};

/// What every request of a tenant's service takes one of.
pub const REQUESTS: &str = "requests_per_second";

/// The handle of this capability. Clones share it.
#[derive(Clone, Debug)]
pub struct Rates {
    isolation: Isolation,
    tenancy: Tenancy,
    quotas: Quotas,
    rules: Arc<config::Rates>,
    buckets: Arc<Buckets>,
    permits: Permits,
    /// One exchange at a time.
    exchanging: Arc<tokio::sync::Mutex<()>>,
    /// Whether the last exchange failed.
    alone: Arc<AtomicBool>,
}

/// A request that was let in.
#[derive(Debug, Default)]
pub struct Pass {
    /// Held while the request is at work; none where the tenant has no such limit.
    pub permit: Option<Permit>,
    /// How the tenant stands with its requests per second; none where it has no such limit.
    pub standing: Option<Standing>,
}

/// A request that was not.
#[derive(Debug)]
pub struct Refused {
    pub error: Error,
    pub standing: Option<Standing>,
}

impl Refused {
    /// Adds what the limit is, where it was one per second.
    pub fn tell(&self, headers: &mut HeaderMap) {
        match self.standing {
            Some(standing) => standing.tell(REQUESTS, headers),
            // What is in progress ends when it ends.
            None if self.error.kind() == Kind::RateLimited => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            None => {}
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, standing: None }
    }
}

impl Rates {
    pub fn new(isolation: Isolation, tenancy: Tenancy, quotas: Quotas, rules: config::Rates) -> Self {
        Self {
            isolation,
            tenancy,
            quotas,
            rules: Arc::new(rules),
            buckets: Arc::new(Buckets::new()),
            permits: Permits::new(),
            exchanging: Arc::default(),
            alone: Arc::default(),
        }
    }

    /// Lets a request of a tenant's service in, or refuses it: one of `requests_per_second`, and room among
    /// `concurrent_requests`. A tenant without limits, and an operator, pay for looking that up and no more.
    pub async fn admit(&self, caller: &Caller) -> Result<Pass, Refused> {
        let Some(tenant) = caller.tenant() else { return Ok(Pass::default()) };
        let [requests, at_once] = self.ceilings(caller, tenant, [REQUESTS, Concurrent::Requests.key()]).await?;
        let permit = at_once.map(|most| self.permit(tenant, Concurrent::Requests, most)).transpose()?;
        let standing = requests.map(|limit| self.take(tenant, REQUESTS, limit, 1));
        match standing {
            Some(standing) if !standing.allowed => {
                Err(Refused { error: refused(REQUESTS, standing.refusal(REQUESTS)), standing: Some(standing) })
            }
            _ => Ok(Pass { permit, standing }),
        }
    }

    /// The same for an operation whose kind is not known yet: no permit.
    pub async fn admit_operation(&self, caller: &Caller) -> Result<()> {
        let Some(tenant) = caller.tenant() else { return Ok(()) };
        let [requests] = self.ceilings(caller, tenant, [REQUESTS]).await?;
        match requests.map(|limit| self.take(tenant, REQUESTS, limit, 1)) {
            Some(standing) if !standing.allowed => Err(refused(REQUESTS, standing.refusal(REQUESTS))),
            _ => Ok(()),
        }
    }

    /// Room for one more; none is needed where there is no limit.
    pub async fn hold(&self, caller: &Caller, what: Concurrent) -> Result<Option<Permit>> {
        let Some(tenant) = caller.tenant() else { return Ok(None) };
        let [most] = self.ceilings(caller, tenant, [what.key()]).await?;
        most.map(|most| self.permit(tenant, what, most)).transpose()
    }

    /// `<tenant>.<platform>`: how far the two journals are whose limits are known here.
    pub async fn version(&self, tenant: TenantId) -> Result<String> {
        let snapshots = self.tenancy.snapshots();
        let known = snapshots.get(tenant).await?.ok_or_else(Error::not_found)?;
        Ok(format!("{}.{}", known.version, snapshots.catalogue().await?.version))
    }

    /// Takes `cost` of a tenant's rate, all or none; `None` where it is unlimited.
    pub async fn check(&self, scope: &TenantScope, key: &str, cost: i64) -> Result<Option<Standing>> {
        if cost < 1 {
            return Err(Error::invalid("cost", "must be at least 1"));
        }
        let (kind, limit) = self.quotas.allowed(scope.tenant(), key).await?;
        if kind != quotas::Kind::Rate {
            return Err(Error::invalid("key", "names a quota that is no rate; only the kind RATE is checked here"));
        }
        let Some(limit) = limit else { return Ok(None) };
        let burst = self.rate(limit).burst();
        if limit > 0 && cost > burst {
            let rule = format!("is more than the {burst} that are ever let in at once, so it would never be allowed");
            return Err(Error::invalid("cost", rule));
        }
        let standing = self.take(scope.tenant(), key, limit, cost);
        if !standing.allowed {
            count(key);
        }
        Ok(Some(standing))
    }

    /// `None` is unlimited. Whom the tenant's state or epoch shuts out is told so by what comes next, and takes nothing away
    /// from those who are let in.
    async fn ceilings<const N: usize>(
        &self,
        caller: &Caller,
        tenant: TenantId,
        keys: [&str; N],
    ) -> Result<[Option<i64>; N]> {
        match self.tenancy.snapshots().get(tenant).await? {
            Some(known) if may_act(caller, &known.tenant.standing(), Effect::Read).is_ok() => {
                self.quotas.ceilings(&known, keys).await
            }
            _ => Ok([None; N]),
        }
    }

    fn take(&self, tenant: TenantId, key: &str, limit: i64, cost: i64) -> Standing {
        self.buckets.take(tenant, key, self.rate(limit), cost, micros(self.isolation.clock().now()))
    }

    fn rate(&self, limit: i64) -> Rate {
        Rate { per_second: limit, burst_seconds: i64::try_from(self.rules.burst.as_secs()).unwrap_or(i64::MAX) }
    }

    fn permit(&self, tenant: TenantId, what: Concurrent, most: i64) -> Result<Permit> {
        self.permits.take(tenant, what, most).ok_or_else(|| {
            let details = serde_json::json!({ "key": what.key(), "limit": most });
            let rule = "the tenant has as much in progress as it may have at once; wait for something to end";
            refused(what.key(), Error::new(Kind::RateLimited, rule).with(details))
        })
    }
}

fn refused(key: &str, error: Error) -> Error {
    count(key);
    error
}

/// Labels are of a bounded number: operators' own keys count together.
fn count(key: &str) {
    let known = [REQUESTS, Concurrent::Requests.key(), Concurrent::Streams.key()];
    let label = known.into_iter().find(|known| *known == key).unwrap_or("other");
    metrics::counter!("tenantry_rate_limited_total", "key" => label).increment(1);
}
