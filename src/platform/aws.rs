//! What requests to AWS are signed with: Signature Version 4 (AWS General Reference, "Create a signed AWS API request").

use aws_lc_rs::{
    digest::{SHA256, digest},
    hmac::{self, HMAC_SHA256},
};
use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::secret::Secret;

/// Who signs.
#[derive(Clone, Debug, Deserialize)]
pub struct Credentials {
    #[serde(rename = "AccessKeyId")]
    pub access_key_id: String,
    #[serde(rename = "SecretAccessKey")]
    pub secret_access_key: Secret,
    /// Empty where the credentials are no session's.
    #[serde(rename = "Token", default)]
    pub session_token: Secret,
}

/// A request to be signed. Paths that need no escaping alone.
#[derive(Debug)]
pub struct Signed<'a> {
    pub method: &'a str,
    pub path: &'a str,
    /// `a=b&c=d`, sorted.
    pub query: &'a str,
    /// Small letters, sorted by name; `host` and `x-amz-date` are among them.
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
    pub region: &'a str,
    pub service: &'a str,
    pub at: DateTime<Utc>,
}

/// A time as `X-Amz-Date` has it.
pub fn stamp(at: DateTime<Utc>) -> String {
    at.format("%Y%m%dT%H%M%SZ").to_string()
}

impl Signed<'_> {
    /// The value of the header `Authorization`.
    pub fn authorization(&self, credentials: &Credentials) -> String {
        let date = self.at.format("%Y%m%d").to_string();
        let scope = format!("{date}/{}/{}/aws4_request", self.region, self.service);
        let names: Vec<_> = self.headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let text =
            format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{}", stamp(self.at), hash(self.canonical(&names).as_bytes()));
        let mut key = mac(format!("AWS4{}", credentials.secret_access_key.expose()).as_bytes(), date.as_bytes());
        for part in [self.region, self.service, "aws4_request"] {
            key = mac(key.as_ref(), part.as_bytes());
        }
        let signature = hex(mac(key.as_ref(), text.as_bytes()).as_ref());
        let id = &credentials.access_key_id;
        format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}")
    }

    fn canonical(&self, names: &str) -> String {
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        format!("{}\n{}\n{}\n{headers}\n{names}\n{}", self.method, self.path, self.query, hash(self.body))
    }
}

fn mac(key: &[u8], text: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(HMAC_SHA256, key), text)
}

fn hash(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of the AWS General Reference: ListUsers of IAM.
    #[test]
    fn the_published_example_is_signed_as_published() {
        let credentials = Credentials {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            session_token: Secret::default(),
        };
        let headers = [
            ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
            ("host", "iam.amazonaws.com"),
            ("x-amz-date", "20150830T123600Z"),
        ];
        let signed = Signed {
            method: "GET",
            path: "/",
            query: "Action=ListUsers&Version=2010-05-08",
            headers: &headers,
            body: b"",
            region: "us-east-1",
            service: "iam",
            at: "2015-08-30T12:36:00Z".parse().unwrap(),
        };
        assert_eq!(
            signed.authorization(&credentials),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }
}
