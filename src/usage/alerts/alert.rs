//! What an alert says: the figures as they were when it fired, whatever becomes of the rule or the total.

use std::collections::BTreeMap;

use async_graphql::Enum;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{
    super::{Usage, costs::Currency},
    rule::Period,
    store,
    threshold::Threshold,
};
use crate::{
    error::{Error, Result},
    isolation::TenantScope,
    platform::{
        ids::{AlertRuleId, UsageAlertId},
        page::{self, Page, PageRequest},
    },
};

/// What an alert is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "AlertKind")]
pub enum Kind {
    /// What was used has reached a threshold of a rule.
    #[default]
    Usage,
    /// What a month has cost has reached a threshold of a budget.
    Budget,
    /// What a month will come to is more than the limit of a rule.
    Forecast,
    /// Far more was used on a day than is usual on its weekday.
    Spike,
    /// Nothing was used on a day, where something is on its weekday.
    Silence,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Usage => "USAGE",
            Self::Budget => "BUDGET",
            Self::Forecast => "FORECAST",
            Self::Spike => "SPIKE",
            Self::Silence => "SILENCE",
        }
    }

    pub(super) fn parse(name: &str) -> Result<Self> {
        match name {
            "USAGE" => Ok(Self::Usage),
            "BUDGET" => Ok(Self::Budget),
            "FORECAST" => Ok(Self::Forecast),
            "SPIKE" => Ok(Self::Spike),
            "SILENCE" => Ok(Self::Silence),
            _ => Err(Error::internal(format!("{name:?} is no kind of alerts"))),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    pub alert_id: UsageAlertId,
    #[serde(default)]
    pub kind: Kind,
    pub rule_id: AlertRuleId,
    /// The key of the rule or budget.
    pub rule: String,
    pub rule_version: i64,
    /// None of a budget of everything.
    pub dimension: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub period: Period,
    pub period_begin: DateTime<Utc>,
    pub period_end: DateTime<Utc>,
    pub threshold: Threshold,
    /// From where on the threshold was reached.
    pub quantity: Decimal,
    pub total: Decimal,
    pub limit: Option<Decimal>,
    /// How much of the limit the total was.
    pub percent: Option<Decimal>,
    /// Of budgets: what quantity, total and limit are in.
    #[serde(default)]
    pub currency: Option<Currency>,
    /// Of forecasts: what the month will come to, and the begin of the day on which it passes the limit, or now. Of spikes and silences: what
    /// is usual.
    #[serde(default)]
    pub expected: Option<Decimal>,
    #[serde(default)]
    pub passes_at: Option<DateTime<Utc>>,
    pub fired_at: DateTime<Utc>,
}

impl Alert {
    pub(super) fn cursor(&self) -> String {
        page::encode(&self.alert_id)
    }
}

impl Usage {
    /// What has fired, the newest first.
    pub async fn alerts(&self, scope: &TenantScope, request: &PageRequest) -> Result<Page<Alert>> {
        let after = request.key::<UsageAlertId>()?;
        let tx = self.isolation.begin(scope).await?;
        let alerts = store::alerts(&tx, after, request.first + 1).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(request.page(alerts))
    }
}
