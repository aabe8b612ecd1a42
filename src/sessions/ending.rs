//! Operations on sessions: lists, and their ends.

use super::{EndReason, Session, Sessions, begin::ended_entry, store};
use crate::{
    access::{Audience, Effect, Permission, Scope},
    error::{Error, Result},
    isolation::{TenantScope, TenantTx},
    members::only_members,
    platform::{
        ids::{MemberId, SessionId},
        page::{Page, PageRequest},
    },
};

const READ_OTHERS: Permission = Permission {
    field: "sessions.readOthers",
    name: "session.list",
    scope: Some(Scope::SessionRead),
    audience: Audience::Anyone,
    effect: Effect::Read,
};
const END_OTHERS: Permission = Permission {
    field: "sessions.endOthers",
    name: "session.end",
    scope: Some(Scope::SessionWrite),
    audience: Audience::Anyone,
    effect: Effect::Write,
};

/// What it takes to read, or to end, sessions of others: among operators it is the platform's own to give.
fn of_others(scope: &TenantScope, permission: Permission) -> Permission {
    match (scope.tenant().is_platform(), permission.effect) {
        (false, _) => permission,
        (true, Effect::Read) => {
            Permission { scope: Some(Scope::OperatorRead), audience: Audience::Platform, ..permission }
        }
        (true, Effect::Write) => {
            Permission { scope: Some(Scope::OperatorWrite), audience: Audience::Platform, ..permission }
        }
    }
}

impl Sessions {
    /// Sessions that run, the newest first: of one member, or of all. Members see their own; for others' it takes a scope.
    pub async fn list(
        &self,
        scope: &TenantScope,
        member: Option<MemberId>,
        page: &PageRequest,
    ) -> Result<Page<Session>> {
        let own = scope.caller().account().map(|account| account.member);
        let may_all = scope.caller().require(&of_others(scope, READ_OTHERS));
        let member = match (member, may_all) {
            (member, Ok(())) => member,
            (None, Err(error)) => Some(own.ok_or(error)?),
            (Some(member), Err(_)) if own == Some(member) => Some(member),
            (Some(_), Err(error)) => return Err(error),
        };
        let now = self.isolation.clock().now();
        let ground = self.members.ground(scope.tenant()).await?.ok_or_else(Error::not_found)?;
        let tx = self.isolation.begin(scope).await?;
        let page = store::list(&tx, scope.tenant(), (member, ground.access_epoch()), now, page).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(page)
    }

    /// Ends a session at once, on every replica. Members end their own; for others' it takes a scope. To end one twice changes nothing.
    pub async fn end(&self, scope: &TenantScope, id: SessionId) -> Result<Session> {
        let own = scope.caller().account().map(|account| account.member);
        let tx = self.isolation.begin(scope).await?;
        let session = store::lock(&tx, id).await?;
        if session.as_ref().is_none_or(|session| own != Some(session.member)) {
            scope.caller().require(&of_others(scope, END_OTHERS))?;
        }
        let session = session.ok_or_else(Error::not_found)?;
        let reason = if own == Some(session.member) { EndReason::SignedOut } else { EndReason::Ended };
        self.end_in(tx, &session, reason).await
    }

    /// Ends the caller's own session.
    pub async fn sign_out(&self, scope: &TenantScope) -> Result<Session> {
        let id = scope.caller().account().ok_or_else(only_members)?.session;
        let tx = self.isolation.begin(scope).await?;
        let session = store::lock(&tx, id).await?.ok_or_else(Error::not_found)?;
        self.end_in(tx, &session, EndReason::SignedOut).await
    }

    pub(super) async fn end_in(&self, tx: TenantTx, session: &Session, reason: EndReason) -> Result<Session> {
        if session.ended_at.is_some() {
            tx.commit_unrecorded("the session had ended, and that was recorded").await?;
            return Ok(session.clone());
        }
        let (tenant, ended) = (tx.tenant(), session.ended(reason, tx.stamp().at));
        let entry = ended_entry(&tx, session, reason).await?;
        self.members.announce(&tx).await?;
        tx.commit([entry]).await?;
        self.members.changed(tenant);
        Ok(ended)
    }
}
