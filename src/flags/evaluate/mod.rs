//! What a flag is for one tenant and context. Pure: plain values in, a verdict out; the time is an argument.
//!
//! In this order, the first that applies decides: the kill switch, the plan's ceiling, prerequisites, the tenant's own value
//! while its schedule lasts, targeting rules, the plan's value, the default.

use std::{cell::RefCell, collections::HashMap};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::{
    bucket::bucket,
    condition::{Attribute, Facts, Found},
    flag::{Flag, Rollout, Rule},
    known::{Definitions, Settings},
};

/// How deep prerequisites may go. Writes refuse more; here it bounds the stack whatever the table says.
pub(super) const MAX_DEPTH: usize = 16;

/// Why a value is what it is, in OpenFeature's words (specification, section 1.4.6, resolution reason).
#[derive(Clone, Copy, Debug, PartialEq, Eq, async_graphql::Enum)]
#[graphql(name = "FlagReason")]
pub enum Reason {
    /// The flag has nothing but its default.
    Static,
    /// Nothing of what the flag says applied.
    Default,
    /// The tenant, its plan or the context was meant.
    TargetingMatch,
    /// A rollout dealt it.
    Split,
    /// The flag is switched off.
    Disabled,
    /// There is no such flag.
    Error,
}

impl Reason {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Static => "STATIC",
            Self::Default => "DEFAULT",
            Self::TargetingMatch => "TARGETING_MATCH",
            Self::Split => "SPLIT",
            Self::Disabled => "DISABLED",
            Self::Error => "ERROR",
        }
    }
}

/// Which step decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    KillSwitch,
    /// The plan has not the feature.
    PlanCeiling,
    /// This one, by its place, was not met.
    Prerequisite(usize),
    Tenant,
    /// By their places: the rule, and the one of its segments that matched.
    Rule {
        rule: usize,
        segment: Option<usize>,
    },
    Plan,
    Default,
    /// Too deep among prerequisites, which are not met then; writes do not let that happen.
    Unresolved,
}

/// Why, and by which step. What the value is, [`Evaluator::value`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub reason: Reason,
    pub source: Source,
}

/// What is evaluated for: one tenant, one context, one moment.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub facts: Facts<'a>,
    pub context: &'a Map<String, Value>,
    pub now: DateTime<Utc>,
}

/// Evaluates flags for one subject; what several flags need first is decided once.
#[derive(Debug)]
pub struct Evaluator<'a> {
    definitions: &'a Definitions,
    settings: &'a Settings,
    subject: Subject<'a>,
    decided: RefCell<HashMap<&'a str, Verdict>>,
}

impl<'a> Evaluator<'a> {
    pub fn new(definitions: &'a Definitions, settings: &'a Settings, subject: Subject<'a>) -> Self {
        Self { definitions, settings, subject, decided: RefCell::default() }
    }

    pub fn evaluate(&self, flag: &'a Flag) -> Verdict {
        self.decide(flag, 0)
    }

    fn decide(&self, flag: &'a Flag, depth: usize) -> Verdict {
        let verdict = |reason, source| Verdict { reason, source };
        if !flag.enabled {
            return verdict(Reason::Disabled, Source::KillSwitch);
        }
        if flag.feature.as_ref().is_some_and(|feature| !self.subject.facts.features.contains(feature)) {
            return verdict(Reason::Default, Source::PlanCeiling);
        }
        if depth > MAX_DEPTH {
            return verdict(Reason::Error, Source::Unresolved);
        }
        if let Some(unmet) = self.unmet(flag, depth) {
            return verdict(Reason::Default, Source::Prerequisite(unmet));
        }
        if self.settings.value(&flag.key, self.subject.now).is_some() {
            return verdict(Reason::TargetingMatch, Source::Tenant);
        }
        for (place, rule) in flag.rules.0.iter().enumerate() {
            if let Some(segment) = self.matches(flag, rule) {
                let reason = if rule.rollout.is_some() { Reason::Split } else { Reason::TargetingMatch };
                return verdict(reason, Source::Rule { rule: place, segment });
            }
        }
        if flag.plan_values.0.contains_key(self.subject.facts.plan) {
            return verdict(Reason::TargetingMatch, Source::Plan);
        }
        let plain = flag.rules.0.is_empty()
            && flag.plan_values.0.is_empty()
            && flag.prerequisites.0.is_empty()
            && flag.feature.is_none();
        verdict(if plain { Reason::Static } else { Reason::Default }, Source::Default)
    }

    /// The value that a verdict about `flag` stands for.
    pub fn value(&self, flag: &'a Flag, verdict: Verdict) -> &'a Value {
        value_of(flag, verdict, self.settings, self.subject.facts.plan)
    }

    /// The first prerequisite that is not met.
    fn unmet(&self, flag: &'a Flag, depth: usize) -> Option<usize> {
        flag.prerequisites.0.iter().position(|wanted| {
            let Some(other) = self.definitions.find(&wanted.flag) else { return true };
            let known = self.decided.borrow().get(other.key.as_str()).copied();
            let verdict = known.unwrap_or_else(|| {
                let verdict = self.decide(other, depth + 1);
                self.decided.borrow_mut().insert(&other.key, verdict);
                verdict
            });
            verdict.reason == Reason::Error || *self.value(other, verdict) != wanted.value
        })
    }

    /// Whether the rule applies, and through which of its segments.
    fn matches(&self, flag: &Flag, rule: &Rule) -> Option<Option<usize>> {
        let (facts, context) = (&self.subject.facts, self.subject.context);
        if !rule.conditions.iter().all(|condition| condition.holds(facts, context)) {
            return None;
        }
        let holds = |key: &String| self.definitions.segment(key).is_some_and(|segment| segment.holds(facts, context));
        let segment = match rule.segments.is_empty() {
            true => None,
            false => Some(rule.segments.iter().position(holds)?),
        };
        let inside = rule.rollout.as_ref().is_none_or(|rollout| self.is_inside(flag, rollout));
        inside.then_some(segment)
    }

    /// Whether the unit's bucket is among those of the rollout. Where the context does not name the unit, it is in none.
    fn is_inside(&self, flag: &Flag, rollout: &Rollout) -> bool {
        self.bucket(flag, rollout).is_some_and(|bucket| bucket < rollout.buckets)
    }

    /// The unit's bucket; `None` where the context does not name the unit.
    pub fn bucket(&self, flag: &Flag, rollout: &Rollout) -> Option<u32> {
        let bucket = |unit: &str| bucket(&flag.key, &flag.salt, unit);
        if rollout.bucket_by == Attribute::TenantId {
            return Some(bucket(self.subject.facts.id));
        }
        match rollout.bucket_by.find(&self.subject.facts, self.subject.context) {
            Some(Found::Json(unit @ (Value::Number(_) | Value::Bool(_)))) => Some(bucket(&unit.to_string())),
            found => found.as_ref().and_then(Found::text).filter(|unit| !unit.is_empty()).map(bucket),
        }
    }
}

/// The value that a verdict about `flag` stands for, without evaluating again.
pub(super) fn value_of<'a>(flag: &'a Flag, verdict: Verdict, settings: &'a Settings, plan: &str) -> &'a Value {
    let found = match verdict.source {
        Source::KillSwitch => flag.off_value.as_ref(),
        // The schedule was looked at by the verdict.
        Source::Tenant => settings.find(&flag.key).and_then(|setting| setting.value.as_ref()),
        Source::Rule { rule, .. } => flag.rules.0.get(rule).map(|rule| &rule.value),
        Source::Plan => flag.plan_values.0.get(plan),
        Source::PlanCeiling | Source::Prerequisite(_) | Source::Default | Source::Unresolved => None,
    };
    found.unwrap_or(&flag.default_value)
}

#[cfg(test)]
mod tests;
