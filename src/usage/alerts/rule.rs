//! When a tenant wants to be told.

use std::collections::BTreeMap;

use async_graphql::Enum;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{
    super::{Aggregation, Dimension, Window, dimension::is_key, label},
    threshold::{Threshold, default_thresholds, positive},
};
use crate::{
    error::{Error, Result},
    platform::ids::AlertRuleId,
};

/// Over what usage is counted, in the tenant's time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "AlertPeriod")]
pub enum Period {
    Day,
    Month,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    pub key: String,
    pub rule_id: AlertRuleId,
    pub dimension: String,
    pub dimension_id: i16,
    /// Only what has these labels counts; all, where there are none.
    pub labels: BTreeMap<String, String>,
    pub period: Period,
    pub thresholds: Vec<Threshold>,
    /// What per cents are of; without it, the quota that has the dimension's key.
    pub limit: Option<Decimal>,
    /// What alerts are of that tell when the month is forecast to pass the limit; none where nobody wants them.
    #[serde(default)]
    pub forecast_id: Option<AlertRuleId>,
    /// What alerts are of that tell of days that are unlike those before; none where nobody wants them.
    #[serde(default)]
    pub anomaly_id: Option<AlertRuleId>,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// A rule to be, as it was sent.
#[derive(Clone, Debug)]
pub struct NewRule {
    pub key: String,
    pub dimension: String,
    pub labels: serde_json::Map<String, serde_json::Value>,
    pub period: Period,
    /// 80, 95 and 100 per cent where it is none.
    pub thresholds: Option<Vec<NewThreshold>>,
    pub limit: Option<String>,
    pub foresight: Foresight,
    pub comparison: Comparison,
}

/// Whether a rule also tells when its month is forecast to pass the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foresight {
    None,
    EndOfMonth,
}

/// Whether a rule also tells of days that are unlike those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    None,
    SameWeekdays,
}

#[derive(Clone, Debug)]
pub enum NewThreshold {
    Percent(String),
    Quantity(String),
}

/// More are nobody's.
pub(super) const MOST_THRESHOLDS: usize = 10;

impl Period {
    pub(super) fn window(self) -> Window {
        match self {
            Self::Day => Window::Day,
            Self::Month => Window::Month,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Day => "DAY",
            Self::Month => "MONTH",
        }
    }

    pub(super) fn parse(name: &str) -> Result<Self> {
        match name {
            "DAY" => Ok(Self::Day),
            "MONTH" => Ok(Self::Month),
            _ => Err(Error::internal(format!("{name:?} is no period"))),
        }
    }
}

impl NewRule {
    /// The rule, new as of `now`. `has_quota`: whether a quota has the dimension's key.
    pub(super) fn check(self, dimension: &Dimension, has_quota: bool, now: DateTime<Utc>) -> Result<Rule> {
        if !is_key(&self.key) {
            let rule = "has 1 to 63 small letters, digits or '_', and begins with a letter";
            return Err(Error::invalid("key", rule));
        }
        if dimension.aggregation == Aggregation::TimeWeightedAverage {
            let rule = "is averaged over the time, and changes without anything being used: no alert can be set on it";
            return Err(Error::invalid("dimension", rule));
        }
        if let Some(name) = self.labels.keys().find(|name| !dimension.group_by.0.contains(name)) {
            let rule = "is none of the labels that the dimension's totals are kept apart by";
            return Err(Error::invalid(format!("labels.{name}"), rule));
        }
        let labels = label::labels(&label::group(dimension, &self.labels)?)?;
        let limit = self.limit.map(|limit| positive(&limit, "limit")).transpose()?;
        let thresholds = self.thresholds.map_or_else(|| Ok(default_thresholds()), |sent| thresholds(&sent))?;
        let is_of_limit = thresholds.iter().any(|threshold| matches!(threshold, Threshold::Percent(_)));
        if is_of_limit && limit.is_none() && !has_quota {
            let rule = "is needed for thresholds in per cent: there is no quota with the dimension's key";
            return Err(Error::invalid("limit", rule));
        }
        let forecast_id = match self.foresight {
            Foresight::None => None,
            Foresight::EndOfMonth if self.period != Period::Month || !labels.is_empty() => {
                return Err(Error::invalid("forecast", "is of whole months, of all labels together"));
            }
            Foresight::EndOfMonth if limit.is_none() && !has_quota => {
                return Err(Error::invalid(
                    "limit",
                    "is needed to forecast when it is passed: there is no quota with the dimension's key",
                ));
            }
            Foresight::EndOfMonth => Some(AlertRuleId::generate()),
        };
        let anomaly_id = match self.comparison {
            Comparison::None => None,
            Comparison::SameWeekdays if self.period != Period::Day => {
                return Err(Error::invalid("anomaly", "is of days: the rule's period must be `DAY`"));
            }
            Comparison::SameWeekdays => Some(AlertRuleId::generate()),
        };
        Ok(Rule {
            key: self.key,
            rule_id: AlertRuleId::generate(),
            dimension: dimension.key.clone(),
            dimension_id: dimension.dimension_id,
            labels,
            period: self.period,
            thresholds,
            limit,
            forecast_id,
            anomaly_id,
            version: 1,
            created_at: now,
            updated_at: now,
        })
    }
}

fn thresholds(sent: &[NewThreshold]) -> Result<Vec<Threshold>> {
    if sent.is_empty() || sent.len() > MOST_THRESHOLDS {
        return Err(Error::invalid("thresholds", "has 1 to 10 thresholds"));
    }
    let mut thresholds = Vec::with_capacity(sent.len());
    for (place, sent) in sent.iter().enumerate() {
        let threshold = match sent {
            NewThreshold::Percent(text) => Threshold::percent(text, &format!("thresholds.{place}.percent"))?,
            NewThreshold::Quantity(text) => Threshold::quantity(text, &format!("thresholds.{place}.quantity"))?,
        };
        if thresholds.contains(&threshold) {
            return Err(Error::invalid(format!("thresholds.{place}"), "is there twice"));
        }
        thresholds.push(threshold);
    }
    Ok(thresholds)
}

impl Rule {
    /// What it measures stays: its alerts of a period would be told apart from others by nothing.
    pub(super) fn replaces(mut self, before: &Self) -> Result<Self> {
        let differs = [
            ("dimension", self.dimension_id != before.dimension_id),
            ("labels", self.labels != before.labels),
            ("period", self.period != before.period),
        ];
        if let Some((field, _)) = differs.iter().find(|(_, differs)| *differs) {
            let rule = "stays as it was set; delete the rule, or set another";
            return Err(Error::invalid(*field, rule));
        }
        // What has fired fires no more.
        self.forecast_id = self.forecast_id.map(|new| before.forecast_id.unwrap_or(new));
        self.anomaly_id = self.anomaly_id.map(|new| before.anomaly_id.unwrap_or(new));
        (self.rule_id, self.created_at, self.version) = (before.rule_id, before.created_at, before.version + 1);
        Ok(self)
    }
}
