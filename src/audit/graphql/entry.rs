//! Entries, pages of them and events, as clients see them.

use async_graphql::{Context, Enum, ID, Json, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::{
    access,
    audit::{Record, Row, record::hex},
    error::{Context as _, Error},
    platform::page::{Page, PageInfo},
};

/// One thing that was done, as it was recorded. Nothing changes or removes it afterwards.
#[derive(Clone, Debug)]
pub struct AuditEntry(Record);

#[Object]
impl AuditEntry {
    /// UUIDv7.
    async fn id(&self) -> ID {
        self.0.entry_id.to_string().into()
    }

    /// Whose journal it stands in; null for the platform's own.
    async fn tenant_id(&self) -> Option<ID> {
        owner(&self.0)
    }

    /// Place in the tenant's journal: 1, 2, 3 … without gaps.
    async fn sequence(&self) -> i64 {
        self.0.sequence
    }

    async fn at(&self) -> DateTime<Utc> {
        self.0.at
    }

    /// What was done, e.g. `TenantSuspended`.
    async fn event(&self) -> &str {
        &self.0.event
    }

    /// Who did it.
    async fn actor(&self) -> Result<AuditActor<'_>> {
        Ok(AuditActor::new(&self.0.actor_kind, &self.0.actor)?)
    }

    /// What it was done to.
    async fn subject(&self) -> AuditSubject {
        subject(&self.0)
    }

    /// What was there before: of a change, the members that differ.
    async fn before(&self) -> Result<Option<Json<Value>>> {
        state(self.0.before.as_deref())
    }

    /// What is there since: of a change, the members that differ.
    async fn after(&self) -> Result<Option<Json<Value>>> {
        state(self.0.after.as_deref())
    }

    /// The request that did it, as in the header `X-Request-Id` of its answer.
    async fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// Where the request came from.
    async fn address(&self) -> Option<&str> {
        self.0.address.as_deref()
    }

    /// SHA-256 over this entry and the hash of the one before it, hexadecimal.
    async fn hash(&self) -> String {
        hex(&self.0.hash)
    }
}

/// Who did something.
#[derive(Clone, Copy, Debug, SimpleObject)]
pub struct AuditActor<'a> {
    kind: AuditActorKind,
    /// Subject of the token; of the system, the task.
    name: &'a str,
}

impl<'a> AuditActor<'a> {
    /// From the kind and the name that stand in the journal.
    pub fn new(kind: &str, name: &'a str) -> crate::error::Result<Self> {
        Ok(Self { kind: AuditActorKind::parse(kind)?, name })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum AuditActorKind {
    /// A person or service of the platform. Inside the tenant, by an impersonation, the name is followed by `/` and the impersonation's id.
    Operator,
    /// A service of the tenant.
    Service,
    /// A person who belongs to the tenant; the name is the member's id.
    Member,
    /// A service of another tenant, as its partner. The name is that tenant's id, `/` and the subject of its token.
    Partner,
    /// Tenantry itself: a schedule, a reaction.
    System,
}

impl AuditActorKind {
    fn parse(name: &str) -> crate::error::Result<Self> {
        match name {
            "OPERATOR" => Ok(Self::Operator),
            "SERVICE" => Ok(Self::Service),
            "MEMBER" => Ok(Self::Member),
            "PARTNER" => Ok(Self::Partner),
            "SYSTEM" => Ok(Self::System),
            _ => Err(Error::internal(format!("{name:?} is no kind of actor"))),
        }
    }
}

/// What something was done to.
#[derive(Clone, Debug, SimpleObject)]
pub struct AuditSubject {
    /// `tenant`, `plan`, `client` …
    kind: String,
    id: String,
}

/// One page of entries.
#[derive(Debug, SimpleObject)]
pub struct AuditConnection {
    edges: Vec<AuditEdge>,
    page_info: PageInfo,
}

#[derive(Debug, SimpleObject)]
pub struct AuditEdge {
    cursor: String,
    node: AuditEntry,
}

impl From<Page<Row>> for AuditConnection {
    fn from(page: Page<Row>) -> Self {
        let cursors: Vec<_> = page.items.iter().map(|row| row.cursor.encode()).collect();
        let page_info = PageInfo::new(&page, &cursors);
        let edges = cursors
            .into_iter()
            .zip(page.items)
            .map(|(cursor, row)| AuditEdge { cursor, node: AuditEntry(row.record) })
            .collect();
        Self { edges, page_info }
    }
}

/// Something that was done to a tenant or by one.
#[derive(Clone, Debug)]
pub struct TenantEvent(pub Row);

#[Object]
impl TenantEvent {
    /// Give it as `after` to go on behind this event.
    async fn cursor(&self) -> String {
        self.0.cursor.encode()
    }

    /// Whose event it is; null for the platform's own.
    async fn tenant_id(&self) -> Option<ID> {
        owner(&self.0.record)
    }

    /// Place in the tenant's journal: 1, 2, 3 … without gaps.
    async fn sequence(&self) -> i64 {
        self.0.record.sequence
    }

    async fn at(&self) -> DateTime<Utc> {
        self.0.record.at
    }

    /// What was done, e.g. `TenantSuspended`.
    async fn event(&self) -> &str {
        &self.0.record.event
    }

    /// What it was done to.
    async fn subject(&self) -> AuditSubject {
        subject(&self.0.record)
    }

    /// The whole entry: who, from where, what was there before and since.
    ///
    /// Scope: `auth:audit:read`.
    async fn entry(&self, ctx: &Context<'_>) -> Result<AuditEntry> {
        access::graphql::caller(ctx)?.require(access::graphql::permission_here(ctx, "TenantEvent")?)?;
        Ok(AuditEntry(self.0.record.clone()))
    }
}

fn owner(record: &Record) -> Option<ID> {
    (!record.tenant_id.is_platform()).then(|| record.tenant_id.into())
}

fn subject(record: &Record) -> AuditSubject {
    AuditSubject { kind: record.subject_kind.clone(), id: record.subject_id.clone() }
}

fn state(text: Option<&str>) -> Result<Option<Json<Value>>> {
    Ok(text.map(serde_json::from_str).transpose().context("read a state")?.map(Json))
}
