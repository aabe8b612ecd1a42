//! Signing in with the password of the tenant's directory.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use futures::future::join_all;
use serde_json::{Value, json};

use super::{
    POLICY, Signed, VIEWER,
    ending::{RESUME, SUSPEND},
    factors::{CONFIRM, Device, ENROLL, complete},
    refresh, signed, status, try_sign_in,
};
use crate::{
    directory::{app, configure, input, tenant_of},
    members::{DEACTIVATE, INVITE, PASSWORD, join, limit_seats, seats},
    support::{
        Answer, Client, Tenant, TestApp,
        slapd::{Authority, Slapd, company, entry_of, group, person, uuid_of},
    },
};

const BY_DIRECTORY: &str = "mutation($input: SignInByDirectoryInput!) { signInByDirectory(input: $input) {
    tokens { accessToken accessExpiresAt refreshToken session { id memberId method amr } } challenge { challenge factor } } }";

async fn attempt(client: &Client, tenant: &str, login: &str, password: &str) -> Answer {
    let input = json!({ "tenant": tenant, "login": login, "password": password });
    client.graphql(BY_DIRECTORY, json!({ "input": input })).await
}

/// With the password that people of the suite's directory have.
async fn by_directory(app: &TestApp, tenant: &Tenant, login: &str) -> Signed {
    let answer = attempt(&app.anonymous(), &tenant.slug, login, &format!("of-{}", login.to_lowercase())).await;
    assert_eq!(answer.code(), "none", "{}", answer.text);
    signed(app, tenant, &answer.data()["signInByDirectory"])
}

async fn refused(app: &TestApp, tenant: &str, login: &str) -> String {
    attempt(&app.anonymous(), tenant, login, &format!("of-{login}")).await.code().to_owned()
}

/// As `e-mail name roles status source`.
async fn members(client: &Client) -> Vec<String> {
    let all = "{ members(first: 100) { edges { node { email name roles status source } } } }";
    let listed = client.ok(all, json!({})).await["members"]["edges"].clone();
    let line = |edge: &Value| {
        let text = |field: &str| edge["node"][field].as_str().unwrap().to_owned();
        let roles: Vec<_> = edge["node"]["roles"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        [text("email"), text("name"), roles.join(","), text("status"), text("source")].join(" ")
    };
    let mut lines: Vec<_> = listed.as_array().unwrap().iter().map(line).collect();
    lines.sort();
    lines
}

/// How often each of these events is in the journal.
async fn events<const N: usize>(client: &Client, of: [&str; N]) -> [usize; N] {
    let all =
        client.ok("{ audit(first: 100) { edges { node { event } } } }", json!({})).await["audit"]["edges"].clone();
    of.map(|event| all.as_array().unwrap().iter().filter(|edge| edge["node"]["event"] == event).count())
}

/// The whole error but for the request's id.
fn told(answer: &Answer) -> (u16, Value) {
    let mut error = answer.body["errors"][0].clone();
    error["extensions"].as_object_mut().unwrap().remove("requestId");
    (answer.status, error)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_knows_the_password_is_the_member_that_the_directory_says_at_each_sign_in() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let mut slapd = Slapd::start(&authority);
    let (acme, service) = tenant_of(&app, "acme", &slapd, &authority).await;
    let first = by_directory(&app, &acme, "ada").await;
    let viewer = first.client.ok(VIEWER, json!({})).await["viewer"].clone();
    assert_eq!((&viewer["kind"], &viewer["subject"]), (&json!("MEMBER"), &json!(first.member)));
    assert!(viewer["scopes"].as_array().unwrap().contains(&json!("auth:member:write")), "{viewer}");
    assert_eq!(members(&service).await, ["ada@example.org Ada Example admin,member ACTIVE DIRECTORY"]);
    assert_eq!(seats(&app, &acme).await, (10, 1, 0));
    let shown = "{ sessions { edges { node { id method amr } } } }";
    let shown = first.client.ok(shown, json!({})).await["sessions"]["edges"][0]["node"].clone();
    assert_eq!(shown, json!({ "id": first.session, "method": "DIRECTORY", "amr": ["pwd"] }));
    let first = refresh(&app, &acme, &first.refresh_token).await;

    // Whatever the case of the login, and by the tenant's id.
    let again = attempt(&app.anonymous(), &acme.id.to_string(), "ADA", "of-ada").await;
    let again = signed(&app, &acme, &again.data()["signInByDirectory"]);
    let invite = json!({ "input": { "email": "x@example.com", "roles": ["viewer"] } });
    again.client.ok(INVITE, invite.clone()).await;
    assert_eq!(events(&service, ["MemberCreated", "MemberUpdated", "SessionBegan"]).await, [1, 0, 2]);

    // Ada has another name and another address in the directory, and is no admin any more.
    let moved = [
        entry_of("cn=Ada L", "ada", "Ada L", "ada.l@example.org"),
        group("staff", &["cn=Ada L,ou=people"]),
        group("admins", &["ou=groups"]),
    ];
    slapd.replace_entries(&moved.concat());
    assert_eq!(status(&again.client).await, 200);
    let now = by_directory(&app, &acme, "ada").await;
    assert_eq!(now.member, again.member);
    let known = members(&service).await;
    assert!(known.contains(&"ada.l@example.org Ada L member ACTIVE DIRECTORY".to_owned()), "{known:?}");
    for signed in [&first, &again, &now] {
        assert_eq!(status(&signed.client).await, 200);
        assert_eq!(signed.client.refused(INVITE, invite.clone()).await, "forbidden", "in sessions that run as well");
    }
    assert_eq!(events(&service, ["MemberCreated", "MemberUpdated"]).await, [1, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_wrong_the_answer_is_the_same_and_takes_its_time() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let slapd = Slapd::start(&authority);
    let (acme, service) = tenant_of(&app, "acme", &slapd, &authority).await;
    let other = app.tenant("other").await;
    let ask = async |tenant: &str, login: &str, password: &str| {
        let began = Instant::now();
        let answer = attempt(&app.anonymous(), tenant, login, password).await;
        (told(&answer), began.elapsed())
    };
    let (wrong, time) = ask("acme", "ada", "of-bob").await;
    assert_eq!(wrong.1["extensions"]["code"], "unauthenticated");
    assert!(time >= Duration::from_millis(250), "{time:?}");
    for (tenant, login, password) in [
        ("acme", "nobody", "of-nobody"),
        ("acme", "*", "of-ada"),
        ("acme", "ada)(uid=*", "of-ada"),
        ("acme", "*)(|(uid=ada", "of-ada"),
        (&other.slug, "ada", "of-ada"),
        ("nowhere", "ada", "of-ada"),
        ("no\0where", "ada", "of-ada"),
        (&uuid_of("nothing"), "ada", "of-ada"),
        ("00000000-0000-0000-0000-000000000000", "ada", "of-ada"),
    ] {
        let (answer, time) = ask(tenant, login, password).await;
        assert_eq!(answer, wrong, "{tenant:?} {login} {password}");
        assert!(time >= Duration::from_millis(250), "{tenant:?} {login} {time:?}");
    }
    // With these nobody guesses: however many there are, they cost nobody anything.
    for password in ["", "\0", "\0of-ada", "of-ada\0"].into_iter().cycle().take(30) {
        assert_eq!(ask("acme", "ada", password).await.0, wrong, "{password:?}");
    }
    assert!(members(&service).await.is_empty());
    for login in ["", "ada\n", &"x".repeat(257)] {
        let (answer, _) = ask("acme", login, "of-ada").await;
        assert_eq!(answer.1["extensions"]["field"], "login", "{answer:?}");
    }
    // Who may not come in is told no more than who does not know the password.
    let bob = by_directory(&app, &acme, "bob").await;
    service.ok(DEACTIVATE, json!({ "input": { "id": bob.member } })).await;
    let (answer, time) = ask("acme", "bob", "of-bob").await;
    assert_eq!(answer, wrong);
    assert!(time >= Duration::from_millis(250), "{time:?}");
    assert_eq!((status(&bob.client).await, seats(&app, &acme).await), (401, (10, 0, 0)));
    assert_eq!(members(&service).await, ["bob@example.org Bob Example member DEACTIVATED DIRECTORY"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_becomes_a_member_without_a_seat_or_in_place_of_somebody_else() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let mut slapd = Slapd::start(&authority);
    let (acme, service) = tenant_of(&app, "acme", &slapd, &authority).await;
    join(&app, &service, "BOB@example.org", &["viewer"]).await;
    let answer = attempt(&app.anonymous(), "acme", "bob", "of-bob").await;
    let error = &answer.body["errors"][0]["extensions"];
    assert_eq!((answer.code(), &error["field"]), ("conflict", &json!("email")), "{}", answer.text);
    // The member that was made here is what it was.
    assert_eq!(members(&service).await, ["BOB@example.org Somebody viewer ACTIVE LOCAL"]);
    assert_eq!(try_sign_in(&app.anonymous(), "acme", "bob@example.org", PASSWORD).await.code(), "none");
    assert_eq!(seats(&app, &acme).await, (10, 1, 0));
    limit_seats(&app, &acme, 1).await;
    // Again and again: that is no failure of the person.
    for _ in 0..8 {
        assert_eq!(refused(&app, "acme", "ada").await, "quota_exceeded");
    }
    assert_eq!((members(&service).await.len(), seats(&app, &acme).await), (1, (1, 1, 0)));
    limit_seats(&app, &acme, 2).await;
    by_directory(&app, &acme, "ada").await;
    assert_eq!(seats(&app, &acme).await, (2, 2, 0));
    // An address of another member's is not taken over by who is a member already, either.
    let thief = entry_of("uid=ada", "ada", "Ada Example", "bob@example.org");
    slapd.replace_entries(&[thief, group("staff", &["uid=ada,ou=people"])].concat());
    assert_eq!(refused(&app, "acme", "ada").await, "conflict");
    assert!(members(&service).await.contains(&"BOB@example.org Somebody viewer ACTIVE LOCAL".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_role_is_no_member_and_who_loses_the_last_one_is_out() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let mut slapd = Slapd::start(&authority);
    let (acme, service) = tenant_of(&app, "acme", &slapd, &authority).await;
    assert_eq!(refused(&app, "acme", "eve").await, "forbidden");
    assert!(members(&service).await.is_empty());
    let bob = by_directory(&app, &acme, "bob").await;
    slapd.replace_entries(&[person("bob", "Bob Example"), group("staff", &["uid=ada,ou=people"])].concat());
    assert_eq!(refused(&app, "acme", "bob").await, "forbidden");
    assert_eq!(status(&bob.client).await, 401, "its sessions end, as at a synchronisation");
    assert_eq!(members(&service).await, ["bob@example.org Bob Example member DEACTIVATED DIRECTORY"]);
    assert_eq!(seats(&app, &acme).await, (10, 0, 0));
    slapd.replace_entries(&company());
    assert_eq!(refused(&app, "acme", "bob").await, "unauthenticated", "who is deactivated stays so");
    // The last owner stays one, and does not come in by a directory that says something else.
    let owners = input(&[slapd.ldaps()], &authority, json!({ "roleMappings": [], "defaultRoles": ["owner"] }));
    configure(&service, owners).await;
    by_directory(&app, &acme, "ada").await;
    configure(&service, input(&[slapd.ldaps()], &authority, json!({}))).await;
    assert_eq!(refused(&app, "acme", "ada").await, "conflict");
    assert!(members(&service).await.contains(&"ada@example.org Ada Example owner ACTIVE DIRECTORY".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_person_in_the_directories_of_two_tenants_is_two_members() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let slapd = Slapd::start(&authority);
    let (acme, here) = tenant_of(&app, "acme", &slapd, &authority).await;
    let (other, there) = tenant_of(&app, "other", &slapd, &authority).await;
    let (first, second) = (by_directory(&app, &acme, "ada").await, by_directory(&app, &other, "ada").await);
    assert_ne!(first.member, second.member);
    let member = "query($id: ID!) { member(id: $id) { externalId } }";
    for (client, own, foreign) in [(&here, &first, &second), (&there, &second, &first)] {
        let found = client.ok(member, json!({ "id": own.member })).await;
        assert_eq!(found["member"]["externalId"], json!(uuid_of("ada")));
        assert_eq!(client.refused(member, json!({ "id": foreign.member })).await, "not_found");
    }
    here.ok(DEACTIVATE, json!({ "input": { "id": first.member } })).await;
    assert_eq!((status(&first.client).await, status(&second.client).await), (401, 200));
    assert_eq!(refused(&app, "acme", "ada").await, "unauthenticated");
    by_directory(&app, &other, "ada").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_is_down_is_no_failure_of_the_person() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let mut slapd = Slapd::start(&authority);
    let (acme, _) = tenant_of(&app, "acme", &slapd, &authority).await;
    // As many as are free: with one more, the next would have to wait.
    for _ in 0..5 {
        assert_eq!(attempt(&app.anonymous(), "acme", "bob", "wrong").await.code(), "unauthenticated");
    }
    slapd.stop();
    for _ in 0..12 {
        let down = attempt(&app.anonymous(), "acme", "bob", "of-bob").await;
        assert_eq!(down.code(), "unavailable", "{}", down.text);
    }
    slapd.start_again();
    app.advance(TimeDelta::seconds(31)); // its rest
    by_directory(&app, &acme, "bob").await;
    // What was counted before is counted on, and forgiven with the good one.
    for _ in 0..5 {
        assert_eq!(attempt(&app.anonymous(), "acme", "bob", "wrong").await.code(), "unauthenticated");
    }
    by_directory(&app, &acme, "bob").await;
}

/// Seconds before each failure of one account from one address; behind them it has to wait for 16.
const WAITS: [i64; 10] = [0, 0, 0, 0, 0, 0, 1, 2, 4, 8];

/// From an address of one's own: this server trusts what the suite says of where it comes from.
async fn from(app: &TestApp, address: &str, login: &str, password: &str) -> Answer {
    let nobody = app.anonymous();
    let input = json!({ "tenant": "acme", "login": login, "password": password });
    let body = json!({ "query": BY_DIRECTORY, "variables": { "input": input } });
    nobody.send(nobody.post("/graphql").header("x-forwarded-for", address).json(&body)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guessing_is_slow_however_a_login_is_written_and_locks_nobody_out() {
    let rules = "[server]\ntrusted_proxies = [\"127.0.0.1/32\"]\n[directory]\nallowed_networks = [\"127.0.0.0/8\"]";
    let (app, authority) = (TestApp::with(rules).await, Authority::new("suite"));
    let slapd = Slapd::start(&authority);
    tenant_of(&app, "acme", &slapd, &authority).await;
    assert_eq!(from(&app, "192.0.2.1", "ada", "of-ada").await.code(), "none");
    // One account by many spellings, which a directory finds it by.
    let spellings = ["bob", "BOB", "bOb", " bob", "bob  ", "ｂｏｂ"].into_iter().cycle();
    for (spelling, waited) in spellings.zip(WAITS) {
        app.advance(TimeDelta::seconds(waited));
        assert_eq!(from(&app, "198.51.100.1", spelling, "wrong").await.code(), "unauthenticated", "{spelling}");
    }
    let limited = from(&app, "198.51.100.1", "BoB", "of-bob").await;
    assert_eq!(limited.code(), "rate_limited", "{}", limited.text);
    assert!(limited.body["errors"][0]["extensions"]["details"]["retryAfterSeconds"].as_i64().unwrap() >= 1);
    // From many addresses, so that the account itself is slowed down.
    for index in 0..26 {
        app.advance(TimeDelta::minutes(1));
        from(&app, &format!("203.0.113.{index}"), "ada", "wrong").await;
    }
    assert_eq!(from(&app, "203.0.113.99", "ada", "of-ada").await.code(), "rate_limited");
    assert_eq!(from(&app, "192.0.2.1", "ada", "of-ada").await.code(), "none", "from where it is known");
    // A tenant that there is not is as slow.
    for waited in WAITS {
        app.advance(TimeDelta::seconds(waited));
        assert_eq!(attempt(&app.anonymous(), "nowhere", "ada", "wrong").await.code(), "unauthenticated");
    }
    assert_eq!(attempt(&app.anonymous(), "nowhere", "ada", "wrong").await.code(), "rate_limited");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_factor_is_asked_for_as_of_anybody_else() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let slapd = Slapd::start(&authority);
    let (acme, service) = tenant_of(&app, "acme", &slapd, &authority).await;
    service.ok(POLICY, json!({ "input": { "multiFactor": "REQUIRED" } })).await;
    let challenge = async || {
        let answer = attempt(&app.anonymous(), "acme", "ada", "of-ada").await.data()["signInByDirectory"].clone();
        assert!(answer["tokens"].is_null(), "{answer}");
        answer["challenge"].clone()
    };
    let asked = challenge().await;
    assert_eq!(asked["factor"], "TOTP_ENROLLMENT");
    let nobody = app.anonymous();
    let made = nobody.ok(ENROLL, json!({ "input": { "challenge": asked["challenge"] } })).await["enrollTotp"].clone();
    let device = Device::of(&made["secret"]);
    let confirm = json!({ "challenge": asked["challenge"], "code": device.code(&app, 0) });
    let confirmed = nobody.ok(CONFIRM, json!({ "input": confirm })).await["confirmTotp"].clone();
    assert_eq!(confirmed["tokens"]["session"]["amr"], json!(["pwd", "otp", "mfa"]));
    assert_eq!(status(&signed(&app, &acme, &confirmed).client).await, 200);
    app.advance(TimeDelta::seconds(60));
    let asked = challenge().await;
    assert_eq!(asked["factor"], "TOTP");
    let done = complete(&app, &asked, &device.code(&app, 0)).await;
    let session = signed(&app, &acme, &done.data()["completeSignIn"]);
    let method = session.client.ok("{ sessions { edges { node { id method } } } }", json!({})).await;
    let method = method["sessions"]["edges"].as_array().unwrap().iter().map(|edge| edge["node"]["method"].clone());
    assert!(method.collect::<Vec<_>>().iter().all(|method| method == "DIRECTORY"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_may_come_in_nobody_becomes_a_member() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let slapd = Slapd::start(&authority);
    let (acme, _) = tenant_of(&app, "acme", &slapd, &authority).await;
    let admin = app.admin().await;
    let fence = async |allowed: Value| {
        let set =
            "mutation($input: SetNetworkRulesInput!) { setNetworkRules(input: $input) { networkRules { version } } }";
        admin.ok(set, json!({ "input": { "tenantId": acme.id, "allowed": allowed } })).await;
    };
    let known = async || {
        let all = "query($id: ID) { members(tenantId: $id) { edges { node { id } } } }";
        admin.ok(all, json!({ "id": acme.id })).await["members"]["edges"].as_array().unwrap().len()
    };
    fence(json!([{ "name": "office", "network": "203.0.113.0/24" }])).await;
    assert_eq!(refused(&app, "acme", "ada").await, "forbidden");
    assert_eq!(attempt(&app.anonymous(), "acme", "ada", "wrong").await.code(), "unauthenticated");
    fence(json!([])).await;
    admin.ok(SUSPEND, json!({ "id": acme.id })).await;
    assert_eq!(refused(&app, "acme", "ada").await, "tenant_suspended");
    assert_eq!(attempt(&app.anonymous(), "acme", "ada", "wrong").await.code(), "unauthenticated");
    assert_eq!(known().await, 0);
    admin.ok(RESUME, json!({ "id": acme.id })).await;
    by_directory(&app, &acme, "ada").await;
    assert_eq!(known().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_first_sign_ins_at_once_at_two_servers_are_one_member() {
    let rules = "[directory]\nallowed_networks = [\"127.0.0.0/8\"]";
    let (first, authority) = (TestApp::with(rules).await, Authority::new("suite"));
    let second = first.replica(rules).await;
    let slapd = Slapd::start(&authority);
    let (acme, service) = tenant_of(&first, "acme", &slapd, &authority).await;
    let tries = (0..4).map(|index| by_directory(if index % 2 == 0 { &first } else { &second }, &acme, "ada"));
    let all = join_all(tries).await;
    assert!(all.iter().all(|signed| signed.member == all[0].member));
    assert_eq!(members(&service).await, ["ada@example.org Ada Example admin,member ACTIVE DIRECTORY"]);
    assert_eq!(events(&service, ["MemberCreated", "MemberUpdated", "SessionBegan"]).await, [1, 0, 4]);
    assert_eq!(seats(&first, &acme).await, (10, 1, 0));
}
