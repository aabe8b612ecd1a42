//! What one tenant has instead of what the definition says: a row of `flag_values`.

use chrono::{DateTime, Utc};
use sea_orm::FromQueryResult;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A tenant's value of one flag. Without a value it was taken back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, FromQueryResult)]
#[serde(rename_all = "camelCase")]
pub struct Setting {
    pub flag_key: String,
    pub value: Option<Value>,
    /// From when it counts; `None`: at once.
    pub starts_at: Option<DateTime<Utc>>,
    /// Until when, exclusively; `None`: until it is changed.
    pub ends_at: Option<DateTime<Utc>>,
    pub reason: String,
    pub set_by: String,
    pub set_at: DateTime<Utc>,
    pub version: i64,
}

impl Setting {
    /// The value, while its schedule lasts.
    pub fn value_at(&self, now: DateTime<Utc>) -> Option<&Value> {
        let begun = self.starts_at.is_none_or(|start| start <= now);
        let over = self.ends_at.is_some_and(|end| end <= now);
        self.value.as_ref().filter(|_| begun && !over)
    }
}
