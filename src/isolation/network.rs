//! Where a tenant's own services, and whoever acts on it for another tenant, may come from.

use std::net::IpAddr;

use ipnet::IpNet;
use sea_orm::FromJsonQueryResult;
use serde::{Deserialize, Serialize};

use crate::{
    access::Origin,
    error::{Error, Kind, Result},
};

/// One range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedNetwork {
    /// What people call it, such as the VPN that ends there.
    pub name: String,
    pub network: IpNet,
}

/// The rules of one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkRules {
    /// Empty: from everywhere.
    pub allowed: Vec<NamedNetwork>,
    /// The tenant's own proxies, whose `X-Forwarded-For` is believed for these rules.
    pub trusted_proxies: Vec<IpNet>,
}

/// Of who is let in from everywhere.
pub static EVERYWHERE: NetworkRules = NetworkRules { allowed: Vec::new(), trusted_proxies: Vec::new() };

impl NetworkRules {
    pub fn are_none(&self) -> bool {
        self.allowed.is_empty()
    }

    /// The address that the rules hold against: past the tenant's own proxies.
    pub fn client(&self, origin: &Origin) -> Option<IpAddr> {
        let mut address = origin.address?;
        for earlier in &origin.forwarded {
            if !self.trusted_proxies.iter().any(|network| network.contains(&address)) {
                break;
            }
            address = *earlier;
        }
        Some(address)
    }

    /// The range that an address is let in by.
    pub fn find(&self, address: IpAddr) -> Option<&NamedNetwork> {
        let address = address.to_canonical();
        self.allowed.iter().find(|known| known.network.contains(&address))
    }

    /// Refuses with `forbidden` who comes from elsewhere, and who comes from nowhere.
    pub fn check(&self, origin: &Origin) -> Result<()> {
        if self.are_none() {
            return Ok(());
        }
        let client = self.client(origin);
        if client.is_some_and(|address| self.find(address).is_some()) {
            return Ok(());
        }
        metrics::counter!("tenantry_network_refusals_total").increment(1);
        let from = client.map(|address| address.to_string());
        Err(Error::new(Kind::Forbidden, "the tenant's network rules do not let in the address that this comes from")
            .with(serde_json::json!({ "address": from })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(address: &str, forwarded: &[&str]) -> Origin {
        let forwarded = forwarded.iter().map(|hop| hop.parse().unwrap()).collect();
        Origin { address: Some(address.parse().unwrap()), forwarded, ..Origin::default() }
    }

    fn rules(allowed: &[&str], proxies: &[&str]) -> NetworkRules {
        let named = |network: &&str| NamedNetwork { name: "office".to_owned(), network: network.parse().unwrap() };
        NetworkRules {
            allowed: allowed.iter().map(named).collect(),
            trusted_proxies: proxies.iter().map(|network| network.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn without_rules_everybody_is_let_in_and_with_them_only_who_is_named() {
        assert!(EVERYWHERE.check(&Origin::default()).is_ok());
        let rules = rules(&["203.0.113.0/24", "2001:db8::/32"], &[]);
        for (address, is_let_in) in [
            ("203.0.113.0", true),
            ("203.0.113.255", true),
            ("203.0.114.0", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
            ("127.0.0.1", false),
            // The same address, as a socket for both families has it.
            ("::ffff:203.0.113.7", true),
        ] {
            assert_eq!(rules.check(&origin(address, &[])).is_ok(), is_let_in, "{address}");
        }
        assert!(rules.check(&Origin::default()).is_err(), "an address that is not known is none that is let in");
    }

    #[test]
    fn a_forwarded_address_is_believed_as_far_as_the_tenants_own_proxies_reach() {
        let rules = rules(&["203.0.113.7/32"], &["198.51.100.0/24"]);
        assert!(rules.check(&origin("198.51.100.1", &["203.0.113.7"])).is_ok());
        assert!(rules.check(&origin("198.51.100.1", &["198.51.100.2", "203.0.113.7", "192.0.2.1"])).is_ok());
        // Somebody else's proxy, or a client that makes it up.
        assert!(rules.check(&origin("192.0.2.1", &["203.0.113.7"])).is_err());
        assert!(rules.check(&origin("198.51.100.1", &["192.0.2.1", "203.0.113.7"])).is_err());
        assert!(rules.check(&origin("198.51.100.1", &[])).is_err());
    }
}
