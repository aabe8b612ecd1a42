//! What is left of what tenants are asked for, after what the platform pays. Operators' alone.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use super::{
    super::{Dimension, Dimensions, Usage, Window, window::Bounds},
    costing::{Asking, Bill, WindowCosts},
    currency::Currency,
    price::UnitCost,
    reading::{self, Stretch},
    store,
    tariff::MOST,
};
use crate::{
    error::Result,
    isolation::{OperatorScope, TenantScope, TenantTx},
};

#[derive(Clone, Debug)]
pub struct Margins {
    pub currency: Currency,
    pub total: Margin,
    pub windows: Vec<WindowMargins>,
}

#[derive(Clone, Debug)]
pub struct WindowMargins {
    pub begin: DateTime<Utc>,
    pub end: DateTime<Utc>,
    pub total: Margin,
    /// By dimension; the base fee is of none.
    pub dimensions: BTreeMap<Option<String>, Margin>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Margin {
    pub revenue: Decimal,
    pub platform_cost: Decimal,
}

impl Margin {
    pub fn margin(&self) -> Decimal {
        self.revenue - self.platform_cost
    }

    fn add(&mut self, other: Self) {
        self.revenue += other.revenue;
        self.platform_cost += other.platform_cost;
    }
}

/// A dimension's unit cost while it is in force within a month.
struct Run {
    stretch: Stretch,
    cost: Decimal,
}

impl Usage {
    /// Costs of the tenant beside those of the platform. What a single quantity costs is the operators' to know.
    pub async fn margins(&self, operator: &OperatorScope, scope: &TenantScope, asking: Asking) -> Result<Margins> {
        let now = self.isolation.clock().now();
        let windows = asking.windows(now)?;
        let tx = self.isolation.begin_operator(operator).await?;
        let unit_costs = store::unit_costs(&tx, Some(asking.currency)).await?;
        tx.commit_unrecorded("a read").await?;
        let catalogue = self.tenancy.snapshots().catalogue().await?;
        let tenant = self.tenancy.get(scope).await?;
        let dimensions = catalogue.part::<Dimensions>()?;
        let bill = Bill { dimensions, tenant: &tenant, currency: asking.currency, zone: asking.zone, now };
        let tx = self.isolation.begin(scope).await?;
        let costs = bill.of(&tx, &windows).await?;
        let mut windows: Vec<_> = costs.iter().map(revenue).collect();
        for dimension in dimensions.all() {
            let of_dimension: Vec<_> = unit_costs.iter().filter(|cost| cost.dimension == dimension.key).collect();
            if !of_dimension.is_empty() {
                bill.pay(&tx, dimension, &of_dimension, &mut windows).await?;
            }
        }
        tx.commit_unrecorded("a read").await?;
        let mut total = Margin::default();
        for window in &mut windows {
            window.total = window.dimensions.values().fold(Margin::default(), |mut sum, margin| {
                sum.add(*margin);
                sum
            });
            total.add(window.total);
        }
        Ok(Margins { currency: asking.currency, total, windows })
    }
}

fn revenue(costs: &WindowCosts) -> WindowMargins {
    let mut dimensions = BTreeMap::<_, Margin>::new();
    for entered in &costs.entries {
        dimensions.entry(entered.dimension.clone()).or_default().revenue += entered.amount;
    }
    WindowMargins { begin: costs.begin, end: costs.end, total: Margin::default(), dimensions }
}

impl Bill<'_> {
    /// Adds what a dimension costs the platform, rounded as the month has it by the end and the begin of each window.
    async fn pay(
        &self,
        tx: &TenantTx,
        dimension: &Dimension,
        costs: &[&UnitCost],
        windows: &mut [WindowMargins],
    ) -> Result<()> {
        let (Some(first), Some(last)) = (windows.first(), windows.last()) else { return Ok(()) };
        let mut moments: Vec<_> = windows.iter().flat_map(|window| [window.begin, window.end]).collect();
        moments.dedup();
        let months = Window::Month.cover(first.begin, last.end, self.zone)?;
        let runs = runs(&months, costs, &moments);
        let stretches: Vec<_> = runs.iter().map(|run| run.stretch.clone()).collect();
        let figures = reading::figures(tx, (dimension, self.zone), &stretches, self.now).await?;
        // Of the month that the moment is in or ends.
        let by = |month: Bounds, at: DateTime<Utc>| {
            let of_month = runs.iter().zip(&figures).filter(|(run, _)| run.stretch.month == month);
            let paid = of_month.filter_map(|(run, figures)| Some((figures[run.stretch.stop_at(at)?], run.cost)));
            let paid = paid.map(|(quantity, cost)| quantity.checked_mul(cost).map_or(MOST, |paid| paid.min(MOST)));
            self.currency.round(paid.sum())
        };
        for window in windows {
            let Some(month) = months.iter().find(|month| month.0 <= window.begin && window.begin < month.1) else {
                continue;
            };
            let paid = by(*month, window.end) - by(*month, window.begin);
            if !paid.is_zero() {
                window.dimensions.entry(Some(dimension.key.clone())).or_default().platform_cost += paid;
            }
        }
        Ok(())
    }
}

/// Each cost from when it begins until the next, by month. Costs are in the order of their begins.
fn runs(months: &[Bounds], costs: &[&UnitCost], moments: &[DateTime<Utc>]) -> Vec<Run> {
    let mut runs = Vec::new();
    for month in months {
        for (place, cost) in costs.iter().enumerate() {
            let begin = cost.effective_from.max(month.0);
            let end = costs.get(place + 1).map_or(month.1, |next| next.effective_from.min(month.1));
            if begin < end
                && let Some(stretch) = Stretch::new(*month, (begin, end), moments)
            {
                runs.push(Run { stretch, cost: cost.cost });
            }
        }
    }
    runs
}
