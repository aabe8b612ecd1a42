//! Revocation: lists that are uploaded or fetched, and a real responder of OpenSSL.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use chrono::TimeDelta;
use rcgen::{CertificateParams, CrlDistributionPoint, ExtendedKeyUsagePurpose};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinHandle};

use super::{
    POLICY, check,
    made::{Made, authority, extension, openssl, place, usual},
    outcome, service, trust,
};
use crate::support::{Client, TestApp};

const ADD_LIST: &str = "mutation($input: AddRevocationListInput!) { addRevocationList(input: $input) { revocationLists { id issuer entries source number } } }";
const LISTS: &str = "{ revocationLists { id issuer scope distributionPoints source number entries nextUpdate } }";
const LOCAL: &str = "[pki]\nprivate_networks = [\"127.0.0.0/8\"]\nfetch_timeout = \"2s\"";

async fn policy(client: &Client, revocation: &str, ocsp: bool, fetch_lists: bool) {
    let input = json!({ "revocation": revocation, "ocsp": ocsp, "fetchLists": fetch_lists });
    client.ok(POLICY, json!({ "input": input })).await;
}

pub async fn add_list(client: &Client, pem: String) -> crate::support::Answer {
    client.graphql(ADD_LIST, json!({ "input": { "pem": pem } })).await
}

pub fn list(by: &Made, revoked: &[&Made], years: (i32, i32)) -> String {
    by.list(revoked, years, None).pem().unwrap()
}

#[tokio::test]
async fn what_is_on_a_list_is_refused_and_policy_says_what_else() {
    let app = TestApp::start().await;
    let client = service(&app, &app.tenant("lists").await).await;
    let root = authority("root", usual);
    let sub = root.authority("sub", usual);
    trust(&client, &[&root]).await;
    client.ok(super::ADD, json!({ "input": { "pem": sub.pem(), "role": "INTERMEDIATE" } })).await;
    let (alice, mallory) = (sub.leaf("alice", usual), sub.leaf("mallory", usual));
    // Without lists.
    for (mode, found) in
        [("OFF", "alice@acme.example"), ("SOFT_FAIL", "alice@acme.example"), ("HARD_FAIL", "REVOCATION_UNKNOWN")]
    {
        policy(&client, mode, false, false).await;
        assert_eq!(outcome(&client, &[&alice]).await, found, "{mode}");
    }
    let added = add_list(&client, list(&sub, &[&mallory], (2025, 2094))).await;
    assert_eq!(added.data()["addRevocationList"]["revocationLists"][0]["entries"], 1, "{}", added.text);
    // Of the authority itself nothing is known yet.
    assert_eq!(outcome(&client, &[&alice]).await, "REVOCATION_UNKNOWN");
    add_list(&client, list(&root, &[], (2025, 2094))).await;
    assert_eq!(outcome(&client, &[&alice]).await, "alice@acme.example");
    let checked = check(&client, &[&alice]).await["certificate"]["revocation"].clone();
    assert_eq!(checked[0], json!({ "subject": "CN=alice,O=Acme", "status": "GOOD", "by": "LIST", "problem": null }));
    assert_eq!(checked.as_array().unwrap().len(), 2);
    for mode in ["SOFT_FAIL", "HARD_FAIL"] {
        policy(&client, mode, false, false).await;
        assert_eq!(outcome(&client, &[&mallory]).await, "REVOKED", "{mode}");
    }
    policy(&client, "OFF", false, false).await;
    assert_eq!(outcome(&client, &[&mallory]).await, "mallory@acme.example");
    // The authority itself.
    policy(&client, "SOFT_FAIL", false, false).await;
    add_list(&client, list(&root, &[&sub], (2026, 2094))).await;
    let refused = check(&client, &[&alice]).await["refusal"].clone();
    assert_eq!((&refused["reason"], &refused["certificate"]), (&json!("REVOKED"), &json!("CN=sub,O=Acme")));
}

#[tokio::test]
async fn a_list_that_is_too_old_says_nothing_good() {
    let app = TestApp::start().await;
    let tenant = app.tenant("stale").await;
    let client = service(&app, &tenant).await;
    let root = authority("root", usual);
    trust(&client, &[&root]).await;
    let (alice, mallory) = (root.leaf("alice", usual), root.leaf("mallory", usual));
    let year = chrono::Datelike::year(&app.app.clock.now()) + 1;
    add_list(&client, list(&root, &[&mallory], (2025, year))).await;
    policy(&client, "HARD_FAIL", false, false).await;
    assert_eq!(outcome(&client, &[&alice]).await, "alice@acme.example");
    app.advance(TimeDelta::days(400));
    let client = service(&app, &tenant).await;
    assert_eq!(outcome(&client, &[&alice]).await, "REVOCATION_UNKNOWN");
    assert_eq!(outcome(&client, &[&mallory]).await, "REVOKED");
    policy(&client, "SOFT_FAIL", false, false).await;
    let checked = check(&client, &[&alice]).await;
    assert_eq!(checked["certificate"]["revocation"][0]["status"], "UNKNOWN", "{checked}");
    assert!(checked["certificate"]["revocation"][0]["problem"].as_str().unwrap().contains("too old"));
}

#[tokio::test]
async fn lists_are_taken_of_the_tenants_authorities_alone_and_the_newest() {
    let app = TestApp::start().await;
    let (client, other) =
        (service(&app, &app.tenant("lists").await).await, service(&app, &app.tenant("other").await).await);
    let root = authority("root", usual);
    trust(&client, &[&root]).await;
    let silent =
        authority("silent", |made: &mut CertificateParams| made.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign]);
    trust(&client, &[&silent]).await;
    let place = place();
    let forged = authority("root", usual);
    let by_key = |made: &Made| {
        // rcgen itself refuses to sign where keyUsage does not allow it.
        let mut params = made.params.clone();
        params.key_usages.push(rcgen::KeyUsagePurpose::CrlSign);
        let key = rcgen::KeyPair::from_pem(&made.key.serialize_pem()).unwrap();
        Made { certificate: params.self_signed(&key).unwrap(), params, key }
    };
    let good = list(&root, &[], (2025, 2094));
    let mut der = root.list(&[], (2025, 2094), None).der().to_vec();
    *der.last_mut().unwrap() ^= 1;
    std::fs::write(place.join("broken.der"), der).unwrap();
    let (_, broken) = openssl(&place, "crl -inform DER -in broken.der -outform PEM");
    for (pem, reason) in [
        (list(&forged, &[], (2025, 2094)), "does not fit its issuer's key"),
        (list(&authority("stranger", usual), &[], (2025, 2094)), "none of the tenant's authorities"),
        (list(&by_key(&silent), &[], (2025, 2094)), "cRLSign"),
        (list(&root, &[], (2025, 2026)), "is not in force"),
        (broken, "does not fit its issuer's key"),
        (root.pem(), "only X509 CRL is taken"),
        (good.replace('\n', "\n ").replace("MI", "AA"), "is no revocation list"),
        (format!("{good}{}", list(&forged, &[], (2025, 2094))), "list 2"),
    ] {
        let answer = add_list(&client, pem).await;
        let error = &answer.body["errors"][0];
        assert!(
            error["extensions"]["field"] == "pem" && error["message"].as_str().unwrap().contains(reason),
            "{reason}: {}",
            answer.text
        );
    }
    assert_eq!(client.ok(LISTS, json!({})).await["revocationLists"], json!([]));
    add_list(&client, list(&root, &[], (2026, 2094))).await;
    assert_eq!(add_list(&client, good.clone()).await.code(), "conflict", "an older one");
    let listed = client.ok(LISTS, json!({})).await["revocationLists"].clone();
    assert_eq!(
        (listed.as_array().unwrap().len(), &listed[0]["number"], &listed[0]["source"]),
        (1, &json!("2026"), &json!("UPLOADED"))
    );
    let remove = "mutation($id: ID!) { removeRevocationList(input: {id: $id}) { revocationList { issuer } } }";
    assert_eq!(other.refused(remove, json!({ "id": listed[0]["id"] })).await, "not_found");
    client.ok(remove, json!({ "id": listed[0]["id"] })).await;
    add_list(&client, good).await;
}

/// Files over HTTP, and how often each was asked for.
#[derive(Clone, Default)]
struct Files {
    files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    asked: Arc<AtomicUsize>,
}

struct FileServer {
    base: String,
    files: Files,
    task: JoinHandle<()>,
}

impl Drop for FileServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FileServer {
    async fn start() -> Self {
        let files = Files::default();
        let router = Router::new().route("/{name}", get(file)).with_state(files.clone());
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", socket.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(socket, router).await.unwrap() });
        Self { base, files, task }
    }

    fn put(&self, name: &str, content: Vec<u8>) {
        self.files.files.lock().unwrap().insert(name.to_owned(), content);
    }
}

async fn file(
    State(files): State<Files>,
    axum::extract::Path(name): axum::extract::Path<String>,
) -> Result<Vec<u8>, StatusCode> {
    files.asked.fetch_add(1, Ordering::SeqCst);
    files.files.lock().unwrap().get(&name).cloned().ok_or(StatusCode::NOT_FOUND)
}

fn listed_at(url: String) -> impl FnOnce(&mut CertificateParams) {
    move |made| made.crl_distribution_points = vec![CrlDistributionPoint { uris: vec![url] }]
}

#[tokio::test]
async fn lists_are_fetched_where_the_policy_says_so_and_kept() {
    let app = TestApp::with(LOCAL).await;
    let client = service(&app, &app.tenant("fetching").await).await;
    let (root, server) = (authority("root", usual), FileServer::start().await);
    trust(&client, &[&root]).await;
    let at = |name: &str| format!("{}/{name}", server.base);
    let (alice, mallory) = (root.leaf("alice", listed_at(at("crl"))), root.leaf("mallory", listed_at(at("crl"))));
    server.put("crl", root.list(&[&mallory], (2025, 2094), None).der().to_vec());
    policy(&client, "HARD_FAIL", false, false).await;
    assert_eq!(outcome(&client, &[&alice]).await, "REVOCATION_UNKNOWN");
    assert_eq!(server.files.asked.load(Ordering::SeqCst), 0);
    policy(&client, "HARD_FAIL", false, true).await;
    assert_eq!(outcome(&client, &[&alice]).await, "alice@acme.example");
    assert_eq!(outcome(&client, &[&mallory]).await, "REVOKED");
    assert_eq!(server.files.asked.load(Ordering::SeqCst), 1, "it is kept");
    assert_eq!(client.ok(LISTS, json!({})).await["revocationLists"][0]["source"], "FETCHED");
    // What is no list of this authority is none; a place that has none is left alone for a while.
    let second = authority("second", usual);
    trust(&client, &[&second]).await;
    server.put("other", root.list(&[], (2025, 2094), None).der().to_vec());
    server.put("large", vec![0; 5 * 1024 * 1024]);
    for (name, problem) in [("other", "another issuer"), ("missing", "status 404"), ("large", "larger than")] {
        let leaf = second.leaf("bob", listed_at(at(name)));
        let refused = check(&client, &[&leaf]).await["refusal"].clone();
        assert_eq!(refused["reason"], "REVOCATION_UNKNOWN", "{name}");
        assert!(refused["message"].as_str().unwrap().contains(problem), "{refused}");
    }
    let before = server.files.asked.load(Ordering::SeqCst);
    check(&client, &[&second.leaf("bob", listed_at(at("missing")))]).await;
    assert_eq!(server.files.asked.load(Ordering::SeqCst), before);
    // One of several lists of an authority is about certificates that name its place.
    let third = authority("third", usual);
    trust(&client, &[&third]).await;
    server.put("part", third.list(&[], (2025, 2094), Some(&at("part"))).der().to_vec());
    assert_eq!(outcome(&client, &[&third.leaf("carol", listed_at(at("part")))]).await, "carol@acme.example");
    server.put("elsewhere", third.list(&[], (2025, 2094), Some(&at("part"))).der().to_vec());
    assert_eq!(outcome(&client, &[&third.leaf("dave", listed_at(at("elsewhere")))]).await, "REVOCATION_UNKNOWN");
}

#[tokio::test]
async fn addresses_of_the_inside_are_not_asked() {
    let app = TestApp::start().await;
    let client = service(&app, &app.tenant("inside").await).await;
    let (root, server) = (authority("root", usual), FileServer::start().await);
    trust(&client, &[&root]).await;
    policy(&client, "HARD_FAIL", true, true).await;
    let port = server.base.rsplit_once(':').unwrap().1;
    for url in [
        format!("{}/crl", server.base),
        format!("http://localhost:{port}/crl"),
        format!("http://[::ffff:127.0.0.1]:{port}/crl"),
        format!("http://2130706433:{port}/crl"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
    ] {
        let leaf = root.leaf("alice", |made| {
            made.custom_extensions = vec![responder(&url)];
            listed_at(url.clone())(made);
        });
        let refused = check(&client, &[&leaf]).await["refusal"].clone();
        assert_eq!(refused["reason"], "REVOCATION_UNKNOWN", "{url}");
        assert!(refused["message"].as_str().unwrap().contains("may not be asked"), "{url}: {refused}");
    }
    assert_eq!(server.files.asked.load(Ordering::SeqCst), 0);
}

/// authorityInfoAccess with this responder.
fn responder(url: &str) -> rcgen::CustomExtension {
    let tlv = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
    let method = [0x06, 8, 0x2b, 6, 1, 5, 5, 7, 48, 1];
    let access = tlv(0x30, &[method.to_vec(), tlv(0x86, url.as_bytes())].concat());
    extension(&[1, 3, 6, 1, 5, 5, 7, 1, 1], &tlv(0x30, &access), false)
}

/// `openssl ocsp`, answering for one authority. It ends with this value.
struct Responder {
    url: String,
    port: u16,
    child: Option<Child>,
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Responder {
    /// A place for one, so that certificates can name it before it knows of them: it reads its index as it starts.
    fn to_be() -> Self {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self { url: format!("http://{address}/"), port: address.port(), child: None }
    }

    /// Answers for five minutes each.
    fn start(&mut self, authority: &Made, signer: &Made, (good, revoked): (&[&Made], &[&Made])) {
        let place = place();
        let serial =
            |made: &Made| made.serial().to_bytes().iter().map(|byte| format!("{byte:02X}")).collect::<String>();
        let good = good.iter().map(|made| format!("V\t950101000000Z\t\t{}\tunknown\t/CN=x\n", serial(made)));
        let revoked =
            revoked.iter().map(|made| format!("R\t950101000000Z\t260101000000Z\t{}\tunknown\t/CN=x\n", serial(made)));
        for (name, text) in [
            ("ca.pem", authority.pem()),
            ("signer.pem", signer.pem()),
            ("signer.key", signer.key.serialize_pem()),
            ("index.txt", good.chain(revoked).collect()),
        ] {
            std::fs::write(place.join(name), text).unwrap();
        }
        let arguments = format!(
            "ocsp -index index.txt -port {} -rsigner signer.pem -rkey signer.key -CA ca.pem -rmd sha256 -nmin 5",
            self.port
        );
        let mut child = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(&place)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is there: scripts/bootstrap.sh test installs it");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.child = Some(child);
        assert!(line.starts_with("ACCEPT"), "{line:?}");
    }
}

/// A tenant that has all of its certificates asked about.
async fn asking(app: &TestApp, slug: &str, root: &Made) -> Client {
    let client = service(app, &app.tenant(slug).await).await;
    trust(&client, &[root]).await;
    policy(&client, "HARD_FAIL", true, false).await;
    client
}

fn answered_by(url: &str) -> impl FnOnce(&mut CertificateParams) {
    let responder = responder(url);
    move |made| made.custom_extensions = vec![responder]
}

fn answering(made: &mut CertificateParams) {
    made.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
}

#[tokio::test]
async fn a_responder_of_openssl_is_asked_and_its_answer_remembered() {
    let app = TestApp::with(LOCAL).await;
    let root = authority("root", usual);
    let client = asking(&app, "responder", &root).await;
    for (signer, name) in
        [(None, "the authority itself"), (Some(root.leaf("responder", answering)), "whom it has allowed to")]
    {
        let mut responder = Responder::to_be();
        let leaf = |name: &str| root.leaf(name, answered_by(&responder.url));
        let (alice, mallory, unknown) = (leaf("alice"), leaf("mallory"), leaf("unknown"));
        responder.start(&root, signer.as_ref().unwrap_or(&root), (&[&alice], &[&mallory]));
        let checked = check(&client, &[&alice]).await;
        assert_eq!(checked["certificate"]["revocation"][0]["by"], "RESPONDER", "{name}: {checked}");
        assert_eq!(outcome(&client, &[&mallory]).await, "REVOKED", "{name}");
        assert_eq!(outcome(&client, &[&unknown]).await, "REVOCATION_UNKNOWN", "{name}");
        drop(responder);
        assert_eq!(outcome(&client, &[&alice]).await, "alice@acme.example", "{name}: it is remembered");
        // Not longer than it is good.
        app.advance(TimeDelta::minutes(6));
        assert_eq!(outcome(&client, &[&alice]).await, "REVOCATION_UNKNOWN", "{name}");
        app.advance(TimeDelta::minutes(-6));
    }
}

#[tokio::test]
async fn answers_of_others_are_not_believed() {
    let app = TestApp::with(LOCAL).await;
    let (root, other) = (authority("root", usual), authority("other", usual));
    let client = asking(&app, "deceived", &root).await;
    let expired = root.leaf("expired", |made| {
        answering(made);
        made.not_after = rcgen::date_time_ymd(2025, 2, 1);
    });
    for (signer, problem) in [
        (root.leaf("no-responder", usual), "not for it"),
        (other.leaf("responder", answering), "has not allowed"),
        (authority("root", usual), "does not fit"),
        (expired, "not in force"),
    ] {
        let mut responder = Responder::to_be();
        let alice = root.leaf("alice", answered_by(&responder.url));
        responder.start(&root, &signer, (&[&alice], &[]));
        let refused = check(&client, &[&alice]).await["refusal"].clone();
        assert_eq!(refused["reason"], "REVOCATION_UNKNOWN", "{problem}: {refused}");
        assert!(refused["message"].as_str().unwrap().contains(problem), "{problem}: {refused}");
    }
    // A responder that is silent takes its time, and then no more of it.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let holding = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            held.push(stream);
        }
    });
    let alice = root.leaf("alice", answered_by(&url));
    for _ in 0..3 {
        let refused = check(&client, &[&alice]).await["refusal"].clone();
        assert!(refused["message"].as_str().unwrap().contains("did not answer in time"), "{refused}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "it is left alone for a while");
    holding.abort();
}

#[tokio::test]
async fn an_old_answer_is_not_believed() {
    let app = TestApp::with(LOCAL).await;
    let root = authority("root", usual);
    let client = asking(&app, "replayed", &root).await;
    let (place, server) = (place(), FileServer::start().await);
    // Recorded from a real responder without a nonce, and played to whoever asks later.
    let mut responder = Responder::to_be();
    let alice = root.leaf("alice", answered_by(&format!("{}/recorded", server.base)));
    responder.start(&root, &root, (&[&alice], &[]));
    std::fs::write(place.join("ca.pem"), root.pem()).unwrap();
    std::fs::write(place.join("alice.pem"), alice.pem()).unwrap();
    let (made, told) = openssl(
        &place,
        &format!(
            "ocsp -issuer ca.pem -cert alice.pem -url {} -no_nonce -noverify -respout recorded.der",
            responder.url
        ),
    );
    assert!(made, "{told}");
    let recorded = std::fs::read(place.join("recorded.der")).unwrap();
    let player = Player::start(recorded).await;
    let played = root.sign_again(&alice, answered_by(&player.url));
    assert_eq!(outcome(&client, &[&played]).await, "alice@acme.example");
    let (made, told) = openssl(
        &place,
        &format!("ocsp -issuer ca.pem -cert alice.pem -url {} -nonce -noverify -respout other.der", responder.url),
    );
    assert!(made, "{told}");
    let client = asking(&app, "replayed-with-nonce", &root).await;
    let other = Player::start(std::fs::read(place.join("other.der")).unwrap()).await;
    let played = root.sign_again(&alice, answered_by(&other.url));
    let refused = check(&client, &[&played]).await["refusal"].clone();
    assert!(refused["message"].as_str().unwrap().contains("another question"), "{refused}");
    app.advance(TimeDelta::minutes(12));
    let client = asking(&app, "replayed-later", &root).await;
    let played = root.sign_again(&alice, answered_by(&player.url));
    let refused = check(&client, &[&played]).await["refusal"].clone();
    assert!(refused["message"].as_str().unwrap().contains("too old"), "{refused}");
}

/// Answers everything that is posted with the same bytes.
struct Player {
    url: String,
    task: JoinHandle<()>,
}

impl Drop for Player {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Player {
    async fn start(answer: Vec<u8>) -> Self {
        let router = Router::new().route("/", axum::routing::post(async move || answer.clone()));
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", socket.local_addr().unwrap());
        Self { url, task: tokio::spawn(async move { axum::serve(socket, router).await.unwrap() }) }
    }
}
