//! How fast the machine is just now: what a processor does in a millisecond is another thing on each, and less while others share its core.

use std::{collections::BTreeMap, time::Duration};

/// What the work below takes on the machine that bounds on processor time are written for.
const AT_PACE: Duration = Duration::from_millis(100);

/// How many times longer than there the same work takes here, and never less than 1: a fast machine is held to the bounds as they are.
pub(crate) fn slowness() -> f64 {
    let began = busy();
    // As a server does: allocating, comparing, jumping about in memory.
    let mut known = BTreeMap::new();
    for number in 0_u32..100_000 {
        let key = number.wrapping_mul(2_654_435_761) % 40_009;
        *known.entry(key.to_string()).or_insert(0_u32) += number;
    }
    std::hint::black_box(known);
    (busy() - began).div_duration_f64(AT_PACE).max(1.0)
}

/// Time that this thread has been on a processor.
pub(crate) fn busy() -> Duration {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(times.split(' ').next().unwrap().parse().unwrap())
}
