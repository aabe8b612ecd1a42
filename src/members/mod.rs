//! Members: people who belong to a tenant, their roles, how they come in, and their passwords.
//!
//! *Owns*: `members`, `member_roles`, `member_links`, `member_passwords`, `member_seats`. *Rules*: nobody gives, changes or takes away
//! more scopes than it has itself (`role.rs`); the last active owner stays (`member.rs`); an invited or active member takes a seat of the
//! quota `max_users`, and there are never more members than seats (`seats.rs`); of links the hash is kept, of passwords argon2id's
//! (`passwords/`). What ends a member's sessions raises its access epoch and tells all replicas; `sessions` listens.
//!
//! *Emits*: MemberInvited, InvitationResent, InvitationRevoked, InvitationAccepted, MemberRolesSet, MemberDeactivated,
//! MemberReactivated, MemberCreated and MemberUpdated (by a source of identities), RoleSet, RoleDeleted, MemberPasswordChanged,
//! PasswordLinkMade, MemberPasswordReset.

mod changing;
mod directory;
pub mod graphql;
mod inviting;
mod jobs;
mod link;
mod member;
mod passwords;
mod role;
mod role_store;
mod roles;
mod seats;
mod store;

use std::sync::Arc;

use self::passwords::Passwords;
pub use self::{
    directory::{Applied, Change, Known},
    inviting::{Invited, NewMember},
    member::{Member, Source, Status},
    passwords::changing::only_members,
    role::{NewRole, OWNER, OwnRole, SHIPPED, Shipped, scopes_of},
    role_store::OwnRoles,
    seats::Seats,
    store::{CHANGED, MemberFilter},
};
use crate::{
    config,
    error::Result,
    isolation::{Isolation, TenantTx},
    platform::{
        db::Tx,
        ids::{MemberId, TenantId},
    },
    quotas::Quotas,
    tenancy::Tenancy,
};

/// The handle of this capability. Clones share it.
#[derive(Clone, Debug)]
pub struct Members {
    isolation: Isolation,
    tenancy: Tenancy,
    quotas: Quotas,
    passwords: Passwords,
    rules: Arc<config::Members>,
}

impl Members {
    pub fn new(isolation: Isolation, tenancy: Tenancy, quotas: Quotas, rules: config::Members) -> Result<Self> {
        tenancy.snapshots().keep_of_tenants::<OwnRoles>();
        let passwords = Passwords::new(&rules)?;
        Ok(Self { isolation, tenancy, quotas, passwords, rules: Arc::new(rules) })
    }

    /// A member as it is in this transaction.
    pub async fn find_in(&self, tx: &Tx, tenant: TenantId, id: MemberId) -> Result<Option<Member>> {
        store::find(tx, tenant, id).await
    }

    /// The same, held until the transaction ends.
    pub async fn lock_in(&self, tx: &TenantTx, id: MemberId) -> Result<Option<Member>> {
        Ok(store::lock(tx, &[id]).await?.members.pop())
    }
}
