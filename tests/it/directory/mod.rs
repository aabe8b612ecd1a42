//! Tenants' directories, with real OpenLDAP servers, and with servers that are none.

mod attacks;
mod configure;
mod limits;
mod probe;
mod servers;
mod sign_in;
mod sync;
mod tls;

use serde_json::{Value, json};
use tenantry::{
    directory::Person,
    error::{Error, Kind},
    isolation::TenantScope,
    platform::secret::Secret,
};

use crate::support::{
    Client, Tenant, TestApp,
    slapd::{Authority, BASE, READER, READER_SECRET, Slapd},
};

const CONFIGURE: &str = "mutation($input: ConfigureDirectoryInput!) { configureDirectory(input: $input) { directory {
    preset servers startTls certificateAuthorities { subject issuer notAfter isAuthority } baseDn bindDn bindSecretSetAt userFilter
    groupBaseDn groupFilter nestedGroups attributes { email name externalId member } roleMappings { group roles } defaultRoles
    pageSize mostDeactivations mostDeactivationsPercent syncIntervalMinutes version plainTextPermitted unverifiedPermitted } } }";
const PERMIT: &str = "mutation($input: PermitDirectoryInput!) { permitDirectory(input: $input) { permit { plainText unverified version } } }";
const TEST: &str = "mutation($login: String) { testDirectory(input: {login: $login}) { ok person { externalId dn email name groups roles }
    steps { server step ok milliseconds reason resultCode certificates { subject issuer notAfter isAuthority } } } }";

/// A server that lets directories of this machine be reached.
pub async fn app() -> TestApp {
    TestApp::with("[directory]\nallowed_networks = [\"127.0.0.0/8\"]").await
}

/// The same, waiting for none of them long.
async fn hasty() -> TestApp {
    TestApp::with(
        "[directory]\nallowed_networks = [\"127.0.0.0/8\"]\nconnect_timeout = \"2s\"\nanswer_timeout = \"2s\"\ndeadline = \"5s\"\npatience = \"1s\"",
    )
    .await
}

async fn service(app: &TestApp, tenant: &Tenant) -> Client {
    app.full_service(tenant).await
}

/// What a tenant sends to have this directory; further fields in `more` take the place of those here.
pub fn input(servers: &[String], authority: &Authority, more: Value) -> Value {
    let mut input = json!({
        "servers": servers, "certificateAuthorities": authority.pem, "baseDn": BASE, "bindDn": READER, "bindSecret": READER_SECRET,
        "roleMappings": [{ "group": format!("CN=Admins, OU=groups,{BASE}"), "roles": ["admin"] },
            { "group": format!("cn=staff,ou=groups,{BASE}"), "roles": ["member"] }],
    });
    let fields = input.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    input
}

pub async fn configure(client: &Client, input: Value) -> Value {
    client.ok(CONFIGURE, json!({ "input": input })).await["configureDirectory"]["directory"].clone()
}

/// A tenant with the directory that `slapd` is, over TLS from the first byte.
pub async fn tenant_of(app: &TestApp, slug: &str, slapd: &Slapd, authority: &Authority) -> (Tenant, Client) {
    let tenant = app.tenant(slug).await;
    let client = service(app, &tenant).await;
    configure(&client, input(&[slapd.ldaps()], authority, json!({}))).await;
    (tenant, client)
}

async fn permit(app: &TestApp, tenant: &Tenant, plain_text: bool, unverified: bool) {
    let input =
        json!({ "tenantId": tenant.id, "plainText": plain_text, "unverified": unverified, "reason": "of the suite" });
    app.admin().await.ok(PERMIT, json!({ "input": input })).await;
}

async fn sign_in(app: &TestApp, tenant: &Tenant, login: &str, password: &str) -> Result<Person, Error> {
    let scope = TenantScope::system("sign-in", tenant.id);
    app.app.directory.authenticate(&scope, login, &Secret::new(password)).await
}

async fn refused(app: &TestApp, tenant: &Tenant, login: &str, password: &str) -> Kind {
    sign_in(app, tenant, login, password).await.unwrap_err().kind()
}

async fn test(client: &Client, login: Option<&str>) -> Value {
    client.ok(TEST, json!({ "login": login })).await["testDirectory"].clone()
}

/// As `STEP ok` or `STEP reason`.
fn steps(report: &Value) -> Vec<String> {
    let step = |step: &Value| {
        let (kind, reason) = (step["step"].as_str().unwrap(), step["reason"].as_str().unwrap_or("ok"));
        assert_eq!(step["ok"] == true, step["reason"].is_null(), "{step}");
        format!("{kind} {reason}")
    };
    report["steps"].as_array().unwrap().iter().map(step).collect()
}
