//! Requests to addresses that tenants, or what they bring, name: the one client for them. It resolves first, and speaks to no private,
//! loopback, link-local or metadata address unless the operator allows its network; it follows no redirect and takes no more than it was told
//! to, in bytes and in time.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use reqwest::{
    Client, RequestBuilder, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{CONTENT_TYPE, HeaderValue},
    redirect::Policy,
};

use crate::error::{Context as _, Result};

/// Clones share it.
#[derive(Clone, Debug)]
pub struct Outbound {
    client: Client,
    allowed: Arc<[IpNet]>,
}

/// Why there is no answer. It names neither address nor port that was found: who asks is not to learn what is there.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("the URL must be http:// or https://, with a host and without a user")]
    Url,
    #[error("the host is at an address that may not be asked")]
    Address,
    #[error("the server did not answer in time, or not at all")]
    Network(#[source] reqwest::Error),
    #[error("the server answered with status {0}")]
    Status(u16),
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
}

impl Outbound {
    /// `allowed`: networks that may be asked although they are private.
    #[expect(clippy::disallowed_methods, reason = "the one client for addresses that tenants name")]
    pub fn new(allowed: &[IpNet], timeout: Duration) -> Result<Self> {
        let allowed: Arc<[IpNet]> = allowed.into();
        let client = Client::builder()
            .timeout(timeout)
            .redirect(Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(Public { allowed: allowed.clone() }))
            .user_agent("tenantry")
            .build()
            .context("set up the client for addresses of tenants")?;
        Ok(Self { client, allowed })
    }

    pub async fn get(&self, url: &str, most: usize) -> Result<Vec<u8>, Failure> {
        self.send(self.client.get(self.check(url)?), most).await
    }

    pub async fn post(&self, url: &str, kind: &'static str, body: Vec<u8>, most: usize) -> Result<Vec<u8>, Failure> {
        let request = self.client.post(self.check(url)?).header(CONTENT_TYPE, HeaderValue::from_static(kind));
        self.send(request.body(body), most).await
    }

    /// An address in the URL is never resolved, so it is looked at here.
    fn check(&self, url: &str) -> Result<Url, Failure> {
        let url = Url::parse(url).map_err(|_| Failure::Url)?;
        let is_fit = matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
        let host = url.host_str().filter(|_| is_fit).ok_or(Failure::Url)?;
        match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(address) if !may_ask(address, &self.allowed) => Err(Failure::Address),
            _ => Ok(url),
        }
    }

    async fn send(&self, request: RequestBuilder, most: usize) -> Result<Vec<u8>, Failure> {
        let mut response = request.send().await.map_err(failed)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(Failure::Status(response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > most {
                return Err(Failure::TooLarge(most));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

fn failed(error: reqwest::Error) -> Failure {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(known) = cause {
        if known.is::<NotPublic>() {
            return Failure::Address;
        }
        cause = known.source();
    }
    Failure::Network(error.without_url())
}

/// Resolves names to addresses that may be asked. What is connected to is what was looked at.
struct Public {
    allowed: Arc<[IpNet]>,
}

#[derive(Debug, thiserror::Error)]
#[error("the host is at an address that may not be asked")]
struct NotPublic;

impl Resolve for Public {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.allowed.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            // One that may not be asked among others is an attempt to be asked there: all or nothing.
            if found.iter().any(|address| !may_ask(address.ip(), &allowed)) {
                return Err(NotPublic.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

fn may_ask(address: IpAddr, allowed: &[IpNet]) -> bool {
    let address = address.to_canonical();
    is_public(address) || allowed.iter().any(|network| network.contains(&address))
}

/// Of the registries of special addresses (RFC 6890), whatever is not reached over the Internet.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = a == 0
        || a >= 240
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b));
    !is_special
}

/// Global unicast alone, without what carries an IPv4 address in it: that one may be private.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let carries_v4 = a == 0x2002 || (a == 0x2001 && b == 0);
    (0x2000..0x4000).contains(&a) && !carries_v4 && !(a == 0x2001 && b == 0x0db8) && a != 0x3fff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_on_the_internet_is_not_asked() {
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "198.18.0.1",
            "192.0.2.1",
            "::1",
            "::",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "2001::1",
            "ff02::1",
            "2001:db8::1",
        ] {
            assert!(!may_ask(address.parse().unwrap(), &[]), "{address}");
        }
        for address in ["1.1.1.1", "172.15.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(may_ask(address.parse().unwrap(), &[]), "{address}");
        }
        assert!(may_ask("10.1.2.3".parse().unwrap(), &["10.0.0.0/8".parse().unwrap()]));
        assert!(!may_ask("192.168.1.1".parse().unwrap(), &["10.0.0.0/8".parse().unwrap()]));
    }

    #[tokio::test]
    async fn urls_of_other_kinds_are_refused_before_anything_is_sent() {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let outbound = Outbound::new(&[], Duration::from_secs(2)).unwrap();
        for url in ["file:///etc/passwd", "ftp://a.example/", "http://user@a.example/", "no url", "ldap://a.example/"] {
            assert!(matches!(outbound.get(url, 1).await, Err(Failure::Url)), "{url}");
        }
        for url in [
            "http://127.0.0.1/",
            "http://[::1]/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://169.254.169.254/latest",
            "http://localhost:1/",
            "https://[::ffff:127.0.0.1]/",
        ] {
            assert!(matches!(outbound.get(url, 1).await, Err(Failure::Address)), "{url}");
        }
    }
}
