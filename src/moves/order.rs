//! A move: what was asked for, how far it is, and what comes next.

use async_graphql::Enum;
use chrono::{DateTime, Utc};
use sea_orm::{DeriveActiveEnum, EnumIter, FromQueryResult};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    cells::Placement,
    platform::ids::{CellId, LeaseId, MoveId, TenantId},
    tenancy::IsolationTier,
};

/// How far a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "MovePhase")]
pub enum Phase {
    /// Roles, database, schema and empty tables are made at the target.
    Preparing,
    /// The rows are copied, while services read and write at the source.
    Copying,
    /// What was written meanwhile follows.
    CatchingUp,
    /// Services are kept out for a moment: the last changes follow, both sides are compared, and the place changes.
    Switching,
    /// The tenant is at the target; what it had at the source is kept until `confirmMove`, and takes nobody in.
    Switched,
    /// The source is given up: it is over.
    Confirmed,
    /// It was called off before the switch, and nothing is left at the target.
    Cancelled,
    /// It could not be done, and nothing is left at the target; `problem` says why.
    Failed,
    /// It was taken back after the switch: another move, which began with its end, takes the tenant to where it came from.
    RolledBack,
}

impl Phase {
    /// Whether the tenant is still at the source.
    pub(super) fn is_before_switch(self) -> bool {
        matches!(self, Self::Preparing | Self::Copying | Self::CatchingUp | Self::Switching)
    }
}

/// What a move is to come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Wanted {
    Switch,
    Cancel,
    /// As cancelled, because it cannot be done.
    GiveUp,
    Confirm,
    RollBack,
}

/// One row of `moves`.
#[derive(Clone, Debug, PartialEq, FromQueryResult)]
pub struct Move {
    #[sea_orm(from_alias = "move_id")]
    pub id: MoveId,
    #[sea_orm(from_alias = "tenant_id")]
    pub tenant: TenantId,
    pub source_cell: CellId,
    pub source_database: String,
    pub source_tier: IsolationTier,
    pub source_region: String,
    pub target_cell: CellId,
    pub target_database: String,
    pub target_tier: IsolationTier,
    pub target_region: String,
    /// Why that cell.
    pub reason: String,
    pub phase: Phase,
    pub(super) wanted: Wanted,
    /// Why it does not go on, or was given up; empty where all is well.
    pub problem: String,
    pub attempts: i32,
    pub rows_copied: i64,
    pub changes_applied: i64,
    /// How long services were kept out, in milliseconds; none before the switch.
    pub pause_ms: Option<i64>,
    pub(super) identities: Value,
    pub(super) fingerprint: String,
    pub started_at: DateTime<Utc>,
    pub switched_at: Option<DateTime<Utc>>,
    /// When the source is given up without being asked.
    pub keep_until: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    pub(super) lease_token: Option<LeaseId>,
}

impl Move {
    pub(super) fn source(&self) -> Placement {
        Placement {
            tenant_id: self.tenant,
            cell_id: self.source_cell,
            tier: self.source_tier,
            region: self.source_region.clone(),
            database_name: self.source_database.clone(),
            reason: String::new(),
            placed_at: self.started_at,
        }
    }

    pub(super) fn target(&self) -> Placement {
        Placement {
            tenant_id: self.tenant,
            cell_id: self.target_cell,
            tier: self.target_tier,
            region: self.target_region.clone(),
            database_name: self.target_database.clone(),
            reason: format!("moved: {}", self.reason),
            placed_at: self.started_at,
        }
    }

    /// One that has yet to begin; `to` says why there, and when.
    pub(super) fn new(from: Placement, to: Placement) -> Self {
        Self {
            id: MoveId::generate(),
            tenant: to.tenant_id,
            source_cell: from.cell_id,
            source_database: from.database_name,
            source_tier: from.tier,
            source_region: from.region,
            target_cell: to.cell_id,
            target_database: to.database_name,
            target_tier: to.tier,
            target_region: to.region,
            reason: to.reason,
            phase: Phase::Preparing,
            wanted: Wanted::Switch,
            problem: String::new(),
            attempts: 0,
            rows_copied: 0,
            changes_applied: 0,
            pause_ms: None,
            identities: serde_json::json!([]),
            fingerprint: String::new(),
            started_at: to.placed_at,
            switched_at: None,
            keep_until: None,
            finished_at: None,
            lease_token: None,
        }
    }

    /// The move to where the tenant came from.
    pub(super) fn back(&self, now: DateTime<Utc>) -> Self {
        let reason = "it came from there, and goes back".to_owned();
        Self::new(self.target(), Placement { reason, placed_at: now, ..self.source() })
    }

    /// What is to be done now.
    pub(super) fn task(&self, now: DateTime<Utc>) -> Task {
        match (self.phase, self.wanted) {
            (Phase::Confirmed | Phase::Cancelled | Phase::Failed | Phase::RolledBack, _) => Task::Nothing,
            (Phase::Switched, Wanted::Confirm) => Task::GiveUpSource,
            (Phase::Switched, Wanted::RollBack) => Task::GoBack,
            (Phase::Switched, _) if self.keep_until.is_some_and(|until| until <= now) => Task::GiveUpSource,
            (Phase::Switched, _) => Task::Tidy,
            (_, Wanted::Cancel | Wanted::GiveUp) => Task::Undo,
            (Phase::Preparing, _) => Task::Prepare,
            (Phase::Copying, _) => Task::Copy,
            (Phase::CatchingUp, _) => Task::CatchUp,
            // Whoever was here has died before the switch was written down.
            (Phase::Switching, _) => Task::LetIn,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Nothing,
    Prepare,
    Copy,
    /// Follow what was written, and switch.
    CatchUp,
    /// Open the source again, and go on catching up.
    LetIn,
    /// What the move needed at the source besides the tenant's things goes; they stay.
    Tidy,
    GiveUpSource,
    /// End here, and begin the move to where the tenant came from.
    GoBack,
    Undo,
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn at(phase: Phase, wanted: Wanted) -> Move {
        let tenant = TenantId::generate();
        let place = |database: &str| Placement {
            tenant_id: tenant,
            cell_id: CellId::generate(),
            tier: IsolationTier::Standard,
            region: "eu".to_owned(),
            database_name: database.to_owned(),
            reason: String::new(),
            placed_at: DateTime::UNIX_EPOCH,
        };
        let keep_until = Some(DateTime::UNIX_EPOCH + TimeDelta::days(7));
        Move { phase, wanted, keep_until, ..Move::new(place("a"), place("b")) }
    }

    #[test]
    fn the_way_back_is_the_same_the_other_way_round() {
        let there = at(Phase::Switched, Wanted::RollBack);
        let back = there.back(DateTime::UNIX_EPOCH);
        assert_ne!(back.id, there.id);
        assert_eq!((back.phase, back.wanted, back.keep_until), (Phase::Preparing, Wanted::Switch, None));
        let cells = |order: &Move| (order.source_cell, order.target_cell, order.source_database.clone());
        assert_eq!(cells(&back), (there.target_cell, there.source_cell, "b".to_owned()));
        assert_eq!(cells(&back.back(DateTime::UNIX_EPOCH)), cells(&there));
    }

    #[test]
    fn what_is_to_be_done_follows_from_phase_and_wish() {
        use Phase::{Cancelled, CatchingUp, Confirmed, Copying, Failed, Preparing, RolledBack, Switched, Switching};
        let (now, late) = (DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH + TimeDelta::days(7));
        let task = |phase, wanted| at(phase, wanted).task(now);
        let forth =
            [(Preparing, Task::Prepare), (Copying, Task::Copy), (CatchingUp, Task::CatchUp), (Switching, Task::LetIn)];
        for (phase, expected) in forth {
            assert_eq!(task(phase, Wanted::Switch), expected);
            assert_eq!(task(phase, Wanted::Cancel), Task::Undo);
        }
        assert_eq!(task(Switched, Wanted::Switch), Task::Tidy);
        assert_eq!(task(Switched, Wanted::Confirm), Task::GiveUpSource);
        assert_eq!(at(Switched, Wanted::Switch).task(late), Task::GiveUpSource);
        for now in [now, late] {
            assert_eq!(at(Switched, Wanted::RollBack).task(now), Task::GoBack);
        }
        for phase in [Confirmed, Cancelled, Failed, RolledBack] {
            assert_eq!(task(phase, Wanted::Cancel), Task::Nothing);
        }
    }
}
