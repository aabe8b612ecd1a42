//! Budgets in the schema.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use super::{
    super::{
        super::graphql::{Quantity, entered, handle},
        threshold::Threshold,
    },
    budget::{Budget, NewBudget},
};
use crate::tenancy::graphql::conditions;

#[derive(Debug, InputObject)]
pub struct SetBudgetInput {
    /// The tenant; a service's own where not given.
    tenant_id: Option<ID>,
    /// 1 to 63 small letters, digits or `_`, a letter first. A budget of this key is replaced.
    key: String,
    /// A key of `usageDimensions`; without it, everything that is asked for counts, base fees as well. It stays.
    dimension: Option<String>,
    /// The code of a currency of ISO 4217. It stays.
    currency: String,
    /// For a month of the tenant's time zone.
    amount: Quantity,
    /// 1 to 10 per cents of the amount; 80, 95 and 100 where not given.
    thresholds: Option<Vec<Quantity>>,
    /// The version that you saw last; 0 where there was no such budget.
    expected_version: Option<i64>,
}

#[derive(Debug, InputObject)]
pub struct DeleteBudgetInput {
    /// The tenant; a service's own where not given.
    tenant_id: Option<ID>,
    key: String,
    /// The version that you saw last.
    expected_version: Option<i64>,
}

/// What a tenant wants to spend in a month.
#[derive(Debug)]
pub struct UsageBudget(Budget);

#[Object(name = "Budget")]
impl UsageBudget {
    async fn key(&self) -> &str {
        &self.0.key
    }

    /// Null: everything that is asked for.
    async fn dimension(&self) -> Option<&str> {
        self.0.dimension.as_deref()
    }

    async fn currency(&self) -> &str {
        self.0.currency.code()
    }

    /// For a month of the tenant's time zone.
    async fn amount(&self) -> Decimal {
        self.0.amount
    }

    /// Per cents of the amount.
    async fn thresholds(&self) -> Vec<Decimal> {
        let percent = |threshold: &Threshold| match threshold {
            Threshold::Percent(percent) | Threshold::Quantity(percent) => *percent,
        };
        self.0.thresholds.iter().map(percent).collect()
    }

    async fn version(&self) -> i64 {
        self.0.version
    }

    async fn updated_at(&self) -> DateTime<Utc> {
        self.0.updated_at
    }
}

#[derive(Debug, SimpleObject)]
pub struct BudgetPayload {
    budget: UsageBudget,
}

#[derive(Debug, Default)]
pub struct BudgetQuery;

#[Object]
impl BudgetQuery {
    /// The tenant's budgets, by key; without an id, of the tenant that the token is bound to.
    ///
    /// Scope: `auth:usage:read`.
    async fn budgets(&self, ctx: &Context<'_>, tenant_id: Option<ID>) -> Result<Vec<UsageBudget>> {
        let scope = entered(ctx, "Query", tenant_id.as_ref()).await?;
        Ok(handle(ctx)?.budgets(&scope).await?.into_iter().map(UsageBudget).collect())
    }
}

#[derive(Debug, Default)]
pub struct BudgetMutation;

#[Object]
impl BudgetMutation {
    /// Sets what the tenant wants to spend in a month. Each of its thresholds fires once in a month, as an alert in `usageAlerts`; one that is
    /// reached already fires at once. It is looked at when something of it was used. A tenant has at most 20 budgets.
    ///
    /// Errors: `invalid_input` with the field and its rule, `conflict` for an old version or too many budgets.
    ///
    /// Scope: `auth:usage:write`.
    async fn set_budget(&self, ctx: &Context<'_>, input: SetBudgetInput) -> Result<BudgetPayload> {
        let scope = entered(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let wanted = NewBudget {
            key: input.key,
            dimension: input.dimension,
            currency: input.currency,
            amount: input.amount.0,
            thresholds: input.thresholds.map(|sent| sent.into_iter().map(|percent| percent.0).collect()),
        };
        let budget = handle(ctx)?.set_budget(&scope, wanted, &conditions(ctx, input.expected_version)).await?;
        Ok(BudgetPayload { budget: UsageBudget(budget) })
    }

    /// Deletes a budget. What has fired stays; one that is set again with its key is another.
    ///
    /// Errors: `not_found` at `key`, `conflict` for an old version.
    ///
    /// Scope: `auth:usage:write`.
    async fn delete_budget(&self, ctx: &Context<'_>, input: DeleteBudgetInput) -> Result<BudgetPayload> {
        let scope = entered(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let conditions = conditions(ctx, input.expected_version);
        let budget = handle(ctx)?.delete_budget(&scope, &input.key, &conditions).await?;
        Ok(BudgetPayload { budget: UsageBudget(budget) })
    }
}
