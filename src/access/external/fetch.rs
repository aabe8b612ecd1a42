//! One bounded look at where an issuer publishes its keys.

use std::{path::PathBuf, time::Duration};

use reqwest::{Client, Url, header::ACCEPT, redirect::Policy};
use tokio::io::AsyncReadExt as _;

use crate::{
    access::keyring::{Unusable, VerificationKey, verification_keys},
    error::{Context as _, Error, Result},
};

/// For the whole answer, connection and body included.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_BYTES: usize = 512 * 1024;

/// Where an issuer's key set is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    File(PathBuf),
    Address(Url),
}

#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("the file cannot be read")]
    File(#[from] std::io::Error),
    #[error("the address does not answer properly")]
    Network(#[from] reqwest::Error),
    #[error("the address answers with status {0}")]
    Status(u16),
    #[error("the key set is larger than 512 KiB")]
    TooLarge,
    #[error("the keys cannot be used")]
    Unusable(#[from] Unusable),
}

impl Place {
    /// Reads the setting `jwks`. Over plain HTTP anybody on the way could hand us keys, so it is for this machine only.
    pub(super) fn parse(text: &str) -> Result<Self> {
        const KEY: &str = "auth.external_issuers.jwks";
        if text.is_empty() {
            return Err(Error::invalid(KEY, "must be a file or an https address"));
        }
        if !text.contains("://") {
            return Ok(Self::File(text.into()));
        }
        let url = Url::parse(text).map_err(|_| Error::invalid(KEY, format!("{text:?} is no address")))?;
        match (url.scheme(), url.host_str()) {
            ("https", Some(_)) => Ok(Self::Address(url)),
            ("http", Some("localhost" | "127.0.0.1" | "[::1]")) => Ok(Self::Address(url)),
            _ => Err(Error::invalid(KEY, format!("{text:?} must begin with https:// (http:// only for localhost)"))),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            // Without a query, in which there may be a secret.
            Self::Address(url) => write!(f, "{}{}", url.origin().ascii_serialization(), url.path()),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "keys are fetched from configured addresses only, without redirects, within bounds of time and size"
)]
pub(super) fn client() -> Result<Client> {
    Client::builder()
        .timeout(TIMEOUT)
        .redirect(Policy::none())
        .user_agent("tenantry")
        .build()
        .context("set up the client for key sets")
}

pub(super) async fn fetch(client: &Client, place: &Place) -> Result<Vec<VerificationKey>, FetchError> {
    let json = match place {
        Place::File(path) => {
            let mut json = Vec::new();
            tokio::fs::File::open(path).await?.take(MAX_BYTES as u64 + 1).read_to_end(&mut json).await?;
            json
        }
        Place::Address(url) => download(client, url.clone()).await?,
    };
    if json.len() > MAX_BYTES {
        return Err(FetchError::TooLarge);
    }
    Ok(verification_keys(&json)?)
}

async fn download(client: &Client, url: Url) -> Result<Vec<u8>, FetchError> {
    let request = client.get(url).header(ACCEPT, "application/jwk-set+json, application/json");
    let mut response = request.send().await.map_err(reqwest::Error::without_url)?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(FetchError::Status(response.status().as_u16()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_BYTES {
            return Err(FetchError::TooLarge);
        }
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for text in
            ["https://idp.example/jwks", "http://localhost:8080/jwks", "http://127.0.0.1/jwks", "http://[::1]:1/jwks"]
        {
            assert!(matches!(Place::parse(text), Ok(Place::Address(_))), "{text}");
        }
        for text in [
            "",
            "http://idp.example/jwks",
            "http://127.0.0.1.evil.example/",
            "http://localhost@evil.example/",
            "file:///etc/passwd",
            "ftp://a/b",
            "https://",
        ] {
            assert!(Place::parse(text).is_err(), "{text}");
        }
        assert!(matches!(Place::parse("/etc/tenantry/jwks.json"), Ok(Place::File(_))));
    }

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        let place = Place::parse("https://user:password@idp.example/jwks?key=secret").expect("an address");
        assert_eq!(place.to_string(), "https://idp.example/jwks");
    }
}
