//! Fires where a day is unlike those before. Spikes are seen by marks of what was used; a day without use leaves none, so each rule is
//! marked once when a day of its tenant's is over.

use chrono::{DateTime, Days, TimeDelta, Utc};
use rust_decimal::Decimal;

use super::{
    super::{
        Dimensions, Usage, Window,
        total::{Asked, decimal},
        window::Bounds,
    },
    alert::{Alert, Kind},
    anomaly::{self, Anomaly, Progress, WEEKDAYS},
    firing::{Known, alert, periods},
    rule::Rule,
    store,
    threshold::{Crossing, Threshold},
};
use crate::{
    error::{Error, Result},
    isolation::{OperatorScope, TenantScope, TenantTx},
    platform::{calendar::begin_of, ids::TenantId},
};

/// Events of a day may come so long after it before it is taken for silent.
const GRACE: TimeDelta = TimeDelta::hours(1);
/// Tenants that are asked for at once.
const TENANTS: usize = 100;

impl Usage {
    /// What is unlike before of the days that a span touches, of today and yesterday. Each day fires once.
    pub(super) async fn unusual(&self, tx: &TenantTx, known: &Known, rule: &Rule, span: Bounds) -> Result<Vec<Alert>> {
        let (Some(id), now) = (rule.anomaly_id, tx.stamp().at) else { return Ok(Vec::new()) };
        let yesterday = Window::Day.around(Window::Day.around(now, known.zone).0 - TimeDelta::seconds(1), known.zone).0;
        let mut days = periods(rule.created_at, Window::Day, span, known.zone)?;
        days.retain(|(begin, _)| *begin >= yesterday);
        let Some(first) = days.first() else { return Ok(Vec::new()) };
        let fired = store::fired(tx, id, first.0).await?;
        let mut alerts = Vec::new();
        for day in days.into_iter().filter(|day| !fired.contains_key(&day.0)) {
            let progress = if day.1 + GRACE <= now { Progress::Over } else { Progress::Running };
            let figures = self.same_weekdays(tx, known, rule, day).await?;
            let Some((used, before)) = figures.split_last() else { continue };
            let Some(anomaly) = anomaly::compare(*used, before, progress) else { continue };
            let (kind, usual, most) = match anomaly {
                Anomaly::Spike { usual, most } => (Kind::Spike, usual, Some(most)),
                Anomaly::Silence { usual } => (Kind::Silence, usual, None),
            };
            let threshold = Threshold::Percent(Decimal::ONE_HUNDRED);
            let crossing = Crossing { threshold, quantity: most.unwrap_or_default() };
            let told = alert(rule, day, crossing, (used.unwrap_or_default(), most), now);
            alerts.push(Alert { kind, rule_id: id, expected: Some(usual), ..told });
        }
        Ok(alerts)
    }

    /// Figures of the same weekdays before a day, the oldest first, and of the day.
    async fn same_weekdays(
        &self,
        tx: &TenantTx,
        known: &Known,
        rule: &Rule,
        day: Bounds,
    ) -> Result<Vec<Option<Decimal>>> {
        let date = day.0.with_timezone(&known.zone).date_naive();
        let earlier = |weeks: u64| {
            let begin = date.checked_sub_days(Days::new(7 * weeks)).map(|date| begin_of(date, known.zone));
            begin.map(|begin| Window::Day.around(begin, known.zone))
        };
        let windows: Vec<_> = (1..=WEEKDAYS).rev().filter_map(earlier).chain([day]).collect();
        let dimension = known.catalogue.part::<Dimensions>()?.find(&rule.dimension);
        let dimension = dimension.ok_or_else(|| Error::internal("a rule of a dimension that there is not"))?;
        let labels = serde_json::to_string(&rule.labels).map_err(Error::internal)?;
        let asked = Asked { dimension, window: Window::Day, zone: known.zone, windows: &windows, only: Some(&labels) };
        let mut figures = vec![None; windows.len()];
        for found in asked.found(tx, tx.stamp().at).await? {
            let figure = figures.get_mut(found.window);
            *figure.ok_or_else(|| Error::internal("a window that was not asked for"))? =
                Some(decimal(&found.figure)?.normalize());
        }
        Ok(figures)
    }

    /// Has each rule that looks for silence looked at once for each day of its tenant's that is over.
    pub async fn mark_days_that_are_over(&self) -> Result<()> {
        let now = self.isolation.clock().now();
        // The latest day that is over anywhere.
        let latest = (now + TimeDelta::hours(14) - GRACE).date_naive().pred_opt().unwrap_or_default();
        let mut after = TenantId::PLATFORM;
        loop {
            let tx = self.isolation.begin_operator(&OperatorScope::reading("usage-alerts")).await?;
            let tenants = store::tenants_to_compare(&tx, latest, after, TENANTS).await?;
            tx.commit_unrecorded("a read").await?;
            for tenant in &tenants {
                // One tenant holds up no other, and is tried again.
                if let Err(error) = self.mark_day_that_is_over(*tenant, now).await {
                    tracing::warn!(%tenant, %error, cause = error.cause().map(tracing::field::display), "a day that is over is not marked; it is tried again");
                }
            }
            match tenants.last() {
                Some(last) if tenants.len() == TENANTS => after = *last,
                _ => return Ok(()),
            }
        }
    }

    async fn mark_day_that_is_over(&self, tenant: TenantId, now: DateTime<Utc>) -> Result<()> {
        let zone = self.known(tenant).await?.zone;
        let today = (now - GRACE).with_timezone(&zone).date_naive();
        let Some(over) = today.pred_opt() else { return Ok(()) };
        let tx = self.isolation.begin(&TenantScope::system("usage-alerts", tenant)).await?;
        store::mark_day(&tx, over, begin_of(over, zone)).await?;
        tx.commit_unrecorded("what has to be looked at").await
    }
}
