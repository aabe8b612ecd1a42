//! Alerts in the schema.

use std::collections::BTreeMap;

use async_graphql::{Context, ID, InputObject, Json, Object, OneofObject, Result, SimpleObject, Subscription};
use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt as _, future::ready};
use rust_decimal::Decimal;
use serde_json::{Map, Value};

use super::{
    super::{
        costs::Currency,
        graphql::{Quantity, entered, handle},
    },
    alert::{Alert, Kind},
    rule::{Comparison, Foresight, NewRule, NewThreshold, Period, Rule},
    threshold::Threshold,
};
use crate::{
    audit::{Audit, Chain, Cursor, Reach, Row},
    error::Error,
    platform::page::{LargestPage, PageInfo, PageRequest},
    tenancy::graphql::conditions,
};

/// Where an alert fires: one of the two.
#[derive(Debug, OneofObject)]
pub enum AlertThresholdInput {
    /// Per cent of the limit: more than 0, at most 1000, at most 2 digits after the point.
    Percent(Quantity),
    /// In the dimension's unit, more than 0.
    Quantity(Quantity),
}

#[derive(Debug, InputObject)]
pub struct SetAlertRuleInput {
    /// The tenant; a service's own where not given.
    tenant_id: Option<ID>,
    /// 1 to 63 small letters, digits or `_`, a letter first. A rule of this key is replaced.
    key: String,
    /// A key of `usageDimensions`, and none that is averaged over the time. It stays.
    dimension: String,
    /// Only usage with these labels counts; of the dimension's `groupBy`. They stay.
    labels: Option<Json<Map<String, Value>>>,
    /// In the tenant's time zone. It stays.
    period: Period,
    /// 1 to 10; 80, 95 and 100 per cent where not given.
    thresholds: Option<Vec<AlertThresholdInput>>,
    /// What per cents are of. Where it is not given, the tenant's limit of the quota that has the dimension's key, as it is when it is looked at.
    limit: Option<Quantity>,
    /// Also fires once in a month when the month is forecast to pass the limit: for rules by month, without labels. Fewer than 7 whole days of
    /// history fire nothing.
    #[graphql(default)]
    forecast: bool,
    /// Also fires once on a day that is unlike the same weekdays of the 8 weeks before: more than six robust deviations above their median, or
    /// without any use when the day is over and each of them had some. For rules by day; fewer than 4 weeks of history fire nothing.
    #[graphql(default)]
    anomaly: bool,
    /// The version that you saw last; 0 where there was no such rule.
    expected_version: Option<i64>,
}

#[derive(Debug, InputObject)]
pub struct DeleteAlertRuleInput {
    /// The tenant; a service's own where not given.
    tenant_id: Option<ID>,
    key: String,
    /// The version that you saw last.
    expected_version: Option<i64>,
}

/// Where an alert fires: one of the two.
#[derive(Clone, Copy, Debug, SimpleObject)]
pub struct AlertThreshold {
    /// Per cent of the limit.
    percent: Option<Decimal>,
    /// In the dimension's unit.
    quantity: Option<Decimal>,
}

impl From<Threshold> for AlertThreshold {
    fn from(threshold: Threshold) -> Self {
        match threshold {
            Threshold::Percent(percent) => Self { percent: Some(percent), quantity: None },
            Threshold::Quantity(quantity) => Self { percent: None, quantity: Some(quantity) },
        }
    }
}

/// When a tenant is told of its usage.
#[derive(Debug)]
pub struct AlertRule(Rule);

#[Object]
impl AlertRule {
    async fn key(&self) -> &str {
        &self.0.key
    }

    async fn dimension(&self) -> &str {
        &self.0.dimension
    }

    /// Only usage with these labels counts.
    async fn labels(&self) -> Json<&BTreeMap<String, String>> {
        Json(&self.0.labels)
    }

    async fn period(&self) -> Period {
        self.0.period
    }

    async fn thresholds(&self) -> Vec<AlertThreshold> {
        self.0.thresholds.iter().copied().map(Into::into).collect()
    }

    /// What per cents are of; null where it is the limit of the quota that has the dimension's key.
    async fn limit(&self) -> Option<Decimal> {
        self.0.limit
    }

    /// Whether it also fires when the month is forecast to pass the limit.
    async fn forecast(&self) -> bool {
        self.0.forecast_id.is_some()
    }

    /// Whether it also fires on days that are unlike those before.
    async fn anomaly(&self) -> bool {
        self.0.anomaly_id.is_some()
    }

    async fn version(&self) -> i64 {
        self.0.version
    }

    async fn updated_at(&self) -> DateTime<Utc> {
        self.0.updated_at
    }
}

/// Usage has reached a threshold of a rule, or what it costs one of a budget. It says how it was then: nothing of it changes.
#[derive(Debug)]
pub struct UsageAlert(Alert);

#[Object]
impl UsageAlert {
    async fn id(&self) -> ID {
        self.0.alert_id.to_string().into()
    }

    /// What it is about.
    async fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The key of the rule or budget.
    async fn rule(&self) -> &str {
        &self.0.rule
    }

    async fn rule_version(&self) -> i64 {
        self.0.rule_version
    }

    /// Null for a budget of everything.
    async fn dimension(&self) -> Option<&str> {
        self.0.dimension.as_deref()
    }

    async fn labels(&self) -> Json<&BTreeMap<String, String>> {
        Json(&self.0.labels)
    }

    async fn period(&self) -> Period {
        self.0.period
    }

    async fn period_begin(&self) -> DateTime<Utc> {
        self.0.period_begin
    }

    /// The begin of the next period.
    async fn period_end(&self) -> DateTime<Utc> {
        self.0.period_end
    }

    async fn threshold(&self) -> AlertThreshold {
        self.0.threshold.into()
    }

    /// From where on the threshold was reached, in the dimension's unit, or in the budget's currency.
    async fn quantity(&self) -> Decimal {
        self.0.quantity
    }

    /// What was used in the period until then, or what that cost.
    async fn total(&self) -> Decimal {
        self.0.total
    }

    /// What per cents were of; null where there was no limit. Of a spike: the most that is usual.
    async fn limit(&self) -> Option<Decimal> {
        self.0.limit
    }

    /// How much of the limit the total was, with two digits after the point.
    async fn percent(&self) -> Option<Decimal> {
        self.0.percent
    }

    /// Of a forecast: what the month will come to. Of a spike or a silence: what is usual, the median of the weekdays before.
    async fn expected(&self) -> Option<Decimal> {
        self.0.expected
    }

    /// Of a forecast: the begin of the day on which the limit will be passed, or when it was told for the same day.
    async fn passes_at(&self) -> Option<DateTime<Utc>> {
        self.0.passes_at
    }

    /// Of a budget: what quantity, total and limit are in.
    async fn currency(&self) -> Option<&str> {
        self.0.currency.map(Currency::code)
    }

    async fn fired_at(&self) -> DateTime<Utc> {
        self.0.fired_at
    }
}

#[derive(Debug, SimpleObject)]
pub struct UsageAlertEdge {
    cursor: String,
    node: UsageAlert,
}

#[derive(Debug, SimpleObject)]
pub struct UsageAlertConnection {
    edges: Vec<UsageAlertEdge>,
    page_info: PageInfo,
}

/// An alert as it fires.
#[derive(Debug, SimpleObject)]
pub struct UsageAlertEvent {
    /// What to give as `after` to go on behind this alert.
    cursor: String,
    alert: UsageAlert,
}

#[derive(Debug, SimpleObject)]
pub struct AlertRulePayload {
    rule: AlertRule,
}

#[derive(Debug, Default)]
pub struct AlertQuery;

#[Object]
impl AlertQuery {
    /// The rules by which the tenant is told of its usage, by key; without an id, of the tenant that the token is bound to.
    ///
    /// Scope: `auth:usage:read`.
    async fn alert_rules(&self, ctx: &Context<'_>, tenant_id: Option<ID>) -> Result<Vec<AlertRule>> {
        let scope = entered(ctx, "Query", tenant_id.as_ref()).await?;
        Ok(handle(ctx)?.alert_rules(&scope).await?.into_iter().map(AlertRule).collect())
    }

    /// What has fired, the newest first; without an id, of the tenant that the token is bound to.
    ///
    /// Scope: `auth:usage:read`.
    async fn usage_alerts(
        &self,
        ctx: &Context<'_>,
        tenant_id: Option<ID>,
        #[graphql(default = 25, desc = "At most 100.")] first: i32,
        #[graphql(desc = "Cursor of the last alert of the page before.")] after: Option<String>,
    ) -> Result<UsageAlertConnection> {
        let scope = entered(ctx, "Query", tenant_id.as_ref()).await?;
        let request = PageRequest::new(Some(first), after, ctx.data::<LargestPage>()?.0)?;
        let page = handle(ctx)?.alerts(&scope, &request).await?;
        let cursors: Vec<_> = page.items.iter().map(Alert::cursor).collect();
        let page_info = PageInfo::new(&page, &cursors);
        let nodes = page.items.into_iter().map(UsageAlert);
        let edges = cursors.into_iter().zip(nodes).map(|(cursor, node)| UsageAlertEdge { cursor, node }).collect();
        Ok(UsageAlertConnection { edges, page_info })
    }
}

#[derive(Debug, Default)]
pub struct AlertMutation;

#[Object]
impl AlertMutation {
    /// Sets a rule by which the tenant is told of its usage. Each of its thresholds fires once in a period, however often it is reached; one
    /// that is reached already fires at once. A tenant has at most 20 rules.
    ///
    /// Errors: `invalid_input` with the field and its rule, `conflict` for an old version or too many rules.
    ///
    /// Scope: `auth:usage:write`.
    async fn set_alert_rule(&self, ctx: &Context<'_>, input: SetAlertRuleInput) -> Result<AlertRulePayload> {
        let scope = entered(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let threshold = |sent| match sent {
            AlertThresholdInput::Percent(percent) => NewThreshold::Percent(percent.0),
            AlertThresholdInput::Quantity(quantity) => NewThreshold::Quantity(quantity.0),
        };
        let wanted = NewRule {
            key: input.key,
            dimension: input.dimension,
            labels: input.labels.map(|labels| labels.0).unwrap_or_default(),
            period: input.period,
            thresholds: input.thresholds.map(|sent| sent.into_iter().map(threshold).collect()),
            limit: input.limit.map(|limit| limit.0),
            comparison: if input.anomaly { Comparison::SameWeekdays } else { Comparison::None },
            foresight: if input.forecast { Foresight::EndOfMonth } else { Foresight::None },
        };
        let rule = handle(ctx)?.set_alert_rule(&scope, wanted, &conditions(ctx, input.expected_version)).await?;
        Ok(AlertRulePayload { rule: AlertRule(rule) })
    }

    /// Deletes a rule. What has fired stays; a rule that is set again with its key is another.
    ///
    /// Errors: `not_found` at `key`, `conflict` for an old version.
    ///
    /// Scope: `auth:usage:write`.
    async fn delete_alert_rule(&self, ctx: &Context<'_>, input: DeleteAlertRuleInput) -> Result<AlertRulePayload> {
        let scope = entered(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let conditions = conditions(ctx, input.expected_version);
        let rule = handle(ctx)?.delete_alert_rule(&scope, &input.key, &conditions).await?;
        Ok(AlertRulePayload { rule: AlertRule(rule) })
    }
}

#[derive(Debug, Default)]
pub struct AlertSubscription;

#[Subscription]
impl AlertSubscription {
    /// Alerts on the tenant's usage as they fire, from now on or since `after`, each once; without an id, of the tenant that the token is
    /// bound to.
    ///
    /// Scope: `auth:usage:read`.
    async fn usage_alerts(
        &self,
        ctx: &Context<'_>,
        tenant_id: Option<ID>,
        #[graphql(desc = "Cursor of the last alert that you have; without it, the next alert is the first.")]
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<UsageAlertEvent>> + use<>> {
        let scope = entered(ctx, "Subscription", tenant_id.as_ref()).await?;
        let after = after.as_deref().map(Cursor::decode).transpose()?;
        let audit = ctx.data_opt::<Audit>().ok_or_else(|| Error::internal("the schema has no audit"))?;
        let rows = audit.follow(Reach::Chain(Chain::Tenant(scope)), after).await?;
        Ok(rows.filter_map(|row| ready(event(row).transpose())))
    }
}

/// None where the entry is of something else.
fn event(row: crate::error::Result<Row>) -> Result<Option<UsageAlertEvent>> {
    let row = row?;
    if row.record.event != "UsageAlertFired" {
        return Ok(None);
    }
    let alert = serde_json::from_str(row.record.after.as_deref().unwrap_or_default()).map_err(Error::internal)?;
    Ok(Some(UsageAlertEvent { cursor: row.cursor.encode(), alert: UsageAlert(alert) }))
}
