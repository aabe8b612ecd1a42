//! Operations on passwords: changing one's own, and links to set a new one.

use super::{Stored, Verdict};
use crate::{
    access::Caller,
    error::{Error, Result},
    isolation::{Conditions, TenantScope, TenantTx},
    journal::Entry,
    members::{
        Invited, Member, Members, Status,
        inviting::worthless,
        role, role_store,
        store::{self, Purpose},
    },
    platform::{ids::MemberId, secret::Secret},
};

impl Members {
    /// Sets the caller's own password, who knows the one before. Its sessions end, but for what the caller begins next.
    pub async fn change_password(&self, scope: &TenantScope, before: Secret, after: Secret) -> Result<Member> {
        let id = scope.caller().account().ok_or_else(only_members)?.member;
        if !self.knows_password(scope, id, before).await? {
            return Err(Error::invalid("currentPassword", "is not the member's password"));
        }
        let stored = self.passwords.make("newPassword", after).await?;
        let tx = self.isolation.begin(scope).await?;
        let member = self.write_password(&tx, id, &stored).await?;
        tx.commit([Entry::new("MemberPasswordChanged", "member", id)]).await?;
        self.changed(scope.tenant());
        Ok(member)
    }

    /// Whether this is the member's password. Takes the same time where it has none.
    pub async fn knows_password(&self, scope: &TenantScope, id: MemberId, password: Secret) -> Result<bool> {
        let tx = self.isolation.begin(scope).await?;
        let stored = self.passwords.find(&tx, scope.tenant(), id).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(self.passwords.verify(password, stored).await? != Verdict::Wrong)
    }

    /// The member who has this address and this password. Takes the same time whatever is wrong. A password that is kept at an
    /// old cost is kept at today's from then on.
    pub async fn prove_password(
        &self,
        scope: &TenantScope,
        email_key: &str,
        password: Secret,
    ) -> Result<Option<Member>> {
        let tx = self.isolation.begin(scope).await?;
        let member = store::find_by_email(&tx, scope.tenant(), email_key).await?;
        let stored = match &member {
            Some(member) => self.passwords.find(&tx, scope.tenant(), member.id).await?,
            // The same statement, so that it takes the same time.
            None => self.passwords.find(&tx, scope.tenant(), MemberId::generate()).await?,
        };
        tx.commit_unrecorded("a read").await?;
        let verdict = self.passwords.verify(password.clone(), stored.clone()).await?;
        let Some(member) = member.filter(|_| verdict != Verdict::Wrong) else { return Ok(None) };
        if verdict == Verdict::RightAndOld {
            self.keep_at_todays_cost(scope, member.id, password, stored).await?;
        }
        Ok(Some(member))
    }

    async fn keep_at_todays_cost(
        &self,
        scope: &TenantScope,
        id: MemberId,
        password: Secret,
        before: Option<Stored>,
    ) -> Result<()> {
        // It was good when it was set: today's rules are for new ones.
        let anew = self.passwords.rehash(password).await?;
        let tx = self.isolation.begin(scope).await?;
        store::lock_one(&tx, id).await?;
        if self.passwords.find(&tx, scope.tenant(), id).await? == before {
            self.passwords.put(&tx, id, &anew).await?;
        }
        tx.commit_unrecorded("the same password at another cost").await
    }

    /// A link by which the member sets a new password: for who has forgotten the old one.
    pub async fn make_password_link(
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
        let own = role_store::share(&tx).await?;
        let (member, _) = store::lock_one(&tx, id).await?;
        // Whoever sets the password can be the member.
        role::check_reach(scope.caller().scopes, own.roles().scopes_of(&member.roles))?;
        if member.status != Status::Active {
            return Err(Error::conflict("only an active member has a password").at("id"));
        }
        let link = self.put_link(&tx, id, Purpose::Password).await?;
        tx.keep_answer(conditions, &member).await?;
        tx.commit([Entry::new("PasswordLinkMade", "member", id)]).await?;
        Ok(Invited { member, link: Some(link) })
    }

    /// Follows such a link. All sessions of the member end.
    pub async fn reset_password(&self, caller: &Caller, link: &Secret, password: Secret) -> Result<Member> {
        let (scope, hash) = self.follow(caller, link).await?;
        let stored = self.passwords.make("password", password).await?;
        let tx = self.isolation.begin(&scope).await?;
        let id = store::take_link(&tx, Purpose::Password, hash).await?.ok_or_else(worthless)?;
        let member = self.write_password(&tx, id, &stored).await?;
        if member.status != Status::Active {
            return Err(worthless());
        }
        tx.commit([Entry::new("MemberPasswordReset", "member", id)]).await?;
        self.changed(scope.tenant());
        Ok(member)
    }

    /// The password, and with it an end of all sessions and links.
    async fn write_password(&self, tx: &TenantTx, id: MemberId, stored: &Stored) -> Result<Member> {
        let (before, _) = store::lock_one(tx, id).await?;
        let now = tx.stamp().at;
        let (access_epoch, version) = (before.access_epoch + 1, before.version + 1);
        let member = Member { access_epoch, version, updated_at: now, ..before };
        store::update(tx, std::slice::from_ref(&member)).await?;
        self.passwords.put(tx, id, stored).await?;
        store::drop_links(tx, id).await?;
        store::announce(tx).await?;
        Ok(member)
    }
}

/// What is about the caller's own account asks for one.
pub fn only_members() -> Error {
    Error::forbidden("this is for members, in a session of their own")
}
