//! Costs in the schema.

use std::collections::BTreeMap;

use async_graphql::{Context, ID, InputObject, Json, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;

use super::{
    super::graphql::{Quantity, entered, handle},
    costing::{Asking, Costs, Entered, GroupCost, Per, WindowCosts},
    currency::Currency,
    margin::{Margin, Margins, WindowMargins},
    price::{Price, UnitCost},
    setting::{NewPrice, NewUnitCost},
    tariff::{Component, Kind},
};
use crate::{
    error::Error,
    tenancy::graphql::{conditions, enter_platform},
};

#[derive(Debug, InputObject)]
pub struct CostsInput {
    /// The tenant; a service's own where not given.
    tenant_id: Option<ID>,
    /// The first window is the one that this moment is in.
    from: DateTime<Utc>,
    /// The last window begins before it.
    to: DateTime<Utc>,
    window: Per,
    /// A name of the IANA time zone database, in which months and days are; UTC where not given.
    time_zone: Option<String>,
    /// The code of a currency of ISO 4217. What has no price in it costs nothing in it.
    currency: String,
}

#[derive(Debug, InputObject)]
pub struct SetPriceInput {
    /// The key of a plan; without it, of all plans that have no price of their own.
    plan: Option<String>,
    /// The code of a currency of ISO 4217.
    currency: String,
    /// A full quarter of an hour, in no month that is over in any time zone.
    effective_from: DateTime<Utc>,
    /// A list of at most 100 components, of each month. Numbers are texts, none negative.
    ///
    /// `{"flat": {"amount": "49"}}`: the base fee.
    ///
    /// `{"seat": {"dimension": "users", "unitPrice": "5", "included": "3"}}`: for each single one of the month's figure.
    ///
    /// `{"usage": {"dimension": "api_calls", "included": "10", "rate": …}}`: for each unit that is sold beyond those that are included. The
    /// rate is `{"perUnit": {"unitPrice": "0.5"}}`, or `{"graduated": {"tiers": […]}}`, where each unit has the price of its tier, or
    /// `{"volume": {"tiers": […]}}`, where all units have the price of the last one's tier. A tier is
    /// `{"upTo": "100", "unitPrice": "0.5", "flatPrice": "10"}`: its last unit, beyond those that are included, and null for the last tier.
    components: Json<serde_json::Value>,
}

#[derive(Debug, InputObject)]
pub struct SetUnitCostInput {
    /// A key of `usageDimensions`.
    dimension: String,
    /// The code of a currency of ISO 4217.
    currency: String,
    /// A full quarter of an hour, in no month that is over in any time zone.
    effective_from: DateTime<Utc>,
    /// What a single quantity costs the platform, not a unit that is sold.
    cost: Quantity,
}

/// What is asked for a plan from a moment on. It never changes: a later one takes its place from its own begin on.
#[derive(Debug)]
pub struct CataloguePrice(Price);

#[Object(name = "Price")]
impl CataloguePrice {
    async fn id(&self) -> ID {
        self.0.price_id.to_string().into()
    }

    /// Null: of all plans that have no price of their own.
    async fn plan(&self) -> Option<&str> {
        self.0.plan.as_deref()
    }

    async fn currency(&self) -> &str {
        self.0.currency.code()
    }

    async fn effective_from(&self) -> DateTime<Utc> {
        self.0.effective_from
    }

    /// As `setPrice` takes them.
    async fn components(&self) -> Json<&Vec<Component>> {
        Json(&self.0.components)
    }

    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }
}

/// What a single quantity costs the platform from a moment on.
#[derive(Debug)]
pub struct PlatformUnitCost(UnitCost);

#[Object(name = "UnitCost")]
impl PlatformUnitCost {
    async fn dimension(&self) -> &str {
        &self.0.dimension
    }

    async fn currency(&self) -> &str {
        self.0.currency.code()
    }

    async fn effective_from(&self) -> DateTime<Utc> {
        self.0.effective_from
    }

    async fn cost(&self) -> Decimal {
        self.0.cost
    }
}

/// What a tenant's usage costs.
#[derive(Debug)]
pub struct UsageCosts(Costs);

#[Object]
impl UsageCosts {
    async fn currency(&self) -> &str {
        self.0.currency.code()
    }

    /// The sum of all windows.
    async fn total(&self) -> Decimal {
        self.0.total
    }

    /// By what it is for, of all windows together, without groups.
    async fn lines(&self) -> Vec<CostLine<'_>> {
        self.0.entries.iter().map(CostLine).collect()
    }

    /// Those that have begun.
    async fn windows(&self) -> Vec<UsageCostsOfWindow<'_>> {
        self.0.windows.iter().map(UsageCostsOfWindow).collect()
    }
}

/// What one window costs: what its month has come to by its end, less what it had come to by its begin. Days add up to their month.
#[derive(Debug)]
pub struct UsageCostsOfWindow<'a>(&'a WindowCosts);

#[Object]
impl UsageCostsOfWindow<'_> {
    async fn begin(&self) -> DateTime<Utc> {
        self.0.begin
    }

    /// The begin of the next window.
    async fn end(&self) -> DateTime<Utc> {
        self.0.end
    }

    async fn amount(&self) -> Decimal {
        self.0.amount
    }

    async fn lines(&self) -> Vec<CostLine<'_>> {
        self.0.entries.iter().map(CostLine).collect()
    }
}

/// What is asked for one thing.
#[derive(Debug)]
pub struct CostLine<'a>(&'a Entered);

#[Object]
impl CostLine<'_> {
    async fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Null for the base fee.
    async fn dimension(&self) -> Option<&str> {
        self.0.dimension.as_deref()
    }

    /// By how much the month's figure grew.
    async fn quantity(&self) -> Decimal {
        self.0.used.quantity
    }

    /// The same in what it is priced by: units that are sold, single ones for seats.
    async fn units(&self) -> Decimal {
        self.0.used.units
    }

    async fn amount(&self) -> Decimal {
        self.0.amount
    }

    /// Of a dimension whose totals are kept apart by labels: what each group used in the window, and its part of the amount in proportion.
    async fn groups(&self) -> Vec<CostGroup<'_>> {
        self.0.groups.iter().map(CostGroup).collect()
    }
}

#[derive(Debug)]
pub struct CostGroup<'a>(&'a GroupCost);

#[Object]
impl CostGroup<'_> {
    async fn labels(&self) -> Json<&BTreeMap<String, String>> {
        Json(&self.0.labels)
    }

    async fn quantity(&self) -> Decimal {
        self.0.quantity
    }

    async fn amount(&self) -> Decimal {
        self.0.amount
    }
}

/// What is left of a tenant's costs after those of the platform.
#[derive(Debug)]
pub struct UsageMargins(Margins);

#[Object]
impl UsageMargins {
    async fn currency(&self) -> &str {
        self.0.currency.code()
    }

    async fn revenue(&self) -> Decimal {
        self.0.total.revenue
    }

    async fn platform_cost(&self) -> Decimal {
        self.0.total.platform_cost
    }

    async fn margin(&self) -> Decimal {
        self.0.total.margin()
    }

    /// Those that have begun.
    async fn windows(&self) -> Vec<MarginOfWindow<'_>> {
        self.0.windows.iter().map(MarginOfWindow).collect()
    }
}

#[derive(Debug)]
pub struct MarginOfWindow<'a>(&'a WindowMargins);

#[Object]
impl MarginOfWindow<'_> {
    async fn begin(&self) -> DateTime<Utc> {
        self.0.begin
    }

    /// The begin of the next window.
    async fn end(&self) -> DateTime<Utc> {
        self.0.end
    }

    async fn revenue(&self) -> Decimal {
        self.0.total.revenue
    }

    async fn platform_cost(&self) -> Decimal {
        self.0.total.platform_cost
    }

    async fn margin(&self) -> Decimal {
        self.0.total.margin()
    }

    async fn dimensions(&self) -> Vec<MarginOfDimension<'_>> {
        let margins = self.0.dimensions.iter();
        margins
            .map(|(dimension, margin)| MarginOfDimension { dimension: dimension.as_deref(), margin: *margin })
            .collect()
    }
}

#[derive(Debug)]
pub struct MarginOfDimension<'a> {
    dimension: Option<&'a str>,
    margin: Margin,
}

#[Object]
impl MarginOfDimension<'_> {
    /// Null for the base fee.
    async fn dimension(&self) -> Option<&str> {
        self.dimension
    }

    async fn revenue(&self) -> Decimal {
        self.margin.revenue
    }

    async fn platform_cost(&self) -> Decimal {
        self.margin.platform_cost
    }

    async fn margin(&self) -> Decimal {
        self.margin.margin()
    }
}

#[derive(Debug, SimpleObject)]
pub struct PricePayload {
    price: CataloguePrice,
}

#[derive(Debug, SimpleObject)]
pub struct UnitCostPayload {
    unit_cost: PlatformUnitCost,
}

#[derive(Debug, Default)]
pub struct CostQuery;

#[Object]
impl CostQuery {
    /// The catalogue of prices, by plan, currency and begin.
    ///
    /// Scope: `auth:plan:read`.
    async fn prices(&self, ctx: &Context<'_>) -> Result<Vec<CataloguePrice>> {
        Ok(handle(ctx)?.prices().await?.into_iter().map(CataloguePrice).collect())
    }

    /// What the tenant's usage costs by the prices of the plans that it was on, in each window that has begun: at most 400 days or 40 months,
    /// of everything that was accepted before. What a price asks for is of a month; one that is in force for a part of a month, because another
    /// one or another plan takes its place, has that part of its fees, included units and tiers, and counts what was used while it was in force.
    /// Each line of a month is rounded by itself, half up to the currency's minor unit.
    ///
    /// Errors: `invalid_input` at `timeZone`, `currency`, `from` or `to`.
    ///
    /// Scope: `auth:usage:read`.
    async fn costs(&self, ctx: &Context<'_>, input: CostsInput) -> Result<UsageCosts> {
        let scope = entered(ctx, "Query", input.tenant_id.as_ref()).await?;
        Ok(UsageCosts(handle(ctx)?.costs(&scope, input.asking()?).await?))
    }

    /// What is left of the tenant's costs after what its usage costs the platform.
    ///
    /// Errors: `invalid_input` at `tenantId`, `timeZone`, `currency`, `from` or `to`.
    ///
    /// Scope: `auth:plan:write`, operators only.
    async fn margins(&self, ctx: &Context<'_>, input: CostsInput) -> Result<UsageMargins> {
        let operator = enter_platform(ctx, "Query")?;
        let scope = entered(ctx, "Query", input.tenant_id.as_ref()).await?;
        Ok(UsageMargins(handle(ctx)?.margins(&operator, &scope, input.asking()?).await?))
    }

    /// What single quantities cost the platform, by dimension, currency and begin.
    ///
    /// Scope: `auth:plan:write`, operators only.
    async fn unit_costs(&self, ctx: &Context<'_>) -> Result<Vec<PlatformUnitCost>> {
        let scope = enter_platform(ctx, "Query")?;
        Ok(handle(ctx)?.unit_costs(&scope).await?.into_iter().map(PlatformUnitCost).collect())
    }
}

impl CostsInput {
    fn asking(self) -> crate::error::Result<Asking> {
        let zone = self.time_zone.map_or(Ok(Tz::UTC), |name| name.parse());
        let zone = zone.map_err(|_| Error::invalid("timeZone", "must be a name of the IANA time zone database"))?;
        let currency = Currency::parse(&self.currency)?;
        Ok(Asking { from: self.from, to: self.to, per: self.window, zone, currency })
    }
}

#[derive(Debug, Default)]
pub struct CostMutation;

#[Object]
impl CostMutation {
    /// Adds a price to the catalogue. It takes the place of the one before from its begin on, and stays as it is: no price begins in a month
    /// that is over.
    ///
    /// Errors: `invalid_input` with the field and its rule, `conflict` at `effectiveFrom` where there is one from this moment on already.
    ///
    /// Scope: `auth:plan:write`, operators only.
    async fn set_price(&self, ctx: &Context<'_>, input: SetPriceInput) -> Result<PricePayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let wanted = NewPrice {
            plan: input.plan,
            currency: input.currency,
            effective_from: input.effective_from,
            components: input.components.0,
        };
        let price = handle(ctx)?.set_price(&scope, wanted, &conditions(ctx, None)).await?;
        Ok(PricePayload { price: CataloguePrice(price) })
    }

    /// Adds what a single quantity of a dimension costs the platform from a moment on. No tenant sees it.
    ///
    /// Errors: `invalid_input` with the field and its rule, `conflict` at `effectiveFrom` where there is one from this moment on already.
    ///
    /// Scope: `auth:plan:write`, operators only.
    async fn set_unit_cost(&self, ctx: &Context<'_>, input: SetUnitCostInput) -> Result<UnitCostPayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let wanted = NewUnitCost {
            dimension: input.dimension,
            currency: input.currency,
            effective_from: input.effective_from,
            cost: input.cost.0,
        };
        let cost = handle(ctx)?.set_unit_cost(&scope, wanted, &conditions(ctx, None)).await?;
        Ok(UnitCostPayload { unit_cost: PlatformUnitCost(cost) })
    }
}
