//! A transit secrets engine over HTTP, as the documentation of Vault and OpenBao tells it: no registry that a build reaches has either
//! server. Keys, versions, associated data, tokens and refusals are real; there is no storage.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    rand,
};
use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

pub const TOKEN: &str = "hvs.a-token-of-the-suite";

/// A running server; dropped, it ends.
pub struct TransitServer {
    pub address: SocketAddr,
    state: Shared,
    task: JoinHandle<()>,
}

type Shared = Arc<Mutex<Engine>>;

#[derive(Default)]
struct Engine {
    mood: Mood,
    keys: BTreeMap<String, Key>,
    calls: BTreeMap<&'static str, usize>,
}

/// How it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Well,
    /// Takes requests and answers none.
    Silent,
    /// 503, as a server that is sealed.
    Sealed,
    /// Refuses to encrypt, and does all else.
    NoEncryption,
    /// Has one key behind all names, and binds nothing.
    Careless,
}

#[derive(Default)]
struct Key {
    versions: Vec<[u8; 32]>,
    deletion_allowed: bool,
}

impl TransitServer {
    pub async fn start() -> Self {
        let state = Shared::default();
        let engine = Router::new()
            .route("/keys/{name}", get(read).post(create).delete(delete))
            .route("/keys/{name}/config", post(configure))
            .route("/keys/{name}/rotate", post(rotate))
            .route("/encrypt/{name}", post(encrypt))
            .route("/decrypt/{name}", post(decrypt));
        let router = Router::new()
            .nest("/v1/transit", engine)
            .layer(middleware::from_fn_with_state(state.clone(), admit))
            .with_state(state.clone());
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(socket, router).await.unwrap() });
        Self { address, state, task }
    }

    pub fn set(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    /// Names of the keys that are there.
    pub fn keys(&self) -> Vec<String> {
        self.state.lock().unwrap().keys.keys().cloned().collect()
    }

    /// All key material.
    pub fn material(&self) -> Vec<Vec<u8>> {
        let engine = self.state.lock().unwrap();
        engine.keys.values().flat_map(|key| key.versions.iter().map(|version| version.to_vec())).collect()
    }

    pub fn calls(&self, operation: &str) -> usize {
        self.state.lock().unwrap().calls.get(operation).copied().unwrap_or_default()
    }

    /// The settings (TOML) of a server that uses it for enterprise tenants.
    pub fn settings(&self) -> String {
        let address = self.address;
        format!(
            "[keys]\nenterprise = \"transit\"\ntimeout = \"10s\"\n[keys.transit]\naddress = \"http://{address}\"\ntoken = \"{TOKEN}\"\n"
        )
    }
}

impl Drop for TransitServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn refused(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "errors": [error] }))).into_response()
}

async fn admit(State(state): State<Shared>, request: Request, next: Next) -> Response {
    let mood = state.lock().unwrap().mood;
    match mood {
        Mood::Silent => tokio::time::sleep(Duration::from_secs(60)).await,
        Mood::Sealed => return refused(StatusCode::SERVICE_UNAVAILABLE, "Vault is sealed"),
        Mood::NoEncryption if request.uri().path().contains("/encrypt/") => {
            return refused(StatusCode::SERVICE_UNAVAILABLE, "Vault is sealed");
        }
        _ => {}
    }
    match request.headers().get("x-vault-token") {
        Some(token) if token == TOKEN => next.run(request).await,
        _ => refused(StatusCode::FORBIDDEN, "permission denied"),
    }
}

fn fresh<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).unwrap();
    bytes
}

fn cipher(key: &[u8]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap())
}

fn bytes(body: &Value, member: &str) -> Option<Vec<u8>> {
    STANDARD.decode(body[member].as_str().unwrap_or_default()).ok()
}

async fn create(State(state): State<Shared>, Path(name): Path<String>, Json(body): Json<Value>) -> Response {
    if body["type"] != "aes256-gcm96" {
        return refused(StatusCode::BAD_REQUEST, "unknown key type");
    }
    let mut engine = state.lock().unwrap();
    let key = engine.keys.entry(name).or_default();
    if key.versions.is_empty() {
        key.versions.push(fresh());
    }
    Json(json!({ "data": { "latest_version": key.versions.len() } })).into_response()
}

async fn read(State(state): State<Shared>, Path(name): Path<String>) -> Response {
    match state.lock().unwrap().keys.get(&name) {
        Some(key) => Json(json!({ "data": { "name": name, "latest_version": key.versions.len() } })).into_response(),
        None => (StatusCode::NOT_FOUND, Json(json!({ "errors": [] }))).into_response(),
    }
}

async fn configure(State(state): State<Shared>, Path(name): Path<String>, Json(body): Json<Value>) -> Response {
    match state.lock().unwrap().keys.get_mut(&name) {
        Some(key) => {
            key.deletion_allowed = body["deletion_allowed"].as_bool().unwrap_or(key.deletion_allowed);
            StatusCode::NO_CONTENT.into_response()
        }
        None => refused(StatusCode::BAD_REQUEST, &format!("no existing key named {name} could be found")),
    }
}

async fn rotate(State(state): State<Shared>, Path(name): Path<String>) -> Response {
    match state.lock().unwrap().keys.get_mut(&name) {
        Some(key) => {
            key.versions.push(fresh());
            StatusCode::NO_CONTENT.into_response()
        }
        None => refused(StatusCode::BAD_REQUEST, "key not found"),
    }
}

async fn delete(State(state): State<Shared>, Path(name): Path<String>) -> Response {
    let mut engine = state.lock().unwrap();
    match engine.keys.get(&name) {
        Some(key) if key.deletion_allowed => {
            engine.keys.remove(&name);
            StatusCode::NO_CONTENT.into_response()
        }
        Some(_) => refused(StatusCode::BAD_REQUEST, "deletion is not allowed for this key"),
        None => refused(StatusCode::BAD_REQUEST, "could not delete key; not found"),
    }
}

impl Engine {
    fn key(&self, name: &str) -> Option<&Key> {
        if self.mood == Mood::Careless { self.keys.values().next() } else { self.keys.get(name) }
    }

    fn bound(&self, body: &Value) -> Option<Vec<u8>> {
        if self.mood == Mood::Careless { Some(Vec::new()) } else { bytes(body, "associated_data") }
    }
}

async fn encrypt(State(state): State<Shared>, Path(name): Path<String>, Json(body): Json<Value>) -> Response {
    let mut engine = state.lock().unwrap();
    *engine.calls.entry("encrypt").or_default() += 1;
    let Some(key) = engine.key(&name) else {
        return refused(StatusCode::BAD_REQUEST, "encryption key not found");
    };
    let (Some(mut text), Some(bound)) = (bytes(&body, "plaintext"), engine.bound(&body)) else {
        return refused(StatusCode::BAD_REQUEST, "failed to base64-decode plaintext");
    };
    let nonce: [u8; 12] = fresh();
    cipher(key.versions.last().unwrap())
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound), &mut text)
        .unwrap();
    let version = key.versions.len();
    let ciphertext = format!("vault:v{version}:{}", STANDARD.encode([nonce.as_slice(), &text].concat()));
    Json(json!({ "data": { "ciphertext": ciphertext, "key_version": version } })).into_response()
}

async fn decrypt(State(state): State<Shared>, Path(name): Path<String>, Json(body): Json<Value>) -> Response {
    let mut engine = state.lock().unwrap();
    *engine.calls.entry("decrypt").or_default() += 1;
    let Some(key) = engine.key(&name) else {
        return refused(StatusCode::BAD_REQUEST, "encryption key not found");
    };
    let opened = || {
        let (version, sealed) = body["ciphertext"].as_str()?.strip_prefix("vault:v")?.split_once(':')?;
        let key = key.versions.get(version.parse::<usize>().ok()?.checked_sub(1)?)?;
        let (nonce, mut text) =
            STANDARD.decode(sealed).ok().map(|bytes| (bytes[..12].to_vec(), bytes[12..].to_vec()))?;
        let nonce = Nonce::try_assume_unique_for_key(&nonce).ok()?;
        let text = cipher(key).open_in_place(nonce, Aad::from(engine.bound(&body)?), &mut text).ok()?;
        Some(STANDARD.encode(text))
    };
    match opened() {
        Some(plaintext) => Json(json!({ "data": { "plaintext": plaintext } })).into_response(),
        None => refused(StatusCode::BAD_REQUEST, "invalid ciphertext: unable to decrypt"),
    }
}
