//! Whether a day is unlike those before. Plain values.

use rust_decimal::Decimal;

/// What is not as usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anomaly {
    /// More than `most` was used.
    Spike { usual: Decimal, most: Decimal },
    /// Nothing was used, on a day that is over.
    Silence { usual: Decimal },
}

/// Whether more may come in a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Running,
    Over,
}

/// Same weekdays that are looked back at, and how many of them it takes: four weeks.
pub(super) const WEEKDAYS: u64 = 8;
const FEWEST: usize = 4;

/// Compares a day with the same weekdays before it, the oldest first; none is of a day without an event. What lies before the first use is no
/// history. Usual is the median. A spike is more than six deviations above it, where a deviation is the median of absolute ones, in terms of
/// the normal distribution (1.4826, as in Iglewicz and Hoaglin, 1993), and at least a tenth of what is usual. A silence is a day without
/// use where none of the others was one.
pub(super) fn compare(used: Option<Decimal>, before: &[Option<Decimal>], progress: Progress) -> Option<Anomaly> {
    let known = before.iter().skip_while(|day| day.is_none());
    let mut known: Vec<_> = known.map(|day| day.unwrap_or_default().max(Decimal::ZERO)).collect();
    if known.len() < FEWEST {
        return None;
    }
    let usual = median(&mut known);
    let used = used.unwrap_or_default();
    if used <= Decimal::ZERO {
        let is_silent = progress == Progress::Over && known.iter().all(|day| *day > Decimal::ZERO);
        return is_silent.then_some(Anomaly::Silence { usual });
    }
    let mut deviations: Vec<_> = known.iter().map(|day| (*day - usual).abs()).collect();
    let deviation = median(&mut deviations) * Decimal::new(14_826, 4);
    let deviation = deviation.max(usual / Decimal::TEN);
    let most = (usual + Decimal::from(6) * deviation).round_dp(9).normalize();
    (usual > Decimal::ZERO && used > most).then_some(Anomaly::Spike { usual, most })
}

fn median(values: &mut [Decimal]) -> Decimal {
    values.sort_unstable();
    let middle = values.len() / 2;
    let upper = values.get(middle).copied().unwrap_or_default();
    if values.len() % 2 == 1 { upper } else { ((values[middle - 1] + upper) / Decimal::TWO).normalize() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(of: &[i64]) -> Vec<Option<Decimal>> {
        of.iter().map(|day| (*day >= 0).then(|| Decimal::from(*day))).collect()
    }

    fn told(used: i64, before: &[i64], progress: Progress) -> Option<Anomaly> {
        compare(days(&[used])[0], &days(before), progress)
    }

    fn spike(usual: i64, most: i64) -> Option<Anomaly> {
        Some(Anomaly::Spike { usual: Decimal::from(usual), most: Decimal::from(most) })
    }

    #[test]
    fn a_spike_is_far_above_what_is_usual_and_one_outlier_hides_none() {
        let even = [100, 100, 100, 100];
        assert_eq!(told(160, &even, Progress::Running), None);
        assert_eq!(told(161, &even, Progress::Running), spike(100, 160));
        assert_eq!(told(161, &[100, 100, 9000, 100, 100], Progress::Running), spike(100, 160));
        // Where days differ more, more is usual: deviations of 0, 0, 50 and 50 are of 25.
        assert_eq!(told(320, &[50, 100, 100, 150], Progress::Running), None);
        assert!(told(330, &[50, 100, 100, 150], Progress::Running).is_some());
        assert_eq!(told(5, &[0, 0, 0, 7], Progress::Over), None);
    }

    #[test]
    fn a_day_is_silent_when_it_is_over_where_none_before_was() {
        let usual = Decimal::from(100);
        assert_eq!(told(-1, &[100; 4], Progress::Over), Some(Anomaly::Silence { usual }));
        assert_eq!(told(0, &[100; 4], Progress::Over), Some(Anomaly::Silence { usual }));
        assert_eq!(told(-1, &[100; 4], Progress::Running), None);
        assert_eq!(told(-1, &[100, -1, 100, 100, 100], Progress::Over), None);
    }

    #[test]
    fn less_than_four_weeks_tell_nothing() {
        assert_eq!(told(1_000_000, &[-1, -1, 100, 100, 100], Progress::Running), None);
        assert_eq!(told(-1, &[100; 3], Progress::Over), None);
        assert_eq!(told(1, &[], Progress::Over), None);
    }
}
