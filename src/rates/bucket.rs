//! The token bucket of one tenant and key: plain values, no clock.
//!
//! It is kept from the other side: `debt` is what was taken and has not been refilled yet, in millionths of a token. In a
//! microsecond a rate of n tokens per second refills n of these, so everything is exact in integers, and a change of the rate
//! holds from that moment on without touching what is owed.

use super::standing::Standing;

/// Parts of a token.
pub(super) const TOKEN: i64 = 1_000_000;
/// Tokens per second that make no difference any more: what is above counts as this.
pub(super) const MOST_PER_SECOND: i64 = 1_000_000_000;
/// A clock that was set back by more than this is believed: else nothing would be refilled until it is where it was.
const JITTER: i64 = 1_000_000;
/// What Retry-After says where waiting does not help: a limit of zero.
const LOOK_AGAIN: i64 = 60 * TOKEN;

/// What a tenant may have of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that come back in a second.
    pub per_second: i64,
    /// Seconds' worth that may be taken at once.
    pub burst_seconds: i64,
}

impl Rate {
    pub fn burst(self) -> i64 {
        self.refill().saturating_mul(self.burst_seconds)
    }

    fn refill(self) -> i64 {
        self.per_second.clamp(0, MOST_PER_SECOND)
    }
}

/// The bucket, full when new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    /// What is owed, in parts of a token.
    debt: i64,
    /// Unix time of the last refill, in microseconds.
    at: i64,
    /// What would have been refilled since the last exchange, had the bucket not been full: others took it.
    spare: i64,
}

impl Bucket {
    pub(super) fn new(now: i64) -> Self {
        Self { debt: 0, at: now, spare: 0 }
    }

    /// Takes `cost` tokens, all or none.
    pub(super) fn take(&mut self, rate: Rate, cost: i64, now: i64) -> Standing {
        self.refill(rate, now);
        let burst = rate.burst().saturating_mul(TOKEN);
        let owed = self.debt.saturating_add(cost.saturating_mul(TOKEN));
        let allowed = owed <= burst;
        if allowed {
            self.debt = owed;
        }
        let free = burst.saturating_sub(self.debt).max(0);
        Standing {
            allowed,
            limit: rate.per_second,
            burst: rate.burst(),
            burst_seconds: rate.burst_seconds,
            remaining: free / TOKEN,
            reset_micros: duration(self.debt, rate),
            retry_micros: if allowed { 0 } else { duration(owed.saturating_sub(burst), rate) },
        }
    }

    /// What other replicas have taken since the last exchange. They took first what was left over here.
    pub(super) fn owe(&mut self, rate: Rate, tokens: i64, now: i64) {
        self.refill(rate, now);
        let foreign = tokens.saturating_mul(TOKEN);
        self.debt = self.debt.saturating_add(foreign.saturating_sub(self.spare).max(0));
        self.spare = 0;
    }

    /// For one that knew nothing of others: what they owe now, in parts of a token.
    pub(super) fn owe_besides(&mut self, rate: Rate, debt: i64, now: i64) {
        self.refill(rate, now);
        self.debt = self.debt.saturating_add(debt);
        self.spare = 0;
    }

    /// Whether it is full: then it is no different from a new one.
    pub(super) fn is_full(&mut self, rate: Rate, now: i64) -> bool {
        self.refill(rate, now);
        self.debt == 0
    }

    fn refill(&mut self, rate: Rate, now: i64) {
        let elapsed = now.saturating_sub(self.at);
        if elapsed > 0 {
            // Each factor is below 2^63, so the product fits.
            let refilled = i128::from(elapsed) * i128::from(rate.refill());
            let refilled = i64::try_from(refilled).unwrap_or(i64::MAX);
            self.spare = self.spare.saturating_add(refilled.saturating_sub(self.debt).max(0));
            self.debt = self.debt.saturating_sub(refilled).max(0);
            self.at = now;
        } else if elapsed < -JITTER {
            self.at = now;
        }
    }
}

/// Microseconds until so much is refilled, rounded up.
fn duration(debt: i64, rate: Rate) -> i64 {
    match rate.refill() {
        0 => LOOK_AGAIN,
        refill => (debt.max(0)).saturating_add(refill - 1) / refill,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;

    fn rate(per_second: i64) -> Rate {
        Rate { per_second, burst_seconds: 1 }
    }

    #[test]
    fn a_new_bucket_has_its_burst_and_no_more() {
        let mut bucket = Bucket::new(0);
        for left in (0..10).rev() {
            let standing = bucket.take(rate(10), 1, 0);
            assert!(standing.allowed && standing.remaining == left, "{standing:?}");
        }
        let refused = bucket.take(rate(10), 1, 0);
        assert!(!refused.allowed && refused.remaining == 0);
        assert_eq!((refused.retry_micros, refused.reset_micros), (SECOND / 10, SECOND));
    }

    #[test]
    fn tokens_come_back_one_by_one_and_never_more_than_the_burst() {
        let mut bucket = Bucket::new(0);
        assert!(bucket.take(rate(4), 4, 0).allowed);
        assert!(!bucket.take(rate(4), 1, SECOND / 4 - 1).allowed);
        assert!(bucket.take(rate(4), 1, SECOND / 4).allowed);
        assert!(!bucket.take(rate(4), 5, 100 * SECOND).allowed);
        assert!(bucket.take(rate(4), 4, 100 * SECOND).allowed);
    }

    #[test]
    fn a_refused_take_costs_nothing_and_its_advice_is_exact() {
        let mut bucket = Bucket::new(0);
        assert!(bucket.take(rate(3), 2, 0).allowed);
        let refused = bucket.take(rate(3), 3, 0);
        assert!(!refused.allowed && refused.remaining == 1);
        assert!(!bucket.take(rate(3), 3, refused.retry_micros - 1).allowed);
        assert!(bucket.take(rate(3), 3, refused.retry_micros).allowed);
    }

    #[test]
    fn a_limit_of_zero_lets_nothing_in_and_an_immense_one_everything() {
        assert!(!Bucket::new(0).take(rate(0), 1, SECOND).allowed);
        let mut bucket = Bucket::new(0);
        assert!(bucket.take(rate(i64::MAX), MOST_PER_SECOND, 0).allowed);
        assert!(bucket.take(rate(i64::MAX), MOST_PER_SECOND, i64::MAX / 2).allowed);
    }

    #[test]
    fn a_clock_that_goes_back_refills_nothing_twice_and_stops_nothing() {
        let mut bucket = Bucket::new(10 * SECOND);
        assert!(bucket.take(rate(2), 2, 10 * SECOND).allowed);
        assert!(!bucket.take(rate(2), 1, 10 * SECOND - JITTER / 2).allowed);
        assert!(!bucket.take(rate(2), 1, 10 * SECOND).allowed);
        // An hour back: refilled from there on.
        assert!(!bucket.take(rate(2), 1, 0).allowed);
        assert!(bucket.take(rate(2), 1, SECOND / 2).allowed);
    }

    #[test]
    fn what_others_took_first_uses_up_what_was_left_over() {
        let mut bucket = Bucket::new(0);
        bucket.owe(rate(10), 5, SECOND / 2); // half a second's worth was left over
        assert_eq!(bucket.take(rate(10), 1, SECOND / 2).remaining, 9);
        bucket.owe(rate(10), 20, SECOND / 2);
        let refused = bucket.take(rate(10), 1, SECOND / 2);
        assert!(!refused.allowed);
        assert_eq!(refused.retry_micros, SECOND * 12 / 10);
    }

    proptest! {
        /// In each stretch of any sequence: at most the burst and what came back meanwhile.
        #[test]
        fn never_more_than_burst_and_refill(
            per_second in 0_i64..2000,
            burst_seconds in 1_i64..4,
            steps in prop::collection::vec((0_i64..400_000, 1_i64..50), 1..200),
        ) {
            let rate = Rate { per_second, burst_seconds };
            let (mut bucket, mut now, mut taken) = (Bucket::new(0), 0, Vec::new());
            for (wait, cost) in steps {
                now += wait;
                if bucket.take(rate, cost, now).allowed {
                    taken.push((now, cost));
                }
            }
            for (first, (from, _)) in taken.iter().enumerate() {
                let mut sum = 0;
                for (until, cost) in &taken[first..] {
                    sum += cost;
                    prop_assert!(sum * TOKEN <= rate.burst() * TOKEN + per_second * (until - from));
                }
            }
        }

        /// Advice is right: after `retry_micros` the same cost is let in, one microsecond before it is not.
        #[test]
        fn advice_is_exact(per_second in 1_i64..5000, costs in prop::collection::vec(1_i64..200, 1..50)) {
            let (rate, mut bucket) = (rate(per_second), Bucket::new(0));
            for cost in costs.into_iter().filter(|cost| *cost <= per_second) {
                let standing = bucket.take(rate, cost, 0);
                if !standing.allowed {
                    prop_assert!(!bucket.clone().take(rate, cost, standing.retry_micros - 1).allowed);
                    prop_assert!(bucket.clone().take(rate, cost, standing.retry_micros).allowed);
                }
            }
        }
    }
}
