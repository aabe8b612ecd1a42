//! Windows that are looked at.

use async_graphql::Enum;
use chrono::{Datelike as _, Days};
use chrono_tz::Tz;

use crate::{
    error::{Error, Result},
    platform::calendar::begin_of,
    usage::{Bounds, Window},
};

/// The length of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum AnalyticsWindow {
    /// Begins when the zone's clocks show a full hour.
    Hour,
    /// From midnight to midnight: 23, 24 or 25 hours.
    Day,
    /// From Monday to Monday.
    Week,
    Month,
}

impl AnalyticsWindow {
    /// As it is written in URLs.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "HOUR" => Some(Self::Hour),
            "DAY" => Some(Self::Day),
            "WEEK" => Some(Self::Week),
            "MONTH" => Some(Self::Month),
            _ => None,
        }
    }

    /// The one that totals of usage are told by.
    pub(super) fn of_usage(self) -> Option<Window> {
        match self {
            Self::Hour => Some(Window::Hour),
            Self::Day => Some(Window::Day),
            Self::Week => None,
            Self::Month => Some(Window::Month),
        }
    }

    /// All windows that have a moment from the first until before the second, whole ones and at most 1,500.
    pub(super) fn cover(self, (from, to): Bounds, zone: Tz) -> Result<Vec<Bounds>> {
        if let Some(window) = self.of_usage() {
            return window.cover(from, to, zone);
        }
        if from >= to {
            return Err(Error::invalid("to", "must be after `from`"));
        }
        let mut windows = Vec::new();
        let date = from.with_timezone(&zone).date_naive();
        let mut monday = date.week(chrono::Weekday::Mon).checked_first_day().unwrap_or(date);
        let mut begin = begin_of(monday, zone);
        while begin < to {
            if windows.len() == MOST || monday.year() > LAST_YEAR {
                return Err(Error::invalid("from", "is more than 1500 windows before `to`; ask for less at a time"));
            }
            monday = monday + Days::new(7);
            let end = begin_of(monday, zone);
            windows.push((begin, end));
            begin = end;
        }
        Ok(windows)
    }
}

const MOST: usize = 1500;
/// Dates end somewhere.
const LAST_YEAR: i32 = 200_000;

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};

    use super::*;

    #[test]
    fn a_week_is_from_monday_to_monday_and_has_an_hour_more_or_less_where_clocks_change() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let asked = (at("2026-03-24T12:00:00Z"), at("2026-04-01T12:00:00Z"));
        let weeks = AnalyticsWindow::Week.cover(asked, "Europe/Vienna".parse().unwrap()).unwrap();
        assert_eq!(weeks[0].0, at("2026-03-22T23:00:00Z"));
        let hours: Vec<_> = weeks.iter().map(|(begin, end)| (*end - *begin).num_hours()).collect();
        assert_eq!(hours, [7 * 24 - 1, 7 * 24]);
        let backwards = AnalyticsWindow::Week.cover((asked.1, asked.0), Tz::UTC).unwrap_err();
        assert_eq!(backwards.field(), Some("to"));
        let long = AnalyticsWindow::Week.cover((asked.0, asked.0 + TimeDelta::weeks(1501)), Tz::UTC).unwrap_err();
        assert_eq!(long.field(), Some("from"));
    }
}
