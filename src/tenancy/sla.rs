//! What is promised: availability, support, credits. A plan has all of it, a tenant what differs.

use async_graphql::{InputObject, SimpleObject};
use rust_decimal::Decimal;
use sea_orm::FromJsonQueryResult;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The service level of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(rename_all = "camelCase")]
pub struct Sla {
    /// Per cent of a calendar month, e.g. 99.95.
    pub uptime: Decimal,
    /// When support answers, e.g. `24x7`.
    pub support_hours: String,
    pub support_response: SupportResponse,
    pub credits: Vec<Credit>,
}

/// Time to the first answer, per severity, as durations such as `15m`, `8h`, `1day`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, SimpleObject, InputObject)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[graphql(name = "SupportResponse", input_name = "SupportResponseInput")]
pub struct SupportResponse {
    pub critical: String,
    pub high: String,
    pub normal: String,
}

/// What the customer gets back when the month's availability was lower.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Credit {
    /// Availability below this per cent …
    pub below: Decimal,
    /// … gives back this per cent of the month's fee.
    pub percent: Decimal,
}

/// What a tenant's contract says differently from its plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(rename_all = "camelCase", default)]
pub struct SlaOverrides {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime: Option<Decimal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub support_hours: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub support_response: Option<SupportResponse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credits: Option<Vec<Credit>>,
}

impl Sla {
    /// The plan's promise with the tenant's contract on top.
    pub fn with(&self, overrides: &SlaOverrides) -> Self {
        Self {
            uptime: overrides.uptime.unwrap_or(self.uptime),
            support_hours: overrides.support_hours.clone().unwrap_or_else(|| self.support_hours.clone()),
            support_response: overrides.support_response.clone().unwrap_or_else(|| self.support_response.clone()),
            credits: overrides.credits.clone().unwrap_or_else(|| self.credits.clone()),
        }
    }

    pub fn check(&self, field: &str) -> Result<()> {
        SlaOverrides {
            uptime: Some(self.uptime),
            support_hours: Some(self.support_hours.clone()),
            support_response: Some(self.support_response.clone()),
            credits: Some(self.credits.clone()),
        }
        .check(field)
    }
}

impl SlaOverrides {
    pub fn check(&self, field: &str) -> Result<()> {
        let per_cent = |value: Decimal| value >= Decimal::ZERO && value <= Decimal::ONE_HUNDRED;
        if self.uptime.is_some_and(|uptime| !per_cent(uptime)) {
            return Err(Error::invalid(format!("{field}.uptime"), "is a per cent between 0 and 100"));
        }
        if let Some(hours) = &self.support_hours {
            super::profile::text(&format!("{field}.supportHours"), hours)?;
        }
        if let Some(response) = &self.support_response {
            for (name, duration) in
                [("critical", &response.critical), ("high", &response.high), ("normal", &response.normal)]
            {
                humantime::parse_duration(duration).map_err(|_| {
                    Error::invalid(
                        format!("{field}.supportResponse.{name}"),
                        "must be a duration such as 15m, 8h or 1day",
                    )
                })?;
            }
        }
        for (index, credit) in self.credits.iter().flatten().enumerate() {
            if !per_cent(credit.below) || !per_cent(credit.percent) {
                return Err(Error::invalid(format!("{field}.credits[{index}]"), "holds per cents between 0 and 100"));
            }
        }
        Ok(())
    }
}
