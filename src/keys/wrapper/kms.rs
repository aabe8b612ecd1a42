//! AWS KMS by its JSON API (AWS Key Management Service API Reference), signed by hand: five calls do not pay for the SDK.
//!
//! Needs `kms:CreateKey`, `TagResource`, `CreateAlias`, `DeleteAlias`, `DescribeKey`, `Encrypt`, `Decrypt`, `ScheduleKeyDeletion`.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{Client, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    WrappingKey,
    http::{self, failed},
    name,
};
use crate::{
    config,
    error::{Context as _, Error, Result},
    keys::{DataKey, KeyVersion, ProviderError},
    platform::{
        aws::{Credentials, Signed, stamp},
        clock::Clock,
        ids::TenantId,
        secret::Secret,
    },
};

const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

pub struct Kms {
    client: Client,
    endpoint: Url,
    host: String,
    settings: config::Kms,
    clock: Clock,
}

impl std::fmt::Debug for Kms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kms({})", self.host)
    }
}

#[derive(Deserialize)]
struct Described {
    #[serde(rename = "KeyMetadata")]
    key: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "KeyId")]
    id: String,
}

#[derive(Deserialize)]
struct Encrypted {
    #[serde(rename = "CiphertextBlob")]
    ciphertext: String,
}

#[derive(Deserialize)]
struct Decrypted {
    #[serde(rename = "Plaintext")]
    plaintext: Secret,
}

/// KMS's own name of an error, or none.
#[derive(Default, Deserialize)]
struct Failure {
    #[serde(rename = "__type", default)]
    kind: String,
}

/// What a call came to.
enum Done {
    Yes(Zeroizing<Vec<u8>>),
    /// A refusal of KMS, by its name.
    No(String, ProviderError),
}

impl Kms {
    pub(super) fn new(settings: &config::Kms, clock: &Clock) -> Result<Self> {
        let text = if settings.endpoint.is_empty() {
            format!("https://kms.{}.amazonaws.com/", settings.region)
        } else {
            settings.endpoint.clone()
        };
        let endpoint = http::address("keys.kms.endpoint", &text)?;
        if !settings.credentials_url.is_empty() && Url::parse(&settings.credentials_url).is_err() {
            return Err(Error::invalid("keys.kms.credentials_url", "is no address"));
        }
        let host = endpoint.host_str().context("an address has a host")?;
        let host = endpoint.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let client = http::client("keys.kms.ca_file", &settings.ca_file)?;
        Ok(Self { client, endpoint, host, settings: settings.clone(), clock: clock.clone() })
    }

    /// Found by its alias. Of replicas that make one at the same moment, the alias keeps the first's; the others' are deleted.
    pub(super) async fn ensure(&self, tenant: TenantId, generation: i64) -> Result<String, ProviderError> {
        let alias = self.alias(tenant, generation);
        if let Some(id) = self.describe(&alias).await? {
            return Ok(id);
        }
        let tags = json!([
            { "TagKey": "tenantry:tenant", "TagValue": tenant },
            { "TagKey": "tenantry:generation", "TagValue": generation.to_string() },
        ]);
        let made = json!({ "Description": "Tenantry: wraps the data keys of a tenant", "Tags": tags });
        let made: Described = self.expect("CreateKey", &made).await?;
        let named = json!({ "AliasName": alias, "TargetKeyId": made.key.id });
        match self.call("CreateAlias", &named).await? {
            Done::Yes(_) => Ok(made.key.id),
            Done::No(kind, _) if kind == "AlreadyExistsException" => {
                self.schedule_deletion(&made.key.id).await?;
                self.describe(&alias).await?.ok_or_else(|| ProviderError::Refused("an alias vanished".to_owned()))
            }
            Done::No(_, error) => Err(error),
        }
    }

    pub(super) async fn wrap(
        &self,
        by: &WrappingKey,
        version: KeyVersion,
        key: &DataKey,
    ) -> Result<Vec<u8>, ProviderError> {
        let plaintext = Zeroizing::new(STANDARD.encode(key.expose()));
        let body = json!({ "KeyId": by.reference, "Plaintext": *plaintext, "EncryptionContext": context(by, version) });
        let encrypted: Encrypted = self.expect("Encrypt", &body).await?;
        STANDARD.decode(encrypted.ciphertext).map_err(|_| not_kms())
    }

    pub(super) async fn unwrap(
        &self,
        by: &WrappingKey,
        version: KeyVersion,
        wrapped: &[u8],
    ) -> Result<DataKey, ProviderError> {
        let body = json!({
            "KeyId": by.reference,
            "CiphertextBlob": STANDARD.encode(wrapped),
            "EncryptionContext": context(by, version),
        });
        let answer = match self.call("Decrypt", &body).await? {
            Done::Yes(answer) => answer,
            // About this key alone: the wrong one, disabled, being deleted, gone.
            Done::No(kind, _)
                if [
                    "InvalidCiphertextException",
                    "IncorrectKeyException",
                    "DisabledException",
                    "KMSInvalidStateException",
                    "NotFoundException",
                ]
                .contains(&&*kind) =>
            {
                return Err(ProviderError::NotOpened(kind));
            }
            Done::No(_, error) => return Err(error),
        };
        let decrypted: Decrypted = serde_json::from_slice(&answer).map_err(|_| not_kms())?;
        let bytes = Zeroizing::new(STANDARD.decode(decrypted.plaintext.expose()).unwrap_or_default());
        DataKey::from_bytes(bytes).ok_or_else(|| ProviderError::NotOpened("it is no key of 32 bytes".to_owned()))
    }

    /// KMS destroys a key after a time in which it can be called back; it opens nothing from now on.
    pub(super) async fn destroy(&self, key: &WrappingKey) -> Result<(), ProviderError> {
        let alias = json!({ "AliasName": self.alias(key.tenant, key.generation) });
        match self.call("DeleteAlias", &alias).await? {
            Done::No(kind, error) if kind != "NotFoundException" => return Err(error),
            _ => {}
        }
        self.schedule_deletion(&key.reference).await
    }

    async fn schedule_deletion(&self, id: &str) -> Result<(), ProviderError> {
        let body = json!({ "KeyId": id, "PendingWindowInDays": self.settings.deletion_days });
        match self.call("ScheduleKeyDeletion", &body).await? {
            // Gone, or on its way.
            Done::No(kind, error) if !["NotFoundException", "KMSInvalidStateException"].contains(&&*kind) => Err(error),
            _ => Ok(()),
        }
    }

    async fn describe(&self, alias: &str) -> Result<Option<String>, ProviderError> {
        match self.call("DescribeKey", &json!({ "KeyId": alias })).await? {
            Done::Yes(answer) => {
                let described: Described = serde_json::from_slice(&answer).map_err(|_| not_kms())?;
                Ok(Some(described.key.id))
            }
            Done::No(kind, _) if kind == "NotFoundException" => Ok(None),
            Done::No(_, error) => Err(error),
        }
    }

    fn alias(&self, tenant: TenantId, generation: i64) -> String {
        format!("alias/{}", name(&self.settings.alias_prefix, tenant, generation))
    }

    async fn expect<T: serde::de::DeserializeOwned>(&self, action: &str, body: &Value) -> Result<T, ProviderError> {
        match self.call(action, body).await? {
            Done::Yes(answer) => serde_json::from_slice(&answer).map_err(|_| not_kms()),
            Done::No(_, error) => Err(error),
        }
    }

    async fn call(&self, action: &str, body: &Value) -> Result<Done, ProviderError> {
        let credentials = self.credentials().await?;
        let body = Zeroizing::new(body.to_string().into_bytes());
        let (at, target) = (self.clock.now(), format!("TrentService.{action}"));
        let date = stamp(at);
        let mut headers = vec![("content-type", CONTENT_TYPE), ("host", &*self.host), ("x-amz-date", &*date)];
        if !credentials.session_token.is_empty() {
            headers.push(("x-amz-security-token", credentials.session_token.expose()));
        }
        headers.push(("x-amz-target", &target));
        let signed = Signed {
            method: "POST",
            path: "/",
            query: "",
            headers: &headers,
            body: &body,
            region: &self.settings.region,
            service: "kms",
            at,
        };
        let mut request =
            self.client.post(self.endpoint.clone()).header("authorization", signed.authorization(&credentials));
        for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
            let mut value = reqwest::header::HeaderValue::try_from(*value)
                .map_err(|_| ProviderError::Refused("the credentials hold what no header can".to_owned()))?;
            value.set_sensitive(*name == "x-amz-security-token");
            request = request.header(*name, value);
        }
        let (status, answer) = http::send(request.body(body.to_vec())).await?;
        if status.is_success() {
            return Ok(Done::Yes(answer));
        }
        let failure: Failure = serde_json::from_slice(&answer).unwrap_or_default();
        let kind = failure.kind.rsplit('#').next().unwrap_or_default().to_owned();
        let overloaded = ["Throttling", "KMSInternal", "DependencyTimeout", "Unavailable"];
        let error = match failed(status, &kind) {
            ProviderError::Refused(text) if overloaded.iter().any(|name| kind.contains(name)) => {
                ProviderError::Unreachable(text)
            }
            error => error,
        };
        Ok(Done::No(kind, error))
    }

    /// The configured ones, or those that the container's credentials endpoint gives (ECS, EKS Pod Identity).
    async fn credentials(&self) -> Result<Credentials, ProviderError> {
        let settings = &self.settings;
        if settings.credentials_url.is_empty() {
            return Ok(Credentials {
                access_key_id: settings.access_key_id.clone(),
                secret_access_key: settings.secret_access_key.clone(),
                session_token: settings.session_token.clone(),
            });
        }
        let mut request = self.client.get(&settings.credentials_url);
        if !settings.credentials_token_file.as_os_str().is_empty() {
            let token = tokio::fs::read_to_string(&settings.credentials_token_file).await.map_err(|error| {
                ProviderError::Refused(format!("keys.kms.credentials_token_file cannot be read: {error}"))
            })?;
            let mut token = reqwest::header::HeaderValue::try_from(Zeroizing::new(token).trim())
                .map_err(|_| ProviderError::Refused("the token holds what no header can".to_owned()))?;
            token.set_sensitive(true);
            request = request.header("authorization", token);
        }
        let (status, body) = http::send(request).await?;
        if !status.is_success() {
            return Err(failed(status, "of keys.kms.credentials_url"));
        }
        serde_json::from_slice(&body)
            .map_err(|_| ProviderError::Refused("keys.kms.credentials_url gives no credentials".to_owned()))
    }
}

/// What a wrapped data key is bound to.
fn context(by: &WrappingKey, version: KeyVersion) -> BTreeMap<&'static str, String> {
    BTreeMap::from([("tenantry:tenant", by.tenant.to_string()), ("tenantry:version", version.to_string())])
}

fn not_kms() -> ProviderError {
    ProviderError::Refused("its answer is not KMS's".to_owned())
}
