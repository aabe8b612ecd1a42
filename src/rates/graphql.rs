//! Rates' part of the schema.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};

use super::{Rates, Standing};
use crate::{error::Error, tenancy::graphql::enter_own_or};

#[derive(Debug, InputObject)]
pub struct CheckRateInput {
    /// The tenant; a service's own where not given.
    tenant_id: Option<ID>,
    /// A quota of the kind RATE, such as `requests_per_second`.
    key: String,
    /// How much is to be taken, all or nothing: at least 1, and at most what is ever let in at once.
    #[graphql(default = 1)]
    cost: i64,
}

/// Whether so much may be done now. It was taken if it may.
#[derive(Debug, SimpleObject)]
pub struct CheckRatePayload {
    allowed: bool,
    /// Units per second; null is unlimited.
    limit: Option<i64>,
    /// Whole units that could still be taken now; null is unlimited.
    remaining: Option<i64>,
    /// Until everything is there again.
    reset_after_seconds: f64,
    /// Until the same would be allowed; null where it was.
    retry_after_seconds: Option<f64>,
    /// What the limit was decided on: positions of the tenant's and of the platform's journal.
    version: String,
}

impl CheckRatePayload {
    fn new(standing: Option<Standing>, version: String) -> Self {
        let Some(standing) = standing else {
            return Self {
                allowed: true,
                limit: None,
                remaining: None,
                reset_after_seconds: 0.0,
                retry_after_seconds: None,
                version,
            };
        };
        Self {
            allowed: standing.allowed,
            limit: Some(standing.limit),
            remaining: Some(standing.remaining),
            reset_after_seconds: seconds(standing.reset_micros),
            retry_after_seconds: (!standing.allowed).then(|| seconds(standing.retry_micros)),
            version,
        }
    }
}

#[derive(Debug, Default)]
pub struct RatesMutation;

#[Object]
impl RatesMutation {
    /// Takes from a tenant's rate, and says whether it was there: for gateways and services that limit what they do
    /// themselves. Answered from memory, the same over all servers within a bound; a refusal takes nothing. What was taken
    /// is not given back, and an `Idempotency-Key` does not keep a repetition from taking again.
    ///
    /// The request itself takes one of `requests_per_second`, as every request does; `GET /v1/rate/check` does not where
    /// that is what it asks for.
    ///
    /// Errors: `invalid_input` at `key` for what is no quota of the kind RATE; at `cost` for what could never be allowed.
    ///
    /// Scope: `auth:rate:check`.
    async fn check_rate(&self, ctx: &Context<'_>, input: CheckRateInput) -> Result<CheckRatePayload> {
        let scope = enter_own_or(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let scope = scope.ok_or_else(|| Error::invalid("tenantId", "is needed: an operator is bound to no tenant"))?;
        let rates = ctx.data_opt::<Rates>().ok_or_else(|| Error::internal("the schema has no rates"))?;
        let version = rates.version(scope.tenant()).await?;
        Ok(CheckRatePayload::new(rates.check(&scope, &input.key, input.cost).await?, version))
    }
}

fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}
