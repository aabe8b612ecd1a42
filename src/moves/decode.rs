//! What PostgreSQL's plugin `pgoutput` says of changes (protocol version 1: PostgreSQL documentation, "Logical Replication
//! Message Formats"), as transactions of rows.

use std::collections::HashMap;

use super::place::Place;
use crate::error::{Error, Result};

/// A committed transaction at the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Transaction {
    /// The lower half of its id.
    pub(super) xid: u32,
    /// Behind its commit.
    pub(super) end: u64,
    pub(super) changes: Vec<Change>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Insert {
        table: u32,
        new: Vec<Value>,
    },
    /// `old` is none where what tells the row from others has not changed.
    Update {
        table: u32,
        old: Option<Vec<Value>>,
        new: Vec<Value>,
    },
    Delete {
        table: u32,
        old: Vec<Value>,
    },
    Truncate {
        tables: Vec<u32>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    /// A large value that did not change, and is not told.
    Unchanged,
    Text(String),
}

/// A table as the stream describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relation {
    pub(super) place: Place,
    /// Whether all columns together tell a row from others, for want of a key.
    pub(super) is_full: bool,
    pub(super) columns: Vec<Column>,
}

impl Relation {
    /// Rows are told apart by this column alone, whatever the source says.
    pub(super) fn tell_apart_by(&mut self, key: &str) {
        self.is_full = false;
        for column in &mut self.columns {
            column.is_key = column.name == key;
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) is_key: bool,
}

pub(super) type Relations = HashMap<u32, Relation>;

/// Reads a run of messages, which PostgreSQL ends with whole transactions.
pub(super) fn read(messages: &[Vec<u8>]) -> Result<(Relations, Vec<Transaction>)> {
    let (mut relations, mut transactions) = (Relations::new(), Vec::new());
    let mut open: Option<Transaction> = None;
    for message in messages {
        let mut reader = Reader(message);
        let kind = reader.byte()?;
        match kind {
            b'B' => {
                reader.take(16)?; // where its commit begins, and when
                open = Some(Transaction { xid: reader.int4()?, ..Transaction::default() });
            }
            b'C' => {
                reader.take(9)?;
                let mut done = open.take().ok_or_else(|| unreadable("a commit without a beginning"))?;
                done.end = reader.int8()?;
                transactions.push(done);
            }
            b'R' => {
                let (id, relation) = reader.relation()?;
                relations.insert(id, relation);
            }
            b'I' | b'U' | b'D' | b'T' => {
                let change = reader.change(kind)?;
                open.as_mut().ok_or_else(|| unreadable("a change without a beginning"))?.changes.push(change);
            }
            // Types, origins and messages of other programs: nothing of a row.
            b'Y' | b'O' | b'M' => {}
            _ => return Err(unreadable("a kind of message that is not known")),
        }
    }
    match open {
        None => Ok((relations, transactions)),
        Some(_) => Err(unreadable("a transaction without an end")),
    }
}

fn unreadable(what: &str) -> Error {
    Error::internal(format!("the source's stream of changes has {what}"))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(|| unreadable("a message that is too short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn int2(&mut self) -> Result<u16> {
        self.take(2)?.try_into().map(u16::from_be_bytes).map_err(Error::internal)
    }

    fn int4(&mut self) -> Result<u32> {
        self.take(4)?.try_into().map(u32::from_be_bytes).map_err(Error::internal)
    }

    fn int8(&mut self) -> Result<u64> {
        self.take(8)?.try_into().map(u64::from_be_bytes).map_err(Error::internal)
    }

    fn text(&mut self) -> Result<String> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or_else(|| unreadable("a name without an end"))?;
        let text = String::from_utf8(self.take(end)?.to_vec()).map_err(Error::internal)?;
        self.take(1)?;
        Ok(text)
    }

    fn relation(&mut self) -> Result<(u32, Relation)> {
        let id = self.int4()?;
        let place = Place { schema: self.text()?, name: self.text()? };
        let is_full = self.byte()? == b'f';
        let count = self.int2()?;
        let column = |reader: &mut Self| {
            let is_key = reader.byte()? & 1 == 1;
            let name = reader.text()?;
            reader.take(8)?; // type and its modifier
            Ok(Column { name, is_key })
        };
        let columns = (0..count).map(|_| column(self)).collect::<Result<_>>()?;
        Ok((id, Relation { place, is_full, columns }))
    }

    fn change(&mut self, kind: u8) -> Result<Change> {
        if kind == b'T' {
            let count = self.int4()?;
            self.byte()?; // CASCADE and RESTART IDENTITY: each table is named, sequences are set at the switch
            return Ok(Change::Truncate { tables: (0..count).map(|_| self.int4()).collect::<Result<_>>()? });
        }
        let table = self.int4()?;
        let mut old = None;
        loop {
            let part = self.byte()?;
            let values = self.values()?;
            match (kind, part) {
                (b'I', b'N') => return Ok(Change::Insert { table, new: values }),
                (b'U', b'N') => return Ok(Change::Update { table, old, new: values }),
                (b'U', b'K' | b'O') => old = Some(values),
                (b'D', b'K' | b'O') => return Ok(Change::Delete { table, old: values }),
                _ => return Err(unreadable("a row of a kind that is not known")),
            }
        }
    }

    fn values(&mut self) -> Result<Vec<Value>> {
        let count = self.int2()?;
        (0..count).map(|_| self.value()).collect()
    }

    fn value(&mut self) -> Result<Value> {
        match self.byte()? {
            b'n' => Ok(Value::Null),
            b'u' => Ok(Value::Unchanged),
            b't' => {
                let length = usize::try_from(self.int4()?).map_err(Error::internal)?;
                let text = String::from_utf8(self.take(length)?.to_vec()).map_err(Error::internal)?;
                Ok(Value::Text(text))
            }
            _ => Err(unreadable("a value of a kind that is not known")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
        [&[kind], parts.concat().as_slice()].concat()
    }

    fn stream() -> Vec<Vec<u8>> {
        let columns: &[u8] = b"\x01id\0\0\0\0\x17\xff\xff\xff\xff\x00note\0\0\0\0\x19\xff\xff\xff\xff";
        vec![
            message(b'B', &[&[0; 16], &7_u32.to_be_bytes()]),
            message(b'R', &[&5_u32.to_be_bytes(), b"t_x\0items\0d", &2_u16.to_be_bytes(), columns]),
            message(b'I', &[&5_u32.to_be_bytes(), b"N\0\x02t\0\0\0\x011n"]),
            message(b'U', &[&5_u32.to_be_bytes(), b"K\0\x02t\0\0\0\x011nN\0\x02t\0\0\0\x012u"]),
            message(b'D', &[&5_u32.to_be_bytes(), b"K\0\x02t\0\0\0\x012n"]),
            message(b'T', &[&1_u32.to_be_bytes(), b"\0", &5_u32.to_be_bytes()]),
            message(b'C', &[&[0; 9], &99_u64.to_be_bytes(), &[0; 8]]),
        ]
    }

    #[test]
    fn a_transaction_is_read_with_its_rows() {
        let (relations, transactions) = read(&stream()).unwrap();
        let column = |name: &str, is_key| Column { name: name.to_owned(), is_key };
        assert_eq!(
            relations[&5],
            Relation {
                place: Place { schema: "t_x".to_owned(), name: "items".to_owned() },
                is_full: false,
                columns: vec![column("id", true), column("note", false)]
            }
        );
        let text = |text: &str| Value::Text(text.to_owned());
        let changes = vec![
            Change::Insert { table: 5, new: vec![text("1"), Value::Null] },
            Change::Update {
                table: 5,
                old: Some(vec![text("1"), Value::Null]),
                new: vec![text("2"), Value::Unchanged],
            },
            Change::Delete { table: 5, old: vec![text("2"), Value::Null] },
            Change::Truncate { tables: vec![5] },
        ];
        assert_eq!(transactions, [Transaction { xid: 7, end: 99, changes }]);
    }

    #[test]
    fn what_is_cut_short_is_refused_wherever_it_is_cut() {
        let whole = stream();
        for (at, message) in whole.iter().enumerate() {
            for length in 0..message.len() {
                let mut cut = whole.clone();
                cut[at].truncate(length);
                // Of a commit, the time at the end is not read.
                let may_do = message[0] == b'C' && length >= 18;
                assert_eq!(read(&cut).is_ok(), may_do, "message {at} cut at {length}");
            }
        }
        assert!(read(&whole[..6]).is_err(), "without its end");
    }
}
