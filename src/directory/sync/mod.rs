//! Synchronisation: people of a directory into members, one run of a tenant at a time.

pub mod graphql;
mod plan;
mod read;
mod run;
mod schedule;
mod single;
mod store;
mod write;

use async_graphql::Enum;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

pub use self::plan::{Change, ChangeKind, Skipped, Why};
use crate::platform::ids::DirectorySyncId;

/// Who runs one says so this often; who says nothing for [`SILENCE`] has stopped.
const BREATH: std::time::Duration = std::time::Duration::from_secs(5);
const SILENCE: TimeDelta = TimeDelta::seconds(60);

/// One synchronisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sync {
    pub id: DirectorySyncId,
    pub is_dry_run: bool,
    pub state: State,
    pub phase: Phase,
    pub trigger: Trigger,
    /// Subject of who started it.
    pub started_by: String,
    pub people_read: i32,
    /// Changes that were made so far.
    pub written: i32,
    pub result: Option<Outcome>,
    /// Why it was refused, or failed.
    pub reason: Option<String>,
    pub started_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Enum)]
#[graphql(name = "DirectorySyncState")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    Running,
    /// What the result says was done, or would be.
    Done,
    /// It would deactivate more members than it may; nothing was changed.
    Refused,
    /// The directory could not be read, or the server that ran it stopped. What was written before stays; the next one goes on.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Enum)]
#[graphql(name = "DirectorySyncPhase")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Phase {
    Connecting,
    ReadingPeople,
    ReadingGroups,
    Comparing,
    Writing,
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Enum)]
#[graphql(name = "DirectorySyncTrigger")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Trigger {
    /// Somebody asked for it.
    Request,
    /// It was due by `syncIntervalMinutes`.
    Schedule,
}

/// Whether members are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    DryRun,
    Apply,
    /// However many members it deactivates.
    Force,
}

/// What a synchronisation did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    pub created: usize,
    pub updated: usize,
    pub unchanged: usize,
    pub deactivated: usize,
    pub skipped: usize,
    /// The first 100 of them.
    pub changes: Vec<Change>,
    /// The first 100 of them.
    pub skips: Vec<Skipped>,
}

/// How much of a list is kept.
const SHOWN: usize = 100;

/// The name of a variant as its row has it.
fn name_of<T: Serialize>(value: T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}
