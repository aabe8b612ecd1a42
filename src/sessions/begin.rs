//! The one place where sessions begin, whoever has proved the member, and how.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{
    Challenge, Factor, Policy, Proof, Session, Sessions, proof::is_multi_factor, refresh::Named, session::EndReason,
    store, totp,
};
use crate::{
    access::{Account, Audience, Binding, Caller, Effect, Permission, ScopeSet},
    error::{Error, Result},
    isolation::{Access, Standing, TenantScope, TenantTx},
    journal::Entry,
    members::{Ground, Member, Status},
    oauth::MemberGrant,
    platform::{
        ids::{SessionId, TenantId},
        secret::Secret,
    },
};

/// The proof is what it takes.
const BEGIN: Permission = Permission {
    field: "sessions.begin",
    name: "session.begin",
    scope: None,
    audience: Audience::Anyone,
    effect: Effect::Write,
};

/// What signing in has come to.
#[derive(Clone, Debug)]
pub enum Begun {
    SignedIn(Box<SignedIn>),
    /// There is no session yet: something more has to be shown.
    Challenged(Challenge),
}

/// A session, and the tokens for it.
#[derive(Clone, Debug)]
pub struct SignedIn {
    pub session: Session,
    pub access_token: Secret,
    pub access_expires_at: DateTime<Utc>,
    pub refresh_token: Secret,
}

impl Sessions {
    /// Begins a session for a member that was proved, if tenant, network, member and the tenant's rules let it. Where a second factor is
    /// missing, the answer says which, and no session begins.
    pub async fn begin(&self, proof: Proof) -> Result<Begun> {
        let now = self.isolation.clock().now();
        let ground = self.members.ground(proof.tenant).await?.ok_or_else(Error::unauthenticated)?;
        if let Some(kind) = ground.closed(now) {
            return Err(Error::new(kind, "nobody of the tenant may sign in now"));
        }
        ground.check_network(&proof.origin)?;
        let policy = self.policy_of(&ground)?;
        let id = SessionId::generate();
        let tx = self.isolation.begin(&scope_of(&proof, id, &ground)?).await?;
        // One after the other for one member: so its sessions are counted, and nothing that ends them comes in between.
        let member = self.members.hold_in(&tx, proof.member).await?.ok_or_else(Error::unauthenticated)?;
        if member.status != Status::Active || member.access_epoch != proof.member_epoch {
            return Err(Error::unauthenticated());
        }
        let scopes = ground.scopes_of(&member.roles)?;
        if let Some(factor) = missing_factor(&tx, &proof, &policy, scopes).await? {
            tx.commit_unrecorded("no session has begun").await?;
            return Ok(Begun::Challenged(self.challenges.issue(&proof, factor, now)));
        }
        let session = first(id, &proof, &ground, &policy, now);
        let mut entries = self.make_room(&tx, &member, &policy, now).await?;
        store::insert(&tx, &session).await?;
        entries.push(Entry::new("SessionBegan", "session", id).change(None, Some(&session))?);
        if entries.len() > 1 {
            self.members.announce(&tx).await?;
        }
        let others_ended = entries.len() > 1;
        tx.commit(entries).await?;
        if others_ended {
            self.members.changed(proof.tenant);
        }
        self.signed_in(proof.tenant, &member, scopes, session).map(Into::into)
    }

    /// Ends the oldest sessions of a member who has as many as it may have.
    async fn make_room(
        &self,
        tx: &TenantTx,
        member: &Member,
        policy: &Policy,
        now: DateTime<Utc>,
    ) -> Result<Vec<Entry>> {
        let running = store::running(tx, member, now).await?;
        let most = usize::try_from(policy.most_sessions).unwrap_or(1);
        let over = (running.len() + 1).saturating_sub(most);
        let mut entries = Vec::new();
        for session in running.into_iter().take(over) {
            entries.push(ended_entry(tx, &session, EndReason::Replaced).await?);
        }
        Ok(entries)
    }

    pub(super) fn signed_in(
        &self,
        tenant: TenantId,
        member: &Member,
        scopes: ScopeSet,
        session: Session,
    ) -> Result<SignedIn> {
        let grant = MemberGrant {
            tenant: (!tenant.is_platform()).then_some((tenant, session.tenant_epoch)),
            member: member.id,
            session: session.id,
            roles: member.roles.clone(),
            scopes,
            amr: session.amr.iter().map(|amr| amr.name().to_owned()).collect(),
            ends_at: session.idle_at.min(session.expires_at),
        };
        let (access_token, access_expires_at) = self.oauth.issue_to_member(grant)?;
        let named = Named { tenant, session: session.id, generation: session.generation };
        let refresh_token = self.refresh.issue(named);
        Ok(SignedIn { session, access_token: Secret::new(access_token), access_expires_at, refresh_token })
    }
}

/// Marks a session as over; the entry for the journal.
pub(super) async fn ended_entry(tx: &TenantTx, session: &Session, reason: EndReason) -> Result<Entry> {
    let ended = session.ended(reason, tx.stamp().at);
    store::end(tx, &ended).await?;
    Entry::new("SessionEnded", "session", session.id).change(Some(session), Some(&ended))
}

/// What is still to be shown. Whoever has set a second factor up is asked for it, unless the tenant asks nobody.
async fn missing_factor(tx: &TenantTx, proof: &Proof, policy: &Policy, scopes: ScopeSet) -> Result<Option<Factor>> {
    use super::MultiFactor::Off;
    if policy.multi_factor == Off || is_multi_factor(&proof.amr) {
        return Ok(None);
    }
    if totp::is_set_up(tx, proof.member).await? {
        return Ok(Some(Factor::Totp));
    }
    Ok(policy.multi_factor.is_required(scopes).then_some(Factor::TotpEnrollment))
}

fn first(id: SessionId, proof: &Proof, ground: &Ground, policy: &Policy, now: DateTime<Utc>) -> Session {
    let expires_at = now + policy.length();
    Session {
        id,
        member: proof.member,
        method: proof.method,
        amr: proof.amr.clone(),
        tenant_epoch: ground.access_epoch(),
        member_epoch: proof.member_epoch,
        generation: 0,
        address: proof.origin.address.map(|address| address.to_string()),
        began_at: now,
        refreshed_at: now,
        idle_at: (now + policy.idle()).min(expires_at),
        expires_at,
        ended_at: None,
        end_reason: None,
    }
}

/// The member's own name in its tenant. That people may come in was looked at; a tenant that is being suspended lets them write this.
fn scope_of(proof: &Proof, session: SessionId, ground: &Ground) -> Result<TenantScope> {
    let (subject, account) = (proof.member.to_string(), Account { member: proof.member, session });
    let caller =
        |binding| Arc::new(Caller { subject, binding, scopes: ScopeSet::default(), origin: proof.origin.clone() });
    match ground {
        Ground::Tenant(known) => {
            let standing = Standing { access: Access::Open, ..known.tenant.standing() };
            let binding = Binding::Member { id: proof.tenant, account, epoch: standing.epoch };
            TenantScope::enter(&caller(binding), proof.tenant, &standing, &BEGIN)
        }
        Ground::Platform(_) => {
            let binding = Binding::Platform { roles: Vec::new(), account: Some(account) };
            TenantScope::enter_as_operator(&caller(binding), proof.tenant, &BEGIN)
        }
    }
}
