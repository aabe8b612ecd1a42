//! AWS KMS as moto (PyPI) plays it, with IAM that checks every signature.

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

/// Actions before signatures are checked: a user, its policy, its key.
const UNCHECKED: &str = "3";

impl Moto {
    /// `None` where there is no moto.
    pub async fn start() -> Option<Self> {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new("moto_server")
            .args(["-H", "127.0.0.1", "-p", &free.port().to_string()])
            .env("INITIAL_NO_AUTH_ACTION_COUNT", UNCHECKED)
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
        let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"}]}"#;
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
