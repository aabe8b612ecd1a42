//! The tables of prices and of what the platform pays.

use sea_orm::{DbErr, QueryResult};

use super::{
    super::{dimension::Dimension, total::decimal},
    currency::Currency,
    price::{Price, UnitCost},
    timeline::PlanChange,
};
use crate::{
    error::{Error, Result},
    isolation::{OperatorTx, TenantTx},
    platform::db::{Tx, violated_constraint},
};

const PRICES: &str = "
    select price_id, plan, currency, effective_from, components, created_at from tenantry.prices
    where $1::text is null or currency = $1 order by plan nulls first, currency, effective_from";

const INSERT_PRICE: &str = "
    insert into tenantry.prices (price_id, plan, currency, effective_from, components, created_at) values ($1, $2, $3, $4, $5, $6)";

const UNIT_COSTS: &str = "
    select known.key as dimension, currency, effective_from, cost::text as cost, unit_costs.created_at
    from tenantry.unit_costs join tenantry.usage_dimensions known using (dimension_id)
    where $1::text is null or currency = $1 order by known.key, currency, effective_from";

const INSERT_UNIT_COST: &str = "
    insert into tenantry.unit_costs (dimension_id, currency, effective_from, cost, created_at) values ($1, $2, $3, $4::text::numeric, $5)";

const PLAN_CHANGES: &str = "
    select changed_at, plan, before from tenantry.tenant_plan_changes where tenant_id = $1 order by version";

/// Those of one currency, or all of them.
pub(super) async fn prices(tx: &Tx, currency: Option<Currency>) -> Result<Vec<Price>> {
    let rows = tx.rows(PRICES, [currency.map(Currency::code).into()]).await?;
    rows.iter().map(price).collect()
}

pub(super) async fn insert_price(tx: &OperatorTx, price: &Price) -> Result<()> {
    let values = [
        price.price_id.into(),
        price.plan.clone().into(),
        price.currency.code().into(),
        price.effective_from.into(),
        serde_json::to_value(&price.components).map_err(Error::internal)?.into(),
        price.created_at.into(),
    ];
    tx.execute(INSERT_PRICE, values).await.map(drop).map_err(refused)
}

/// Those of one currency, or all of them.
pub(super) async fn unit_costs(tx: &OperatorTx, currency: Option<Currency>) -> Result<Vec<UnitCost>> {
    let rows = tx.rows(UNIT_COSTS, [currency.map(Currency::code).into()]).await?;
    rows.iter().map(unit_cost).collect()
}

pub(super) async fn insert_unit_cost(tx: &OperatorTx, dimension: &Dimension, cost: &UnitCost) -> Result<()> {
    let values = [
        dimension.dimension_id.into(),
        cost.currency.code().into(),
        cost.effective_from.into(),
        cost.cost.to_string().into(),
        cost.created_at.into(),
    ];
    tx.execute(INSERT_UNIT_COST, values).await.map(drop).map_err(refused)
}

pub(super) async fn plan_changes(tx: &TenantTx) -> Result<Vec<PlanChange>> {
    let rows = tx.rows(PLAN_CHANGES, [tx.tenant().into()]).await?;
    let change = |row: &QueryResult| {
        Ok(PlanChange {
            at: row.try_get("", "changed_at")?,
            plan: row.try_get("", "plan")?,
            before: row.try_get("", "before")?,
        })
    };
    rows.iter().map(change).collect()
}

fn refused(error: DbErr) -> Error {
    match violated_constraint(&error) {
        Some("prices_once" | "unit_costs_pkey") => {
            Error::conflict("there is one from this moment on already; it does not change").at("effectiveFrom")
        }
        Some("prices_plan_fkey") => Error::invalid("plan", "names no plan of the catalogue"),
        _ => error.into(),
    }
}

fn price(row: &QueryResult) -> Result<Price> {
    Ok(Price {
        price_id: row.try_get("", "price_id")?,
        plan: row.try_get("", "plan")?,
        currency: Currency::parse(&row.try_get::<String>("", "currency")?)?,
        effective_from: row.try_get("", "effective_from")?,
        components: serde_json::from_value(row.try_get("", "components")?).map_err(Error::internal)?,
        created_at: row.try_get("", "created_at")?,
    })
}

fn unit_cost(row: &QueryResult) -> Result<UnitCost> {
    Ok(UnitCost {
        dimension: row.try_get("", "dimension")?,
        currency: Currency::parse(&row.try_get::<String>("", "currency")?)?,
        effective_from: row.try_get("", "effective_from")?,
        cost: decimal(&row.try_get::<String>("", "cost")?)?,
        created_at: row.try_get("", "created_at")?,
    })
}
