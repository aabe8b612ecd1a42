//! Operations on members: reading, roles, deactivation.

use super::{
    Members,
    member::{Member, check_owners},
    role, role_store, seats,
    store::{self, MemberFilter},
};
use crate::{
    error::{Error, Result},
    isolation::{Conditions, TenantScope, TenantTx},
    journal::Entry,
    platform::{
        ids::MemberId,
        page::{Page, PageRequest},
    },
};

impl Members {
    pub async fn list(&self, scope: &TenantScope, filter: &MemberFilter, page: &PageRequest) -> Result<Page<Member>> {
        let tx = self.isolation.begin(scope).await?;
        let page = store::list(&tx, scope.tenant(), filter, page).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(page)
    }

    pub async fn get(&self, scope: &TenantScope, id: MemberId) -> Result<Member> {
        let tx = self.isolation.begin(scope).await?;
        let member = store::find(&tx, scope.tenant(), id).await?;
        tx.commit_unrecorded("a read").await?;
        member.ok_or_else(Error::not_found)
    }

    /// Gives a member these roles in place of those that it has. What it may do changes with the answer, in sessions that run as well.
    pub async fn set_roles(
        &self,
        scope: &TenantScope,
        id: MemberId,
        roles: &[String],
        conditions: &Conditions,
    ) -> Result<Member> {
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(answered);
        }
        let own = role_store::share(&tx).await?;
        let roles = own.roles().check("roles", roles)?;
        let (before, owners) = store::lock_one(&tx, id).await?;
        conditions.check_version(before.version)?;
        let touched = own.roles().scopes_of(&before.roles).union(own.roles().scopes_of(&roles));
        role::check_reach(scope.caller().scopes, touched)?;
        let now = tx.stamp().at;
        let member = Member { roles, version: before.version + 1, updated_at: now, ..before.clone() };
        check_owners(&before, Some(&member), &owners)?;
        store::update(&tx, std::slice::from_ref(&member)).await?;
        store::announce(&tx).await?;
        tx.keep_answer(conditions, &member).await?;
        tx.commit([Entry::new("MemberRolesSet", "member", id).change(Some(&before), Some(&member))?]).await?;
        self.changed(scope.tenant());
        Ok(member)
    }

    /// Ends a member's access at once, on every replica, and frees its seat.
    pub async fn deactivate(&self, scope: &TenantScope, id: MemberId, conditions: &Conditions) -> Result<Member> {
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(answered);
        }
        let (before, owners) = self.lock_within_reach(&tx, scope, id, conditions).await?;
        let member = before.deactivated(tx.stamp().at)?;
        check_owners(&before, Some(&member), &owners)?;
        store::update(&tx, std::slice::from_ref(&member)).await?;
        store::drop_links(&tx, id).await?;
        seats::note_given_back(&tx, 1).await?;
        store::announce(&tx).await?;
        tx.keep_answer(conditions, &member).await?;
        tx.commit([Entry::new("MemberDeactivated", "member", id).change(Some(&before), Some(&member))?]).await?;
        self.changed(scope.tenant());
        self.settle_seats(scope.tenant()).await;
        Ok(member)
    }

    /// Lets a member in again, with the roles and the password that it had.
    pub async fn reactivate(&self, scope: &TenantScope, id: MemberId, conditions: &Conditions) -> Result<Member> {
        let held = self.take_seats(scope, 1).await?;
        let written = self.write_reactivated(scope, id, &held, conditions).await;
        match &written {
            Ok((_, Written::Now)) => self.settle_seats(scope.tenant()).await,
            _ => self.give_up_seats(scope, held).await,
        }
        written.map(|(member, _)| member)
    }

    async fn write_reactivated(
        &self,
        scope: &TenantScope,
        id: MemberId,
        held: &seats::Seats,
        conditions: &Conditions,
    ) -> Result<(Member, Written)> {
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok((answered, Written::Before));
        }
        let (before, _) = self.lock_within_reach(&tx, scope, id, conditions).await?;
        let member = before.reactivated(tx.stamp().at)?;
        store::update(&tx, std::slice::from_ref(&member)).await?;
        seats::note_taken(&tx, held, 1).await?;
        tx.keep_answer(conditions, &member).await?;
        tx.commit([Entry::new("MemberReactivated", "member", id).change(Some(&before), Some(&member))?]).await?;
        Ok((member, Written::Now))
    }

    /// A member whose scopes the caller has as well, and every active owner.
    async fn lock_within_reach(
        &self,
        tx: &TenantTx,
        scope: &TenantScope,
        id: MemberId,
        conditions: &Conditions,
    ) -> Result<(Member, Vec<Member>)> {
        let own = role_store::share(tx).await?;
        let (member, owners) = store::lock_one(tx, id).await?;
        conditions.check_version(member.version)?;
        role::check_reach(scope.caller().scopes, own.roles().scopes_of(&member.roles))?;
        Ok((member, owners))
    }
}

/// Whether a request wrote what it answers, or an earlier one with its idempotency key.
#[derive(Clone, Copy, Debug)]
enum Written {
    Now,
    Before,
}
