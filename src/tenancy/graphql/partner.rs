//! Partners in the schema.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};

use super::{conditions, enter, enter_platform, handle};
use crate::{
    platform::{
        ids::TenantId,
        page::{self, LargestPage, Page, PageInfo, PageRequest},
    },
    tenancy::{Ended, NewPartnerAccess, PartnerAccess, TenantView},
};

#[derive(Debug, InputObject)]
pub struct GrantPartnerAccessInput {
    /// The tenant that is let into another one.
    partner_id: ID,
    /// The tenant that it is let into.
    tenant_id: ID,
    /// What it may do there, such as `auth:quota:read`; its tokens need each of them, too. Not what makes credentials or leads
    /// to further tenants: `auth:client:write`, `auth:network:write`, `auth:children:*`, `auth:partner:*`.
    scopes: Vec<String>,
    /// When it ends by itself; at most `tenancy.max_partner_access` from now.
    expires_at: DateTime<Utc>,
    /// What for; 1 to 2,000 characters, which the tenant can read.
    reason: String,
    /// The version that you saw last, 0 for none: `conflict` if there is another.
    expected_version: Option<i64>,
}

#[derive(Debug, InputObject)]
pub struct RevokePartnerAccessInput {
    partner_id: ID,
    tenant_id: ID,
    /// The version that you saw last: `conflict` if there is another.
    expected_version: Option<i64>,
}

/// Access after a change.
#[derive(Debug, SimpleObject)]
pub struct PartnerAccessPayload {
    access: PartnerAccessObject,
}

/// What a partner may do to a tenant, and until when.
#[derive(Clone, Debug)]
pub struct PartnerAccessObject(PartnerAccess);

#[Object(name = "PartnerAccess")]
impl PartnerAccessObject {
    /// The tenant that is let in. Its services stand in the journal as actors of the kind PARTNER, whose names begin with this id.
    async fn partner_id(&self) -> ID {
        self.0.partner_id.into()
    }

    /// The tenant that it is let into.
    async fn tenant_id(&self) -> ID {
        self.0.tenant_id.into()
    }

    /// What it may do there, as far as its tokens are good for that.
    async fn scopes(&self) -> &[String] {
        &self.0.scopes
    }

    /// When it ends by itself.
    async fn expires_at(&self) -> DateTime<Utc> {
        self.0.expires_at
    }

    async fn reason(&self) -> &str {
        &self.0.reason
    }

    /// Subject of the token that granted it.
    async fn granted_by(&self) -> &str {
        &self.0.granted_by
    }

    async fn granted_at(&self) -> DateTime<Utc> {
        self.0.granted_at
    }

    /// When it was ended before its time.
    async fn revoked_at(&self) -> Option<DateTime<Utc>> {
        self.0.revoked_at
    }

    /// Whether it opens anything, now.
    async fn in_force(&self, ctx: &Context<'_>) -> Result<bool> {
        Ok(self.0.is_in_force(handle(ctx)?.now()))
    }

    /// Grows by one with every change; what `expectedVersion` is compared with.
    async fn version(&self) -> i64 {
        self.0.version
    }
}

/// One page of partners.
#[derive(Debug, SimpleObject)]
pub struct PartnerAccessConnection {
    edges: Vec<PartnerAccessEdge>,
    page_info: PageInfo,
}

#[derive(Debug, SimpleObject)]
pub struct PartnerAccessEdge {
    cursor: String,
    node: PartnerAccessObject,
}

/// A tenant that a partner may reach into. Give its id where a field takes one.
#[derive(Clone, Debug, SimpleObject)]
pub struct ReachedTenant {
    id: ID,
    /// What the partner may do there, as far as its tokens are good for that.
    scopes: Vec<String>,
    expires_at: DateTime<Utc>,
}

/// One page of tenants that a partner may reach into.
#[derive(Debug, SimpleObject)]
pub struct ReachedTenantConnection {
    edges: Vec<ReachedTenantEdge>,
    page_info: PageInfo,
}

#[derive(Debug, SimpleObject)]
pub struct ReachedTenantEdge {
    cursor: String,
    node: ReachedTenant,
}

#[derive(Debug, Default)]
pub struct PartnerMutation;

#[Object]
impl PartnerMutation {
    /// Lets a tenant's services into another tenant: for some scopes, until a time. What was granted before is replaced. The
    /// partner's tokens need `auth:partner:read` or `auth:partner:write` besides.
    ///
    /// Errors: `invalid_input` with the field and its rule; `conflict` at 100 partners of one tenant.
    ///
    /// Scope: `auth:tenant:write`, operators only.
    async fn grant_partner_access(
        &self,
        ctx: &Context<'_>,
        input: GrantPartnerAccessInput,
    ) -> Result<PartnerAccessPayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let conditions = conditions(ctx, input.expected_version);
        let GrantPartnerAccessInput { partner_id, tenant_id, scopes, expires_at, reason, .. } = input;
        let (tenant, partner) = (TenantId::parse(&tenant_id)?, TenantId::parse(&partner_id)?);
        let wanted = NewPartnerAccess { tenant, partner, scopes, expires_at, reason };
        let access = handle(ctx)?.grant_partner_access(&scope, wanted, &conditions).await?;
        Ok(PartnerAccessPayload { access: PartnerAccessObject(access) })
    }

    /// Ends a partner's access to a tenant at once.
    ///
    /// Scope: `auth:tenant:write`, operators only.
    async fn revoke_partner_access(
        &self,
        ctx: &Context<'_>,
        input: RevokePartnerAccessInput,
    ) -> Result<PartnerAccessPayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let conditions = conditions(ctx, input.expected_version);
        let (tenant, partner) = (TenantId::parse(&input.tenant_id)?, TenantId::parse(&input.partner_id)?);
        let access = handle(ctx)?.revoke_partner_access(&scope, tenant, partner, &conditions).await?;
        Ok(PartnerAccessPayload { access: PartnerAccessObject(access) })
    }
}

/// Who reaches into a tenant, and where it reaches itself.
#[derive(Clone, Debug)]
pub struct TenantPartners(pub TenantView);

#[Object]
impl TenantPartners {
    /// Partners that may reach into it, in the order of their ids.
    ///
    /// Scope: `auth:tenant:read`.
    async fn partner_access(
        &self,
        ctx: &Context<'_>,
        #[graphql(default, desc = "With access that is over.")] include_ended: bool,
        #[graphql(desc = "At most 100; 25 where not given.")] first: Option<i32>,
        #[graphql(desc = "Cursor of the last partner of the page before.")] after: Option<String>,
    ) -> Result<PartnerAccessConnection> {
        let scope = enter(ctx, "Tenant", &self.0.id().into()).await?;
        let request = PageRequest::new(first, after, ctx.data::<LargestPage>()?.0)?;
        let ended = if include_ended { Ended::With } else { Ended::Without };
        let page = Box::pin(handle(ctx)?.partners(&scope, ended, &request)).await?;
        let (cursors, page_info) = cursors(&page, |access| access.partner_id);
        let nodes = page.items.into_iter().map(PartnerAccessObject);
        let edges = cursors.into_iter().zip(nodes).map(|(cursor, node)| PartnerAccessEdge { cursor, node }).collect();
        Ok(PartnerAccessConnection { edges, page_info })
    }

    /// Tenants that it may reach into as their partner, in the order of their ids.
    ///
    /// Scope: `auth:partner:read`.
    async fn partner_of(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most 100; 25 where not given.")] first: Option<i32>,
        #[graphql(desc = "Cursor of the last tenant of the page before.")] after: Option<String>,
    ) -> Result<ReachedTenantConnection> {
        let scope = enter(ctx, "Tenant", &self.0.id().into()).await?;
        let request = PageRequest::new(first, after, ctx.data::<LargestPage>()?.0)?;
        let page = Box::pin(handle(ctx)?.reached_by(&scope, &request)).await?;
        let (cursors, page_info) = cursors(&page, |access| access.tenant_id);
        let node = |access: PartnerAccess| ReachedTenant {
            id: access.tenant_id.into(),
            scopes: access.scopes,
            expires_at: access.expires_at,
        };
        let nodes = page.items.into_iter().map(node);
        let edges = cursors.into_iter().zip(nodes).map(|(cursor, node)| ReachedTenantEdge { cursor, node }).collect();
        Ok(ReachedTenantConnection { edges, page_info })
    }
}

fn cursors(page: &Page<PartnerAccess>, key: impl Fn(&PartnerAccess) -> TenantId) -> (Vec<String>, PageInfo) {
    let cursors: Vec<_> = page.items.iter().map(|access| page::encode(&key(access))).collect();
    let page_info = PageInfo::new(page, &cursors);
    (cursors, page_info)
}
