//! How much each grant gives to one period: decided on plain numbers.

/// What one grant can give to a period, and has given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// What is left of it; nothing of one that does not count any more.
    pub room: i64,
    /// What this period has had of it.
    pub given: i64,
}

/// What each grant has given once all together cover `overflow`, which is what was used above the limit without grants, as
/// far as they reach. `shares` are in burn order.
///
/// More is taken from the first that has room. Where the overflow has shrunk, because what was reserved was given back, the
/// grant that burnt last gets its part back first.
pub fn apportion(shares: &[Share], overflow: i64) -> Vec<i64> {
    let mut given: Vec<i64> = shares.iter().map(|share| share.given).collect();
    let mut missing = i128::from(overflow.max(0)) - given.iter().map(|given| i128::from(*given)).sum::<i128>();
    if missing > 0 {
        for (given, share) in given.iter_mut().zip(shares) {
            let taken = missing.min(i128::from(share.room.max(0)));
            *given += i64::try_from(taken).unwrap_or(i64::MAX);
            missing -= taken;
        }
    } else {
        for given in given.iter_mut().rev() {
            let returned = (-missing).min(i128::from(*given));
            *given -= i64::try_from(returned).unwrap_or(i64::MAX);
            missing += returned;
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shares() -> impl Strategy<Value = Vec<Share>> {
        proptest::collection::vec((0i64..1_000, 0i64..1_000).prop_map(|(room, given)| Share { room, given }), 0..8)
    }

    fn sum(values: &[i64]) -> i64 {
        values.iter().sum()
    }

    /// The shares as they are after what was given.
    fn after(shares: &[Share], given: &[i64]) -> Vec<Share> {
        let after = |(share, given): (&Share, &i64)| Share { room: share.room + share.given - given, given: *given };
        shares.iter().zip(given).map(after).collect()
    }

    #[test]
    fn the_first_burns_until_it_is_empty_and_the_last_gets_back_first() {
        let fresh = [Share { room: 5, given: 0 }, Share { room: 10, given: 0 }];
        assert_eq!(apportion(&fresh, 3), [3, 0]);
        assert_eq!(apportion(&fresh, 8), [5, 3]);
        assert_eq!(apportion(&fresh, 99), [5, 10]);
        let burnt = after(&fresh, &[5, 3]);
        assert_eq!(apportion(&burnt, 6), [5, 1]);
        assert_eq!(apportion(&burnt, 0), [0, 0]);
        assert_eq!(apportion(&burnt, -7), [0, 0]);
    }

    #[test]
    fn the_largest_amounts_do_not_overflow() {
        let large = [Share { room: i64::MAX, given: 0 }, Share { room: i64::MAX, given: 0 }];
        assert_eq!(apportion(&large, i64::MAX), [i64::MAX, 0]);
    }

    proptest! {
        #[test]
        fn all_together_give_the_overflow_as_far_as_they_reach(shares in shares(), overflow in -10i64..6_000) {
            let given = apportion(&shares, overflow);
            let reach: i64 = shares.iter().map(|share| share.given + share.room).sum();
            let before: i64 = shares.iter().map(|share| share.given).sum();
            let wanted = overflow.max(0);
            prop_assert_eq!(sum(&given), if wanted <= before { wanted } else { wanted.min(reach) });
        }

        #[test]
        fn nobody_gives_more_than_it_has_or_less_than_nothing(shares in shares(), overflow in -10i64..6_000) {
            for (given, share) in apportion(&shares, overflow).iter().zip(&shares) {
                prop_assert!((0..=share.given + share.room).contains(given));
            }
        }

        #[test]
        fn a_later_one_burns_only_when_all_before_are_empty(shares in shares(), overflow in 0i64..6_000) {
            let given = apportion(&shares, overflow);
            for (place, share) in shares.iter().enumerate().filter(|(place, share)| given[*place] > share.given) {
                let full = shares[..place].iter().zip(&given).all(|(earlier, given)| *given == earlier.given + earlier.room);
                prop_assert!(full, "{place} burnt {} before its turn", given[place] - share.given);
            }
        }

        #[test]
        fn to_do_it_again_changes_nothing_and_steps_lead_where_one_leads(shares in shares(), steps in proptest::collection::vec(0i64..6_000, 1..5)) {
            let mut present = shares.clone();
            for step in &steps {
                present = after(&present, &apportion(&present, *step));
            }
            let last = *steps.last().unwrap();
            let again: Vec<_> = present.iter().map(|share| share.given).collect();
            prop_assert_eq!(apportion(&present, last), again);
            // From nothing, growing only: the same as at once.
            let fresh: Vec<_> = shares.iter().map(|share| Share { given: 0, ..*share }).collect();
            let (mut growing, mut sorted) = (fresh.clone(), steps);
            sorted.sort_unstable();
            for step in &sorted {
                growing = after(&growing, &apportion(&growing, *step));
            }
            let grown: Vec<_> = growing.iter().map(|share| share.given).collect();
            prop_assert_eq!(grown, apportion(&fresh, *sorted.last().unwrap()));
        }
    }
}
