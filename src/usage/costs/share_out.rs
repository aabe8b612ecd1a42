//! An amount among groups, in proportion, to the last minor unit.

use rust_decimal::{Decimal, RoundingStrategy};

/// Parts of the amount by weight, which add up to it. What is left after rounding down goes to the largest remainders, the first of equal
/// ones. Weights below 0 count as 0; where all are, the first has it all.
pub(super) fn share_out(amount: Decimal, weights: &[Decimal]) -> Vec<Decimal> {
    let digits = amount.scale();
    let weights: Vec<_> = weights.iter().map(|weight| (*weight).max(Decimal::ZERO)).collect();
    let whole: Decimal = weights.iter().sum();
    let mut parts = vec![Decimal::ZERO; weights.len()];
    if whole.is_zero() {
        if let Some(first) = parts.first_mut() {
            *first = amount;
        }
        return parts;
    }
    let exact: Vec<_> = weights.iter().map(|weight| amount * (weight / whole)).collect();
    for (part, exact) in parts.iter_mut().zip(&exact) {
        *part = exact.round_dp_with_strategy(digits, RoundingStrategy::ToZero);
    }
    let mut order: Vec<_> = (0..parts.len()).collect();
    order.sort_by_key(|place| std::cmp::Reverse((exact[*place] - parts[*place]).abs()));
    let step = Decimal::new(if amount.is_sign_negative() { -1 } else { 1 }, digits);
    let mut left = amount - parts.iter().sum::<Decimal>();
    for place in order.into_iter().cycle() {
        if left.is_zero() {
            break;
        }
        parts[place] += step;
        left -= step;
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_add_up_and_are_near_their_proportion(cents in -100_000i64..100_000, weights in proptest::collection::vec(0i64..1000, 1..20)) {
            let amount = Decimal::new(cents, 2);
            let weights: Vec<_> = weights.into_iter().map(Decimal::from).collect();
            let parts = share_out(amount, &weights);
            prop_assert_eq!(parts.iter().sum::<Decimal>(), amount);
            let whole: Decimal = weights.iter().sum();
            for (part, weight) in parts.iter().zip(&weights) {
                prop_assert!(whole.is_zero() || (part - amount * (weight / whole)).abs() < Decimal::new(1, 2));
            }
        }
    }
}
