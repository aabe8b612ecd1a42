//! One pass over a document's bytes before it is parsed, because the parser does not survive deep brackets: its first
//! pass descends a frame per bracket until 64 KiB of stack are left, and the second has no such guard for values. On
//! a 2 MiB thread of a release build 2,000 nested `[` in a literal (4 KB) abort the process. Strings, block strings
//! and comments end here exactly where they end in the parser; what is otherwise wrong is left to the parser.

use crate::error::Error;

use super::refusal;

/// Longest name or number, in bytes.
const WORD: usize = 128;

/// What a document is made of, as far as its bytes tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// Names, numbers, strings, brackets, other punctuation, and comments.
    pub(super) tokens: usize,
    /// Most brackets of any kind open at once.
    pub(super) nesting: usize,
}

/// # Errors
/// A string that does not end, a name or number beyond all reason, and a number with a leading zero (to the parser,
/// each digit would be a number of its own).
pub(super) fn scan(query: &str) -> Result<Scan, Error> {
    let bytes = query.as_bytes();
    let (mut scan, mut open, mut at) = (Scan::default(), 0_usize, 0);
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        at += 1;
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' | b',' => continue,
            b'#' => at += length(&bytes[at..], |byte| byte != b'\n' && byte != b'\r'),
            b'{' | b'[' | b'(' => {
                open += 1;
                scan.nesting = scan.nesting.max(open);
            }
            b'}' | b']' | b')' => open = open.saturating_sub(1),
            b'"' => at = string(query, start)?,
            b'.' if bytes[at..].starts_with(b"..") => at += 2,
            b'0' if bytes.get(at).is_some_and(u8::is_ascii_digit) => {
                return Err(refusal::syntax(query, start, "a number cannot start with 0"));
            }
            byte if is_word(byte) => {
                at += length(&bytes[at..], is_word);
                if at - start > WORD {
                    return Err(refusal::syntax(query, start, "a name or number is too long"));
                }
                scan.tokens += joined(&bytes[start..at]);
            }
            _ => {}
        }
        scan.tokens += 1;
    }
    Ok(scan)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// How many values the parser takes off the front of a word: to it, `nullnull` is `null null`.
fn joined(mut word: &[u8]) -> usize {
    let mut values = 0;
    while let Some(rest) = [&b"null"[..], b"true", b"false"].iter().find_map(|value| word.strip_prefix(*value)) {
        values += usize::from(!rest.is_empty());
        word = rest;
    }
    values
}

fn length(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|byte| !wanted(*byte)).unwrap_or(bytes.len())
}

/// Where the string that starts at `start` ends.
fn string(query: &str, start: usize) -> Result<usize, Error> {
    let bytes = query.as_bytes();
    let end =
        if bytes[start..].starts_with(b"\"\"\"") { block_end(bytes, start + 3) } else { line_end(bytes, start + 1) };
    end.ok_or_else(|| refusal::syntax(query, start, "the string does not end"))
}

fn block_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match bytes.get(at..)? {
            rest if rest.starts_with(b"\\\"\"\"") => at += 4,
            rest if rest.starts_with(b"\"\"\"") => return Some(at + 3),
            [] => return None,
            _ => at += 1,
        }
    }
}

fn line_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\n' | b'\r' => return None,
            b'\\' if !matches!(bytes.get(at + 1), Some(b'\n' | b'\r')) => at += 2,
            _ => at += 1,
        }
    }
}
