//! Forecasts in the schema.

use async_graphql::{Context, Enum, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use super::{
    super::{
        costs::Currency,
        graphql::{entered, handle},
    },
    model::{LEVEL, Model},
    telling::Forecast,
};
use crate::error::Error;

/// Until when usage is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum ForecastHorizon {
    /// The end of the present month.
    EndOfMonth,
}

#[derive(Debug, InputObject)]
pub struct ForecastInput {
    /// The tenant; a service's own where not given.
    tenant_id: Option<ID>,
    /// A key of `usageDimensions`.
    dimension: String,
    #[graphql(default_with = "ForecastHorizon::EndOfMonth")]
    horizon: ForecastHorizon,
    /// A name of the IANA time zone database; the tenant's own where not given, UTC where it has none.
    time_zone: Option<String>,
    /// The code of a currency of ISO 4217, in which the cost is told.
    currency: Option<String>,
}

/// What a month will come to.
#[derive(Debug)]
pub struct UsageForecast(Forecast);

#[Object]
impl UsageForecast {
    /// The month's.
    async fn begin(&self) -> DateTime<Utc> {
        self.0.month.0
    }

    /// The begin of the next month.
    async fn end(&self) -> DateTime<Utc> {
        self.0.month.1
    }

    /// When it was told.
    async fn at(&self) -> DateTime<Utc> {
        self.0.at
    }

    /// What was used in the month until then, exactly.
    async fn so_far(&self) -> Decimal {
        self.0.so_far
    }

    /// What the month will come to.
    async fn expected(&self) -> Decimal {
        self.0.expected
    }

    async fn lower(&self) -> Decimal {
        self.0.lower
    }

    /// Null where too little is known to say.
    async fn upper(&self) -> Option<Decimal> {
        self.0.upper
    }

    /// How sure it is that the month is between `lower` and `upper`: at least so much, as each day is taken to err in the same direction.
    async fn level(&self) -> f64 {
        LEVEL
    }

    /// How the rest of the month is told.
    async fn model(&self) -> Model {
        self.0.model
    }

    async fn basis(&self) -> ForecastBasis {
        ForecastBasis { days: self.0.days }
    }

    /// What the dimension's lines will come to at present prices; null without a currency.
    async fn cost(&self) -> Option<ForecastCost> {
        let cost = self.0.cost.as_ref()?;
        let currency = cost.currency.code();
        Some(ForecastCost { currency, expected: cost.expected, lower: cost.lower, upper: cost.upper })
    }
}

/// What a forecast is made of.
#[derive(Debug, SimpleObject)]
pub struct ForecastBasis {
    /// Whole days before today, of at most the last 90, from the first that was used on.
    days: usize,
}

#[derive(Debug, SimpleObject)]
pub struct ForecastCost {
    currency: &'static str,
    expected: Decimal,
    lower: Decimal,
    /// Null where too little is known to say.
    upper: Option<Decimal>,
}

#[derive(Debug, Default)]
pub struct ForecastQuery;

#[Object]
impl ForecastQuery {
    /// What the tenant's usage of a dimension will come to: what was used so far, exactly, and a forecast of the rest from daily totals. It is
    /// never refused for too little history; `model` and `basis` say what it is made of.
    ///
    /// Errors: `invalid_input` at `dimension`, `timeZone` or `currency`.
    ///
    /// Scope: `auth:usage:read`.
    async fn forecast(&self, ctx: &Context<'_>, input: ForecastInput) -> Result<UsageForecast> {
        let scope = entered(ctx, "Query", input.tenant_id.as_ref()).await?;
        let zone = input.time_zone.map(|name| name.parse()).transpose();
        let zone = zone.map_err(|_| Error::invalid("timeZone", "must be a name of the IANA time zone database"))?;
        let currency = input.currency.map(|code| Currency::parse(&code)).transpose()?;
        let ForecastHorizon::EndOfMonth = input.horizon;
        Ok(UsageForecast(handle(ctx)?.forecast(&scope, &input.dimension, zone, currency).await?))
    }
}
