//! An entry of the journal as it is read, and where it stands.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use sea_orm::FromQueryResult;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    journal::Link,
    platform::{
        ids::{EntryId, TenantId},
        page,
    },
};

/// One row of `journal`; `before` and `after` as the exact text in the table, which the hash is over.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct Record {
    pub tenant_id: TenantId,
    pub sequence: i64,
    pub entry_id: EntryId,
    pub at: DateTime<Utc>,
    pub event: String,
    pub actor_kind: String,
    pub actor: String,
    pub subject_kind: String,
    pub subject_id: String,
    pub before: Option<String>,
    pub after: Option<String>,
    pub request_id: Option<String>,
    pub address: Option<String>,
    pub previous_hash: Vec<u8>,
    pub hash: Vec<u8>,
}

/// What a [`Record`] is read from.
pub(super) const COLUMNS: &str = "tenant_id, sequence, entry_id, at, event, actor_kind, actor, subject_kind, subject_id, \
     before::text as before, after::text as after, request_id, address, previous_hash, hash";
/// The same where the casts were made below.
pub(super) const NAMES: &str = "tenant_id, sequence, entry_id, at, event, actor_kind, actor, subject_kind, subject_id, \
     before, after, request_id, address, previous_hash, hash";

impl Record {
    /// What its hash is made of.
    pub(super) fn link(&self) -> Link<'_> {
        Link {
            tenant: self.tenant_id,
            sequence: self.sequence,
            entry: self.entry_id,
            at: self.at,
            event: &self.event,
            actor_kind: &self.actor_kind,
            actor: &self.actor,
            subject_kind: &self.subject_kind,
            subject_id: &self.subject_id,
            before: self.before.as_deref(),
            after: self.after.as_deref(),
            request_id: self.request_id.as_deref(),
            address: self.address.as_deref(),
        }
    }
}

/// A record, and the cursor that a reader of its list goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub cursor: Cursor,
    pub record: Record,
}

/// Where a reader stands: behind one entry. The two forms are not exchangeable: what a tenant holds tells it nothing of
/// how much others do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Cursor {
    /// In one chain: the entry's `sequence`.
    #[serde(rename = "s")]
    Sequence(i64),
    /// Over all tenants: the entry's transaction and its position. For operators alone.
    #[serde(rename = "p")]
    Place(u64, i64),
}

impl Cursor {
    pub fn encode(&self) -> String {
        page::encode(self)
    }

    pub fn decode(text: &str) -> Result<Self> {
        match page::decode(text)? {
            Self::Sequence(..0) | Self::Place(_, ..0) => Err(foreign_cursor()),
            cursor => Ok(cursor),
        }
    }
}

pub(super) fn foreign_cursor() -> Error {
    Error::invalid("after", "is no cursor of this list")
}

/// Small hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a String takes all
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text() {
        for cursor in [Cursor::Sequence(0), Cursor::Sequence(i64::MAX), Cursor::Place(u64::MAX, 7)] {
            assert_eq!(Cursor::decode(&cursor.encode()).expect("a cursor"), cursor);
        }
    }

    #[test]
    fn a_tenants_cursor_carries_nothing_but_its_sequence() {
        let text = Cursor::Sequence(12).encode();
        assert_eq!(page::decode::<serde_json::Value>(&text).expect("a cursor"), serde_json::json!({ "s": 12 }));
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for text in
            ["", "x", "bm90IGpzb24", &page::encode(&-1), &Cursor::Sequence(-1).encode(), &Cursor::Place(1, -1).encode()]
        {
            assert_eq!(Cursor::decode(text).expect_err("no cursor").field(), Some("after"), "{text}");
        }
    }

    #[test]
    fn hex_has_two_digits_a_byte() {
        assert_eq!(hex(&[0, 10, 255]), "000aff");
    }
}
