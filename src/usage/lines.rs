//! Newline-delimited JSON as it arrives: some thousand lines are held, and no more is read until those are counted.

use std::sync::Arc;

use axum::body::{Body, BodyDataStream, Bytes};
use futures::StreamExt as _;

use super::{
    Patience, Usage,
    event::RawEvent,
    http::{one, text},
    recording::Sender,
    tally::Tally,
};
use crate::{
    access::{Caller, Permission},
    error::{Error, Result},
};

/// Lines that are counted together. As many again are read meanwhile.
const TOGETHER: usize = 1_000;
/// Bytes of one line: an event has bounded texts and labels.
const LONGEST: usize = 64 * 1024;

/// Counts line after line to the end of the body, or to where that, or the counting, is broken off.
pub(super) async fn record(usage: &Usage, caller: &Arc<Caller>, permission: &Permission, body: Body) -> Tally {
    let mut lines = Lines::of(body);
    let mut tally = Tally::default();
    let mut batch = lines.next_events().await;
    while !batch.is_empty() {
        let counted = usage.record_each(Sender::Caller(caller, permission), batch, Patience::UntilThereIsRoom);
        let (counted, next) = tokio::join!(counted, lines.next_events());
        match counted {
            Ok(recorded) => tally.add(&recorded),
            Err(error) => {
                tally.broken_off = Some(error);
                return tally;
            }
        }
        batch = next;
    }
    tally.broken_off = lines.broken;
    tally
}

struct Lines {
    body: BodyDataStream,
    /// What has arrived and was not looked at.
    chunk: Bytes,
    /// The line that has begun.
    line: Vec<u8>,
    is_too_long: bool,
    is_at_end: bool,
    broken: Option<Error>,
}

impl Lines {
    fn of(body: Body) -> Self {
        Self {
            body: body.into_data_stream(),
            chunk: Bytes::new(),
            line: Vec::new(),
            is_too_long: false,
            is_at_end: false,
            broken: None,
        }
    }

    /// The next events, or what is wrong with them; none at the end.
    async fn next_events(&mut self) -> Vec<Result<RawEvent>> {
        let mut events = Vec::new();
        while events.len() < TOGETHER && !self.is_at_end {
            if self.chunk.is_empty() {
                self.read(&mut events).await;
                continue;
            }
            let end = self.chunk.iter().position(|byte| *byte == b'\n');
            let part = self.chunk.split_to(end.unwrap_or(self.chunk.len()));
            self.append(&part);
            if end.is_some() {
                let _newline = self.chunk.split_to(1);
                events.extend(self.end_line());
            }
        }
        events
    }

    async fn read(&mut self, events: &mut Vec<Result<RawEvent>>) {
        match self.body.next().await {
            Some(Ok(chunk)) => self.chunk = chunk,
            Some(Err(error)) => {
                // A line that ends with its connection is no line.
                self.is_at_end = true;
                self.broken = Some(Error::invalid("body", "ended before it was complete").because(error));
            }
            None => {
                self.is_at_end = true;
                events.extend(self.end_line());
            }
        }
    }

    fn append(&mut self, part: &[u8]) {
        self.is_too_long |= self.line.len() + part.len() > LONGEST;
        if self.is_too_long {
            self.line.clear();
        } else {
            self.line.extend_from_slice(part);
        }
    }

    /// The event that the line has; none where it is empty.
    fn end_line(&mut self) -> Option<Result<RawEvent>> {
        let event = if std::mem::take(&mut self.is_too_long) {
            Some(Err(Error::invalid("event", format!("has more than {LONGEST} bytes"))))
        } else {
            let line = self.line.trim_ascii();
            (!line.is_empty()).then(|| text(line).and_then(one))
        };
        self.line.clear();
        event
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    async fn fields(chunks: &[&'static [u8]]) -> Vec<Option<String>> {
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok::<_, std::io::Error>(*chunk)).collect();
        let mut lines = Lines::of(Body::from_stream(stream::iter(chunks)));
        let events = lines.next_events().await;
        assert!(lines.next_events().await.is_empty() && lines.broken.is_none());
        events.into_iter().map(|event| event.err().and_then(|error| error.field().map(str::to_owned))).collect()
    }

    #[tokio::test]
    async fn lines_are_the_same_however_they_are_cut_into_chunks() {
        let whole: &[u8] = b"{\"dimension\":\"a\"}\r\n\n {\"dimension\":\"b\"}\n{\"dimen\n\xff\n{\"dimension\":\"c\"}";
        let expected = [None, None, Some("event".to_owned()), Some("body".to_owned()), None];
        assert_eq!(fields(&[whole]).await, expected);
        let bytes: Vec<&'static [u8]> = whole.chunks(1).collect();
        assert_eq!(fields(&bytes).await, expected);
    }

    #[tokio::test]
    async fn a_line_without_end_is_refused_and_not_held() {
        const LONG: &[u8] = &[b'x'; 40 * 1024];
        let chunks = [LONG, LONG, LONG, b"\n{\"dimension\":\"a\"}\n"];
        assert_eq!(fields(&chunks).await, [Some("event".to_owned()), None]);
    }
}
