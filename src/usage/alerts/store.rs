//! The tables of rules and alerts.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::QueryResult;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    super::{costs::Currency, total::decimal, window::Bounds},
    alert::{Alert, Kind},
    rule::{Period, Rule},
};
use crate::{
    error::{Error, Result},
    isolation::{OperatorTx, TenantTx},
    platform::ids::{AlertRuleId, TenantId, UsageAlertId},
};

/// What goes one after the other: who sets and deletes rules of one tenant.
const LOCK_RULES: &str =
    "select pg_advisory_xact_lock(hashtextextended('tenantry.usage_alert_rules ' || $1::text, 0))::text";

const RULES: &str = "
    select key, rule_id, dimension, dimension_id, labels, period, thresholds, alert_limit::text as alert_limit, forecast_id, anomaly_id, version, created_at, updated_at
    from tenantry.usage_alert_rules where tenant_id = $1 and ($2::text is null or key = $2) order by key";

const PUT: &str = "
    insert into tenantry.usage_alert_rules
        (tenant_id, key, rule_id, dimension, dimension_id, labels, period, thresholds, alert_limit, version, created_at, updated_at, forecast_id, anomaly_id)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9::text::numeric, $10, $11, $12, $13, $14)
    on conflict (tenant_id, key) do update set
        thresholds = excluded.thresholds, alert_limit = excluded.alert_limit, version = excluded.version, updated_at = excluded.updated_at,
        forecast_id = excluded.forecast_id, anomaly_id = excluded.anomaly_id";

const MARK: &str = "
    insert into tenantry.usage_alert_looks (tenant_id, look_id, dimension_id, first_at, last_at)
    values ($1, gen_random_uuid(), $2, $3, $3)";

const TO_COMPARE: &str = "
    select distinct tenant_id from tenantry.usage_alert_rules
    where anomaly_id is not null and (compared_on is null or compared_on < $1) and tenant_id > $2 order by tenant_id limit $3";

const MARK_DAY: &str = "
    with due as (
        update tenantry.usage_alert_rules set compared_on = $2
        where tenant_id = $1 and anomaly_id is not null and (compared_on is null or compared_on < $2) returning dimension_id
    )
    insert into tenantry.usage_alert_looks (tenant_id, look_id, dimension_id, first_at, last_at)
    select distinct on (dimension_id) $1::uuid, gen_random_uuid(), dimension_id, $3::timestamptz, $3::timestamptz from due";

const TENANTS: &str = "
    select distinct tenant_id from tenantry.usage_alert_looks where tenant_id > $1 order by tenant_id limit $2";

/// What another server is looking at is passed by.
const TAKE: &str = "
    with taken as (
        delete from tenantry.usage_alert_looks where (tenant_id, look_id) in (
            select tenant_id, look_id from tenantry.usage_alert_looks where tenant_id = $1 for update skip locked)
        returning dimension_id, first_at, last_at
    )
    select dimension_id, min(first_at) as first_at, max(last_at) as last_at from taken group by dimension_id";

const FIRED: &str = "
    select period_begin, threshold from tenantry.usage_alerts where tenant_id = $1 and rule_id = $2 and period_begin >= $3";

const INSERT: &str = "
    insert into tenantry.usage_alerts
        (tenant_id, rule_id, period_begin, threshold, alert_id, period_end, period, rule, rule_version, dimension, labels, quantity, total,
         alert_limit, percent, fired_at, kind, currency, expected, passes_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12::text::numeric, $13::text::numeric, $14::text::numeric, $15::text::numeric, $16, $17, $18, $19::text::numeric, $20)
    on conflict (tenant_id, rule_id, period_begin, threshold) do nothing";

const ALERTS: &str = "
    select rule_id, period_begin, threshold, alert_id, period_end, period, rule, rule_version, dimension, labels, quantity::text as quantity,
        total::text as total, alert_limit::text as alert_limit, percent::text as percent, fired_at, kind, currency, expected::text as expected, passes_at
    from tenantry.usage_alerts where tenant_id = $1 and ($2::uuid is null or alert_id < $2) order by alert_id desc limit $3";

pub(super) async fn lock_rules(tx: &TenantTx) -> Result<()> {
    tx.row(LOCK_RULES, [tx.tenant().into()]).await?;
    Ok(())
}

pub(super) async fn rules(tx: &TenantTx) -> Result<Vec<Rule>> {
    let rows = tx.rows(RULES, [tx.tenant().into(), None::<String>.into()]).await?;
    rows.iter().map(rule).collect()
}

pub(super) async fn find(tx: &TenantTx, key: &str) -> Result<Option<Rule>> {
    tx.row(RULES, [tx.tenant().into(), key.into()]).await?.as_ref().map(rule).transpose()
}

pub(super) async fn count(tx: &TenantTx) -> Result<i64> {
    const COUNT: &str = "select count(*) as rules from tenantry.usage_alert_rules where tenant_id = $1";
    let row = tx.row(COUNT, [tx.tenant().into()]).await?.ok_or_else(|| Error::internal("a count has a row"))?;
    Ok(row.try_get("", "rules")?)
}

pub(super) async fn put(tx: &TenantTx, rule: &Rule) -> Result<()> {
    let values = [
        tx.tenant().into(),
        rule.key.as_str().into(),
        rule.rule_id.into(),
        rule.dimension.as_str().into(),
        rule.dimension_id.into(),
        json(&rule.labels)?.into(),
        rule.period.name().into(),
        json(&rule.thresholds)?.into(),
        rule.limit.map(|limit| limit.to_string()).into(),
        rule.version.into(),
        rule.created_at.into(),
        rule.updated_at.into(),
        rule.forecast_id.into(),
        rule.anomaly_id.into(),
    ];
    tx.execute(PUT, values).await?;
    Ok(())
}

pub(super) async fn delete(tx: &TenantTx, key: &str) -> Result<()> {
    const DELETE: &str = "delete from tenantry.usage_alert_rules where tenant_id = $1 and key = $2";
    tx.execute(DELETE, [tx.tenant().into(), key.into()]).await?;
    Ok(())
}

/// Has the rule looked at for the present period.
pub(super) async fn mark(tx: &TenantTx, rule: &Rule) -> Result<()> {
    tx.execute(MARK, [tx.tenant().into(), rule.dimension_id.into(), rule.updated_at.into()]).await?;
    Ok(())
}

/// Up to `limit` tenants behind `after` of which something has to be looked at.
pub(super) async fn tenants_to_look_at(tx: &OperatorTx, after: TenantId, limit: usize) -> Result<Vec<TenantId>> {
    let rows = tx.rows(TENANTS, [after.into(), (limit as i64).into()]).await?;
    rows.iter().map(|row| Ok(row.try_get("", "tenant_id")?)).collect()
}

/// Up to `limit` tenants behind `after` that have a rule for which a day was not looked at that is over somewhere.
pub(super) async fn tenants_to_compare(
    tx: &OperatorTx,
    latest: NaiveDate,
    after: TenantId,
    limit: usize,
) -> Result<Vec<TenantId>> {
    let rows = tx.rows(TO_COMPARE, [latest.into(), after.into(), (limit as i64).into()]).await?;
    rows.iter().map(|row| Ok(row.try_get("", "tenant_id")?)).collect()
}

/// Has rules that compare days looked at for one that is over, once.
pub(super) async fn mark_day(tx: &TenantTx, over: NaiveDate, begin: DateTime<Utc>) -> Result<()> {
    tx.execute(MARK_DAY, [tx.tenant().into(), over.into(), begin.into()]).await?;
    Ok(())
}

/// Takes what has to be looked at, until this transaction commits: by dimension, from the first moment to the last.
pub(super) async fn take_looks(tx: &TenantTx) -> Result<HashMap<i16, Bounds>> {
    let rows = tx.rows(TAKE, [tx.tenant().into()]).await?;
    let look = |row: &QueryResult| {
        Ok((row.try_get("", "dimension_id")?, (row.try_get("", "first_at")?, row.try_get("", "last_at")?)))
    };
    rows.iter().map(look).collect()
}

/// Thresholds of a rule that have fired, by period, from one on.
pub(super) async fn fired(
    tx: &TenantTx,
    rule: AlertRuleId,
    from: DateTime<Utc>,
) -> Result<BTreeMap<DateTime<Utc>, BTreeSet<String>>> {
    let mut fired = BTreeMap::<_, BTreeSet<String>>::new();
    for row in tx.rows(FIRED, [tx.tenant().into(), rule.into(), from.into()]).await? {
        fired.entry(row.try_get("", "period_begin")?).or_default().insert(row.try_get("", "threshold")?);
    }
    Ok(fired)
}

/// Answers whether it has not fired before.
pub(super) async fn insert(tx: &TenantTx, alert: &Alert) -> Result<bool> {
    let values = [
        tx.tenant().into(),
        alert.rule_id.into(),
        alert.period_begin.into(),
        alert.threshold.to_string().into(),
        alert.alert_id.into(),
        alert.period_end.into(),
        alert.period.name().into(),
        alert.rule.as_str().into(),
        alert.rule_version.into(),
        alert.dimension.as_deref().unwrap_or_default().into(),
        json(&alert.labels)?.into(),
        alert.quantity.to_string().into(),
        alert.total.to_string().into(),
        alert.limit.map(|limit| limit.to_string()).into(),
        alert.percent.map(|percent| percent.to_string()).into(),
        alert.fired_at.into(),
        alert.kind.name().into(),
        alert.currency.map(Currency::code).into(),
        alert.expected.map(|expected| expected.to_string()).into(),
        alert.passes_at.into(),
    ];
    Ok(tx.execute(INSERT, values).await? == 1)
}

/// The newest first.
pub(super) async fn alerts(tx: &TenantTx, after: Option<UsageAlertId>, limit: usize) -> Result<Vec<Alert>> {
    let after = after.map(UsageAlertId::uuid);
    let rows = tx.rows(ALERTS, [tx.tenant().into(), after.into(), (limit as i64).into()]).await?;
    rows.iter().map(alert).collect()
}

fn rule(row: &QueryResult) -> Result<Rule> {
    Ok(Rule {
        key: row.try_get("", "key")?,
        rule_id: row.try_get("", "rule_id")?,
        dimension: row.try_get("", "dimension")?,
        dimension_id: row.try_get("", "dimension_id")?,
        labels: parsed(row.try_get("", "labels")?)?,
        period: Period::parse(&row.try_get::<String>("", "period")?)?,
        thresholds: parsed(row.try_get("", "thresholds")?)?,
        limit: row.try_get::<Option<String>>("", "alert_limit")?.map(|text| decimal(&text)).transpose()?,
        forecast_id: row.try_get("", "forecast_id")?,
        anomaly_id: row.try_get("", "anomaly_id")?,
        version: row.try_get("", "version")?,
        created_at: row.try_get("", "created_at")?,
        updated_at: row.try_get("", "updated_at")?,
    })
}

fn alert(row: &QueryResult) -> Result<Alert> {
    let optional = |column| row.try_get::<Option<String>>("", column)?.map(|text| decimal(&text)).transpose();
    Ok(Alert {
        alert_id: row.try_get("", "alert_id")?,
        kind: Kind::parse(&row.try_get::<String>("", "kind")?)?,
        rule_id: row.try_get("", "rule_id")?,
        rule: row.try_get("", "rule")?,
        rule_version: row.try_get("", "rule_version")?,
        dimension: Some(row.try_get::<String>("", "dimension")?).filter(|key| !key.is_empty()),
        labels: parsed(row.try_get("", "labels")?)?,
        period: Period::parse(&row.try_get::<String>("", "period")?)?,
        period_begin: row.try_get("", "period_begin")?,
        period_end: row.try_get("", "period_end")?,
        threshold: row.try_get::<String>("", "threshold")?.parse()?,
        quantity: decimal(&row.try_get::<String>("", "quantity")?)?,
        total: decimal(&row.try_get::<String>("", "total")?)?,
        limit: optional("alert_limit")?,
        percent: optional("percent")?,
        expected: optional("expected")?,
        passes_at: row.try_get("", "passes_at")?,
        currency: row.try_get::<Option<String>>("", "currency")?.map(|code| Currency::parse(&code)).transpose()?,
        fired_at: row.try_get("", "fired_at")?,
    })
}

pub(super) fn json<T: serde::Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value).map_err(Error::internal)
}

pub(super) fn parsed<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(Error::internal)
}
