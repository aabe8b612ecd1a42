//! What a tenant may have of a quota: decided on plain values.

use chrono::{DateTime, Utc};

use super::{
    allowance::{Allowances, Boost, Override},
    key::{Enforcement, QuotaKey},
};
use crate::{grants::Grant, tenancy::Plan};

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
    Grant(&'a Grant),
}

/// The steps in their order: the catalogue's default, the plan, the contract's override, boosts and grants on top.
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
    for (grant, worth) in allowances.granted.of(key, now) {
        limit = limit.map(|limit| limit.saturating_add(worth));
        steps.push(Step { source: Source::Grant(grant), limit });
    }
    steps
}

/// The limit that the steps lead to; asked on every request, so nothing is allocated.
pub fn limit(key: &QuotaKey, plan: &Plan, allowances: &Allowances, now: DateTime<Utc>) -> Limit {
    let contract = allowances.of(&key.key, now).0;
    let granted = allowances.granted.of(key, now).map(|(_, worth)| worth);
    Limit {
        limit: agreed(key, plan, allowances, now).map(|limit| granted.fold(limit, i64::saturating_add)),
        enforcement: contract.and_then(|contract| contract.enforcement).unwrap_or(key.enforcement),
        grace_percent: contract.and_then(|contract| contract.grace_percent).unwrap_or(key.grace_percent),
    }
}

/// The limit without grants: what is used above it burns them.
pub(super) fn agreed(key: &QuotaKey, plan: &Plan, allowances: &Allowances, now: DateTime<Utc>) -> Option<i64> {
    let (contract, boosts) = allowances.of(&key.key, now);
    let planned = plan.quotas.0.get(&key.key).copied().unwrap_or(key.default_limit);
    let agreed = contract.map_or(planned, |contract| contract.limit);
    agreed.map(|limit| boosts.fold(limit, |limit, boost| limit.saturating_add(boost.amount)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        grants,
        platform::ids::{BoostId, GrantId, TenantId},
        quotas::{granted::Granted, key::Kind},
        tenancy::{IsolationTier, Sla},
    };

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    fn key(default_limit: Option<i64>) -> QuotaKey {
        QuotaKey {
            key: "users".into(),
            unit: "users".into(),
            kind: Kind::Level,
            period: None,
            description: String::new(),
            enforcement: Enforcement::Hard,
            grace_percent: 10,
            default_limit,
            version: 1,
            created_at: at(0),
            updated_at: at(0),
        }
    }

    fn plan(limit: Option<Option<i64>>) -> Plan {
        let sla: Sla = serde_json::from_str(
            r#"{"uptime": "99", "supportHours": "8x5", "supportResponse": {"critical": "1h", "high": "1h", "normal": "1h"}, "credits": []}"#,
        )
        .unwrap();
        let quotas = limit.map(|limit| ("users".to_owned(), limit)).into_iter().collect();
        Plan {
            key: "plan".into(),
            name: "Plan".into(),
            description: String::new(),
            isolation_tier: IsolationTier::Standard,
            features: Default::default(),
            quotas: crate::tenancy::QuotaDefaults(quotas),
            required_layers: Default::default(),
            sla,
            prices: serde_json::Value::Null,
            version: 1,
            created_at: at(0),
            updated_at: at(0),
        }
    }

    fn contract(limit: Option<i64>, expires: Option<i64>) -> Override {
        Override {
            tenant_id: TenantId::from_uuid(uuid::Uuid::from_u128(7)),
            key: "users".into(),
            limit,
            enforcement: None,
            grace_percent: None,
            expires_at: expires.map(at),
            reason: String::new(),
            set_by: String::new(),
            version: 1,
            created_at: at(0),
            updated_at: at(0),
        }
    }

    fn boost(amount: i64, expires: i64) -> Boost {
        Boost {
            boost_id: BoostId::from_uuid(uuid::Uuid::from_u128(1)),
            key: "users".into(),
            amount,
            expires_at: at(expires),
            ended_at: None,
            approved_by: String::new(),
            reason: String::new(),
            created_at: at(0),
        }
    }

    fn granted(amount: i64, expires: i64) -> Grant {
        Grant {
            tenant_id: TenantId::from_uuid(uuid::Uuid::from_u128(7)),
            grant_id: GrantId::from_uuid(uuid::Uuid::from_u128(1)),
            kind: grants::Kind::Quota,
            key: "users".into(),
            amount: Some(amount),
            burnt: 0,
            priority: 0,
            effective_at: at(0),
            expires_at: Some(at(expires)),
            ended_at: None,
            reason: String::new(),
            granted_by: String::new(),
            version: 1,
            created_at: at(0),
        }
    }

    #[test]
    fn a_ceiling_is_the_limit_and_its_grace_and_cannot_overflow() {
        let ceiling = |limit| Limit { limit, enforcement: Enforcement::Hard, grace_percent: 10 }.ceiling();
        assert_eq!(
            [ceiling(None), ceiling(Some(0)), ceiling(Some(19)), ceiling(Some(20))],
            [None, Some(0), Some(20), Some(22)]
        );
        assert_eq!(ceiling(Some(i64::MAX)), Some(i64::MAX));
        assert_eq!(Limit { limit: Some(5), enforcement: Enforcement::Soft, grace_percent: 0 }.ceiling(), None);
    }

    proptest! {
        #[test]
        fn a_limit_is_where_its_steps_lead(
            default in any::<Option<u32>>(), planned in any::<Option<Option<u32>>>(),
            agreed in any::<Option<(Option<u32>, Option<u8>)>>(), boosts in proptest::collection::vec((1i64..i64::MAX, any::<u8>()), 0..4),
            given in proptest::collection::vec((1i64..i64::MAX, 1u8..), 0..4),
            now in any::<u8>(),
        ) {
            let wide = |limit: Option<u32>| limit.map(i64::from);
            let (key, plan) = (key(wide(default)), plan(planned.map(wide)));
            let overrides = agreed.map(|(limit, expires)| contract(wide(limit), expires.map(i64::from)));
            let boosts = boosts.into_iter().map(|(amount, expires)| boost(amount, expires.into())).collect();
            let granted = Granted::of_levels(given.into_iter().map(|(amount, expires)| granted(amount, expires.into())).collect());
            let allowances = Allowances { overrides: overrides.into_iter().collect(), boosts, granted };
            let last = steps(&key, &plan, &allowances, at(now.into())).pop().unwrap();
            prop_assert_eq!(limit(&key, &plan, &allowances, at(now.into())).limit, last.limit);
        }
    }
}
