//! Models of daily totals. Plain values; floating point, since what they say is not exact anyway.

use async_graphql::Enum;
use augurs_core::{Fit as _, Predict as _};
use augurs_ets::AutoETS;

/// How the rest of a month is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "ForecastModel")]
pub enum Model {
    /// There was no whole day: what was used today goes on.
    RunRate,
    /// The mean of fewer than 14 days, or of days that are all the same.
    Mean,
    /// Exponential smoothing with or without a trend, of 14 days or more.
    Smoothing,
    /// The same beside what each day of the week adds, of 28 days or more.
    WeeklySmoothing,
}

/// How sure the interval is.
pub const LEVEL: f64 = 0.95;
/// Normal deviates between which that part lies.
const DEVIATES: f64 = 1.959_963_984_540_054;
/// Days that smoothing needs, and that telling days of the week apart does.
const SMOOTHING: usize = 14;
const WEEKLY: usize = 28;
const WEEK: usize = 7;

/// What following days will be, each within an interval. Nothing is negative, and each interval has its point in it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::usage) struct Days {
    pub(super) model: Model,
    pub(super) points: Vec<f64>,
    pub(super) lower: Vec<f64>,
    /// None where too little is known to say.
    pub(super) upper: Option<Vec<f64>>,
}

/// The days that follow those that are known, in their order.
pub(super) fn following(known: &[f64], horizon: usize) -> Days {
    if horizon == 0 {
        return mean(known, horizon);
    }
    smoothed(known, horizon).unwrap_or_else(|| mean(known, horizon))
}

/// Today goes on, and nothing tells how sure that is.
pub(super) fn going_on(rate: f64, horizon: usize) -> Days {
    Days { model: Model::RunRate, points: vec![rate.max(0.0); horizon], lower: vec![0.0; horizon], upper: None }
}

pub(super) fn mean(known: &[f64], horizon: usize) -> Days {
    let count = known.len().max(1) as f64;
    let mean = known.iter().sum::<f64>() / count;
    let squares: f64 = known.iter().map(|day| (day - mean).powi(2)).sum();
    let width = DEVIATES * (squares / (count - 1.0).max(1.0) * (1.0 + 1.0 / count)).sqrt();
    let days = |value: f64| vec![value.max(0.0); horizon];
    // One day does not tell how much days differ.
    let upper = (known.len() > 1).then(|| days(mean + width));
    let lower = if upper.is_some() { days(mean - width) } else { days(0.0) };
    Days { model: Model::Mean, points: days(mean), lower, upper }
}

/// None where there are too few days, or they do not differ.
fn smoothed(known: &[f64], horizon: usize) -> Option<Days> {
    if known.len() < SMOOTHING {
        return None;
    }
    let (model, effects) = match known.len() {
        WEEKLY.. => (Model::WeeklySmoothing, weekday_effects(known)),
        _ => (Model::Smoothing, [0.0; WEEK]),
    };
    let level: Vec<_> = known.iter().enumerate().map(|(day, value)| value - effects[day % WEEK]).collect();
    let (points, lower, upper) = fitted(&level, horizon)?;
    let with_effects = |days: Vec<f64>| {
        let day = |(ahead, value): (usize, f64)| (value + effects[(known.len() + ahead) % WEEK]).max(0.0);
        days.into_iter().enumerate().map(day).collect::<Vec<_>>()
    };
    let (points, lower, upper) = (with_effects(points), with_effects(lower), with_effects(upper));
    Some(Days { model, points, lower, upper: Some(upper) })
}

/// Points, and the ends of their intervals. Only additive errors: their intervals are computed, where others are drawn by lot.
fn fitted(level: &[f64], horizon: usize) -> Option<(Vec<f64>, Vec<f64>, Vec<f64>)> {
    let (least, most) = level.iter().fold((f64::MAX, f64::MIN), |(least, most), day| (day.min(least), day.max(most)));
    let size = most.abs().max(least.abs());
    if most - least <= size * 1e-9 {
        let days = vec![level.iter().sum::<f64>() / level.len() as f64; horizon];
        return Some((days.clone(), days.clone(), days));
    }
    // Of one size, so that nothing depends on the unit.
    let scaled: Vec<_> = level.iter().map(|day| day / size).collect();
    let forecast = AutoETS::new(1, "AZN").ok()?.fit(&scaled).ok()?.predict(horizon, LEVEL).ok()?;
    let intervals = forecast.intervals?;
    let days = |values: Vec<f64>| values.into_iter().map(|value| value * size).collect::<Vec<_>>();
    let (points, mut lower, mut upper) = (days(forecast.point), days(intervals.lower), days(intervals.upper));
    if points.iter().any(|point| !point.is_finite())
        || [&points, &lower, &upper].iter().any(|days| days.len() != horizon)
    {
        return None;
    }
    for (place, point) in points.iter().enumerate() {
        // Where the fit is perfect, there is no deviation to tell.
        lower[place] = if lower[place].is_finite() { lower[place].min(*point) } else { *point };
        upper[place] = if upper[place].is_finite() { upper[place].max(*point) } else { *point };
    }
    Some((points, lower, upper))
}

/// What each day of the week adds to the mean of the seven days around it; the first is that of the first day. Together they add nothing.
fn weekday_effects(known: &[f64]) -> [f64; WEEK] {
    let (mut sums, mut counts) = ([0.0; WEEK], [0.0_f64; WEEK]);
    for (place, around) in known.windows(WEEK).enumerate() {
        let day = place + WEEK / 2;
        sums[day % WEEK] += known[day] - around.iter().sum::<f64>() / WEEK as f64;
        counts[day % WEEK] += 1.0;
    }
    let mut effects = [0.0; WEEK];
    for day in 0..WEEK {
        effects[day] = sums[day] / counts[day].max(1.0);
    }
    let mean = effects.iter().sum::<f64>() / WEEK as f64;
    effects.map(|effect| effect - mean)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_near(value: f64, expected: f64, tolerance: f64) -> bool {
        (value - expected).abs() <= tolerance * expected.abs().max(1e-9)
    }

    #[test]
    fn the_more_days_there_are_the_more_is_told_apart() {
        let days = |count: usize| {
            (0..count).map(|day| 100.0 + f64::from(u8::try_from(day * 37 % 11).unwrap())).collect::<Vec<_>>()
        };
        let model = |count| following(&days(count), 5).model;
        assert_eq!(
            [1, 13, 14, 27, 28, 90].map(model),
            [
                Model::Mean,
                Model::Mean,
                Model::Smoothing,
                Model::Smoothing,
                Model::WeeklySmoothing,
                Model::WeeklySmoothing
            ]
        );
        assert_eq!((following(&[5.0], 3).upper, following(&[], 3).points), (None, vec![0.0; 3]));
        assert!(following(&days(90), 0).points.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn what_is_always_the_same_stays_so(value in 0.0..1e12_f64, count in 2usize..90, horizon in 1usize..31) {
            let days = following(&vec![value; count], horizon);
            prop_assert!(days.points.iter().all(|point| is_near(*point, value, 1e-6)), "{:?}", days);
            prop_assert!(days.upper.unwrap().iter().all(|upper| is_near(*upper, value, 1e-6)));
        }

        #[test]
        fn a_line_goes_on(begin in 1.0..1e6_f64, step in 0.001..0.5_f64, count in 20usize..90, horizon in 1usize..31) {
            let line = |day: usize| begin * (1.0 + step * day as f64);
            let known: Vec<_> = (0..count).map(line).collect();
            let days = following(&known, horizon);
            for (ahead, point) in days.points.iter().enumerate() {
                prop_assert!(is_near(*point, line(count + ahead), 0.05), "{ahead}: {point} for {}", line(count + ahead));
            }
        }

        #[test]
        fn weeks_repeat_themselves(week in proptest::collection::vec(0.0..1e6_f64, 7), weeks in 4usize..13, more in 0usize..7, horizon in 1usize..31) {
            let known: Vec<_> = (0..weeks * 7 + more).map(|day| week[day % 7]).take(90).collect();
            let most = week.iter().fold(0.0_f64, |most, day| most.max(*day));
            let days = following(&known, horizon);
            for (ahead, point) in days.points.iter().enumerate() {
                let expected = week[(known.len() + ahead) % 7];
                prop_assert!((point - expected).abs() <= 0.01 * most, "{ahead}: {point} for {expected}");
            }
        }

        #[test]
        fn intervals_have_their_points_and_nothing_is_negative(known in proptest::collection::vec(prop_oneof![Just(0.0), 0.0..1e9_f64], 0..90), horizon in 0usize..31) {
            let days = following(&known, horizon);
            prop_assert_eq!((days.points.len(), days.lower.len()), (horizon, horizon));
            for (place, point) in days.points.iter().enumerate() {
                prop_assert!(point.is_finite() && 0.0 <= days.lower[place] && days.lower[place] <= *point, "{:?}", days);
                prop_assert!(days.upper.as_ref().is_none_or(|upper| upper[place].is_finite() && *point <= upper[place]), "{:?}", days);
            }
        }
    }
}
