//! Sessions of members: signing in, refresh tokens, second factors, and what ends a session.
//!
//! *Owns*: `session_policies`, `member_sessions`, `sign_in_attempts`, `sign_in_addresses`, `member_totp`, `member_recovery_codes`.
//! *Rules*: every way of signing in ends in [`Sessions::begin`], with a [`Proof`] of who it is and how that was found out; a session is
//! good while tenant and member stand as they did when it began (`live.rs`, from memory), and what its member may do is what its roles
//! allow at that moment; a refresh token works once (`refresh.rs`); attempts are slowed down, and nobody is locked out by others
//! (`throttle/`); a directory signs in its own members alone, a certificate whoever it names (`by_directory.rs`, `by_certificate.rs`).
//!
//! *Emits*: SessionBegan, SessionEnded, SessionPolicySet, TotpEnrolled, TotpConfirmed, TotpDisabled, RecoveryCodeUsed,
//! RecoveryCodesRenewed; `tenantry_certificate_sign_ins_total{outcome}`.

mod begin;
mod by_certificate;
mod by_directory;
mod challenge;
mod ending;
pub mod graphql;
mod jobs;
mod live;
mod password;
mod policy;
mod proof;
mod refresh;
mod session;
mod store;
mod throttle;
mod totp;

use std::sync::Arc;

use futures::FutureExt as _;

pub use self::{
    begin::{Begun, SignedIn},
    challenge::{Challenge, Factor},
    live::OperatorSessions,
    policy::{MultiFactor, NewPolicy, Policy},
    proof::{Amr, Method, Proof},
    session::{EndReason, Session},
    totp::{Confirmed, Enrollment},
};
use self::{challenge::Challenges, live::Live, policy::OwnPolicy, refresh::RefreshTokens, totp::Vault};
use crate::{
    access::{Audience, Caller, Effect, Kept, Origin, Permission},
    config,
    directory::Directory,
    error::Result,
    isolation::{Isolation, TenantScope},
    keys::MasterKey,
    members::Members,
    oauth::OAuth,
    pki::Pki,
    platform::ids::TenantId,
    tenancy::Tenancy,
    tenant_keys::TenantKeys,
};

/// The handle of this capability. Clones share it.
#[derive(Clone)]
pub struct Sessions {
    isolation: Isolation,
    tenancy: Tenancy,
    members: Members,
    oauth: OAuth,
    vault: Vault,
    directory: Directory,
    pki: Pki,
    live: Arc<Live>,
    refresh: Arc<RefreshTokens>,
    challenges: Arc<Challenges>,
    rules: Arc<config::Sessions>,
    operators: Arc<config::Operators>,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// What sessions stand on.
#[derive(Debug)]
pub struct Parts {
    pub isolation: Isolation,
    pub tenancy: Tenancy,
    pub members: Members,
    pub oauth: OAuth,
    pub keys: TenantKeys,
    pub directory: Directory,
    pub pki: Pki,
}

/// What is done for who is about to sign in: a password, a code or a token is the proof that it may.
const SIGN_IN: Permission = Permission {
    field: "sessions.signIn",
    name: "session.signIn",
    scope: None,
    audience: Audience::Public,
    effect: Effect::Write,
};

impl Sessions {
    pub fn new(parts: Parts, master: &MasterKey, rules: config::Sessions, operators: config::Operators) -> Self {
        let Parts { isolation, tenancy, members, oauth, keys, directory, pki } = parts;
        tenancy.snapshots().keep_of_tenants::<OwnPolicy>();
        let resealing = isolation.clone();
        keys.reseal_with(Arc::new(move |keys, scope, version| {
            let isolation = resealing.clone();
            async move { totp::reseal(&isolation, keys, scope, version).await }.boxed()
        }));
        let live = Arc::new(Live::new(isolation.clone(), members.clone()));
        let asked = live.clone();
        oauth.ask_with(
            Kept::Session,
            Arc::new(move |claims| {
                let asked = asked.clone();
                async move { asked.scopes_of(claims).await }.boxed()
            }),
        );
        Self {
            isolation,
            tenancy,
            members,
            oauth,
            vault: Vault::new(keys, master.clone()),
            directory,
            pki,
            live,
            refresh: Arc::new(RefreshTokens::new(master.derive("refresh tokens"))),
            challenges: Arc::new(Challenges::new(master.derive("sign-in challenges"))),
            rules: Arc::new(rules),
            operators: Arc::new(operators),
        }
    }

    /// Tenantry's own work for somebody who signs in from there.
    fn signing_in(tenant: TenantId, origin: &Origin) -> Result<TenantScope> {
        let caller = Caller { origin: origin.clone(), ..Caller::system("sign-in") };
        TenantScope::enter_as_operator(&Arc::new(caller), tenant, &SIGN_IN)
    }
}
