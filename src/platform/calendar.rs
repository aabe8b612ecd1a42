//! Dates of a time zone on the line of time.

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;

/// The first moment of a date: midnight, the earlier one where there are two, or the first moment after a gap.
pub fn begin_of(date: NaiveDate, zone: Tz) -> DateTime<Utc> {
    let midnight = date.and_time(NaiveTime::MIN);
    // The longest gap is the day that islands lost when they changed sides of the date line.
    let after_gap = (0..=25 * 60)
        .find_map(|minutes| zone.from_local_datetime(&(midnight + TimeDelta::minutes(minutes))).earliest());
    after_gap.map_or_else(|| midnight.and_utc(), |begin| begin.with_timezone(&Utc))
}
