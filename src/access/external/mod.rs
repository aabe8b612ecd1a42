//! The keys of other issuers: loaded at start, refreshed in the background, and once more when a token names a new key.

mod fetch;
#[cfg(test)]
mod tests;

use std::{collections::HashSet, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use self::fetch::{Place, fetch};
use crate::{
    access::{
        keyring::KeyRing,
        verifier::{Rejected, TokenVerifier, VerifiedToken},
    },
    config::ExternalIssuer,
    error::{Error, Result},
    platform::clock::Clock,
};

/// A token with an unknown key makes us look again at most this often, for each issuer.
const NUDGE_INTERVAL: TimeDelta = TimeDelta::seconds(30);
/// Keys that were loaded once are used this long while their issuer cannot be reached; after that its tokens are
/// refused, since a key it has withdrawn meanwhile would be accepted for ever.
const KEEP_STALE_KEYS: TimeDelta = TimeDelta::hours(24);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// The configured external issuers, and what is known of where they publish their keys.
pub struct ExternalKeys {
    sources: Vec<Source>,
    ring: Arc<KeyRing>,
    clock: Clock,
    client: reqwest::Client,
}

struct Source {
    issuer: String,
    place: Place,
    refresh: Duration,
    nudge: Notify,
    progress: watch::Sender<Progress>,
}

/// What has become of looking for an issuer's keys.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Asked for or under way.
    wanted: bool,
    finished: u64,
    /// Failures since the last success.
    failures: u32,
    began: Option<DateTime<Utc>>,
    succeeded: Option<DateTime<Utc>>,
}

impl ExternalKeys {
    /// Checks the settings; nothing is fetched yet. `invalid_input` names the setting that is wrong.
    pub fn new(issuers: &[ExternalIssuer], ring: Arc<KeyRing>, clock: Clock) -> Result<Self> {
        let mut names = HashSet::new();
        if let Some(twice) = issuers.iter().find(|issuer| !names.insert(issuer.issuer.as_str())) {
            return Err(Error::invalid(
                "auth.external_issuers.issuer",
                format!("{:?} stands there twice", twice.issuer),
            ));
        }
        let sources = issuers.iter().map(Source::new).collect::<Result<_>>()?;
        Ok(Self { sources, ring, clock, client: fetch::client()? })
    }

    /// Looks once at every issuer, all at the same time, 5 seconds at most. Failures are logged, and tried again by `run`.
    pub async fn load(&self) {
        join_all(self.sources.iter().map(|source| self.attempt(source))).await;
    }

    /// Keeps the keys up to date until `shutdown`. Without it, `verify_or_refresh` waits in vain.
    pub async fn run(&self, shutdown: CancellationToken) {
        let refreshed = join_all(self.sources.iter().map(|source| self.keep_fresh(source)));
        shutdown.run_until_cancelled(refreshed).await;
    }

    /// Verifies like [`TokenVerifier::verify`]. A token of an external issuer whose key is unknown waits for one look
    /// at the issuer, if the last was not within 30 seconds; tokens under known keys never wait.
    pub async fn verify_or_refresh(
        &self,
        verifier: &TokenVerifier,
        token: &str,
    ) -> Result<Arc<VerifiedToken>, Rejected> {
        let rejected = match verifier.verify(token) {
            Ok(verified) => return Ok(verified),
            Err(rejected) => rejected,
        };
        let source =
            rejected.issuer_to_refresh().and_then(|issuer| self.sources.iter().find(|source| source.issuer == issuer));
        match source {
            Some(source) if source.looked_again(self.clock.now()).await => verifier.verify(token),
            _ => Err(rejected),
        }
    }

    async fn keep_fresh(&self, source: &Source) {
        loop {
            let progress = *source.progress.borrow();
            if progress.finished > 0 {
                tokio::select! {
                    () = sleep(source.pause(progress)) => {}
                    () = source.nudge.notified() => {}
                }
            }
            self.attempt(source).await;
        }
    }

    async fn attempt(&self, source: &Source) {
        let now = self.clock.now();
        source.progress.send_modify(|progress| (progress.wanted, progress.began) = (true, Some(now)));
        let outcome = fetch(&self.client, &source.place).await;
        let (issuer, place) = (&source.issuer, &source.place);
        let good = match outcome {
            Ok(keys) => {
                if keys.is_empty() {
                    tracing::warn!(issuer, %place, "the issuer has no usable key: all its tokens are refused");
                }
                self.ring.set_external(issuer, keys);
                true
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(issuer, %place, %error, cause, "the issuer's keys cannot be loaded; those known so far stay, up to 24 hours");
                self.drop_stale(source, now);
                false
            }
        };
        source.progress.send_modify(|progress| progress.finish(good.then_some(now)));
    }

    fn drop_stale(&self, source: &Source, now: DateTime<Utc>) {
        let succeeded = source.progress.borrow().succeeded;
        if succeeded.is_some_and(|succeeded| now - succeeded > KEEP_STALE_KEYS) {
            tracing::error!(
                issuer = source.issuer,
                "the issuer's keys could not be loaded for 24 hours: its tokens are refused"
            );
            self.ring.set_external(&source.issuer, Vec::new());
        }
    }
}

impl std::fmt::Debug for ExternalKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.sources.iter().map(|source| &source.issuer)).finish()
    }
}

impl Source {
    fn new(external: &ExternalIssuer) -> Result<Self> {
        Ok(Self {
            issuer: external.issuer.clone(),
            place: Place::parse(&external.jwks)?,
            refresh: external.refresh.max(FIRST_RETRY),
            nudge: Notify::new(),
            progress: watch::Sender::new(Progress::default()),
        })
    }

    /// How long to wait before the next look: the interval, or 1, 2, 4 ... 60 seconds after failures.
    fn pause(&self, progress: Progress) -> Duration {
        match progress.failures {
            0 => self.refresh,
            failures => self.refresh.min(FIRST_RETRY * 2_u32.pow((failures - 1).min(6))).min(LONGEST_RETRY),
        }
    }

    /// Has the background look at the issuer, or waits for a look that is under way. False if it is too early for another.
    async fn looked_again(&self, now: DateTime<Utc>) -> bool {
        let mut changes = self.progress.subscribe();
        let mut seen = None;
        let claimed = self.progress.send_if_modified(|progress| {
            let claimed =
                !progress.wanted && !progress.began.is_some_and(|began| (began..began + NUDGE_INTERVAL).contains(&now));
            progress.wanted |= claimed;
            seen = progress.wanted.then_some(progress.finished);
            claimed
        });
        if claimed {
            self.nudge.notify_one();
        }
        let Some(seen) = seen else { return false };
        timeout(fetch::TIMEOUT * 2, changes.wait_for(|progress| progress.finished > seen))
            .await
            .is_ok_and(|change| change.is_ok())
    }
}

impl Progress {
    fn finish(&mut self, succeeded: Option<DateTime<Utc>>) {
        self.wanted = false;
        self.finished += 1;
        self.failures = if succeeded.is_some() { 0 } else { self.failures.saturating_add(1) };
        self.succeeded = succeeded.or(self.succeeded);
    }
}
