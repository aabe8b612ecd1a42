//! Looks at what was used since the last look, and fires what is reached.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;

use super::{
    super::{
        Dimensions, Usage, Window,
        total::{Asked, decimal},
        window::Bounds,
    },
    alert::{Alert, Kind},
    rule::Rule,
    store,
    threshold::{self, Threshold, percent_of},
};
use crate::{
    error::{Error, Result},
    isolation::{OperatorScope, TenantScope, TenantTx},
    journal::Entry,
    platform::ids::{TenantId, UsageAlertId},
    quotas::QuotaKeys,
    tenancy::{Catalogue, Snapshot},
};

/// Tenants that are asked for at once.
const TENANTS: usize = 100;
/// No period that is longer ago is looked at: events are not taken so late.
const LONGEST: TimeDelta = TimeDelta::days(1200);

/// What a tenant's rules are decided by, besides figures.
pub(super) struct Known {
    pub(super) catalogue: Arc<Catalogue>,
    /// None of a tenant that is no more.
    pub(super) snapshot: Option<Arc<Snapshot>>,
    pub(super) zone: Tz,
}

impl Usage {
    /// Fires all that is reached and has not fired; answers how many alerts. A tenant whose figures cannot be had holds up no other, and
    /// is looked at again.
    pub async fn fire_alerts(&self) -> Result<usize> {
        let (mut fired, mut after) = (0, TenantId::PLATFORM);
        loop {
            let tx = self.isolation.begin_operator(&OperatorScope::reading("usage-alerts")).await?;
            let tenants = store::tenants_to_look_at(&tx, after, TENANTS).await?;
            tx.commit_unrecorded("a read").await?;
            for tenant in &tenants {
                match self.look_at(*tenant).await {
                    Ok(alerts) => fired += alerts,
                    Err(error) => {
                        metrics::counter!("tenantry_usage_alert_failures_total").increment(1);
                        tracing::warn!(%tenant, %error, cause = error.cause().map(tracing::field::display), "no alerts of usage are fired; it is tried again");
                    }
                }
            }
            match tenants.last() {
                Some(last) if tenants.len() == TENANTS => after = *last,
                _ => return Ok(fired),
            }
        }
    }

    /// Marks are taken first and figures are read after that, so what a mark stands for is in them.
    async fn look_at(&self, tenant: TenantId) -> Result<usize> {
        let began = Instant::now();
        let known = self.known(tenant).await?;
        let tx = self.isolation.begin(&TenantScope::system("usage-alerts", tenant)).await?;
        let looks = store::take_looks(&tx).await?;
        let mut reached = self.overspent(&tx, &known, &looks).await?;
        for rule in store::rules(&tx).await? {
            let Some(span) = looks.get(&rule.dimension_id) else { continue };
            reached.extend(self.reached(&tx, &known, &rule, *span).await?);
            reached.extend(self.unusual(&tx, &known, &rule, *span).await?);
            reached.extend(self.foreseen(&tx, &known, &rule, *span).await?);
        }
        let mut entries = Vec::new();
        for alert in &reached {
            if store::insert(&tx, alert).await? {
                let subject = if alert.kind == Kind::Budget { "budget" } else { "alertRule" };
                entries.push(Entry::new("UsageAlertFired", subject, &alert.rule).change(None, Some(alert))?);
            }
        }
        let fired = entries.len();
        match fired {
            0 => tx.commit_unrecorded("nothing is reached").await?,
            _ => tx.commit(entries).await?,
        }
        metrics::counter!("tenantry_usage_alerts_total").increment(fired as u64);
        metrics::histogram!("tenantry_usage_alert_look_seconds").record(began.elapsed().as_secs_f64());
        Ok(fired)
    }

    pub(super) async fn known(&self, tenant: TenantId) -> Result<Known> {
        let snapshots = self.tenancy.snapshots();
        let (catalogue, snapshot) = (snapshots.catalogue().await?, snapshots.get(tenant).await?);
        let zone = snapshot.as_ref().and_then(|known| known.tenant.profile.time_zone.as_deref()?.parse().ok());
        Ok(Known { catalogue, snapshot, zone: zone.unwrap_or(Tz::UTC) })
    }

    /// What is reached in the periods that the span touches. Where all has fired, no figure is read.
    async fn reached(&self, tx: &TenantTx, known: &Known, rule: &Rule, span: Bounds) -> Result<Vec<Alert>> {
        let windows = periods(rule.created_at, rule.period.window(), span, known.zone)?;
        let Some(first) = windows.first() else { return Ok(Vec::new()) };
        let fired = store::fired(tx, rule.rule_id, first.0).await?;
        let is_open = |(begin, _): &Bounds| is_open(&rule.thresholds, fired.get(begin));
        let windows: Vec<_> = windows.into_iter().filter(is_open).collect();
        if windows.is_empty() {
            return Ok(Vec::new());
        }
        let dimension = known.catalogue.part::<Dimensions>()?.find(&rule.dimension);
        let dimension = dimension.ok_or_else(|| Error::internal("a rule of a dimension that there is not"))?;
        let labels = serde_json::to_string(&rule.labels).map_err(Error::internal)?;
        let asked =
            Asked { dimension, window: rule.period.window(), zone: known.zone, windows: &windows, only: Some(&labels) };
        let found = asked.found(tx, tx.stamp().at).await?;
        let limit = self.limit_of(known, rule).await?;
        let mut alerts = Vec::new();
        for figures in found {
            let bounds =
                windows.get(figures.window).ok_or_else(|| Error::internal("a window that was not asked for"))?;
            let total = decimal(&figures.figure)?.normalize();
            let fired = fired.get(&bounds.0).cloned().unwrap_or_default();
            for crossing in threshold::crossings(&rule.thresholds, limit, total, &fired) {
                alerts.push(alert(rule, *bounds, crossing, (total, limit), tx.stamp().at));
            }
        }
        Ok(alerts)
    }

    pub(super) async fn limit_of(&self, known: &Known, rule: &Rule) -> Result<Option<Decimal>> {
        let is_quota = known.catalogue.part::<QuotaKeys>()?.find(&rule.dimension).is_some();
        match (rule.limit, &known.snapshot) {
            (Some(limit), _) => Ok(Some(limit)),
            (None, Some(snapshot)) if is_quota => {
                let limit = self.quotas.limit_of(snapshot, &rule.dimension).await?.map(Decimal::from);
                Ok(limit.filter(|limit| *limit > Decimal::ZERO))
            }
            (None, _) => Ok(None),
        }
    }
}

/// Whether there is a threshold that has not fired in the period.
pub(super) fn is_open(thresholds: &[Threshold], fired: Option<&BTreeSet<String>>) -> bool {
    fired.is_none_or(|fired| thresholds.iter().any(|threshold| !fired.contains(&threshold.to_string())))
}

/// Periods of which the span has a moment, without those that were over when the rule was made.
pub(super) fn periods(made: DateTime<Utc>, period: Window, (first, last): Bounds, zone: Tz) -> Result<Vec<Bounds>> {
    let first = first.max(made).max(last - LONGEST);
    if first > last {
        // Late events of the period that the rule was made in.
        let of_making = period.cover(made, made + TimeDelta::microseconds(1), zone)?;
        return Ok(of_making.into_iter().filter(|(begin, _)| *begin <= last).collect());
    }
    period.cover(first, last + TimeDelta::microseconds(1), zone)
}

pub(super) fn alert(
    rule: &Rule,
    (period_begin, period_end): Bounds,
    crossing: threshold::Crossing,
    (total, limit): (Decimal, Option<Decimal>),
    fired_at: DateTime<Utc>,
) -> Alert {
    Alert {
        alert_id: UsageAlertId::generate(),
        kind: Kind::Usage,
        rule_id: rule.rule_id,
        rule: rule.key.clone(),
        rule_version: rule.version,
        dimension: Some(rule.dimension.clone()),
        labels: rule.labels.clone(),
        period: rule.period,
        period_begin,
        period_end,
        threshold: crossing.threshold,
        quantity: crossing.quantity,
        total,
        limit,
        percent: percent_of(total, limit),
        currency: None,
        expected: None,
        passes_at: None,
        fired_at,
    }
}
