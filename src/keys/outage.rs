use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    config::KeyProvider,
    error::{Error, Kind},
    platform::clock::Clock,
};

/// How long a provider that cannot be reached is left alone: who asks meanwhile is told at once, and need not wait for a deadline.
const REST: TimeDelta = TimeDelta::seconds(1);

/// Why a provider did not do what it was asked. None of it has a secret in it: statuses and codes, no bodies.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It does not answer, or says itself that it cannot: all that need it are without it.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// It answers, and refuses this.
    #[error("refuses: {0}")]
    Refused(String),
    /// What it was given to open is not what it wrapped.
    #[error("does not open the wrapped key: {0}")]
    NotOpened(String),
}

impl ProviderError {
    /// What the caller is told.
    pub(super) fn of(self, provider: KeyProvider) -> Error {
        let name = provider.name();
        match self {
            Self::NotOpened(_) => Error::internal(Named(name, self)),
            _ => {
                Error::new(Kind::Unavailable, format!("the key provider `{name}` cannot be used right now; try again"))
                    .because(Named(name, self))
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("key provider {0}: {1}")]
struct Named(&'static str, ProviderError);

/// Since when a provider fails, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    pub since: DateTime<Utc>,
    pub reason: String,
}

/// What is known of one provider.
#[derive(Debug)]
pub(super) struct Standing {
    provider: KeyProvider,
    clock: Clock,
    failing: Mutex<Option<Failing>>,
}

#[derive(Clone, Debug)]
struct Failing {
    outage: Outage,
    /// Until when nobody asks.
    rests_until: Option<DateTime<Utc>>,
}

impl Standing {
    pub(super) fn new(provider: KeyProvider, clock: Clock) -> Self {
        metrics::gauge!("tenantry_key_provider_failing_since_seconds", "provider" => provider.name()).set(0.0);
        Self { provider, clock, failing: Mutex::default() }
    }

    pub(super) fn outage(&self) -> Option<Outage> {
        self.lock().as_ref().map(|failing| failing.outage.clone())
    }

    /// Refuses while the provider is left alone.
    pub(super) fn check(&self) -> Result<(), ProviderError> {
        let now = self.clock.now();
        match &*self.lock() {
            Some(Failing { rests_until: Some(until), outage }) if now < *until && *until - now <= REST => {
                Err(ProviderError::Unreachable(format!("since {}", outage.since)))
            }
            _ => Ok(()),
        }
    }

    /// Takes note of how a call went.
    pub(super) fn note<T>(&self, done: &Result<T, ProviderError>) {
        let mut failing = self.lock();
        let (since, rests) = match done {
            // What does not open says nothing of the provider.
            Ok(_) | Err(ProviderError::NotOpened(_)) => {
                if let Some(ended) = failing.take() {
                    tracing::info!(provider = self.provider.name(), since = %ended.outage.since, "the key provider works again");
                    self.gauge(0.0);
                }
                return;
            }
            Err(error) => (self.clock.now(), matches!(error, ProviderError::Unreachable(_)).then_some(REST)),
        };
        let reason = done.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let since = failing.as_ref().map_or(since, |failing| failing.outage.since);
        if failing.is_none() {
            tracing::error!(
                provider = self.provider.name(),
                reason,
                "the key provider fails; keys in memory go on working"
            );
            self.gauge(since.timestamp() as f64);
        }
        let rests_until = rests.map(|rest| self.clock.now() + rest);
        *failing = Some(Failing { outage: Outage { since, reason }, rests_until });
    }

    fn gauge(&self, since: f64) {
        metrics::gauge!("tenantry_key_provider_failing_since_seconds", "provider" => self.provider.name()).set(since);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_that_cannot_be_reached_rests_and_tells_since_when() {
        let clock = Clock::default();
        let standing = Standing::new(KeyProvider::Transit, clock.clone());
        let unreachable = || Err::<(), _>(ProviderError::Unreachable("refused".to_owned()));
        standing.check().unwrap();
        standing.note(&unreachable());
        let first = standing.outage().unwrap();
        assert!(standing.check().is_err());
        clock.advance(TimeDelta::seconds(2));
        standing.check().unwrap();
        standing.note(&unreachable());
        assert_eq!(standing.outage().unwrap().since, first.since);
        clock.advance(TimeDelta::days(-1));
        standing.check().expect("a clock that was set back keeps nobody waiting");
        standing.note(&Ok(()));
        assert_eq!(standing.outage(), None);
    }

    #[test]
    fn a_refusal_is_told_and_stops_nobody() {
        let standing = Standing::new(KeyProvider::Kms, Clock::default());
        standing.note(&Err::<(), _>(ProviderError::Refused("AccessDeniedException".to_owned())));
        standing.check().unwrap();
        assert_eq!(standing.outage().unwrap().reason, "refuses: AccessDeniedException");
    }

    #[test]
    fn an_error_names_the_provider_and_not_the_reason() {
        let error = ProviderError::Unreachable("10.0.0.7:8200".to_owned()).of(KeyProvider::Transit);
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(error.message().contains("`transit`") && !error.message().contains("10.0.0.7"), "{error}");
    }
}
