//! Small requests to providers whose addresses are configured, within bounds of time and size.

use std::{path::Path, time::Duration};

use reqwest::{Certificate, Client, RequestBuilder, StatusCode, Url, redirect::Policy};
use zeroize::Zeroizing;

use crate::{
    error::{Context as _, Error, Result},
    keys::ProviderError,
};

const MAX_BYTES: usize = 64 * 1024;

/// `ca_file`: a certificate authority (PEM) to trust besides the system's; empty for none.
#[expect(
    clippy::disallowed_methods,
    reason = "asks configured addresses only, without redirects; each call has a deadline"
)]
pub(super) fn client(ca_setting: &'static str, ca_file: &Path) -> Result<Client> {
    let mut builder =
        Client::builder().connect_timeout(Duration::from_secs(5)).redirect(Policy::none()).user_agent("tenantry");
    if !ca_file.as_os_str().is_empty() {
        let unusable = || Error::invalid(ca_setting, format!("{} must be a certificate in PEM", ca_file.display()));
        let pem = std::fs::read(ca_file).map_err(|error| unusable().because(error))?;
        for certificate in Certificate::from_pem_bundle(&pem).map_err(|error| unusable().because(error))? {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build().context("set up the client of a key provider")
}

/// Keys travel over TLS, but for a provider on this machine.
pub(super) fn address(setting: &'static str, text: &str) -> Result<Url> {
    let url = Url::parse(text).map_err(|_| Error::invalid(setting, "is no address"))?;
    match (url.scheme(), url.host_str()) {
        ("https", Some(_)) | ("http", Some("localhost" | "127.0.0.1" | "[::1]")) => Ok(url),
        _ => Err(Error::invalid(setting, "must begin with https:// (http:// only for this machine)")),
    }
}

/// Sends, and reads a bounded body.
pub(super) async fn send(request: RequestBuilder) -> Result<(StatusCode, Zeroizing<Vec<u8>>), ProviderError> {
    let unreachable = |error: reqwest::Error| ProviderError::Unreachable(error.without_url().to_string());
    let mut response = request.send().await.map_err(unreachable)?;
    let mut body = Zeroizing::new(Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(ProviderError::Refused("its answer is larger than 64 KiB".to_owned()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((response.status(), body))
}

/// What a status says where the body says nothing more.
pub(super) fn failed(status: StatusCode, code: &str) -> ProviderError {
    let text = if code.is_empty() {
        format!("status {}", status.as_u16())
    } else {
        format!("status {}, {code}", status.as_u16())
    };
    match status {
        StatusCode::TOO_MANY_REQUESTS => ProviderError::Unreachable(text),
        status if status.is_server_error() => ProviderError::Unreachable(text),
        _ => ProviderError::Refused(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_travel_in_the_clear_on_this_machine_only() {
        for text in ["https://vault.example:8200", "http://127.0.0.1:8200", "http://[::1]:1", "http://localhost"] {
            address("a", text).unwrap();
        }
        for text in ["", "vault", "http://vault.example", "http://localhost.example", "http://a@vault", "file:///a"] {
            assert_eq!(address("a", text).unwrap_err().field(), Some("a"), "{text}");
        }
    }
}
