//! What a tenant wants to spend in a month.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::super::{
    super::{Dimension, costs::Currency, dimension::is_key, window::Bounds},
    rule::MOST_THRESHOLDS,
    threshold::{Threshold, default_thresholds, positive},
};
use crate::{
    error::{Error, Result},
    platform::ids::AlertRuleId,
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    pub key: String,
    pub budget_id: AlertRuleId,
    /// None: of everything that is asked for.
    pub dimension: Option<String>,
    pub dimension_id: Option<i16>,
    pub currency: Currency,
    pub amount: Decimal,
    /// Per cents of the amount.
    pub thresholds: Vec<Threshold>,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// A budget to be, as it was sent.
#[derive(Clone, Debug)]
pub struct NewBudget {
    pub key: String,
    pub dimension: Option<String>,
    pub currency: String,
    pub amount: String,
    /// 80, 95 and 100 per cent where it is none.
    pub thresholds: Option<Vec<String>>,
}

/// The mark for budgets of everything; dimensions have ids from 1 on.
pub(super) const EVERYTHING: i16 = 0;

impl NewBudget {
    /// The budget, new as of `now`. `dimension`: the one that it names.
    pub(super) fn check(self, dimension: Option<&Dimension>, now: DateTime<Utc>) -> Result<Budget> {
        if !is_key(&self.key) {
            let rule = "has 1 to 63 small letters, digits or '_', and begins with a letter";
            return Err(Error::invalid("key", rule));
        }
        let thresholds = self.thresholds.map_or_else(|| Ok(default_thresholds()), |sent| percents(&sent))?;
        Ok(Budget {
            key: self.key,
            budget_id: AlertRuleId::generate(),
            dimension: dimension.map(|known| known.key.clone()),
            dimension_id: dimension.map(|known| known.dimension_id),
            currency: Currency::parse(&self.currency)?,
            amount: positive(&self.amount, "amount")?,
            thresholds,
            version: 1,
            created_at: now,
            updated_at: now,
        })
    }
}

fn percents(sent: &[String]) -> Result<Vec<Threshold>> {
    if sent.is_empty() || sent.len() > MOST_THRESHOLDS {
        return Err(Error::invalid("thresholds", "has 1 to 10 thresholds"));
    }
    let mut percents = Vec::with_capacity(sent.len());
    for (place, text) in sent.iter().enumerate() {
        let field = format!("thresholds.{place}");
        let percent = Threshold::percent(text, &field)?;
        if percents.contains(&percent) {
            return Err(Error::invalid(field, "is there twice"));
        }
        percents.push(percent);
    }
    Ok(percents)
}

impl Budget {
    /// What it measures stays: its alerts of a month would be told apart from others by nothing.
    pub(super) fn replaces(mut self, before: &Self) -> Result<Self> {
        let differs =
            [("dimension", self.dimension_id != before.dimension_id), ("currency", self.currency != before.currency)];
        if let Some((field, _)) = differs.iter().find(|(_, differs)| *differs) {
            let rule = "stays as it was set; delete the budget, or set another";
            return Err(Error::invalid(*field, rule));
        }
        (self.budget_id, self.created_at, self.version) = (before.budget_id, before.created_at, before.version + 1);
        Ok(self)
    }

    /// From when to when it has to be looked at, by marks of dimensions; everything is by all of them.
    pub(super) fn looked_at(&self, looks: &HashMap<i16, Bounds>) -> Option<Bounds> {
        match self.dimension_id {
            Some(dimension) => looks.get(&dimension).copied(),
            None => looks.values().copied().reduce(|all, look| (all.0.min(look.0), all.1.max(look.1))),
        }
    }
}
