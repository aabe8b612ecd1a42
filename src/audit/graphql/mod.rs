//! Audit's part of the schema.

mod entry;

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject, Subscription};
use futures::{Stream, StreamExt as _};

pub use self::entry::{AuditActor, AuditActorKind, AuditConnection, AuditEdge, AuditEntry, AuditSubject, TenantEvent};
use super::{Audit, Chain, Cursor, Export, ExportFormat, Filter, Order, Reach, Report};
use crate::{
    error::Error,
    platform::page::{LargestPage, PageRequest},
    tenancy::{
        TenantView,
        graphql::{enter, enter_own_or, enter_platform},
    },
};

const LARGEST_EXPORT: i32 = 10_000;
/// An export ends early where its content would get longer than this, in bytes.
const LONGEST_CONTENT: usize = 8 << 20;

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
        // Nullable, for async-graphql refuses a variable that was not given where an argument has a default.
        #[graphql(desc = "NEWEST_FIRST where not given.")] order: Option<Order>,
        #[graphql(desc = "At most 100; 25 where not given.")] first: Option<i32>,
        #[graphql(desc = "Cursor of the last entry of the page before.")] after: Option<String>,
    ) -> Result<AuditConnection> {
        let filter = filter.unwrap_or_default();
        let reach = reach(ctx, "Query", tenant_id.as_ref(), &filter).await?;
        let request = PageRequest::new(first, after, ctx.data::<LargestPage>()?.0)?;
        Ok(handle(ctx)?.list(&reach, &filter, order.unwrap_or_default(), &request).await?.into())
    }

    /// Entries as a CSV or JSON file, up to 10,000 at once.
    ///
    /// Scope: `auth:audit:read`.
    async fn export_audit(&self, ctx: &Context<'_>, input: ExportAuditInput) -> Result<AuditExport> {
        let filter = input.filter.unwrap_or_default();
        let reach = reach(ctx, "Query", input.tenant_id.as_ref(), &filter).await?;
        let most = usize::try_from(input.limit).ok().filter(|limit| *limit > 0 && input.limit <= LARGEST_EXPORT);
        let most =
            most.ok_or_else(|| Error::invalid("input.limit", format!("must be between 1 and {LARGEST_EXPORT}")))?;
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
        #[graphql(desc = "Cursor of the last event that you have; without it, the next event is the first.")]
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<TenantEvent>> + use<>> {
        let reach = reach(ctx, "Subscription", tenant_id.as_ref(), &Filter::default()).await?;
        let after = after.as_deref().map(Cursor::decode).transpose()?;
        let rows = handle(ctx)?.follow(reach, after).await?;
        Ok(rows.map(|row| Ok(TenantEvent(row?))))
    }
}

/// A tenant's journal.
#[derive(Clone, Debug)]
pub struct TenantAudit(pub TenantView);

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
        let scope = enter(ctx, "Tenant", &self.0.id().into()).await?;
        let request = PageRequest::new(first, after, ctx.data::<LargestPage>()?.0)?;
        let reach = Reach::Chain(Chain::Tenant(scope));
        Ok(Box::pin(handle(ctx)?.list(&reach, &Filter::default(), Order::NewestFirst, &request)).await?.into())
    }
}

/// What the caller asks for, as far as the caller may.
async fn reach(
    ctx: &Context<'_>,
    type_name: &str,
    tenant: Option<&ID>,
    filter: &Filter,
) -> crate::error::Result<Reach> {
    match enter_own_or(ctx, type_name, tenant).await? {
        Some(_) if filter.platform => {
            Err(Error::forbidden("the platform's own entries are in no tenant's journal").at("filter.platform"))
        }
        Some(scope) => Ok(Reach::Chain(Chain::Tenant(scope))),
        None if filter.platform => Ok(Reach::Chain(Chain::Platform(enter_platform(ctx, type_name)?))),
        None => Ok(Reach::All(enter_platform(ctx, type_name)?)),
    }
}

fn handle<'a>(ctx: &Context<'a>) -> crate::error::Result<&'a Audit> {
    ctx.data_opt::<Audit>().ok_or_else(|| Error::internal("the schema has no audit"))
}
