//! Four eyes: what one person asks for, another decides. One row of `flag_change_requests`.

use async_graphql::Enum;
use chrono::{DateTime, Utc};
use sea_orm::{DeriveActiveEnum, EnumIter, FromQueryResult};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    access::Actor,
    error::{Error, Result},
    platform::ids::{FlagChangeId, TenantId},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "FlagChangeStatus")]
pub enum ChangeStatus {
    /// Waits for a second person.
    Pending,
    /// The value was set.
    Approved,
    /// Nothing was set.
    Rejected,
}

impl ChangeStatus {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Approved => "APPROVED",
            Self::Rejected => "REJECTED",
        }
    }
}

/// A tenant's value that somebody wants set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, FromQueryResult)]
#[serde(rename_all = "camelCase")]
pub struct ChangeRequest {
    pub tenant_id: TenantId,
    pub request_id: FlagChangeId,
    pub flag_key: String,
    /// `None` takes the tenant's value back.
    pub value: Option<Value>,
    pub starts_at: Option<DateTime<Utc>>,
    pub ends_at: Option<DateTime<Utc>>,
    pub reason: String,
    /// The version of the tenant's value that was there when it was asked for, 0 for none.
    pub value_version: i64,
    pub status: ChangeStatus,
    pub requested_by: String,
    pub requested_at: DateTime<Utc>,
    pub decided_by: Option<String>,
    pub decided_at: Option<DateTime<Utc>>,
    pub note: String,
    pub version: i64,
}

/// What the second person said.
#[derive(Clone, Debug)]
pub struct Decision {
    pub status: ChangeStatus,
    pub by: String,
    pub at: DateTime<Utc>,
    pub note: String,
}

impl ChangeRequest {
    /// Once, and not by who asked; to reject is also to withdraw, which who asked may.
    pub fn decide(&mut self, decision: Decision) -> Result<()> {
        if self.status != ChangeStatus::Pending {
            return Err(Error::conflict(format!("the change was {} before", self.status.name().to_lowercase())));
        }
        if decision.status == ChangeStatus::Approved && Actor::is_same_operator(&decision.by, &self.requested_by) {
            return Err(Error::forbidden("who asks for a change cannot approve it: another person must"));
        }
        self.status = decision.status;
        self.decided_by = Some(decision.by);
        self.decided_at = Some(decision.at);
        self.note = decision.note;
        self.version += 1;
        Ok(())
    }
}
