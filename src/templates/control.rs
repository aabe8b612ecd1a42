//! What operators do with rollouts: begin, pause, resume, cancel, or only look what would be done.

use serde_json::json;

use super::{
    Templates,
    rollout::{Rollout, RolloutState, Rules},
    rollout_store, store,
};
use crate::{
    error::{Error, Kind, Result},
    isolation::{Conditions, OperatorScope},
    journal::Entry,
    platform::ids::RolloutId,
};

/// A rollout as somebody orders it.
#[derive(Clone, Debug)]
pub struct NewRollout {
    pub template: String,
    /// The version to bring tenants to; none: the newest.
    pub target: Option<i32>,
    pub rules: Rules,
}

/// What a rollout would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub target: i32,
    /// Tenants of each wave.
    pub waves: Vec<i64>,
    /// How many tenants are at which version now.
    pub versions: Vec<(i32, i64)>,
}

impl Templates {
    /// Begins to bring every tenant of the template that is behind to `target`, wave by wave.
    ///
    /// Errors: `conflict` while another rollout of the template is open.
    pub async fn roll_out(&self, scope: &OperatorScope, new: NewRollout, conditions: &Conditions) -> Result<Rollout> {
        new.rules.check()?;
        let tx = self.0.isolation.begin_operator(scope).await?;
        if let Some(first) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("asked again").await?;
            return Ok(first);
        }
        let now = tx.stamp().at;
        let template = store::lock(&tx, &new.template).await?;
        let template = template.ok_or_else(|| unknown(&new.template))?;
        let rollout = Rollout {
            rollout_id: RolloutId::generate(),
            target: target(&new, template.version)?,
            template: template.name,
            state: RolloutState::Running,
            reason: String::new(),
            wave: 0,
            rules: new.rules,
            started_at: now,
            finished_at: None,
        };
        rollout_store::insert(&tx, &rollout).await?;
        let tenants = rollout_store::behind(&tx, &rollout).await?;
        let all = tenants.len();
        let tenants: Vec<_> = tenants
            .into_iter()
            .enumerate()
            .map(|(place, tenant)| (tenant, rollout.rules.wave_of(place, all)))
            .collect();
        rollout_store::add_tenants(&tx, rollout.rollout_id, &tenants, now).await?;
        tx.keep_answer(conditions, &rollout).await?;
        let mut entry = Entry::new("RolloutStarted", "rollout", rollout.rollout_id).change(None, Some(&rollout))?;
        if let Some(after) = &mut entry.after {
            after["tenants"] = json!(all);
        }
        tx.commit([entry]).await?;
        self.0.nudge.notify_one();
        Ok(rollout)
    }

    /// What [`Templates::roll_out`] would do now.
    pub async fn plan_rollout(&self, scope: &OperatorScope, new: &NewRollout) -> Result<Planned> {
        new.rules.check()?;
        let tx = self.0.isolation.begin_operator(scope).await?;
        let all = store::all(&tx).await?;
        let versions = store::versions(&tx, &new.template).await?;
        tx.commit_unrecorded("a read").await?;
        let template = all.into_iter().find(|template| template.name == new.template);
        let target = target(new, template.ok_or_else(|| unknown(&new.template))?.version)?;
        let behind: i64 = versions.iter().filter(|(version, _)| *version < target).map(|(_, tenants)| tenants).sum();
        let mut waves = vec![0; new.rules.waves.len()];
        let behind = usize::try_from(behind).unwrap_or_default();
        for place in 0..behind {
            let wave = usize::try_from(new.rules.wave_of(place, behind)).unwrap_or_default();
            waves[wave] += 1;
        }
        Ok(Planned { target, waves, versions })
    }

    /// Takes no more tenants; those that are under way come to their end.
    pub async fn pause(&self, scope: &OperatorScope, id: RolloutId, conditions: &Conditions) -> Result<Rollout> {
        self.steer(scope, id, conditions, Turn::Pause).await
    }

    /// Goes on; tenants that have failed are tried again.
    pub async fn resume(&self, scope: &OperatorScope, id: RolloutId, conditions: &Conditions) -> Result<Rollout> {
        let rollout = self.steer(scope, id, conditions, Turn::Resume).await?;
        self.0.nudge.notify_one();
        Ok(rollout)
    }

    /// Ends it where it is. What was applied stays applied, and new tenants get the version of before.
    pub async fn cancel(&self, scope: &OperatorScope, id: RolloutId, conditions: &Conditions) -> Result<Rollout> {
        self.steer(scope, id, conditions, Turn::Cancel).await
    }

    async fn steer(
        &self,
        scope: &OperatorScope,
        id: RolloutId,
        conditions: &Conditions,
        turn: Turn,
    ) -> Result<Rollout> {
        let tx = self.0.isolation.begin_operator(scope).await?;
        if let Some(first) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("asked again").await?;
            return Ok(first);
        }
        let now = tx.stamp().at;
        let before = rollout_store::lock(&tx, id).await?.ok_or_else(Error::not_found)?;
        let state = turn.from(before.state)?;
        let finished_at = (state == RolloutState::Cancelled).then_some(now);
        let reason = match turn {
            Turn::Resume => String::new(),
            Turn::Pause => "an operator has paused it".to_owned(),
            Turn::Cancel => "an operator has ended it".to_owned(),
        };
        let after = Rollout { state, reason, finished_at, ..before.clone() };
        rollout_store::turn(&tx, &after).await?;
        if turn == Turn::Resume {
            rollout_store::try_again(&tx, id, now).await?;
        }
        tx.keep_answer(conditions, &after).await?;
        let entry = Entry::new(turn.event(), "rollout", id).change(Some(&before), Some(&after))?;
        tx.commit([entry]).await?;
        Ok(after)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Pause,
    Resume,
    Cancel,
}

impl Turn {
    fn from(self, state: RolloutState) -> Result<RolloutState> {
        use RolloutState::{Cancelled, Paused, Running, Stopped};
        match (self, state) {
            (Self::Pause, Running) => Ok(Paused),
            (Self::Resume, Paused | Stopped) => Ok(Running),
            (Self::Cancel, Running | Paused | Stopped) => Ok(Cancelled),
            _ => {
                let state = serde_json::to_value(state).unwrap_or_default();
                let state = state.as_str().unwrap_or_default();
                Err(Error::new(Kind::InvalidTransition, format!("a rollout that is {state} cannot {}", self.verb())))
            }
        }
    }

    fn verb(self) -> &'static str {
        match self {
            Self::Pause => "be paused",
            Self::Resume => "be resumed",
            Self::Cancel => "be cancelled",
        }
    }

    fn event(self) -> &'static str {
        match self {
            Self::Pause => "RolloutPaused",
            Self::Resume => "RolloutResumed",
            Self::Cancel => "RolloutCancelled",
        }
    }
}

fn unknown(name: &str) -> Error {
    let shown: String = name.chars().take(63).collect();
    Error::invalid("template", format!("there is no template {shown}"))
}

fn target(new: &NewRollout, newest: i32) -> Result<i32> {
    let target = new.target.unwrap_or(newest);
    if (1..=newest).contains(&target) {
        return Ok(target);
    }
    Err(Error::invalid("to", format!("must be a version of the template, between 1 and {newest}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_cannot_be_steered_any_more() {
        use RolloutState::{Cancelled, Completed, Paused, Running, Stopped};
        for state in [Cancelled, Completed] {
            assert!(!state.is_open());
            for turn in [Turn::Pause, Turn::Resume, Turn::Cancel] {
                assert_eq!(turn.from(state).unwrap_err().kind(), Kind::InvalidTransition);
            }
        }
        assert_eq!(Turn::Pause.from(Running).unwrap(), Paused);
        assert_eq!(Turn::Resume.from(Stopped).unwrap(), Running);
        assert_eq!(Turn::Resume.from(Paused).unwrap(), Running);
        assert_eq!(Turn::Cancel.from(Stopped).unwrap(), Cancelled);
        assert!(Turn::Resume.from(Running).is_err() && Turn::Pause.from(Paused).is_err());
    }
}
