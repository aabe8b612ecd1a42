//! Coming in: invitations, and what becomes of them.

use chrono::TimeDelta;

use super::{
    Members,
    link::LinkToken,
    member::{self, Member, Source, Status, check_owners},
    role, role_store, seats,
    seats::Seats,
    store::{self, Purpose},
};
use crate::{
    access::{Audience, Caller, Effect, Permission},
    error::{Error, Result},
    isolation::{Conditions, TenantScope, TenantTx},
    journal::Entry,
    platform::{ids::MemberId, secret::Secret},
};

/// Who is invited.
#[derive(Clone, Debug)]
pub struct NewMember {
    pub email: String,
    pub name: String,
    pub roles: Vec<String>,
}

/// A member, and the secret of its link: shown this once. `None` where an idempotency key was used before.
#[derive(Clone, Debug)]
pub struct Invited {
    pub member: Member,
    pub link: Option<Secret>,
}

/// Whoever has the link may follow it, whatever else: the link is the proof.
pub(super) const FOLLOW: Permission = Permission {
    field: "members.follow",
    name: "link.follow",
    scope: None,
    audience: Audience::Public,
    effect: Effect::Write,
};

impl Members {
    /// Invites a person. It takes a seat until the invitation is revoked, or the member deactivated.
    pub async fn invite(&self, scope: &TenantScope, new: NewMember, conditions: &Conditions) -> Result<Invited> {
        let (email, _) = member::email("email", &new.email)?;
        let name = member::name("name", &new.name)?;
        self.check_ground(scope).await?;
        let new = NewMember { email, name, roles: new.roles };
        let seats = self.take_seats(scope, 1).await?;
        let written = self.write_invited(scope, new, &seats, conditions).await;
        match &written {
            Ok(Invited { link: Some(_), .. }) => self.settle_seats(scope.tenant()).await,
            _ => self.give_up_seats(scope, seats).await,
        }
        written
    }

    async fn write_invited(
        &self,
        scope: &TenantScope,
        new: NewMember,
        seats: &Seats,
        conditions: &Conditions,
    ) -> Result<Invited> {
        let tx = self.isolation.begin(scope).await?;
        if let Some(member) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(Invited { member, link: None });
        }
        let own = role_store::share(&tx).await?;
        let roles = own.roles().check("roles", &new.roles)?;
        role::check_reach(scope.caller().scopes, own.roles().scopes_of(&roles))?;
        let now = tx.stamp().at;
        let member = Member {
            id: MemberId::generate(),
            email: new.email,
            name: new.name,
            status: Status::Invited,
            source: Source::Local,
            external_id: None,
            roles,
            access_epoch: 1,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        store::insert(&tx, std::slice::from_ref(&member)).await?;
        seats::note_taken(&tx, seats, 1).await?;
        let link = self.put_link(&tx, member.id, Purpose::Invitation).await?;
        tx.keep_answer(conditions, &member).await?;
        tx.commit([Entry::new("MemberInvited", "member", member.id).change(None, Some(&member))?]).await?;
        Ok(Invited { member, link: Some(link) })
    }

    pub(super) async fn put_link(&self, tx: &TenantTx, member: MemberId, purpose: Purpose) -> Result<Secret> {
        let link = LinkToken::generate(tx.tenant());
        let lasts = match purpose {
            Purpose::Invitation => self.rules.invitation_ttl,
            Purpose::Password => self.rules.password_link_ttl,
        };
        let expires_at = tx.stamp().at + TimeDelta::from_std(lasts).unwrap_or(TimeDelta::MAX);
        store::put_link(tx, member, purpose, link.hash, expires_at).await?;
        Ok(link.text)
    }

    /// A new link in place of the one before, which is worth nothing from then on.
    pub async fn resend_invitation(
        &self,
        scope: &TenantScope,
        id: MemberId,
        conditions: &Conditions,
    ) -> Result<Invited> {
        let tx = self.isolation.begin(scope).await?;
        if let Some(member) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(Invited { member, link: None });
        }
        let member = self.lock_invited(&tx, scope.caller(), id).await?;
        let link = self.put_link(&tx, id, Purpose::Invitation).await?;
        tx.keep_answer(conditions, &member).await?;
        tx.commit([Entry::new("InvitationResent", "member", id)]).await?;
        Ok(Invited { member, link: Some(link) })
    }

    /// Takes an invitation back: the member is gone, its seat is free, its link worth nothing.
    pub async fn revoke_invitation(
        &self,
        scope: &TenantScope,
        id: MemberId,
        conditions: &Conditions,
    ) -> Result<MemberId> {
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(answered);
        }
        let member = self.lock_invited(&tx, scope.caller(), id).await?;
        store::delete(&tx, id).await?;
        seats::note_given_back(&tx, 1).await?;
        tx.keep_answer(conditions, &id).await?;
        tx.commit([Entry::new("InvitationRevoked", "member", id).change(Some(&member), None)?]).await?;
        self.settle_seats(scope.tenant()).await;
        Ok(id)
    }

    async fn lock_invited(&self, tx: &TenantTx, caller: &Caller, id: MemberId) -> Result<Member> {
        let (member, _) = store::lock_one(tx, id).await?;
        if member.status != Status::Invited {
            return Err(Error::conflict("this member has accepted its invitation").at("id"));
        }
        let own = role_store::share(tx).await?;
        role::check_reach(caller.scopes, own.roles().scopes_of(&member.roles))?;
        Ok(member)
    }

    /// Follows an invitation: the member is active from then on, with this password. `name`: what it wants to be called.
    pub async fn accept_invitation(
        &self,
        caller: &Caller,
        link: &Secret,
        name: Option<&str>,
        password: Secret,
    ) -> Result<Member> {
        let name = name.map(|name| member::name("name", name)).transpose()?;
        let (scope, hash) = self.follow(caller, link).await?;
        let stored = self.passwords.make("password", password).await?;
        let tx = self.isolation.begin(&scope).await?;
        let id = store::take_link(&tx, Purpose::Invitation, hash).await?.ok_or_else(worthless)?;
        let (before, owners) = store::lock_one(&tx, id).await?;
        if before.status != Status::Invited {
            return Err(worthless());
        }
        let mut member = before.with_status(Status::Active, tx.stamp().at);
        member.name = name.unwrap_or(member.name);
        check_owners(&before, Some(&member), &owners)?;
        store::update(&tx, std::slice::from_ref(&member)).await?;
        self.passwords.put(&tx, id, &stored).await?;
        tx.commit([Entry::new("InvitationAccepted", "member", id).change(Some(&before), Some(&member))?]).await?;
        Ok(member)
    }

    /// The way into the tenant that a link names, for whoever has the link. What the link is worth is found out there.
    pub(super) async fn follow(&self, caller: &Caller, link: &Secret) -> Result<(TenantScope, [u8; 32])> {
        let (tenant, hash) = LinkToken::read(link.expose()).ok_or_else(worthless)?;
        let ground = self.ground(tenant).await?.ok_or_else(worthless)?;
        if ground.closed(self.isolation.clock().now()).is_some() {
            return Err(worthless());
        }
        let caller = Caller { origin: caller.origin.clone(), ..Caller::system("link") };
        Ok((TenantScope::enter_as_operator(&std::sync::Arc::new(caller), tenant, &FOLLOW)?, hash))
    }
}

/// The one answer for every link that is unknown, used, over, revoked, or of a tenant where nobody comes in.
pub(super) fn worthless() -> Error {
    Error::new(crate::error::Kind::NotFound, "this link was used, is over, or never was").at("token")
}
