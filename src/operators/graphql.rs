//! Operators in the schema.

use async_graphql::{Context, Enum, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};

use crate::{
    access::{self, Role},
    error::Error,
    isolation::TenantScope,
    members::{
        Invited, Member, MemberFilter, NewMember, Status,
        graphql::{among_operators, handle, member_id},
        operator_role,
    },
    platform::{
        page::{LargestPage, PageInfo, PageRequest, encode},
        secret::Secret,
    },
    sessions::{Sessions, graphql::SignInPayload},
    tenancy::graphql::conditions,
};

/// What an operator may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum OperatorRole {
    /// Everything.
    Admin,
    /// Reads everything but the audit log.
    Support,
    /// Plans and limits, suspending and resuming for unpaid bills, and what credit is due.
    Billing,
    /// Reads everything, the audit log included.
    Auditor,
}

impl OperatorRole {
    const fn role(self) -> Role {
        match self {
            Self::Admin => Role::Admin,
            Self::Support => Role::Support,
            Self::Billing => Role::Billing,
            Self::Auditor => Role::Auditor,
        }
    }

    fn of(key: &str) -> Option<Self> {
        let known = [Self::Admin, Self::Support, Self::Billing, Self::Auditor];
        let role = operator_role(key)?;
        known.into_iter().find(|known| known.role() == role)
    }
}

fn keys(roles: &[OperatorRole]) -> Vec<String> {
    roles.iter().map(|role| role.role().name().to_owned()).collect()
}

/// A person who runs the platform.
#[derive(Debug)]
pub struct Operator(Member);

#[Object]
impl Operator {
    /// `sub` of its tokens, and the actor's name in journals.
    async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// No other operator has it, whatever the case of its letters.
    async fn email(&self) -> &str {
        &self.0.email
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    async fn status(&self) -> Status {
        self.0.status
    }

    async fn roles(&self) -> Vec<OperatorRole> {
        self.0.roles.iter().filter_map(|key| OperatorRole::of(key)).collect()
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

#[derive(Debug, SimpleObject)]
pub struct OperatorEdge {
    cursor: String,
    node: Operator,
}

#[derive(Debug, SimpleObject)]
pub struct OperatorConnection {
    edges: Vec<OperatorEdge>,
    page_info: PageInfo,
}

#[derive(Debug, SimpleObject)]
pub struct OperatorPayload {
    operator: Operator,
}

/// An operator, and the link that it needs.
#[derive(Debug, SimpleObject)]
pub struct OperatorLinkPayload {
    operator: Operator,
    /// The secret of the link, to be given to the operator: it works once, and until a newer one is made. Shown this once and kept nowhere;
    /// null where this answer is given again for an `Idempotency-Key` that was used before.
    token: Option<String>,
}

impl From<Invited> for OperatorLinkPayload {
    fn from(invited: Invited) -> Self {
        Self { operator: Operator(invited.member), token: invited.link.map(|link| link.expose().to_owned()) }
    }
}

#[derive(Debug, SimpleObject)]
pub struct RevokeOperatorInvitationPayload {
    /// Of the operator that is no more.
    id: ID,
}

#[derive(Debug, SimpleObject)]
pub struct ResetOperatorTotpPayload {
    id: ID,
}

#[derive(Debug, InputObject)]
pub struct InviteOperatorInput {
    /// At most 254 bytes; compared whatever the case of its letters.
    email: String,
    /// What it is called; at most 200 characters. It can say so itself when it accepts.
    #[graphql(default)]
    name: String,
    /// At least one: together no more than you may do yourself.
    roles: Vec<OperatorRole>,
}

#[derive(Debug, InputObject)]
pub struct OperatorActionInput {
    /// The operator.
    id: ID,
    /// The version that you saw last: `conflict` if there is another.
    expected_version: Option<i64>,
}

#[derive(Debug, InputObject)]
pub struct SetOperatorRolesInput {
    /// The operator.
    id: ID,
    /// At least one, in place of those that the operator has.
    roles: Vec<OperatorRole>,
    /// The version that you saw last: `conflict` if there is another.
    expected_version: Option<i64>,
}

#[derive(Debug, InputObject)]
pub struct SignInOperatorInput {
    email: String,
    password: String,
}

#[derive(Debug, Default)]
pub struct OperatorQuery;

#[Object]
impl OperatorQuery {
    /// The people who run the platform, the oldest first.
    ///
    /// Scope: `auth:operator:read`, operators only.
    async fn operators(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only those of this status.")] status: Option<Status>,
        #[graphql(desc = "Only those with this role.")] role: Option<OperatorRole>,
        #[graphql(desc = "Only those with this text in name or address, whatever the case of its letters.")]
        text: Option<String>,
        #[graphql(default = 25, desc = "At most 100.")] first: i32,
        #[graphql(desc = "Cursor of the last operator of the page before.")] after: Option<String>,
    ) -> Result<OperatorConnection> {
        let scope = among_operators(ctx, "Query")?;
        let request = PageRequest::new(Some(first), after, ctx.data::<LargestPage>()?.0)?;
        let role = role.map(|role| role.role().name().to_owned());
        let page = handle(ctx)?.list(&scope, &MemberFilter { status, role, text }, &request).await?;
        let cursors: Vec<_> = page.items.iter().map(|operator| encode(&operator.id)).collect();
        let page_info = PageInfo::new(&page, &cursors);
        let nodes = page.items.into_iter().map(Operator);
        let edges = cursors.into_iter().zip(nodes).map(|(cursor, node)| OperatorEdge { cursor, node }).collect();
        Ok(OperatorConnection { edges, page_info })
    }
}

#[derive(Debug, Default)]
pub struct OperatorMutation;

#[Object]
impl OperatorMutation {
    /// Signs an operator in: with a password, and then always with a second factor, which is set up at the first time. Go on with
    /// `completeSignIn`, or with `enrollTotp` and `confirmTotp`; the session with `refreshSession` and `signOut`.
    ///
    /// Errors: `unauthenticated` where e-mail or password is wrong, whichever; `rate_limited` with `retryAfterSeconds` after too many
    /// failures; `forbidden` from an address outside of `operators.allowed_networks`, for who knows the password.
    ///
    /// No token is needed.
    async fn sign_in_operator(&self, ctx: &Context<'_>, input: SignInOperatorInput) -> Result<SignInPayload> {
        let origin = access::graphql::caller(ctx)?.origin.clone();
        Ok(sessions(ctx)?.sign_in_operator(&origin, &input.email, Secret::new(input.password)).await?.into())
    }

    /// Invites a person to run the platform. The link works once, within 7 days where the server says nothing else; it is followed with
    /// `acceptInvitation`.
    ///
    /// Errors: `invalid_input` with the field and its rule; `forbidden` for roles that include more than you may do yourself; `conflict`
    /// where an operator has the address.
    ///
    /// Scope: `auth:operator:write`, operators only.
    async fn invite_operator(&self, ctx: &Context<'_>, input: InviteOperatorInput) -> Result<OperatorLinkPayload> {
        let scope = among_operators(ctx, "Mutation")?;
        let new = NewMember { email: input.email, name: input.name, roles: keys(&input.roles) };
        Ok(handle(ctx)?.invite(&scope, new, &conditions(ctx, None)).await?.into())
    }

    /// Makes a new link for an operator who has not accepted yet; the one before is worth nothing from then on.
    ///
    /// Scope: `auth:operator:write`, operators only.
    async fn resend_operator_invitation(
        &self,
        ctx: &Context<'_>,
        input: OperatorActionInput,
    ) -> Result<OperatorLinkPayload> {
        let scope = among_operators(ctx, "Mutation")?;
        let (id, conditions) = (member_id(&input.id)?, conditions(ctx, input.expected_version));
        Ok(handle(ctx)?.resend_invitation(&scope, id, &conditions).await?.into())
    }

    /// Takes an invitation back: there is no such operator any more.
    ///
    /// Scope: `auth:operator:write`, operators only.
    async fn revoke_operator_invitation(
        &self,
        ctx: &Context<'_>,
        input: OperatorActionInput,
    ) -> Result<RevokeOperatorInvitationPayload> {
        let scope = among_operators(ctx, "Mutation")?;
        let (id, conditions) = (member_id(&input.id)?, conditions(ctx, input.expected_version));
        let id = handle(ctx)?.revoke_invitation(&scope, id, &conditions).await?;
        Ok(RevokeOperatorInvitationPayload { id: id.to_string().into() })
    }

    /// Gives an operator other roles. What it may do changes with this answer, in sessions that run as well.
    ///
    /// Errors: `forbidden` where what it has or gets includes more than you may do yourself.
    ///
    /// Scope: `auth:operator:write`, operators only.
    async fn set_operator_roles(&self, ctx: &Context<'_>, input: SetOperatorRolesInput) -> Result<OperatorPayload> {
        let scope = among_operators(ctx, "Mutation")?;
        let (id, conditions) = (member_id(&input.id)?, conditions(ctx, input.expected_version));
        let operator = handle(ctx)?.set_roles(&scope, id, &keys(&input.roles), &conditions).await?;
        Ok(OperatorPayload { operator: Operator(operator) })
    }

    /// Ends an operator's access at once, with all its sessions.
    ///
    /// Errors: `invalid_transition` for one that is not active; `forbidden` for one who may do more than you.
    ///
    /// Scope: `auth:operator:write`, operators only.
    async fn deactivate_operator(&self, ctx: &Context<'_>, input: OperatorActionInput) -> Result<OperatorPayload> {
        let scope = among_operators(ctx, "Mutation")?;
        let (id, conditions) = (member_id(&input.id)?, conditions(ctx, input.expected_version));
        Ok(OperatorPayload { operator: Operator(handle(ctx)?.deactivate(&scope, id, &conditions).await?) })
    }

    /// Lets a deactivated operator in again, with the roles that it had.
    ///
    /// Errors: `invalid_transition` for one that is not deactivated; `forbidden` for one who may do more than you.
    ///
    /// Scope: `auth:operator:write`, operators only.
    async fn reactivate_operator(&self, ctx: &Context<'_>, input: OperatorActionInput) -> Result<OperatorPayload> {
        let scope = among_operators(ctx, "Mutation")?;
        let (id, conditions) = (member_id(&input.id)?, conditions(ctx, input.expected_version));
        Ok(OperatorPayload { operator: Operator(handle(ctx)?.reactivate(&scope, id, &conditions).await?) })
    }

    /// Makes a link by which an operator sets a new password with `resetPassword`. It works once, within an hour where the server says
    /// nothing else. The second factor is asked for as before.
    ///
    /// Errors: `forbidden` for an operator who may do more than you; `conflict` for one that is not active.
    ///
    /// Scope: `auth:operator:write`, operators only.
    async fn make_operator_password_link(
        &self,
        ctx: &Context<'_>,
        input: OperatorActionInput,
    ) -> Result<OperatorLinkPayload> {
        let scope = among_operators(ctx, "Mutation")?;
        let (id, conditions) = (member_id(&input.id)?, conditions(ctx, input.expected_version));
        Ok(handle(ctx)?.make_password_link(&scope, id, &conditions).await?.into())
    }

    /// Takes the second factor of an operator away, who has lost its device and its recovery codes: it sets up another one at the next
    /// `signInOperator`.
    ///
    /// Errors: `forbidden` for an operator who may do more than you.
    ///
    /// Scope: `auth:operator:write`, operators only.
    async fn reset_operator_totp(
        &self,
        ctx: &Context<'_>,
        input: OperatorActionInput,
    ) -> Result<ResetOperatorTotpPayload> {
        let scope: TenantScope = among_operators(ctx, "Mutation")?;
        sessions(ctx)?.disable_of(&scope, member_id(&input.id)?).await?;
        Ok(ResetOperatorTotpPayload { id: input.id })
    }
}

fn sessions<'a>(ctx: &Context<'a>) -> Result<&'a Sessions, Error> {
    ctx.data_opt::<Sessions>().ok_or_else(|| Error::internal("the schema has no sessions"))
}
