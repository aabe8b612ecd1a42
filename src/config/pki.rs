//! TLS of the server's own, certificates of clients, and where what they name may be asked for.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use serde::Deserialize;

use super::{ConfigError, duration, rule};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// `None` where it is empty: no TLS.
    #[serde(deserialize_with = "optional_address")]
    pub listen: Option<SocketAddr>,
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
    #[serde(deserialize_with = "duration")]
    pub reload: Duration,
    pub client_certificate_header: String,
    pub client_certificate_proxies: Vec<IpNet>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pki {
    pub private_networks: Vec<IpNet>,
    #[serde(deserialize_with = "duration")]
    pub fetch_timeout: Duration,
}

impl Tls {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let has_files = !self.certificate_file.as_os_str().is_empty() && !self.key_file.as_os_str().is_empty();
        let (file, key) = (self.certificate_file.display(), "tls.certificate_file");
        rule(
            self.listen.is_none() || has_files,
            key,
            &file.to_string(),
            "and tls.key_file must be set where tls.listen is",
        )?;
        rule(self.reload >= Duration::from_millis(100), "tls.reload", &self.reload, "must be at least 100ms")?;
        let header = &self.client_certificate_header;
        let is_name = header.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        let known = ["authorization", "cookie", "host", "content-length", "content-type", "transfer-encoding"];
        rule(
            is_name && !known.contains(&header.as_str()),
            "tls.client_certificate_header",
            header,
            "must be the name of a header of its own in small letters, or empty",
        )
    }
}

impl Pki {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let (least, most) = (Duration::from_millis(100), Duration::from_secs(30));
        rule(
            (least..=most).contains(&self.fetch_timeout),
            "pki.fetch_timeout",
            &self.fetch_timeout,
            "must be between 100ms and 30s",
        )
    }
}

fn optional_address<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| serde::de::Error::custom("must be an address and a port, or empty"))
}
