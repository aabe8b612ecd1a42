//! What members stand on: their tenant or, for operators, the platform itself.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use ipnet::IpNet;

use super::{Members, Roles, role_store::OwnRoles};
use crate::{
    access::{Origin, ScopeSet},
    config,
    error::{Error, Kind, Result},
    isolation::{NamedNetwork, NetworkRules, TenantScope},
    platform::ids::TenantId,
    tenancy::Snapshot,
};

/// What of it is asked whenever somebody comes in, or goes on.
#[derive(Clone, Debug)]
pub enum Ground {
    Tenant(Arc<Snapshot>),
    /// With where operators may come from.
    Platform(Arc<NetworkRules>),
}

impl Ground {
    pub fn access_epoch(&self) -> i64 {
        match self {
            Self::Tenant(known) => known.tenant.access_epoch,
            Self::Platform(_) => 1,
        }
    }

    /// Why nobody may come in now; `None` where people may.
    pub fn closed(&self, now: DateTime<Utc>) -> Option<Kind> {
        match self {
            Self::Tenant(known) => known.tenant.closed(now),
            Self::Platform(_) => None,
        }
    }

    /// Refuses who comes from elsewhere than the rules say.
    pub fn check_network(&self, origin: &Origin) -> Result<()> {
        match self {
            Self::Tenant(known) => known.tenant.network.check(origin),
            Self::Platform(rules) => rules.check(origin),
        }
    }

    /// What members with these roles may do here.
    pub fn scopes_of(&self, roles: &[String]) -> Result<ScopeSet> {
        match self {
            Self::Tenant(known) => {
                let own = &known.part::<OwnRoles>()?.0;
                Ok(Roles::OfTenant(own).scopes_of(roles).intersection(ScopeSet::for_tenants()))
            }
            Self::Platform(_) => Ok(Roles::OfOperators.scopes_of(roles)),
        }
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        match self {
            Self::Tenant(known) => &known.tenant.slug,
            Self::Platform(_) => "Tenantry",
        }
    }
}

/// Where operators may come from; the proxies of the server itself were passed already.
pub(super) fn network_of(rules: &config::Operators) -> NetworkRules {
    let named = |network: &IpNet| NamedNetwork { name: "operators.allowed_networks".to_owned(), network: *network };
    NetworkRules { allowed: rules.allowed_networks.iter().map(named).collect(), trusted_proxies: Vec::new() }
}

impl Members {
    /// None where there is no such tenant.
    pub async fn ground(&self, tenant: TenantId) -> Result<Option<Ground>> {
        if tenant.is_platform() {
            return Ok(Some(Ground::Platform(self.operators.clone())));
        }
        Ok(self.tenancy.snapshots().get(tenant).await?.map(Ground::Tenant))
    }

    /// The same from memory alone: none where it has to be read.
    pub fn cached_ground(&self, tenant: TenantId) -> Option<Ground> {
        if tenant.is_platform() {
            return Some(Ground::Platform(self.operators.clone()));
        }
        self.tenancy.snapshots().cached(tenant).map(Ground::Tenant)
    }

    /// Refuses operators who come from elsewhere than `operators.allowed_networks`.
    pub fn check_operators_network(&self, origin: &Origin) -> Result<()> {
        self.operators.check(origin)
    }

    pub(super) async fn check_ground(&self, scope: &TenantScope) -> Result<()> {
        self.ground(scope.tenant()).await?.map(drop).ok_or_else(Error::not_found)
    }
}
