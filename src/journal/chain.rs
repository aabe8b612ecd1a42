//! The chain of hashes. Each link is SHA-256 over the hash before it and every column of its row, each with its length in
//! front, so that no two different rows have the same bytes.

use aws_lc_rs::digest::{Context, SHA256};
use chrono::{DateTime, Utc};

use crate::platform::ids::{EntryId, TenantId};

pub type Hash = [u8; 32];

/// What stands before the first link of every chain.
pub const GENESIS: Hash = [0; 32];

/// All that one row says; `before` and `after` as the exact text in the table.
#[derive(Clone, Debug)]
pub struct Link<'a> {
    pub tenant: TenantId,
    pub sequence: i64,
    pub entry: EntryId,
    pub at: DateTime<Utc>,
    pub event: &'a str,
    pub actor_kind: &'a str,
    pub actor: &'a str,
    pub subject_kind: &'a str,
    pub subject_id: &'a str,
    pub before: Option<&'a str>,
    pub after: Option<&'a str>,
    pub request_id: Option<&'a str>,
    pub address: Option<&'a str>,
}

/// The hash of `link` behind `previous`.
pub fn link_hash(previous: &Hash, link: &Link<'_>) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(b"tenantry journal 1\0");
    context.update(previous);
    context.update(link.tenant.uuid().as_bytes());
    context.update(&link.sequence.to_be_bytes());
    context.update(link.entry.uuid().as_bytes());
    context.update(&link.at.timestamp_micros().to_be_bytes());
    for text in [link.event, link.actor_kind, link.actor, link.subject_kind, link.subject_id] {
        part(&mut context, Some(text));
    }
    for text in [link.before, link.after, link.request_id, link.address] {
        part(&mut context, text);
    }
    let mut hash = GENESIS;
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

fn part(context: &mut Context, text: Option<&str>) {
    match text {
        Some(text) => {
            context.update(&[1]);
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text.as_bytes());
        }
        None => context.update(&[0]),
    }
}
