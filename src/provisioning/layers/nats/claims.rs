//! What NATS servers trust: signed claims of operator, accounts and users (NATS documentation, "In Depth JWT Guide").

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use nkeys::{KeyPair, KeyPairType};
use serde_json::{Value, json};

use super::super::super::Names;
use crate::{
    config,
    error::{Context as _, Error, Result},
    platform::{random, secret::Secret},
};

/// A user's key pair that exists nowhere else.
pub(super) fn fresh_user() -> Result<KeyPair> {
    KeyPair::new_from_raw(KeyPairType::User, random::bytes()).context("make a key pair")
}

pub(super) struct Claim<'a> {
    pub(super) subject: &'a str,
    pub(super) name: &'a str,
    pub(super) expires: Option<DateTime<Utc>>,
    /// The part `nats`.
    pub(super) body: Value,
}

impl Claim<'_> {
    pub(super) fn signed_by(&self, signer: &KeyPair, now: DateTime<Utc>) -> Result<String> {
        // Never twice the same: servers take no notice of claims that they have had before, although they were told to forget them.
        let mut claims = json!({ "jti": random::token(), "iat": now.timestamp(), "iss": signer.public_key(), "sub": self.subject, "name": self.name,
            "nats": self.body });
        if let Some(expires) = self.expires {
            claims["exp"] = expires.timestamp().into();
        }
        let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" }).to_string();
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = signer.sign(text.as_bytes()).context("sign claims of NATS")?;
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// What claims say, without looking who signed them: the server has done that.
pub(super) fn read(token: &str) -> Option<Value> {
    let body = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&body).ok()
}

pub(super) fn operator(system_account: &str) -> Value {
    json!({ "type": "operator", "version": 2, "system_account": system_account })
}

pub(super) fn system() -> Value {
    json!({ "type": "account", "version": 2, "limits": limits(-1, json!({ "exports": -1, "imports": -1 })) })
}

/// A tenant's account: one stream of a limited size, and nothing that leaves the account or comes in from another.
pub(super) fn account(rules: &config::Nats) -> Value {
    let storage = rules.stream_bytes.saturating_mul(rules.replicas);
    let own = json!({ "imports": 0, "exports": 0, "mem_storage": 0, "disk_storage": storage, "streams": 1, "consumer": rules.consumers,
        "max_bytes_required": true });
    json!({ "type": "account", "version": 2, "limits": limits(rules.connections, own) })
}

fn limits(connections: i64, own: Value) -> Value {
    let mut all = json!({ "subs": -1, "data": -1, "payload": -1, "wildcards": true, "conn": connections, "leaf": 0 });
    if let (Value::Object(all), Value::Object(own)) = (&mut all, own) {
        all.extend(own);
    }
    all
}

/// Tenantry itself, within an account.
pub(super) fn keeper() -> Value {
    json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 })
}

/// A tenant's service: its own subjects, its stream's messages and consumers; the stream itself it can neither change nor empty.
pub(super) fn service(names: &Names) -> Value {
    let stem = names.stem();
    let consumers = ["CREATE", "DURABLE.CREATE", "INFO", "LIST", "NAMES", "DELETE", "MSG.NEXT"];
    let mut publish: Vec<_> = consumers
        .into_iter()
        .flat_map(|verb| {
            let subject = format!("$JS.API.CONSUMER.{verb}.{stem}");
            [format!("{subject}.>"), subject]
        })
        .collect();
    publish.extend([
        format!("{stem}.>"),
        "$JS.API.INFO".to_owned(),
        "$JS.API.STREAM.NAMES".to_owned(),
        format!("$JS.API.STREAM.INFO.{stem}"),
        format!("$JS.API.STREAM.MSG.GET.{stem}"),
        format!("$JS.ACK.{stem}.>"),
        "_INBOX.>".to_owned(),
    ]);
    let listen = [format!("{stem}.>"), "_INBOX.>".to_owned()];
    json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1,
        "pub": { "allow": publish }, "sub": { "allow": listen } })
}

pub(super) fn deletion(accounts: &[String]) -> Value {
    json!({ "type": "generic", "version": 2, "accounts": accounts })
}

/// As the file that clients of NATS read.
pub(super) fn credentials_file(token: &str, user: &KeyPair) -> Result<Secret> {
    let seed = user.seed().context("write a key pair")?;
    Ok(Secret::new(format!(
        "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )))
}

/// Errors: `invalid_input` for what is no seed of this kind.
pub(super) fn seed(text: &Secret, field: &'static str, prefix: char) -> Result<KeyPair> {
    // Not the library's words: they could show the seed.
    let pair = KeyPair::from_seed(text.expose().trim()).ok();
    pair.filter(|pair| pair.public_key().starts_with(prefix)).ok_or_else(|| {
        Error::invalid(field, format!("must be a seed that begins with S{prefix}, as `nk -gen` makes it"))
    })
}
