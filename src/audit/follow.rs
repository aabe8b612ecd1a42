//! A feed that waits for what comes: the stream behind a subscription.

use std::{
    time::{Duration, Instant},
    vec,
};

use futures::{StreamExt as _, stream, stream::BoxStream};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    Audit, Cursor, Reach, Row,
    feed::{Ahead, Batch, Feed},
    pulse,
};
use crate::{
    error::{Context as _, Result},
    platform::task::in_task,
};

/// Until the next look at entries that wait for a transaction to end; it doubles up to the second value while they do.
const HELD: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(200));
/// The same while the database does not answer, and how long that is borne.
const AWAY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));
const GIVE_UP: Duration = Duration::from_secs(30);

impl Audit {
    /// Entries behind `after` and all that follow; without `after`, what is committed once this call has answered. It ends
    /// with an error, or when it is dropped. A page at most is held in memory, and no transaction between two pages.
    pub async fn follow(&self, reach: Reach, after: Option<Cursor>) -> Result<BoxStream<'static, Result<Row>>> {
        // Before the place is taken: what comes in between is heard.
        let signal = match reach.tenant() {
            Some(tenant) => self.signals.watch(tenant),
            None => self.signals.watch_all(),
        };
        let (audit, follower) = (self.clone(), self.clone());
        let feed = in_task(async move { audit.feed(reach, after).await }).await?;
        let follower =
            Follower { audit: follower, feed, signal, page: Vec::new().into_iter(), ahead: Ahead::More, looks: 0 };
        Ok(stream::unfold(Some(follower), |follower| async move { follower?.next().await }).boxed())
    }
}

struct Follower {
    audit: Audit,
    feed: Feed,
    signal: watch::Receiver<u64>,
    page: vec::IntoIter<Row>,
    ahead: Ahead,
    /// Looks in a row that found entries held back, and nothing else.
    looks: u32,
}

impl Follower {
    async fn next(mut self) -> Option<(Result<Row>, Option<Self>)> {
        loop {
            if let Some(row) = self.page.next() {
                return Some((Ok(row), Some(self)));
            }
            if !self.wait().await {
                return None; // the server is going down
            }
            self.signal.mark_unchanged();
            match self.read().await {
                Ok(batch) => self.take(batch),
                Err(error) => return Some((Err(error), None)),
            }
        }
    }

    fn take(&mut self, batch: Batch) {
        self.looks = if batch.ahead == Ahead::Held && batch.rows.is_empty() { self.looks.saturating_add(1) } else { 0 };
        self.ahead = batch.ahead;
        self.page = batch.rows.into_iter();
    }

    /// Until there may be something to read; false when nobody will tell any more.
    async fn wait(&mut self) -> bool {
        match self.ahead {
            Ahead::More => true,
            Ahead::Held => {
                sleep(pause(HELD, self.looks)).await;
                true
            }
            Ahead::Nothing => loop {
                match timeout(pulse::EVERY, self.signal.changed()).await {
                    Ok(changed) => return changed.is_ok(),
                    Err(_quiet) => self.audit.beat(),
                }
            },
        }
    }

    /// The next page. A database that is away for a while does not end the stream.
    async fn read(&mut self) -> Result<Batch> {
        let (began, mut failures) = (Instant::now(), 0);
        loop {
            match self.read_once().await {
                Err(error) if error.kind().retryable() && began.elapsed() < GIVE_UP => {
                    sleep(pause(AWAY, failures)).await;
                    failures += 1;
                }
                done => return done,
            }
        }
    }

    /// The reader moves on only where its page arrived.
    async fn read_once(&mut self) -> Result<Batch> {
        let (mut feed, followers) = (self.feed.clone(), self.audit.followers.clone());
        let (feed, batch) = in_task(async move {
            let _permit = followers.acquire().await.context("wait for other readers")?;
            let batch = feed.next().await?;
            Ok((feed, batch))
        })
        .await?;
        self.feed = feed;
        Ok(batch)
    }
}

fn pause((first, longest): (Duration, Duration), times: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(times)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses: Vec<_> = [0, 1, 3, 40].into_iter().map(|times| pause(HELD, times).as_millis()).collect();
        assert_eq!(pauses, [25, 50, 200, 200]);
    }
}
