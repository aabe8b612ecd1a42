//! Requests to addresses that tenants, or what they bring, name: the one client for them. It resolves first, and speaks to no private,
//! loopback, link-local or metadata address unless the operator allows its network; it follows no redirect and takes no more than it was told
//! to, in bytes and in time.

use std::{
    net::{IpAddr, SocketAddr},
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

use super::reach::Reach;
use crate::error::{Context as _, Result};

/// Clones share it.
#[derive(Clone, Debug)]
pub struct Outbound {
    client: Client,
    reach: Reach,
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
        let reach = Reach::new(allowed);
        let client = Client::builder()
            .timeout(timeout)
            .redirect(Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(Public { reach: reach.clone() }))
            .user_agent("tenantry")
            .build()
            .context("set up the client for addresses of tenants")?;
        Ok(Self { client, reach })
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
            Ok(address) if !self.reach.allows(address) => Err(Failure::Address),
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
    reach: Reach,
}

#[derive(Debug, thiserror::Error)]
#[error("the host is at an address that may not be asked")]
struct NotPublic;

impl Resolve for Public {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.reach.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            // One that may not be asked among others is an attempt to be asked there: all or nothing.
            if found.iter().any(|address| !reach.allows(address.ip())) {
                return Err(NotPublic.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
