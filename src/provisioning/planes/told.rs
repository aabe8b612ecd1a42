//! What of a tenant an application plane knows, and what of it is news to it: pure decisions on plain values.

use async_graphql::Enum;
use sea_orm::{DeriveActiveEnum, EnumIter, FromJsonQueryResult};
use serde::{Deserialize, Serialize};

use super::JobKind;
use crate::{cells::Placement, platform::ids::CellId, tenancy::Tenant};

/// What a plane wants to be told of tenants that it has, besides that they come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "ApplicationPlaneInterest")]
pub enum Interest {
    /// That a tenant was moved to another cell or tier: RELOCATE.
    Moves,
    /// That a tenant is suspended, archived or deleted, and that it is in use again: DEACTIVATE, ACTIVATE.
    Activation,
}

/// Where a tenant's data is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) region: String,
    cell: CellId,
    database: String,
}

/// Of a tenant; what is none is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(rename_all = "camelCase", default)]
pub struct Told {
    pub(super) place: Option<Place>,
    pub(super) in_use: Option<bool>,
}

impl Told {
    /// What there is to be told of the tenant now.
    pub(super) fn of(tenant: &Tenant, placement: Option<&Placement>) -> Self {
        let place = placement.map(|placement| Place {
            region: placement.region.clone(),
            cell: placement.cell_id,
            database: placement.database_name.clone(),
        });
        Self { place, in_use: Some(tenant.status.is_in_use()) }
    }

    /// What is known once a job of this kind is done, of a tenant as it is `now`.
    pub(super) fn after(self, kind: JobKind, now: &Self) -> Self {
        match kind {
            JobKind::Provision => now.clone(),
            JobKind::Deprovision => Self::default(),
            JobKind::Relocate => Self { place: now.place.clone(), ..self },
            JobKind::Activate | JobKind::Deactivate => Self { in_use: now.in_use, ..self },
        }
    }

    /// What is certain where a job of this kind may have been done or not.
    pub(super) fn without(self, kind: JobKind) -> Self {
        self.after(kind, &Self::default())
    }

    /// What a plane that `follows` this is to be told next, of a tenant as it is `now`.
    pub(super) fn news(&self, now: &Self, follows: &[Interest]) -> Option<JobKind> {
        if follows.contains(&Interest::Moves) && self.place != now.place {
            return Some(JobKind::Relocate);
        }
        if follows.contains(&Interest::Activation) && self.in_use != now.in_use {
            return Some(if now.in_use == Some(false) { JobKind::Deactivate } else { JobKind::Activate });
        }
        None
    }

    /// Whether a job of this kind would tell what is no longer so.
    pub(super) fn is_old(&self, kind: JobKind, now: &Self) -> bool {
        match kind {
            JobKind::Relocate => self.place != now.place,
            JobKind::Activate | JobKind::Deactivate => self.in_use != now.in_use,
            JobKind::Provision | JobKind::Deprovision => false,
        }
    }
}
