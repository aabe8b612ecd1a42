use std::io::Write as _;

use serde::Serialize;
use serde_json::json;

use crate::error::{Context as _, Error, Result};

/// Where a command's answer goes: text for people, JSON for programs.
#[derive(Debug)]
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Text that is the answer itself, the same in both forms.
    pub(super) fn text(&self, text: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).context("print")?;
        if !text.ends_with('\n') {
            out.write_all(b"\n").context("print")?;
        }
        out.flush().context("print")
    }

    /// `object` as JSON, or `text`.
    pub(super) fn object<T: Serialize>(&self, object: &T, text: &str) -> Result<()> {
        if self.json {
            self.text(&serde_json::to_string_pretty(object).context("write JSON")?)
        } else {
            self.text(text)
        }
    }

    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// What went wrong, on the error output.
    pub(super) fn failure(&self, error: &Error) {
        let mut out = std::io::stderr().lock();
        let cause = error.cause().map(ToString::to_string);
        let _ = if self.json {
            let mut body = json!({ "error": { "message": error.message(), "extensions": error.extensions() } });
            body["error"]["cause"] = cause.into();
            writeln!(out, "{body}")
        } else {
            match cause {
                Some(cause) => writeln!(out, "error: {error}\n  because: {cause}"),
                None => writeln!(out, "error: {error}"),
            }
        };
    }
}
