//! What the server of a cell wrote into its log of JSON (PostgreSQL manual, "Using JSON-Format Log Output") since it was read last:
//! some of it at a time, and each line by one server. Lines count as told once the transaction has ended that tells them and moves
//! the mark behind them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{
    Cell, Cells,
    store::{self, LogMark},
};
use crate::{
    error::{Error, Result},
    platform::{db::Tx, ids::CellId},
};

/// How much of a log is read at once.
const MOST: i64 = 256 * 1024;
/// Who is further behind goes on at the end: a flood of lines must not be read for hours.
const FURTHEST: i64 = 64 * MOST;

/// Values: the file that was read last, and how far. That file is read to its end before the next.
const READ: &str = "
    with present as (select pg_current_logfile('jsonlog') as file),
    kept as (select nullif($1, '') as file, (pg_stat_file(nullif($1, ''), true)).size as size),
    chosen as (
      select case when kept.size > ($2::text)::bigint or kept.file = present.file then kept.file else present.file end as file,
        case when kept.size > ($2::text)::bigint or kept.file = present.file then ($2::text)::bigint else 0 end as position
      from present, kept
    )
    select jsonb_build_object('file', coalesce(file, ''), 'position', position, 'size', coalesce((pg_stat_file(file, true)).size, 0),
      'text', translate(encode(coalesce(pg_read_binary_file(file, position, ($3::text)::bigint, true), ''), 'base64'), E'\\n', ''))::text
    from chosen";

#[derive(Deserialize)]
struct Read {
    file: String,
    position: i64,
    size: i64,
    /// Base64: the log may have any bytes in it.
    text: String,
}

/// What matters of a line. Its message is looked through for names, and kept nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct LogLine {
    #[serde(default)]
    pub user: String,
    #[serde(default)]
    pub dbname: String,
    #[serde(default)]
    pub remote_host: String,
    /// SQLSTATE.
    #[serde(default)]
    pub state_code: String,
    #[serde(default)]
    pub message: String,
}

/// A part of a cell's log that was read, and is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogStep {
    cell: CellId,
    was: Option<LogMark>,
    is: LogMark,
}

impl LogStep {
    /// Moves the mark behind the part, in the transaction that tells it. False where another server has told it.
    pub async fn take(&self, tx: &Tx) -> Result<bool> {
        store::move_log_mark(tx, self.cell, self.was.as_ref(), &self.is).await
    }
}

impl Cells {
    /// New lines, and the step behind them that whoever tells them takes; none where nothing was written. Lines are told from the
    /// first time on that this is asked.
    ///
    /// Errors: `unavailable` where the cell does not answer.
    pub async fn read_log(&self, cell: &Cell) -> Result<Option<(Vec<LogLine>, LogStep)>> {
        let tx = self.isolation.observe_platform().await?;
        let was = store::log_mark(&tx, cell.id).await?;
        tx.end().await?;
        let (file, position) = was.as_ref().map_or(("", 0), |mark| (mark.file.as_str(), mark.position));
        let most = if was.is_some() { MOST } else { 0 };
        let mut cell_tx = self.open(cell)?.begin().await?;
        let read: Read = cell_tx.json(READ, &[file, &position.to_string(), &most.to_string()]).await?;
        cell_tx.commit().await?;
        let bytes = STANDARD.decode(&read.text).map_err(Error::internal)?;
        let (lines, is) = advanced(was.is_some(), &read, &bytes);
        if was.as_ref() == Some(&is) || is.file.is_empty() {
            return Ok(None);
        }
        Ok(Some((lines, LogStep { cell: cell.id, was, is })))
    }
}

/// The whole lines of what was read, and where the next begins.
fn advanced(was_known: bool, read: &Read, bytes: &[u8]) -> (Vec<LogLine>, LogMark) {
    let at = |position| LogMark { file: read.file.clone(), position };
    if !was_known || read.size < read.position || read.size - read.position > FURTHEST {
        return (Vec::new(), at(read.size));
    }
    let whole = match bytes.iter().rposition(|byte| *byte == b'\n') {
        Some(end) => end + 1,
        // A line that is longer than what is read at once is passed over.
        None if bytes.len() as i64 >= MOST => bytes.len(),
        None => 0,
    };
    let lines = bytes[..whole].split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    (lines.collect(), at(read.position + whole as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(position: i64, size: i64) -> Read {
        Read { file: "log/a.json".to_owned(), position, size, text: String::new() }
    }

    #[test]
    fn whole_lines_are_read_and_what_follows_them_is_read_the_next_time() {
        let text = b"{\"user\":\"a\",\"state_code\":\"42501\"}\nno json\n{\"user\":\"b";
        let (lines, mark) = advanced(true, &read(10, 10 + text.len() as i64), text);
        assert_eq!(lines, [LogLine { user: "a".to_owned(), state_code: "42501".to_owned(), ..LogLine::default() }]);
        assert_eq!(mark.position, 10 + 42);
    }

    #[test]
    fn what_was_there_before_is_not_told_nor_what_is_too_much() {
        assert_eq!(
            advanced(false, &read(0, 500), b"{}\n"),
            (vec![], LogMark { file: "log/a.json".to_owned(), position: 500 })
        );
        assert_eq!(advanced(true, &read(0, FURTHEST + 1), b"{}\n").1.position, FURTHEST + 1);
        assert_eq!(advanced(true, &read(900, 500), b"").1.position, 500, "a file that was cut off");
        let long = vec![b'x'; MOST as usize];
        assert_eq!(advanced(true, &read(0, 2 * MOST), &long).1.position, MOST);
    }
}
