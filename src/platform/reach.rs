//! Connections to addresses that tenants supply. A name is resolved first, and only the address that was checked is connected to:
//! a name that answers otherwise the next time (DNS rebinding) gains nothing.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tokio::net::TcpStream;

/// Which addresses may be reached: public ones, and those of networks that the operator allows.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    allowed: Vec<IpNet>,
}

/// Why no connection was made.
#[derive(Debug, thiserror::Error)]
pub enum Unreached {
    #[error("the name cannot be resolved")]
    Name,
    #[error("the address is private, local or of a metadata service, and the operator does not allow it")]
    Forbidden,
    #[error("nothing answered in time")]
    Slow,
    #[error("the connection was refused or failed")]
    Failed(#[source] std::io::Error),
}

/// Not public by the registries of special-purpose addresses (RFC 6890; IANA), multicast, and a cloud's service address among public ones.
const CLOSED_V4: [(Ipv4Addr, u8); 17] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
    (Ipv4Addr::BROADCAST, 32),
];
/// Of IPv6, what is assigned to the public is one block; these are taken out of it.
const PUBLIC_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
const CLOSED_V6: [(Ipv6Addr, u8); 3] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // Teredo, ORCHID and other protocols' own
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

impl Reach {
    pub fn new(allowed: &[IpNet]) -> Self {
        Self { allowed: allowed.to_vec() }
    }

    /// Whether this address may be connected to.
    pub fn allows(&self, address: IpAddr) -> bool {
        // An IPv4 address in another form is the address that it is routed to.
        let address = embedded(address).map_or(address, IpAddr::V4);
        is_public(address) || self.allowed.iter().any(|network| network.contains(&address))
    }

    /// The addresses behind a name, or the address itself, that may be connected to: at least one.
    pub async fn resolve(&self, host: &str, port: u16, patience: Duration) -> Result<Vec<SocketAddr>, Unreached> {
        let found: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => match tokio::time::timeout(patience, tokio::net::lookup_host((host, port))).await {
                Err(_elapsed) => return Err(Unreached::Slow),
                Ok(Err(_)) => return Err(Unreached::Name),
                Ok(Ok(found)) => found.collect(),
            },
        };
        if found.is_empty() {
            return Err(Unreached::Name);
        }
        let open: Vec<_> = found.into_iter().filter(|found| self.allows(found.ip())).collect();
        if open.is_empty() { Err(Unreached::Forbidden) } else { Ok(open) }
    }
}

/// Connects to the first address that answers; each gets its share of the time.
pub async fn dial(addresses: &[SocketAddr], patience: Duration) -> Result<TcpStream, Unreached> {
    let share = patience / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut last = Unreached::Slow;
    for address in addresses {
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true).map_err(Unreached::Failed)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = Unreached::Failed(error),
            Err(_elapsed) => last = Unreached::Slow,
        }
    }
    Err(last)
}

fn is_public(address: IpAddr) -> bool {
    let v4 = |(network, length): (Ipv4Addr, u8)| Ipv4Net::new_assert(network, length);
    let v6 = |(network, length): (Ipv6Addr, u8)| Ipv6Net::new_assert(network, length);
    match address {
        IpAddr::V4(address) => !CLOSED_V4.into_iter().any(|closed| v4(closed).contains(&address)),
        IpAddr::V6(address) => {
            v6(PUBLIC_V6).contains(&address) && !CLOSED_V6.into_iter().any(|closed| v6(closed).contains(&address))
        }
    }
}

/// The IPv4 address inside: mapped (RFC 4291), NAT64 (RFC 6052) and 6to4 (RFC 3056). Networks' own prefixes of NAT64 are not public.
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let last = |octets: &[u8]| Some(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]));
    let (segments, octets) = (address.segments(), address.octets());
    match segments {
        [0, 0, 0, 0, 0, 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => last(&octets[12..]),
        [0x2002, ..] => last(&octets[2..6]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(reach: &Reach, address: &str) -> bool {
        reach.allows(address.parse().unwrap())
    }

    #[test]
    fn what_is_not_public_is_closed_in_every_form() {
        let reach = Reach::default();
        for closed in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.0.1",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a00:1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "fe80::1",
            "fec0::1",
            "fd00:ec2::254",
            "fc00::1",
            "ff02::1",
            "100::1",
        ] {
            assert!(!allows(&reach, closed), "{closed}");
        }
        for open in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::101:101", "::ffff:8.8.8.8"] {
            assert!(allows(&reach, open), "{open}");
        }
    }

    #[test]
    fn an_operator_opens_networks_and_nothing_beside_them() {
        let reach = Reach::new(&["10.1.0.0/16".parse().unwrap(), "fd00:1::/32".parse().unwrap()]);
        assert!(allows(&reach, "10.1.2.3") && allows(&reach, "::ffff:10.1.2.3") && allows(&reach, "fd00:1::5"));
        assert!(!allows(&reach, "10.2.0.1") && !allows(&reach, "127.0.0.1") && !allows(&reach, "fd00:2::5"));
    }
}
