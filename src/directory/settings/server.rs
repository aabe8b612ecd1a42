//! Addresses of directory servers.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::{
    error::{Error, Result},
    platform::reach::Reach,
};

/// How what is said to a server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::directory) enum Protection {
    /// TLS from the first byte: `ldaps://`.
    Tls,
    /// TLS after the server was asked for it, or nothing.
    StartTls,
    /// None.
    PlainText,
}

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    is_ldaps: bool,
    starts_tls: bool,
    host: String,
    port: u16,
}

impl Server {
    /// `ldap://host[:port]` or `ldaps://host[:port]` and nothing else (RFC 4516 has much more, which says who is searched for).
    pub(super) fn parse(text: &str, starts_tls: bool, field: &str) -> Result<Self> {
        let refused = |rule: &'static str| Error::invalid(field, rule);
        if text.len() > 300 || text.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
            return Err(refused("has at most 300 bytes and no blanks"));
        }
        let url = Url::parse(text).map_err(|_| refused("must be an address such as ldaps://ldap.example.com"))?;
        let is_ldaps = match url.scheme() {
            "ldaps" => true,
            "ldap" => false,
            _ => return Err(refused("must begin with ldaps:// or ldap://")),
        };
        let has_more = !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some();
        if has_more || !url.username().is_empty() || url.password().is_some() {
            return Err(refused("names host and port alone: no user, no path, no question mark"));
        }
        let host = host_of(&url).ok_or_else(|| refused("must name a host"))?;
        let port = url.port().unwrap_or(if is_ldaps { 636 } else { 389 });
        if port == 0 {
            return Err(refused("has a port from 1 to 65535"));
        }
        Ok(Self { is_ldaps, starts_tls: starts_tls && !is_ldaps, host, port })
    }

    /// Refuses an address that will never be connected to. Names are looked up when they are used.
    pub(super) fn check_reach(&self, reach: &Reach, field: &str) -> Result<()> {
        match self.host.parse() {
            Ok(address) if !reach.allows(address) => Err(Error::invalid(
                field,
                "is a private, local or metadata address; the operator has to allow its network (directory.allowed_networks)",
            )),
            _ => Ok(()),
        }
    }

    pub(in crate::directory) fn protection(&self) -> Protection {
        match (self.is_ldaps, self.starts_tls) {
            (true, _) => Protection::Tls,
            (false, true) => Protection::StartTls,
            (false, false) => Protection::PlainText,
        }
    }

    /// A DNS name, or an address without brackets.
    pub(in crate::directory) fn host(&self) -> &str {
        &self.host
    }

    pub(in crate::directory) fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_ldaps { "ldaps" } else { "ldap" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// The host, read again as HTTP's would be: for other schemes the library leaves names as they are, `127.1` and `0x7f000001` among them.
fn host_of(url: &Url) -> Option<String> {
    let written = url.host_str().filter(|host| !host.is_empty())?;
    match Host::parse(written).ok()? {
        Host::Domain(name) => {
            let name = name.trim_end_matches('.').to_owned();
            let is_name = |label: &str| {
                (1..=63).contains(&label.len())
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            };
            (name.len() <= 253 && name.split('.').all(is_name)).then_some(name)
        }
        Host::Ipv4(address) => Some(address.to_string()),
        Host::Ipv6(address) => Some(address.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Server> {
        Server::parse(text, true, "servers.0")
    }

    #[test]
    fn an_address_names_a_server_and_nothing_else() {
        let shown = |text| parse(text).unwrap().to_string();
        assert_eq!(shown("ldaps://LDAP.example.com"), "ldaps://ldap.example.com:636");
        assert_eq!(shown("ldap://10.1.2.3:1389/"), "ldap://10.1.2.3:1389");
        assert_eq!(shown("ldaps://[2606:4700::1]"), "ldaps://[2606:4700::1]:636");
        for text in [
            "",
            "ldap.example.com",
            "http://a",
            "ldapi:///tmp/x",
            "ldaps://",
            "ldap:///dc=a",
            "ldap://a/dc=b",
            "ldap://a?b",
            "ldap://u:p@a",
            "ldap://a b",
            "ldap://a:0",
            "ldap://a:99999",
            "ldap://a..b",
            "ldap://a#b",
            "ldaps://a\nb",
        ] {
            assert_eq!(parse(text).unwrap_err().field(), Some("servers.0"), "{text:?}");
        }
    }

    #[test]
    fn addresses_in_disguise_are_the_addresses_that_they_are() {
        let reach = Reach::default();
        for text in [
            "ldap://127.0.0.1",
            "ldap://127.1",
            "ldap://2130706433",
            "ldap://0x7f000001",
            "ldap://0177.0.0.1",
            "ldap://[::1]",
            "ldap://[::ffff:127.0.0.1]",
            "ldap://169.254.169.254",
            "ldap://[fd00:ec2::254]",
        ] {
            let refused = parse(text).unwrap().check_reach(&reach, "servers.0").unwrap_err();
            assert!(refused.message().contains("private"), "{text}");
        }
        parse("ldaps://1.1.1.1").unwrap().check_reach(&reach, "servers.0").unwrap();
    }

    #[test]
    fn protection_follows_the_address() {
        let of = |text, starts_tls| Server::parse(text, starts_tls, "s").unwrap().protection();
        assert_eq!(of("ldaps://a", true), Protection::Tls);
        assert_eq!(of("ldaps://a", false), Protection::Tls);
        assert_eq!(of("ldap://a", true), Protection::StartTls);
        assert_eq!(of("ldap://a", false), Protection::PlainText);
    }
}
