//! How much of each grant its quota's periods have burnt: decided on plain values.
//!
//! What a period used and holds above the limit without grants burns those that counted when the quota was settled last: since
//! the next turn nothing was let in on a grant. So it does not matter when somebody comes to settle.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::granted::Granted;
use crate::{
    grants::{Grant, Share, apportion},
    platform::ids::GrantId,
};

/// The grants of one quota, and what periods that can still give something back have had of them.
#[derive(Clone, Debug)]
pub(super) struct Books {
    /// In burn order.
    grants: Vec<Grant>,
    burns: BTreeMap<(String, GrantId), i64>,
}

/// What changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Grants of which more was burnt, or less.
    pub(super) burnt: Vec<(GrantId, i64)>,
    /// What periods have had of grants now; zero is nothing to remember.
    pub(super) burns: Vec<(String, GrantId, i64)>,
}

impl Books {
    pub(super) fn new(granted: &Granted, key: &str) -> Self {
        let burns = granted.burns.iter().filter(|burn| burn.quota_key == key);
        Self {
            grants: granted.grants.iter().filter(|grant| grant.key == key).cloned().collect(),
            burns: burns.map(|burn| ((burn.quota_window.clone(), burn.grant_id), burn.amount)).collect(),
        }
    }

    /// The oldest period that something may be given back from.
    pub(super) fn oldest(&self) -> Option<&str> {
        self.burns.keys().next().map(|(window, _)| window.as_str())
    }

    /// Whether a period has had something of a grant.
    pub(super) fn has_burnt(&self, window: &str) -> bool {
        self.burns.keys().any(|(burnt, _)| burnt == window)
    }

    /// Lets the grants that counted `at` this moment cover what a period has used above the limit without grants.
    pub(super) fn cover(&mut self, window: &str, overflow: i64, at: DateTime<Utc>) {
        let given = |grant: &Grant| self.burns.get(&(window.to_owned(), grant.grant_id)).copied().unwrap_or_default();
        let share = |grant: &Grant| {
            let room = if grant.is_active(at) { grant.rest() } else { 0 };
            Share { room, given: given(grant) }
        };
        let shares: Vec<_> = self.grants.iter().map(share).collect();
        for ((grant, share), given) in self.grants.iter_mut().zip(&shares).zip(apportion(&shares, overflow)) {
            grant.burnt += given - share.given;
            match given {
                0 => self.burns.remove(&(window.to_owned(), grant.grant_id)),
                given => self.burns.insert((window.to_owned(), grant.grant_id), given),
            };
        }
    }

    /// A period that is over and holds nothing gives nothing back: what it has burnt is burnt.
    pub(super) fn close(&mut self, is_final: impl Fn(&str) -> bool) {
        self.burns.retain(|(window, _), _| !is_final(window));
    }

    pub(super) fn changes_since(&self, before: &Self) -> Changes {
        let burnt = self.grants.iter().zip(&before.grants).filter(|(now, was)| now.burnt != was.burnt);
        let burnt = burnt.map(|(now, was)| (now.grant_id, now.burnt - was.burnt)).collect();
        let gone = before.burns.keys().filter(|place| !self.burns.contains_key(*place)).map(|place| (place, 0));
        let kept = self.burns.iter().filter(|(place, amount)| before.burns.get(*place) != Some(amount));
        let burns = kept.map(|(place, amount)| (place, *amount)).chain(gone);
        Changes { burnt, burns: burns.map(|((window, grant), amount)| (window.clone(), *grant, amount)).collect() }
    }

    /// When the next grant begins or ends, of those of which something is left.
    pub(super) fn next_turn(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.live(now).filter_map(|grant| grant.next_turn(now)).min()
    }

    /// Whether there is something to settle again: a grant that counts or will, or a period that may give something back.
    pub(super) fn is_open(&self, now: DateTime<Utc>) -> bool {
        !self.burns.is_empty() || self.live(now).next().is_some()
    }

    fn live(&self, now: DateTime<Utc>) -> impl Iterator<Item = &Grant> {
        self.grants.iter().filter(move |grant| grant.rest() > 0 && grant.ends_at().is_none_or(|end| now < end))
    }

    pub(super) fn grant(&self, id: GrantId) -> Option<&Grant> {
        self.grants.iter().find(|grant| grant.grant_id == id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{grants::Kind, platform::ids::TenantId};

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    fn grant(number: u128, amount: i64, expires: Option<i64>) -> Grant {
        Grant {
            tenant_id: TenantId::from_uuid(uuid::Uuid::from_u128(7)),
            grant_id: GrantId::from_uuid(uuid::Uuid::from_u128(number)),
            kind: Kind::Quota,
            key: "llm_tokens".into(),
            amount: Some(amount),
            burnt: 0,
            priority: 0,
            effective_at: at(0),
            expires_at: expires.map(at),
            ended_at: None,
            reason: String::new(),
            granted_by: String::new(),
            version: 1,
            created_at: at(0),
        }
    }

    fn books(mut grants: Vec<Grant>) -> Books {
        grants.sort_by(Grant::burns_before);
        Books { grants, burns: BTreeMap::new() }
    }

    fn burnt(books: &Books) -> Vec<i64> {
        books.grants.iter().map(|grant| grant.burnt).collect()
    }

    #[test]
    fn what_one_month_has_burnt_is_not_there_in_the_next() {
        let mut books = books(vec![grant(1, 50, None)]);
        books.cover("2026-11", 30, at(1));
        books.close(|window| window == "2026-11");
        books.cover("2026-12", 30, at(2));
        assert_eq!(burnt(&books), [50]);
        assert_eq!(books.burns.values().copied().collect::<Vec<_>>(), [20], "December had what was left");
    }

    #[test]
    fn an_expired_grant_burns_no_more_and_what_it_gave_stays_given() {
        let mut books = books(vec![grant(1, 50, Some(10)), grant(2, 40, None)]);
        books.cover("2026-11", 30, at(9));
        assert_eq!(burnt(&books), [30, 0]);
        books.cover("2026-11", 50, at(11));
        assert_eq!(burnt(&books), [30, 20]);
    }

    #[test]
    fn a_reservation_that_is_given_back_gives_back_what_it_burnt() {
        let mut books = books(vec![grant(1, 50, None)]);
        let before = books.clone();
        books.cover("2026-11", 30, at(1));
        books.cover("2026-11", 10, at(2));
        let id = GrantId::from_uuid(uuid::Uuid::from_u128(1));
        let changes = Changes { burnt: vec![(id, 10)], burns: vec![("2026-11".into(), id, 10)] };
        assert_eq!(books.changes_since(&before), changes);
    }

    proptest! {
        /// Whatever is used in whichever period: together the periods never have more of a grant than it is worth.
        #[test]
        fn no_grant_is_burnt_twice(
            amounts in proptest::collection::vec((1i64..100, proptest::option::of(1i64..20)), 1..5),
            used in proptest::collection::vec((0usize..4, 0i64..300), 1..20),
        ) {
            let grants = amounts.iter().enumerate().map(|(number, (amount, expires))| grant(number as u128, *amount, *expires));
            let mut books = books(grants.collect());
            let mut given: BTreeMap<(String, GrantId), i64> = BTreeMap::new();
            for (second, (window, overflow)) in used.into_iter().enumerate() {
                let window = format!("2026-{window:02}");
                books.cover(&window, overflow, at(second as i64));
                given.retain(|(other, _), _| *other != window);
                given.extend(books.burns.iter().filter(|((other, _), _)| *other == window).map(|(place, given)| (place.clone(), *given)));
                for grant in &books.grants {
                    let of_grant: i64 = given.iter().filter(|((_, id), _)| *id == grant.grant_id).map(|(_, given)| given).sum();
                    prop_assert_eq!(of_grant, grant.burnt);
                    prop_assert!((0..=grant.amount.unwrap()).contains(&grant.burnt));
                }
            }
        }
    }
}
