//! Certificates of clients: whom tenants trust, what is believed, and who it is.

mod anchors;
mod expiry;
pub(crate) mod made;
mod paths;
pub(crate) mod presented;
pub(crate) mod revocation;

use serde_json::{Value, json};

use self::made::Made;
use crate::support::{Client, Tenant, TestApp};

pub const ADD: &str = "mutation($input: AddTrustAnchorsInput!) { addTrustAnchors(input: $input) { trustAnchors { id subject fingerprint role } } }";
const CHECK: &str = "query($input: CheckCertificateInput!) { checkCertificate(input: $input) { origin accepted refusal { reason certificate message }
    certificate { subject names { form value } serial fingerprint notAfter anchorId path revocation { subject status by problem }
        identity { target value source } } } }";
pub const POLICY: &str =
    "mutation($input: SetCertificatePolicyInput!) { setCertificatePolicy(input: $input) { policy { version } } }";

pub async fn service(app: &TestApp, tenant: &Tenant) -> Client {
    app.service(tenant, "auth:pki:read auth:pki:write auth:audit:read").await
}

pub async fn trust(client: &Client, made: &[&Made]) -> Vec<Value> {
    let pem: String = made.iter().map(|made| made.pem()).collect();
    let added = client.ok(ADD, json!({ "input": { "pem": pem } })).await;
    added["addTrustAnchors"]["trustAnchors"].as_array().unwrap().clone()
}

async fn check(client: &Client, chain: &[&Made]) -> Value {
    let pem: String = chain.iter().map(|made| made.pem()).collect();
    client.ok(CHECK, json!({ "input": { "pem": pem } })).await["checkCertificate"].clone()
}

/// The reason of a refusal, or whom it is that was found.
async fn outcome(client: &Client, chain: &[&Made]) -> String {
    let checked = check(client, chain).await;
    let told = if checked["accepted"] == true {
        &checked["certificate"]["identity"]["value"]
    } else {
        &checked["refusal"]["reason"]
    };
    told.as_str().unwrap().to_owned()
}
