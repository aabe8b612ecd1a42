//! Where a unit stands in a rollout.

use aws_lc_rs::digest::{Context, SHA256};

/// A thousandth of a per cent each.
pub const BUCKETS: u32 = 100_000;

/// The bucket of `unit`: the same on every replica, in every release, and for every percentage, so that a unit that is in
/// stays in while the percentage grows. SHA-256 of key, salt and unit: who is early in one flag is not in another.
pub(super) fn bucket(flag: &str, salt: &str, unit: &str) -> u32 {
    let mut hash = Context::new(&SHA256);
    for part in [flag, "\0", salt, "\0", unit] {
        hash.update(part.as_bytes());
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finish().as_ref()[..8]);
    // Below 2^17, and the remainder's bias is below 2^-47.
    (u64::from_be_bytes(first) % u64::from(BUCKETS)) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BUCKETS, bucket};

    /// Changing these moves every tenant of every running rollout.
    #[test]
    fn buckets_never_change() {
        let found = [bucket("a", "", "b"), bucket("a", "s", "b"), bucket("new-checkout", "", "user-1")];
        assert_eq!(found, [93_894, 23_007, 61_479]);
    }

    #[test]
    fn a_percentage_of_100_000_tenants_is_in_within_one_point() {
        let random: Vec<String> =
            (0..100_000).map(|_| crate::platform::ids::TenantId::generate().to_string()).collect();
        let counted: Vec<String> = (0..100_000).map(|number| format!("tenant-{number}")).collect();
        for (name, units) in [("random ids", &random), ("counted names", &counted)] {
            let buckets: Vec<u32> = units.iter().map(|unit| bucket("new-checkout", "", unit)).collect();
            for percent in [0.0, 0.1, 1.0, 5.0, 10.0, 25.0, 33.333, 50.0, 75.0, 99.0, 99.999, 100.0] {
                let limit = (percent * f64::from(BUCKETS) / 100.0) as u32;
                let inside = buckets.iter().filter(|bucket| **bucket < limit).count() as f64 / 1_000.0;
                println!("{name}: {percent} % wanted, {inside} % in");
                assert!((inside - percent).abs() < 1.0, "{name}: {percent} % wanted, {inside} % in");
            }
        }
    }

    proptest! {
        #[test]
        fn parts_are_kept_apart(a in "[a-z]{1,9}", b in "[a-z]{1,9}", c in "[a-z]{1,9}") {
            prop_assert!(bucket(&a, &b, &c) < BUCKETS);
            prop_assert_eq!(bucket(&a, &b, &c), bucket(&a, &b, &c));
        }
    }
}
