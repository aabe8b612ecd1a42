use std::collections::BTreeMap;

use async_graphql::Enum;
use chrono::{DateTime, Utc};
use sea_orm::{FromJsonQueryResult, entity::prelude::*};
use serde::{Deserialize, Serialize};

use super::{profile::Profile, sla::SlaOverrides};
use crate::{
    error::Kind,
    isolation::{Access, NetworkRules, Standing},
    platform::ids::TenantId,
};

/// Where a tenant is in its life. Provisioning is a progress, not a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "TenantStatus")]
pub enum Status {
    /// Made, and not yet in use.
    Created,
    /// In use.
    Active,
    /// Held back: gracefully (reads go on) or hard (nothing does).
    Suspended,
    /// Out of use, its data kept. Only operators can read it.
    Archived,
    /// Its grace period is running: it can be brought back until `eraseAt`.
    Deleted,
    /// Gone but for a tombstone.
    Erased,
}

impl Status {
    /// Neither suspended, archived nor deleted.
    pub fn is_in_use(self) -> bool {
        matches!(self, Self::Created | Self::Active)
    }

    pub fn name(self) -> String {
        self.to_value()
    }
}

/// How strongly a tenant's data plane is separated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum IsolationTier {
    /// Its own schema and role in a shared cell.
    Standard,
    /// A dedicated database.
    Enterprise,
    /// A dedicated database on a cluster reserved to the tenant.
    Premium,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SuspensionMode {
    /// Reads go on, writes are refused with `tenant_suspended`; after the drain time there are no new tokens.
    Graceful,
    /// Every token is refused at once, streams are closed.
    Hard,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SuspensionReason {
    Billing,
    Policy,
    Security,
    Request,
}

/// Why and how a tenant is held back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(rename_all = "camelCase")]
pub struct Suspension {
    pub mode: SuspensionMode,
    pub reason: SuspensionReason,
    pub note: String,
    pub since: DateTime<Utc>,
    /// Until when the tenant still gets new tokens (graceful).
    pub drain_until: DateTime<Utc>,
}

/// A suspension that will begin by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(rename_all = "camelCase")]
pub struct PlannedSuspension {
    pub mode: SuspensionMode,
    pub reason: SuspensionReason,
    pub note: String,
}

/// Free labels, key → value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Labels(pub BTreeMap<String, String>);

/// The free sections of a tenant's declaration: `integrations`, `settings` and those of later capabilities.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Sections(pub BTreeMap<String, serde_json::Value>);

/// One row of `tenants`: what a tenant is.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel, Serialize, Deserialize)]
#[sea_orm(schema_name = "tenantry", table_name = "tenants")]
#[serde(rename_all = "camelCase")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_name = "tenant_id")]
    pub id: TenantId,
    pub slug: String,
    /// The operator's own key, as in a tenant file.
    pub external_id: Option<String>,
    pub name: String,
    pub plan: String,
    pub isolation_tier: IsolationTier,
    pub region: String,
    pub status: Status,
    pub archived_from: Option<Status>,
    pub deleted_from: Option<Status>,
    #[sea_orm(column_type = "JsonBinary")]
    pub suspension: Option<Suspension>,
    #[sea_orm(column_type = "JsonBinary")]
    pub planned_suspension: Option<PlannedSuspension>,
    pub suspend_at: Option<DateTime<Utc>>,
    pub resume_at: Option<DateTime<Utc>>,
    pub deleted_at: Option<DateTime<Utc>>,
    pub erase_at: Option<DateTime<Utc>>,
    pub access_epoch: i64,
    pub access_changed_at: DateTime<Utc>,
    #[sea_orm(column_type = "JsonBinary")]
    pub profile: Profile,
    #[sea_orm(column_type = "JsonBinary")]
    pub labels: Labels,
    #[sea_orm(column_type = "JsonBinary")]
    pub sla: SlaOverrides,
    #[sea_orm(column_type = "JsonBinary")]
    pub sections: Sections,
    #[sea_orm(column_type = "JsonBinary")]
    #[serde(default)]
    pub network: NetworkRules,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

pub type Tenant = Model;

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Tenant {
    /// What the tenant's own services may do, now.
    pub fn standing(&self) -> Standing<'_> {
        let access = match (self.status, &self.suspension) {
            (Status::Created | Status::Active, _) => Access::Open,
            (Status::Suspended, Some(suspension)) if suspension.mode == SuspensionMode::Graceful => Access::ReadOnly,
            (Status::Suspended, _) => Access::Closed(Kind::TenantSuspended),
            (Status::Archived, _) => Access::Closed(Kind::TenantArchived),
            (Status::Deleted | Status::Erased, _) => Access::Closed(Kind::Unauthenticated),
        };
        Standing { access, epoch: self.access_epoch, epoch_began: self.access_changed_at, network: &self.network }
    }

    /// Why nobody of the tenant may sign in now; `None` where they may.
    pub fn closed(&self, now: DateTime<Utc>) -> Option<Kind> {
        match self.standing().access {
            _ if self.may_sign_in(now) => None,
            Access::Closed(kind) => Some(kind),
            Access::Open | Access::ReadOnly => Some(Kind::TenantSuspended),
        }
    }

    /// Whether the tenant's services may get new tokens.
    pub fn may_sign_in(&self, now: DateTime<Utc>) -> bool {
        match self.standing().access {
            Access::Open => true,
            Access::ReadOnly => self.suspension.as_ref().is_some_and(|suspension| now < suspension.drain_until),
            Access::Closed(_) => false,
        }
    }
}
