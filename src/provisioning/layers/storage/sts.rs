//! Credentials of S3 for one tenant's folder alone: AssumeRole of AWS STS with a session policy (AWS Security Token Service API
//! Reference). What they may do is what both the role and the policy allow.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use object_store::path::Path;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Url, redirect::Policy};
use serde_json::{Value, json};

use super::super::super::{Credential, IssueOrder, Names};
use crate::{
    config,
    error::{Context as _, Error, Kind, Result},
    platform::{
        aws::{Credentials, Signed, stamp},
        clock::Clock,
        secret::Secret,
    },
};

const FORM: &str = "application/x-www-form-urlencoded";
/// The shortest session that STS gives.
const SHORTEST: i64 = 900;
const LONGEST_ANSWER: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Sts {
    client: Client,
    endpoint: Url,
    region: String,
    credentials: Credentials,
    role: String,
    bucket: String,
    base: Path,
    ttl: Duration,
    clock: Clock,
}

impl Sts {
    /// `None` where no role is named.
    pub(super) fn new(
        settings: &config::Storage,
        bucket: Option<String>,
        base: &Path,
        clock: &Clock,
    ) -> Result<Option<Self>> {
        if settings.role_arn.is_empty() {
            return Ok(None);
        }
        let bucket = bucket.ok_or_else(|| Error::invalid("storage.role_arn", "is for S3 alone"))?;
        let option = |name: &str| settings.options.get(name).cloned().unwrap_or_default();
        let needed = |name: &str| match option(name) {
            value if value.is_empty() => {
                Err(Error::invalid(format!("storage.options.{name}"), "is needed with storage.role_arn"))
            }
            value => Ok(value),
        };
        let region = needed("aws_region")?.expose().to_owned();
        let endpoint = match settings.sts_endpoint.as_str() {
            "" => format!("https://sts.{region}.amazonaws.com/"),
            endpoint => endpoint.to_owned(),
        };
        let endpoint = Url::parse(&endpoint).map_err(|_| Error::invalid("storage.sts_endpoint", "is no address"))?;
        let credentials = Credentials {
            access_key_id: needed("aws_access_key_id")?.expose().to_owned(),
            secret_access_key: needed("aws_secret_access_key")?,
            session_token: option("aws_session_token"),
        };
        Ok(Some(Self {
            client: client()?,
            endpoint,
            region,
            credentials,
            role: settings.role_arn.clone(),
            bucket,
            base: base.clone(),
            ttl: settings.credential_ttl,
            clock: clock.clone(),
        }))
    }

    /// A session of the role, narrowed to the tenant's folder. Nobody can end it before its time.
    pub(super) async fn assume(&self, names: &Names, order: &IssueOrder) -> Result<Credential> {
        let now = self.clock.now();
        let ttl = TimeDelta::from_std(self.ttl).unwrap_or(TimeDelta::MAX).min(order.valid_until - now);
        let seconds = ttl.num_seconds().max(SHORTEST);
        let policy = policy(&self.role, &self.bucket, &self.base, names).to_string();
        let form = [
            ("Action", "AssumeRole"),
            ("DurationSeconds", &seconds.to_string()),
            ("Policy", &policy),
            ("RoleArn", &self.role),
            ("RoleSessionName", names.stem()),
            ("Version", "2011-06-15"),
        ];
        let answer = self.post(encoded(&form), now).await?;
        let part = |name: &str| between(&answer, name).ok_or_else(|| failed("answers without what was asked for"));
        let secret = json!({ "secretAccessKey": part("SecretAccessKey")?, "sessionToken": part("SessionToken")? });
        let ends: DateTime<Utc> =
            part("Expiration")?.parse().map_err(|_| failed("answers with an end that is no time"))?;
        let details = [
            ("accessKeyId", part("AccessKeyId")?.to_owned()),
            ("bucket", self.bucket.clone()),
            ("region", self.region.clone()),
        ];
        let details: BTreeMap<_, _> = details.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        // By our clock, in case that theirs is ahead.
        let valid_until = ends.min(order.valid_until).min(now + TimeDelta::seconds(seconds));
        Ok(Credential { details, secret: Secret::new(secret.to_string()), valid_until })
    }

    async fn post(&self, body: String, at: DateTime<Utc>) -> Result<String> {
        let authority = match (self.endpoint.host_str().unwrap_or_default(), self.endpoint.port()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        };
        let date = stamp(at);
        let mut headers = vec![("content-type", FORM), ("host", &*authority), ("x-amz-date", &*date)];
        let token = &self.credentials.session_token;
        if !token.is_empty() {
            headers.push(("x-amz-security-token", token.expose()));
        }
        let signed = Signed {
            method: "POST",
            path: "/",
            query: "",
            headers: &headers,
            body: body.as_bytes(),
            region: &self.region,
            service: "sts",
            at,
        };
        let mut request =
            self.client.post(self.endpoint.clone()).header("authorization", signed.authorization(&self.credentials));
        for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
            request = request.header(*name, *value);
        }
        let unreachable = |error: reqwest::Error| failed("cannot be reached").because(error.without_url());
        let mut response = request.body(body).send().await.map_err(unreachable)?;
        let status = response.status();
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            answer.extend_from_slice(&chunk);
            if answer.len() > LONGEST_ANSWER {
                return Err(failed("answers too much"));
            }
        }
        if status.is_success() {
            return Ok(String::from_utf8_lossy(&answer).into_owned());
        }
        let answer = String::from_utf8_lossy(&answer);
        let code = between(&answer, "Code").unwrap_or_default();
        Err(failed("refuses the role; look at storage.role_arn and at who may assume it")
            .because(format!("status {status} {code}")))
    }
}

/// Escaped as in what is signed (RFC 3986): a `*` is, too, which forms of browsers leave as it is.
fn encoded(form: &[(&str, &str)]) -> String {
    const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    let pairs: Vec<_> =
        form.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, ESCAPED))).collect();
    pairs.join("&")
}

#[expect(clippy::disallowed_methods, reason = "asks a configured address only, without redirects, and with a deadline")]
fn client() -> Result<Client> {
    let patience = Duration::from_secs(10);
    Client::builder()
        .timeout(patience)
        .redirect(Policy::none())
        .user_agent("tenantry")
        .build()
        .context("set up the client of STS")
}

fn failed(what: &str) -> Error {
    Error::new(Kind::Unavailable, format!("the token service of the storage {what}"))
}

/// Objects below the tenant's folder, and the list of those; the mark of the folder can be read alone.
fn policy(role: &str, bucket: &str, base: &Path, names: &Names) -> Value {
    // `aws`, `aws-cn` or `aws-us-gov`.
    let partition = role.split(':').nth(1).unwrap_or("aws");
    let folder = base.clone().join(names.stem());
    let bucket = format!("arn:{partition}:s3:::{bucket}");
    json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Resource": format!("{bucket}/{folder}/*"),
          "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"] },
        { "Effect": "Allow", "Action": "s3:ListBucket", "Resource": bucket,
          "Condition": { "StringLike": { "s3:prefix": [format!("{folder}/*")] } } },
        { "Effect": "Deny", "Action": ["s3:PutObject", "s3:DeleteObject"], "Resource": format!("{bucket}/{folder}/{}", super::MARK) },
    ] })
}

/// The text of an element that has no others in it; what STS answers needs no escaping.
fn between<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once('<')?.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::ids::TenantId;

    #[test]
    fn a_session_reaches_the_tenants_own_folder_alone() {
        let names = Names::of(TenantId::generate());
        let policy = policy("arn:aws-cn:iam::1:role/tenants", "objects", &Path::from("live"), &names);
        let folder = format!("live/{}", names.stem());
        for statement in policy["Statement"].as_array().unwrap() {
            let resource = statement["Resource"].as_str().unwrap();
            let listed = statement["Condition"]["StringLike"]["s3:prefix"][0].as_str();
            assert!(resource.starts_with("arn:aws-cn:s3:::objects"), "{statement}");
            // Either objects below the folder, or a list that is limited to it. A `*` stands at the end alone, behind a `/`.
            assert_eq!(listed.is_none(), resource.contains(&format!("/{folder}/")), "{statement}");
            assert!(listed.is_none_or(|listed| listed == format!("{folder}/*")), "{statement}");
            assert!(!statement["Action"].to_string().contains('*'), "{statement}");
        }
        assert!(policy.to_string().len() <= 2048, "STS takes no longer one");
    }
}
