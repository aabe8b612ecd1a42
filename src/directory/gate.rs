//! What one tenant's directory may take of a server, however slow it is: so many sign-ins at once, so much patience, and a rest for
//! servers that fail. Nothing here is shared between tenants.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use moka::sync::Cache;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::ldap::{Session, Trouble, Trust};
use crate::{
    config,
    platform::{clock::Clock, ids::TenantId},
};

/// Gates of tenants that sign in, by what their directories are configured to be.
#[derive(Clone, Debug)]
pub(super) struct Gates(Cache<(TenantId, i64, i64), Arc<Gate>>);

const MOST_GATES: u64 = 10_000;
const FORGOTTEN_AFTER: Duration = Duration::from_secs(900);

impl Gates {
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(MOST_GATES).time_to_idle(FORGOTTEN_AFTER).build())
    }

    /// The tenant's gate for these versions of settings and permit; another version begins anew, without connections of the one before.
    pub(super) fn of(&self, key: (TenantId, i64, i64), make: impl FnOnce() -> Gate) -> Arc<Gate> {
        self.0.get_with(key, || Arc::new(make()))
    }
}

/// One tenant's.
#[derive(Debug)]
pub(super) struct Gate {
    places: Semaphore,
    pub(super) trust: Trust,
    /// Whether an operator permits it.
    pub(super) plain_text: bool,
    breakers: Mutex<Vec<Breaker>>,
    idle: Mutex<Vec<Idle>>,
}

/// A connection that waits for the next sign-in, bound as the directory's reader.
#[derive(Debug)]
struct Idle {
    server: usize,
    session: Session,
    since: DateTime<Utc>,
}

impl Gate {
    pub(super) fn new(servers: usize, trust: Trust, plain_text: bool, limits: &config::Directory) -> Self {
        Self {
            places: Semaphore::new(limits.connections),
            trust,
            plain_text,
            breakers: Mutex::new(vec![Breaker::default(); servers]),
            idle: Mutex::default(),
        }
    }

    /// A place among those who ask at once; refuses after `patience`.
    pub(super) async fn enter(&self, patience: Duration) -> Result<SemaphorePermit<'_>, Trouble> {
        match tokio::time::timeout(patience, self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(Trouble::Crowded),
        }
    }

    /// Whether a server may be tried now. Of a server that rests too long one try is let through.
    pub(super) fn may_try(&self, server: usize, now: DateTime<Utc>, limits: &config::Directory) -> bool {
        self.breaker(server, |breaker| breaker.may_try(now, limits))
    }

    pub(super) fn succeeded(&self, server: usize) {
        self.breaker(server, |breaker| *breaker = Breaker::default());
    }

    /// One try of a server: a failure, unless it is said that it ended well.
    pub(super) fn attempt<'a>(&'a self, server: usize, clock: &'a Clock) -> Attempt<'a> {
        Attempt { gate: self, server, clock, is_open: true }
    }

    fn breaker<T>(&self, server: usize, change: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut breakers[server])
    }

    /// A connection that was kept, and whose server it is.
    pub(super) fn take(&self, now: DateTime<Utc>, limits: &config::Directory) -> Option<(usize, Session)> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let longest = TimeDelta::from_std(limits.idle).unwrap_or(TimeDelta::MAX);
        idle.retain(|kept| now - kept.since < longest && !kept.session.has_ended());
        idle.pop().map(|kept| (kept.server, kept.session))
    }

    pub(super) fn keep(&self, server: usize, session: Session, now: DateTime<Utc>, limits: &config::Directory) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < limits.connections {
            idle.push(Idle { server, session, since: now });
        }
    }
}

/// What a server is asked, until it is known how that ended.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    gate: &'a Gate,
    server: usize,
    clock: &'a Clock,
    is_open: bool,
}

impl Attempt<'_> {
    pub(super) fn ended_well(mut self) {
        self.is_open = false;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.is_open {
            self.gate.breaker(self.server, |breaker| breaker.fail(self.clock.now()));
        }
    }
}

/// Whether a server is worth asking (a circuit breaker).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Breaker {
    failures: u32,
    rests_since: Option<DateTime<Utc>>,
}

impl Breaker {
    fn may_try(&mut self, now: DateTime<Utc>, limits: &config::Directory) -> bool {
        let pause = TimeDelta::from_std(limits.pause).unwrap_or(TimeDelta::MAX);
        match self.rests_since {
            _ if self.failures < limits.failures => true,
            Some(since) if now - since < pause && now >= since => false,
            // One tries; the others go on waiting.
            _ => {
                self.rests_since = Some(now);
                true
            }
        }
    }

    fn fail(&mut self, now: DateTime<Utc>) {
        self.failures = self.failures.saturating_add(1);
        self.rests_since = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_fails_rests_and_is_tried_by_one_at_a_time() {
        let limits =
            crate::config::Config::from_toml(&["directory.failures = 2\ndirectory.pause = \"30s\""]).unwrap().directory;
        let (mut breaker, now) = (Breaker::default(), DateTime::<Utc>::UNIX_EPOCH);
        breaker.fail(now);
        assert!(breaker.may_try(now, &limits), "once is not often");
        breaker.fail(now);
        assert!(!breaker.may_try(now, &limits) && !breaker.may_try(now + TimeDelta::seconds(29), &limits));
        let later = now + TimeDelta::seconds(30);
        assert!(breaker.may_try(later, &limits) && !breaker.may_try(later, &limits), "one tries");
        breaker.fail(later);
        assert!(!breaker.may_try(later + TimeDelta::seconds(29), &limits));
        assert!(breaker.may_try(now - TimeDelta::seconds(1), &limits), "a clock that was set back holds nobody up");
    }
}
