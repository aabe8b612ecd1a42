//! The journal as a file: CSV for spreadsheets, JSON for programs. Made piece by piece, so that its length does not matter.

use async_graphql::Enum;
use chrono::SecondsFormat;
use serde::Serialize;
use serde_json::Value;

use super::{
    Audit, Cursor, Filter, Order, Reach, Record, Row,
    list::{self, Wanted},
    record::hex,
};
use crate::{
    error::{Context as _, Result},
    platform::{ids::TenantId, spreadsheet},
};

/// Entries per piece, and per transaction.
const PIECE: usize = 250;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Enum)]
#[graphql(name = "AuditExportFormat")]
pub enum ExportFormat {
    /// RFC 4180 with a header line, every cell in quotes. A cell that a spreadsheet could take for a formula (it begins with
    /// `=`, `+`, `-`, `@`, their full-width forms, a tab or a line break), or that begins with an apostrophe, has one
    /// apostrophe put in front: without the first apostrophe of such a cell the value is exact.
    Csv,
    /// An array of objects with the fields of `AuditEntry`.
    Json,
}

/// What is exported.
#[derive(Clone, Debug)]
pub struct Export {
    pub filter: Filter,
    pub order: Order,
    pub format: ExportFormat,
    /// Goes on behind this entry. A CSV that goes on has no header line, so that its parts can be put together.
    pub after: Option<Cursor>,
    /// Entries at most; `None`: all.
    pub most: Option<usize>,
}

impl Export {
    /// Everything, as it was recorded.
    pub fn all(format: ExportFormat) -> Self {
        Self { filter: Filter::default(), order: Order::OldestFirst, format, after: None, most: None }
    }
}

/// An export under way. Put together, the pieces are the file.
#[derive(Debug)]
pub struct Exporter {
    audit: Audit,
    reach: Reach,
    export: Export,
    entries: usize,
    cursor: Option<Cursor>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    NotBegun,
    Running,
    /// The file is complete; whether there are entries beyond its end.
    Ended {
        more: bool,
    },
}

impl Audit {
    pub fn export(&self, reach: Reach, export: Export) -> Exporter {
        Exporter { audit: self.clone(), reach, cursor: export.after, export, entries: 0, state: State::NotBegun }
    }

    /// The file as one text, ended early where it would get longer than `bytes`.
    pub(super) async fn export_text(&self, reach: Reach, export: Export, bytes: usize) -> Result<(String, Exporter)> {
        let _permit = self.long.acquire().await.context("wait for other exports")?;
        let mut exporter = self.export(reach, export);
        let mut text = String::new();
        while let Some(piece) = exporter.next().await? {
            text.push_str(&piece);
            if text.len() >= bytes {
                exporter.stop(&mut text);
            }
        }
        Ok((text, exporter))
    }
}

impl Exporter {
    /// The next piece, read in a transaction of its own; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<String>> {
        if matches!(self.state, State::Ended { .. }) {
            return Ok(None);
        }
        let size = self.export.most.map_or(PIECE, |most| PIECE.min(most.saturating_sub(self.entries)));
        let mut rows = self.read(size + 1).await?;
        let more = rows.len() > size;
        rows.truncate(size);
        let mut piece = self.begin()?;
        self.write(&rows, &mut piece)?;
        self.entries += rows.len();
        self.cursor = rows.last().map(|row| row.cursor).or(self.cursor);
        if !more || self.export.most.is_some_and(|most| self.entries >= most) {
            self.end(more, &mut piece);
        }
        Ok(Some(piece))
    }

    /// Entries so far.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// The last entry so far: what `after` is for the part that follows.
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// Whether there are entries behind the end of the file.
    pub fn has_more(&self) -> bool {
        !matches!(self.state, State::Ended { more: false })
    }

    /// Ends the file here.
    fn stop(&mut self, text: &mut String) {
        if self.state == State::Running {
            self.end(true, text);
        }
    }

    async fn read(&self, limit: usize) -> Result<Vec<Row>> {
        let (filter, order) = (&self.export.filter, self.export.order);
        let tx = self.audit.read(&self.reach).await?;
        let wanted = Wanted { tenant: self.reach.tenant(), filter, order, after: self.cursor, unseen: None, limit };
        let rows = list::rows(&tx, wanted).await?;
        if let (true, State::NotBegun, Reach::Chain(chain)) = (rows.is_empty(), self.state, &self.reach)
            && list::head(&tx, chain.tenant()).await?.is_none()
        {
            chain.nothing_there()?;
        }
        tx.end().await?;
        Ok(rows)
    }

    fn begin(&mut self) -> Result<String> {
        if self.state != State::NotBegun {
            return Ok(String::new());
        }
        self.state = State::Running;
        match self.export.format {
            ExportFormat::Json => Ok("[".to_owned()),
            ExportFormat::Csv if self.export.after.is_none() => spreadsheet::lines([HEADER.map(str::to_owned)]),
            ExportFormat::Csv => Ok(String::new()),
        }
    }

    fn write(&self, rows: &[Row], piece: &mut String) -> Result<()> {
        match self.export.format {
            ExportFormat::Csv => piece.push_str(&spreadsheet::lines(rows.iter().map(|row| cells(&row.record)))?),
            ExportFormat::Json => {
                for (index, row) in rows.iter().enumerate() {
                    piece.push_str(if self.entries + index == 0 { "\n" } else { ",\n" });
                    piece.push_str(&serde_json::to_string(&Object::new(&row.record)?).context("write an entry")?);
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, more: bool, piece: &mut String) {
        self.state = State::Ended { more };
        if self.export.format == ExportFormat::Json {
            piece.push_str(if self.entries == 0 { "]\n" } else { "\n]\n" });
        }
    }
}

const HEADER: [&str; 14] = [
    "id",
    "tenantId",
    "sequence",
    "at",
    "event",
    "actorKind",
    "actor",
    "subjectKind",
    "subjectId",
    "before",
    "after",
    "requestId",
    "address",
    "hash",
];

fn cells(record: &Record) -> [String; 14] {
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    [
        record.entry_id.to_string(),
        owner(record.tenant_id).unwrap_or_default(),
        record.sequence.to_string(),
        record.at.to_rfc3339_opts(SecondsFormat::Micros, true),
        record.event.clone(),
        record.actor_kind.clone(),
        record.actor.clone(),
        record.subject_kind.clone(),
        record.subject_id.clone(),
        optional(&record.before),
        optional(&record.after),
        optional(&record.request_id),
        optional(&record.address),
        hex(&record.hash),
    ]
}

/// The platform's own entries belong to no tenant.
fn owner(tenant: TenantId) -> Option<String> {
    (!tenant.is_platform()).then(|| tenant.to_string())
}

/// An entry as a member of the JSON array.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Object<'a> {
    id: String,
    tenant_id: Option<String>,
    sequence: i64,
    at: String,
    event: &'a str,
    actor: Actor<'a>,
    subject: Subject<'a>,
    before: Option<Value>,
    after: Option<Value>,
    request_id: Option<&'a str>,
    address: Option<&'a str>,
    hash: String,
}

#[derive(Serialize)]
struct Actor<'a> {
    kind: &'a str,
    name: &'a str,
}

#[derive(Serialize)]
struct Subject<'a> {
    kind: &'a str,
    id: &'a str,
}

impl<'a> Object<'a> {
    fn new(record: &'a Record) -> Result<Self> {
        let parsed =
            |text: &Option<String>| text.as_deref().map(serde_json::from_str).transpose().context("read a state");
        Ok(Self {
            id: record.entry_id.to_string(),
            tenant_id: owner(record.tenant_id),
            sequence: record.sequence,
            at: record.at.to_rfc3339_opts(SecondsFormat::Micros, true),
            event: &record.event,
            actor: Actor { kind: &record.actor_kind, name: &record.actor },
            subject: Subject { kind: &record.subject_kind, id: &record.subject_id },
            before: parsed(&record.before)?,
            after: parsed(&record.after)?,
            request_id: record.request_id.as_deref(),
            address: record.address.as_deref(),
            hash: hex(&record.hash),
        })
    }
}
