//! One grant: a row of `entitlement_grants`.

use std::cmp::Ordering;

use async_graphql::Enum;
use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::platform::ids::{GrantId, TenantId};

/// What is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "EntitlementKind")]
pub enum Kind {
    /// A quota of the catalogue, by its key.
    Quota,
    /// A feature, by the name that plans list it under.
    Feature,
    /// An item of a catalogue, as `<kind>/<key>`, such as `models/gpt-5`.
    Resource,
}

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Serialize, Deserialize)]
#[sea_orm(schema_name = "tenantry", table_name = "entitlement_grants")]
#[serde(rename_all = "camelCase")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: TenantId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub grant_id: GrantId,
    pub kind: Kind,
    pub key: String,
    /// Of a quota: how much, in its units.
    pub amount: Option<i64>,
    /// How much of it is used up: of what is counted in periods.
    pub burnt: i64,
    /// The lowest burns first.
    pub priority: i32,
    pub effective_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked, or recorded as expired.
    pub ended_at: Option<DateTime<Utc>>,
    pub reason: String,
    pub granted_by: String,
    pub version: i64,
    pub created_at: DateTime<Utc>,
}

pub type Grant = Model;

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Grant {
    /// When it stops to count: it expires or was revoked, whatever came first.
    pub fn ends_at(&self) -> Option<DateTime<Utc>> {
        self.expires_at.into_iter().chain(self.ended_at).min()
    }

    /// Whether it counts at this moment.
    pub fn is_active(&self, at: DateTime<Utc>) -> bool {
        self.effective_at <= at && self.ends_at().is_none_or(|end| at < end)
    }

    /// What of the amount is not used up.
    pub fn rest(&self) -> i64 {
        self.amount.unwrap_or_default().saturating_sub(self.burnt).max(0)
    }

    /// The fixed order in which grants of one quota are used up: by priority, then what expires earlier, then what is older.
    pub fn burns_before(&self, other: &Self) -> Ordering {
        let place = |grant: &Self| (grant.priority, grant.expires_at.is_none(), grant.expires_at, grant.created_at);
        place(self).cmp(&place(other)).then(self.grant_id.cmp(&other.grant_id))
    }

    /// The next moment after `at` at which it begins or ends to count.
    pub fn next_turn(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        [Some(self.effective_at), self.ends_at()].into_iter().flatten().filter(|turn| at < *turn).min()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    pub fn grant(number: u128, priority: i32, expires: Option<i64>, created: i64) -> Grant {
        Grant {
            tenant_id: TenantId::from_uuid(uuid::Uuid::from_u128(7)),
            grant_id: GrantId::from_uuid(uuid::Uuid::from_u128(number)),
            kind: Kind::Quota,
            key: "llm_tokens".into(),
            amount: Some(10),
            burnt: 0,
            priority,
            effective_at: at(created),
            expires_at: expires.map(at),
            ended_at: None,
            reason: String::new(),
            granted_by: String::new(),
            version: 1,
            created_at: at(created),
        }
    }

    #[test]
    fn priority_burns_first_then_what_expires_earlier_then_what_is_older() {
        let wanted = [
            grant(5, 0, None, 9),
            grant(4, 1, Some(50), 9),
            grant(3, 1, Some(60), 1),
            grant(2, 1, None, 1),
            grant(1, 1, None, 2),
            grant(6, 1, None, 2),
        ];
        let mut found = wanted.clone();
        found.reverse();
        found.sort_by(Grant::burns_before);
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_grant_counts_from_its_beginning_until_just_before_its_end() {
        let mut grant = grant(1, 0, Some(20), 10);
        assert_eq!([9, 10, 19, 20].map(|second| grant.is_active(at(second))), [false, true, true, false]);
        assert_eq!([9, 10, 20].map(|second| grant.next_turn(at(second))), [Some(at(10)), Some(at(20)), None]);
        grant.ended_at = Some(at(15));
        assert_eq!([14, 15].map(|second| grant.is_active(at(second))), [true, false]);
    }
}
