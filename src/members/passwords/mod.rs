//! Passwords: argon2id (RFC 9106), rules after NIST SP 800-63B, section 5.1.1.2: long, not known to be stolen, and made of whatever.
//!
//! *Rules*: so many are hashed at once, for each takes its memory; who waits too long is told to come again. A password of nobody costs
//! the same as a wrong one.

mod breached;
pub(super) mod changing;
mod store;

use std::{sync::Arc, time::Duration};

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use tokio::sync::Semaphore;

use self::breached::Breached;
use crate::{
    config,
    error::{Context as _, Error, Kind, Result},
    isolation::TenantTx,
    platform::{
        db::Tx,
        ids::{MemberId, TenantId},
        random,
        secret::Secret,
    },
};

const LONGEST: usize = 256;
/// What a password that long takes in UTF-8, so that nothing endless is counted.
const MOST_BYTES: usize = LONGEST * 4;
const HASH_BYTES: usize = 32;
const SALT_BYTES: usize = 16;
/// How long a password waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is kept of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored {
    pub(super) salt: Vec<u8>,
    pub(super) hash: Vec<u8>,
    pub(super) cost: Cost,
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stored").field("cost", &self.cost).finish_non_exhaustive()
    }
}

/// What a hash costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) memory_kib: u32,
    pub(super) iterations: u32,
}

/// What a given password was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Wrong,
    Right,
    /// Right, and kept at another cost than today's.
    RightAndOld,
}

#[derive(Clone, Debug)]
pub(super) struct Passwords {
    turns: Arc<Semaphore>,
    cost: Cost,
    shortest: usize,
    breached: Option<Arc<Breached>>,
    /// Stands in for the password of who has none.
    nobodys: Arc<Stored>,
}

impl Passwords {
    pub(super) fn new(rules: &config::Members) -> Result<Self> {
        let cost = Cost { memory_kib: rules.hashing_memory_kib, iterations: rules.hashing_iterations };
        let nobodys = Stored { salt: random::bytes::<SALT_BYTES>().to_vec(), hash: vec![0; HASH_BYTES], cost };
        Ok(Self {
            turns: Arc::new(Semaphore::new(rules.hashing_at_once)),
            cost,
            shortest: rules.password_length,
            breached: Breached::open(&rules.breached_passwords)?.map(Arc::new),
            nobodys: Arc::new(nobodys),
        })
    }

    /// Checks a new password, and hashes it.
    pub(super) async fn make(&self, field: &'static str, password: Secret) -> Result<Stored> {
        check(field, &password, self.shortest)?;
        if let Some(breached) = self.breached.clone() {
            let asked = password.clone();
            let is_known = blocking(move || breached.has(asked.expose().as_bytes())).await??;
            if is_known {
                let rule = "is in a list of passwords that were stolen elsewhere; take another one";
                return Err(Error::invalid(field, rule));
            }
        }
        self.rehash(password).await
    }

    /// Hashes a password that is good.
    pub(super) async fn rehash(&self, password: Secret) -> Result<Stored> {
        let (cost, salt) = (self.cost, random::bytes::<SALT_BYTES>());
        let hash = self.hash(password, salt.to_vec(), cost).await?;
        Ok(Stored { salt: salt.to_vec(), hash, cost })
    }

    /// Compares a password with what is kept; of who has none it takes the same time.
    pub(super) async fn verify(&self, password: Secret, stored: Option<Stored>) -> Result<Verdict> {
        // What cannot be a password is none, and is compared all the same: its length tells nothing of the account.
        let fits = fits(&password);
        let password = if fits { password } else { Secret::new("\u{1}") };
        let kept = stored.as_ref().unwrap_or(&self.nobodys);
        let (expected, cost) = (kept.hash.clone(), kept.cost);
        let hash = self.hash(password, kept.salt.clone(), cost).await?;
        let equal = verify_slices_are_equal(&hash, &expected).is_ok();
        Ok(match equal & fits & stored.is_some() {
            false => Verdict::Wrong,
            true if cost == self.cost => Verdict::Right,
            true => Verdict::RightAndOld,
        })
    }

    async fn hash(&self, password: Secret, salt: Vec<u8>, cost: Cost) -> Result<Vec<u8>> {
        let turn = tokio::time::timeout(PATIENCE, self.turns.clone().acquire_owned()).await;
        let turn = turn.map_err(|_| {
            Error::new(Kind::Unavailable, "too many passwords are being checked; try again in a moment")
        })?;
        let turn = turn.map_err(Error::internal)?;
        let hashed = blocking(move || {
            let hashed = hash(&password, &salt, cost);
            drop(turn);
            hashed
        });
        hashed.await?
    }

    pub(super) async fn put(&self, tx: &TenantTx, member: MemberId, stored: &Stored) -> Result<()> {
        store::put(tx, member, stored).await
    }

    pub(super) async fn find(&self, tx: &Tx, tenant: TenantId, member: MemberId) -> Result<Option<Stored>> {
        store::find(tx, tenant, member).await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)
}

fn hash(password: &Secret, salt: &[u8], cost: Cost) -> Result<Vec<u8>> {
    let params = Params::new(cost.memory_kib, cost.iterations, 1, Some(HASH_BYTES));
    let argon2 = Argon2::new(
        Algorithm::Argon2id,
        Version::V0x13,
        params.map_err(|error| error.to_string()).context("hash a password")?,
    );
    let mut hash = vec![0; HASH_BYTES];
    argon2
        .hash_password_into(password.expose().as_bytes(), salt, &mut hash)
        .map_err(|error| error.to_string())
        .context("hash a password")?;
    Ok(hash)
}

/// Nothing that could not be anybody's password; above all not an empty one.
fn fits(password: &Secret) -> bool {
    let text = password.expose();
    !text.is_empty() && text.len() <= MOST_BYTES && !text.contains('\0')
}

fn check(field: &'static str, password: &Secret, shortest: usize) -> Result<()> {
    let text = password.expose();
    let length = if text.len() <= MOST_BYTES { text.chars().count() } else { usize::MAX };
    if !(shortest..=LONGEST).contains(&length) {
        return Err(Error::invalid(field, format!("has {shortest} to {LONGEST} characters")));
    }
    if text.contains('\0') {
        return Err(Error::invalid(field, "has a character that no password has: NUL"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords() -> Passwords {
        let cost = Cost { memory_kib: 64, iterations: 1 };
        let nobodys = Stored { salt: vec![1; SALT_BYTES], hash: vec![0; HASH_BYTES], cost };
        Passwords { turns: Arc::new(Semaphore::new(1)), cost, shortest: 12, breached: None, nobodys: Arc::new(nobodys) }
    }

    /// RFC 9106, section 5.3, has a key and associated data, which nobody gives here; this is the reference implementation's
    /// `argon2id` without: `echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1`.
    #[test]
    fn hashes_are_those_of_the_reference_implementation() {
        let cost = Cost { memory_kib: 65_536, iterations: 2 };
        let hash = hash(&Secret::new("password"), b"somesalt", cost).unwrap();
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7");
    }

    #[tokio::test]
    async fn only_the_password_itself_is_right() {
        let passwords = passwords();
        let stored = passwords.make("password", Secret::new("correct horse battery")).await.unwrap();
        let verify = async |text: &str, stored: Option<&Stored>| {
            passwords.verify(Secret::new(text), stored.cloned()).await.unwrap()
        };
        assert_eq!(verify("correct horse battery", Some(&stored)).await, Verdict::Right);
        for wrong in ["", "correct horse batterz", "Correct horse battery", "\0", "correct horse battery\0"] {
            assert_eq!(verify(wrong, Some(&stored)).await, Verdict::Wrong, "{wrong:?}");
        }
        assert_eq!(verify(&"x".repeat(10_000), Some(&stored)).await, Verdict::Wrong);
        assert_eq!(verify("correct horse battery", None).await, Verdict::Wrong);
        let again = passwords.make("password", Secret::new("correct horse battery")).await.unwrap();
        assert_ne!(stored.hash, again.hash, "each has its own salt");
        let dearer = Passwords { cost: Cost { memory_kib: 128, iterations: 1 }, ..passwords };
        let verdict = dearer.verify(Secret::new("correct horse battery"), Some(stored)).await.unwrap();
        assert_eq!(verdict, Verdict::RightAndOld);
    }

    #[test]
    fn a_new_password_is_long_and_made_of_whatever() {
        let check = |text: &str| check("password", &Secret::new(text), 12);
        for text in ["aaaaaaaaaaaa", "twelve chars", "пароль-пароль", "🦊🦊🦊🦊🦊🦊🦊🦊🦊🦊🦊🦊", &"x".repeat(256)]
        {
            assert!(check(text).is_ok(), "{text}");
        }
        for text in
            ["", "elevenchars", "🦊🦊🦊🦊🦊🦊🦊🦊🦊🦊🦊", "twelve\0chars!", &"x".repeat(257), &"x".repeat(100_000)]
        {
            assert!(check(text).is_err(), "{text}");
        }
    }
}
