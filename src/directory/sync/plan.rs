//! What a directory makes of members: decided on plain values.

use std::collections::{HashMap, HashSet};

use async_graphql::Enum;
use serde::{Deserialize, Serialize};

use super::{super::settings::Cap, Outcome, SHOWN};
use crate::{
    directory::Person,
    members::{self, Known, Member, OWNER, Source, Status},
};

/// One change of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    pub kind: ChangeKind,
    pub email: String,
    /// As they will be; empty for who is deactivated.
    pub roles: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Enum)]
#[graphql(name = "DirectoryChange")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ChangeKind {
    Create,
    Update,
    Deactivate,
}

/// Somebody of the directory, or a member, to whom nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Skipped {
    /// The DN in the directory, or a member's address.
    pub who: String,
    pub why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Enum)]
#[graphql(name = "DirectorySkip")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Why {
    /// The entry has no usable value of the attribute `externalId`.
    NoExternalId,
    /// The entry has no usable value of the attribute `email`.
    NoEmail,
    /// No group that it is in gives a role, and nobody has one by default.
    NoRole,
    /// Another entry has the same address or the same external id.
    Duplicate,
    /// An owner who was made here; directories do not change those.
    Owner,
    /// The tenant has no seat left.
    NoSeat,
    /// The last active owner stays.
    LastOwner,
    /// Members do not take it as it is: the address or the name is not good, or another change came first.
    Refused,
}

/// All that is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Those that free seats first.
    pub(super) changes: Vec<Planned>,
    pub(super) outcome: Outcome,
}

/// One thing to be done.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) change: members::Change,
    pub(super) takes_seat: bool,
    /// A DN or an address, for people.
    pub(super) who: String,
}

/// Compares people with members: those that came from the directory, and others who have an address of a person's. People without a
/// role are nobody's members.
pub(super) fn plan(people: &[Person], skipped: Vec<Skipped>, known: &[Member]) -> Plan {
    let mut plan = Plan::default();
    skipped.into_iter().for_each(|skipped| plan.skip(skipped.who, skipped.why));
    let by_id: HashMap<&str, &Member> = known
        .iter()
        .filter(|member| member.source == Source::Directory)
        .filter_map(|member| Some((member.external_id.as_deref()?, member)))
        .collect();
    let by_email: HashMap<String, &Member> = known.iter().map(|member| (member.email.to_lowercase(), member)).collect();
    let (mut kept, mut ids, mut emails) = (HashSet::new(), HashSet::new(), HashSet::new());
    let (mut updates, mut creates) = (Vec::new(), Vec::new());
    for person in people {
        let email = person.email.to_lowercase();
        if !ids.insert(person.external_id.as_str()) || !emails.insert(email.clone()) {
            plan.skip(person.dn.clone(), Why::Duplicate);
            // Who is there twice is there: nobody is deactivated for a directory's confusion.
            kept.extend(by_id.get(person.external_id.as_str()).map(|member| member.id));
            continue;
        }
        let member = by_id.get(person.external_id.as_str()).or_else(|| by_email.get(&email)).copied();
        if person.roles.is_empty() {
            plan.skip(person.dn.clone(), Why::NoRole);
            continue;
        }
        match member {
            None => creates.push(person),
            Some(member) if member.source != Source::Directory && member.roles.iter().any(|role| role == OWNER) => {
                plan.skip(person.dn.clone(), Why::Owner);
            }
            Some(member) if !kept.insert(member.id) => plan.skip(person.dn.clone(), Why::Duplicate),
            Some(member) if is_same(member, person) => plan.outcome.unchanged += 1,
            Some(member) => updates.push((member, person)),
        }
    }
    let gone = known.iter().filter(|member| {
        member.source == Source::Directory && member.status != Status::Deactivated && !kept.contains(&member.id)
    });
    for member in gone {
        plan.note(ChangeKind::Deactivate, &member.email, Vec::new());
        plan.push(members::Change::Deactivate(member.id), false, &member.email);
    }
    for (member, person) in updates {
        plan.note(ChangeKind::Update, &person.email, person.roles.clone());
        let takes_seat = !member.status.takes_seat();
        plan.push(members::Change::Update { id: member.id, known: person.into() }, takes_seat, &person.dn);
    }
    for person in creates {
        plan.note(ChangeKind::Create, &person.email, person.roles.clone());
        plan.push(members::Change::Create(person.into()), true, &person.dn);
    }
    plan
}

impl Plan {
    fn note(&mut self, kind: ChangeKind, email: &str, roles: Vec<String>) {
        let outcome = &mut self.outcome;
        *match kind {
            ChangeKind::Create => &mut outcome.created,
            ChangeKind::Update => &mut outcome.updated,
            ChangeKind::Deactivate => &mut outcome.deactivated,
        } += 1;
        if outcome.changes.len() < SHOWN {
            outcome.changes.push(Change { kind, email: email.to_owned(), roles });
        }
    }

    fn skip(&mut self, who: String, why: Why) {
        self.outcome.skip(who, why);
    }

    fn push(&mut self, change: members::Change, takes_seat: bool, who: &str) {
        self.changes.push(Planned { change, takes_seat, who: who.to_owned() });
    }

    /// Why it must not be done unless it is forced; `active`: members that came from the directory and are not deactivated.
    pub(super) fn exceeds(&self, cap: Cap, active: usize) -> Option<String> {
        let gone = self.outcome.deactivated;
        let most = usize::try_from(cap.most).unwrap_or(usize::MAX);
        let is_share = gone * 100 > active * usize::try_from(cap.percent).unwrap_or(usize::MAX);
        (gone > most || is_share && gone > 0).then(|| {
            format!(
                "{gone} of {active} members would be deactivated, and at most {} or {} per cent may be; look at the changes, then force it",
                cap.most, cap.percent
            )
        })
    }
}

impl Outcome {
    pub(super) fn skip(&mut self, who: String, why: Why) {
        self.skipped += 1;
        if self.skips.len() < SHOWN {
            self.skips.push(Skipped { who, why });
        }
    }
}

impl From<&Person> for Known {
    fn from(person: &Person) -> Self {
        Self {
            external_id: person.external_id.clone(),
            email: person.email.clone(),
            name: person.name.clone(),
            roles: person.roles.clone(),
        }
    }
}

fn is_same(member: &Member, person: &Person) -> bool {
    member.source == Source::Directory
        && member.status == Status::Active
        && member.external_id.as_deref() == Some(person.external_id.as_str())
        && member.email == person.email
        && member.name == person.name
        && member.roles == person.roles
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;
    use crate::platform::ids::MemberId;

    fn person(id: &str, email: &str, roles: &[&str]) -> Person {
        Person {
            external_id: id.to_owned(),
            dn: format!("uid={id}"),
            email: email.to_owned(),
            name: id.to_owned(),
            groups: Vec::new(),
            roles: roles.iter().map(|&role| role.to_owned()).collect(),
        }
    }

    fn member(source: Source, status: Status, person: &Person) -> Member {
        let at = DateTime::<Utc>::UNIX_EPOCH;
        Member {
            id: MemberId::generate(),
            email: person.email.clone(),
            name: person.name.clone(),
            status,
            source,
            external_id: (source == Source::Directory).then(|| person.external_id.clone()),
            roles: person.roles.clone(),
            access_epoch: 1,
            version: 1,
            created_at: at,
            updated_at: at,
        }
    }

    fn counts(plan: &Plan) -> [usize; 5] {
        let outcome = &plan.outcome;
        [outcome.created, outcome.updated, outcome.unchanged, outcome.deactivated, outcome.skipped]
    }

    #[test]
    fn people_become_members_and_who_is_gone_is_deactivated() {
        let [ada, bob, eve] = ["ada", "bob", "eve"].map(|id| person(id, &format!("{id}@x"), &["member"]));
        let known = [&ada, &bob].map(|person| member(Source::Directory, Status::Active, person));
        let moved = person("bob", "robert@x", &["admin"]);
        let plan = plan(&[moved, eve], Vec::new(), &known);
        assert_eq!(counts(&plan), [1, 1, 0, 1, 0]);
        assert!(
            matches!(&plan.changes[0].change, members::Change::Deactivate(id) if *id == known[0].id),
            "seats are freed first"
        );
        assert!(matches!(&plan.changes[1].change, members::Change::Update { id, .. } if *id == known[1].id));
    }

    #[test]
    fn nothing_changes_for_who_is_the_same_and_who_comes_back_is_active() {
        let (ada, bob) = (person("ada", "ada@x", &["member"]), person("bob", "bob@x", &["member"]));
        let known =
            [member(Source::Directory, Status::Active, &ada), member(Source::Directory, Status::Deactivated, &bob)];
        assert_eq!(counts(&plan(&[ada.clone(), bob.clone()], Vec::new(), &known)), [0, 1, 1, 0, 0]);
        assert_eq!(counts(&plan(&[ada], Vec::new(), &known)), [0, 0, 1, 0, 0], "who is deactivated stays so");
    }

    #[test]
    fn members_made_here_become_the_directorys_but_for_owners() {
        let ada = person("ada", "Ada@X", &["member"]);
        let boss = person("boss", "boss@x", &["admin"]);
        let mut known = [
            member(Source::Local, Status::Invited, &person("", "ada@x", &["viewer"])),
            member(Source::Local, Status::Active, &boss),
        ];
        known[1].roles = vec![OWNER.to_owned()];
        let plan = plan(&[ada, boss], Vec::new(), &known);
        assert_eq!(counts(&plan), [0, 1, 0, 0, 1]);
        assert_eq!(plan.outcome.skips[0].why, Why::Owner);
    }

    #[test]
    fn who_has_no_role_or_is_there_twice_is_skipped() {
        let ada = person("ada", "ada@x", &["member"]);
        let known = [member(Source::Directory, Status::Active, &ada)];
        let without = person("ada", "ada@x", &[]);
        assert_eq!(
            counts(&plan(&[without], Vec::new(), &known)),
            [0, 0, 0, 1, 1],
            "a role that is lost is a member lost"
        );
        let twice = person("eve", "ADA@x", &["member"]);
        assert_eq!(counts(&plan(&[ada, twice], Vec::new(), &known)), [0, 0, 1, 0, 1]);
    }

    #[test]
    fn deactivations_have_a_cap_of_number_and_share() {
        let gone = |count| Plan { outcome: Outcome { deactivated: count, ..Outcome::default() }, ..Plan::default() };
        let cap = Cap { most: 5, percent: 50 };
        assert!(gone(5).exceeds(cap, 10).is_none() && gone(0).exceeds(cap, 0).is_none());
        assert!(gone(6).exceeds(cap, 100).is_some() && gone(2).exceeds(cap, 3).is_some());
        assert!(gone(1).exceeds(Cap { most: 0, percent: 100 }, 10).is_some());
        assert!(gone(1).exceeds(Cap { most: 10, percent: 0 }, 10).is_some());
    }
}
