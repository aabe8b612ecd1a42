use std::{path::PathBuf, sync::Arc, time::Duration};

use chrono::TimeDelta;

use crate::{
    access::{AcceptedIssuer, KeyRing, TokenVerifier, VerifierSettings},
    config::Config,
    platform::clock::Clock,
};

/// Verified tokens that introspection and revocation remember: they see each token a few times at most.
const REMEMBERED_TOKENS: u64 = 1_000;

/// What of the configuration concerns this capability.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) issuer: String,
    pub(super) audience: String,
    /// Where clients reach this server, without a slash at the end.
    pub(super) public_url: String,
    pub(super) token_ttl: TimeDelta,
    pub(super) max_token_ttl: TimeDelta,
    pub(super) leeway: Duration,
    pub(super) key_bits: usize,
    pub(super) key_rotation: TimeDelta,
    pub(super) key_overlap: TimeDelta,
    pub(super) master_key_file: PathBuf,
    pub(super) idempotency_retention: TimeDelta,
}

impl Settings {
    pub(super) fn from_config(config: &Config) -> Self {
        let auth = &config.auth;
        Self {
            issuer: config.issuer(),
            audience: auth.audience.clone(),
            public_url: config.public_url(),
            token_ttl: delta(auth.token_ttl),
            max_token_ttl: delta(auth.max_token_ttl),
            leeway: auth.leeway,
            key_bits: auth.key_bits,
            key_rotation: delta(auth.key_rotation),
            key_overlap: delta(auth.key_overlap),
            master_key_file: config.master_key_file(),
            idempotency_retention: delta(config.idempotency.retention),
        }
    }

    /// Checks own tokens, and knows no other issuer.
    pub(super) fn own_verifier(&self, clock: Clock, keyring: Arc<KeyRing>) -> TokenVerifier {
        let max_lifetime = self.max_token_ttl.to_std().ok();
        let own = AcceptedIssuer { issuer: self.issuer.clone(), audience: self.audience.clone(), max_lifetime };
        let settings = VerifierSettings { issuers: vec![own], leeway: self.leeway, cache_capacity: REMEMBERED_TOKENS };
        TokenVerifier::new(settings, clock, keyring)
    }

    /// How long after its issue a token can still be accepted.
    pub(super) fn tokens_live(&self) -> TimeDelta {
        self.max_token_ttl + delta(self.leeway)
    }

    /// Where clients ask for tokens; also the audience of their assertions (RFC 7523, section 3, rule 3).
    pub(super) fn token_endpoint(&self) -> String {
        format!("{}/oauth/token", self.public_url)
    }
}

/// A hundred years stand for anything longer, so that adding it to a time never overflows.
pub(super) fn delta(duration: Duration) -> TimeDelta {
    const CENTURY: TimeDelta = TimeDelta::days(36_525);
    TimeDelta::from_std(duration).unwrap_or(CENTURY).min(CENTURY)
}
