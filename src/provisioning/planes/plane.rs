use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::{super::state::Wanted, Interest, duration};
use crate::{
    platform::ids::ClientId,
    tenancy::{IsolationTier, Tenant},
};

/// What the layer of a plane is called before the plane's own name. No layer of this binary has such a name.
const PREFIX: &str = "plane:";

/// The layer that the plane of this name is to a tenant.
pub(in super::super) fn layer_of(plane: &str) -> String {
    format!("{PREFIX}{plane}")
}

/// Whether a layer of this name is an application plane's.
pub(in super::super) fn is_of_plane(layer: &str) -> bool {
    layer.starts_with(PREFIX)
}

/// A program that makes a part of tenants' environments.
#[derive(Clone, Debug, PartialEq)]
pub struct ApplicationPlane {
    pub name: String,
    /// The client that answers for it.
    pub client_id: ClientId,
    /// Whether a tenant that it serves does not become ACTIVE without it.
    pub is_essential: bool,
    /// From being asked, or from the last sign of life.
    pub deadline: TimeDelta,
    /// For one job in all.
    pub longest: TimeDelta,
    /// Lower ones are asked first.
    pub position: i16,
    /// None: all.
    pub tiers: Vec<IsolationTier>,
    /// None: all.
    pub plans: Vec<String>,
    /// What it is told of tenants that it has.
    pub follows: Vec<Interest>,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub retired_at: Option<DateTime<Utc>>,
}

impl ApplicationPlane {
    /// What is wanted of it for a tenant whose environment is `wanted`. One that serves the tenant no more takes away what it has made.
    pub(super) fn wanted_for(&self, wanted: Wanted, tenant: &Tenant) -> Wanted {
        let serves = self.retired_at.is_none()
            && (self.tiers.is_empty() || self.tiers.contains(&tenant.isolation_tier))
            && (self.plans.is_empty() || self.plans.contains(&tenant.plan));
        if serves { wanted } else { Wanted::Absent }
    }

    /// What the journal keeps of it.
    pub(super) fn record(&self) -> Record<'_> {
        Record {
            name: &self.name,
            client_id: self.client_id,
            essential: self.is_essential,
            deadline: duration::write(self.deadline),
            longest: duration::write(self.longest),
            position: self.position,
            tiers: &self.tiers,
            plans: &self.plans,
            follows: &self.follows,
            retired_at: self.retired_at,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record<'a> {
    name: &'a str,
    client_id: ClientId,
    essential: bool,
    deadline: String,
    longest: String,
    position: i16,
    tiers: &'a [IsolationTier],
    plans: &'a [String],
    follows: &'a [Interest],
    retired_at: Option<DateTime<Utc>>,
}
