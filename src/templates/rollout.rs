//! A rollout: what it is held to, how far it is, and what comes next. Pure decisions on plain values.

use std::time::Duration;

use async_graphql::Enum;
use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{DeriveActiveEnum, EnumIter, FromJsonQueryResult, FromQueryResult};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    platform::ids::RolloutId,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RolloutState {
    Running,
    /// Somebody has paused it.
    Paused,
    /// More tenants have failed than its rules allow.
    Stopped,
    /// Somebody has ended it. What was applied stays applied.
    Cancelled,
    /// Every tenant was tried, and new ones get the version from now on.
    Completed,
}

impl RolloutState {
    /// Whether it may still go on.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Stopped)
    }
}

/// What a rollout is held to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(rename_all = "camelCase")]
pub struct Rules {
    /// Per cent of the tenants that have been tried by the end of each wave: the first is the canary's share, the last 100.
    pub waves: Vec<f64>,
    /// Tenants at once, over all servers and cells.
    pub concurrency: u16,
    /// Tenants at once on one cell.
    pub per_cell: u16,
    /// How long a migration waits for a lock, and with it at most who stands behind it in the queue.
    pub lock_timeout_ms: u32,
    pub statement_timeout_ms: u32,
    /// How often what may pass by itself is tried before it counts as failed.
    pub attempts: u16,
    /// Per cent of the tenants of the waves up to the present one that may fail.
    pub failure_rate: f64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            waves: vec![1.0, 10.0, 100.0],
            concurrency: 4,
            per_cell: 4,
            lock_timeout_ms: 250,
            statement_timeout_ms: 60_000,
            attempts: 10,
            failure_rate: 1.0,
        }
    }
}

impl Rules {
    pub(super) fn check(&self) -> Result<()> {
        let rising = self.waves.windows(2).all(|pair| pair[0] < pair[1]);
        let within = self.waves.iter().all(|share| *share > 0.0 && *share <= 100.0);
        if !rising || !within || self.waves.len() > 20 || self.waves.last() != Some(&100.0) {
            return Err(Error::invalid("waves", "must be up to 20 rising shares in per cent, the last of them 100"));
        }
        let between = |name: &'static str, value: u32, least: u32, most: u32| {
            let rule = || Error::invalid(name, format!("must be between {least} and {most}"));
            (least..=most).contains(&value).then_some(()).ok_or_else(rule)
        };
        between("concurrency", self.concurrency.into(), 1, 200)?;
        between("perCell", self.per_cell.into(), 1, 200)?;
        between("lockTimeoutMs", self.lock_timeout_ms, 1, 60_000)?;
        between("statementTimeoutMs", self.statement_timeout_ms, 10, 3_600_000)?;
        between("attempts", self.attempts.into(), 1, 1000)?;
        if !(0.0..=100.0).contains(&self.failure_rate) {
            return Err(Error::invalid("failureRate", "must be between 0 and 100 per cent"));
        }
        Ok(())
    }

    /// The wave, from 0 on, of the tenant that stands at `place`, from 0 on, of `all`. The first wave has at least one.
    pub(super) fn wave_of(&self, place: usize, all: usize) -> i16 {
        let ends = |share: f64| ((share * all as f64 / 100.0).floor() as usize).max(1);
        let wave = self.waves.iter().position(|share| place < ends(*share)).unwrap_or(self.waves.len() - 1);
        i16::try_from(wave).unwrap_or(i16::MAX)
    }

    /// How long a failed try is rested: longer after each, so that who holds the lock, and readers, get their turn.
    pub(super) fn pause(&self, attempts: i32, chance: u64) -> TimeDelta {
        let first = Duration::from_millis(u64::from(self.lock_timeout_ms).max(50));
        let times = u32::try_from(attempts.saturating_sub(1)).unwrap_or(0).min(16);
        let whole = first.saturating_mul(1 << times).min(Duration::from_secs(30)).as_millis();
        let whole = u64::try_from(whole).unwrap_or(30_000);
        let shift = chance % (whole / 2 + 1);
        TimeDelta::milliseconds(i64::try_from(whole * 3 / 4 + shift).unwrap_or(30_000))
    }
}

/// One row of `template_rollouts`.
#[derive(Clone, Debug, PartialEq, FromQueryResult, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    pub rollout_id: RolloutId,
    pub template: String,
    /// The version that it brings tenants to.
    pub target: i32,
    pub state: RolloutState,
    /// Why it is not running; empty where it is, or is done.
    pub reason: String,
    pub wave: i16,
    pub rules: Rules,
    pub started_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
}

/// How many tenants of one wave are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromQueryResult)]
pub struct Count {
    pub wave: i16,
    pub pending: i64,
    pub applied: i64,
    pub failed: i64,
    pub skipped: i64,
}

impl Count {
    pub fn all(&self) -> i64 {
        self.pending + self.applied + self.failed + self.skipped
    }
}

/// What becomes of a running rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The present wave has tenants to try.
    Stay,
    Stop(String),
    Wave(i16),
    /// Nobody is left to try.
    End,
}

/// Decides on what is known of each wave.
pub(super) fn next(rollout: &Rollout, counts: &[Count]) -> Next {
    let so_far = counts.iter().filter(|count| count.wave <= rollout.wave);
    let (all, failed) = so_far.fold((0, 0), |(all, failed), count| (all + count.all(), failed + count.failed));
    let allowed = (rollout.rules.failure_rate * all as f64 / 100.0).floor() as i64;
    if failed > allowed {
        let rate = rollout.rules.failure_rate;
        return Next::Stop(format!(
            "{failed} of the {all} tenants up to wave {} failed, and {rate} per cent may; resume to try them again, or cancel",
            rollout.wave + 1
        ));
    }
    let is_open = |count: &&Count| count.pending > 0;
    if counts.iter().filter(is_open).any(|count| count.wave <= rollout.wave) {
        return Next::Stay;
    }
    match counts.iter().filter(is_open).map(|count| count.wave).min() {
        Some(wave) => Next::Wave(wave),
        None => Next::End,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(wave: i16, failure_rate: f64) -> Rollout {
        Rollout {
            rollout_id: RolloutId::generate(),
            template: "shop".to_owned(),
            target: 2,
            state: RolloutState::Running,
            reason: String::new(),
            wave,
            rules: Rules { failure_rate, ..Rules::default() },
            started_at: DateTime::UNIX_EPOCH,
            finished_at: None,
        }
    }

    fn count(wave: i16, pending: i64, applied: i64, failed: i64) -> Count {
        Count { wave, pending, applied, failed, skipped: 0 }
    }

    #[test]
    fn waves_are_shares_of_all_and_the_first_has_somebody() {
        let rules = Rules::default();
        let sizes = |all: usize| {
            let mut sizes = [0; 3];
            (0..all).for_each(|place| sizes[usize::try_from(rules.wave_of(place, all)).unwrap()] += 1);
            sizes
        };
        assert_eq!(sizes(1000), [10, 90, 900]);
        assert_eq!(sizes(10), [1, 0, 9]);
        assert_eq!(sizes(1), [1, 0, 0]);
    }

    #[test]
    fn the_next_wave_comes_when_nobody_is_left_in_this_one() {
        assert_eq!(next(&rollout(0, 1.0), &[count(0, 1, 9, 0), count(1, 90, 0, 0)]), Next::Stay);
        assert_eq!(next(&rollout(0, 1.0), &[count(0, 0, 10, 0), count(1, 90, 0, 0)]), Next::Wave(1));
        assert_eq!(next(&rollout(0, 1.0), &[count(0, 0, 1, 0), count(2, 9, 0, 0)]), Next::Wave(2));
        assert_eq!(next(&rollout(1, 1.0), &[count(0, 0, 10, 0), count(1, 0, 90, 0)]), Next::End);
        assert_eq!(next(&rollout(0, 1.0), &[]), Next::End);
    }

    #[test]
    fn it_stops_as_soon_as_more_have_failed_than_may() {
        let stopped = |wave, rate, counts: &[Count]| matches!(next(&rollout(wave, rate), counts), Next::Stop(_));
        assert!(stopped(0, 1.0, &[count(0, 0, 0, 1), count(1, 99, 0, 0)]), "one canary of one");
        assert!(!stopped(1, 10.0, &[count(0, 0, 1, 0), count(1, 90, 0, 9)]));
        assert!(stopped(1, 10.0, &[count(0, 0, 1, 0), count(1, 89, 0, 11)]));
        assert!(!stopped(0, 100.0, &[count(0, 0, 0, 5)]));
        assert!(stopped(0, 0.0, &[count(0, 100, 0, 1)]));
    }

    #[test]
    fn rules_that_make_no_sense_are_named() {
        let refusal = |rules: Rules| rules.check().unwrap_err().field().unwrap().to_owned();
        Rules::default().check().unwrap();
        for waves in
            [vec![], vec![50.0], vec![10.0, 10.0, 100.0], vec![0.0, 100.0], vec![f64::NAN, 100.0], vec![100.0, 101.0]]
        {
            assert_eq!(refusal(Rules { waves, ..Rules::default() }), "waves");
        }
        assert_eq!(refusal(Rules { concurrency: 0, ..Rules::default() }), "concurrency");
        assert_eq!(refusal(Rules { per_cell: 0, ..Rules::default() }), "perCell");
        assert_eq!(refusal(Rules { lock_timeout_ms: 0, ..Rules::default() }), "lockTimeoutMs");
        assert_eq!(refusal(Rules { statement_timeout_ms: 1, ..Rules::default() }), "statementTimeoutMs");
        assert_eq!(refusal(Rules { attempts: 0, ..Rules::default() }), "attempts");
        assert_eq!(refusal(Rules { failure_rate: f64::NAN, ..Rules::default() }), "failureRate");
    }

    #[test]
    fn pauses_grow_with_each_try() {
        let rules = Rules::default();
        for chance in [0, 1, 77, u64::MAX] {
            let pauses: Vec<_> = [1, 3, 5, 40].map(|attempts| rules.pause(attempts, chance).num_milliseconds()).into();
            assert!(pauses.is_sorted() && pauses[0] >= 187 && pauses[3] <= 45_000, "{pauses:?}");
        }
    }
}
