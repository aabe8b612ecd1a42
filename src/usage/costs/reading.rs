//! What was used from the begin of a stretch of time until each of its stops.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;

use super::{
    super::{
        Aggregation, Dimension, Window,
        total::{Asked, decimal},
        window::Bounds,
    },
    timeline::share,
};
use crate::{
    error::{Error, Result},
    isolation::TenantTx,
};

/// A part of one month that is counted by itself, and moments in it, in their order.
#[derive(Clone, Debug)]
pub(in crate::usage) struct Stretch {
    pub(super) month: Bounds,
    pub(super) begin: DateTime<Utc>,
    pub(super) stops: Vec<DateTime<Utc>>,
}

/// A stretch up to one of its stops, or from one to the next.
#[derive(Clone, Copy, Debug)]
struct Piece {
    stretch: usize,
    stop: usize,
    bounds: Bounds,
}

impl Stretch {
    /// From `begin` on, with the moments that lie in it; none where it begins after the last of them. Moments are in their order.
    pub(in crate::usage) fn new(month: Bounds, (begin, end): Bounds, moments: &[DateTime<Utc>]) -> Option<Self> {
        let last = *moments.last()?;
        if begin >= last {
            return None;
        }
        let end = end.min(last);
        let mut stops: Vec<_> = moments.iter().copied().filter(|at| begin < *at && *at < end).collect();
        stops.push(end);
        Some(Self { month, begin, stops })
    }

    /// The last stop that is not after a moment.
    pub(super) fn stop_at(&self, at: DateTime<Utc>) -> Option<usize> {
        self.stops.partition_point(|stop| *stop <= at).checked_sub(1)
    }
}

/// Figures of the whole dimension, whatever labels there are, by stretch and stop. What is averaged over the time is told as how much of it
/// there was by how much of the month, so that parts of a month add up.
pub(in crate::usage) async fn figures(
    tx: &TenantTx,
    (dimension, zone): (&Dimension, Tz),
    stretches: &[Stretch],
    now: DateTime<Utc>,
) -> Result<Vec<Vec<Decimal>>> {
    let pieces = pieces(dimension.aggregation, stretches, zone)?;
    let mut found: Vec<Option<Decimal>> = vec![None; pieces.len()];
    if !pieces.is_empty() {
        let windows: Vec<_> = pieces.iter().map(|piece| piece.bounds).collect();
        let asked = Asked { dimension, window: Window::Day, zone, windows: &windows, only: Some("{}") };
        for figure in asked.found(tx, now).await? {
            let known =
                found.get_mut(figure.window).ok_or_else(|| Error::internal("a window that was not asked for"))?;
            let mut number = decimal(&figure.figure)?;
            if dimension.aggregation == Aggregation::TimeWeightedAverage {
                let Piece { stretch, bounds: (begin, end), .. } = pieces[figure.window];
                number *= share(stretches[stretch].month, begin, end.min(now));
            }
            *known = Some(known.unwrap_or_default() + number);
        }
    }
    Ok(added_up(dimension.aggregation, stretches, &pieces, &found))
}

/// Different ones are counted anew from the begin to each stop; what else there is is told by what is between stops: day by day where each day
/// counts by itself, or is rounded, so that a month is the same by whatever stops.
fn pieces(aggregation: Aggregation, stretches: &[Stretch], zone: Tz) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    for (place, stretch) in stretches.iter().enumerate() {
        let mut from = stretch.begin;
        for (stop, to) in stretch.stops.iter().copied().enumerate() {
            let mut add = |bounds| pieces.push(Piece { stretch: place, stop, bounds });
            match aggregation {
                Aggregation::UniqueCount => add((stretch.begin, to)),
                Aggregation::DailyUniqueCount | Aggregation::TimeWeightedAverage => {
                    for (begin, end) in Window::Day.cover(from, to, zone)? {
                        add((begin.max(from), end.min(to)));
                    }
                }
                _ => add((from, to)),
            }
            from = to;
        }
    }
    Ok(pieces)
}

fn added_up(
    aggregation: Aggregation,
    stretches: &[Stretch],
    pieces: &[Piece],
    found: &[Option<Decimal>],
) -> Vec<Vec<Decimal>> {
    let mut figures: Vec<Vec<Decimal>> =
        stretches.iter().map(|stretch| vec![Decimal::ZERO; stretch.stops.len()]).collect();
    let mut so_far: Option<Decimal> = None;
    let mut stretch = 0;
    for (piece, found) in pieces.iter().zip(found) {
        if piece.stretch != stretch {
            (stretch, so_far) = (piece.stretch, None);
        }
        so_far = match (aggregation, so_far, *found) {
            (Aggregation::UniqueCount, _, found) => found,
            (_, known, None) => known,
            (_, None, found) | (Aggregation::Last, _, found) => found,
            (Aggregation::Max, Some(known), Some(found)) => Some(known.max(found)),
            (_, Some(known), Some(found)) => Some(known + found),
        };
        figures[piece.stretch][piece.stop] = so_far.unwrap_or_default().round_dp(9).normalize();
    }
    figures
}
