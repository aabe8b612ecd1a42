//! Compares what months have cost with budgets.

use std::collections::{HashMap, hash_map::Entry};

use rust_decimal::Decimal;

use super::{
    super::{
        super::{
            Dimensions, Usage, Window,
            costs::{Bill, WindowCosts},
            window::Bounds,
        },
        alert::{Alert, Kind},
        firing::{Known, is_open, periods},
        rule::Period,
        store as alerts,
        threshold::{self, percent_of},
    },
    budget::Budget,
    store,
};
use crate::{error::Result, isolation::TenantTx, platform::ids::UsageAlertId};

impl Usage {
    /// What is reached of the tenant's budgets in the months that marks touch, by dimension. Where all has fired, nothing is counted.
    pub(in crate::usage::alerts) async fn overspent(
        &self,
        tx: &TenantTx,
        known: &Known,
        looks: &HashMap<i16, Bounds>,
    ) -> Result<Vec<Alert>> {
        let (Some(snapshot), false) = (&known.snapshot, looks.is_empty()) else { return Ok(Vec::new()) };
        let (mut reached, mut bills) = (Vec::new(), HashMap::new());
        for budget in store::budgets(tx).await? {
            let Some(span) = budget.looked_at(looks) else { continue };
            let months = periods(budget.created_at, Window::Month, span, known.zone)?;
            let Some(first) = months.first() else { continue };
            let fired = alerts::fired(tx, budget.budget_id, first.0).await?;
            let bill = Bill {
                dimensions: known.catalogue.part::<Dimensions>()?,
                tenant: &snapshot.tenant,
                currency: budget.currency,
                zone: known.zone,
                now: tx.stamp().at,
            };
            for month in months.into_iter().filter(|month| is_open(&budget.thresholds, fired.get(&month.0))) {
                // Of all budgets in the same currency.
                let costs = match bills.entry((budget.currency, month.0)) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(unknown) => unknown.insert(bill.of(tx, &[month]).await?),
                };
                let spent = costs.iter().map(|costs| budget.spent(costs)).sum();
                let fired = fired.get(&month.0).cloned().unwrap_or_default();
                for crossing in threshold::crossings(&budget.thresholds, Some(budget.amount), spent, &fired) {
                    reached.push(alert(&budget, month, crossing, spent, tx));
                }
            }
        }
        Ok(reached)
    }
}

impl Budget {
    fn spent(&self, costs: &WindowCosts) -> Decimal {
        match &self.dimension {
            None => costs.amount,
            Some(dimension) => {
                let of_dimension = costs.entries.iter().filter(|entered| entered.dimension.as_ref() == Some(dimension));
                of_dimension.map(|entered| entered.amount).sum()
            }
        }
    }
}

fn alert(budget: &Budget, month: Bounds, crossing: threshold::Crossing, spent: Decimal, tx: &TenantTx) -> Alert {
    Alert {
        alert_id: UsageAlertId::generate(),
        kind: Kind::Budget,
        rule_id: budget.budget_id,
        rule: budget.key.clone(),
        rule_version: budget.version,
        dimension: budget.dimension.clone(),
        labels: Default::default(),
        period: Period::Month,
        period_begin: month.0,
        period_end: month.1,
        threshold: crossing.threshold,
        quantity: crossing.quantity,
        total: spent,
        limit: Some(budget.amount),
        percent: percent_of(spent, Some(budget.amount)),
        currency: Some(budget.currency),
        expected: None,
        passes_at: None,
        fired_at: tx.stamp().at,
    }
}
