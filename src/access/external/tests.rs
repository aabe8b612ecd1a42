use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    http::{StatusCode, header::LOCATION},
    response::IntoResponse as _,
    routing::get,
};
use serde_json::{Value, json};

use super::*;
use crate::access::{
    keyring::{
        OwnKey,
        fixture::{self, AUDIENCE, EXTERNAL},
    },
    verifier::{AcceptedIssuer, Reason, VerifierSettings},
};

/// An issuer whose answer can be changed, and which counts how often it is asked.
#[derive(Clone, Default)]
struct Idp {
    answer: Arc<Mutex<(u16, String)>>,
    asked: Arc<AtomicUsize>,
}

impl Idp {
    fn answers(&self, status: u16, body: impl Into<String>) {
        *self.answer.lock().expect("not poisoned") = (status, body.into());
    }

    fn publishes(&self, keys: &[OwnKey]) {
        self.answers(200, set(keys).to_string());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    async fn start(&self) -> SocketAddr {
        let idp = self.clone();
        let answer = move || async move {
            idp.asked.fetch_add(1, Ordering::SeqCst);
            let (status, body) = idp.answer.lock().expect("not poisoned").clone();
            (StatusCode::from_u16(status).expect("a status"), [(LOCATION, "/other")], body).into_response()
        };
        let other = || async { set(&[fixture::own_key()]).to_string() };
        let endless =
            || async { Body::from_stream(futures::stream::repeat(Ok::<_, Infallible>(" ".repeat(64 * 1024)))) };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let app = Router::new().route("/jwks", get(answer)).route("/other", get(other)).route("/endless", get(endless));
        tokio::spawn(async move { axum::serve(listener, app).await });
        address
    }
}

struct Setup {
    idp: Idp,
    clock: Clock,
    external: Arc<ExternalKeys>,
    verifier: TokenVerifier,
}

fn set(keys: &[OwnKey]) -> Value {
    json!({ "keys": keys.iter().map(|key| key.public().jwk()).collect::<Vec<_>>() })
}

fn external(jwks: String, ring: &Arc<KeyRing>, clock: &Clock) -> Result<ExternalKeys> {
    let issuer = ExternalIssuer {
        platform_roles: true,
        issuer: EXTERNAL.to_owned(),
        audience: String::new(),
        jwks,
        refresh: Duration::from_secs(600),
    };
    ExternalKeys::new(&[issuer], Arc::clone(ring), clock.clone())
}

async fn setup() -> Setup {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let (idp, clock, ring) = (Idp::default(), Clock::default(), Arc::new(KeyRing::new(fixture::ISSUER)));
    idp.publishes(&[fixture::own_key()]);
    let address = idp.start().await;
    let external = Arc::new(external(format!("http://{address}/jwks"), &ring, &clock).expect("good settings"));
    let issuers =
        vec![AcceptedIssuer { issuer: EXTERNAL.to_owned(), audience: AUDIENCE.to_owned(), max_lifetime: None }];
    let settings = VerifierSettings { issuers, leeway: Duration::ZERO, cache_capacity: 100 };
    Setup { idp, verifier: TokenVerifier::new(settings, clock.clone(), ring), clock, external }
}

impl Setup {
    fn token(&self, key: &OwnKey) -> String {
        let mut claims = fixture::claims(self.clock.now().timestamp());
        claims.iss = EXTERNAL.to_owned();
        claims.exp += 10 * 24 * 3600;
        fixture::forge(
            key,
            &json!({ "alg": "RS256", "kid": key.kid() }).to_string(),
            &serde_json::to_string(&claims).expect("claims"),
        )
    }

    fn reason(&self, key: &OwnKey) -> Option<Reason> {
        self.verifier.verify(&self.token(key)).err().map(|rejected| rejected.reason())
    }

    fn run(&self) -> CancellationToken {
        let (shutdown, external) = (CancellationToken::new(), Arc::clone(&self.external));
        tokio::spawn({
            let shutdown = shutdown.clone();
            async move { external.run(shutdown).await }
        });
        shutdown
    }
}

#[tokio::test]
async fn keys_come_from_an_address_or_a_file() {
    let setup = setup().await;
    assert_eq!(setup.reason(&fixture::own_key()), Some(Reason::UnknownKey));
    setup.external.load().await;
    assert_eq!(setup.reason(&fixture::own_key()), None);

    let (ring, clock) = (Arc::new(KeyRing::new(fixture::ISSUER)), Clock::default());
    let path = std::env::temp_dir().join(format!("tenantry-jwks-{}.json", std::process::id()));
    std::fs::write(&path, set(&[fixture::other_key()]).to_string()).expect("a temporary file");
    external(path.display().to_string(), &ring, &clock).expect("good settings").load().await;
    assert!(ring.find(EXTERNAL, fixture::other_key().kid()).0.is_some());

    std::fs::write(&path, format!("{}{}", set(&[]), " ".repeat(513 * 1024))).expect("a temporary file");
    external(path.display().to_string(), &ring, &clock).expect("good settings").load().await;
    assert!(ring.find(EXTERNAL, fixture::other_key().kid()).0.is_some(), "a file that is too large changes nothing");
    std::fs::remove_file(&path).expect("the temporary file");
}

#[tokio::test]
async fn a_bad_answer_stops_nothing_and_changes_nothing() {
    let setup = setup().await;
    setup.external.load().await;
    let many = format!("{}{}", set(&[fixture::other_key()]), " ".repeat(513 * 1024));
    for (status, body) in [
        (500, ""),
        (404, ""),
        (302, ""),
        (200, ""),
        (200, "[]"),
        (200, "<html>"),
        (204, "{\"keys\":[]}"),
        (200, many.as_str()),
    ] {
        setup.idp.answers(status, body);
        setup.external.load().await;
        assert_eq!(setup.reason(&fixture::own_key()), None, "{status} {:.10}", body);
    }
    assert_eq!(setup.external.sources[0].progress.borrow().failures, 8);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let setup = setup().await;
    setup.idp.answers(302, "");
    setup.external.load().await;
    assert_eq!(setup.reason(&fixture::own_key()), Some(Reason::UnknownKey), "/other would have had the key");
}

#[tokio::test]
async fn an_endless_answer_is_left_once_it_is_too_large() {
    setup().await;
    let place = Place::parse(&format!("http://{}/endless", Idp::default().start().await)).expect("an address");
    let error = fetch(&fetch::client().expect("a client"), &place).await.expect_err("no end");
    assert_eq!(error.to_string(), "the key set is larger than 512 KiB");
}

#[tokio::test]
async fn at_most_64_keys_are_taken() {
    let setup = setup().await;
    let mut keys = vec![json!({ "kty": "EC" }); 64];
    keys.push(fixture::own_key().public().jwk());
    setup.idp.answers(200, json!({ "keys": keys }).to_string());
    setup.external.load().await;
    assert_eq!(setup.reason(&fixture::own_key()), Some(Reason::UnknownKey));
    keys.remove(0);
    setup.idp.answers(200, json!({ "keys": keys }).to_string());
    setup.external.load().await;
    assert_eq!(setup.reason(&fixture::own_key()), None);
}

#[tokio::test]
async fn keys_of_an_unreachable_issuer_are_kept_for_a_day() {
    let setup = setup().await;
    setup.external.load().await;
    setup.idp.answers(503, "");
    setup.clock.advance(TimeDelta::hours(24) - TimeDelta::seconds(60));
    setup.external.load().await;
    assert_eq!(setup.reason(&fixture::own_key()), None);
    setup.clock.advance(TimeDelta::seconds(60));
    setup.external.load().await;
    assert_eq!(setup.reason(&fixture::own_key()), Some(Reason::UnknownKey));
    setup.idp.publishes(&[fixture::own_key()]);
    setup.external.load().await;
    assert_eq!(setup.reason(&fixture::own_key()), None);
}

#[tokio::test]
async fn a_new_key_is_looked_for_once_and_tokens_wait_for_it() {
    let setup = setup().await;
    setup.external.load().await;
    let shutdown = setup.run();
    setup.clock.advance(TimeDelta::seconds(31));
    setup.idp.publishes(&[fixture::own_key(), fixture::other_key()]);
    let tokens =
        [setup.token(&fixture::other_key()), setup.token(&fixture::other_key()), setup.token(&fixture::own_key())];
    let verified = join_all(tokens.iter().map(|token| setup.external.verify_or_refresh(&setup.verifier, token))).await;
    assert!(verified.iter().all(Result::is_ok));
    assert_eq!(setup.idp.asked(), 2);
    shutdown.cancel();
}

#[tokio::test]
async fn unknown_keys_cannot_make_us_ask_more_than_every_30_seconds() {
    let setup = setup().await;
    let shutdown = setup.run();
    while setup.external.sources[0].progress.borrow().finished == 0 {
        tokio::task::yield_now().await;
    }
    for (seconds, asked) in [(0, 1), (20, 1), (11, 2), (0, 2), (20, 2), (11, 3)] {
        setup.clock.advance(TimeDelta::seconds(seconds));
        let token = setup.token(&fixture::other_key());
        let rejected =
            setup.external.verify_or_refresh(&setup.verifier, &token).await.expect_err("the key is never published");
        assert_eq!(rejected.reason(), Reason::UnknownKey);
        assert_eq!(setup.idp.asked(), asked);
    }
    let known = setup.token(&fixture::own_key());
    assert!(setup.external.verify_or_refresh(&setup.verifier, &known).await.is_ok());
    let foreign = setup.token(&fixture::own_key()).replace('.', "..");
    assert!(setup.external.verify_or_refresh(&setup.verifier, &foreign).await.is_err());
    assert_eq!(setup.idp.asked(), 3);
    shutdown.cancel();
}

#[tokio::test]
async fn the_background_loop_ends_at_shutdown() {
    let setup = setup().await;
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    setup.external.run(shutdown).await;
}

#[test]
fn retries_back_off_and_never_exceed_the_interval() {
    let issuer = |refresh| ExternalIssuer {
        platform_roles: true,
        issuer: EXTERNAL.to_owned(),
        audience: String::new(),
        jwks: "/jwks".to_owned(),
        refresh,
    };
    let pause = |refresh, failures| {
        let source = Source::new(&issuer(Duration::from_secs(refresh))).expect("good settings");
        source.pause(Progress { failures, ..Progress::default() }).as_secs()
    };
    assert_eq!([0, 1, 2, 3, 6, 7, 8, u32::MAX].map(|failures| pause(600, failures)), [600, 1, 2, 4, 32, 60, 60, 60]);
    assert_eq!([0, 1, 9].map(|failures| pause(5, failures)), [5, 1, 5]);
    assert_eq!(pause(0, 0), 1);
}

#[test]
fn settings_are_checked() {
    let ring = Arc::new(KeyRing::new(fixture::ISSUER));
    assert!(external("http://idp.example/jwks".to_owned(), &ring, &Clock::default()).is_err());
    let issuer = ExternalIssuer {
        platform_roles: true,
        issuer: EXTERNAL.to_owned(),
        audience: String::new(),
        jwks: "/jwks".to_owned(),
        refresh: Duration::ZERO,
    };
    assert!(ExternalKeys::new(&[issuer.clone(), issuer], ring, Clock::default()).is_err());
}
