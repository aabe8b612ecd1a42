//! Periods in a tenant's time zone.

use chrono::{DateTime, Datelike as _, Days, DurationRound as _, Months, TimeDelta, Utc};
use chrono_tz::Tz;

use super::key::Period;
use crate::platform::calendar::begin_of;

/// One period: its name, and when the next begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// `2026-11`, `2026-11-21`, `2026-11-21T09Z`, `2026-11-21T09:30Z`; empty for what has no period.
    pub name: String,
    pub resets_at: Option<DateTime<Utc>>,
}

impl Window {
    /// Of a level, which no time resets.
    pub fn forever() -> Self {
        Self { name: String::new(), resets_at: None }
    }

    /// The period that `at` lies in. Days and months are those of the time zone, so that a day has 23, 24 or 25 hours;
    /// minutes and hours are UTC's, for in the hour that a zone repeats they would not be told apart.
    ///
    /// A period is known by its local name, not by the moment it began: a tenant that changes its time zone goes on in
    /// the same month with what it has used.
    pub fn at(period: Period, at: DateTime<Utc>, zone: Tz) -> Self {
        let date = at.with_timezone(&zone).date_naive();
        match period {
            Period::Minute => Self::fixed(at, TimeDelta::minutes(1), "%Y-%m-%dT%H:%MZ"),
            Period::Hour => Self::fixed(at, TimeDelta::hours(1), "%Y-%m-%dT%HZ"),
            Period::Day => Self {
                name: date.format("%Y-%m-%d").to_string(),
                resets_at: date.checked_add_days(Days::new(1)).map(|next| begin_of(next, zone)),
            },
            Period::Month => Self {
                name: date.format("%Y-%m").to_string(),
                resets_at: date
                    .with_day(1)
                    .and_then(|first| first.checked_add_months(Months::new(1)))
                    .map(|next| begin_of(next, zone)),
            },
        }
    }

    fn fixed(at: DateTime<Utc>, length: TimeDelta, format: &str) -> Self {
        let begin = at.duration_trunc(length).unwrap_or(at);
        Self { name: begin.format(format).to_string(), resets_at: begin.checked_add_signed(length) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn day(text: &str, zone: &str) -> (String, String) {
        let window = Window::at(Period::Day, at(text), zone.parse().unwrap());
        (window.name, window.resets_at.unwrap().to_rfc3339())
    }

    #[test]
    fn a_day_is_the_tenants_own() {
        assert_eq!(
            day("2026-11-21T23:30:00Z", "Europe/Vienna"),
            ("2026-11-22".into(), "2026-11-22T23:00:00+00:00".into())
        );
        assert_eq!(day("2026-11-21T23:30:00Z", "UTC"), ("2026-11-21".into(), "2026-11-22T00:00:00+00:00".into()));
    }

    #[test]
    fn the_days_of_a_clock_change_have_23_and_25_hours() {
        // In Vienna the clocks went forward on 29 March 2026 and back on 25 October.
        assert_eq!(
            day("2026-03-28T23:00:00Z", "Europe/Vienna"),
            ("2026-03-29".into(), "2026-03-29T22:00:00+00:00".into())
        );
        assert_eq!(
            day("2026-10-24T22:00:00Z", "Europe/Vienna"),
            ("2026-10-25".into(), "2026-10-25T23:00:00+00:00".into())
        );
    }

    #[test]
    fn a_day_without_midnight_begins_after_the_gap() {
        // Santiago goes from 23:59 on Saturday to 01:00 on Sunday, 6 September 2026.
        assert_eq!(day("2026-09-05T12:00:00Z", "America/Santiago").1, "2026-09-06T04:00:00+00:00");
        // Apia had no 30 December 2011.
        assert_eq!(
            day("2011-12-30T09:00:00Z", "Pacific/Apia"),
            ("2011-12-29".into(), "2011-12-30T10:00:00+00:00".into())
        );
    }

    #[test]
    fn a_change_of_the_time_zone_begins_no_month_twice() {
        let month = |zone: &str| Window::at(Period::Month, at("2026-11-15T12:00:00Z"), zone.parse().unwrap()).name;
        assert_eq!(month("Pacific/Kiritimati"), month("Pacific/Pago_Pago"));
    }

    proptest! {
        #[test]
        fn windows_follow_each_other_without_gap(seconds in 0i64..4_000_000_000, zone in 0..chrono_tz::TZ_VARIANTS.len(), period in 0usize..4) {
            let (zone, period) = (chrono_tz::TZ_VARIANTS[zone], [Period::Minute, Period::Hour, Period::Day, Period::Month][period]);
            let moment = DateTime::from_timestamp(seconds, 0).unwrap();
            let window = Window::at(period, moment, zone);
            let end = window.resets_at.unwrap();
            prop_assert!(end > moment);
            let last = Window::at(period, end - TimeDelta::seconds(1), zone);
            prop_assert_eq!(&last.name, &window.name);
            prop_assert_eq!(last.resets_at, window.resets_at);
            prop_assert_ne!(Window::at(period, end, zone).name, window.name);
        }
    }
}
