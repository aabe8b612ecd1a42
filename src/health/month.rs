use std::fmt;

use chrono::{DateTime, Datelike as _, Months, NaiveDate, NaiveTime, Utc};

use crate::error::{Error, Result};

/// A calendar month in UTC, written `2026-11`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Month(NaiveDate);

impl Month {
    /// The month that a moment lies in.
    pub fn of(at: DateTime<Utc>) -> Self {
        Self(at.date_naive().with_day(1).expect("every month has a first day"))
    }

    /// Reads `2026-11`, and nothing that only looks like it.
    pub fn parse(field: &str, text: &str) -> Result<Self> {
        let number = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok());
        let first = text
            .split_once('-')
            .filter(|(year, month)| year.len() == 4 && month.len() == 2)
            .and_then(|(year, month)| NaiveDate::from_ymd_opt(number(year)??, u32::try_from(number(month)??).ok()?, 1));
        first.map(Self).ok_or_else(|| Error::invalid(field, "must be a month such as 2026-11"))
    }

    /// Its first moment.
    pub fn begin(self) -> DateTime<Utc> {
        self.0.and_time(NaiveTime::MIN).and_utc()
    }

    /// The first moment of the next.
    pub fn end(self) -> DateTime<Utc> {
        let next = self.0.checked_add_months(Months::new(1)).expect("the calendar does not end in our time");
        Self(next).begin()
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%Y-%m"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_goes_from_its_first_moment_to_the_next_months() {
        for (text, begin, end) in [
            ("2026-11", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
            ("2026-12", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("2028-02", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
        ] {
            let month = Month::parse("month", text).unwrap();
            assert_eq!((month.begin(), month.end()), (begin.parse().unwrap(), end.parse().unwrap()));
            assert_eq!(month.to_string(), text);
            assert_eq!(Month::of(month.begin()), month);
            assert_eq!(Month::of(month.end() - chrono::TimeDelta::microseconds(1)), month);
            assert_ne!(Month::of(month.end()), month);
        }
    }

    #[test]
    fn what_is_no_month_is_refused() {
        for text in [
            "",
            "-",
            "2026",
            "2026-",
            "2026-1",
            "2026-00",
            "2026-13",
            "2026-011",
            "26-11",
            "+026-11",
            "2026-+1",
            "2026/11",
            "2026-11-01",
            " 2026-11",
            "2026-11 ",
            "２０２６-11",
            "-026-11",
        ] {
            assert_eq!(Month::parse("month", text).unwrap_err().field(), Some("month"), "{text:?}");
        }
    }
}
