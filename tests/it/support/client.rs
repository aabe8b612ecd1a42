use reqwest::{Method, RequestBuilder, header::HeaderMap};
use serde_json::{Value, json};
use tenantry::platform::ids::TenantId;

use super::canary::Canaries;

/// Speaks to one server with one token. Everything it receives passes the canary oracle.
#[derive(Clone, Debug)]
pub struct Client {
    base: String,
    token: Option<String>,
    /// The tenant whose canaries it may see; operators may see all.
    tenant: Option<TenantId>,
    sees_all: bool,
    canaries: Canaries,
    http: reqwest::Client,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
    /// The body as JSON, null where it is none.
    pub body: Value,
}

impl Answer {
    /// `extensions.code` of the first error.
    pub fn code(&self) -> &str {
        self.body["errors"][0]["extensions"]["code"].as_str().unwrap_or("none")
    }

    pub fn data(&self) -> &Value {
        &self.body["data"]
    }
}

impl Client {
    #[expect(clippy::disallowed_methods, reason = "the suite's own client")]
    pub fn new(base: String, token: Option<String>, tenant: Option<TenantId>, canaries: Canaries) -> Self {
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { base, token, tenant, sees_all: false, canaries, http }
    }

    pub fn operator(base: String, token: String, canaries: Canaries) -> Self {
        Self { sees_all: true, ..Self::new(base, Some(token), None, canaries) }
    }

    /// The same connection settings with another token.
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self.clone() }
    }

    /// The same connection settings without one.
    pub fn without_token(&self) -> Self {
        Self { token: None, ..self.clone() }
    }

    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Runs an operation.
    pub async fn graphql(&self, query: &str, variables: Value) -> Answer {
        self.send(self.post("/graphql").json(&json!({ "query": query, "variables": variables }))).await
    }

    /// Runs an operation with an idempotency key.
    pub async fn graphql_once(&self, key: &str, query: &str, variables: Value) -> Answer {
        self.send(
            self.post("/graphql")
                .header("idempotency-key", key)
                .json(&json!({ "query": query, "variables": variables })),
        )
        .await
    }

    /// Runs an operation that must succeed, and answers its data.
    pub async fn ok(&self, query: &str, variables: Value) -> Value {
        let answer = self.graphql(query, variables).await;
        assert!(answer.body["errors"].is_null() && answer.status == 200, "{} {}", answer.status, answer.text);
        answer.body["data"].clone()
    }

    /// Runs an operation that must fail, and answers the code of its first error.
    pub async fn refused(&self, query: &str, variables: Value) -> String {
        let answer = self.graphql(query, variables).await;
        assert!(answer.body["errors"].is_array(), "{} {}", answer.status, answer.text);
        answer.code().to_owned()
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// Sends, reads, and lets the oracle see everything.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        for (name, value) in &headers {
            self.check(&format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())));
        }
        self.check(&text);
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status, headers, text, body }
    }

    /// Lets the oracle see something that was received.
    pub fn check(&self, received: &str) {
        if !self.sees_all {
            self.canaries.check(self.tenant, received);
        }
    }
}
