//! Members: people who belong to a tenant, their roles, how they come in, and their passwords. Operators are members of the platform itself
//! (`ground.rs`): the same in all but their roles, and that they take no seats.
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
mod ground;
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
    ground::Ground,
    inviting::{Invited, NewMember},
    member::{Member, Source, Status, email_key as check_email},
    passwords::changing::only_members,
    role::{NewRole, OWNER, OwnRole, Roles, SHIPPED, Shipped, operator_role},
    role_store::OwnRoles,
    seats::Seats,
    store::MemberFilter,
};
use crate::{
    access::{Audience, Effect, Permission, Scope},
    config,
    error::{Error, Result},
    isolation::{Isolation, NetworkRules, TenantScope, TenantTx},
    platform::{
        db::{Heard, Tx},
        ids::{MemberId, TenantId},
        stripes::Stripes,
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
    /// Counts what changes of members, by tenant.
    changes: Arc<Stripes>,
    rules: Arc<config::Members>,
    operators: Arc<NetworkRules>,
}

impl Members {
    pub fn new(
        isolation: Isolation,
        tenancy: Tenancy,
        quotas: Quotas,
        (rules, operators): (config::Members, &config::Operators),
    ) -> Result<Self> {
        tenancy.snapshots().keep_of_tenants::<OwnRoles>();
        let passwords = Passwords::new(&rules)?;
        let operators = Arc::new(ground::network_of(operators));
        Ok(Self { isolation, tenancy, quotas, passwords, changes: Arc::default(), rules: Arc::new(rules), operators })
    }

    /// A member as it is in this transaction.
    pub async fn find_in(&self, tx: &Tx, tenant: TenantId, id: MemberId) -> Result<Option<Member>> {
        store::find(tx, tenant, id).await
    }

    /// The same, held until the transaction ends.
    pub async fn hold_in(&self, tx: &TenantTx, id: MemberId) -> Result<Option<Member>> {
        store::hold(tx, id).await
    }

    /// Who has this address, of whatever source.
    pub async fn find_by_email_in(&self, tx: &TenantTx, address: &str) -> Result<Option<Member>> {
        store::find_by_email(tx, tx.tenant(), &address.to_lowercase()).await
    }

    /// Whom a source calls so. Several sources may call different people the same.
    pub async fn find_by_external_id_in(&self, tx: &TenantTx, external_id: &str) -> Result<Vec<Member>> {
        store::find_by_external_id(tx, external_id).await
    }

    /// Refuses who may do less than all members together: what lets its maker sign in as any of them takes as much.
    pub async fn check_reach_of_all(&self, scope: &TenantScope) -> Result<()> {
        let tx = self.isolation.begin(scope).await?;
        let held = store::held_roles(&tx).await?;
        let own = role_store::share(&tx).await?;
        tx.commit_unrecorded("a read").await?;
        role::check_reach(scope.caller().scopes, own.roles().scopes_of(&held))
    }

    /// Refuses who may do less than the member.
    pub async fn check_reach(&self, scope: &TenantScope, id: MemberId) -> Result<()> {
        let tx = self.isolation.begin(scope).await?;
        let member = store::find(&tx, scope.tenant(), id).await?;
        let own = role_store::share(&tx).await?;
        tx.commit_unrecorded("a read").await?;
        let member = member.ok_or_else(Error::not_found)?;
        let change = if scope.tenant().is_platform() { &CHANGE_OPERATOR } else { &CHANGE };
        scope.caller().require(change)?;
        role::check_reach(scope.caller().scopes, own.roles().scopes_of(&member.roles))
    }

    /// Tells all replicas, when `tx` commits, that what members of the tenant may do, or their sessions, have changed. Whoever calls this
    /// calls [`changed`](Self::changed) after the commit.
    pub async fn announce(&self, tx: &TenantTx) -> Result<()> {
        store::announce(tx).await
    }

    /// What memory has of the tenant's members is old from now on, on this replica.
    pub fn changed(&self, tenant: TenantId) {
        *self.changes.lock(tenant) += 1;
    }

    /// How often members of the tenant have changed: what was read before a change is not used after it.
    pub fn changes(&self, tenant: TenantId) -> u64 {
        self.changes.count(tenant)
    }

    /// Follows the listener: a change that another replica has made counts here before this returns.
    pub fn hear(&self, heard: &Heard) {
        match heard {
            Heard::Connected | Heard::Lost => self.changes.count_all_up(),
            Heard::Notified(payload) => {
                if let Some(tenant) = payload.strip_prefix(store::CHANGED).and_then(|id| id.parse().ok()) {
                    self.changed(tenant);
                }
            }
        }
    }
}

/// What it takes to change a member, where no field of the schema says so.
const CHANGE: Permission = Permission {
    field: "members.change",
    name: "member.change",
    scope: Some(Scope::MemberWrite),
    audience: Audience::Anyone,
    effect: Effect::Write,
};
const CHANGE_OPERATOR: Permission =
    Permission { name: "operator.change", scope: Some(Scope::OperatorWrite), audience: Audience::Platform, ..CHANGE };
