//! Slowing down who guesses, without locking out who knows.
//!
//! Each attempt counts before it is looked at, so that many at once count as many; a good one is forgiven. From an address that the account
//! has signed in from before, only attempts on this account from there slow each other down, and never for longer than two seconds: whatever
//! strangers do elsewhere, the member comes in from where it is known. From anywhere else, attempts are also counted by account, by address
//! and by tenant, so that neither many addresses nor many accounts give more guesses.

mod rule;
mod store;

use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};
use unicode_normalization::UnicodeNormalization as _;

use self::rule::{ACCOUNT, ADDRESS, Counted, KNOWN_PAIR, PAIR, Rule, SECOND_FACTOR, TENANT};
use super::Sessions;
use crate::{
    error::{Error, Kind, Result},
    isolation::TenantScope,
    platform::{digest::sha256, ids::MemberId},
};

pub(super) use self::store::purge;

type Name = [u8; 32];

/// One attempt, by the names that it counts under.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    /// Account and address together; what an address is known by.
    pair: Name,
    /// What counts besides, unless the address is known.
    others: Vec<(Name, Rule)>,
    rules: [Rule; 2],
}

fn name(parts: &[&str]) -> Name {
    // No part has this character.
    sha256(parts.join("\0").as_bytes())
}

impl Attempt {
    pub(super) fn of_password(email_key: &str, address: Option<IpAddr>) -> Self {
        Self::of_account(["pair", "account"], email_key, address)
    }

    /// Of a password of the tenant's directory. Address and tenant count together with passwords that are kept here.
    pub(super) fn of_directory(login: &str, address: Option<IpAddr>) -> Self {
        Self::of_account(["directory pair", "directory account"], &login_key(login), address)
    }

    fn of_account([pair, account]: [&str; 2], key: &str, address: Option<IpAddr>) -> Self {
        let address = address.map(|address| address.to_string()).unwrap_or_default();
        Self {
            pair: name(&[pair, key, &address]),
            others: vec![
                (name(&[account, key]), ACCOUNT),
                (name(&["address", &address]), ADDRESS),
                (name(&["tenant"]), TENANT),
            ],
            rules: [PAIR, KNOWN_PAIR],
        }
    }

    /// Of the password that a member's session is asked for again.
    pub(super) fn of_own_password(member: MemberId) -> Self {
        let pair = name(&["own password", &member.to_string()]);
        Self { pair, others: Vec::new(), rules: [SECOND_FACTOR, SECOND_FACTOR] }
    }

    /// Of a code: whoever gets there knows the first factor, so there is nobody to be locked out by strangers.
    pub(super) fn of_second_factor(member: MemberId) -> Self {
        let pair = name(&["second factor", &member.to_string()]);
        Self { pair, others: Vec::new(), rules: [SECOND_FACTOR, SECOND_FACTOR] }
    }
}

/// What a login is counted by. A directory finds one person by many spellings (case, white space, compatible letters: RFC 4518, and accents in
/// Active Directory); they must not be as many accounts to guess at.
fn login_key(login: &str) -> String {
    let letters = login.nfkd().filter(|letter| letter.is_alphanumeric() || letter.is_ascii_punctuation());
    letters.flat_map(char::to_lowercase).collect()
}

/// An attempt that was counted: what stood there before, and what stands there since.
#[derive(Debug)]
pub(super) struct Charged(Vec<(Counted, Counted)>);

fn limited(until: DateTime<Utc>, now: DateTime<Utc>) -> Error {
    let seconds = ((until - now).num_milliseconds() + 999) / 1000;
    let rule = "too many attempts failed; wait before the next one";
    Error::new(Kind::RateLimited, rule).with(serde_json::json!({ "retryAfterSeconds": seconds.max(1) }))
}

impl Sessions {
    /// Counts an attempt, or refuses to look at it yet.
    pub(super) async fn charge(&self, scope: &TenantScope, attempt: &Attempt) -> Result<Charged> {
        let now = self.isolation.clock().now();
        let tx = self.isolation.begin(scope).await?;
        let since = now - TimeDelta::from_std(self.rules.known_address).unwrap_or(TimeDelta::MAX);
        let is_known = store::is_known(&tx, attempt.pair, since).await?;
        let mut names = vec![(attempt.pair, attempt.rules[usize::from(is_known)])];
        if !is_known {
            names.extend(attempt.others.iter().copied());
        }
        let counted = store::lock(&tx, &names).await?;
        if let Some(until) = counted.iter().map(|counted| counted.until).filter(|until| now < *until).max() {
            return Err(limited(until, now));
        }
        let charged: Vec<_> = counted.iter().map(|counted| counted.charged(now)).collect();
        store::put(&tx, &charged).await?;
        tx.commit_unrecorded("attempts are counted; sessions are recorded").await?;
        Ok(Charged(counted.into_iter().zip(charged).collect()))
    }

    /// Takes an attempt back that was no failure, and no success that forgives others: all stands as if it had not been.
    pub(super) async fn take_back(&self, scope: &TenantScope, charged: &Charged) -> Result<()> {
        let tx = self.isolation.begin(scope).await?;
        store::take_back(&tx, &charged.0).await?;
        tx.commit_unrecorded("attempts are counted; sessions are recorded").await
    }

    /// Takes a good attempt back. `is_whole`: the account has signed in, so it is known at this address from now on.
    pub(super) async fn forgive(&self, scope: &TenantScope, attempt: &Attempt, is_whole: bool) -> Result<()> {
        let tx = self.isolation.begin(scope).await?;
        let others: Vec<Name> = attempt.others.iter().map(|(name, _)| *name).collect();
        store::forgive(&tx, attempt.pair, &others).await?;
        if is_whole {
            store::know(&tx, attempt.pair).await?;
        }
        tx.commit_unrecorded("attempts are counted; sessions are recorded").await
    }
}
