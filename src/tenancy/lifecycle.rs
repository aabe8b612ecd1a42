//! A tenant's life: the one table of transitions, and the pure steps through it.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::tenant::{PlannedSuspension, Status, Suspension, SuspensionMode, Tenant};
use crate::error::{Error, Kind, Result};

/// Every allowed transition; the database's trigger has the same, and a test compares them. The two with `Return` lead
/// back to the state before, and to no other.
pub const TRANSITIONS: &[(Status, Target)] = &[
    (Status::Created, Target::To(Status::Active)),
    (Status::Created, Target::To(Status::Deleted)),
    (Status::Active, Target::To(Status::Suspended)),
    (Status::Active, Target::To(Status::Archived)),
    (Status::Active, Target::To(Status::Deleted)),
    (Status::Suspended, Target::To(Status::Active)),
    (Status::Suspended, Target::To(Status::Archived)),
    (Status::Suspended, Target::To(Status::Deleted)),
    (Status::Archived, Target::Return),
    (Status::Archived, Target::To(Status::Deleted)),
    (Status::Deleted, Target::Return),
    (Status::Deleted, Target::To(Status::Erased)),
];

/// Where a transition leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    To(Status),
    /// To the state before ARCHIVED or DELETED.
    Return,
}

impl Tenant {
    /// The states that this tenant can go to from here.
    pub fn allowed(&self) -> Vec<Status> {
        let resolve = |target| match target {
            Target::To(status) => Some(status),
            Target::Return => self.state_before(),
        };
        TRANSITIONS.iter().filter(|(from, _)| *from == self.status).filter_map(|(_, target)| resolve(*target)).collect()
    }

    fn state_before(&self) -> Option<Status> {
        match self.status {
            Status::Archived => self.archived_from,
            Status::Deleted => self.deleted_from,
            _ => None,
        }
    }

    /// Takes a step forward; the way back from ARCHIVED and DELETED is `go_back`'s alone.
    fn go(&mut self, to: Status) -> Result<()> {
        if !TRANSITIONS.contains(&(self.status, Target::To(to))) {
            return self.refuse(to);
        }
        self.status = to;
        Ok(())
    }

    /// Returns to the state before ARCHIVED or DELETED.
    fn go_back(&mut self, from: Status) -> Result<()> {
        match self.state_before().filter(|_| self.status == from) {
            Some(before) => self.status = before,
            None => return self.refuse(Status::Active),
        }
        Ok(())
    }

    /// Tokens that were made before are worth nothing from now on.
    fn cut_access(&mut self, now: DateTime<Utc>) {
        self.access_epoch += 1;
        self.access_changed_at = now;
    }

    /// CREATED → ACTIVE.
    pub fn activate(&mut self) -> Result<()> {
        if self.status != Status::Created {
            return self.refuse(Status::Active); // SUSPENDED → ACTIVE is `resume`
        }
        self.go(Status::Active)
    }

    /// ACTIVE → SUSPENDED; a graceful suspension may be made hard.
    pub fn suspend(&mut self, now: DateTime<Utc>, suspension: PlannedSuspension, drain: TimeDelta) -> Result<()> {
        let harder = self.suspension.as_ref().is_some_and(|present| present.mode == SuspensionMode::Graceful)
            && suspension.mode == SuspensionMode::Hard;
        if !(self.status == Status::Suspended && harder) {
            self.go(Status::Suspended)?;
        }
        let PlannedSuspension { mode, reason, note } = suspension;
        let drain_until = if mode == SuspensionMode::Graceful { now + drain } else { now };
        self.suspension = Some(Suspension { mode, reason, note, since: now, drain_until });
        self.planned_suspension = None;
        self.suspend_at = None;
        if mode == SuspensionMode::Hard {
            self.cut_access(now);
        }
        Ok(())
    }

    /// Plans a suspension of an ACTIVE tenant to begin later.
    pub fn plan_suspension(&mut self, begin: DateTime<Utc>, suspension: PlannedSuspension) -> Result<()> {
        if self.status != Status::Active {
            return self.refuse(Status::Suspended);
        }
        self.planned_suspension = Some(suspension);
        self.suspend_at = Some(begin);
        Ok(())
    }

    /// SUSPENDED → ACTIVE. What was planned is off, too.
    pub fn resume(&mut self) -> Result<()> {
        if self.status != Status::Suspended && self.planned_suspension.is_none() {
            return self.refuse(Status::Active);
        }
        if self.status == Status::Suspended {
            self.go(Status::Active)?;
        }
        self.suspension = None;
        self.planned_suspension = None;
        self.suspend_at = None;
        self.resume_at = None;
        Ok(())
    }

    /// ACTIVE or SUSPENDED → ARCHIVED.
    pub fn archive(&mut self, now: DateTime<Utc>) -> Result<()> {
        let from = self.status;
        self.go(Status::Archived)?;
        self.archived_from = Some(from);
        self.cut_access(now);
        Ok(())
    }

    /// ARCHIVED → the state before.
    pub fn unarchive(&mut self) -> Result<()> {
        self.go_back(Status::Archived)?;
        self.archived_from = None;
        Ok(())
    }

    /// Any → DELETED, for `grace` of time.
    pub fn delete(&mut self, now: DateTime<Utc>, grace: TimeDelta) -> Result<()> {
        let from = self.status;
        self.go(Status::Deleted)?;
        self.deleted_from = Some(from);
        self.deleted_at = Some(now);
        self.erase_at = Some(now + grace);
        self.cut_access(now);
        Ok(())
    }

    /// DELETED → the state before, while the grace period lasts.
    pub fn cancel_deletion(&mut self, now: DateTime<Utc>) -> Result<()> {
        if self.status == Status::Deleted && self.erase_at.is_some_and(|erase_at| now >= erase_at) {
            return Err(Error::new(Kind::InvalidTransition, "the grace period is over; the tenant is being erased")
                .with(json!({ "status": self.status.name(), "allowed": [Status::Erased.name()] })));
        }
        self.go_back(Status::Deleted)?;
        self.deleted_from = None;
        self.deleted_at = None;
        self.erase_at = None;
        Ok(())
    }

    fn refuse(&self, wanted: Status) -> Result<()> {
        let names: Vec<_> = self.allowed().iter().map(|status| status.name()).collect();
        let choice = if names.is_empty() { "nowhere".to_owned() } else { format!("to {}", names.join(", ")) };
        Err(Error::new(
            Kind::InvalidTransition,
            format!(
                "a tenant that is {} cannot become {} by this step; it can go {choice}",
                self.status.name(),
                wanted.name()
            ),
        )
        .with(json!({ "status": self.status.name(), "allowed": names })))
    }
}
