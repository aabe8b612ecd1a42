//! The transit secrets engine of HashiCorp Vault and OpenBao, by its HTTP API (their documentation, "Transit secrets engine").
//!
//! Needs a policy with `create`, `read`, `update` and `delete` on `<mount>/keys/<prefix>*` and `<mount>/keys/<prefix>*/config`, and
//! `update` on `<mount>/encrypt/<prefix>*` and `<mount>/decrypt/<prefix>*`.

use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{Client, Method, StatusCode, Url};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    WrappingKey,
    http::{self, failed},
    name, purpose,
};
use crate::{
    config,
    error::Result,
    keys::{DataKey, KeyVersion, ProviderError},
    platform::{ids::TenantId, secret::Secret},
};

pub struct Transit {
    client: Client,
    base: Url,
    namespace: String,
    token_file: PathBuf,
    token: Secret,
    prefix: String,
}

impl std::fmt::Debug for Transit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transit({})", self.base.origin().ascii_serialization())
    }
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Encrypted {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Decrypted {
    plaintext: Secret,
}

impl Transit {
    pub(super) fn new(settings: &config::Transit) -> Result<Self> {
        let address = settings.address.trim_end_matches('/');
        Ok(Self {
            client: http::client("keys.transit.ca_file", &settings.ca_file)?,
            base: http::address(
                "keys.transit.address",
                &format!("{address}/v1/{}/", settings.mount.trim_matches('/')),
            )?,
            namespace: settings.namespace.clone(),
            token_file: settings.token_file.clone(),
            token: settings.token.clone(),
            prefix: settings.key_prefix.clone(),
        })
    }

    /// A key that is there is left as it is.
    pub(super) async fn ensure(&self, tenant: TenantId, generation: i64) -> Result<String, ProviderError> {
        let name = name(&self.prefix, tenant, generation);
        let (status, _) = self.send(Method::POST, &format!("keys/{name}"), &json!({ "type": "aes256-gcm96" })).await?;
        if status.is_success() { Ok(name) } else { Err(failed(status, "at making a key")) }
    }

    pub(super) async fn wrap(
        &self,
        by: &WrappingKey,
        version: KeyVersion,
        key: &DataKey,
    ) -> Result<Vec<u8>, ProviderError> {
        let plaintext = Zeroizing::new(STANDARD.encode(key.expose()));
        let body = json!({ "plaintext": *plaintext, "associated_data": bound(by, version) });
        let (status, body) = self.send(Method::POST, &format!("encrypt/{}", by.reference), &body).await?;
        Ok(read::<Encrypted>(status, &body)?.ciphertext.into_bytes())
    }

    pub(super) async fn unwrap(
        &self,
        by: &WrappingKey,
        version: KeyVersion,
        wrapped: &[u8],
    ) -> Result<DataKey, ProviderError> {
        let ciphertext = std::str::from_utf8(wrapped).map_err(|_| ProviderError::NotOpened("no text".to_owned()))?;
        let body = json!({ "ciphertext": ciphertext, "associated_data": bound(by, version) });
        let (status, body) = self.send(Method::POST, &format!("decrypt/{}", by.reference), &body).await?;
        if status == StatusCode::BAD_REQUEST {
            return Err(ProviderError::NotOpened("status 400".to_owned()));
        }
        let decrypted: Decrypted = read(status, &body)?;
        let bytes = Zeroizing::new(STANDARD.decode(decrypted.plaintext.expose()).unwrap_or_default());
        DataKey::from_bytes(bytes).ok_or_else(|| ProviderError::NotOpened("it is no key of 32 bytes".to_owned()))
    }

    /// A key of transit must be told that it may be deleted. Another server may be faster at any point.
    pub(super) async fn destroy(&self, key: &WrappingKey) -> Result<(), ProviderError> {
        let path = format!("keys/{}", key.reference);
        if self.is_gone(&path).await? {
            return Ok(());
        }
        for (method, request, body) in [
            (Method::POST, format!("{path}/config"), json!({ "deletion_allowed": true })),
            (Method::DELETE, path.clone(), Value::Null),
        ] {
            let (status, _) = self.send(method, &request, &body).await?;
            if !status.is_success() {
                // What is not there is refused with 400, as much else is.
                let is_gone = self.is_gone(&path).await?;
                return if is_gone { Ok(()) } else { Err(failed(status, "at deleting a key")) };
            }
        }
        Ok(())
    }

    async fn is_gone(&self, path: &str) -> Result<bool, ProviderError> {
        let (status, _) = self.send(Method::GET, path, &Value::Null).await?;
        match status {
            StatusCode::NOT_FOUND => Ok(true),
            status if status.is_success() => Ok(false),
            status => Err(failed(status, "at reading a key")),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<(StatusCode, Zeroizing<Vec<u8>>), ProviderError> {
        let url =
            self.base.join(path).map_err(|_| ProviderError::Refused("the name of a key is no path".to_owned()))?;
        let mut token = reqwest::header::HeaderValue::try_from(self.token().await?.expose())
            .map_err(|_| ProviderError::Refused("the token holds what no header can".to_owned()))?;
        token.set_sensitive(true);
        let mut request =
            self.client.request(method, url).header("X-Vault-Token", token).header("X-Vault-Request", "true");
        if !self.namespace.is_empty() {
            request = request.header("X-Vault-Namespace", &self.namespace);
        }
        if !body.is_null() {
            request = request.json(body);
        }
        http::send(request).await
    }

    /// Read anew each time: an agent beside the server renews it.
    async fn token(&self) -> Result<Secret, ProviderError> {
        if self.token_file.as_os_str().is_empty() {
            return Ok(self.token.clone());
        }
        match tokio::fs::read_to_string(&self.token_file).await {
            Ok(text) => Ok(Secret::new(Zeroizing::new(text).trim())),
            Err(error) => Err(ProviderError::Refused(format!("keys.transit.token_file cannot be read: {error}"))),
        }
    }
}

fn bound(by: &WrappingKey, version: KeyVersion) -> String {
    STANDARD.encode(purpose(by.tenant, version))
}

fn read<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> Result<T, ProviderError> {
    if !status.is_success() {
        return Err(failed(status, ""));
    }
    let answer: Answer<T> =
        serde_json::from_slice(body).map_err(|_| ProviderError::Refused("its answer is not transit's".to_owned()))?;
    Ok(answer.data)
}
