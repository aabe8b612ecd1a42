//! Windows of a time zone, one after the other.

use async_graphql::Enum;
use chrono::{DateTime, Datelike as _, Days, DurationRound as _, Months, Offset as _, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;

use crate::{
    error::{Error, Result},
    platform::calendar::begin_of,
};

use super::store::{Level, Piece};

/// The length of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum)]
#[graphql(name = "UsageWindow")]
pub enum Window {
    Minute,
    /// Begins when the zone's clocks show a full hour.
    Hour,
    /// From midnight to midnight: 23, 24 or 25 hours.
    Day,
    Month,
}

/// A window's begin, and the begin of the next.
pub type Bounds = (DateTime<Utc>, DateTime<Utc>);

/// More in one answer are nobody's.
const MOST: usize = 1500;

impl Window {
    /// All windows that have a moment from `from` until before `to`: whole ones, so that the first may begin before and the last end
    /// after.
    pub fn cover(self, from: DateTime<Utc>, to: DateTime<Utc>, zone: Tz) -> Result<Vec<Bounds>> {
        if from >= to {
            return Err(Error::invalid("to", "must be after `from`"));
        }
        let mut windows = Vec::new();
        let mut at = from;
        while at < to {
            if windows.len() == MOST {
                return Err(Error::invalid(
                    "from",
                    format!("is more than {MOST} windows before `to`; ask for less at a time"),
                ));
            }
            let bounds = self.around(at, zone);
            // Where an hour is cut off by a change of clocks, the next begins where it ends.
            let begin = windows.last().map_or(bounds.0, |last: &Bounds| last.1);
            windows.push((begin, bounds.1));
            at = bounds.1;
        }
        Ok(windows)
    }

    /// The window that a moment is in.
    pub(super) fn around(self, at: DateTime<Utc>, zone: Tz) -> Bounds {
        let date = at.with_timezone(&zone).date_naive();
        let later =
            |days: Option<chrono::NaiveDate>| days.map_or(DateTime::<Utc>::MAX_UTC, |next| begin_of(next, zone));
        match self {
            Self::Minute => {
                let begin = at.duration_trunc(TimeDelta::minutes(1)).unwrap_or(at);
                (begin, begin + TimeDelta::minutes(1))
            }
            Self::Hour => {
                let offset = zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc();
                let past = (at.timestamp() + i64::from(offset)).rem_euclid(3600);
                let begin = at - TimeDelta::seconds(past) - TimeDelta::nanoseconds(at.timestamp_subsec_nanos().into());
                (begin, begin + TimeDelta::hours(1))
            }
            Self::Day => (begin_of(date, zone), later(date.checked_add_days(Days::new(1)))),
            Self::Month => {
                let first = date.with_day(1).unwrap_or(date);
                (begin_of(first, zone), later(first.checked_add_months(Months::new(1))))
            }
        }
    }
}

/// What a window's totals are read from: whole days of UTC, and quarters of an hour before and after them. None where its bounds are
/// not those of quarters, as of zones with local mean time: then only the events themselves tell.
pub(super) fn pieces(windows: &[Bounds]) -> Option<Vec<Piece>> {
    let (quarter, day) = (TimeDelta::minutes(15), TimeDelta::days(1));
    let is_quarter = |at: DateTime<Utc>| at.duration_trunc(quarter).is_ok_and(|begin| begin == at);
    let mut pieces = Vec::new();
    for (place, (begin, end)) in windows.iter().copied().enumerate() {
        if !is_quarter(begin) || !is_quarter(end) {
            return None;
        }
        let mut add = |level, begin, end| {
            if begin < end {
                pieces.push(Piece { window: i32::try_from(place).unwrap_or(i32::MAX), level, begin, end });
            }
        };
        let first = begin.duration_trunc(day).ok()?;
        let first = if first < begin { first + day } else { first };
        let last = end.duration_trunc(day).ok()?;
        if first < last {
            add(Level::Quarter, begin, first);
            add(Level::Day, first, last);
            add(Level::Quarter, last, end);
        } else {
            add(Level::Quarter, begin, end);
        }
    }
    Some(pieces)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn hours(window: Window, from: &str, to: &str, zone: &str) -> Vec<i64> {
        let windows = window.cover(at(from), at(to), zone.parse().unwrap()).unwrap();
        windows.iter().map(|(begin, end)| (*end - *begin).num_hours()).collect()
    }

    #[test]
    fn days_of_clock_changes_have_23_and_25_hours_and_leap_years_a_day_more() {
        assert_eq!(hours(Window::Day, "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z", "Europe/Vienna"), [24, 23, 24]);
        assert_eq!(hours(Window::Day, "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z", "Europe/Vienna"), [24, 25, 24]);
        assert_eq!(hours(Window::Month, "2028-02-10T00:00:00Z", "2028-02-11T00:00:00Z", "UTC"), [29 * 24]);
        assert_eq!(
            hours(Window::Month, "2026-03-10T00:00:00Z", "2026-03-11T00:00:00Z", "America/New_York"),
            [31 * 24 - 1]
        );
    }

    #[test]
    fn an_hour_begins_when_the_zones_clocks_say_so() {
        let windows =
            Window::Hour.cover(at("2026-11-26T10:10:00Z"), at("2026-11-26T10:20:00Z"), "Asia/Kolkata".parse().unwrap());
        assert_eq!(windows.unwrap(), [(at("2026-11-26T09:30:00Z"), at("2026-11-26T10:30:00Z"))]);
    }

    #[test]
    fn what_is_too_much_or_backwards_is_refused() {
        let (a, b) = (at("2026-01-01T00:00:00Z"), at("2026-12-01T00:00:00Z"));
        assert_eq!(Window::Minute.cover(a, b, Tz::UTC).unwrap_err().field(), Some("from"));
        assert_eq!(Window::Day.cover(b, a, Tz::UTC).unwrap_err().field(), Some("to"));
    }

    proptest! {
        #[test]
        fn windows_cover_all_and_pieces_cover_windows(seconds in 1_000_000_000i64..2_000_000_000, length in 1i64..4_000_000, zone in 0..chrono_tz::TZ_VARIANTS.len(), window in 0usize..3) {
            let (zone, window) = (chrono_tz::TZ_VARIANTS[zone], [Window::Hour, Window::Day, Window::Month][window]);
            let from = DateTime::from_timestamp(seconds, 0).unwrap();
            let to = from + TimeDelta::seconds(length);
            let windows = window.cover(from, to, zone).unwrap();
            prop_assert!(windows[0].0 <= from && from < windows[0].1);
            prop_assert!(windows[windows.len() - 1].1 >= to);
            prop_assert!(windows.windows(2).all(|pair| pair[0].1 == pair[1].0));
            prop_assert!(windows.iter().all(|(begin, end)| begin < end));
            let pieces = pieces(&windows).unwrap();
            for (place, (begin, end)) in windows.iter().enumerate() {
                let of_window: Vec<_> = pieces.iter().filter(|piece| piece.window as usize == place).collect();
                prop_assert_eq!(of_window[0].begin, *begin);
                prop_assert_eq!(of_window[of_window.len() - 1].end, *end);
                prop_assert!(of_window.windows(2).all(|pair| pair[0].end == pair[1].begin));
            }
        }
    }
}
