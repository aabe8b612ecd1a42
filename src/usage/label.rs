//! Labels by which totals are kept apart.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::dimension::Dimension;
use crate::error::{Error, Result};

const LONGEST: usize = 200;
const MOST: usize = 32;

/// The labels of an event that its dimension's totals are kept by, as one text: the same labels give the same text. Empty where
/// there are none.
pub(super) fn group(dimension: &Dimension, labels: &Map<String, Value>) -> Result<String> {
    if labels.len() > MOST {
        return Err(Error::invalid("labels", "has at most 32 members"));
    }
    let mut group = BTreeMap::new();
    for (name, value) in labels {
        let text = match value {
            Value::String(text) => text,
            _ => return Err(Error::invalid(format!("labels.{name}"), "must be text")),
        };
        if text.chars().count() > LONGEST || text.contains('\0') {
            return Err(Error::invalid(format!("labels.{name}"), "must have at most 200 characters, none of them NUL"));
        }
        if dimension.group_by.0.contains(name) {
            group.insert(name, text);
        }
    }
    if group.is_empty() {
        return Ok(String::new());
    }
    serde_json::to_string(&group).map_err(Error::internal)
}

/// The labels that a text stands for.
pub(super) fn labels(group: &str) -> Result<BTreeMap<String, String>> {
    if group.is_empty() { Ok(BTreeMap::new()) } else { serde_json::from_str(group).map_err(Error::internal) }
}
