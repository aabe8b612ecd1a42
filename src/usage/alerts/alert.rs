//! What an alert says: the figures as they were when it fired, whatever becomes of the rule or the total.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{super::Usage, rule::Period, store, threshold::Threshold};
use crate::{
    error::Result,
    isolation::TenantScope,
    platform::{
        ids::{AlertRuleId, UsageAlertId},
        page::{self, Page, PageRequest},
    },
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    pub alert_id: UsageAlertId,
    pub rule_id: AlertRuleId,
    pub rule: String,
    pub rule_version: i64,
    pub dimension: String,
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
