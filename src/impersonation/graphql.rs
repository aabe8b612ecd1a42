//! Impersonations in the schema.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};

use super::{Begun, Impersonation, Impersonations, NewImpersonation};
use crate::{
    audit::graphql::AuditActor,
    error::Error,
    isolation::TenantScope,
    platform::{
        ids::ImpersonationId,
        page::{LargestPage, PageInfo, PageRequest, encode},
    },
    tenancy::graphql::{conditions, enter, enter_own_or},
};

/// An operator inside a tenant. In the tenant's journal it is an actor of the kind OPERATOR, its name `operator`, `/` and `id`.
#[derive(Debug)]
pub struct ImpersonationObject {
    impersonation: Impersonation,
    is_running: bool,
}

#[Object(name = "Impersonation")]
impl ImpersonationObject {
    /// `sub` and `sid` of its token.
    async fn id(&self) -> ID {
        self.impersonation.id.to_string().into()
    }

    /// Who: subject of the operator's own token.
    async fn operator(&self) -> &str {
        &self.impersonation.operator
    }

    /// Why.
    async fn reason(&self) -> &str {
        &self.impersonation.reason
    }

    /// What the operator may do inside.
    async fn scopes(&self) -> &[String] {
        &self.impersonation.scopes
    }

    async fn began_at(&self) -> DateTime<Utc> {
        self.impersonation.began_at
    }

    /// When it ends, or would have ended, by itself.
    async fn ends_at(&self) -> DateTime<Utc> {
        self.impersonation.ends_at
    }

    /// When somebody ended it before that.
    async fn ended_at(&self) -> Option<DateTime<Utc>> {
        self.impersonation.ended_at
    }

    /// Who ended it before that.
    async fn ended_by(&self) -> Result<Option<AuditActor<'_>>> {
        let by = self.impersonation.ended_by.as_ref();
        Ok(by.map(|by| AuditActor::new(&by.kind, &by.name)).transpose()?)
    }

    /// Whether it goes on: its time is not over, nobody has ended it, the tenant was not suspended since, nor has the operator's session ended.
    async fn running(&self) -> bool {
        self.is_running
    }
}

#[derive(Debug, SimpleObject)]
pub struct ImpersonatePayload {
    impersonation: ImpersonationObject,
    /// For `Authorization: Bearer`, as a service of the tenant sends its own, until `endsAt`; there is none after it. Shown this once and kept
    /// nowhere; null where this answer is given again for an `Idempotency-Key` that was used before.
    access_token: Option<String>,
}

impl From<Begun> for ImpersonatePayload {
    fn from(begun: Begun) -> Self {
        let access_token = begun.access_token.map(|token| token.expose().to_owned());
        // Said again later, it is what was said first.
        let impersonation = ImpersonationObject { impersonation: begun.impersonation, is_running: true };
        Self { impersonation, access_token }
    }
}

#[derive(Debug, SimpleObject)]
pub struct ImpersonationPayload {
    impersonation: ImpersonationObject,
}

#[derive(Debug, SimpleObject)]
pub struct ImpersonationEdge {
    cursor: String,
    node: ImpersonationObject,
}

#[derive(Debug, SimpleObject)]
pub struct ImpersonationConnection {
    edges: Vec<ImpersonationEdge>,
    page_info: PageInfo,
}

#[derive(Debug, InputObject)]
pub struct ImpersonateInput {
    /// The tenant to act in.
    tenant_id: ID,
    /// A ticket and why: 10 to 500 characters on one line. The tenant reads it.
    reason: String,
    /// How long: 60 to 3600 where the server says nothing else; 900 if not given.
    seconds: Option<i64>,
    /// Such as `auth:usage:read`: some of your own. If not given, all of yours that can be taken into a tenant: not those that hand out
    /// credentials or membership, change who may come in and from where, or lead to other tenants.
    scopes: Option<Vec<String>>,
}

#[derive(Debug, InputObject)]
pub struct EndImpersonationInput {
    /// The tenant; a member's or service's own where not given.
    tenant_id: Option<ID>,
    /// The impersonation.
    id: ID,
}

#[derive(Debug, Default)]
pub struct ImpersonationQuery;

#[Object]
impl ImpersonationQuery {
    /// Operators who are or were inside a tenant, the newest first, for 400 days where the server says nothing else; without an id, of the
    /// tenant that the token is bound to.
    ///
    /// Scope: `auth:impersonation:read`.
    async fn impersonations(
        &self,
        ctx: &Context<'_>,
        tenant_id: Option<ID>,
        #[graphql(default = 25, desc = "At most 100.")] first: i32,
        #[graphql(desc = "Cursor of the last impersonation of the page before.")] after: Option<String>,
    ) -> Result<ImpersonationConnection> {
        let scope = entered(ctx, "Query", tenant_id.as_ref()).await?;
        let request = PageRequest::new(Some(first), after, ctx.data::<LargestPage>()?.0)?;
        let page = handle(ctx)?.list(&scope, &request).await?;
        let cursors: Vec<_> = page.items.iter().map(|(found, _)| encode(&found.id)).collect();
        let page_info = PageInfo::new(&page, &cursors);
        let nodes =
            page.items.into_iter().map(|(impersonation, is_running)| ImpersonationObject { impersonation, is_running });
        let edges = cursors.into_iter().zip(nodes).map(|(cursor, node)| ImpersonationEdge { cursor, node }).collect();
        Ok(ImpersonationConnection { edges, page_info })
    }
}

#[derive(Debug, Default)]
pub struct ImpersonationMutation;

#[Object]
impl ImpersonationMutation {
    /// Lets you act inside a tenant, for a time and with a reason, by a token that is bound to it: with your own scopes at most, held to all that
    /// the tenant's services are held to, and no operator there. The tenant sees it, and what you do, in its journal, and can end it.
    ///
    /// Errors: `invalid_input` with the field and its rule, at `scopes` with those that you cannot take along; `not_found`; `tenant_suspended`,
    /// `tenant_archived`, or `forbidden` by the tenant's network rules, where the token would be good for nothing.
    ///
    /// Scope: `auth:impersonation:write`, operators only.
    async fn impersonate(&self, ctx: &Context<'_>, input: ImpersonateInput) -> Result<ImpersonatePayload> {
        let scope = enter(ctx, "Mutation", &input.tenant_id).await?;
        let new = NewImpersonation { reason: input.reason, seconds: input.seconds, scopes: input.scopes };
        Ok(handle(ctx)?.begin(&scope, new, &conditions(ctx, None)).await?.into())
    }

    /// Ends an impersonation. Its token is worth nothing from this answer on, and its streams end. To end one that is over changes nothing.
    ///
    /// Scope: `auth:impersonation:write`.
    async fn end_impersonation(&self, ctx: &Context<'_>, input: EndImpersonationInput) -> Result<ImpersonationPayload> {
        let scope = entered(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let id: ImpersonationId = input.id.parse().map_err(|_| Error::not_found())?;
        let impersonation = handle(ctx)?.end(&scope, id).await?;
        Ok(ImpersonationPayload { impersonation: ImpersonationObject { impersonation, is_running: false } })
    }
}

async fn entered(ctx: &Context<'_>, type_name: &str, tenant: Option<&ID>) -> Result<TenantScope, Error> {
    let scope = enter_own_or(ctx, type_name, tenant).await?;
    scope.ok_or_else(|| Error::invalid("tenantId", "is needed: an operator is bound to no tenant"))
}

fn handle<'a>(ctx: &Context<'a>) -> Result<&'a Impersonations, Error> {
    ctx.data_opt::<Impersonations>().ok_or_else(|| Error::internal("the schema has no impersonations"))
}
