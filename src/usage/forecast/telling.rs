//! Forecasts of a tenant's usage until the end of its month.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use rust_decimal::{Decimal, prelude::ToPrimitive as _};

use super::{
    super::{
        Aggregation, Dimension, Dimensions, Usage, Window,
        costs::{Bill, Currency, Stretch, figures, share},
        total::{Asked, decimal},
        window::Bounds,
    },
    model::{self, Days, Model},
};
use crate::{
    error::{Error, Result},
    isolation::{TenantScope, TenantTx},
};

/// What a month will come to.
#[derive(Clone, Debug)]
pub struct Forecast {
    pub month: Bounds,
    pub at: DateTime<Utc>,
    /// What was used in the month so far, exactly.
    pub so_far: Decimal,
    pub expected: Decimal,
    pub lower: Decimal,
    /// None where too little is known to say.
    pub upper: Option<Decimal>,
    pub model: Model,
    /// Whole days that it is made of.
    pub days: usize,
    pub cost: Option<CostForecast>,
}

/// What the dimension's lines of the month will come to.
#[derive(Clone, Debug)]
pub struct CostForecast {
    pub currency: Currency,
    pub expected: Decimal,
    pub lower: Decimal,
    pub upper: Option<Decimal>,
}

/// Days that are looked back at.
const HISTORY: TimeDelta = TimeDelta::days(90);

/// Where a month and its days are, seen from a moment.
#[derive(Clone, Debug)]
struct Calendar {
    month: Bounds,
    today: Bounds,
    /// Whole days before today that are looked back at.
    past: Vec<Bounds>,
    /// Days of the month after today.
    ahead: Vec<Bounds>,
    now: DateTime<Utc>,
}

/// What was used: whole days before today, from the first that was used on, and today.
#[derive(Clone, Debug)]
struct History {
    days: Vec<f64>,
    today: f64,
}

/// A limit that will be passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::usage) struct Passing {
    pub(in crate::usage) so_far: Decimal,
    pub(in crate::usage) expected: Decimal,
    /// The begin of the day on which it is, or now.
    pub(in crate::usage) at: DateTime<Utc>,
}

/// Fewer whole days are no reason to warn anybody.
const DAYS_TO_WARN: usize = 7;

impl Usage {
    /// What the tenant's usage of a dimension will come to by the end of the month that it is in the zone, the tenant's own where none is
    /// given; in a currency, also what it will cost.
    pub async fn forecast(
        &self,
        scope: &TenantScope,
        key: &str,
        zone: Option<Tz>,
        currency: Option<Currency>,
    ) -> Result<Forecast> {
        let catalogue = self.tenancy.snapshots().catalogue().await?;
        let dimensions = catalogue.part::<Dimensions>()?;
        let dimension =
            dimensions.find(key).ok_or_else(|| Error::invalid("dimension", "is not in the catalogue of dimensions"))?;
        let tenant = self.tenancy.get(scope).await?;
        let own = tenant.profile.time_zone.as_deref().and_then(|name| name.parse().ok());
        let (zone, now) = (zone.or(own).unwrap_or(Tz::UTC), self.isolation.clock().now());
        let calendar = Calendar::at(now, zone)?;
        let tx = self.isolation.begin(scope).await?;
        let so_far = calendar.so_far(&tx, (dimension, zone)).await?;
        let history = calendar.history(&tx, (dimension, zone)).await?;
        tx.commit_unrecorded("a read").await?;
        let mut forecast = {
            let _permit = self.forecasts.acquire().await.map_err(Error::internal)?;
            let days = fitted(dimension, &calendar, &history).await;
            calendar.told(dimension.aggregation, &days, so_far, history.days.len())
        };
        if let Some(currency) = currency {
            let tx = self.isolation.begin(scope).await?;
            let bill = Bill { dimensions, tenant: &tenant, currency, zone, now };
            let ends = [Some(forecast.expected), Some(forecast.lower), forecast.upper];
            let added: Vec<_> = ends.iter().flatten().map(|end| *end - forecast.so_far).collect();
            let costs = bill.of_dimension_with(&tx, forecast.month, dimension, &added).await?;
            tx.commit_unrecorded("a read").await?;
            forecast.cost = cost(currency, &costs);
        }
        Ok(forecast)
    }

    /// Whether and when the present month will pass a limit that it has not passed. What following days will be is fitted once a day and kept,
    /// so that asking again with every use costs no more than a total does; late events of days before count from tomorrow on.
    pub(in crate::usage) async fn passing(
        &self,
        tx: &TenantTx,
        (dimension, zone): (&Dimension, Tz),
        limit: Decimal,
        now: DateTime<Utc>,
    ) -> Result<Option<Passing>> {
        let calendar = Calendar::at(now, zone)?;
        let so_far = calendar.so_far(tx, (dimension, zone)).await?;
        if so_far >= limit {
            return Ok(None);
        }
        let key = (tx.tenant(), dimension.dimension_id, calendar.today.0, calendar.month.1);
        let known = match self.following_days.get(&key) {
            Some(known) => known,
            None => {
                let history = calendar.history(tx, (dimension, zone)).await?;
                // Some milliseconds in a transaction, once a day.
                let days = match history.days.len() {
                    DAYS_TO_WARN.. => Some(fitted(dimension, &calendar, &history).await),
                    _ => None,
                };
                let known = Arc::new(days);
                self.following_days.insert(key, known.clone());
                known
            }
        };
        Ok((*known).as_ref().and_then(|days| calendar.passing(dimension.aggregation, &days.points, so_far, limit)))
    }
}

/// The model is fitted beside the runtime.
async fn fitted(dimension: &Dimension, calendar: &Calendar, history: &History) -> Days {
    let horizon = calendar.ahead.len() + 1;
    if history.days.is_empty() {
        return model::going_on(calendar.rate(dimension.aggregation, history.today), horizon);
    }
    let days = history.days.clone();
    let fitted = tokio::task::spawn_blocking(move || model::following(&days, horizon)).await;
    // A model that breaks on what it is given is no reason to say nothing.
    fitted.unwrap_or_else(|_| model::mean(&history.days, horizon))
}

/// Where a price falls with volume, the least may be dearer than the most.
fn cost(currency: Currency, costs: &[Decimal]) -> Option<CostForecast> {
    let (expected, lower, upper) = (*costs.first()?, *costs.iter().min()?, costs.iter().max());
    Some(CostForecast { currency, expected, lower, upper: upper.copied().filter(|_| costs.len() > 2) })
}

impl Calendar {
    fn at(now: DateTime<Utc>, zone: Tz) -> Result<Self> {
        let month = Window::Month.around(now, zone);
        let days = Window::Day.cover(now - HISTORY, month.1, zone)?;
        let (past, rest) = days.split_at(days.partition_point(|(_, end)| *end <= now));
        let (today, ahead) = rest.split_first().ok_or_else(|| Error::internal("a day has no end"))?;
        Ok(Self { month, today: *today, past: past.to_vec(), ahead: ahead.to_vec(), now })
    }

    async fn so_far(&self, tx: &TenantTx, of: (&Dimension, Tz)) -> Result<Decimal> {
        let stretches: Vec<_> =
            Stretch::new(self.month, self.month, &[self.month.0, self.month.1]).into_iter().collect();
        let figures = figures(tx, of, &stretches, self.now).await?;
        Ok(figures.into_iter().flatten().last().unwrap_or_default())
    }

    async fn history(&self, tx: &TenantTx, (dimension, zone): (&Dimension, Tz)) -> Result<History> {
        match dimension.aggregation {
            Aggregation::UniqueCount => self.growth(tx, (dimension, zone)).await,
            _ => self.totals(tx, (dimension, zone)).await,
        }
    }

    /// Totals of whole days, from the first that was used on, and of today. A day without an event has nothing, or what the last one had left.
    async fn totals(&self, tx: &TenantTx, (dimension, zone): (&Dimension, Tz)) -> Result<History> {
        let windows = [&self.past[..], &[self.today]].concat();
        let asked = Asked { dimension, window: Window::Day, zone, windows: &windows, only: Some("{}") };
        let mut days: Vec<Option<f64>> = vec![None; windows.len()];
        for found in asked.found(tx, self.now).await? {
            let figure = decimal(&found.figure)?.to_f64().unwrap_or_default().max(0.0);
            let day = days.get_mut(found.window).ok_or_else(|| Error::internal("a window that was not asked for"))?;
            *day = Some(day.unwrap_or_default() + figure);
        }
        let mut before = 0.0;
        let filled = days.iter().skip_while(|day| day.is_none()).map(|day| {
            before = day.unwrap_or(if dimension.aggregation == Aggregation::Last { before } else { 0.0 });
            before
        });
        let mut days: Vec<_> = filled.collect();
        let today = days.pop().unwrap_or_default();
        Ok(History { days, today })
    }

    /// By how many the different ones of the month grew on each of its days, and today.
    async fn growth(&self, tx: &TenantTx, of: (&Dimension, Tz)) -> Result<History> {
        let days = Window::Day.cover(self.month.0, self.today.1, of.1)?;
        let moments: Vec<_> = std::iter::once(self.month.0).chain(days.iter().map(|(_, end)| *end)).collect();
        let stretches: Vec<_> = Stretch::new(self.month, (self.month.0, self.today.1), &moments).into_iter().collect();
        let found = figures(tx, of, &stretches, self.now).await?;
        let so_far: Vec<_> = found.into_iter().flatten().map(|figure| figure.to_f64().unwrap_or_default()).collect();
        let begins = std::iter::once(0.0).chain(so_far.iter().copied());
        let mut days: Vec<_> = so_far.iter().zip(begins).map(|(end, begin)| (end - begin).max(0.0)).collect();
        let today = days.pop().unwrap_or_default();
        Ok(History { days, today })
    }

    /// What a whole day is, by what today was so far.
    fn rate(&self, aggregation: Aggregation, used_today: f64) -> f64 {
        match aggregation {
            Aggregation::Max | Aggregation::Last | Aggregation::TimeWeightedAverage => used_today,
            Aggregation::Sum | Aggregation::UniqueCount | Aggregation::DailyUniqueCount => {
                used_today / part_of(self.today, (self.today.0, self.now)).max(1e-3)
            }
        }
    }

    fn told(&self, aggregation: Aggregation, days: &Days, so_far: Decimal, of_days: usize) -> Forecast {
        let come_to = |days: &[f64]| self.come_to(aggregation, days, so_far);
        let expected = come_to(&days.points);
        Forecast {
            month: self.month,
            at: self.now,
            so_far,
            expected,
            lower: come_to(&days.lower).min(expected),
            upper: days.upper.as_ref().map(|upper| come_to(upper).max(expected)),
            model: days.model,
            days: of_days,
            cost: None,
        }
    }

    /// What was used so far, and the rest of today and the days after it as they are told: of fewer days than the month has left, by their end.
    fn come_to(&self, aggregation: Aggregation, days: &[f64], so_far: Decimal) -> Decimal {
        let number = |value: f64| Decimal::from_f64_retain(value).unwrap_or_default().round_dp(9).normalize();
        match aggregation {
            Aggregation::Max => days.iter().copied().map(number).fold(so_far, Decimal::max),
            Aggregation::Last => days.last().map_or(so_far, |last| number(*last)),
            Aggregation::TimeWeightedAverage => {
                let spans = std::iter::once((self.now, self.today.1)).chain(self.ahead.iter().copied());
                let parts = spans.zip(days).map(|((begin, end), day)| number(*day) * share(self.month, begin, end));
                (so_far + parts.sum::<Decimal>()).round_dp(9).normalize()
            }
            Aggregation::Sum | Aggregation::UniqueCount | Aggregation::DailyUniqueCount => {
                let today = days.first().map_or(0.0, |today| today * part_of(self.today, (self.now, self.today.1)));
                (so_far + number(today + days.iter().skip(1).sum::<f64>())).normalize()
            }
        }
    }

    /// The first day by whose end the limit is passed.
    fn passing(&self, aggregation: Aggregation, days: &[f64], so_far: Decimal, limit: Decimal) -> Option<Passing> {
        let begins = std::iter::once(self.now).chain(self.ahead.iter().map(|(begin, _)| *begin));
        let passes = |ahead: &(usize, DateTime<Utc>)| self.come_to(aggregation, &days[..=ahead.0], so_far) >= limit;
        let (_, at) = begins.enumerate().take(days.len()).find(passes)?;
        Some(Passing { so_far, expected: self.come_to(aggregation, days, so_far), at })
    }
}

/// How much of a day a part of it is.
fn part_of(day: Bounds, part: Bounds) -> f64 {
    let seconds = |(begin, end): Bounds| (end - begin).num_seconds().max(0) as f64;
    seconds(part) / seconds(day).max(1.0)
}
