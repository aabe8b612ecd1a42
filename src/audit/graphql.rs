//! Audit's part of the schema.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, InputObject, Json, Object, Result, SimpleObject, Subscription};
use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt as _};
use serde_json::Value;

use super::{Audit, Chain, Cursor, Export, ExportFormat, Filter, Order, Reach, Record, Report, Row, record::hex};
use crate::{
    access,
    error::{Context as _, Error},
    platform::page::{Page, PageInfo, PageRequest},
    tenancy::{
        Tenant,
        graphql::{enter, enter_own_or, enter_platform},
    },
};

const LARGEST_PAGE: usize = 100;
const LARGEST_EXPORT: i32 = 10_000;
/// An export ends early where its content would get longer than this, in bytes.
const LONGEST_CONTENT: usize = 8 << 20;

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
        Ok(AuditActor { kind: AuditActorKind::parse(&self.0.actor_kind)?, name: &self.0.actor })
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum AuditActorKind {
    /// A person or service of the platform.
    Operator,
    /// A service of the tenant.
    Service,
    /// Tenantry itself: a schedule, a reaction.
    System,
}

impl AuditActorKind {
    fn parse(name: &str) -> crate::error::Result<Self> {
        match name {
            "OPERATOR" => Ok(Self::Operator),
            "SERVICE" => Ok(Self::Service),
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
        let edges = cursors.into_iter().zip(page.items).map(|(cursor, row)| AuditEdge { cursor, node: AuditEntry(row.record) }).collect();
        Self { edges, page_info }
    }
}

#[derive(Debug, InputObject)]
pub struct ExportAuditInput {
    /// The token's own tenant where none is named; for operators, all tenants.
    tenant_id: Option<ID>,
    filter: Option<Filter>,
    #[graphql(default_with = "Order::OldestFirst")]
    order: Order,
    format: ExportFormat,
    /// Entries at most: 1 to 10,000.
    #[graphql(default = 10_000)]
    limit: i32,
    /// `endCursor` of the part before.
    after: Option<String>,
}

/// A part of the journal as a file.
#[derive(Debug, SimpleObject)]
pub struct AuditExport {
    /// The file. It ends early, at some 8 MiB, with `hasMore`.
    content: String,
    format: ExportFormat,
    /// Entries in it.
    entries: i32,
    /// Cursor of the last entry; what to give as `after` for the next part.
    end_cursor: Option<String>,
    /// Whether there are entries behind it.
    has_more: bool,
}

/// Something that was done to a tenant or by one.
#[derive(Clone, Debug)]
pub struct TenantEvent(Row);

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

#[derive(Debug, Default)]
pub struct AuditQuery;

#[Object]
impl AuditQuery {
    /// What was done: in the tenant that is named, else in the one that the token is bound to, else, for operators, in all
    /// tenants and on the platform itself.
    ///
    /// Scope: `auth:audit:read`.
    async fn audit(
        &self,
        ctx: &Context<'_>,
        tenant_id: Option<ID>,
        filter: Option<Filter>,
        #[graphql(default)] order: Order,
        #[graphql(desc = "At most 100; 25 where not given.")] first: Option<i32>,
        #[graphql(desc = "Cursor of the last entry of the page before.")] after: Option<String>,
    ) -> Result<AuditConnection> {
        let filter = filter.unwrap_or_default();
        let reach = reach(ctx, "Query", tenant_id.as_ref(), &filter).await?;
        let request = PageRequest::new(first, after, LARGEST_PAGE)?;
        Ok(handle(ctx)?.list(&reach, &filter, order, &request).await?.into())
    }

    /// Entries as a CSV or JSON file, up to 10,000 at once.
    ///
    /// Scope: `auth:audit:read`.
    async fn export_audit(&self, ctx: &Context<'_>, input: ExportAuditInput) -> Result<AuditExport> {
        let filter = input.filter.unwrap_or_default();
        let reach = reach(ctx, "Query", input.tenant_id.as_ref(), &filter).await?;
        let most = usize::try_from(input.limit).ok().filter(|limit| *limit > 0 && input.limit <= LARGEST_EXPORT);
        let most = most.ok_or_else(|| Error::invalid("input.limit", format!("must be between 1 and {LARGEST_EXPORT}")))?;
        let after = input.after.as_deref().map(Cursor::decode).transpose()?;
        let export = Export { filter, order: input.order, format: input.format, after, most: Some(most) };
        let (content, file) = handle(ctx)?.export_text(reach, export, LONGEST_CONTENT).await?;
        Ok(AuditExport {
            content,
            format: input.format,
            entries: i32::try_from(file.entries()).unwrap_or(i32::MAX),
            end_cursor: file.cursor().map(|cursor| cursor.encode()),
            has_more: file.has_more(),
        })
    }

    /// Checks the journal of a tenant, or for operators without `tenantId` the platform's own: every entry's hash, the chain
    /// of them, and the signed checkpoints. It finds what was edited, removed or put in between.
    ///
    /// Scope: `auth:audit:read`.
    async fn verify_audit(&self, ctx: &Context<'_>, tenant_id: Option<ID>) -> Result<Report> {
        let chain = match enter_own_or(ctx, "Query", tenant_id.as_ref()).await? {
            Some(scope) => Chain::Tenant(scope),
            None => Chain::Platform(enter_platform(ctx, "Query")?),
        };
        Ok(handle(ctx)?.verify_chain(&chain).await?)
    }
}

#[derive(Debug, Default)]
pub struct AuditSubscription;

#[Subscription]
impl AuditSubscription {
    /// What is done from now on, or since `after`: in the tenant that is named, else in the one that the token is bound to,
    /// else, for operators, in all tenants and on the platform itself. To miss nothing and get nothing twice, go on with the
    /// `cursor` of the last event that you have handled; a cursor of `audit` with the same `tenantId` will do, too.
    ///
    /// Scope: `auth:tenant:read`.
    async fn tenant_events(
        &self,
        ctx: &Context<'_>,
        tenant_id: Option<ID>,
        #[graphql(desc = "Cursor of the last event that you have; without it, the next event is the first.")] after: Option<String>,
    ) -> Result<impl Stream<Item = Result<TenantEvent>> + use<>> {
        let reach = reach(ctx, "Subscription", tenant_id.as_ref(), &Filter::default()).await?;
        let after = after.as_deref().map(Cursor::decode).transpose()?;
        let rows = handle(ctx)?.follow(reach, after).await?;
        Ok(rows.map(|row| Ok(TenantEvent(row?))))
    }
}

/// A tenant's journal.
#[derive(Clone, Debug)]
pub struct TenantAudit(pub Arc<Tenant>);

#[Object]
impl TenantAudit {
    /// What was done in this tenant, newest first.
    ///
    /// Scope: `auth:audit:read`.
    async fn audit(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most 100; 25 where not given.")] first: Option<i32>,
        #[graphql(desc = "Cursor of the last entry of the page before.")] after: Option<String>,
    ) -> Result<AuditConnection> {
        let scope = enter(ctx, "Tenant", &self.0.id.into()).await?;
        let request = PageRequest::new(first, after, LARGEST_PAGE)?;
        let reach = Reach::Chain(Chain::Tenant(scope));
        Ok(handle(ctx)?.list(&reach, &Filter::default(), Order::NewestFirst, &request).await?.into())
    }
}

/// What the caller asks for, as far as the caller may.
async fn reach(ctx: &Context<'_>, type_name: &str, tenant: Option<&ID>, filter: &Filter) -> crate::error::Result<Reach> {
    match enter_own_or(ctx, type_name, tenant).await? {
        Some(_) if filter.platform => Err(Error::forbidden("the platform's own entries are in no tenant's journal").at("filter.platform")),
        Some(scope) => Ok(Reach::Chain(Chain::Tenant(scope))),
        None if filter.platform => Ok(Reach::Chain(Chain::Platform(enter_platform(ctx, type_name)?))),
        None => Ok(Reach::All(enter_platform(ctx, type_name)?)),
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

fn handle<'a>(ctx: &Context<'a>) -> crate::error::Result<&'a Audit> {
    ctx.data_opt::<Audit>().ok_or_else(|| Error::internal("the schema has no audit"))
}
