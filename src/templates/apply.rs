//! How tenants' schemas are brought to a rollout's target, over the connection of a lane.

use super::{
    link::Link,
    mark::Mark,
    migration::Migration,
    refusal::{Meaning, meaning},
    rollout::Rollout,
    rollout_store::Due,
    script::{self, Place},
};
use crate::{
    cells::stem,
    error::{Error, Result},
    platform::db::ScriptFailure,
};

/// Tenants that share a round trip, at most.
const TOGETHER: usize = 16;

/// What became of one try.
#[derive(Clone)]
pub(super) enum Outcome {
    Applied,
    Again(String),
    Failed(String),
    /// The cell does not answer: nobody's fault, and no try.
    Away(String),
    NotTried,
}

/// What a lane works with.
pub(super) struct Work {
    pub(super) rollout: Rollout,
    /// All up to the target.
    pub(super) migrations: Vec<Migration>,
    /// Each of them as what runs without a fence, where it can.
    pub(super) plain: Vec<Option<String>>,
    pub(super) link: Link,
}

impl Work {
    /// Tenants that follow each other, of one database and seen last at one version.
    pub(super) fn groups<'a>(&self, batch: &'a [Due]) -> impl Iterator<Item = &'a [Due]> + use<'a> {
        let size = self.together();
        let alike = |one: &Due, other: &Due| (&one.database_name, one.version) == (&other.database_name, other.version);
        batch.chunk_by(alike).flat_map(move |alike| alike.chunks(size))
    }

    /// How many are migrated in one round trip: all of them together wait no longer for locks than the cell may be silent.
    fn together(&self) -> usize {
        let waits = self.link.patience().as_millis() / u128::from(self.rollout.rules.lock_timeout_ms.max(1));
        usize::try_from(waits).unwrap_or(TOGETHER).clamp(1, TOGETHER)
    }

    /// Brings all of `group` to the target in one round trip, each in a transaction of its own, where none of them needs a
    /// fence. Where one does, or was refused, nothing is said of any: each is to be tried by itself, and says what it has.
    pub(super) async fn apply_together(&mut self, group: &[Due]) -> Outcome {
        let [first, _, ..] = group else { return Outcome::NotTried };
        let Some(plain) = self.plain_from(first.version) else { return Outcome::NotTried };
        let script =
            group.iter().map(|due| self.plain_script(due, first.version, &plain)).collect::<Vec<_>>().join(";\n");
        let tenants = u32::try_from(group.len()).unwrap_or(u32::MAX);
        match self.link.plain(&first.database_name, &script, &self.rollout.rules, tenants).await {
            Ok(()) => Outcome::Applied,
            Err(ScriptFailure::Refused(_)) => self.rolled_back(Outcome::NotTried).await,
            Err(ScriptFailure::Broken(error)) => self.away(&error),
        }
    }

    /// Brings one tenant from the version that was seen last to the target; from another, where it has that by now.
    pub(super) async fn apply(&mut self, due: &Due) -> Outcome {
        let mut from = due.version;
        for _ in 0..3 {
            if from >= self.rollout.target {
                return Outcome::Applied;
            }
            let refusal = match self.try_from(due, from).await {
                Ok(()) => return Outcome::Applied,
                Err(ScriptFailure::Refused(refusal)) => refusal,
                Err(ScriptFailure::Broken(error)) => return self.away(&error),
            };
            match meaning(&refusal, missing(&self.migrations, from)) {
                Meaning::Again(problem) => return self.rolled_back(Outcome::Again(problem)).await,
                Meaning::Failed(problem) => {
                    tracing::warn!(tenant = %due.tenant_id, problem, cause = %refusal.cause, "a migration failed");
                    return self.rolled_back(Outcome::Failed(problem)).await;
                }
                Meaning::OtherMark => match self.version_of(due).await {
                    Ok(Ok(version)) => from = version,
                    Ok(Err(outcome)) => return outcome,
                    Err(error) => return self.away(&error),
                },
            }
        }
        Outcome::Again("somebody else is at the tenant's schema".to_owned())
    }

    /// Without a fence, where none of what is missing needs one; what is refused there is tried behind it, where PostgreSQL
    /// tells what and why.
    async fn try_from(&mut self, due: &Due, from: i32) -> Result<(), ScriptFailure> {
        let (migrations, rules) = (missing(&self.migrations, from), &self.rollout.rules);
        if let Some(plain) = self.plain_from(from) {
            let script = self.plain_script(due, from, &plain);
            match self.link.plain(&due.database_name, &script, rules, 1).await {
                Err(ScriptFailure::Refused(refusal)) if !matches!(meaning(&refusal, migrations), Meaning::Again(_)) => {
                    self.link.roll_back().await;
                }
                outcome => return outcome,
            }
        }
        let (name, (before, after)) = (stem(due.tenant_id), self.marks(from));
        let place = Place { schema: &name, role: &name };
        let script = script::transaction(place, (before.as_ref(), &after), migrations, rules);
        self.link.fenced(&due.database_name, &script).await
    }

    /// What is missing from `from` on, where none of it needs a fence.
    fn plain_from(&self, from: i32) -> Option<Vec<String>> {
        let plain = missing(&self.plain, from);
        (!plain.is_empty()).then(|| plain.iter().cloned().collect()).flatten()
    }

    fn plain_script(&self, due: &Due, from: i32, plain: &[String]) -> String {
        let (name, (before, after)) = (stem(due.tenant_id), self.marks(from));
        script::plain_transaction(Place { schema: &name, role: &name }, (before.as_ref(), &after), plain)
    }

    /// What the schema says before and after.
    fn marks(&self, from: i32) -> (Option<Mark>, Mark) {
        let mark = |version| Mark { template: self.rollout.template.clone(), version };
        ((from > 0).then(|| mark(from)), mark(self.rollout.target))
    }

    fn away(&mut self, error: &Error) -> Outcome {
        self.link.close();
        Outcome::Away(error.message().to_owned())
    }

    /// The version that the schema says it is at, or what that means where it says something else.
    async fn version_of(&mut self, due: &Due) -> Result<Result<i32, Outcome>> {
        let seen = self.link.seen(&due.database_name, &stem(due.tenant_id)).await?;
        Ok(match seen.mark() {
            _ if !seen.exists => Err(Outcome::Again("the tenant has no schema yet".to_owned())),
            None => Ok(0),
            Some(mark) if mark.template == self.rollout.template => Ok(mark.version),
            Some(mark) => Err(Outcome::Failed(format!("the schema is made of the template {}", mark.template))),
        })
    }

    async fn rolled_back(&mut self, outcome: Outcome) -> Outcome {
        self.link.roll_back().await;
        outcome
    }
}

/// Those behind version `from`.
fn missing<T>(all: &[T], from: i32) -> &[T] {
    &all[usize::try_from(from).unwrap_or_default()..]
}
