//! What the operations on quotas take.

use async_graphql::{ID, InputObject, MaybeUndefined};
use chrono::{DateTime, Utc};

use crate::quotas::{Enforcement, Kind, Period, QuotaKey};

#[derive(Clone, Debug, InputObject)]
pub struct QuotaLineInput {
    /// Key of a quota of the kind LEVEL or PERIOD.
    pub(super) key: String,
    /// Whole units of the quota, at least 1.
    pub(super) amount: i64,
}

#[derive(Clone, Debug, InputObject)]
pub struct PreviewQuotaInput {
    /// The tenant that the token is bound to where none is named.
    pub(super) tenant_id: Option<ID>,
    /// 1 to 20 lines.
    pub(super) lines: Vec<QuotaLineInput>,
}

#[derive(Clone, Debug, InputObject)]
pub struct ReserveQuotaInput {
    /// The tenant that the token is bound to where none is named.
    pub(super) tenant_id: Option<ID>,
    /// 1 to 20 lines: all of them are reserved, or none.
    pub(super) lines: Vec<QuotaLineInput>,
    /// After which it frees itself; as configured (5 minutes) where not given, at most a day.
    pub(super) expires_in_seconds: Option<i32>,
}

#[derive(Clone, Debug, InputObject)]
pub struct CommitReservationInput {
    /// The tenant that the token is bound to where none is named.
    pub(super) tenant_id: Option<ID>,
    pub(super) reservation_id: ID,
    /// What was really used, at most what was reserved; all of it of keys that are not named.
    #[graphql(default)]
    pub(super) lines: Vec<QuotaLineInput>,
}

#[derive(Clone, Debug, InputObject)]
pub struct ReleaseReservationInput {
    /// The tenant that the token is bound to where none is named.
    pub(super) tenant_id: Option<ID>,
    pub(super) reservation_id: ID,
}

#[derive(Clone, Debug, InputObject)]
pub struct SetQuotaUsageInput {
    /// The tenant that the token is bound to where none is named.
    pub(super) tenant_id: Option<ID>,
    pub(super) key: String,
    /// Whole units, not negative.
    pub(super) used: i64,
}

#[derive(Clone, Debug, InputObject)]
pub struct SetQuotaInput {
    pub(super) tenant_id: ID,
    pub(super) key: String,
    /// The version that you saw last, 0 for none: `conflict` if there is another.
    pub(super) expected_version: Option<i64>,
    /// Drops the override: what the plan says holds again. Goes with no other field.
    #[graphql(default)]
    pub(super) clear: bool,
    /// Null is unlimited.
    pub(super) limit: Option<i64>,
    /// The catalogue's where none is named.
    pub(super) enforcement: Option<Enforcement>,
    /// The catalogue's where none is named.
    pub(super) grace_percent: Option<i32>,
    /// From then on the plan's limit holds again.
    pub(super) expires_at: Option<DateTime<Utc>>,
    /// For people; 1 to 2,000 characters, needed unless it is cleared.
    #[graphql(default)]
    pub(super) reason: String,
}

#[derive(Clone, Debug, InputObject)]
pub struct BoostQuotaInput {
    pub(super) tenant_id: ID,
    pub(super) key: String,
    /// At least 1.
    pub(super) amount: i64,
    pub(super) expires_at: DateTime<Utc>,
    /// For people; 1 to 2,000 characters.
    pub(super) reason: String,
}

#[derive(Clone, Debug, InputObject)]
pub struct EndQuotaBoostInput {
    pub(super) tenant_id: ID,
    pub(super) boost_id: ID,
}

#[derive(Clone, Debug, InputObject)]
pub struct DefineQuotaInput {
    /// 1 to 63 small letters, digits or '_'.
    pub(super) key: String,
    pub(super) unit: String,
    pub(super) kind: Kind,
    /// For the kind PERIOD.
    pub(super) period: Option<Period>,
    #[graphql(default)]
    pub(super) description: String,
    #[graphql(default_with = "Enforcement::Hard")]
    pub(super) enforcement: Enforcement,
    #[graphql(default)]
    pub(super) grace_percent: i32,
    pub(super) default_limit: Option<i64>,
}

/// What is left out stays as it is.
#[derive(Clone, Debug, InputObject)]
pub struct UpdateQuotaDefinitionInput {
    pub(super) key: String,
    /// The version that you saw last: `conflict` if there is another.
    pub(super) expected_version: Option<i64>,
    pub(super) unit: Option<String>,
    pub(super) description: Option<String>,
    pub(super) enforcement: Option<Enforcement>,
    pub(super) grace_percent: Option<i32>,
    /// Null is unlimited.
    pub(super) default_limit: MaybeUndefined<i64>,
}

impl From<DefineQuotaInput> for QuotaKey {
    /// Version and times are set when it is kept.
    fn from(input: DefineQuotaInput) -> Self {
        let DefineQuotaInput { key, unit, kind, period, description, enforcement, grace_percent, default_limit } =
            input;
        let at = DateTime::UNIX_EPOCH;
        let (created_at, updated_at, version) = (at, at, 1);
        Self {
            key,
            unit,
            kind,
            period,
            description,
            enforcement,
            grace_percent,
            default_limit,
            version,
            created_at,
            updated_at,
        }
    }
}

impl UpdateQuotaDefinitionInput {
    pub(super) fn apply(self, key: &mut QuotaKey) {
        key.unit = self.unit.unwrap_or_else(|| std::mem::take(&mut key.unit));
        key.description = self.description.unwrap_or_else(|| std::mem::take(&mut key.description));
        key.enforcement = self.enforcement.unwrap_or(key.enforcement);
        key.grace_percent = self.grace_percent.unwrap_or(key.grace_percent);
        match self.default_limit {
            MaybeUndefined::Undefined => {}
            MaybeUndefined::Null => key.default_limit = None,
            MaybeUndefined::Value(limit) => key.default_limit = Some(limit),
        }
    }
}
