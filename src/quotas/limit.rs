//! What a tenant may have of a quota: decided on plain values.

use chrono::{DateTime, Utc};

use super::{
    allowance::{Allowances, Boost, Override},
    key::{Enforcement, QuotaKey},
};
use crate::tenancy::Plan;

/// A limit as it stands at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// None is unlimited.
    pub limit: Option<i64>,
    pub enforcement: Enforcement,
    pub grace_percent: i32,
}

impl Limit {
    /// Up to where is let in: the limit and its grace. None where nothing is refused.
    pub fn ceiling(&self) -> Option<i64> {
        match (self.limit, self.enforcement) {
            (Some(limit), Enforcement::Hard) => {
                let grace = i128::from(limit) * i128::from(self.grace_percent) / 100;
                Some(i64::try_from(i128::from(limit) + grace).unwrap_or(i64::MAX))
            }
            _ => None,
        }
    }
}

/// One step of the way to a limit: what was there before holds where no later step says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    pub source: Source<'a>,
    /// The limit after this step.
    pub limit: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    Catalogue(&'a QuotaKey),
    Plan(&'a Plan),
    Override(&'a Override),
    Boost(&'a Boost),
}

/// The steps in their order: the catalogue's default, the plan, the contract's override, boosts on top.
pub fn steps<'a>(key: &'a QuotaKey, plan: &'a Plan, allowances: &'a Allowances, now: DateTime<Utc>) -> Vec<Step<'a>> {
    let mut limit = key.default_limit;
    let mut steps = vec![Step { source: Source::Catalogue(key), limit }];
    if let Some(default) = plan.quotas.0.get(&key.key) {
        limit = *default;
        steps.push(Step { source: Source::Plan(plan), limit });
    }
    let (contract, boosts) = allowances.of(&key.key, now);
    if let Some(contract) = contract {
        limit = contract.limit;
        steps.push(Step { source: Source::Override(contract), limit });
    }
    for boost in boosts {
        limit = limit.map(|limit| limit.saturating_add(boost.amount));
        steps.push(Step { source: Source::Boost(boost), limit });
    }
    steps
}

/// The limit that the steps lead to.
pub fn limit(key: &QuotaKey, plan: &Plan, allowances: &Allowances, now: DateTime<Utc>) -> Limit {
    let reached = steps(key, plan, allowances, now).last().map_or(key.default_limit, |step| step.limit);
    let (contract, _) = allowances.of(&key.key, now);
    Limit {
        limit: reached,
        enforcement: contract.and_then(|contract| contract.enforcement).unwrap_or(key.enforcement),
        grace_percent: contract.and_then(|contract| contract.grace_percent).unwrap_or(key.grace_percent),
    }
}
