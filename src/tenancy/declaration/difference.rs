//! What a file says differently from what is.

use async_graphql::SimpleObject;
use serde::Serialize;
use serde_json::Value;

use super::{Declaration, export};
use crate::{error::Result, tenancy::Tenant};

/// One value that differs.
#[derive(Clone, Debug, PartialEq, Serialize, SimpleObject)]
pub struct Difference {
    /// Where in the file, e.g. `labels.sector`.
    pub path: String,
    /// What is there now; null where nothing is.
    pub before: async_graphql::Json<Value>,
    /// What the file says.
    pub after: async_graphql::Json<Value>,
}

impl Difference {
    pub(super) fn new(path: &str, before: &Value, after: &Value) -> Self {
        Self {
            path: path.to_owned(),
            before: async_graphql::Json(before.clone()),
            after: async_graphql::Json(after.clone()),
        }
    }
}

impl Declaration {
    /// What the file says differently from `present`.
    pub(super) fn differences(&self, present: &Tenant) -> Result<Vec<Difference>> {
        let described = export::describe(present)?;
        let mut differences = Vec::new();
        for (key, after) in &self.values {
            compare(key, described.get(key).unwrap_or(&Value::Null), after, &mut differences);
        }
        Ok(differences)
    }
}

/// Objects member by member; what the file leaves out is no difference, but a list is compared as a whole.
fn compare(path: &str, before: &Value, after: &Value, differences: &mut Vec<Difference>) {
    match (before, after) {
        (before, after) if before == after || same_number(before, after) => {}
        (Value::Object(before), Value::Object(after)) if MERGED.contains(&path) => {
            for (key, after) in after {
                compare(&format!("{path}.{key}"), before.get(key).unwrap_or(&Value::Null), after, differences);
            }
        }
        (Value::Object(was), Value::Object(is)) => {
            for key in was.keys().chain(is.keys().filter(|key| !was.contains_key(*key))) {
                let (before, after) = (was.get(key).unwrap_or(&Value::Null), is.get(key).unwrap_or(&Value::Null));
                compare(&format!("{path}.{key}"), before, after, differences);
            }
        }
        (before, after) => differences.push(Difference::new(path, before, after)),
    }
}

/// Sections whose members a file sets one by one; all others it replaces.
const MERGED: [&str; 1] = ["profile"];

fn same_number(before: &Value, after: &Value) -> bool {
    matches!((before.as_f64(), after.as_f64()), (Some(before), Some(after)) if before == after)
}
