//! Sessions in the schema.

mod payloads;

use async_graphql::{Context, ID, InputObject, Object, Result};

pub use self::payloads::SignInPayload;
use self::payloads::{
    ConfirmTotpPayload, DisableTotpPayload, EnrollTotpPayload, RefreshSessionPayload, RenewRecoveryCodesPayload,
    SessionConnection, SessionEdge, SessionObject, SessionPayload, SessionPolicy, SessionPolicyPayload,
};
use super::{MultiFactor, NewPolicy, Sessions};
use crate::{
    access,
    error::Error,
    isolation::TenantScope,
    members::graphql::{MemberObject, MemberPayload, among_operators, member_id, own_account},
    platform::{
        ids::SessionId,
        page::{LargestPage, PageInfo, PageRequest, encode},
        secret::Secret,
    },
    tenancy::graphql::{conditions, enter_own_or},
};

#[derive(Debug, InputObject)]
pub struct SignInInput {
    /// The tenant's id or slug.
    tenant: String,
    email: String,
    password: String,
}

#[derive(Debug, InputObject)]
pub struct SignInByDirectoryInput {
    /// The tenant's id or slug.
    tenant: String,
    /// What the directory knows the person by, as the tenant's `userFilter` says. 1 to 256 bytes.
    login: String,
    /// The one of the directory.
    password: String,
}

#[derive(Debug, InputObject)]
pub struct SignInByCertificateInput {
    /// The tenant's id or slug.
    tenant: String,
}

#[derive(Debug, InputObject)]
pub struct RenewRecoveryCodesInput {
    /// Six digits from the device.
    code: String,
}

#[derive(Debug, InputObject)]
pub struct ChangePasswordInput {
    current_password: String,
    /// As in `acceptInvitation`.
    new_password: String,
}

#[derive(Debug, InputObject)]
pub struct CompleteSignInInput {
    challenge: String,
    /// Six digits from the device, or a recovery code.
    code: String,
}

#[derive(Debug, InputObject)]
pub struct RefreshSessionInput {
    refresh_token: String,
}

#[derive(Debug, InputObject)]
pub struct EndSessionInput {
    /// The tenant; your own where not given.
    tenant_id: Option<ID>,
    id: ID,
}

#[derive(Debug, InputObject)]
pub struct EnrollTotpInput {
    /// Of signing in, where the tenant asks for a second factor and you have none; else your session says who you are.
    challenge: Option<String>,
}

#[derive(Debug, InputObject)]
pub struct ConfirmTotpInput {
    /// As in `enrollTotp`.
    challenge: Option<String>,
    /// Six digits from the device.
    code: String,
}

#[derive(Debug, InputObject)]
pub struct DisableTotpInput {
    /// A code of your own second factor, or a recovery code.
    code: Option<String>,
    /// Another member, who has lost its device: takes `auth:member:write`, and no code.
    member_id: Option<ID>,
    /// The tenant; your own where not given.
    tenant_id: Option<ID>,
}

#[derive(Debug, InputObject)]
pub struct SetSessionPolicyInput {
    /// The tenant; your own where not given.
    tenant_id: Option<ID>,
    /// 60 to 31622400. What is not given stays.
    session_seconds: Option<i64>,
    /// 60 to `sessionSeconds`.
    idle_seconds: Option<i64>,
    /// 1 to 1000.
    most_sessions: Option<i32>,
    multi_factor: Option<MultiFactor>,
    /// The version that you saw last: `conflict` if there is another.
    expected_version: Option<i64>,
}

#[derive(Debug, Default)]
pub struct SessionQuery;

#[Object]
impl SessionQuery {
    /// Sessions that run, the newest first. Without a member: your own or, with the scope `auth:session:read`, those of all members of the
    /// tenant. An operator who names no tenant sees those of operators: its own or, with the scope `auth:operator:read`, all.
    ///
    /// Any valid token.
    async fn sessions(
        &self,
        ctx: &Context<'_>,
        tenant_id: Option<ID>,
        #[graphql(desc = "Only those of this member. Others than your own take the scope `auth:session:read`.")]
        member_id: Option<ID>,
        #[graphql(default = 25, desc = "At most 100.")] first: i32,
        #[graphql(desc = "Cursor of the last session of the page before.")] after: Option<String>,
    ) -> Result<SessionConnection> {
        let scope = entered_or_own(ctx, "Query", tenant_id.as_ref()).await?;
        let member = member_id.as_ref().map(self::member_id).transpose()?;
        let request = PageRequest::new(Some(first), after, ctx.data::<LargestPage>()?.0)?;
        let page = handle(ctx)?.list(&scope, member, &request).await?;
        let cursors: Vec<_> = page.items.iter().map(|session| encode(&session.id)).collect();
        let page_info = PageInfo::new(&page, &cursors);
        let nodes = page.items.into_iter().map(SessionObject);
        let edges = cursors.into_iter().zip(nodes).map(|(cursor, node)| SessionEdge { cursor, node }).collect();
        Ok(SessionConnection { edges, page_info })
    }

    /// What the tenant asks of the sessions of its members.
    ///
    /// Scope: `auth:session:read`.
    async fn session_policy(&self, ctx: &Context<'_>, tenant_id: Option<ID>) -> Result<SessionPolicy> {
        let scope = entered(ctx, "Query", tenant_id.as_ref()).await?;
        Ok(handle(ctx)?.policy(&scope).await?.into())
    }
}

#[derive(Debug, Default)]
pub struct SessionMutation;

#[Object]
impl SessionMutation {
    /// Signs a member in. The answer has tokens, or says what else has to be shown.
    ///
    /// Errors: `unauthenticated` where tenant, e-mail or password is wrong, whichever; `rate_limited` with `retryAfterSeconds` after too many
    /// failures; `tenant_suspended` and `tenant_archived` for who knows the password.
    ///
    /// No token is needed.
    async fn sign_in(&self, ctx: &Context<'_>, input: SignInInput) -> Result<SignInPayload> {
        let origin = access::graphql::caller(ctx)?.origin.clone();
        let password = Secret::new(input.password);
        Ok(handle(ctx)?.sign_in(&origin, &input.tenant, &input.email, password).await?.into())
    }

    /// Signs somebody in who has a password in the tenant's directory. Who is no member yet becomes one, and who is one gets the name, the
    /// address and the roles that the directory gives now, as `syncDirectory` would do it.
    ///
    /// Errors: `unauthenticated` where tenant, login or password is wrong, whichever; `rate_limited` as in `signIn`; `unavailable` where the
    /// directory cannot be asked, which counts as no failure. For who knows the password: `forbidden` where the directory gives no role, or its
    /// entry lacks what a member needs; `quota_exceeded` where no seat is left; `conflict` where another member has the address;
    /// `tenant_suspended` and `tenant_archived`.
    ///
    /// No token is needed.
    async fn sign_in_by_directory(&self, ctx: &Context<'_>, input: SignInByDirectoryInput) -> Result<SignInPayload> {
        let origin = access::graphql::caller(ctx)?.origin.clone();
        let password = Secret::new(input.password);
        Ok(handle(ctx)?.sign_in_by_directory(&origin, &input.tenant, &input.login, &password).await?.into())
    }

    /// Signs in whoever the certificate of this connection names, by the authorities and rules of the tenant. The certificate comes in the TLS
    /// handshake, or in a trusted proxy's header.
    ///
    /// Errors: `unauthenticated` with a `reason` in the details: `MISSING`, `MALFORMED`, `NOT_YET_VALID`, `EXPIRED`, `REVOKED`,
    /// `REVOCATION_UNKNOWN` (try again later), and `UNTRUSTED` for all else, a certificate that is trusted and names no active member
    /// included; `tenant_suspended` and `tenant_archived` for members.
    ///
    /// No token is needed.
    async fn sign_in_by_certificate(
        &self,
        ctx: &Context<'_>,
        input: SignInByCertificateInput,
    ) -> Result<SignInPayload> {
        let origin = access::graphql::caller(ctx)?.origin.clone();
        Ok(handle(ctx)?.sign_in_by_certificate(&origin, &input.tenant).await?.into())
    }

    /// Answers a challenge of `signIn` with a code. A code works once.
    ///
    /// Errors: `unauthenticated` at `challenge` where it is over, at `code` where that is wrong or was used; `rate_limited` as in `signIn`.
    ///
    /// No token is needed.
    async fn complete_sign_in(&self, ctx: &Context<'_>, input: CompleteSignInInput) -> Result<SignInPayload> {
        let origin = access::graphql::caller(ctx)?.origin.clone();
        let (challenge, code) = (Secret::new(input.challenge), Secret::new(input.code));
        Ok(handle(ctx)?.complete(&origin, &challenge, &code).await?.into())
    }

    /// Goes on with a session: new tokens for the refresh token, which is used up. Sent again within 10 seconds where the server says nothing
    /// else, for the answer may have been lost, it is answered with the same next one; sent again later, it ends the session (RFC 9700,
    /// section 4.14.2).
    ///
    /// Errors: `unauthenticated` where the session is over, whatever the reason.
    ///
    /// No token is needed.
    async fn refresh_session(&self, ctx: &Context<'_>, input: RefreshSessionInput) -> Result<RefreshSessionPayload> {
        let origin = access::graphql::caller(ctx)?.origin.clone();
        let signed_in = handle(ctx)?.refresh(&origin, &Secret::new(input.refresh_token)).await?;
        Ok(RefreshSessionPayload { tokens: signed_in.into() })
    }

    /// Changes your own password. All your sessions end, this one too: sign in with the new one.
    ///
    /// Errors: `invalid_input` with the field and its rule; `rate_limited` after too many wrong ones; `forbidden` for who is
    /// no member.
    ///
    /// Any valid token.
    async fn change_password(&self, ctx: &Context<'_>, input: ChangePasswordInput) -> Result<MemberPayload> {
        let scope = own_account(ctx, "Mutation").await?;
        let (before, after) = (Secret::new(input.current_password), Secret::new(input.new_password));
        let member = handle(ctx)?.change_password(&scope, before, after).await?;
        Ok(MemberPayload { member: MemberObject(member) })
    }

    /// Ends your session. Its tokens are worth nothing from this answer on.
    ///
    /// Errors: `forbidden` for who has no session.
    ///
    /// Any valid token.
    async fn sign_out(&self, ctx: &Context<'_>) -> Result<SessionPayload> {
        let scope = own_account(ctx, "Mutation").await?;
        Ok(SessionPayload { session: SessionObject(handle(ctx)?.sign_out(&scope).await?) })
    }

    /// Ends a session at once: one of your own or, with the scope `auth:session:write`, of anybody in the tenant; where an operator names no
    /// tenant, one of an operator, which takes the scope `auth:operator:write` unless it is its own. To end one twice changes nothing.
    ///
    /// Any valid token.
    async fn end_session(&self, ctx: &Context<'_>, input: EndSessionInput) -> Result<SessionPayload> {
        let scope = entered_or_own(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let id: SessionId = input.id.parse().map_err(|_| Error::not_found())?;
        Ok(SessionPayload { session: SessionObject(handle(ctx)?.end(&scope, id).await?) })
    }

    /// Sets the tenant's rules. Sessions that run are held to them when they are refreshed next.
    ///
    /// Errors: `invalid_input` with the field and its rule; `conflict` for an old version.
    ///
    /// Scope: `auth:session:write`.
    async fn set_session_policy(
        &self,
        ctx: &Context<'_>,
        input: SetSessionPolicyInput,
    ) -> Result<SessionPolicyPayload> {
        let scope = entered(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let wanted = NewPolicy {
            session_seconds: input.session_seconds,
            idle_seconds: input.idle_seconds,
            most_sessions: input.most_sessions,
            multi_factor: input.multi_factor,
        };
        let policy = handle(ctx)?.set_policy(&scope, wanted, &conditions(ctx, input.expected_version)).await?;
        Ok(SessionPolicyPayload { policy: policy.into() })
    }

    /// Makes a secret for your device, in place of one that was not confirmed; in your session, or with the challenge that asks for it.
    ///
    /// Errors: `conflict` where a second factor is set up already.
    ///
    /// No token is needed.
    async fn enroll_totp(&self, ctx: &Context<'_>, input: EnrollTotpInput) -> Result<EnrollTotpPayload> {
        let caller = access::graphql::caller(ctx)?;
        let challenge = input.challenge.map(Secret::new);
        let own = own_unless(ctx, challenge.is_some()).await?;
        Ok(handle(ctx)?.enroll(own, &caller.origin, challenge.as_ref()).await?.into())
    }

    /// Shows that your device has the secret. From then on signing in asks for a code.
    ///
    /// Errors: `unauthenticated` at `code` where that is wrong.
    ///
    /// No token is needed.
    async fn confirm_totp(&self, ctx: &Context<'_>, input: ConfirmTotpInput) -> Result<ConfirmTotpPayload> {
        let caller = access::graphql::caller(ctx)?;
        let (challenge, code) = (input.challenge.map(Secret::new), Secret::new(input.code));
        let own = own_unless(ctx, challenge.is_some()).await?;
        Ok(handle(ctx)?.confirm(own, &caller.origin, challenge.as_ref(), &code).await?.into())
    }

    /// Makes ten recovery codes in place of those before, which are worth nothing from this answer on. A recovery code is not enough for it.
    ///
    /// Errors: `unauthenticated` at `code` where that is wrong or was used; `conflict` where no second factor is set up; `rate_limited` as in
    /// `signIn`; `forbidden` for who is no member.
    ///
    /// Any valid token.
    async fn renew_recovery_codes(
        &self,
        ctx: &Context<'_>,
        input: RenewRecoveryCodesInput,
    ) -> Result<RenewRecoveryCodesPayload> {
        let scope = own_account(ctx, "Mutation").await?;
        Ok(handle(ctx)?.renew_recovery_codes(&scope, &Secret::new(input.code)).await?.into())
    }

    /// Switches your second factor off, or that of a member who has lost its device. Where the tenant asks for one, it is set up anew at the
    /// next `signIn`.
    ///
    /// Errors: `unauthenticated` at `code` where that is wrong; `forbidden` for a member who may do more than you.
    ///
    /// Any valid token.
    async fn disable_totp(&self, ctx: &Context<'_>, input: DisableTotpInput) -> Result<DisableTotpPayload> {
        let sessions = handle(ctx)?;
        match (input.member_id, input.code) {
            (Some(member), None) => {
                let scope = entered(ctx, "Mutation", input.tenant_id.as_ref()).await?;
                sessions.disable_of(&scope, self::member_id(&member)?).await?;
                Ok(DisableTotpPayload { member_id: member })
            }
            (None, Some(code)) => {
                let scope = own_account(ctx, "Mutation").await?;
                sessions.disable(&scope, &Secret::new(code)).await?;
                let own = scope.caller().subject.clone();
                Ok(DisableTotpPayload { member_id: own.into() })
            }
            _ => {
                Err(Error::invalid("code", "is needed for your own second factor, and `memberId` for another's").into())
            }
        }
    }
}

async fn own_unless(ctx: &Context<'_>, has_challenge: bool) -> Result<Option<TenantScope>, Error> {
    if has_challenge {
        return Ok(None);
    }
    if access::graphql::caller(ctx)?.is_anonymous() {
        return Err(Error::unauthenticated());
    }
    own_account(ctx, "Mutation").await.map(Some)
}

/// The tenant that is named, or the caller's own; operators are among themselves where they name none.
async fn entered_or_own(ctx: &Context<'_>, type_name: &str, tenant: Option<&ID>) -> Result<TenantScope, Error> {
    if tenant.is_none() && access::graphql::caller(ctx)?.is_platform() {
        return among_operators(ctx, type_name);
    }
    entered(ctx, type_name, tenant).await
}

async fn entered(ctx: &Context<'_>, type_name: &str, tenant: Option<&ID>) -> Result<TenantScope, Error> {
    let scope = enter_own_or(ctx, type_name, tenant).await?;
    scope.ok_or_else(|| Error::invalid("tenantId", "is needed: an operator is bound to no tenant"))
}

fn handle<'a>(ctx: &Context<'a>) -> Result<&'a Sessions, Error> {
    ctx.data_opt::<Sessions>().ok_or_else(|| Error::internal("the schema has no sessions"))
}
