//! The check of a bearer token: form, key, signature, issuer, audience, times. No database, no network.

mod assertion;
mod compact;
mod rejected;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA256, digest};
use moka::{Expiry, sync::Cache};

use self::compact::{Algorithm, Compact};
pub use self::{
    assertion::{Assertion, AssertionRules, ClientKeys, verify_assertion},
    rejected::{Reason, Rejected},
};
use crate::{
    access::{
        claims::Claims,
        keyring::{KeyRing, MAX_TOKEN_BYTES, VerificationKey},
    },
    config::Config,
    platform::clock::Clock,
};

/// Largest tolerated difference of clocks.
const MAX_LEEWAY: Duration = Duration::from_secs(30);

/// An issuer whose tokens are accepted.
#[derive(Clone, Debug)]
pub struct AcceptedIssuer {
    /// `iss`, compared byte by byte.
    pub issuer: String,
    /// What `aud` must contain.
    pub audience: String,
    /// Longest time from `iat` to `exp`.
    pub max_lifetime: Option<Duration>,
}

#[derive(Clone, Debug)]
pub struct VerifierSettings {
    pub issuers: Vec<AcceptedIssuer>,
    /// At most 30 seconds count.
    pub leeway: Duration,
    /// Verified tokens to remember (large ones count more than once).
    pub cache_capacity: u64,
}

impl VerifierSettings {
    /// The own issuer with `auth.max_token_ttl`, and every external one with the audience it is given or `auth.audience`.
    pub fn from_config(config: &Config) -> Self {
        let auth = &config.auth;
        let own = AcceptedIssuer {
            issuer: config.issuer(),
            audience: auth.audience.clone(),
            max_lifetime: Some(auth.max_token_ttl),
        };
        let external = auth.external_issuers.iter().map(|external| AcceptedIssuer {
            issuer: external.issuer.clone(),
            audience: if external.audience.is_empty() { auth.audience.clone() } else { external.audience.clone() },
            max_lifetime: None,
        });
        Self {
            issuers: std::iter::once(own).chain(external).collect(),
            leeway: auth.leeway,
            cache_capacity: auth.token_cache,
        }
    }
}

/// What a token says, once all of it is verified.
#[derive(Clone, Debug)]
pub struct VerifiedToken {
    /// `epoch` is only ever there in tokens of the own issuer.
    pub claims: Claims,
    pub kid: String,
    /// SHA-256 of the whole token.
    pub hash: [u8; 32],
}

/// Verifies tokens, and remembers those that were good.
pub struct TokenVerifier {
    issuers: HashMap<Arc<str>, AcceptedIssuer>,
    leeway: i64,
    clock: Clock,
    keys: Arc<KeyRing>,
    verified: Cache<[u8; 32], Arc<Remembered>>,
}

/// A verified token, good from `begins` until before `ends` (Unix seconds, leeway included) and while `key` is in force.
struct Remembered {
    token: Arc<VerifiedToken>,
    key: Arc<VerificationKey>,
    /// The generation of the ring in which `key` was last seen.
    generation: AtomicU64,
    begins: i64,
    ends: i64,
    weight: u32,
    keep: Duration,
}

impl TokenVerifier {
    pub fn new(settings: VerifierSettings, clock: Clock, keys: Arc<KeyRing>) -> Self {
        let verified = Cache::builder()
            .max_capacity(settings.cache_capacity)
            .weigher(|_, remembered: &Arc<Remembered>| remembered.weight)
            .expire_after(UntilExpiry)
            .build();
        let issuers =
            settings.issuers.into_iter().map(|accepted| (accepted.issuer.as_str().into(), accepted)).collect();
        Self { issuers, leeway: seconds(settings.leeway.min(MAX_LEEWAY)), clock, keys, verified }
    }

    /// Verifies an access token as the `Authorization` header carries it, without `Bearer`. Below a microsecond and one
    /// SHA-256 for a token that was seen before; else about 30 microseconds.
    pub fn verify(&self, token: &str) -> Result<Arc<VerifiedToken>, Rejected> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Reason::TooLong.into());
        }
        let hash = sha256(token);
        let now = self.clock.now().timestamp();
        if let Some(remembered) = self.verified.get(&hash) {
            if self.is_in_force(&remembered) {
                check_window(now, remembered.begins, remembered.ends)?;
                return Ok(Arc::clone(&remembered.token));
            }
            self.verified.invalidate(&hash);
        }
        let remembered = self.verify_anew(token, hash, now)?;
        let token = Arc::clone(&remembered.token);
        self.verified.insert(hash, Arc::new(remembered));
        Ok(token)
    }

    fn verify_anew(&self, token: &str, hash: [u8; 32], now: i64) -> Result<Remembered, Rejected> {
        let compact = Compact::parse(token)?;
        if compact.algorithm != Algorithm::Rs256 {
            return Err(Reason::Algorithm.into());
        }
        let kid = compact.kid.ok_or(Reason::KeyId)?;
        let mut claims = Claims::parse(&compact.payload)?;
        let (issuer, accepted) = self.issuers.get_key_value(claims.iss.as_str()).ok_or(Reason::UnknownIssuer)?;
        let (key, generation) = self.keys.find(issuer, &kid);
        let key = key.ok_or_else(|| Rejected::unknown_key(Arc::clone(issuer)))?;
        if !key.verifies(compact.signed, &compact.signature) {
            return Err(Reason::Signature.into());
        }
        self.check_claims(&mut claims, accepted)?;
        let begins = claims.nbf.unwrap_or(claims.iat).max(claims.iat) - self.leeway;
        let ends = claims.exp + self.leeway;
        check_times(&claims, now, self.leeway)?;
        Ok(Remembered {
            token: Arc::new(VerifiedToken { claims, kid, hash }),
            key,
            generation: AtomicU64::new(generation),
            begins,
            ends,
            weight: u32::try_from(token.len().div_ceil(2048)).unwrap_or(u32::MAX),
            keep: Duration::from_secs(ends.abs_diff(now)),
        })
    }

    /// What a properly signed token must say besides its times.
    fn check_claims(&self, claims: &mut Claims, accepted: &AcceptedIssuer) -> Result<(), Reason> {
        if !claims.aud.contains(&accepted.audience) {
            return Err(Reason::Audience);
        }
        if claims.tenant_id.is_none() && claims.roles.is_empty() {
            return Err(Reason::Unbound);
        }
        if accepted.max_lifetime.is_some_and(|longest| claims.exp - claims.iat > seconds(longest)) {
            return Err(Reason::Lifetime);
        }
        if claims.iss != self.keys.issuer() {
            // Only we know epochs; another issuer's would outlive every suspension.
            claims.epoch = None;
            // Nor are its sessions ours, or those who act for somebody there.
            claims.sid = None;
            claims.act = None;
        }
        Ok(())
    }

    /// Whether the key of a remembered token is still the issuer's. Asks the ring only after a change of keys.
    fn is_in_force(&self, remembered: &Remembered) -> bool {
        if remembered.generation.load(Ordering::Relaxed) == self.keys.generation() {
            return true;
        }
        let (key, generation) = self.keys.find(&remembered.token.claims.iss, &remembered.token.kid);
        let same = key.is_some_and(|key| Arc::ptr_eq(&key, &remembered.key));
        if same {
            remembered.generation.store(generation, Ordering::Relaxed);
        }
        same
    }
}

impl std::fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenVerifier")
            .field("issuers", &self.issuers)
            .field("leeway", &self.leeway)
            .finish_non_exhaustive()
    }
}

/// Frees memory once a token has expired. Whether it has is decided with `Clock`, at each use.
struct UntilExpiry;

impl Expiry<[u8; 32], Arc<Remembered>> for UntilExpiry {
    fn expire_after_create(&self, _: &[u8; 32], remembered: &Arc<Remembered>, _: Instant) -> Option<Duration> {
        Some(remembered.keep)
    }
}

/// RFC 7519, sections 4.1.4 to 4.1.6. `exp` is the first second in which the token is no longer good.
fn check_times(claims: &Claims, now: i64, leeway: i64) -> Result<(), Reason> {
    if claims.iat > now + leeway || claims.exp <= claims.iat {
        return Err(Reason::IssuedAt);
    }
    check_window(now, claims.nbf.unwrap_or(claims.iat) - leeway, claims.exp + leeway)
}

fn check_window(now: i64, begins: i64, ends: i64) -> Result<(), Reason> {
    match now {
        _ if now >= ends => Err(Reason::Expired),
        _ if now < begins => Err(Reason::NotYetValid),
        _ => Ok(()),
    }
}

fn sha256(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
