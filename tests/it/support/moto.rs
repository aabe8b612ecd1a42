//! AWS KMS, S3 and STS as moto (PyPI) plays them, with IAM that checks every signature. Of a session's policy moto's IAM knows nothing:
//! there, a session may do what its role may.

use std::{
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

use reqwest::header::AUTHORIZATION;

/// A running server; dropped, it ends.
pub struct Moto {
    child: Child,
    pub address: String,
    access_key_id: String,
    secret_access_key: String,
}

/// Actions before signatures are checked: a user, its policy, its key; a role, its policy, a bucket.
const UNCHECKED: usize = 3;
const UNCHECKED_WITH_STORAGE: usize = 6;

impl Moto {
    /// `None` where there is no moto.
    pub async fn start() -> Option<Self> {
        Self::with(UNCHECKED).await
    }

    /// With the bucket `objects`, and the role `tenants` that reaches all of it.
    pub async fn with_storage() -> Option<Self> {
        let started = Self::with(UNCHECKED_WITH_STORAGE).await?;
        let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"AWS":"*"}}]}"#;
        let role = [("Action", "CreateRole"), ("RoleName", "tenants"), ("AssumeRolePolicyDocument", trust)];
        started.iam(&role).await;
        let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#;
        let reach =
            [("Action", "PutRolePolicy"), ("RoleName", "tenants"), ("PolicyName", "s3"), ("PolicyDocument", policy)];
        started.iam(&reach).await;
        started.make_bucket().await;
        Some(started)
    }

    #[expect(clippy::disallowed_methods, reason = "the suite's own client")]
    async fn make_bucket(&self) {
        let scope =
            "AWS4-HMAC-SHA256 Credential=none/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=none";
        let request = reqwest::Client::new().put(format!("{}/objects", self.address)).header(AUTHORIZATION, scope);
        let made = request.send().await.unwrap();
        assert!(made.status().is_success(), "{made:?}");
    }

    /// The settings (TOML) of a server that keeps objects there; `at` may be a proxy's address.
    pub fn storage_settings(&self, at: &str) -> String {
        let (id, secret, sts) = (&self.access_key_id, &self.secret_access_key, &self.address);
        format!(
            "[storage]\nurl = \"s3://objects/live\"\nrole_arn = \"arn:aws:iam::123456789012:role/tenants\"\nsts_endpoint = \"{sts}\"\n\
             [storage.options]\naws_region = \"us-east-1\"\naws_endpoint = \"{at}\"\naws_allow_http = \"true\"\n\
             aws_access_key_id = \"{id}\"\naws_secret_access_key = \"{secret}\"\n"
        )
    }

    /// The policy that STS was last told to narrow a session of this name to.
    #[expect(clippy::disallowed_methods, reason = "the suite's own client")]
    pub async fn session_policy(&self, session: &str) -> String {
        let told = reqwest::get(format!("{}/moto-api/data.json", self.address)).await.unwrap();
        let told: serde_json::Value = told.json().await.unwrap();
        let all = told["sts"]["AssumedRole"].as_array().unwrap();
        let last = all.iter().rfind(|one| one["session_name"] == session).unwrap();
        last["policy"].as_str().unwrap().to_owned()
    }

    /// From now on all sessions may do what this policy says: moto holds roles to policies, though not their sessions.
    pub async fn narrow_role(&self, policy: &str) {
        let action = [("Action", "PutRolePolicy"), ("RoleName", "tenants"), ("PolicyName", "s3")];
        self.unchecked(async || self.iam(&[&action[..], &[("PolicyDocument", policy)]].concat()).await).await;
    }

    /// Names of all objects that are there, whoever may see them.
    #[expect(clippy::disallowed_methods, reason = "the suite's own client")]
    pub async fn objects(&self) -> Vec<String> {
        let client = reqwest::Client::new();
        let scope =
            "AWS4-HMAC-SHA256 Credential=none/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=none";
        let listed = self
            .unchecked(async || {
                let list = client.get(format!("{}/objects?list-type=2", self.address)).header(AUTHORIZATION, scope);
                list.send().await.unwrap().text().await.unwrap()
            })
            .await;
        assert!(listed.contains("<ListBucketResult"), "{listed}");
        listed.split("<Key>").skip(1).map(|rest| rest.split('<').next().unwrap().to_owned()).collect()
    }

    /// Asks without credentials. Moto lets the next request through, and that may be another's: then it is asked again.
    #[expect(clippy::disallowed_methods, reason = "the suite's own client")]
    async fn unchecked(&self, ask: impl AsyncFn() -> String) -> String {
        let client = reqwest::Client::new();
        for _ in 0..100 {
            let uncheck = client.post(format!("{}/moto-api/reset-auth", self.address)).body("1");
            assert!(uncheck.send().await.unwrap().status().is_success());
            let answer = ask().await;
            if !answer.contains("InvalidAccessKeyId") && !answer.contains("InvalidClientTokenId") {
                return answer;
            }
        }
        panic!("others ask moto all the time");
    }

    async fn with(unchecked: usize) -> Option<Self> {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new("moto_server")
            .args(["-H", "127.0.0.1", "-p", &free.port().to_string()])
            .env("INITIAL_NO_AUTH_ACTION_COUNT", unchecked.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut started = Self {
            child,
            address: format!("http://{free}"),
            access_key_id: String::new(),
            secret_access_key: String::new(),
        };
        for _ in 0..3000 {
            if TcpStream::connect(free).is_ok() {
                started.make_user().await;
                return Some(started);
            }
            if started.child.try_wait().unwrap().is_some() {
                return None; // a name without a program behind it
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("moto does not start");
    }

    async fn make_user(&mut self) {
        let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["kms:*","s3:*","sts:AssumeRole"],"Resource":"*"}]}"#;
        self.iam(&[("Action", "CreateUser"), ("UserName", "tenantry")]).await;
        self.iam(&[
            ("Action", "PutUserPolicy"),
            ("UserName", "tenantry"),
            ("PolicyName", "kms"),
            ("PolicyDocument", policy),
        ])
        .await;
        let made = self.iam(&[("Action", "CreateAccessKey"), ("UserName", "tenantry")]).await;
        let between = |name: &str| {
            let (_, rest) = made.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("{made}"));
            rest.split('<').next().unwrap().to_owned()
        };
        (self.access_key_id, self.secret_access_key) = (between("AccessKeyId"), between("SecretAccessKey"));
    }

    #[expect(clippy::disallowed_methods, reason = "the suite's own client")]
    async fn iam(&self, form: &[(&str, &str)]) -> String {
        let scope =
            "AWS4-HMAC-SHA256 Credential=none/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=none";
        let request = reqwest::Client::new().post(format!("{}/", self.address)).header(AUTHORIZATION, scope);
        request.form(&[form, &[("Version", "2010-05-08")]].concat()).send().await.unwrap().text().await.unwrap()
    }

    /// The settings (TOML) of a server that uses it for enterprise tenants.
    pub fn settings(&self) -> String {
        self.settings_with(&self.secret_access_key)
    }

    /// The same with another secret.
    pub fn settings_with(&self, secret: &str) -> String {
        let (address, id) = (&self.address, &self.access_key_id);
        format!(
            "[keys]\nenterprise = \"kms\"\ntimeout = \"10s\"\n[keys.kms]\nregion = \"eu-central-1\"\nendpoint = \"{address}\"\naccess_key_id = \"{id}\"\nsecret_access_key = \"{secret}\"\n"
        )
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
