//! How long many requests took, in few numbers that add up.

/// Buckets for each doubling.
const STEPS: f64 = 8.0;
/// Of the longest that are told apart: 2^27 microseconds, which is more than two minutes.
const LAST: usize = 27 * 8 - 1;

/// Counts by logarithmic buckets of microseconds: the `n`-th is of what took from 2^(n/8) until before 2^((n+1)/8). A quantile is told as
/// the middle of its bucket, so that it is less than 4.5 per cent off (2^(1/16) - 1), from one microsecond to two minutes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies(Vec<u64>);

impl Latencies {
    pub fn of_counts(counts: Vec<u64>) -> Self {
        Self(counts)
    }

    pub fn counts(&self) -> &[u64] {
        &self.0
    }

    pub fn add(&mut self, took: std::time::Duration) {
        let place = bucket(took);
        if self.0.len() <= place {
            self.0.resize(place + 1, 0);
        }
        self.0[place] += 1;
    }

    pub fn merge(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (own, others) in self.0.iter_mut().zip(&other.0) {
            *own += others;
        }
    }

    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The shortest time that at least `per_cent` of them took at most, in milliseconds; none where there are none.
    pub fn percentile(&self, per_cent: u64) -> Option<f64> {
        let rank = (self.count() * per_cent).div_ceil(100).max(1);
        let mut so_far = 0;
        let reaches = |count: &u64| {
            so_far += count;
            so_far >= rank
        };
        let place = self.0.iter().position(reaches)?;
        Some(rounded(((place as f64 + 0.5) / STEPS).exp2() / 1000.0))
    }
}

/// To four digits: more would tell of nothing.
fn rounded(figure: f64) -> f64 {
    let scale = 10_f64.powf(3.0 - figure.log10().floor());
    (figure * scale).round() / scale
}

fn bucket(took: std::time::Duration) -> usize {
    let micros = (took.as_secs_f64() * 1e6).max(1.0);
    ((micros.log2() * STEPS) as usize).min(LAST)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn of(nanos: &[u64]) -> Latencies {
        let mut latencies = Latencies::default();
        nanos.iter().for_each(|nanos| latencies.add(Duration::from_nanos(*nanos)));
        latencies
    }

    fn merged(parts: &[&Latencies]) -> Latencies {
        let mut sum = Latencies::default();
        parts.iter().for_each(|part| sum.merge(part));
        sum
    }

    #[test]
    fn bounds_of_buckets_are_powers_and_what_is_out_of_range_is_in_the_outermost() {
        for (micros, place) in [(0, 0), (1, 0), (2, 8), (1024, 80), (1 << 26, 208), (1 << 27, LAST), (1 << 40, LAST)] {
            assert_eq!(bucket(Duration::from_micros(micros)), place, "{micros}");
        }
        assert_eq!(Latencies::default().percentile(50), None);
    }

    proptest! {
        #[test]
        fn whatever_is_merged_in_whatever_order_is_the_same(a in times(), b in times(), c in times()) {
            let all: Vec<_> = a.iter().chain(&b).chain(&c).copied().collect();
            let (a, b, c) = (of(&a), of(&b), of(&c));
            prop_assert_eq!(&merged(&[&merged(&[&a, &b]), &c]), &merged(&[&a, &merged(&[&b, &c])]));
            prop_assert_eq!(&merged(&[&a, &b, &c]), &merged(&[&c, &b, &a]));
            prop_assert_eq!(&merged(&[&a, &b, &c]), &of(&all));
        }

        #[test]
        fn a_percentile_is_at_most_four_and_a_half_per_cent_off(times in times(), per_cent in 1u64..=100) {
            let latencies = of(&times);
            let mut sorted = times.clone();
            sorted.sort_unstable();
            let rank = (times.len() * per_cent as usize).div_ceil(100).max(1);
            let exact = sorted[rank - 1] as f64 / 1e6;
            let told = latencies.percentile(per_cent).unwrap();
            prop_assert!((told / exact - 1.0).abs() <= 0.045, "{} for {}", told, exact);
        }
    }

    /// From a microsecond to two minutes, as many of each order.
    fn times() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec((10.0f64..36.9).prop_map(|power| power.exp2() as u64), 1..200)
    }
}
