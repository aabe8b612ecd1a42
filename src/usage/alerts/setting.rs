//! Rules of one tenant.

use super::{
    super::{Dimensions, Usage},
    rule::{NewRule, Rule},
    store,
};
use crate::{
    error::{Error, Result},
    isolation::{Conditions, TenantScope},
    journal::Entry,
    quotas::QuotaKeys,
};

/// Each is looked at when its dimension was used.
const MOST_RULES: i64 = 20;

impl Usage {
    /// All rules of the tenant, by key.
    pub async fn alert_rules(&self, scope: &TenantScope) -> Result<Vec<Rule>> {
        let tx = self.isolation.begin(scope).await?;
        let rules = store::rules(&tx).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(rules)
    }

    /// Sets a rule, new or in place of the one with its key. What is reached in the present period already fires, where it has not yet.
    pub async fn set_alert_rule(&self, scope: &TenantScope, wanted: NewRule, conditions: &Conditions) -> Result<Rule> {
        let catalogue = self.tenancy.snapshots().catalogue().await?;
        let dimension = catalogue.part::<Dimensions>()?.find(&wanted.dimension);
        let dimension =
            dimension.ok_or_else(|| Error::invalid("dimension", "is not in the catalogue of dimensions"))?;
        let has_quota = catalogue.part::<QuotaKeys>()?.find(&wanted.dimension).is_some();
        let mut rule = wanted.check(dimension, has_quota, self.isolation.clock().now())?;
        self.tenancy.get(scope).await?;
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(answered);
        }
        store::lock_rules(&tx).await?;
        let before = store::find(&tx, &rule.key).await?;
        conditions.check_version(before.as_ref().map_or(0, |before| before.version))?;
        match &before {
            Some(before) => rule = rule.replaces(before)?,
            None if store::count(&tx).await? >= MOST_RULES => {
                return Err(Error::conflict(format!("there are {MOST_RULES} rules; delete one first")));
            }
            None => {}
        }
        store::put(&tx, &rule).await?;
        store::mark(&tx, &rule).await?;
        tx.keep_answer(conditions, &rule).await?;
        tx.commit([Entry::new("AlertRuleSet", "alertRule", &rule.key).change(before.as_ref(), Some(&rule))?]).await?;
        Ok(rule)
    }

    /// Its alerts stay.
    pub async fn delete_alert_rule(&self, scope: &TenantScope, key: &str, conditions: &Conditions) -> Result<Rule> {
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(answered);
        }
        store::lock_rules(&tx).await?;
        let rule = store::find(&tx, key).await?.ok_or_else(|| Error::not_found().at("key"))?;
        conditions.check_version(rule.version)?;
        store::delete(&tx, key).await?;
        tx.keep_answer(conditions, &rule).await?;
        tx.commit([Entry::new("AlertRuleDeleted", "alertRule", key).change(Some(&rule), None)?]).await?;
        Ok(rule)
    }
}
