//! What is to be done next: pure decisions on what is wanted, what was seen, and the time.

use std::time::Duration;

use async_graphql::Enum;
use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{DeriveActiveEnum, EnumIter, FromQueryResult};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::planes::is_of_plane;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "WantedState")]
pub enum Wanted {
    Present,
    Absent,
}

/// What was seen of a layer when it was looked at last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "ObservedState")]
pub enum Observed {
    /// Nobody has looked yet, or what was begun has not ended.
    Unknown,
    /// There, and as it should be.
    Present,
    Absent,
    /// There, but not as it should be.
    Drifted,
    /// Cannot be made where the tenant is.
    Unavailable,
    /// An application plane was asked for it, or to take it away, and has until `nextAttemptAt` to answer.
    Waiting,
}

/// A row of `provisioning_layers`.
#[derive(Clone, Debug, PartialEq, FromQueryResult)]
pub struct Record {
    pub layer: String,
    pub position: i16,
    pub essential: bool,
    pub wanted: Wanted,
    pub observed: Observed,
    pub since: DateTime<Utc>,
    pub attempts: i32,
    pub last_error: String,
    pub next_attempt_at: Option<DateTime<Utc>>,
    pub verified_at: Option<DateTime<Utc>>,
    pub facts: Value,
}

impl Record {
    /// Whether it is made by an application plane.
    pub(super) fn is_of_plane(&self) -> bool {
        is_of_plane(&self.layer)
    }

    pub(super) fn facts(&self) -> Map<String, Value> {
        self.facts.as_object().cloned().unwrap_or_default()
    }
}

/// What to do with one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Nothing,
    /// Failed a short while ago.
    Wait(DateTime<Utc>),
    Ensure,
    Verify,
    Remove,
}

/// What closes the gap between `wanted` and what was seen.
pub(super) fn next_task(wanted: Wanted, record: Option<&Record>, now: DateTime<Utc>, verify_every: TimeDelta) -> Task {
    let Some(record) = record else {
        return if wanted == Wanted::Present { Task::Ensure } else { Task::Remove };
    };
    let turned = record.wanted != wanted; // a change of mind does not wait for what failed
    if let Some(at) = record.next_attempt_at.filter(|at| *at > now && !turned) {
        return Task::Wait(at);
    }
    match (wanted, record.observed) {
        (Wanted::Absent, Observed::Absent) => Task::Nothing,
        (Wanted::Absent, _) => Task::Remove,
        (Wanted::Present, Observed::Present) => match record.verified_at {
            Some(verified) if now < verified + verify_every && now >= verified => Task::Nothing,
            _ => Task::Verify,
        },
        (Wanted::Present, _) => Task::Ensure,
    }
}

/// When a tenant wants to be looked at again; `records` in the order of its layers. What stands behind an essential layer that
/// waits cannot be done before it, but for planes that are asked together. What a plane has made is not verified; all else is, up
/// to a fifth late, so that tenants made together spread. `chance` is any number.
pub(super) fn next_look(
    wanted: Wanted,
    records: &[Record],
    verify_every: TimeDelta,
    chance: u64,
) -> Option<DateTime<Utc>> {
    let late = jittered(verify_every, chance) - verify_every;
    let late = if late < TimeDelta::zero() { -late } else { late };
    let mut next: Option<DateTime<Utc>> = None;
    let mut note = |at: DateTime<Utc>| next = Some(next.map_or(at, |known| known.min(at)));
    let in_turn: Vec<_> = match wanted {
        Wanted::Present => records.iter().collect(),
        Wanted::Absent => records.iter().rev().collect(),
    };
    let mut held_at = None;
    for record in in_turn {
        let is_together = record.is_of_plane() && held_at == Some(record.position);
        if held_at.is_some() && !is_together {
            break;
        }
        // A plane may be asked to let go of a tenant that stays.
        let wanted_of_it = if record.is_of_plane() { record.wanted } else { wanted };
        match (record.next_attempt_at, wanted_of_it, record.observed) {
            (Some(at), ..) => {
                note(at);
                if record.essential || wanted == Wanted::Absent {
                    held_at = Some(record.position);
                }
            }
            (None, Wanted::Present, Observed::Present) if record.is_of_plane() => {}
            (None, Wanted::Present, Observed::Present) => {
                note(record.verified_at.unwrap_or(record.since) + verify_every + late);
            }
            (None, Wanted::Absent, Observed::Absent) => {}
            (None, ..) => note(record.since),
        }
    }
    next
}

/// How long to wait after `attempts` failures: twice as long each time, up to the longest, and up to a fifth more or less, so
/// that what failed together does not come back together. `chance` is any number.
pub fn pause(attempts: i32, first: Duration, longest: Duration, chance: u64) -> TimeDelta {
    let times = u32::try_from(attempts.saturating_sub(1)).unwrap_or(0).min(30);
    let whole = first.saturating_mul(1 << times).min(longest);
    jittered(TimeDelta::from_std(whole).unwrap_or(TimeDelta::MAX), chance)
}

/// Up to a fifth more or less.
pub(super) fn jittered(time: TimeDelta, chance: u64) -> TimeDelta {
    let milliseconds = time.num_milliseconds();
    let fifth = milliseconds / 5;
    let shift =
        if fifth == 0 { 0 } else { i64::try_from(chance % (2 * fifth.unsigned_abs() + 1)).unwrap_or(0) - fifth };
    TimeDelta::milliseconds(milliseconds + shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: TimeDelta = TimeDelta::hours(1);

    fn record(observed: Observed) -> Record {
        Record {
            layer: "schema".to_owned(),
            position: 0,
            essential: true,
            wanted: Wanted::Present,
            observed,
            since: DateTime::UNIX_EPOCH,
            attempts: 0,
            last_error: String::new(),
            next_attempt_at: None,
            verified_at: Some(DateTime::UNIX_EPOCH),
            facts: Value::Null,
        }
    }

    #[test]
    fn the_gap_between_wanted_and_seen_says_what_to_do() {
        use Observed::{Absent, Drifted, Present, Unavailable, Unknown, Waiting};
        let now = DateTime::UNIX_EPOCH + TimeDelta::minutes(1);
        let task = |wanted, observed| next_task(wanted, Some(&record(observed)), now, HOUR);
        for observed in [Unknown, Absent, Drifted, Unavailable, Waiting] {
            assert_eq!(task(Wanted::Present, observed), Task::Ensure, "{observed:?}");
        }
        assert_eq!(task(Wanted::Present, Present), Task::Nothing);
        assert_eq!(next_task(Wanted::Present, Some(&record(Present)), now + HOUR, HOUR), Task::Verify);
        assert_eq!(next_task(Wanted::Present, None, now, HOUR), Task::Ensure);
        assert_eq!(next_task(Wanted::Absent, None, now, HOUR), Task::Remove);
        assert_eq!(task(Wanted::Absent, Absent), Task::Nothing);
        for observed in [Unknown, Present, Drifted, Unavailable] {
            assert_eq!(task(Wanted::Absent, observed), Task::Remove, "{observed:?}");
        }
    }

    #[test]
    fn what_failed_waits_unless_the_opposite_is_wanted() {
        let now = DateTime::UNIX_EPOCH;
        let failed = Record { next_attempt_at: Some(now + HOUR), ..record(Observed::Unknown) };
        assert_eq!(next_task(Wanted::Present, Some(&failed), now, HOUR), Task::Wait(now + HOUR));
        assert_eq!(next_task(Wanted::Absent, Some(&failed), now, HOUR), Task::Remove);
        assert_eq!(next_task(Wanted::Present, Some(&failed), now + HOUR, HOUR), Task::Ensure);
    }

    #[test]
    fn a_tenant_is_looked_at_when_the_first_of_its_layers_can_be_done() {
        let now = DateTime::UNIX_EPOCH;
        let minutes = |count| now + TimeDelta::minutes(count);
        let look = |wanted, records: &[Record]| next_look(wanted, records, HOUR, 12 * 60_000 * 1000);
        let failed = Record { next_attempt_at: Some(minutes(5)), ..record(Observed::Unknown) };
        let helpful = Record { essential: false, ..failed.clone() };
        let present = Record { verified_at: Some(minutes(1)), ..record(Observed::Present) };
        assert_eq!(look(Wanted::Present, &[failed.clone(), record(Observed::Unknown)]), Some(minutes(5)));
        assert_eq!(look(Wanted::Present, &[helpful, record(Observed::Unknown)]), Some(now));
        let verification = look(Wanted::Present, &[present]).unwrap();
        assert!((minutes(61)..=minutes(73)).contains(&verification), "{verification}");
        assert_eq!(look(Wanted::Absent, &[record(Observed::Present), failed]), Some(minutes(5)));
        assert_eq!(look(Wanted::Absent, &[record(Observed::Absent)]), None);
    }

    #[test]
    fn planes_that_are_asked_together_are_waited_for_together_and_what_they_made_is_not_verified() {
        let minutes = |count| DateTime::UNIX_EPOCH + TimeDelta::minutes(count);
        let look = |wanted, records: &[Record]| next_look(wanted, records, HOUR, 0);
        let plane = |position, observed, next: Option<i64>| Record {
            layer: format!("plane:{position}"),
            position,
            next_attempt_at: next.map(minutes),
            ..record(observed)
        };
        let waiting = |position, next| plane(position, Observed::Waiting, Some(next));
        assert_eq!(look(Wanted::Present, &[waiting(7, 9), waiting(7, 5), waiting(8, 1)]), Some(minutes(5)));
        assert_eq!(look(Wanted::Absent, &[waiting(7, 1), waiting(8, 9), waiting(8, 5)]), Some(minutes(5)));
        assert_eq!(look(Wanted::Present, &[plane(7, Observed::Present, None)]), None);
        let gone = Record { wanted: Wanted::Absent, essential: false, ..plane(7, Observed::Absent, None) };
        assert_eq!(look(Wanted::Present, &[gone]), None);
    }

    #[test]
    fn pauses_double_up_to_the_longest_with_a_fifth_of_jitter() {
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(60));
        for (attempts, whole) in [(1, 1000), (2, 2000), (5, 16_000), (7, 60_000), (400, 60_000)] {
            for chance in [0, 7, 12_345, u64::MAX] {
                let pause = pause(attempts, first, longest, chance).num_milliseconds();
                assert!((whole * 4 / 5..=whole * 6 / 5).contains(&pause), "{attempts} {pause}");
            }
        }
        assert_ne!(pause(7, first, longest, 0), pause(7, first, longest, 5000));
    }
}
