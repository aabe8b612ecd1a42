//! What was used in each window: exact, and with all that was accepted before the question.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use rust_decimal::{Decimal, RoundingStrategy};

use super::{
    Usage,
    dimension::{Aggregation, Dimension, Dimensions, Rounding},
    label,
    store::{Found, Question},
    window::{self, Bounds, Window},
};
use crate::{
    error::{Error, Result},
    isolation::{TenantScope, TenantTx},
};

/// The figure of one window and one group of labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Total {
    pub begin: DateTime<Utc>,
    pub end: DateTime<Utc>,
    pub labels: BTreeMap<String, String>,
    pub events: i64,
    pub figure: Decimal,
    /// In units that are sold.
    pub units: Decimal,
}

/// Minutes are counted from the events themselves: no longer than this at once.
const LONGEST_OF_MINUTES: TimeDelta = TimeDelta::hours(25);

impl Usage {
    /// Windows in which nothing was used are not told.
    pub async fn totals(
        &self,
        scope: &TenantScope,
        key: &str,
        (window, zone): (Window, Tz),
        (from, to): Bounds,
    ) -> Result<Vec<Total>> {
        let catalogue = self.tenancy.snapshots().catalogue().await?;
        let dimension = catalogue.part::<Dimensions>()?.find(key);
        let dimension =
            dimension.ok_or_else(|| Error::invalid("dimension", "is not in the catalogue of dimensions"))?;
        let windows = window.cover(from, to, zone)?;
        if window == Window::Minute && to - from > LONGEST_OF_MINUTES {
            return Err(Error::invalid("from", "is more than 25 hours before `to`, which is the most for minutes"));
        }
        let tx = self.isolation.begin(scope).await?;
        let asked = Asked { dimension, window, zone, windows: &windows, only: None };
        let found = asked.found(&tx, self.isolation.clock().now()).await?;
        tx.commit_unrecorded("a read").await?;
        found.into_iter().map(|found| total(found, dimension, &windows)).collect()
    }
}

/// Windows of one tenant and dimension, one after the other.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) dimension: &'a Dimension,
    pub(super) window: Window,
    pub(super) zone: Tz,
    pub(super) windows: &'a [Bounds],
    /// As in [`Question`].
    pub(super) only: Option<&'a str>,
}

impl Asked<'_> {
    /// Figures of all that was accepted before. Windows in which nothing was used are not told.
    pub(super) async fn found(&self, tx: &TenantTx, now: DateTime<Utc>) -> Result<Vec<Found>> {
        // A month of what is counted each day is made of its days.
        let is_by_day = self.dimension.aggregation == Aggregation::DailyUniqueCount && self.window == Window::Month;
        let windows = match (is_by_day, self.windows.first(), self.windows.last()) {
            (true, Some(first), Some(last)) => &Window::Day.cover(first.0, last.1, self.zone)?,
            _ => self.windows,
        };
        let dimension = self.dimension.dimension_id;
        let question = Question { tenant: tx.tenant(), dimension, windows, now, only: self.only };
        let found = self.ask(tx, &question).await?;
        if is_by_day { by_month(found, windows, self.windows) } else { Ok(found) }
    }

    async fn ask(&self, tx: &TenantTx, question: &Question<'_>) -> Result<Vec<Found>> {
        let pieces = if self.window == Window::Minute { None } else { window::pieces(question.windows) };
        let pieces = pieces.as_deref();
        match self.dimension.aggregation {
            Aggregation::Sum => question.figures(tx, pieces, "total").await,
            Aggregation::Max => question.figures(tx, pieces, "peak").await,
            Aggregation::Last => question.figures(tx, pieces, "latest").await,
            Aggregation::TimeWeightedAverage => question.averages(tx).await,
            Aggregation::UniqueCount | Aggregation::DailyUniqueCount => {
                let mut found = question.figures(tx, pieces, "peak").await?;
                for (place, labels, members) in question.members(tx, pieces.is_some()).await? {
                    let of_group = found.iter_mut().find(|known| known.window == place && known.labels == labels);
                    // Between two statements more may have come: it is told the next time.
                    let Some(known) = of_group else { continue };
                    if decimal(&known.peak)? < Decimal::from(members) {
                        known.figure = members.to_string();
                    }
                }
                Ok(found)
            }
        }
    }
}

/// Days added up in the months that they are in.
fn by_month(days: Vec<Found>, of_days: &[Bounds], months: &[Bounds]) -> Result<Vec<Found>> {
    let mut sums: BTreeMap<(usize, String), (i64, Decimal)> = BTreeMap::new();
    for day in days {
        let begin = of_days.get(day.window).ok_or_else(|| Error::internal("a day that was not asked for"))?.0;
        let month = months.partition_point(|(_, end)| *end <= begin);
        let sum = sums.entry((month, day.labels)).or_default();
        sum.0 += day.events;
        sum.1 += decimal(&day.figure)?;
    }
    let month = |((window, labels), (events, figure)): ((usize, String), (i64, Decimal))| {
        let figure = figure.to_string();
        Found { window, labels, events, peak: figure.clone(), figure }
    };
    Ok(sums.into_iter().map(month).collect())
}

fn total(found: Found, dimension: &Dimension, windows: &[Bounds]) -> Result<Total> {
    let (begin, end) = *windows.get(found.window).ok_or_else(|| Error::internal("a window that was not asked for"))?;
    let figure = decimal(&found.figure)?.normalize();
    let units = units(figure, dimension);
    Ok(Total { begin, end, labels: label::labels(&found.labels)?, events: found.events, figure, units })
}

pub(super) fn units(figure: Decimal, dimension: &Dimension) -> Decimal {
    let units = figure / Decimal::from(dimension.unit_size);
    let strategy = match dimension.rounding {
        Rounding::None => return units.normalize(),
        Rounding::Up => RoundingStrategy::AwayFromZero,
        Rounding::Down => RoundingStrategy::ToZero,
        Rounding::HalfUp => RoundingStrategy::MidpointAwayFromZero,
    };
    units.round_dp_with_strategy(0, strategy).normalize()
}

pub(super) fn decimal(text: &str) -> Result<Decimal> {
    text.parse().map_err(|error: rust_decimal::Error| Error::internal(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::dimension::GroupBy;

    fn sold_by(unit_size: i64, rounding: Rounding) -> Dimension {
        let now = DateTime::UNIX_EPOCH;
        Dimension {
            key: "calls".to_owned(),
            dimension_id: 7,
            unit: "calls".to_owned(),
            description: String::new(),
            aggregation: Aggregation::Sum,
            unit_size,
            rounding,
            group_by: GroupBy::default(),
            value_path: None,
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }

    #[test]
    fn units_are_rounded_as_the_dimension_says() {
        let cases = [
            (Rounding::None, "1500", "1.5"),
            (Rounding::Up, "1001", "2"),
            (Rounding::Up, "1000", "1"),
            (Rounding::Up, "0", "0"),
            (Rounding::Up, "-1001", "-2"),
            (Rounding::Down, "1999.999999999", "1"),
            (Rounding::HalfUp, "1499", "1"),
            (Rounding::HalfUp, "1500", "2"),
            (Rounding::HalfUp, "-1500", "-2"),
        ];
        for (rounding, figure, expected) in cases {
            let units = units(figure.parse().unwrap(), &sold_by(1000, rounding));
            assert_eq!(units.to_string(), expected, "{rounding:?} {figure}");
        }
    }

    #[test]
    fn days_add_up_in_the_month_that_they_are_in() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let months = Window::Month.cover(at("2026-10-05T00:00:00Z"), at("2026-11-05T00:00:00Z"), Tz::UTC).unwrap();
        let days = Window::Day.cover(months[0].0, months[1].1, Tz::UTC).unwrap();
        let found = |window: usize, figure: &str| Found {
            window,
            labels: String::new(),
            events: 1,
            figure: figure.to_owned(),
            peak: figure.to_owned(),
        };
        let sums = by_month(vec![found(0, "2"), found(30, "3"), found(31, "4")], &days, &months).unwrap();
        let figures: Vec<_> = sums.iter().map(|sum| (sum.window, sum.events, sum.figure.as_str())).collect();
        assert_eq!(figures, [(0, 2, "5"), (1, 1, "4")]);
    }
}
