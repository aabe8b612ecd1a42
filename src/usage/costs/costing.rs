//! What a tenant's usage costs, window by window.

use std::collections::{BTreeMap, HashMap};

use async_graphql::Enum;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;

use super::{
    super::{
        Aggregation, Dimension, Dimensions, Usage, Window, label,
        total::{Asked, decimal, units},
        window::Bounds,
    },
    currency::Currency,
    reading::{self, Stretch},
    share_out::share_out,
    store,
    tariff::{self, Kind, Line, Part, Used},
    timeline::{self, Plans, Span, share},
};
use crate::{
    error::{Error, Result},
    isolation::{TenantScope, TenantTx},
    tenancy::Tenant,
};

/// The length of a window of costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "CostWindow")]
pub enum Per {
    Day,
    Month,
}

/// A question about costs.
#[derive(Clone, Copy, Debug)]
pub struct Asking {
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
    pub per: Per,
    pub zone: Tz,
    pub currency: Currency,
}

#[derive(Clone, Debug)]
pub struct Costs {
    pub currency: Currency,
    pub total: Decimal,
    /// Of all windows together.
    pub entries: Vec<Entered>,
    pub windows: Vec<WindowCosts>,
}

#[derive(Clone, Debug)]
pub struct WindowCosts {
    pub begin: DateTime<Utc>,
    pub end: DateTime<Utc>,
    pub amount: Decimal,
    pub entries: Vec<Entered>,
}

/// What is asked for one thing.
#[derive(Clone, Debug)]
pub struct Entered {
    pub kind: Kind,
    /// None of the base fee.
    pub dimension: Option<String>,
    pub used: Used,
    pub amount: Decimal,
    /// Of a dimension whose totals are kept apart by labels.
    pub groups: Vec<GroupCost>,
}

#[derive(Clone, Debug)]
pub struct GroupCost {
    pub labels: BTreeMap<String, String>,
    pub quantity: Decimal,
    /// The group's part of the amount, in proportion to its quantity.
    pub amount: Decimal,
}

/// More windows in one answer are nobody's.
const MOST: usize = 400;

impl Per {
    pub(super) fn window(self) -> Window {
        match self {
            Self::Day => Window::Day,
            Self::Month => Window::Month,
        }
    }
}

impl Asking {
    /// The windows that have begun.
    pub(super) fn windows(&self, now: DateTime<Utc>) -> Result<Vec<Bounds>> {
        let mut windows = self.per.window().cover(self.from, self.to, self.zone)?;
        let longest = if self.per == Per::Day { MOST } else { MOST / 10 };
        if windows.len() > longest {
            let rule = "is more than 400 days, or 40 months, before `to`; ask for less at a time";
            return Err(Error::invalid("from", rule));
        }
        windows.retain(|(begin, _)| *begin <= now);
        Ok(windows)
    }
}

impl Usage {
    /// What the tenant's usage costs in each window, and altogether.
    pub async fn costs(&self, scope: &TenantScope, asking: Asking) -> Result<Costs> {
        let now = self.isolation.clock().now();
        let windows = asking.windows(now)?;
        let catalogue = self.tenancy.snapshots().catalogue().await?;
        let tenant = self.tenancy.get(scope).await?;
        let bill = Bill {
            dimensions: catalogue.part::<Dimensions>()?,
            tenant: &tenant,
            currency: asking.currency,
            zone: asking.zone,
            now,
        };
        let tx = self.isolation.begin(scope).await?;
        let mut windows = bill.of(&tx, &windows).await?;
        bill.tell_groups(&tx, asking.per.window(), &mut windows).await?;
        tx.commit_unrecorded("a read").await?;
        let mut entries = Sums::default();
        for entered in windows.iter().flat_map(|window| &window.entries) {
            entries.add((entered.kind, entered.dimension.clone()), entered.used, entered.amount);
        }
        let total = asking.currency.round(windows.iter().map(|window| window.amount).sum());
        Ok(Costs { currency: asking.currency, total, entries: entries.entered(), windows })
    }
}

/// What costs are told by, besides what was used.
#[derive(Clone, Copy, Debug)]
pub(in crate::usage) struct Bill<'a> {
    pub(in crate::usage) dimensions: &'a Dimensions,
    pub(in crate::usage) tenant: &'a Tenant,
    pub(in crate::usage) currency: Currency,
    pub(in crate::usage) zone: Tz,
    pub(in crate::usage) now: DateTime<Utc>,
}

/// A price's span, and what its month has come to by each stop.
struct Told<'a> {
    span: Span<'a>,
    stretch: Stretch,
    lines: Vec<Vec<Line>>,
}

impl Bill<'_> {
    /// Costs of windows, which follow each other. A window's is what its months have cost by its end, less what they had by its begin.
    pub(in crate::usage) async fn of(&self, tx: &TenantTx, windows: &[Bounds]) -> Result<Vec<WindowCosts>> {
        let (Some(first), Some(last)) = (windows.first(), windows.last()) else { return Ok(Vec::new()) };
        let prices = store::prices(tx, Some(self.currency)).await?;
        let plans = self.plans(tx).await?;
        let months = Window::Month.cover(first.0, last.1, self.zone)?;
        let mut moments: Vec<_> = windows.iter().flat_map(|(begin, end)| [*begin, *end]).collect();
        moments.dedup();
        let told = self.told(tx, timeline::spans(&months, &plans, &prices), &moments, self.dimensions.all()).await?;
        Ok(windows.iter().map(|window| self.window(*window, &told)).collect())
    }

    /// What a dimension's lines of the present month come to, with each of several quantities added to what was used so far, at the price that
    /// is in force now. In the order of the quantities.
    pub(in crate::usage) async fn of_dimension_with(
        &self,
        tx: &TenantTx,
        month: Bounds,
        dimension: &Dimension,
        added: &[Decimal],
    ) -> Result<Vec<Decimal>> {
        let prices = store::prices(tx, Some(self.currency)).await?;
        let plans = self.plans(tx).await?;
        let told = self
            .told(tx, timeline::spans(&[month], &plans, &prices), &[month.0, month.1], std::slice::from_ref(dimension))
            .await?;
        let cost = |added: &Decimal| {
            let mut sum = self.currency.round(Decimal::ZERO);
            for told in &told {
                let of_dimension = |line: &&Line| line.dimension.as_deref() == Some(&dimension.key);
                let Some(line) = told.lines.iter().flatten().find(of_dimension) else { continue };
                let Span { bounds: (begin, end), price, .. } = told.span;
                let is_present = begin <= self.now && self.now < end;
                let quantity = line.used.quantity + if is_present { *added } else { Decimal::ZERO };
                let used = Used { quantity, units: units(quantity, dimension) };
                let share = share(month, begin, end);
                let lines =
                    tariff::lines(&price.components, self.currency, Part { whole: share, so_far: share }, |_| used);
                sum += lines.iter().find(of_dimension).map(|line| line.amount).unwrap_or_default();
            }
            sum
        };
        Ok(added.iter().map(cost).collect())
    }

    async fn plans(&self, tx: &TenantTx) -> Result<Plans> {
        let changes = store::plan_changes(tx).await?;
        Ok(Plans { since: self.tenant.created_at, present: self.tenant.plan.clone(), changes })
    }

    /// What was used of some dimensions; nothing, of others.
    async fn told<'p>(
        &self,
        tx: &TenantTx,
        spans: Vec<Span<'p>>,
        moments: &[DateTime<Utc>],
        dimensions: &[Dimension],
    ) -> Result<Vec<Told<'p>>> {
        let mut told: Vec<Told<'p>> = Vec::new();
        for span in spans {
            if let Some(stretch) = Stretch::new(span.month, span.bounds, moments) {
                told.push(Told { span, stretch, lines: Vec::new() });
            }
        }
        let mut figures: Vec<HashMap<&str, Vec<Decimal>>> = vec![HashMap::new(); told.len()];
        for dimension in dimensions {
            let asks = |told: &Told<'_>| {
                told.span.price.components.iter().any(|component| component.dimension() == Some(&dimension.key))
            };
            let places: Vec<_> = (0..told.len()).filter(|place| asks(&told[*place])).collect();
            let stretches: Vec<_> = places.iter().map(|place| told[*place].stretch.clone()).collect();
            let found = reading::figures(tx, (dimension, self.zone), &stretches, self.now).await?;
            for (place, found) in places.into_iter().zip(found) {
                figures[place].insert(&dimension.key, found);
            }
        }
        for (told, figures) in told.iter_mut().zip(&figures) {
            for place in 0..told.stretch.stops.len() {
                told.lines.push(self.lines(told, place, figures));
            }
        }
        Ok(told)
    }

    fn lines(&self, told: &Told<'_>, stop: usize, figures: &HashMap<&str, Vec<Decimal>>) -> Vec<Line> {
        let Told { span: Span { month, bounds: (begin, end), price }, stretch, .. } = told;
        let part = Part { whole: share(*month, *begin, *end), so_far: share(*month, *begin, stretch.stops[stop]) };
        tariff::lines(&price.components, self.currency, part, |key| {
            let quantity = figures.get(key).map_or(Decimal::ZERO, |figures| figures[stop]);
            let units = self.dimensions.find(key).map_or(quantity, |dimension| units(quantity, dimension));
            Used { quantity, units }
        })
    }

    fn window(&self, (begin, end): Bounds, told: &[Told<'_>]) -> WindowCosts {
        let mut sums = Sums::default();
        for told in told {
            for (stop, sign) in
                [(told.stretch.stop_at(end), Decimal::ONE), (told.stretch.stop_at(begin), -Decimal::ONE)]
            {
                for line in stop.map(|stop| told.lines[stop].as_slice()).unwrap_or_default() {
                    let used = Used { quantity: line.used.quantity * sign, units: line.used.units * sign };
                    sums.add((line.kind, line.dimension.clone()), used, line.amount * sign);
                }
            }
        }
        let entries = sums.entered();
        let amount = self.currency.round(entries.iter().map(|entered| entered.amount).sum());
        WindowCosts { begin, end, amount, entries }
    }

    /// Adds which labels it was used with, where a dimension's totals are kept apart by them.
    async fn tell_groups(&self, tx: &TenantTx, window: Window, costs: &mut [WindowCosts]) -> Result<()> {
        let windows: Vec<_> = costs.iter().map(|costs| (costs.begin, costs.end)).collect();
        for dimension in self.dimensions.all().iter().filter(|known| !known.group_by.0.is_empty()) {
            let is_asked = |entered: &Entered| entered.dimension.as_deref() == Some(&dimension.key);
            if !costs.iter().any(|costs| costs.entries.iter().any(is_asked)) {
                continue;
            }
            let groups = self.groups(tx, (dimension, window), &windows).await?;
            for (costs, groups) in costs.iter_mut().zip(groups) {
                for entered in costs.entries.iter_mut().filter(|entered| is_asked(entered)) {
                    let weights: Vec<_> = groups.iter().map(|(_, quantity)| *quantity).collect();
                    let amounts = share_out(entered.amount, &weights);
                    let group = |((labels, quantity), amount): (&(BTreeMap<String, String>, Decimal), Decimal)| {
                        GroupCost { labels: labels.clone(), quantity: *quantity, amount: self.currency.round(amount) }
                    };
                    entered.groups = groups.iter().zip(amounts).map(group).collect();
                }
            }
        }
        Ok(())
    }

    async fn groups(
        &self,
        tx: &TenantTx,
        (dimension, window): (&Dimension, Window),
        windows: &[Bounds],
    ) -> Result<Vec<Vec<(BTreeMap<String, String>, Decimal)>>> {
        let asked = Asked { dimension, window, zone: self.zone, windows, only: None };
        let mut groups = vec![Vec::new(); windows.len()];
        for found in asked.found(tx, self.now).await? {
            let (begin, end) =
                *windows.get(found.window).ok_or_else(|| Error::internal("a window that was not asked for"))?;
            let mut quantity = decimal(&found.figure)?;
            if dimension.aggregation == Aggregation::TimeWeightedAverage {
                let month = Window::Month.cover(begin, end, self.zone)?[0];
                quantity = (quantity * share(month, begin, end.min(self.now))).round_dp(9);
            }
            groups[found.window].push((label::labels(&found.labels)?, quantity.normalize()));
        }
        Ok(groups)
    }
}

/// Lines of the same thing, added up.
#[derive(Debug, Default)]
struct Sums(BTreeMap<(Kind, Option<String>), (Used, Decimal)>);

impl Sums {
    fn add(&mut self, of: (Kind, Option<String>), used: Used, amount: Decimal) {
        let sum = self.0.entry(of).or_default();
        sum.0.quantity += used.quantity;
        sum.0.units += used.units;
        sum.1 += amount;
    }

    /// Without those of which nothing was used and for which nothing is asked.
    fn entered(self) -> Vec<Entered> {
        let entered = |((kind, dimension), (used, amount)): ((Kind, Option<String>), (Used, Decimal))| Entered {
            kind,
            dimension,
            used: Used { quantity: used.quantity.normalize(), units: used.units.normalize() },
            amount,
            groups: Vec::new(),
        };
        let all = self.0.into_iter().map(entered);
        all.filter(|entered| !entered.used.quantity.is_zero() || !entered.amount.is_zero()).collect()
    }
}
