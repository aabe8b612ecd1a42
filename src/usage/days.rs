//! Events lie in partitions, one for each day of UTC that they count in: made ahead, and dropped as a whole.

use std::time::Duration;

use chrono::{Days, NaiveDate};
use tokio_util::sync::CancellationToken;

use super::Usage;
use crate::{
    error::Result,
    platform::db::{Owner, OwnerConnection},
};

/// Longer than a server without its owner, or an operator, is likely to be away.
const AHEAD: u64 = 7;
const EVERY: Duration = Duration::from_secs(3600);

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arranged {
    pub made: u64,
    pub dropped: u64,
}

impl Usage {
    /// Looks after partitions until the server stops.
    pub async fn keep_days(self, owner: Owner, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if let Err(error) = self.arrange_days(&owner).await {
                tracing::warn!(%error, cause = error.cause().map(tracing::field::display), "partitions of usage are not looked after; it is tried again");
            }
        }
    }

    /// Makes the partitions of today and the next days, and drops those of days before `usage.keep_events`. Events of days that have none
    /// are kept beside them, and removed row by row.
    pub async fn arrange_days(&self, owner: &Owner) -> Result<Arranged> {
        let connection = owner.connect().await?;
        let arranged = self.arrange(&connection).await;
        connection.close().await?;
        arranged
    }

    async fn arrange(&self, connection: &OwnerConnection) -> Result<Arranged> {
        let mut arranged = Arranged::default();
        let today = self.isolation.clock().now().date_naive();
        for day in (0..=AHEAD).filter_map(|ahead| today.checked_add_days(Days::new(ahead))) {
            let row = connection.row("select tenantry.make_usage_day($1) as made", [day.into()]).await?;
            arranged.made += u64::from(row.try_get::<bool>("", "made")?);
        }
        let Some(before) = self.kept_since() else { return Ok(arranged) };
        let drop_one = "select tenantry.drop_usage_day($1) as dropped";
        while let Some(day) =
            connection.row(drop_one, [before.date_naive().into()]).await?.try_get::<Option<NaiveDate>>("", "dropped")?
        {
            tracing::info!(%day, "events of usage are older than they are kept, and were dropped");
            arranged.dropped += 1;
        }
        Ok(arranged)
    }
}
