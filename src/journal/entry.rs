use std::net::IpAddr;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::{
    access::{Actor, Caller},
    error::{Context as _, Result},
};

/// One thing that was done. `event` is the operation's stem in the past: `TenantSuspended`.
#[derive(Clone, Debug)]
pub struct Entry {
    pub event: &'static str,
    pub subject_kind: &'static str,
    pub subject_id: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

impl Entry {
    pub fn new(event: &'static str, subject_kind: &'static str, subject_id: impl ToString) -> Self {
        Self { event, subject_kind, subject_id: subject_id.to_string(), before: None, after: None }
    }

    /// What was there, and what is there now. Secrets have no JSON form, so none gets here.
    pub fn change<T: Serialize>(mut self, before: Option<&T>, after: Option<&T>) -> Result<Self> {
        self.before = before.map(serde_json::to_value).transpose().context("write the state before")?;
        self.after = after.map(serde_json::to_value).transpose().context("write the state after")?;
        Ok(self)
    }
}

/// Who did it, when, and from where.
#[derive(Clone, Debug)]
pub struct Stamp {
    pub actor: Actor,
    pub at: DateTime<Utc>,
    pub request_id: Option<String>,
    pub address: Option<IpAddr>,
}

impl Stamp {
    pub fn new(caller: &Caller, at: DateTime<Utc>) -> Self {
        Self { actor: caller.actor(), at, request_id: caller.origin.request_id.clone(), address: caller.origin.address }
    }
}
