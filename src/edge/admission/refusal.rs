//! What a caller is told about a document that is not admitted: one short sentence, never the document back.

use async_graphql::parser::{self, Pos};
use serde_json::json;

use crate::error::Error;

/// Longest piece of the caller's text that a message repeats, in characters.
const ECHO: usize = 40;
/// Counts from here on are reported as "more than": counting stops at the largest integer anyway.
const COUNTLESS: usize = 1_000_000;

/// `limit` is a field of [`super::Limits`] or `introspection`, `what` the plural of what was counted.
pub(super) fn over(limit: &'static str, what: &str, found: usize, allowed: usize) -> Error {
    let (more, found) = if found > COUNTLESS { ("more than ", COUNTLESS) } else { ("", found) };
    document(format!("has {more}{found} {what}; at most {allowed} are allowed"))
        .with(json!({ "limit": limit, "found": found, "allowed": allowed }))
}

pub(super) fn document(rule: impl std::fmt::Display) -> Error {
    Error::invalid("query", format!("the document {rule}"))
}

/// Not valid GraphQL from `offset` (bytes) on.
pub(super) fn syntax(query: &str, offset: usize, problem: &str) -> Error {
    let before = query.get(..offset).unwrap_or(query);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    document(format!("is not valid GraphQL at line {line}, column {column}: {problem}"))
}

/// The parser's refusal without its drawing of the line, which would repeat the whole document.
pub(super) fn unparsed(query: &str, error: &parser::Error) -> Error {
    match error {
        parser::Error::Syntax { start, .. } => {
            let near = rest(query, *start);
            let near = if near.is_empty() { "the end".to_owned() } else { format!("`{near}`") };
            document(format!("is not valid GraphQL at line {}, column {}, near {near}", start.line, start.column))
        }
        parser::Error::OperationDuplicated { operation, second, .. } => document(format!(
            "has two operations named `{}` (line {}, column {})",
            shown(operation),
            second.line,
            second.column
        )),
        parser::Error::FragmentDuplicated { fragment, second, .. } => document(format!(
            "has two fragments named `{}` (line {}, column {})",
            shown(fragment),
            second.line,
            second.column
        )),
        parser::Error::MultipleOperations { operation, .. } => document(format!(
            "has an operation without a name next to others (line {}, column {}): name them all",
            operation.line, operation.column
        )),
        parser::Error::RecursionLimitExceeded => document("is nested too deep"),
        _ => document("has no operation"),
    }
}

/// At most [`ECHO`] characters, nothing that disturbs a log line.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(ECHO).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(ECHO).is_some() {
        shown.pop();
        shown.push('…');
    }
    shown
}

/// What stands at a position (line and column from 1, columns in characters), up to the end of the line.
fn rest(query: &str, at: Pos) -> String {
    let line = query.split('\n').nth(at.line.saturating_sub(1)).unwrap_or_default();
    let skipped = line.chars().skip(at.column.saturating_sub(1));
    shown(skipped.take(ECHO / 2).collect::<String>().trim_end())
}
