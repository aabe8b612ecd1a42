//! Tenants that Tenantry makes up to try what one can do to another: they have a real environment, and are nowhere in the registry.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use serde_json::Map;

use super::{
    layer::{Credential, Site},
    names::Names,
};
use crate::{
    cells::{Cell, Placement},
    error::{Error, Result},
    isolation::NetworkRules,
    platform::ids::TenantId,
    tenancy::{IsolationTier, Labels, Profile, Sections, SlaOverrides, Status, Tenant},
};

/// Whether and where a layer is tried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probed {
    /// In each cell.
    InCells,
    /// On its own server, once.
    ByItself,
    /// Once, and it makes and removes by itself what it needs: it is made for tenants of the registry alone.
    Unmade,
    /// Together with another layer, in which its things are.
    With(&'static str),
    /// Why it is not, as a sentence.
    Not(&'static str),
}

/// One of the two.
#[derive(Clone, Debug)]
pub struct ProbeTenant {
    pub site: Site,
    /// What a service of it has been given, by layer.
    pub credentials: BTreeMap<&'static str, Credential>,
}

impl ProbeTenant {
    /// In `cell` as tenants of its tier are; without one, on the servers of layers that are no cells alone.
    pub fn new(id: TenantId, cell: Option<Arc<Cell>>, now: DateTime<Utc>) -> Self {
        let names = Names::of(id);
        let tier = cell.as_ref().map_or(IsolationTier::Standard, |cell| cell.tier);
        let placement = cell.as_ref().map(|cell| Placement {
            tenant_id: id,
            cell_id: cell.id,
            tier,
            region: cell.region.clone(),
            database_name: match tier {
                IsolationTier::Standard => cell.address.0.database.clone(),
                _ => names.stem().to_owned(),
            },
            reason: "made up by Tenantry".to_owned(),
            placed_at: now,
        });
        let region = cell.as_ref().map(|cell| cell.region.clone()).unwrap_or_default();
        let tenant = Arc::new(made_up(id, tier, region, now));
        let site = Site { tenant, names, placement, cell, extensions: Vec::new(), facts: Map::new() };
        Self { site, credentials: BTreeMap::new() }
    }

    /// Errors: `unavailable` where the layer has given none.
    pub fn credential(&self, layer: &str) -> Result<&Credential> {
        self.credentials.get(layer).ok_or_else(|| {
            Error::new(crate::error::Kind::Unavailable, format!("the layer {layer} has given out no credential"))
        })
    }
}

fn made_up(id: TenantId, isolation_tier: IsolationTier, region: String, now: DateTime<Utc>) -> Tenant {
    Tenant {
        id,
        slug: format!("probe-{}", id.uuid().simple()),
        external_id: None,
        name: "probe".to_owned(),
        plan: String::new(),
        isolation_tier,
        region,
        status: Status::Created,
        archived_from: None,
        deleted_from: None,
        suspension: None,
        planned_suspension: None,
        suspend_at: None,
        resume_at: None,
        deleted_at: None,
        erase_at: None,
        access_epoch: 1,
        access_changed_at: now,
        profile: Profile::default(),
        labels: Labels::default(),
        sla: SlaOverrides::default(),
        sections: Sections::default(),
        network: NetworkRules::default(),
        version: 1,
        created_at: now,
        updated_at: now,
    }
}
