//! What replicas tell each other of their consumption: one statement, each interval, for buckets that were used.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use super::{
    Rates,
    buckets::{Spent, Told, Total},
};
use crate::{error::Result, isolation::OperatorScope, platform::ids::TenantId};

/// Buckets of one exchange; more go into the next statement of the same exchange.
const MOST: usize = 2000;
/// A row that nobody used for so long is worth no more than none.
const FORGOTTEN: TimeDelta = TimeDelta::hours(1);
/// How often rows are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(600);

// Rows in their order, so that replicas that meet wait for each other and do not lock each other out.
const TELL: &str = "
    insert into tenantry.rate_usage as known (tenant_id, quota_key, consumed, debt, per_second, counted_at)
    select spent.tenant, spent.key, spent.tokens, spent.tokens * 1000000, spent.per_second, $5
    from unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[]) as spent (tenant, key, tokens, per_second) order by 1, 2
    on conflict (tenant_id, quota_key) do update set
      consumed = known.consumed + excluded.consumed,
      debt = excluded.debt + greatest(0, known.debt - excluded.per_second
        * greatest(0, extract(epoch from excluded.counted_at - known.counted_at) * 1000000))::bigint,
      per_second = excluded.per_second,
      counted_at = greatest(known.counted_at, excluded.counted_at)
    returning tenant_id, quota_key, consumed, debt";

impl Rates {
    /// Tells and learns until the server stops. Where the interval is zero, this replica is on its own.
    pub async fn run(&self, stop: CancellationToken) {
        stop.run_until_cancelled(self.keep_telling()).await;
    }

    async fn keep_telling(&self) {
        let alone = self.rules.exchange.is_zero();
        let mut ticks = tokio::time::interval(if alone { Duration::from_secs(1) } else { self.rules.exchange });
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut forgotten = tokio::time::Instant::now();
        loop {
            ticks.tick().await;
            if alone {
                self.buckets.sweep(Told::Nothing, micros(self.isolation.clock().now()));
                continue;
            }
            let mut done = self.exchange().await;
            if done.is_ok() && forgotten.elapsed() > FORGET_EVERY {
                forgotten = tokio::time::Instant::now();
                done = self.forget().await;
            }
            self.report(done);
        }
    }

    /// Tells the other replicas what was taken here since the last time, and learns what they took. Where that fails, this
    /// replica goes on alone, and tells later.
    pub async fn exchange(&self) -> Result<()> {
        let _turn = self.exchanging.lock().await;
        loop {
            let spent = self.buckets.collect(MOST);
            let more = spent.len() == MOST;
            if !spent.is_empty() {
                let now = self.isolation.clock().now();
                match self.tell(&spent, now).await {
                    Ok(totals) => self.learn(spent, &totals),
                    Err(error) => {
                        self.buckets.restore(spent);
                        return Err(error);
                    }
                }
            }
            if !more {
                break;
            }
        }
        self.buckets.sweep(Told::Everything, micros(self.isolation.clock().now()));
        Ok(())
    }

    async fn tell(&self, spent: &[Spent], now: DateTime<Utc>) -> Result<Vec<Total>> {
        let tx = self.isolation.begin_operator(&OperatorScope::system("rates")).await?;
        let values = [
            spent.iter().map(|spent| spent.tenant.uuid()).collect::<Vec<_>>().into(),
            spent.iter().map(|spent| spent.key.clone()).collect::<Vec<_>>().into(),
            spent.iter().map(|spent| spent.tokens).collect::<Vec<_>>().into(),
            spent.iter().map(|spent| spent.per_second.min(super::bucket::MOST_PER_SECOND)).collect::<Vec<_>>().into(),
            now.into(),
        ];
        let rows = tx.rows(TELL, values).await?;
        tx.commit_unrecorded("consumption of the moment").await?;
        let total = |row: &sea_orm::QueryResult| {
            Ok(Total {
                tenant: row.try_get("", "tenant_id")?,
                key: row.try_get("", "quota_key")?,
                consumed: row.try_get("", "consumed")?,
                debt: row.try_get("", "debt")?,
            })
        };
        rows.iter().map(total).collect()
    }

    fn learn(&self, spent: Vec<Spent>, totals: &[Total]) {
        let now = micros(self.isolation.clock().now());
        let known: std::collections::HashMap<(TenantId, &str), &Total> =
            totals.iter().map(|total| ((total.tenant, total.key.as_str()), total)).collect();
        for spent in spent {
            if let Some(total) = known.get(&(spent.tenant, spent.key.as_str())) {
                self.buckets.learn(&spent, total, now);
            }
        }
    }

    async fn forget(&self) -> Result<()> {
        let before = self.isolation.clock().now() - FORGOTTEN;
        let tx = self.isolation.begin_operator(&OperatorScope::system("rates")).await?;
        tx.execute("delete from tenantry.rate_usage where counted_at < $1", [before.into()]).await?;
        tx.commit_unrecorded("consumption of long ago").await
    }

    /// Counts, and says once when this replica is alone and once when it is no more.
    fn report(&self, done: Result<()>) {
        let outcome = if done.is_ok() { "ok" } else { "error" };
        metrics::counter!("tenantry_rate_exchanges_total", "outcome" => outcome).increment(1);
        metrics::gauge!("tenantry_rate_exchange_alone").set(if done.is_ok() { 0.0 } else { 1.0 });
        metrics::gauge!("tenantry_rate_buckets").set(self.buckets.count() as f64);
        let was_alone = self.alone.swap(done.is_err(), std::sync::atomic::Ordering::Relaxed);
        match done {
            Err(error) if !was_alone => {
                let cause = error.cause().map(tracing::field::display);
                tracing::warn!(%error, cause, "replicas cannot tell each other what was taken; each limits by itself");
            }
            Ok(()) if was_alone => tracing::info!("replicas tell each other again what was taken"),
            _ => {}
        }
    }
}

/// Unix time as buckets have it.
pub(super) fn micros(at: DateTime<Utc>) -> i64 {
    at.timestamp_micros()
}
