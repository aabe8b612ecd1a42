//! CSV that spreadsheets open (RFC 4180), with nothing in it that they would run.

use csv::{QuoteStyle, Terminator, WriterBuilder};

use crate::error::{Context as _, Result};

/// What stands in a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    Text(String),
    /// Digits of our own, which may have a minus before them.
    Number(String),
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl Cell {
    pub fn number(number: impl std::fmt::Display) -> Self {
        Self::Number(number.to_string())
    }
}

/// Lines, each cell in quotes. A text that a spreadsheet could take for a formula, or that begins with an apostrophe, has one
/// apostrophe put in front: without the first apostrophe of such a cell the value is exact.
pub fn lines<L: IntoIterator<Item: Into<Cell>>>(lines: impl IntoIterator<Item = L>) -> Result<String> {
    // Quotes around every cell: spreadsheets that split at other characters than commas see the cell's beginning alone.
    let mut writer =
        WriterBuilder::new().terminator(Terminator::CRLF).quote_style(QuoteStyle::Always).from_writer(Vec::new());
    for line in lines {
        writer
            .write_record(line.into_iter().map(|cell| match cell.into() {
                Cell::Text(text) => guarded(text),
                Cell::Number(number) => number,
            }))
            .context("write a line of CSV")?;
    }
    let bytes = writer.into_inner().map_err(|error| error.to_string()).context("write CSV")?;
    String::from_utf8(bytes).context("CSV of texts is text")
}

/// Against formulas in spreadsheets (OWASP, "CSV Injection"). The apostrophe itself is escaped so that nothing is ambiguous.
fn guarded(cell: String) -> String {
    let dangerous = ['=', '+', '-', '@', '＝', '＋', '－', '＠', '\t', '\r', '\n', '\''];
    if cell.starts_with(dangerous) { format!("'{cell}") } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_could_be_a_formula_is_guarded() {
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠1", "'=1"] {
            assert_eq!(guarded(formula.to_owned()), format!("'{formula}"));
        }
        for harmless in ["", "person@example.com", "{\"a\":\"=1\"}", "a=1", "2026-01-01T00:00:00Z", "\"=1\""] {
            assert_eq!(guarded(harmless.to_owned()), harmless);
        }
    }

    #[test]
    fn cells_are_quoted_and_lines_end_as_rfc_4180_says() {
        let line = ["say \"no\", or\nnot", "=cmd()", "hash"].map(str::to_owned);
        assert_eq!(lines([line]).expect("CSV"), "\"say \"\"no\"\", or\nnot\",\"'=cmd()\",\"hash\"\r\n");
    }
}
