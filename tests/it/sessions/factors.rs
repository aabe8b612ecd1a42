//! Second factors.

use aws_lc_rs::hmac;
use chrono::TimeDelta;
use futures::future::join_all;
use serde_json::{Value, json};

use super::{POLICY, Signed, member, sign_in, signed, status, try_refresh, try_sign_in};
use crate::{
    members::PASSWORD,
    support::{Answer, Client, Tenant, TestApp},
};

pub const ENROLL: &str = "mutation($input: EnrollTotpInput!) { enrollTotp(input: $input) { secret uri } }";
pub const CONFIRM: &str = "mutation($input: ConfirmTotpInput!) { confirmTotp(input: $input) {
    recoveryCodes tokens { accessToken refreshToken session { id memberId amr } } challenge { factor } } }";
const RENEW: &str =
    "mutation($input: RenewRecoveryCodesInput!) { renewRecoveryCodes(input: $input) { recoveryCodes } }";
const DISABLE: &str = "mutation($input: DisableTotpInput!) { disableTotp(input: $input) { memberId } }";
pub const COMPLETE: &str = "mutation($input: CompleteSignInInput!) { completeSignIn(input: $input) {
    tokens { accessToken refreshToken session { id memberId amr } } challenge { factor } } }";

/// A device, as RFC 6238 has it, by its own arithmetic.
pub struct Device(Vec<u8>);

impl Device {
    pub fn of(secret: &Value) -> Self {
        let (mut bits, mut held, mut bytes) = (0_u32, 0, Vec::new());
        for letter in secret.as_str().unwrap().bytes() {
            let value = match letter {
                b'A'..=b'Z' => letter - b'A',
                b'2'..=b'7' => letter - b'2' + 26,
                _ => panic!("not Base32"),
            };
            bits = (bits << 5 | u32::from(value)) & 0xfff;
            held += 5;
            if held >= 8 {
                held -= 8;
                bytes.push((bits >> held) as u8);
            }
        }
        Self(bytes)
    }

    /// The code of this many steps from now.
    pub fn code(&self, app: &TestApp, steps: i64) -> String {
        let step = app.app.clock.now().timestamp() / 30 + steps;
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.0), &step.to_be_bytes());
        let tag = tag.as_ref();
        let at = usize::from(tag[19] & 15);
        let number = u32::from_be_bytes(tag[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
        format!("{:06}", number % 1_000_000)
    }
}

/// Sets a second factor up in a session; answers the device and the recovery codes.
async fn set_up(app: &TestApp, client: &Client) -> (Device, Vec<String>) {
    let made = client.ok(ENROLL, json!({ "input": {} })).await["enrollTotp"].clone();
    let device = Device::of(&made["secret"]);
    assert!(made["uri"].as_str().unwrap().starts_with("otpauth://totp/acme:"));
    let confirmed =
        client.ok(CONFIRM, json!({ "input": { "code": device.code(app, 0) } })).await["confirmTotp"].clone();
    let codes = confirmed["recoveryCodes"].as_array().unwrap().iter().map(|code| code.as_str().unwrap().to_owned());
    (device, codes.collect())
}

async fn challenged(app: &TestApp, email: &str) -> Value {
    let answer = try_sign_in(&app.anonymous(), "acme", email, PASSWORD).await;
    assert!(answer.data()["signIn"]["tokens"].is_null(), "{}", answer.text);
    answer.data()["signIn"]["challenge"].clone()
}

pub(super) async fn complete(app: &TestApp, challenge: &Value, code: &str) -> Answer {
    let input = json!({ "challenge": challenge["challenge"], "code": code });
    app.anonymous().graphql(COMPLETE, json!({ "input": input })).await
}

fn done(app: &TestApp, tenant: &Tenant, answer: &Answer) -> Signed {
    signed(app, tenant, &answer.data()["completeSignIn"])
}

#[tokio::test]
async fn signing_in_asks_for_a_code_once_a_device_is_set_up() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let anna = member(&app, &acme, "anna@example.com", &["viewer"]).await;
    let made = anna.client.ok(ENROLL, json!({ "input": {} })).await["enrollTotp"].clone();
    sign_in(&app, &acme, "anna@example.com").await; // not yet confirmed
    let device = Device::of(&made["secret"]);
    let wrong = json!({ "input": { "code": "000000" } });
    assert_eq!(anna.client.refused(CONFIRM, wrong).await, "unauthenticated");
    anna.client.ok(CONFIRM, json!({ "input": { "code": device.code(&app, 0) } })).await;
    assert_eq!(anna.client.refused(ENROLL, json!({ "input": {} })).await, "conflict");

    let challenge = challenged(&app, "anna@example.com").await;
    assert_eq!(challenge["factor"], "TOTP");
    // The one that confirmed it is used up.
    assert_eq!(complete(&app, &challenge, &device.code(&app, 0)).await.code(), "unauthenticated");
    app.advance(TimeDelta::seconds(30));
    for code in ["", "123", "abcdef", &device.code(&app, 5), &device.code(&app, -2)] {
        assert_eq!(complete(&app, &challenge, code).await.code(), "unauthenticated", "{code}");
    }
    app.advance(TimeDelta::seconds(30));
    let signed = done(&app, &acme, &complete(&app, &challenge, &device.code(&app, 0)).await);
    assert_eq!(status(&signed.client).await, 200);
    let amr = "{ sessions { edges { node { id amr } } } }";
    let sessions = signed.client.ok(amr, json!({})).await["sessions"]["edges"].clone();
    let own = sessions.as_array().unwrap().iter().find(|edge| edge["node"]["id"] == json!(signed.session)).unwrap();
    assert_eq!(own["node"]["amr"], json!(["pwd", "otp", "mfa"]));
    // A clock that is a step off, in either direction.
    app.advance(TimeDelta::seconds(60));
    let challenge = challenged(&app, "anna@example.com").await;
    done(&app, &acme, &complete(&app, &challenge, &device.code(&app, -1)).await);
    let challenge = challenged(&app, "anna@example.com").await;
    done(&app, &acme, &complete(&app, &challenge, &device.code(&app, 1)).await);
    // Now even the present one is behind what was used.
    let challenge = challenged(&app, "anna@example.com").await;
    assert_eq!(complete(&app, &challenge, &device.code(&app, 0)).await.code(), "unauthenticated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_works_once_at_two_servers_at_once() {
    let first = TestApp::start().await;
    let second = first.replica("").await;
    let acme = first.tenant("acme").await;
    let anna = member(&first, &acme, "anna@example.com", &["viewer"]).await;
    let (device, _) = set_up(&first, &anna.client).await;
    let challenge = challenged(&first, "anna@example.com").await;
    for _ in 0..3 {
        first.advance(TimeDelta::seconds(60));
        let code = device.code(&first, 0);
        let tries = (0..4).map(|index| complete(if index % 2 == 0 { &first } else { &second }, &challenge, &code));
        let answers = join_all(tries).await;
        let good = answers.iter().filter(|answer| answer.code() == "none").count();
        assert_eq!(good, 1, "{:?}", answers.iter().map(|answer| answer.code()).collect::<Vec<_>>());
        // Failures of the others are behind us.
        first.advance(TimeDelta::minutes(1));
    }
}

#[tokio::test]
async fn a_recovery_code_works_once_in_place_of_the_device() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let anna = member(&app, &acme, "anna@example.com", &["viewer"]).await;
    let (_, codes) = set_up(&app, &anna.client).await;
    assert_eq!(codes.len(), 10);
    let challenge = challenged(&app, "anna@example.com").await;
    let written = codes[0].to_lowercase().replace('-', " ");
    let signed = done(&app, &acme, &complete(&app, &challenge, &written).await);
    assert_eq!(complete(&app, &challenge, &codes[0]).await.code(), "unauthenticated");
    // With another one it is switched off, and signing in asks for nothing more.
    signed.client.ok(DISABLE, json!({ "input": { "code": codes[1] } })).await;
    sign_in(&app, &acme, "anna@example.com").await;
}

#[tokio::test]
async fn new_recovery_codes_are_for_who_has_the_device_and_end_the_old_ones() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let anna = member(&app, &acme, "anna@example.com", &["viewer"]).await;
    let renew = async |code: &str| anna.client.graphql(RENEW, json!({ "input": { "code": code } })).await;
    assert_eq!(renew("123456").await.code(), "conflict", "there is nothing to recover");
    let (device, before) = set_up(&app, &anna.client).await;
    // Neither a wrong code, nor the one that was used, nor one of the codes themselves.
    for code in ["000000", &device.code(&app, 0), &before[0], ""] {
        assert_eq!(renew(code).await.code(), "unauthenticated", "{code}");
    }
    app.advance(TimeDelta::seconds(60));
    let code = device.code(&app, 0);
    let renewed = renew(&code).await;
    let made = renewed.data()["renewRecoveryCodes"]["recoveryCodes"].clone();
    let after: Vec<_> = made.as_array().unwrap_or_else(|| panic!("{}", renewed.text)).clone();
    assert!(after.len() == 10 && after.iter().all(|code| !before.contains(&code.as_str().unwrap().to_owned())));
    assert_eq!(renew(&code).await.code(), "unauthenticated", "the code is used up");
    let challenge = challenged(&app, "anna@example.com").await;
    for old in &before[..2] {
        assert_eq!(complete(&app, &challenge, old).await.code(), "unauthenticated");
    }
    let first = after[0].as_str().unwrap();
    done(&app, &acme, &complete(&app, &challenge, first).await);
    assert_eq!(complete(&app, &challenge, first).await.code(), "unauthenticated", "each works once");
    let service = app.full_service(&acme).await;
    assert_eq!(service.refused(RENEW, json!({ "input": { "code": "123456" } })).await, "forbidden");
    let entries = service.ok("{ audit(first: 50) { edges { node { event actor { name } } } } }", json!({})).await;
    let entries = entries["audit"]["edges"].as_array().unwrap().clone();
    let renewed: Vec<_> = entries.iter().filter(|edge| edge["node"]["event"] == "RecoveryCodesRenewed").collect();
    assert_eq!(renewed.len(), 1);
    assert_eq!(renewed[0]["node"]["actor"]["name"], json!(anna.member));
}

#[tokio::test]
async fn guessing_codes_is_slow() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let anna = member(&app, &acme, "anna@example.com", &["viewer"]).await;
    let (device, _) = set_up(&app, &anna.client).await;
    app.advance(TimeDelta::seconds(60));
    let challenge = challenged(&app, "anna@example.com").await;
    let guesses = join_all((0..20).map(|_| complete(&app, &challenge, "000000"))).await;
    let looked_at = guesses.iter().filter(|answer| answer.code() == "unauthenticated").count();
    assert!((5..=8).contains(&looked_at), "{looked_at} of 20");
    for waited in [4, 8, 16] {
        app.advance(TimeDelta::seconds(waited));
        complete(&app, &challenge, "000000").await;
    }
    assert_eq!(complete(&app, &challenge, &device.code(&app, 0)).await.code(), "rate_limited");
    app.advance(TimeDelta::minutes(5));
    assert_eq!(complete(&app, &challenge, &device.code(&app, 0)).await.code(), "none");
    app.advance(TimeDelta::minutes(6));
    assert_eq!(complete(&app, &challenge, &device.code(&app, 0)).await.code(), "unauthenticated", "it is over");
}

#[tokio::test]
async fn where_the_tenant_asks_for_it_nobody_comes_in_with_one_factor() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let service = app.full_service(&acme).await;
    let anna = member(&app, &acme, "anna@example.com", &["admin"]).await;
    let ben = member(&app, &acme, "ben@example.com", &["viewer"]).await;
    service.ok(POLICY, json!({ "input": { "multiFactor": "REQUIRED_FOR_ADMINS" } })).await;
    // A session that began with one goes on until it is refreshed.
    assert_eq!(try_refresh(&app, &anna.refresh_token).await.code(), "unauthenticated");
    assert_eq!(status(&anna.client).await, 401);
    super::refresh(&app, &acme, &ben.refresh_token).await;
    sign_in(&app, &acme, "ben@example.com").await;

    let challenge = challenged(&app, "anna@example.com").await;
    assert_eq!(challenge["factor"], "TOTP_ENROLLMENT");
    let nobody = app.anonymous();
    let with = json!({ "input": { "challenge": challenge["challenge"] } });
    let made = nobody.ok(ENROLL, with.clone()).await["enrollTotp"].clone();
    let device = Device::of(&made["secret"]);
    assert_eq!(complete(&app, &challenge, &device.code(&app, 0)).await.code(), "unauthenticated", "another challenge");
    let confirm = json!({ "challenge": challenge["challenge"], "code": device.code(&app, 0) });
    let confirmed = nobody.ok(CONFIRM, json!({ "input": confirm })).await["confirmTotp"].clone();
    let anna = signed(&app, &acme, &confirmed);
    assert_eq!(status(&anna.client).await, 200);
    super::refresh(&app, &acme, &anna.refresh_token).await;
    assert_eq!(nobody.refused(ENROLL, with).await, "conflict", "that challenge sets up no second device");
    assert_eq!(nobody.refused(ENROLL, json!({ "input": {} })).await, "unauthenticated");

    // Whoever is made an admin needs one from then on.
    let roles = json!({ "id": ben.member, "roles": ["admin"] });
    service.ok(crate::members::SET_ROLES, json!({ "input": roles })).await;
    assert_eq!(challenged(&app, "ben@example.com").await["factor"], "TOTP_ENROLLMENT");
    service.ok(POLICY, json!({ "input": { "multiFactor": "OFF" } })).await;
    sign_in(&app, &acme, "ben@example.com").await;
    sign_in(&app, &acme, "anna@example.com").await;
}

#[tokio::test]
async fn an_administrator_switches_a_lost_device_off() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let anna = member(&app, &acme, "anna@example.com", &["admin"]).await;
    let ben = member(&app, &acme, "ben@example.com", &["viewer"]).await;
    set_up(&app, &anna.client).await;
    let of = |id: &str| json!({ "input": { "memberId": id } });
    assert_eq!(ben.client.refused(DISABLE, of(&anna.member)).await, "forbidden");
    let few = app.service(&acme, "auth:member:write auth:member:read").await;
    assert_eq!(few.refused(DISABLE, of(&anna.member)).await, "forbidden", "who may do less");
    assert_eq!(challenged(&app, "anna@example.com").await["factor"], "TOTP");
    app.full_service(&acme).await.ok(DISABLE, of(&anna.member)).await;
    sign_in(&app, &acme, "anna@example.com").await;
    assert_eq!(anna.client.refused(DISABLE, json!({ "input": {} })).await, "invalid_input");
}

#[tokio::test]
async fn secrets_of_devices_are_sealed_and_follow_the_tenants_key() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let anna = member(&app, &acme, "anna@example.com", &["viewer"]).await;
    let (device, codes) = set_up(&app, &anna.client).await;
    let superuser = app.database.superuser().await;
    let rows = async |column: &str| {
        let sql =
            format!("select coalesce(string_agg(encode({column}, 'hex'), ' '), '') as rows from tenantry.member_totp");
        let statement = sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, sql);
        let row = sea_orm::ConnectionTrait::query_one_raw(&superuser, statement).await.unwrap().unwrap();
        row.try_get::<String>("", "rows").unwrap()
    };
    let before = rows("sealed").await;
    let hex: String = device.0.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!before.is_empty() && !before.contains(&hex));
    let rotate = "mutation($id: ID!) { rotateTenantKey(input: {tenantId: $id, level: DATA}) { __typename } }";
    app.admin().await.ok(rotate, json!({ "id": acme.id })).await;
    for _ in 0..3 {
        app.run_due().await;
    }
    assert_ne!(rows("sealed").await, before, "sealed anew");
    app.advance(TimeDelta::seconds(60));
    let challenge = challenged(&app, "anna@example.com").await;
    done(&app, &acme, &complete(&app, &challenge, &device.code(&app, 0)).await);
    let sql = "select coalesce(string_agg(t::text, ' '), '') as rows from tenantry.journal t";
    let statement = sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, sql);
    let row = sea_orm::ConnectionTrait::query_one_raw(&superuser, statement).await.unwrap().unwrap();
    let journal: String = row.try_get("", "rows").unwrap();
    assert!(codes.iter().all(|code| !journal.contains(code)));
}
