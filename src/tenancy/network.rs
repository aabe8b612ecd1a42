//! A tenant's network rules: what is let in, checked before it is kept.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::{Tenancy, Tenant};
use crate::{
    error::{Error, Kind, Result},
    isolation::{Conditions, NamedNetwork, NetworkRules, TenantScope},
};

/// Rules as they were written.
#[derive(Clone, Debug, Default)]
pub struct NetworkOrder {
    /// Name and range.
    pub allowed: Vec<(String, String)>,
    pub trusted_proxies: Vec<String>,
    /// Though they lock out who asks.
    pub force: bool,
}

/// More are compared with each request.
const RANGES: usize = 200;
const NAME: usize = 100;

impl Tenancy {
    /// Sets who is let in from where, from then on; empty: everybody from everywhere. Operators are held back by no tenant's rules.
    pub async fn set_network_rules(
        &self,
        scope: &TenantScope,
        order: NetworkOrder,
        conditions: &Conditions,
    ) -> Result<Arc<Tenant>> {
        let rules = rules(&order)?;
        let caller = scope.caller();
        if !caller.is_platform() && !order.force && rules.check(&caller.origin).is_err() {
            let from =
                rules.client(&caller.origin).map_or_else(|| "an unknown address".to_owned(), |ip| ip.to_string());
            let rule = format!("would lock out who sets it: this comes from {from}; allow that, or set `force`");
            return Err(Error::new(Kind::Conflict, rule).at("allowed"));
        }
        let tx = self.isolation.begin(scope).await?;
        self.change(tx, conditions, "TenantNetworkRulesSet", |tenant, _| {
            tenant.network = rules;
            Ok(())
        })
        .await
    }
}

fn rules(order: &NetworkOrder) -> Result<NetworkRules> {
    for (field, count) in [("allowed", order.allowed.len()), ("trustedProxies", order.trusted_proxies.len())] {
        if count > RANGES {
            return Err(Error::invalid(field, format!("has at most {RANGES} ranges")));
        }
    }
    let mut rules = NetworkRules::default();
    for (place, (name, text)) in order.allowed.iter().enumerate() {
        let (name, field) = (name.trim(), format!("allowed.{place}"));
        if name.is_empty() || name.chars().count() > NAME || name.contains(char::is_control) {
            let rule = format!("has 1 to {NAME} characters, and no control characters");
            return Err(Error::invalid(format!("{field}.name"), rule));
        }
        let network = range(&format!("{field}.network"), text)?;
        if let Some(other) = rules.allowed.iter().find(|known| known.network == network) {
            let rule = format!("is the range of `{}` already", other.name);
            return Err(Error::invalid(format!("{field}.network"), rule));
        }
        rules.allowed.push(NamedNetwork { name: name.to_owned(), network });
    }
    for (place, text) in order.trusted_proxies.iter().enumerate() {
        rules.trusted_proxies.push(range(&format!("trustedProxies.{place}"), text)?);
    }
    Ok(rules)
}

/// A range in CIDR notation (RFC 4632, RFC 4291), or one address.
fn range(field: &str, text: &str) -> Result<IpNet> {
    let text = text.trim();
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address.to_canonical()),
        Err(_) => text.parse::<IpNet>().map_err(|_| {
            Error::invalid(
                field,
                "must be an address or a range of IPv4 or IPv6, such as 203.0.113.0/24 or 2001:db8::/32",
            )
        })?,
    };
    if let IpNet::V6(six) = network
        && six.addr().to_ipv4_mapped().is_some()
    {
        return Err(Error::invalid(field, "must be written as the range of IPv4 that it is"));
    }
    if network.trunc() != network {
        let rule = format!("has bits set beyond its prefix; the range is {}", network.trunc());
        return Err(Error::invalid(field, rule));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_one_and_nothing_that_only_looks_like_it() {
        for text in ["203.0.113.0/24", "203.0.113.7", " 10.0.0.0/8 ", "2001:db8::/32", "::1", "0.0.0.0/0"] {
            assert!(range("f", text).is_ok(), "{text}");
        }
        for text in [
            "",
            "203.0.113.0/33",
            "203.0.113.7/24",
            "2001:db8::1/32",
            "localhost",
            "::ffff:203.0.113.0/120",
            "1.2.3/8",
            "0x7f.1",
        ] {
            assert_eq!(range("f", text).unwrap_err().field(), Some("f"), "{text}");
        }
        assert_eq!(range("f", "::ffff:203.0.113.7").unwrap().to_string(), "203.0.113.7/32");
    }
}
