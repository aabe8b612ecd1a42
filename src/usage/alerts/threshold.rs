//! Where an alert fires: decided on plain values.

use std::{collections::BTreeSet, fmt, str::FromStr};

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::super::quantity;
use crate::error::{Error, Result};

/// As text, in rows and in the journal: `80%` or `1000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Threshold {
    /// Of a limit.
    Percent(Decimal),
    /// In the dimension's unit.
    Quantity(Decimal),
}

/// A threshold that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crossing {
    pub(super) threshold: Threshold,
    /// From where on.
    pub(super) quantity: Decimal,
}

/// Where a rule names none.
pub(super) fn default_thresholds() -> Vec<Threshold> {
    [80, 95, 100].map(|percent| Threshold::Percent(Decimal::from(percent))).to_vec()
}

impl Threshold {
    pub(super) fn percent(text: &str, field: &str) -> Result<Self> {
        let percent = positive(text, field)?;
        if percent > Decimal::from(1000) || percent.scale() > 2 {
            return Err(Error::invalid(field, "must be at most 1000, with at most 2 digits after the point"));
        }
        Ok(Self::Percent(percent))
    }

    pub(super) fn quantity(text: &str, field: &str) -> Result<Self> {
        positive(text, field).map(Self::Quantity)
    }

    /// From where on it is reached; never, where it is of a limit that there is not.
    fn begins(self, limit: Option<Decimal>) -> Option<Decimal> {
        match self {
            Self::Quantity(quantity) => Some(quantity),
            Self::Percent(percent) => limit?.checked_mul(percent / Decimal::ONE_HUNDRED).map(|part| part.normalize()),
        }
    }
}

/// A quantity above 0, without zeros at its end: what is the same has one text.
pub(super) fn positive(text: &str, field: &str) -> Result<Decimal> {
    let quantity = quantity::parse(text).map_err(|error| error.at(field))?.normalize();
    if quantity <= Decimal::ZERO {
        return Err(Error::invalid(field, "must be more than 0"));
    }
    Ok(quantity)
}

/// What is reached and has not fired.
pub(super) fn crossings(
    thresholds: &[Threshold],
    limit: Option<Decimal>,
    total: Decimal,
    fired: &BTreeSet<String>,
) -> Vec<Crossing> {
    let crossing = |threshold: &Threshold| {
        let quantity = threshold.begins(limit)?;
        let is_new = total >= quantity && !fired.contains(&threshold.to_string());
        is_new.then_some(Crossing { threshold: *threshold, quantity })
    };
    thresholds.iter().filter_map(crossing).collect()
}

/// How much of the limit that is, with two digits after the point.
pub(super) fn percent_of(total: Decimal, limit: Option<Decimal>) -> Option<Decimal> {
    let part = total.checked_div(limit?)?.checked_mul(Decimal::ONE_HUNDRED)?;
    Some(part.round_dp(2).normalize())
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Quantity(quantity) => quantity.fmt(f),
        }
    }
}

impl FromStr for Threshold {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.strip_suffix('%') {
            Some(percent) => Self::percent(percent, "thresholds"),
            None => Self::quantity(text, "thresholds"),
        }
    }
}

impl From<Threshold> for String {
    fn from(threshold: Threshold) -> Self {
        threshold.to_string()
    }
}

impl TryFrom<String> for Threshold {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn reached(limit: Option<&str>, total: &str, fired: &[&str]) -> Vec<String> {
        let thresholds = [&default_thresholds()[..], &["900.5".parse().unwrap()]].concat();
        let fired = fired.iter().map(ToString::to_string).collect();
        let crossings = crossings(&thresholds, limit.map(decimal), decimal(total), &fired);
        crossings.into_iter().map(|crossing| format!("{} at {}", crossing.threshold, crossing.quantity)).collect()
    }

    #[test]
    fn a_threshold_is_reached_exactly_where_it_begins() {
        assert!(reached(Some("1000"), "799.999999999", &[]).is_empty());
        assert_eq!(reached(Some("1000"), "800", &[]), ["80% at 800"]);
        assert_eq!(reached(Some("1000"), "950", &["80%"]), ["95% at 950", "900.5 at 900.5"]);
        assert_eq!(reached(Some("0.000000001"), "0.0000000008", &[]), ["80% at 0.0000000008"]);
    }

    #[test]
    fn without_a_limit_only_quantities_are_reached() {
        assert_eq!(reached(None, "1000000", &[]), ["900.5 at 900.5"]);
        assert_eq!(percent_of(decimal("5"), None), None);
    }

    #[test]
    fn what_is_the_same_has_one_text() {
        for text in ["80.00", "080", "80.0"] {
            assert_eq!(Threshold::percent(text, "percent").unwrap().to_string(), "80%");
        }
        assert!(Threshold::percent("0", "percent").is_err() && Threshold::quantity("-1", "quantity").is_err());
        assert!(Threshold::percent("1000.01", "percent").is_err() && Threshold::percent("0.001", "percent").is_err());
    }

    #[test]
    fn a_part_that_is_beyond_numbers_is_not_told() {
        assert_eq!(percent_of(decimal("812.34567"), Some(decimal("1000"))), Some(decimal("81.23")));
        assert_eq!(percent_of(Decimal::MAX, Some(decimal("0.000000001"))), None);
    }
}
