//! How a period is closed.

use std::time::Duration;

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::{super::Usage, store};
use crate::{
    error::{Error, Kind, Result},
    isolation::{Conditions, OperatorScope, TenantScope},
    journal::Entry,
};

/// Until when a tenant's usage is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Closing {
    /// From then on nothing counts before this.
    pub closing_until: DateTime<Utc>,
    /// What totals come to before this stays. None: what was let in before the first closing may still be under way.
    pub closed_until: Option<DateTime<Utc>>,
    pub closed_at: Option<DateTime<Utc>>,
}

/// A batch has less time than this, and so have those who make totals.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

impl Usage {
    pub async fn closing(&self, scope: &TenantScope) -> Result<Option<Closing>> {
        let tx = self.isolation.begin(scope).await?;
        let closing = store::closing(&tx).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(closing)
    }

    /// Closes all periods before `until`. When it returns, their totals have all that they ever will. One that was broken off is
    /// completed by closing again.
    pub async fn close(&self, scope: &TenantScope, until: DateTime<Utc>, conditions: &Conditions) -> Result<Closing> {
        if until.duration_trunc(TimeDelta::minutes(15)).ok() != Some(until) {
            return Err(Error::invalid(
                "until",
                "must be at a quarter of an hour, as begins of days and months in all time zones are",
            ));
        }
        if until > self.isolation.clock().now() {
            return Err(Error::invalid("until", "must not be after the present"));
        }
        self.tenancy.get(scope).await?;
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(answered);
        }
        store::lock(&tx).await?;
        let before = store::closing(&tx).await?;
        if before.is_some_and(|before| until < before.closing_until) {
            return Err(
                Error::conflict("it is closed until later already; what is closed is not opened again").at("until")
            );
        }
        store::begin(&tx, until).await?;
        let begun = Closing { closing_until: until, ..before.unwrap_or(NONE) };
        tx.commit([
            Entry::new("UsageClosingBegun", "usageClosing", scope.tenant()).change(before.as_ref(), Some(&begun))?
        ])
        .await?;
        self.until_let_in_is_counted().await?;
        let tx = self.isolation.begin(scope).await?;
        store::end(&tx, until).await?;
        let closing = store::closing(&tx).await?.ok_or_else(|| Error::internal("a closing that was begun"))?;
        tx.keep_answer(conditions, &closing).await?;
        tx.commit([Entry::new("UsageClosed", "usageClosing", scope.tenant()).change(Some(&begun), Some(&closing))?])
            .await?;
        Ok(closing)
    }

    /// Waits for all who were at the inbox when this began. Whoever comes later knows what is closed: a statement locks its tables before it
    /// takes its snapshot.
    async fn until_let_in_is_counted(&self) -> Result<()> {
        let began = Instant::now();
        let mut under_way: Option<Vec<String>> = None;
        loop {
            let tx = self.isolation.begin_operator(&OperatorScope::system("usage")).await?;
            let left = store::writers(&tx, under_way.as_deref()).await?;
            tx.commit_unrecorded("a read").await?;
            if left.is_empty() {
                return Ok(());
            }
            if began.elapsed() > LONGEST_WAIT {
                return Err(Error::new(
                    Kind::Unavailable,
                    "usage that was let in before is still being counted; close again",
                ));
            }
            under_way = Some(left);
            sleep(BETWEEN_LOOKS).await;
        }
    }
}

const NONE: Closing = Closing { closing_until: DateTime::<Utc>::MIN_UTC, closed_until: None, closed_at: None };
