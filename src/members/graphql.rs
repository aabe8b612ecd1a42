//! Members in the schema.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};

use super::{Invited, Member, MemberFilter, Members, NewMember, NewRole, OwnRole, SHIPPED, Shipped, Source, Status};
use crate::{
    access::{self, Scope},
    error::Error,
    isolation::TenantScope,
    platform::{
        ids::{MemberId, TenantId},
        page::{LargestPage, PageInfo, PageRequest, encode},
        secret::Secret,
    },
    tenancy::graphql::{conditions, enter_own_or},
};

/// A person who belongs to a tenant.
#[derive(Debug)]
pub struct MemberObject(pub Member);

#[Object(name = "Member")]
impl MemberObject {
    async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// No other member of the tenant has it, whatever the case of its letters.
    async fn email(&self) -> &str {
        &self.0.email
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    async fn status(&self) -> Status {
        self.0.status
    }

    /// Who says that the member is one.
    async fn source(&self) -> Source {
        self.0.source
    }

    /// What its source calls it.
    async fn external_id(&self) -> Option<&str> {
        self.0.external_id.as_deref()
    }

    /// Keys of `roles`.
    async fn roles(&self) -> &[String] {
        &self.0.roles
    }

    /// Grows by one with every change; what `expectedVersion` is compared with.
    async fn version(&self) -> i64 {
        self.0.version
    }

    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    async fn updated_at(&self) -> DateTime<Utc> {
        self.0.updated_at
    }
}

/// Scopes by a name.
#[derive(Debug, SimpleObject)]
pub struct MemberRole {
    key: String,
    description: String,
    /// What members who have it may do.
    scopes: Vec<String>,
    /// Whether every tenant has it; such a role does not change.
    shipped: bool,
    /// Of an own role: what `expectedVersion` is compared with.
    version: Option<i64>,
}

impl From<&Shipped> for MemberRole {
    fn from(role: &Shipped) -> Self {
        Self {
            key: role.key.to_owned(),
            description: role.description.to_owned(),
            scopes: role.scopes().iter().map(|scope| scope.name().to_owned()).collect(),
            shipped: true,
            version: None,
        }
    }
}

impl From<OwnRole> for MemberRole {
    fn from(role: OwnRole) -> Self {
        let scopes = role.scopes().iter().map(Scope::name).map(str::to_owned).collect();
        Self { key: role.key, description: role.description, scopes, shipped: false, version: Some(role.version) }
    }
}

#[derive(Debug, SimpleObject)]
pub struct MemberEdge {
    cursor: String,
    node: MemberObject,
}

#[derive(Debug, SimpleObject)]
pub struct MemberConnection {
    edges: Vec<MemberEdge>,
    page_info: PageInfo,
}

#[derive(Debug, InputObject)]
pub struct InviteMemberInput {
    /// The tenant; a member's or service's own where not given.
    tenant_id: Option<ID>,
    /// At most 254 bytes. It does not change by itself, and is compared whatever the case of its letters.
    email: String,
    /// What it is called; at most 200 characters. It can say so itself when it accepts.
    #[graphql(default)]
    name: String,
    /// Keys of `roles`, 1 to 16: together no more than you may do yourself.
    roles: Vec<String>,
}

#[derive(Debug, InputObject)]
pub struct MemberActionInput {
    /// The tenant; a member's or service's own where not given.
    tenant_id: Option<ID>,
    /// The member.
    id: ID,
    /// The version that you saw last: `conflict` if there is another.
    expected_version: Option<i64>,
}

#[derive(Debug, InputObject)]
pub struct SetMemberRolesInput {
    /// The tenant; a member's or service's own where not given.
    tenant_id: Option<ID>,
    /// The member.
    id: ID,
    /// Keys of `roles`, 1 to 16, in place of those that the member has.
    roles: Vec<String>,
    /// The version that you saw last: `conflict` if there is another.
    expected_version: Option<i64>,
}

#[derive(Debug, InputObject)]
pub struct SetRoleInput {
    /// The tenant; a member's or service's own where not given.
    tenant_id: Option<ID>,
    /// 1 to 63 small letters, digits or `_`, a letter first; not the key of a shipped role. A role of this key is replaced.
    key: String,
    /// For people; at most 500 characters.
    #[graphql(default)]
    description: String,
    /// Such as `auth:usage:read`: those that tenants can hold, and no more than you have yourself.
    scopes: Vec<String>,
    /// The version that you saw last; 0 where there was no such role.
    expected_version: Option<i64>,
}

#[derive(Debug, InputObject)]
pub struct DeleteRoleInput {
    /// The tenant; a member's or service's own where not given.
    tenant_id: Option<ID>,
    key: String,
    /// The version that you saw last.
    expected_version: Option<i64>,
}

#[derive(Debug, InputObject)]
pub struct AcceptInvitationInput {
    /// The secret of the invitation's link.
    token: String,
    /// What you want to be called, in place of what the invitation says.
    name: Option<String>,
    /// 12 to 256 characters where the server asks for nothing else, of any kind; none that is known to be stolen.
    password: String,
}

#[derive(Debug, InputObject)]
pub struct ResetPasswordInput {
    /// The secret of the link.
    token: String,
    /// As in `acceptInvitation`.
    password: String,
}

#[derive(Debug, SimpleObject)]
pub struct MemberPayload {
    pub member: MemberObject,
}

/// A member, and the link that it needs.
#[derive(Debug, SimpleObject)]
pub struct MemberLinkPayload {
    member: MemberObject,
    /// The secret of the link, to be given to the member: it works once, and until a newer one is made. Shown this once and kept nowhere; null
    /// where this answer is given again for an `Idempotency-Key` that was used before.
    token: Option<String>,
}

impl From<Invited> for MemberLinkPayload {
    fn from(invited: Invited) -> Self {
        Self { member: MemberObject(invited.member), token: invited.link.map(|link| link.expose().to_owned()) }
    }
}

#[derive(Debug, SimpleObject)]
pub struct RevokeInvitationPayload {
    /// Of the member that is no more.
    id: ID,
}

#[derive(Debug, SimpleObject)]
pub struct RolePayload {
    role: MemberRole,
}

#[derive(Debug, Default)]
pub struct MemberQuery;

#[Object]
impl MemberQuery {
    /// The members of a tenant, the oldest first; without an id, of the tenant that the token is bound to.
    ///
    /// Scope: `auth:member:read`.
    #[expect(clippy::too_many_arguments, reason = "each is an argument of the field")]
    async fn members(
        &self,
        ctx: &Context<'_>,
        tenant_id: Option<ID>,
        #[graphql(desc = "Only those of this status.")] status: Option<Status>,
        #[graphql(desc = "Only those who have the role of this key.")] role: Option<String>,
        #[graphql(desc = "Only those with this text in name or address, whatever the case of its letters.")]
        text: Option<String>,
        #[graphql(default = 25, desc = "At most 100.")] first: i32,
        #[graphql(desc = "Cursor of the last member of the page before.")] after: Option<String>,
    ) -> Result<MemberConnection> {
        let scope = entered(ctx, "Query", tenant_id.as_ref()).await?;
        let request = PageRequest::new(Some(first), after, ctx.data::<LargestPage>()?.0)?;
        let page = handle(ctx)?.list(&scope, &MemberFilter { status, role, text }, &request).await?;
        let cursors: Vec<_> = page.items.iter().map(|member| encode(&member.id)).collect();
        let page_info = PageInfo::new(&page, &cursors);
        let nodes = page.items.into_iter().map(MemberObject);
        let edges = cursors.into_iter().zip(nodes).map(|(cursor, node)| MemberEdge { cursor, node }).collect();
        Ok(MemberConnection { edges, page_info })
    }

    /// One member; without a tenant's id, of the tenant that the token is bound to.
    ///
    /// Scope: `auth:member:read`.
    async fn member(&self, ctx: &Context<'_>, tenant_id: Option<ID>, id: ID) -> Result<MemberObject> {
        let scope = entered(ctx, "Query", tenant_id.as_ref()).await?;
        Ok(MemberObject(handle(ctx)?.get(&scope, member_id(&id)?).await?))
    }

    /// The roles that members can have, the shipped ones first; without an id, of the tenant that the token is bound to.
    ///
    /// Scope: `auth:member:read`.
    async fn roles(&self, ctx: &Context<'_>, tenant_id: Option<ID>) -> Result<Vec<MemberRole>> {
        let scope = entered(ctx, "Query", tenant_id.as_ref()).await?;
        let own = handle(ctx)?.own_roles(&scope).await?;
        Ok(SHIPPED.iter().map(Into::into).chain(own.into_iter().map(Into::into)).collect())
    }
}

#[derive(Debug, Default)]
pub struct MemberMutation;

#[Object]
impl MemberMutation {
    /// Invites a person. It takes a seat of the quota `max_users` from now on. The link works once, within 7 days where the server says
    /// nothing else.
    ///
    /// Errors: `invalid_input` with the field and its rule; `forbidden` for roles that include more than you may do yourself;
    /// `quota_exceeded` without a free seat; `conflict` where a member has the address.
    ///
    /// Scope: `auth:member:write`.
    async fn invite_member(&self, ctx: &Context<'_>, input: InviteMemberInput) -> Result<MemberLinkPayload> {
        let scope = entered(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let new = NewMember { email: input.email, name: input.name, roles: input.roles };
        Ok(handle(ctx)?.invite(&scope, new, &conditions(ctx, None)).await?.into())
    }

    /// Makes a new link for a member who has not accepted yet; the one before is worth nothing from then on.
    ///
    /// Scope: `auth:member:write`.
    async fn resend_invitation(&self, ctx: &Context<'_>, input: MemberActionInput) -> Result<MemberLinkPayload> {
        let scope = entered(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let (id, conditions) = (member_id(&input.id)?, conditions(ctx, input.expected_version));
        Ok(handle(ctx)?.resend_invitation(&scope, id, &conditions).await?.into())
    }

    /// Takes an invitation back: there is no such member any more, and its seat is free.
    ///
    /// Scope: `auth:member:write`.
    async fn revoke_invitation(&self, ctx: &Context<'_>, input: MemberActionInput) -> Result<RevokeInvitationPayload> {
        let scope = entered(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let (id, conditions) = (member_id(&input.id)?, conditions(ctx, input.expected_version));
        let id = handle(ctx)?.revoke_invitation(&scope, id, &conditions).await?;
        Ok(RevokeInvitationPayload { id: id.to_string().into() })
    }

    /// Follows an invitation: you are an active member from then on, and can sign in.
    ///
    /// Errors: `not_found` for a link that was used, is over, or never was; `invalid_input` with the field and its rule.
    ///
    /// No token is needed.
    async fn accept_invitation(&self, ctx: &Context<'_>, input: AcceptInvitationInput) -> Result<MemberPayload> {
        let (caller, token) = (access::graphql::caller(ctx)?, Secret::new(input.token));
        let password = Secret::new(input.password);
        let member = handle(ctx)?.accept_invitation(&caller, &token, input.name.as_deref(), password).await?;
        Ok(MemberPayload { member: MemberObject(member) })
    }

    /// Gives a member other roles. What it may do changes with this answer, in sessions that run as well.
    ///
    /// Errors: `forbidden` where what it has or gets includes more than you may do yourself; `conflict` for the last active owner.
    ///
    /// Scope: `auth:member:write`.
    async fn set_member_roles(&self, ctx: &Context<'_>, input: SetMemberRolesInput) -> Result<MemberPayload> {
        let scope = entered(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let (id, conditions) = (member_id(&input.id)?, conditions(ctx, input.expected_version));
        let member = handle(ctx)?.set_roles(&scope, id, &input.roles, &conditions).await?;
        Ok(MemberPayload { member: MemberObject(member) })
    }

    /// Ends a member's access at once, with all its sessions, and frees its seat.
    ///
    /// Errors: `invalid_transition` for one that is not active; `forbidden` for one who may do more than you; `conflict` for the last active
    /// owner.
    ///
    /// Scope: `auth:member:write`.
    async fn deactivate_member(&self, ctx: &Context<'_>, input: MemberActionInput) -> Result<MemberPayload> {
        let scope = entered(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let (id, conditions) = (member_id(&input.id)?, conditions(ctx, input.expected_version));
        Ok(MemberPayload { member: MemberObject(handle(ctx)?.deactivate(&scope, id, &conditions).await?) })
    }

    /// Lets a deactivated member in again, with the roles that it had. It takes a seat.
    ///
    /// Errors: `invalid_transition` for one that is not deactivated; `quota_exceeded` without a free seat; `forbidden` for one who may do
    /// more than you.
    ///
    /// Scope: `auth:member:write`.
    async fn reactivate_member(&self, ctx: &Context<'_>, input: MemberActionInput) -> Result<MemberPayload> {
        let scope = entered(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let (id, conditions) = (member_id(&input.id)?, conditions(ctx, input.expected_version));
        Ok(MemberPayload { member: MemberObject(handle(ctx)?.reactivate(&scope, id, &conditions).await?) })
    }

    /// Sets a role of the tenant's own. Who has it may do what it allows from this answer on. A tenant has at most 50.
    ///
    /// Errors: `invalid_input` with the field and its rule; `forbidden` where it has, or had, more than you may do yourself; `conflict` for an
    /// old version or too many roles.
    ///
    /// Scope: `auth:member:write`.
    async fn set_role(&self, ctx: &Context<'_>, input: SetRoleInput) -> Result<RolePayload> {
        let scope = entered(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let wanted = NewRole { key: input.key, description: input.description, scopes: input.scopes };
        let role = handle(ctx)?.set_role(&scope, wanted, &conditions(ctx, input.expected_version)).await?;
        Ok(RolePayload { role: role.into() })
    }

    /// Deletes a role of the tenant's own that no member has.
    ///
    /// Errors: `not_found` at `key`; `conflict` where members have it, or for an old version.
    ///
    /// Scope: `auth:member:write`.
    async fn delete_role(&self, ctx: &Context<'_>, input: DeleteRoleInput) -> Result<RolePayload> {
        let scope = entered(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let role = handle(ctx)?.delete_role(&scope, &input.key, &conditions(ctx, input.expected_version)).await?;
        Ok(RolePayload { role: role.into() })
    }

    /// Makes a link by which a member sets a new password. It works once, within an hour where the server says nothing else.
    ///
    /// Errors: `forbidden` for a member who may do more than you; `conflict` for one that is not active.
    ///
    /// Scope: `auth:member:write`.
    async fn make_password_link(&self, ctx: &Context<'_>, input: MemberActionInput) -> Result<MemberLinkPayload> {
        let scope = entered(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let (id, conditions) = (member_id(&input.id)?, conditions(ctx, input.expected_version));
        Ok(handle(ctx)?.make_password_link(&scope, id, &conditions).await?.into())
    }

    /// Follows such a link. All your sessions end.
    ///
    /// Errors: `not_found` for a link that was used, is over, or never was; `invalid_input` with the field and its rule.
    ///
    /// No token is needed.
    async fn reset_password(&self, ctx: &Context<'_>, input: ResetPasswordInput) -> Result<MemberPayload> {
        let (caller, token) = (access::graphql::caller(ctx)?, Secret::new(input.token));
        let member = handle(ctx)?.reset_password(&caller, &token, Secret::new(input.password)).await?;
        Ok(MemberPayload { member: MemberObject(member) })
    }
}

/// A text that is no id names no member.
pub fn member_id(id: &ID) -> Result<MemberId, Error> {
    id.parse().map_err(|_| Error::not_found())
}

async fn entered(ctx: &Context<'_>, type_name: &str, tenant: Option<&ID>) -> Result<TenantScope, Error> {
    let scope = enter_own_or(ctx, type_name, tenant).await?;
    scope.ok_or_else(|| Error::invalid("tenantId", "is needed: an operator is bound to no tenant"))
}

/// Where the caller has its own account, for what it does to that.
pub async fn own_account(ctx: &Context<'_>, type_name: &str) -> Result<TenantScope, Error> {
    let caller = access::graphql::caller(ctx)?;
    match caller.account() {
        None => Err(super::only_members()),
        Some(_) if caller.is_platform() => among_operators(ctx, type_name),
        Some(_) => enter_own_or(ctx, type_name, None).await?.ok_or_else(super::only_members),
    }
}

/// Where operators have their accounts, for what the present field of `type_name` asks.
pub fn among_operators(ctx: &Context<'_>, type_name: &str) -> Result<TenantScope, Error> {
    let (caller, permission) = (access::graphql::caller(ctx)?, access::graphql::permission_here(ctx, type_name)?);
    TenantScope::enter_as_operator(&caller, TenantId::PLATFORM, permission)
}

pub fn handle<'a>(ctx: &Context<'a>) -> Result<&'a Members, Error> {
    ctx.data_opt::<Members>().ok_or_else(|| Error::internal("the schema has no members"))
}
