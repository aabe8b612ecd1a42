//! What was used from the begin of a stretch of time until each of its stops.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;

use super::{
    super::{
        Aggregation, Dimension, Window,
        store::Question,
        total::{Asked, decimal},
        window::{self, Bounds},
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

/// What lies between two stops of a stretch, or a part of it.
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
    if dimension.aggregation == Aggregation::UniqueCount && !pieces.is_empty() {
        return different(tx, dimension, (stretches, &pieces), now).await;
    }
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

/// Each is counted once, with the first piece of its stretch that it was seen in; where more were reported without a name, these.
async fn different(
    tx: &TenantTx,
    dimension: &Dimension,
    (stretches, pieces): (&[Stretch], &[Piece]),
    now: DateTime<Utc>,
) -> Result<Vec<Vec<Decimal>>> {
    let windows: Vec<_> = pieces.iter().map(|piece| piece.bounds).collect();
    let question =
        Question { tenant: tx.tenant(), dimension: dimension.dimension_id, windows: &windows, now, only: Some("{}") };
    let levels = window::pieces(&windows);
    let mut seen = vec![(Decimal::ZERO, Decimal::ZERO); pieces.len()];
    let of_none = || Error::internal("a window that was not asked for");
    for found in question.figures(tx, levels.as_deref(), "peak").await? {
        seen.get_mut(found.window).ok_or_else(of_none)?.0 = decimal(&found.peak)?;
    }
    let of_stretches = pieces.iter().map(|piece| piece.stretch as i64).collect();
    for (place, members) in question.firsts(tx, of_stretches, levels.is_some()).await? {
        seen.get_mut(place).ok_or_else(of_none)?.1 = Decimal::from(members);
    }
    let mut figures: Vec<Vec<Decimal>> =
        stretches.iter().map(|stretch| vec![Decimal::ZERO; stretch.stops.len()]).collect();
    let (mut stretch, mut most, mut members) = (0, Decimal::ZERO, Decimal::ZERO);
    for (piece, (peak, firsts)) in pieces.iter().zip(seen) {
        if piece.stretch != stretch {
            (stretch, most, members) = (piece.stretch, Decimal::ZERO, Decimal::ZERO);
        }
        (most, members) = (most.max(peak), members + firsts);
        figures[piece.stretch][piece.stop] = most.max(members).normalize();
    }
    Ok(figures)
}

/// What lies between stops: day by day where each day counts by itself, or is rounded, so that a month is the same by whatever stops.
fn pieces(aggregation: Aggregation, stretches: &[Stretch], zone: Tz) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    for (place, stretch) in stretches.iter().enumerate() {
        let mut from = stretch.begin;
        for (stop, to) in stretch.stops.iter().copied().enumerate() {
            let mut add = |bounds| pieces.push(Piece { stretch: place, stop, bounds });
            match aggregation {
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
            (_, known, None) => known,
            (_, None, found) | (Aggregation::Last, _, found) => found,
            (Aggregation::Max, Some(known), Some(found)) => Some(known.max(found)),
            (_, Some(known), Some(found)) => Some(known + found),
        };
        figures[piece.stretch][piece.stop] = so_far.unwrap_or_default().round_dp(9).normalize();
    }
    figures
}
