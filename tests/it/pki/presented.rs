//! Where the certificate comes from: the client's own handshake, or a header of a proxy that is trusted, and nowhere else.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rcgen::{KeyUsagePurpose, SanType};
use serde_json::{Value, json};
use tenantry::edge::{self, listener};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

use super::{
    CHECK,
    made::{Made, authority, place, usual},
    service, trust,
};
use crate::{
    binary::Binary,
    support::{Client, TestApp, database},
};

/// A listener with TLS beside the server of a test.
pub struct Secure {
    pub address: SocketAddr,
    task: JoinHandle<()>,
    reloading: JoinHandle<()>,
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.task.abort();
        self.reloading.abort();
    }
}

pub async fn secure(app: &TestApp) -> Secure {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let tls = listener::Tls::new(&app.app.config.tls).unwrap();
    let (router, limits) = (edge::router(&app.app), edge::connection_limits(&app.app.config.server));
    let reloading = tokio::spawn(tls.clone().reload(app.app.config.tls.reload, app.app.shutdown.clone()));
    let task = tokio::spawn(listener::serve_tls(socket, tls, router, limits, std::future::pending()));
    Secure { address, task, reloading }
}

/// A server's certificate for localhost, written where the settings say.
pub fn write_server(place: &Path, issuer: &Made, name: &str) -> Made {
    let made = issuer.leaf(name, |made| {
        made.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())];
        made.extended_key_usages.clear();
    });
    std::fs::write(place.join("server.key"), made.key.serialize_pem()).unwrap();
    std::fs::write(place.join("server.pem"), made.pem()).unwrap();
    made
}

pub fn settings(place: &Path, more: &str) -> String {
    format!(
        "[tls]\nlisten = \"127.0.0.1:0\"\nreload = \"100ms\"\ncertificate_file = \"{0}/server.pem\"\nkey_file = \"{0}/server.key\"\n{more}",
        place.display()
    )
}

/// Speaks TLS, with a certificate or without.
#[expect(clippy::disallowed_methods, reason = "the suite's own client")]
pub fn speaker(server: &Made, own: Option<&[&Made]>) -> reqwest::Client {
    let root = reqwest::Certificate::from_pem(server.pem().as_bytes()).unwrap();
    let mut builder = reqwest::Client::builder().no_proxy().tls_certs_only([root]);
    if let Some(own) = own {
        let chain: String = own.iter().map(|made| made.pem()).collect();
        let pem = own[0].key.serialize_pem() + &chain;
        builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
    }
    builder.build().unwrap()
}

async fn ask(http: &reqwest::Client, address: SocketAddr, client: &Client) -> Value {
    let body = json!({ "query": CHECK, "variables": { "input": {} } });
    let url = format!("https://localhost:{}/graphql", address.port());
    let answer = http.post(url).bearer_auth(client.token().unwrap()).json(&body).send().await.unwrap();
    let body: Value = answer.json().await.unwrap();
    body["data"]["checkCertificate"].clone()
}

#[tokio::test]
async fn a_client_shows_its_certificate_in_the_handshake() {
    let (place, issuer) = (place(), authority("server", usual));
    write_server(&place, &issuer, "localhost");
    let app = TestApp::with(&settings(&place, "")).await;
    let client = service(&app, &app.tenant("mutual").await).await;
    let root = authority("root", usual);
    let sub = root.authority("sub", usual);
    trust(&client, &[&root]).await;
    let secure = secure(&app).await;
    let alice = sub.leaf("alice", usual);
    let checked = ask(&speaker(&issuer, Some(&[&alice, &sub])), secure.address, &client).await;
    assert_eq!((&checked["origin"], &checked["accepted"]), (&json!("HANDSHAKE"), &json!(true)), "{checked}");
    assert_eq!(checked["certificate"]["identity"]["value"], "alice@acme.example");
    // Several requests over one connection, and HTTP/2 by the handshake's choice.
    let http = speaker(&issuer, Some(&[&alice, &sub]));
    for _ in 0..3 {
        assert_eq!(ask(&http, secure.address, &client).await["accepted"], true);
    }
    let none = ask(&speaker(&issuer, None), secure.address, &client).await;
    assert_eq!(none["refusal"]["reason"], "MISSING", "{none}");
    // The handshake takes anybody's who has the key; the tenant does not.
    let stranger =
        authority("stranger", usual).leaf("alice", |made| made.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    let refused = ask(&speaker(&issuer, Some(&[&stranger])), secure.address, &client).await;
    assert_eq!(
        (&refused["origin"], &refused["refusal"]["reason"]),
        (&json!("HANDSHAKE"), &json!("UNTRUSTED")),
        "{refused}"
    );
}

#[tokio::test]
async fn the_servers_certificate_is_read_again_and_a_broken_one_is_not() {
    let (place, issuer) = (place(), authority("server", usual));
    write_server(&place, &issuer, "first");
    let app = TestApp::with(&settings(&place, "")).await;
    let client = service(&app, &app.tenant("reload").await).await;
    let secure = secure(&app).await;
    let knows = async |issuer: &Made| {
        let http = speaker(issuer, None);
        let url = format!("https://localhost:{}/livez", secure.address.port());
        http.get(url).send().await.is_ok_and(|answer| answer.status() == 200)
    };
    assert!(knows(&issuer).await);
    std::fs::write(place.join("server.pem"), "rubbish").unwrap();
    let next = authority("next", usual);
    // What cannot be used is looked at by hand: it changes nothing.
    let broken = listener::Tls::new(&app.app.config.tls).err().unwrap();
    assert_eq!(broken.field(), Some("tls.certificate_file"));
    assert!(knows(&issuer).await);
    write_server(&place, &next, "second");
    for _ in 0..200 {
        if knows(&next).await {
            assert!(!knows(&issuer).await);
            assert_eq!(ask(&speaker(&next, None), secure.address, &client).await["refusal"]["reason"], "MISSING");
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the certificate is not read again");
}

#[tokio::test]
async fn a_handshake_that_stands_still_or_is_none_ends() {
    let (place, issuer) = (place(), authority("server", usual));
    write_server(&place, &issuer, "localhost");
    let app = TestApp::with(&settings(&place, "[server]\nfirst_byte_timeout = \"300ms\"")).await;
    let secure = secure(&app).await;
    for (sent, is_still) in
        [(&b""[..], true), (&[22, 3, 1][..], true), (b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n", false)]
    {
        let mut stream = TcpStream::connect(secure.address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let mut received = Vec::new();
        let ended = timeout(Duration::from_secs(20), stream.read_to_end(&mut received)).await;
        assert!(ended.is_ok(), "it is still open after {sent:?}");
        assert!(!received.starts_with(b"HTTP/1.1"), "plain text is answered");
        assert!(!is_still || received.is_empty(), "{received:?}");
    }
    let http = speaker(&issuer, None);
    let url = format!("https://localhost:{}/livez", secure.address.port());
    assert_eq!(http.get(url).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_key_of_another_certificate_is_told_and_not_repeated() {
    let (place, issuer) = (place(), authority("server", usual));
    write_server(&place, &issuer, "first");
    let other = issuer.leaf("other", usual).key.serialize_pem();
    std::fs::write(place.join("server.key"), &other).unwrap();
    let rules = settings_of(&settings(&place, "")).tls;
    let told = listener::Tls::new(&rules).err().unwrap().to_string();
    assert!(told.contains("tls.key_file") && told.contains("must be the key of"), "{told}");
    assert!(!told.contains(other.lines().nth(1).unwrap()));
}

fn settings_of(toml: &str) -> tenantry::config::Config {
    tenantry::config::Config::from_toml(&[toml]).unwrap()
}

pub fn header(made: &Made) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!(":{}:", STANDARD.encode(made.der()))
}

async fn ask_with(client: &Client, headers: &[(&str, String)]) -> Value {
    let body = json!({ "query": CHECK, "variables": { "input": {} } });
    let mut request = client.post("/graphql").json(&body);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    client.send(request).await.body
}

#[tokio::test]
async fn a_proxy_that_is_trusted_passes_certificates_on() {
    let app = TestApp::with("[tls]\nclient_certificate_proxies = [\"127.0.0.1/32\"]").await;
    let client = service(&app, &app.tenant("proxied").await).await;
    let root = authority("root", usual);
    let (sub, other) = (root.authority("sub", usual), authority("other", usual));
    trust(&client, &[&root]).await;
    let alice = sub.leaf("alice", usual);
    let chain = format!("{}, {}", header(&sub), header(&other));
    let told = ask_with(&client, &[("client-cert", header(&alice)), ("client-cert-chain", chain)]).await;
    let checked = &told["data"]["checkCertificate"];
    assert_eq!((&checked["origin"], &checked["accepted"]), (&json!("PROXY"), &json!(true)), "{told}");
    let alone = ask_with(&client, &[("client-cert", header(&alice))]).await;
    assert_eq!(alone["data"]["checkCertificate"]["refusal"]["reason"], "UNTRUSTED", "{alone}");
    assert_eq!(ask_with(&client, &[]).await["data"]["checkCertificate"]["refusal"]["reason"], "MISSING");
    let broken = ask_with(&client, &[("client-cert", "rubbish".to_owned())]).await;
    assert_eq!(broken["errors"][0]["extensions"]["field"], "client-cert", "{broken}");
    // As nginx escapes it.
    let nginx = app
        .replica(
            "[tls]\nclient_certificate_proxies = [\"127.0.0.1/32\"]\nclient_certificate_header = \"x-ssl-client-cert\"",
        )
        .await;
    let client = Client::new(nginx.url(""), client.token().map(str::to_owned), None, app.canaries.clone());
    let escaped =
        percent_encoding::utf8_percent_encode(&root.leaf("bob", usual).pem(), percent_encoding::NON_ALPHANUMERIC)
            .to_string();
    let told = ask_with(&client, &[("x-ssl-client-cert", escaped)]).await;
    assert_eq!(told["data"]["checkCertificate"]["certificate"]["identity"]["value"], "bob@acme.example", "{told}");
    let other = ask_with(&client, &[("client-cert", header(&alice))]).await;
    assert_eq!(
        other["data"]["checkCertificate"]["refusal"]["reason"], "MISSING",
        "another header than the one that is set"
    );
}

/// nginx before a server, as a deployment would have it; it ends with this value.
struct Nginx {
    address: SocketAddr,
    child: Child,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its master ends its worker.
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        self.child.wait().unwrap();
    }
}

impl Nginx {
    async fn start(place: &Path, server: SocketAddr) -> Self {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {}/{kind};", place.display()))
            .join(" ");
        let settings = format!(
            "daemon off; worker_processes 1; pid {0}/nginx.pid; error_log stderr; events {{ }}
             http {{ access_log off; {folders}
               server {{ listen {address} ssl; ssl_certificate {0}/server.pem; ssl_certificate_key {0}/server.key;
                 ssl_verify_client optional_no_ca;
                 location / {{ proxy_pass http://{server}; proxy_set_header X-SSL-Client-Cert $ssl_client_escaped_cert; }} }} }}",
            place.display()
        );
        std::fs::write(place.join("nginx.conf"), settings).unwrap();
        let program = Path::new("/usr/sbin/nginx");
        let child = Command::new(if program.exists() { program } else { "nginx".as_ref() })
            .args(["-e", "stderr", "-c"])
            .arg(place.join("nginx.conf"))
            .spawn()
            .expect("nginx is there: scripts/bootstrap.sh test installs it");
        let nginx = Self { address, child };
        for _ in 0..200 {
            if TcpStream::connect(address).await.is_ok() {
                return nginx;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("nginx does not start");
    }
}

#[tokio::test]
async fn nginx_passes_certificates_on_and_none_that_a_client_wrote() {
    let (place, issuer) = (place(), authority("server", usual));
    write_server(&place, &issuer, "localhost");
    let rules =
        "[tls]\nclient_certificate_proxies = [\"127.0.0.1/32\"]\nclient_certificate_header = \"x-ssl-client-cert\"";
    let app = TestApp::with(rules).await;
    let client = service(&app, &app.tenant("nginx").await).await;
    let root = authority("root", usual);
    trust(&client, &[&root]).await;
    let nginx = Nginx::start(&place, app.address).await;
    let alice = root.leaf("alice", usual);
    let checked = ask(&speaker(&issuer, Some(&[&alice])), nginx.address, &client).await;
    assert_eq!((&checked["origin"], &checked["accepted"]), (&json!("PROXY"), &json!(true)), "{checked}");
    assert_eq!(checked["certificate"]["identity"]["value"], "alice@acme.example");
    let escaped = percent_encoding::utf8_percent_encode(&alice.pem(), percent_encoding::NON_ALPHANUMERIC).to_string();
    let body = json!({ "query": CHECK, "variables": { "input": {} } });
    let spoofed = speaker(&issuer, None)
        .post(format!("https://localhost:{}/graphql", nginx.address.port()))
        .bearer_auth(client.token().unwrap())
        .header("x-ssl-client-cert", escaped)
        .header("client-cert", header(&alice))
        .json(&body);
    let told: Value = spoofed.send().await.unwrap().json().await.unwrap();
    assert_eq!(told["data"]["checkCertificate"]["refusal"]["reason"], "MISSING", "{told}");
}

#[tokio::test]
async fn nobody_else_is_believed_whatever_header_is_sent() {
    for rules in
        ["", "[tls]\nclient_certificate_proxies = [\"10.0.0.0/8\"]", "[server]\ntrusted_proxies = [\"127.0.0.1/32\"]"]
    {
        let app = TestApp::with(rules).await;
        let client = service(&app, &app.tenant("spoofed").await).await;
        let root = authority("root", usual);
        trust(&client, &[&root]).await;
        let alice = header(&root.leaf("alice", usual));
        let spoofed =
            ask_with(&client, &[("client-cert", alice.clone()), ("x-forwarded-for", "10.1.1.1".to_owned())]).await;
        assert_eq!(spoofed["data"]["checkCertificate"]["refusal"]["reason"], "MISSING", "{rules}: {spoofed}");
        let rubbish = ask_with(&client, &[("client-cert", "rubbish".to_owned())]).await;
        assert_eq!(
            rubbish["data"]["checkCertificate"]["refusal"]["reason"], "MISSING",
            "it is dropped unread: {rubbish}"
        );
    }
}

#[tokio::test]
async fn the_server_speaks_tls_as_it_is_set_up() {
    let (place, issuer) = (place(), authority("server", usual));
    write_server(&place, &issuer, "localhost");
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let file = |name: &str| place.join(name).display().to_string();
    let server = Binary::on(&database().await)
        .set("TLS__LISTEN", free.to_string())
        .set("TLS__CERTIFICATE_FILE", file("server.pem"))
        .set("TLS__KEY_FILE", file("server.key"))
        .serve()
        .await;
    let http = speaker(&issuer, None);
    let answer = http.get(format!("https://localhost:{}/readyz", free.port())).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2));
    assert!(server.stop().await.success());
}
