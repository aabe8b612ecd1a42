//! Paging by key, after the Relay cursor connections specification: the cost of a page does not depend on its depth.

use async_graphql::SimpleObject;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, de::DeserializeOwned};

use crate::error::{Error, Result};

/// Page size where the client names none.
pub const DEFAULT_SIZE: usize = 25;

/// Largest page of any list, as configured; the schema's data hold it.
#[derive(Clone, Copy, Debug)]
pub struct LargestPage(pub usize);

/// Which page is wanted: up to `first` items after the one that `after` names.
#[derive(Clone, Debug)]
pub struct PageRequest {
    pub first: usize,
    pub after: Option<String>,
}

impl PageRequest {
    /// Checks a client's arguments against the largest page.
    pub fn new(first: Option<i32>, after: Option<String>, largest: usize) -> Result<Self> {
        let first = match first {
            None => DEFAULT_SIZE.min(largest),
            Some(first) => usize::try_from(first)
                .ok()
                .filter(|first| (1..=largest).contains(first))
                .ok_or_else(|| Error::invalid("first", format!("must be between 1 and {largest}")))?,
        };
        Ok(Self { first, after })
    }

    /// The sort key behind `after`.
    pub fn key<K: DeserializeOwned>(&self) -> Result<Option<K>> {
        self.after.as_deref().map(decode).transpose()
    }

    /// Cuts `rows` (fetched with one more than `first`) to the page.
    pub fn page<T>(&self, mut rows: Vec<T>) -> Page<T> {
        let has_next = rows.len() > self.first;
        rows.truncate(self.first);
        Page { items: rows, has_next, has_previous: self.after.is_some() }
    }
}

/// One page.
#[derive(Clone, Debug)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub has_next: bool,
    pub has_previous: bool,
}

/// Where a page stands in its list (Relay cursor connections specification, `PageInfo`).
#[derive(Clone, Debug, SimpleObject)]
pub struct PageInfo {
    /// Whether there is something behind `endCursor`.
    pub has_next_page: bool,
    /// Whether the page was asked for with a cursor.
    pub has_previous_page: bool,
    /// Cursor of the first edge; null on an empty page.
    pub start_cursor: Option<String>,
    /// Cursor of the last edge, to be given as `after` for the next page; null on an empty page.
    pub end_cursor: Option<String>,
}

impl PageInfo {
    /// `cursors` are those of the page's items, in the same order.
    pub fn new<T>(page: &Page<T>, cursors: &[String]) -> Self {
        Self {
            has_next_page: page.has_next,
            has_previous_page: page.has_previous,
            start_cursor: cursors.first().cloned(),
            end_cursor: cursors.last().cloned(),
        }
    }
}

/// An opaque cursor for a sort key.
pub fn encode<K: Serialize>(key: &K) -> String {
    let json = serde_json::to_vec(key).expect("sort keys are plain values");
    URL_SAFE_NO_PAD.encode(json)
}

pub fn decode<K: DeserializeOwned>(cursor: &str) -> Result<K> {
    let bytes = (cursor.len() <= 1024).then(|| URL_SAFE_NO_PAD.decode(cursor).ok()).flatten();
    bytes
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .ok_or_else(|| Error::invalid("after", "is no cursor of this list"))
}
