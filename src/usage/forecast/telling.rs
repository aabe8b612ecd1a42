//! Forecasts of a tenant's usage until the end of its month.

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

/// What a forecast is made of.
#[derive(Clone, Debug)]
pub(in crate::usage) struct Known {
    month: Bounds,
    today: Bounds,
    /// Days of the month after today.
    ahead: Vec<Bounds>,
    so_far: Decimal,
    /// Whole days before today, from the first that was used on.
    days: Vec<f64>,
    used_today: f64,
}

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
        let tx = self.isolation.begin(scope).await?;
        let known = Known::read(&tx, (dimension, zone), now).await?;
        tx.commit_unrecorded("a read").await?;
        let mut forecast = self.forecast_of(dimension, known, now).await?;
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

    /// The model is fitted beside the runtime, as few at a time as there are permits.
    pub(in crate::usage) async fn forecast_of(
        &self,
        dimension: &Dimension,
        known: Known,
        now: DateTime<Utc>,
    ) -> Result<Forecast> {
        let horizon = known.ahead.len() + 1;
        let days = match known.days.len() {
            0 => model::going_on(known.rate(dimension.aggregation, now), horizon),
            _ => {
                let _permit = self.forecasts.acquire().await.map_err(Error::internal)?;
                let history = known.days.clone();
                let fitted = tokio::task::spawn_blocking(move || model::following(&history, horizon)).await;
                // A model that breaks on what it is given is no reason to say nothing.
                fitted.unwrap_or_else(|_| model::mean(&known.days, horizon))
            }
        };
        Ok(known.told(dimension.aggregation, &days, now))
    }
}

/// Where a price falls with volume, the least may be dearer than the most.
fn cost(currency: Currency, costs: &[Decimal]) -> Option<CostForecast> {
    let (expected, lower, upper) = (*costs.first()?, *costs.iter().min()?, costs.iter().max());
    Some(CostForecast { currency, expected, lower, upper: upper.copied().filter(|_| costs.len() > 2) })
}

impl Known {
    pub(in crate::usage) async fn read(
        tx: &TenantTx,
        (dimension, zone): (&Dimension, Tz),
        now: DateTime<Utc>,
    ) -> Result<Self> {
        let moment = TimeDelta::microseconds(1);
        let month = Window::Month.cover(now, now + moment, zone)?[0];
        let days = Window::Day.cover(now - HISTORY, month.1, zone)?;
        let place = days.partition_point(|(_, end)| *end <= now);
        let (past, ahead) = days.split_at(place);
        let (today, ahead) = ahead.split_first().ok_or_else(|| Error::internal("a day has no end"))?;
        let stretch = Stretch::new(month, month, &[month.0, month.1]).into_iter().collect::<Vec<_>>();
        let so_far = figures(tx, (dimension, zone), &stretch, now).await?;
        let (days, used_today) = match dimension.aggregation {
            Aggregation::UniqueCount => growth(tx, (dimension, zone), month, *today, now).await?,
            _ => totals(tx, (dimension, zone), past, *today, now).await?,
        };
        let so_far = so_far.first().and_then(|stops| stops.first()).copied().unwrap_or_default();
        Ok(Self { month, today: *today, ahead: ahead.to_vec(), so_far, days, used_today })
    }

    /// What a whole day is, by what today was so far.
    fn rate(&self, aggregation: Aggregation, now: DateTime<Utc>) -> f64 {
        match aggregation {
            Aggregation::Max | Aggregation::Last | Aggregation::TimeWeightedAverage => self.used_today,
            Aggregation::Sum | Aggregation::UniqueCount | Aggregation::DailyUniqueCount => {
                self.used_today / part_of(self.today, (self.today.0, now)).max(1e-3)
            }
        }
    }

    fn told(&self, aggregation: Aggregation, days: &Days, now: DateTime<Utc>) -> Forecast {
        let come_to = |days: &[f64]| self.come_to(aggregation, days, now);
        let expected = come_to(&days.points);
        Forecast {
            month: self.month,
            at: now,
            so_far: self.so_far,
            expected,
            lower: come_to(&days.lower).min(expected),
            upper: days.upper.as_ref().map(|upper| come_to(upper).max(expected)),
            model: days.model,
            days: self.days.len(),
            cost: None,
        }
    }

    /// What was used so far, and the rest of today and the days after it as they are told.
    fn come_to(&self, aggregation: Aggregation, days: &[f64], now: DateTime<Utc>) -> Decimal {
        let rest = part_of(self.today, (now, self.today.1));
        let number = |value: f64| Decimal::from_f64_retain(value).unwrap_or_default().round_dp(9).normalize();
        match aggregation {
            Aggregation::Max => days.iter().copied().map(number).fold(self.so_far, Decimal::max),
            Aggregation::Last => days.last().map_or(self.so_far, |last| number(*last)),
            Aggregation::TimeWeightedAverage => {
                let spans = std::iter::once((now, self.today.1)).chain(self.ahead.iter().copied());
                let parts = spans.zip(days).map(|((begin, end), day)| number(*day) * share(self.month, begin, end));
                (self.so_far + parts.sum::<Decimal>()).round_dp(9).normalize()
            }
            Aggregation::Sum | Aggregation::UniqueCount | Aggregation::DailyUniqueCount => {
                let today = days.first().map_or(0.0, |today| today * rest);
                (self.so_far + number(today + days.iter().skip(1).sum::<f64>())).normalize()
            }
        }
    }
}

/// How much of a day a part of it is.
fn part_of(day: Bounds, part: Bounds) -> f64 {
    let seconds = |(begin, end): Bounds| (end - begin).num_seconds().max(0) as f64;
    seconds(part) / seconds(day).max(1.0)
}

/// Totals of whole days, from the first that was used on, and of today. A day without an event has nothing, or what the last one had left.
async fn totals(
    tx: &TenantTx,
    (dimension, zone): (&Dimension, Tz),
    past: &[Bounds],
    today: Bounds,
    now: DateTime<Utc>,
) -> Result<(Vec<f64>, f64)> {
    let windows = [past, &[today]].concat();
    let asked = Asked { dimension, window: Window::Day, zone, windows: &windows, only: Some("{}") };
    let mut days: Vec<Option<f64>> = vec![None; windows.len()];
    for found in asked.found(tx, now).await? {
        let figure = decimal(&found.figure)?.to_f64().unwrap_or_default().max(0.0);
        let day = days.get_mut(found.window).ok_or_else(|| Error::internal("a window that was not asked for"))?;
        *day = Some(day.unwrap_or_default() + figure);
    }
    let mut before = 0.0;
    let filled = days.iter().skip_while(|day| day.is_none()).map(|day| {
        before = day.unwrap_or(if dimension.aggregation == Aggregation::Last { before } else { 0.0 });
        before
    });
    let mut filled: Vec<_> = filled.collect();
    let used_today = filled.pop().unwrap_or_default();
    Ok((filled, used_today))
}

/// By how many the different ones of the month grew on each of its days, and today.
async fn growth(
    tx: &TenantTx,
    (dimension, zone): (&Dimension, Tz),
    month: Bounds,
    today: Bounds,
    now: DateTime<Utc>,
) -> Result<(Vec<f64>, f64)> {
    let days = Window::Day.cover(month.0, today.1, zone)?;
    let moments: Vec<_> = std::iter::once(month.0).chain(days.iter().map(|(_, end)| *end)).collect();
    let stretches: Vec<_> = Stretch::new(month, (month.0, today.1), &moments).into_iter().collect();
    let found = figures(tx, (dimension, zone), &stretches, now).await?;
    let so_far: Vec<_> = found.into_iter().flatten().map(|figure| figure.to_f64().unwrap_or_default()).collect();
    let begins = std::iter::once(0.0).chain(so_far.iter().copied());
    let mut grown: Vec<_> = so_far.iter().zip(begins).map(|(end, begin)| (end - begin).max(0.0)).collect();
    let used_today = grown.pop().unwrap_or_default();
    Ok((grown, used_today))
}
