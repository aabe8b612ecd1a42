//! Budgets of one tenant.

use super::{
    super::super::{Dimensions, Usage},
    budget::{Budget, NewBudget},
    store,
};
use crate::{
    error::{Error, Result},
    isolation::{Conditions, TenantScope},
    journal::Entry,
};

/// Each is looked at when something of it was used.
const MOST_BUDGETS: i64 = 20;

impl Usage {
    /// All budgets of the tenant, by key.
    pub async fn budgets(&self, scope: &TenantScope) -> Result<Vec<Budget>> {
        let tx = self.isolation.begin(scope).await?;
        let budgets = store::budgets(&tx).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(budgets)
    }

    /// Sets a budget, new or in place of the one with its key. What is reached in the present month already fires, where it has not yet.
    pub async fn set_budget(&self, scope: &TenantScope, wanted: NewBudget, conditions: &Conditions) -> Result<Budget> {
        let catalogue = self.tenancy.snapshots().catalogue().await?;
        let dimensions = catalogue.part::<Dimensions>()?;
        let named = |key: &String| {
            let unknown = || Error::invalid("dimension", "is not in the catalogue of dimensions");
            dimensions.find(key).ok_or_else(unknown)
        };
        let dimension = wanted.dimension.as_ref().map(named).transpose()?;
        let mut budget = wanted.check(dimension, self.isolation.clock().now())?;
        self.tenancy.get(scope).await?;
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(answered);
        }
        super::super::store::lock_rules(&tx).await?;
        let before = store::find(&tx, &budget.key).await?;
        conditions.check_version(before.as_ref().map_or(0, |before| before.version))?;
        match &before {
            Some(before) => budget = budget.replaces(before)?,
            None if store::count(&tx).await? >= MOST_BUDGETS => {
                return Err(Error::conflict(format!("there are {MOST_BUDGETS} budgets; delete one first")));
            }
            None => {}
        }
        store::put(&tx, &budget).await?;
        store::mark(&tx, &budget).await?;
        tx.keep_answer(conditions, &budget).await?;
        tx.commit([Entry::new("BudgetSet", "budget", &budget.key).change(before.as_ref(), Some(&budget))?]).await?;
        Ok(budget)
    }

    /// Its alerts stay.
    pub async fn delete_budget(&self, scope: &TenantScope, key: &str, conditions: &Conditions) -> Result<Budget> {
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(answered);
        }
        super::super::store::lock_rules(&tx).await?;
        let budget = store::find(&tx, key).await?.ok_or_else(|| Error::not_found().at("key"))?;
        conditions.check_version(budget.version)?;
        store::delete(&tx, key).await?;
        tx.keep_answer(conditions, &budget).await?;
        tx.commit([Entry::new("BudgetDeleted", "budget", key).change(Some(&budget), None)?]).await?;
        Ok(budget)
    }
}
