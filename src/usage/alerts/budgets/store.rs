//! The table of budgets.

use sea_orm::QueryResult;

use super::{
    super::{
        super::{costs::Currency, total::decimal},
        store::{json, parsed},
    },
    budget::{Budget, EVERYTHING},
};
use crate::{
    error::{Error, Result},
    isolation::TenantTx,
};

const BUDGETS: &str = "
    select key, budget_id, dimension, dimension_id, currency, amount::text as amount, thresholds, version, created_at, updated_at
    from tenantry.usage_budgets where tenant_id = $1 and ($2::text is null or key = $2) order by key";

const PUT: &str = "
    insert into tenantry.usage_budgets
        (tenant_id, key, budget_id, dimension, dimension_id, currency, amount, thresholds, version, created_at, updated_at)
    values ($1, $2, $3, $4, $5, $6, $7::text::numeric, $8, $9, $10, $11)
    on conflict (tenant_id, key) do update set
        amount = excluded.amount, thresholds = excluded.thresholds, version = excluded.version, updated_at = excluded.updated_at";

const MARK: &str = "
    insert into tenantry.usage_alert_looks (tenant_id, look_id, dimension_id, first_at, last_at)
    values ($1, gen_random_uuid(), $2, $3, $3)";

pub(super) async fn budgets(tx: &TenantTx) -> Result<Vec<Budget>> {
    let rows = tx.rows(BUDGETS, [tx.tenant().into(), None::<String>.into()]).await?;
    rows.iter().map(budget).collect()
}

pub(super) async fn find(tx: &TenantTx, key: &str) -> Result<Option<Budget>> {
    tx.row(BUDGETS, [tx.tenant().into(), key.into()]).await?.as_ref().map(budget).transpose()
}

pub(super) async fn count(tx: &TenantTx) -> Result<i64> {
    const COUNT: &str = "select count(*) as budgets from tenantry.usage_budgets where tenant_id = $1";
    let row = tx.row(COUNT, [tx.tenant().into()]).await?.ok_or_else(|| Error::internal("a count has a row"))?;
    Ok(row.try_get("", "budgets")?)
}

pub(super) async fn put(tx: &TenantTx, budget: &Budget) -> Result<()> {
    let values = [
        tx.tenant().into(),
        budget.key.as_str().into(),
        budget.budget_id.into(),
        budget.dimension.clone().into(),
        budget.dimension_id.into(),
        budget.currency.code().into(),
        budget.amount.to_string().into(),
        json(&budget.thresholds)?.into(),
        budget.version.into(),
        budget.created_at.into(),
        budget.updated_at.into(),
    ];
    tx.execute(PUT, values).await?;
    Ok(())
}

pub(super) async fn delete(tx: &TenantTx, key: &str) -> Result<()> {
    const DELETE: &str = "delete from tenantry.usage_budgets where tenant_id = $1 and key = $2";
    tx.execute(DELETE, [tx.tenant().into(), key.into()]).await?;
    Ok(())
}

/// Has the budget looked at for the present month.
pub(super) async fn mark(tx: &TenantTx, budget: &Budget) -> Result<()> {
    let dimension = budget.dimension_id.unwrap_or(EVERYTHING);
    tx.execute(MARK, [tx.tenant().into(), dimension.into(), budget.updated_at.into()]).await?;
    Ok(())
}

fn budget(row: &QueryResult) -> Result<Budget> {
    Ok(Budget {
        key: row.try_get("", "key")?,
        budget_id: row.try_get("", "budget_id")?,
        dimension: row.try_get("", "dimension")?,
        dimension_id: row.try_get("", "dimension_id")?,
        currency: Currency::parse(&row.try_get::<String>("", "currency")?)?,
        amount: decimal(&row.try_get::<String>("", "amount")?)?,
        thresholds: parsed(row.try_get("", "thresholds")?)?,
        version: row.try_get("", "version")?,
        created_at: row.try_get("", "created_at")?,
        updated_at: row.try_get("", "updated_at")?,
    })
}
